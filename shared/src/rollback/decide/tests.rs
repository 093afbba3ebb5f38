//! Every rule with a situation that it decides, and what holds in all situations.

use super::*;
use crate::ecs::service_with;
use crate::record::tests::{NowForTests, record};
use crate::record::{Recovery, ServiceItem, UndoneBy, millis};
use proptest::prelude::*;
use serde_json::{Value, json};

const BAD: &str = "ecs-svc/3";

fn at(minutes: i64) -> DateTime<Utc> {
    Utc::now_for_tests() + TimeDelta::minutes(minutes)
}

/// The release with this number, live since `live` minutes after the time of the tests.
fn release(number: u32, state: State, live: i64) -> Record {
    Record {
        id: format!("01JD8Z6W3Q0K8T4Y5V9N2R7X{number:02}"),
        digest: format!("sha256:{number:064x}"),
        revision_to: Some(format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:{number}")),
        ecs_deployment_id: Some(format!("ecs-svc/{number}")),
        started_at: Some(at(live - 1)),
        deadline_at: Some(at(live + 29)),
        live_at: Some(at(live)),
        bake_until: Some(at(live + 10)),
        baked_at: Some(at(live + 10)),
        ..record(state)
    }
}

/// Release 3 runs since two minutes ago and is watched; 2 and 1 before it are proven good.
#[derive(Clone)]
struct Situation {
    service: Value,
    history: History,
    alarms: BTreeMap<String, DateTime<Utc>>,
    tasks: Vec<StoppedTask>,
    asked: Option<RollbackAsked>,
}

fn situation() -> Situation {
    let baking = Record { baked_at: None, ..release(3, State::Succeeded, -2) };
    let records = vec![baking, release(2, State::Succeeded, -60), release(1, State::Succeeded, -120)];
    let item = ServiceItem { generation: 3, record: records[0].id.clone(), ..ServiceItem::default() };
    Situation {
        service: json!({
            "status": "ACTIVE", "serviceName": "web",
            "deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": true, "rollback": true}},
            "currentServiceDeployment": "arn:aws:ecs:eu-west-1:123456789012:service-deployment/production/web/x",
            "tags": [{"key": "tidegate:rollback-on/web-5xx", "value": "yes"}],
            "deployments": [{
                "id": BAD, "status": "PRIMARY", "rolloutState": "COMPLETED", "desiredCount": 2,
                "createdAt": at(-3).timestamp() as f64, "taskDefinition": "web:3",
            }],
        }),
        history: History { item: Some(item), records, ..History::default() },
        alarms: BTreeMap::new(),
        tasks: Vec::new(),
        asked: None,
    }
}

/// The same, and 3 is being rolled out.
fn rolling() -> Situation {
    situation().with(|it| {
        it.bad(|bad| {
            *bad = Record { live_at: None, bake_until: None, ..Record { state: State::Rolling, ..bad.clone() } }
        });
        it.service["deployments"][0]["rolloutState"] = "IN_PROGRESS".into();
        let before = json!({
            "id": "ecs-svc/2", "status": "ACTIVE", "rolloutState": "COMPLETED", "createdAt": at(-61).timestamp() as f64,
            "taskDefinition": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:2",
        });
        it.service["deployments"].as_array_mut().unwrap().push(before);
    })
}

impl Situation {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn bad(&mut self, change: impl FnOnce(&mut Record)) {
        change(&mut self.history.records[0]);
    }

    fn alarmed(self, minutes: i64) -> Self {
        self.with(|it| it.alarms = BTreeMap::from([("web-5xx".into(), at(minutes))]))
    }

    /// So many tasks of this deployment have crashed a minute ago.
    fn crashed(self, count: usize, id: &str) -> Self {
        let task = StoppedTask::read(&json!({
            "startedBy": id, "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
            "stoppedReason": "Essential container in task exited", "stoppedAt": at(-1).timestamp() as f64,
            "containers": [{"name": "web", "exitCode": 1}],
        }));
        self.with(|it| it.tasks = vec![task; count])
    }

    fn asked(self, to: Option<&str>, change: impl FnOnce(&mut RollbackAsked)) -> Self {
        let mut asked = RollbackAsked {
            event_id: "e-1".into(),
            time: Some(at(0)),
            service: record(State::Succeeded).service_ref(),
            to: to.map(str::to_owned),
            undoes: None,
            reason: "checkout is broken".into(),
            actor: "ana".into(),
        };
        change(&mut asked);
        self.with(|it| it.asked = Some(asked))
    }

