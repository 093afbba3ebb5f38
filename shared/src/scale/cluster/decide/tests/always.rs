//! What holds in all situations.

use proptest::prelude::*;

use super::*;

fn percent() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        5 => (0.0..110.0_f64).prop_map(Some),
        1 => Just(None),
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-1.0), Just(1e300)].prop_map(Some),
    ]
}

prop_compose! {
    fn instances()(
        kinds in proptest::collection::vec((0..12_u8, 0..9_u32, 0..20_u8, 0..3_u8), 0..14),
    ) -> Vec<Instance> {
        let one = |(number, (stage, tasks, oddity, zone)): (usize, (u8, u32, u8, u8))| {
            let mut one = instance(&format!("i-{number:02}"), tasks);
            one.zone = Some(zone.to_string());
            one.stage = match stage {
                0 => return booting(&one.id),
                1 => Stage::Draining,
                2 => Stage::Terminating,
                3 => Stage::Lost,
                _ => Stage::Active,
            };
            match (oddity, one.tasks.first_mut()) {
                (0, Some(task)) => task.service = None,
                (1, Some(task)) => task.is_protected = true,
                (2, Some(task)) => task.is_daemon = true,
                (3, _) => one.is_protected = true,
                (4, _) => one.registered = size(i64::MAX, i64::MAX),
                (5, _) => one.remaining = size(-5, i64::MIN),
                _ => {}
            }
            one
        };
        kinds.into_iter().enumerate().map(one).collect()
    }
}

prop_compose! {
    fn demands()(
        demands in proptest::collection::vec((0..4_u32, any::<bool>(), 0..40_u32, 0..20_u8), 0..4),
    ) -> Vec<Demand> {
        let one = |(number, (power, is_blocked, tasks, oddity)): (usize, (u32, bool, u32, u8))| {
            let needs = if oddity == 0 { size(i64::MAX, -1) } else { size(512 << power, 1024 << power) };
            let tasks = if oddity == 1 { u32::MAX } else { tasks };
            Demand { service: format!("s{number}"), needs, tasks, is_blocked }
        };
        demands.into_iter().enumerate().map(one).collect()
    }
}

prop_compose! {
    fn situations()(
        instances in instances(),
        unplaced in demands(),
        (min, max, desired) in (0..8_u32, 0..20_u32, 0..16_u32),
        (cpu, memory) in (percent(), percent()),
        (cpu_high, cpu_low) in prop_oneof![4 => Just((85.0, 40.0)), 1 => Just((f64::NAN, f64::NAN)), 1 => Just((0.0, 1e9))],
        age in -100..400_i64,
        flags in any::<[bool; 3]>(),
        leaving in proptest::collection::vec((0..14_u8, any::<bool>()), 0..2),
    ) -> Situation {
        let leaving = leaving.into_iter().map(|(number, has_hook)| Leaving {
            instance: format!("i-{number:02}"),
            hook: has_hook.then(|| Hook { group: "workers".into(), name: "drain".into(), token: String::new() }),
        });
        let mut suspended = BTreeSet::new();
        if flags[0] && flags[1] {
            suspended.insert("Terminate".to_owned());
        }
        let group = Group { min, max, desired, is_refreshing: flags[0] && flags[2], suspended, ..situation().group };
        Situation {
            goal: Goal { cpu_high, cpu_low },
            group,
            instances,
            unplaced,
            is_rolling_out: flags[1] && flags[2],
            cpu,
            memory,
            age,
            leaving: leaving.collect(),
            ..situation()
        }
    }
}

/// A quiet cluster from which instances may go.
fn calm() -> impl Strategy<Value = Situation> {
    let one = prop_oneof![(0..8_u32, Just(0_i64)), (Just(1_u32), 1000..3500_i64)];
    (proptest::collection::vec(one, 2..14), 0..4_u32, 0.0..40.0_f64).prop_map(|(tasks, min, cpu)| {
        let numbered = tasks.iter().enumerate().map(|(number, (tasks, cpu))| (format!("i-{number:02}"), *tasks, *cpu));
        let instances: Vec<_> = numbered
            .map(|(id, tasks, cpu)| if cpu > 0 { with_large(&id, cpu) } else { instance(&id, tasks) })
            .collect();
        let desired = u32::try_from(instances.len()).unwrap();
        let group = Group { min, desired, max: 20, ..situation().group };
        Situation { group, instances, cpu: Some(cpu), ..situation() }
    })
}

/// A quiet cluster that was watched until an instance may go.
fn watched() -> impl Strategy<Value = (Situation, State)> {
    calm().prop_map(|mut situation| {
        let state = situation.watch(&State::default(), 9).state;
        situation.now += TimeDelta::minutes(1);
        (situation, state)
    })
}

/// A situation, and what was remembered of another one, some minutes earlier.
fn with_history() -> impl Strategy<Value = (Situation, State)> {
    let before = prop_oneof![situations(), calm()];
    (before, prop_oneof![situations(), calm()], prop_oneof![Just(9), 0..14_u32], any::<bool>()).prop_map(
        |(mut before, mut now, minutes, same)| {
            let state = before.watch(&State::default(), minutes).state;
            if same {
                // The same instances, so that what is remembered is about them.
                now.instances = before.instances.clone();
                for instance in &mut now.instances {
                    if state.drains.contains_key(&instance.id) {
                        instance.stage = Stage::Draining;
                        instance.tasks.clear();
                    }
                }
                now.group.desired = before.group.desired;
            }
            now.now = before.now + TimeDelta::minutes(1);
            (now, state)
        },
    )
}

