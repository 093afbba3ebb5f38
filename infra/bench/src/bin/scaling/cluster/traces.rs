//! What the tasks of a cluster do over time.

use super::world::{HOUR, MINUTE, Service, World};

/// A trace: services, and what changes.
#[derive(Clone, Copy)]
pub(super) struct Trace {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) hours: i64,
    /// Instances at the start.
    pub(super) instances: u32,
    pub(super) services: fn() -> Vec<Service>,
    /// Called each minute.
    pub(super) change: fn(&mut World),
}

/// All traces.
pub(super) const TRACES: [Trace; 7] = [
    Trace {
        name: "step",
        about: "30 tasks; 135 in hours 1 to 3",
        hours: 5,
        instances: 7,
        services: || vec![Service::new("small", 512, 1024, 20), Service::new("large", 1024, 4096, 10)],
        change: |world| {
            let is_high = (HOUR..3 * HOUR).contains(&world.now);
            world.wants(0, if is_high { 100 } else { 20 });
            world.wants(1, if is_high { 35 } else { 10 });
        },
    },
    Trace {
        name: "hot",
        about: "tasks use 60 % of what they reserve, and 160 % in hours 1 to 3",
        hours: 4,
        instances: 10,
        services: || vec![Service::new("small", 512, 1024, 40), Service::new("large", 1024, 4096, 15)],
        change: |world| world.used = if (HOUR..3 * HOUR).contains(&world.now) { 1.6 } else { 0.6 },
    },
    Trace {
        name: "day",
        about: "20 to 100 small and 8 to 32 large tasks over a day",
        hours: 24,
        instances: 7,
        services: || vec![Service::new("small", 512, 1024, 20), Service::new("large", 1024, 4096, 8)],
        change: |world| {
            let wave = (1.0 - (world.hours() * std::f64::consts::TAU / 24.0).cos()) / 2.0;
            world.wants_about(0, 20.0 + 80.0 * wave);
            world.wants_about(1, 8.0 + 24.0 * wave);
        },
    },
    Trace {
        name: "deploys",
        about: "12 services, one of which is rolled out every 7 minutes with as many new tasks as old ones",
        hours: 6,
        instances: 8,
        services: || (0..12).map(|number| Service::new(&format!("s{number}"), 512, 2048, 4 + number % 3)).collect(),
        change: |world| {
            if world.now % (7 * MINUTE) == 0 {
                let service = usize::try_from(world.now / (7 * MINUTE) % 12).unwrap_or_default();
                world.roll_out(service);
            }
        },
    },
    Trace {
        name: "spot",
        about: "a third of the instances is warned and gone after two minutes, at hours 1, 1.5 and 2",
        hours: 4,
        instances: 14,
        services: || vec![Service::new("small", 512, 1024, 50), Service::new("large", 1024, 4096, 18)],
        change: |world| {
            if [HOUR, HOUR + 30 * MINUTE, 2 * HOUR].contains(&world.now) {
                world.interrupt_a_third();
            }
        },
    },
    Trace {
        name: "crash",
        about: "one service's tasks die after 20 s, another's fit no instance's attributes, from hour 1 on",
        hours: 6,
        instances: 7,
        services: || {
            vec![
                Service::new("small", 512, 1024, 20),
                Service::new("large", 1024, 4096, 8),
                Service { dies_after: Some(20), ..Service::new("looping", 1024, 2048, 0) },
                Service { fits_nowhere: true, ..Service::new("picky", 512, 1024, 0) },
            ]
        },
        change: |world| {
            if world.now >= HOUR {
                world.wants(2, 12);
                world.wants(3, 6);
            }
        },
    },
    Trace {
        name: "batch",
        about: "12 tasks of three quarters of an instance for 20 minutes in each hour",
        hours: 6,
        instances: 7,
        services: || {
            vec![
                Service::new("small", 512, 1024, 20),
                Service::new("large", 1024, 4096, 8),
                Service { is_spread: false, ..Service::new("batch", 3072, 12_288, 0) },
            ]
        },
        change: |world| {
            let minute = world.now % HOUR / MINUTE;
            world.wants(2, if (20..40).contains(&minute) { 12 } else { 0 });
        },
    },
];