    fn recovered(self, remedy: Remedy, minutes: i64, state: State) -> Self {
        let recovery = Recovery {
            remedy,
            why: "web-5xx went into ALARM".into(),
            alarms: Vec::new(),
            reason: "back to web:2".into(),
            release: None,
            passed_over: Vec::new(),
            stops_deployments: false,
            actor: None,
            event_id: String::new(),
            to: Some(release(2, state, 0).id),
            record: Some(release(4, state, 0).id),
            at: at(minutes),
        };
        self.with(|it| {
            it.bad(|bad| {
                *bad = Record { state, recovery: Some(recovery), undone_by: Some(UndoneBy::Tidegate), ..bad.clone() }
            });
        })
    }

    fn decide(&self) -> Verdict {
        let service = service_with(self.service.clone());
        decide(&Observed {
            asked: self.asked.as_ref(),
            service: &service,
            history: &self.history,
            alarms: &self.alarms,
            tasks: &self.tasks,
            now: at(0),
        })
    }

    /// What is decided, by which rule, and what would come back.
    fn outcome(&self) -> String {
        match self.decide() {
            Verdict::Leave(leave) => format!("leave: {}", leave.rule()),
            Verdict::Wait => "wait".into(),
            Verdict::Resume(_) => "resume".into(),
            Verdict::Back(plan) => {
                let how = if plan.can_stop { "stop" } else { "deploy" };
                let to = plan.candidates[0].revision_to.clone().unwrap();
                format!("{how}: {} to {}", plan.fault.rule(), to.rsplit_once('/').unwrap().1)
            }
            Verdict::Hold { fault, why, .. } => format!("hold: {} {}", fault.rule(), why.stops_deployments()),
        }
    }
}