/// The instances that a plan drains to be rid of them.
fn going<'a>(situation: &'a Situation, plan: &Plan) -> Vec<&'a Instance> {
    let drained = plan.steps.iter().filter_map(|step| if let Step::Drain(arns) = step { Some(arns) } else { None });
    let arns: Vec<&String> = drained.flatten().collect();
    let is_going = |instance: &&Instance| {
        instance.container_instance.as_ref().is_some_and(|arn| arns.contains(&arn))
            && !plan.state.leaving.contains_key(&instance.id)
    };
    situation.instances.iter().filter(is_going).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn it_stays_within_the_bounds((situation, state) in with_history()) {
        let plan = situation.look(&state);
        let Group { min, max, desired, .. } = situation.group;
        let mut after = desired;
        for step in &plan.steps {
            match step {
                Step::SetDesired(to) => {
                    prop_assert!(*to > desired, "never lowered");
                    prop_assert!(*to >= min && (*to <= max || *to == min));
                    after = *to;
                }
                Step::Terminate(_) => {
                    prop_assert!(after > min, "{:?}", plan.steps);
                    after -= 1;
                }
                _ => {}
            }
        }
        prop_assert!(!plan.reason.is_empty());
    }

    #[test]
    fn the_same_look_once_more_gives_the_same_steps((situation, state) in with_history()) {
        let plan = situation.look(&state);
        let again = situation.look(&plan.state);
        prop_assert_eq!(again.steps, plan.steps, "{} {}", plan.reason, again.reason);
        prop_assert_eq!(again.wanted, plan.wanted);
    }

    #[test]
    fn what_must_not_shrink_does_not((situation, state) in prop_oneof![with_history(), watched()]) {
        let cases: [fn(&mut Situation); 6] = [
            |it| it.is_rolling_out = true,
            |it| it.group.is_refreshing = true,
            |it| it.group.suspended = ["Terminate".into()].into(),
            |it| (it.cpu, it.memory) = (None, None),
            |it| it.age = 241,
            |it| it.goal.cpu_low = 0.0,
        ];
        for (case, change) in cases.into_iter().enumerate() {
            let mut situation = situation.clone();
            change(&mut situation);
            let plan = situation.look(&state);
            prop_assert!(case == 5 || !plan.steps.iter().any(|step| matches!(step, Step::Terminate(_))), "case {case}");
            let known = |it: &&Instance| !state.drains.contains_key(&it.id);
            prop_assert_eq!(going(&situation, &plan).into_iter().filter(known).count(), 0, "case {}", case);
        }
        let plan = situation.look(&State::default());
        prop_assert!(going(&situation, &plan).is_empty() && !plan.steps.iter().any(|step| matches!(step, Step::Terminate(_))));
    }

    #[test]
    fn what_drains_fits_elsewhere((situation, state) in prop_oneof![with_history(), watched()]) {
        let plan = situation.look(&state);
        let going: Vec<&Instance> =
            going(&situation, &plan).into_iter().filter(|instance| !state.drains.contains_key(&instance.id)).collect();
        let mut left: Vec<Resources> = situation
            .instances
            .iter()
            .filter(|it| it.stage == Stage::Active && going.iter().all(|going| going.id != it.id))
            .filter(|it| !plan.state.leaving.contains_key(&it.id) && !plan.state.drains.contains_key(&it.id))
            .map(|it| it.remaining.clone())
            .collect();
        for instance in &going {
            prop_assert!(!instance.is_protected && instance.stage == Stage::Active);
            for task in instance.tasks.iter().filter(|task| !task.is_daemon) {
                prop_assert!(task.service.is_some() && !task.is_protected);
                let free = left.iter_mut().find(|free| free.holds(&task.needs) > 0);
                prop_assert!(free.is_some(), "{}", plan.reason);
                if let Some(free) = free {
                    *free = free.without(&task.needs, 1);
                }
            }
        }
        let capacity = situation.instances.len();
        prop_assert!(going.len() <= (capacity / 10).max(1));
    }

    #[test]
    fn more_tasks_that_wait_never_lower_the_answer(
        tasks in proptest::collection::vec(0..9_u32, 0..10),
        demands in proptest::collection::vec((0..3_u32, 0..30_u32, 0..30_u32), 1..4),
        max in 0..30_u32,
        cpu in percent(),
    ) {
        let instances: Vec<_> =
            tasks.iter().enumerate().map(|(number, tasks)| instance(&format!("i-{number:02}"), *tasks)).collect();
        let group = Group { desired: u32::try_from(instances.len()).unwrap(), max, min: 0, ..situation().group };
        let answer = |more: bool| {
            let unplaced = demands.iter().enumerate().map(|(number, (power, few, plus))| {
                let tasks = few + if more { *plus } else { 0 };
                waiting_for(&format!("s{number}"), size(512 << power, 1024 << power), tasks)
            });
            let unplaced = unplaced.collect();
            let plan = Situation { group: group.clone(), instances: instances.clone(), unplaced, cpu, ..situation() };
            plan.look(&State::default()).wanted
        };
        prop_assert!(answer(false) <= answer(true));
    }

    #[test]
    fn a_state_survives_the_table((situation, state) in with_history()) {
        let state = situation.look(&state).state;
        let json = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
    }
}
