//! What fits where, and what holds for all sizes.

use super::*;
use proptest::prelude::*;

fn size(cpu: i64, memory: i64) -> Resources {
    Resources { cpu, memory, ..Resources::default() }
}

fn with_ports(ports: &[u16]) -> Resources {
    Resources { ports: ports.iter().copied().collect(), ..size(512, 1024) }
}

fn lot(needs: &Resources, tasks: u32) -> Lot<'_> {
    Lot { needs, tasks, is_fresh_only: false }
}

#[test]
fn a_task_fits_where_all_of_it_fits() {
    let whole = Resources { gpus: 2, ..size(4096, 16_000) };
    let cases = [
        ("CPU is scarce", size(1024, 1024), 4),
        ("memory is scarce", size(256, 5000), 3),
        ("too much memory", size(256, 16_001), 0),
        ("no needs at all", size(0, 0), u32::MAX),
        ("negative needs are none", size(-5, 8000), 2),
        ("a GPU", Resources { gpus: 1, ..size(256, 256) }, 2),
        ("too many GPUs", Resources { gpus: 3, ..size(256, 256) }, 0),
        ("a static port", with_ports(&[8080]), 1),
    ];
    for (what, needs, tasks) in cases {
        assert_eq!(whole.holds(&needs), tasks, "{what}");
    }
    let taken = Resources { ports: [8080].into(), ..whole };
    assert_eq!(taken.holds(&with_ports(&[8080, 9090])), 0, "the port is taken");
    assert_eq!(taken.holds(&with_ports(&[9090])), 1);
    assert_eq!(size(-100, 16_000).holds(&size(1, 1)), 0, "less than nothing is free");
}

#[test]
fn tasks_are_placed_where_there_is_room_and_instances_are_opened_for_the_rest() {
    let shape = size(4096, 15_872);
    let (small, large, port) = (size(512, 1024), size(1024, 4096), with_ports(&[80]));
    let cases: [(&str, Vec<Lot<'_>>, u32, u32); 9] = [
        ("nothing", vec![], 0, 0),
        ("what fits into free room", vec![lot(&small, 4)], 0, 0),
        ("one more than fits", vec![lot(&small, 5)], 0, 1),
        ("a booting instance takes them", vec![lot(&small, 12)], 1, 0),
        ("one more than that", vec![lot(&small, 13)], 1, 1),
        ("two sizes", vec![lot(&small, 8), lot(&large, 6)], 0, 2),
        ("each port wants an instance", vec![lot(&port, 4)], 0, 3),
        ("ECS has tried the free room", vec![Lot { is_fresh_only: true, ..lot(&small, 4) }], 0, 1),
        ("a hundred million", vec![lot(&small, 100_000_004)], 0, 12_500_000),
    ];
    for (what, lots, booting, opened) in cases {
        let mut room = Room::default();
        room.add(&size(2048, 8000));
        room.add_fresh(&shape, booting);
        assert_eq!(room.pack(&lots, std::slice::from_ref(&shape)), opened, "{what}");
    }
}

#[test]
fn a_task_too_large_for_the_smallest_instance_waits_for_one_of_a_larger_kind() {
    let kinds = [size(2048, 8000), size(8192, 32_000)];
    let (large, huge) = (size(4096, 8000), size(9000, 1000));
    let pack = |lots: &[Lot<'_>], booting| {
        let mut room = Room::default();
        room.add_fresh(&kinds[0], booting);
        room.pack(lots, &kinds)
    };
    assert_eq!(pack(&[lot(&large, 3)], 0), 2);
    assert_eq!(pack(&[lot(&large, 3)], 1), 1, "what boots may be of the larger kind");
    assert_eq!(pack(&[lot(&large, 3)], 2), 0);
    assert_eq!(pack(&[lot(&huge, 3)], 0), 0, "no instance is large enough");
    assert_eq!(Room::default().pack(&[lot(&large, 3)], &[]), 0, "nothing is known of the instances");
}

fn sizes() -> impl Strategy<Value = Resources> {
    (0..6000_i64, 0..20_000_i64, 0..2_i64, proptest::collection::btree_set(80..83_u16, 0..2))
        .prop_map(|(cpu, memory, gpus, ports)| Resources { cpu, memory, gpus, ports })
}

proptest! {
    #[test]
    fn placing_takes_exactly_what_was_placed(
        free in proptest::collection::vec((sizes(), 1..20_u32, any::<bool>()), 0..8),
        needs in sizes(),
        tasks in 0..200_u32,
        is_fresh_only: bool,
    ) {
        let bins: Vec<Bin> = free.into_iter().map(|(free, count, is_fresh)| Bin { free, count, is_fresh }).collect();
        let mut room = Room { bins: bins.clone() };
        let before = room.free();
        let left = room.place(&Lot { needs: &needs, tasks, is_fresh_only });
        let placed = i64::from(tasks - left);
        let after = room.free();
        prop_assert_eq!(before.cpu - after.cpu, placed * needs.cpu);
        prop_assert_eq!(before.memory - after.memory, placed * needs.memory);
        let count = |bins: &[Bin]| bins.iter().map(|bin| bin.count).sum::<u32>();
        prop_assert_eq!(count(&room.bins), count(&bins), "no instance is lost");
        let could = room.bins.iter().any(|bin| (bin.is_fresh || !is_fresh_only) && bin.free.holds(&needs) > 0);
        prop_assert!(left == 0 || !could, "what fits is placed");
    }

    #[test]
    fn never_fewer_instances_than_the_tasks_need_in_all(
        lots in proptest::collection::vec((1..4096_i64, 1..15_872_i64, 0..60_u32), 0..6),
    ) {
        let shape = size(4096, 15_872);
        let needs: Vec<_> = lots.iter().map(|(cpu, memory, tasks)| (size(*cpu, *memory), *tasks)).collect();
        let lots: Vec<_> = needs.iter().map(|(needs, tasks)| lot(needs, *tasks)).collect();
        let opened = Room::default().pack(&lots, std::slice::from_ref(&shape));
        let sum: i64 = needs.iter().map(|(needs, tasks)| needs.cpu * i64::from(*tasks)).sum();
        prop_assert!(i64::from(opened) * shape.cpu >= sum);
        let tasks: u32 = needs.iter().map(|(_, tasks)| *tasks).sum();
        prop_assert!(opened <= tasks, "and never more than one for each task");
    }

    // First-fit decreasing in general is not monotone (Murgolo, 1988); where sizes divide each other it is optimal
    // (Coffman, Garey and Johnson, 1987), and so it is.
    #[test]
    fn more_tasks_never_need_fewer_instances(
        free in proptest::collection::vec(0..4096_i64, 0..6),
        lots in proptest::collection::vec((0..5_u32, 0..12_u32, 0..12_u32), 1..5),
    ) {
        let shape = size(4096, 16_384);
        let needs: Vec<_> = lots.iter().map(|(power, ..)| size(256 << power, 1024 << power)).collect();
        let opened = |more: bool| {
            let mut room = Room::default();
            free.iter().for_each(|cpu| room.add(&size(*cpu, 4 * cpu)));
            let lots = needs.iter().zip(&lots);
            let lots: Vec<_> = lots.map(|(needs, (_, few, plus))| lot(needs, few + if more { *plus } else { 0 })).collect();
            room.pack(&lots, std::slice::from_ref(&shape))
        };
        prop_assert!(opened(false) <= opened(true));
    }
}