#[test]
fn every_rule_decides_its_situation() {
    let failed = |it: &mut Situation| it.service["deployments"][0]["rolloutState"] = "FAILED".into();
    let no_breaker = |it: &mut Situation| it.service["deploymentConfiguration"] = json!({});
    let alone = |it: &mut Situation| it.service["deployments"].as_array_mut().unwrap().truncate(1);
    let with_tags = |it: &mut Situation| it.service["tags"] = json!([]);
    for (name, situation, expected) in [
        ("nothing is wrong in the bake", situation(), "leave: baking"),
        ("nothing is wrong in the rollout", rolling(), "leave: rolling"),
        ("it is proven good", situation().with(|it| it.bad(|bad| bad.baked_at = Some(at(-1)))), "leave: live"),
        ("the alarm went off in the bake", situation().alarmed(-1), "deploy: alarm to web:2"),
        ("the alarm was on before", situation().alarmed(-5), "leave: baking"),
        ("the alarm is none of the service's tags", situation().alarmed(-1).with(with_tags), "leave: baking"),
        ("the alarm went off in the rollout", rolling().alarmed(-1), "stop: alarm to web:2"),
        (
            "ECS heeds the alarm itself",
            rolling().alarmed(-1).with(|it| {
                it.service["deploymentConfiguration"]["alarms"] =
                    json!({"alarmNames": ["web-5xx"], "enable": true, "rollback": true});
            }),
            "leave: rolling",
        ),
        (
            "ECS would go back to another release",
            rolling().alarmed(-1).with(|it| {
                it.service["deployments"][1]["taskDefinition"] = "web:9".into();
            }),
            "deploy: alarm to web:2",
        ),
        (
            "the alarm flaps while the good release comes back",
            rolling().alarmed(-1).with(|it| it.bad(|bad| bad.origin = Origin::Rollback)),
            "leave: rolling",
        ),
        ("two tasks have crashed", situation().crashed(2, BAD), "leave: baking"),
        ("three tasks have crashed", situation().crashed(3, BAD), "deploy: tasks-failed to web:2"),
        (
            "three of twenty tasks have crashed",
            situation().crashed(3, BAD).with(|it| {
                it.service["deployments"][0]["desiredCount"] = 20.into();
            }),
            "leave: baking",
        ),
        ("tasks of the release before have crashed", situation().crashed(9, "ecs-svc/2"), "leave: baking"),
        ("tasks crash in the rollout, which has a circuit breaker", rolling().crashed(9, BAD), "leave: rolling"),
        (
            "tasks crash in the rollout, which has none",
            rolling().crashed(3, BAD).with(no_breaker),
            "stop: tasks-failed to web:2",
        ),
        ("the rollout failed, and ECS goes back by itself", rolling().with(failed), "leave: ecs-goes-back"),
        (
            "the rollout failed, and ECS can't go back",
            rolling().with(failed).with(alone),
            "deploy: rollout-failed to web:2",
        ),
        (
            "the rollout failed, and ECS does not go back",
            rolling().with(failed).with(no_breaker),
            "deploy: rollout-failed to web:2",
        ),
        (
            "the rollout failed, and ECS has had five minutes",
            rolling().with(failed).with(|it| {
                it.bad(|bad| (bad.state, bad.finished_at) = (State::Failed, Some(at(-5))));
            }),
            "deploy: rollout-failed to web:2",
        ),
        (
            "ECS is going back",
            rolling()
                .with(|it| {
                    it.service["deployments"][1]["status"] = "PRIMARY".into();
                    it.service["deployments"][1]["rolloutState"] = "IN_PROGRESS".into();
                    it.service["deployments"][0]["status"] = "ACTIVE".into();
                    it.service["deployments"][0]["rolloutState"] = "FAILED".into();
                })
                .alarmed(-1),
            "leave: ecs-goes-back",
        ),
        (
            "the deadline has passed",
            rolling().with(|it| it.bad(|bad| bad.deadline_at = Some(at(-1)))),
            "stop: deadline to web:2",
        ),
        (
            "another handler is at work",
            situation().alarmed(-1).with(|it| {
                it.history.item.as_mut().unwrap().lease_until = millis(at(1));
            }),
            "wait",
        ),
        (
            "a handler died before ECS was asked",
            situation().with(|it| {
                let left = Record { origin: Origin::Rollback, ..release(4, State::Intended, 0) };
                it.history.item.as_mut().unwrap().record.clone_from(&left.id);
                it.history.records.insert(0, left);
            }),
            "resume",
        ),
        (
            "ECS was to be told, and the handler died",
            rolling().recovered(Remedy::Stop, -1, State::Rolling),
            "stop: rollout-failed to web:2",
        ),
        ("ECS was told a moment ago", rolling().recovered(Remedy::Stop, -1, State::Failed), "leave: ecs-goes-back"),
        (
            "ECS was told, and has not heard",
            rolling().recovered(Remedy::Stop, -6, State::Failed),
            "stop: rollout-failed to web:2",
        ),
        ("it was seen to", situation().recovered(Remedy::Hold, -1, State::Succeeded).alarmed(-1), "leave: settled"),
        (
            "the good release could not be brought back",
            situation().recovered(Remedy::Deploy, -1, State::RolledBack).with(|it| {
                it.history.records.insert(0, Record { origin: Origin::Rollback, ..release(4, State::Failed, 0) });
            }),
            "hold: rollout-failed true",
        ),
        (
            "nothing before it is proven",
            situation().alarmed(-1).with(|it| {
                it.history.records[1].baked_at = None;
                it.history.records[2].state = State::RolledBack;
            }),
            "hold: alarm false",
        ),
        (
            "the last good one is in quarantine",
            situation().alarmed(-1).with(|it| {
                it.history.guard = it.history.guard.with(&it.history.records[1], at(-1));
            }),
            "deploy: alarm to web:1",
        ),
        (
            "three were taken back within the hour",
            situation().alarmed(-1).with(|it| {
                let gone = |number| Situation {
                    history: History { records: vec![release(number, State::Failed, -30)], ..History::default() },
                    ..situation()
                };
                let gone = (10..13).map(|number| {
                    gone(number).recovered(Remedy::Deploy, -30, State::RolledBack).history.records.remove(0)
                });
                it.history.records.extend(gone);
            }),
            "hold: alarm true",
        ),
        (
            "somebody else has deployed it",
            situation().alarmed(-1).with(|it| it.bad(|bad| bad.origin = Origin::External)),
            "leave: by-others",
        ),
        (
            "nobody knows what runs",
            situation().alarmed(-1).with(|it| it.service["deployments"][0]["id"] = "ecs-svc/9".into()),
            "leave: unknown",
        ),
        (
            "there is no PRIMARY deployment",
            situation().with(|it| it.service["deployments"] = json!([])),
            "leave: no-primary",
        ),
        (
            "the service is being deleted",
            situation().with(|it| it.service["status"] = "DRAINING".into()),
            "leave: not-active",
        ),
        (
            "CodeDeploy deploys it",
            situation().with(|it| it.service["deploymentController"] = json!({"type": "CODE_DEPLOY"})),
            "leave: controller",
        ),
        ("a person asks", situation().asked(None, |_| {}), "deploy: asked to web:2"),
        ("a person asks in the rollout", rolling().asked(None, |_| {}), "stop: asked to web:2"),
        (
            "a person asks for a release by tag of revision",
            rolling().asked(Some("web:1"), |_| {}),
            "deploy: asked to web:1",
        ),
        (
            "a person asks about what somebody else has deployed",
            situation().asked(None, |_| {}).with(|it| it.bad(|bad| bad.origin = Origin::External)),
            "deploy: asked to web:2",
        ),
        ("a person asks for what runs", situation().asked(Some("web:3"), |_| {}), "leave: runs"),
        ("a person asks for what never was", situation().asked(Some("web:77"), |_| {}), "leave: no-such-release"),
        ("a person asks by no name", situation().asked(Some("sha256:"), |_| {}), "leave: no-such-release"),
        (
            "a person asks about this deployment",
            situation().asked(None, |it| it.undoes = Some(BAD.into())),
            "deploy: asked to web:2",
        ),
        (
            "a person asks about another one",
            situation().asked(None, |it| it.undoes = Some("ecs-svc/2".into())),
            "leave: not-current",
        ),
        (
            "a person has asked before it was deployed",
            situation().asked(None, |it| it.time = Some(at(-4))),
            "leave: not-current",
        ),
        (
            "a request is repeated",
            situation().recovered(Remedy::Hold, -1, State::Succeeded).asked(None, |_| {}).with(|it| {
                it.bad(|bad| bad.recovery.as_mut().unwrap().event_id = "e-1".into());
            }),
            "leave: done-before",
        ),
        (
            "a person asks when the release before is back",
            situation().asked(None, |_| {}).with(|it| it.bad(|bad| bad.origin = Origin::Rollback)),
            "leave: brought-back",
        ),
        (
            "a person asks after ECS was told to stop",
            situation().asked(None, |_| {}).with(|it| {
                let stopped = rolling().recovered(Remedy::Stop, -1, State::Failed).history.records.remove(0);
                let mut stopped = Record { id: release(4, State::Failed, 0).id, ecs_deployment_id: None, ..stopped };
                stopped.recovery.as_mut().unwrap().to = Some(it.history.records[0].id.clone());
                it.history.records.insert(0, stopped);
            }),
            "leave: brought-back",
        ),
    ] {
        assert_eq!(situation.outcome(), expected, "{name}: {:?}", situation.decide());
    }
}

#[test]
fn how_many_tasks_are_too_many_is_as_ecs_counts() {
    for (desired, most) in [(0, 3), (1, 3), (6, 3), (7, 4), (100, 50), (1000, 200), (-1, 3)] {
        assert_eq!(too_many(desired), most, "{desired}");
    }
}

proptest! {
    /// Whatever the history: what comes back was proven good, is older than what it replaces, another revision, and not
    /// in quarantine; and what runs is what is taken back.
    #[test]
    fn only_what_is_proven_comes_back(
        states in prop::collection::vec(0_usize..6, 1..12),
        quarantined in prop::collection::vec(0_usize..12, 0..4),
        is_rolling in any::<bool>(),
    ) {
        let state = |index: usize| [State::Succeeded, State::Succeeded, State::Failed, State::RolledBack, State::Superseded, State::Skipped][index];
        let mut before: Vec<Record> = states.iter().zip(4_u32..).map(|(index, number)| {
            let record = release(number, state(*index), -100);
            Record { baked_at: record.baked_at.filter(|_| *index != 1), id: format!("00{}", record.id.get(2..).unwrap()), ..record }
        }).collect();
        before.reverse();
        let it = if is_rolling { rolling() } else { situation() }.alarmed(-1).with(|it| {
            it.history.records.truncate(1);
            it.history.records.extend(before.clone());
            for index in &quarantined {
                if let Some(record) = before.get(*index) {
                    it.history.guard = it.history.guard.with(record, at(-1));
                }
            }
        });
        let is_good = |record: &&Record| {
            let is_kept = !it.history.guard.quarantine.contains_key(&record.digest);
            record.state == State::Succeeded && record.baked_at.is_some() && is_kept
        };
        match it.decide() {
            Verdict::Back(plan) => {
                prop_assert_eq!(plan.bad.ecs_deployment_id.as_deref(), Some(BAD));
                prop_assert!(plan.candidates.iter().all(|candidate| is_good(&candidate) && candidate.id < plan.bad.id));
                prop_assert_eq!(Some(&plan.candidates[0]), before.iter().find(is_good));
            }
            Verdict::Hold { .. } => prop_assert_eq!(before.iter().find(is_good), None),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
