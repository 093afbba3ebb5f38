//! The table of what may happen to a release, and where it ends: each row is acted out, and `ROLLBACKS.md` shows them.

use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use super::*;
use crate::world::fleet::tag_change;

type Run = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;

struct Scenario {
    name: &'static str,
    /// What happens after `new` was proven good and `old` before it.
    run: Run,
    /// The records in the end, as [`story`] tells them, from the proven release on.
    story: &'static [&'static str],
    /// What runs in the end.
    runs: &'static str,
    quarantine: &'static [&'static str],
    /// Whether Tidegate has stopped deploying by itself.
    is_held: bool,
}

/// The service comes to rest: every rollout completes, nothing is watched any more, and everyone knows.
pub(super) async fn settle(world: &World) {
    for round in 0..40 {
        calm_down(world);
        // What is left after some minutes is to be watched for a while.
        wait(if round > 3 { 300 } else { 0 }).await;
        minute(world).await;
        let rollout = world.state().ecs.services[WEB]["deployments"][0]["rolloutState"].clone();
        if rollout == "IN_PROGRESS" {
            completes(world).await;
        }
        if watched(world).is_empty() && crate::outcomes::open(world).is_empty() {
            return;
        }
    }
    panic!("it never comes to rest: {:?}", records(world));
}

/// A release goes live.
async fn live(world: &World, digest: &str) -> String {
    let id = release(world, digest).await;
    wait(60).await;
    completes(world).await;
    wait(60).await;
    id
}

/// A release goes live and trips the alarm; the rollback function is told.
async fn trips(world: &World, digest: &str) -> Value {
    live(world, digest).await;
    let response = world.deliver("rollback", &alarm(world)).await.unwrap();
    calm_down(world);
    response
}

fn breaker(world: &World, enable: bool, rollback: bool) {
    let breaker = json!({"enable": enable, "rollback": rollback});
    world.state().ecs.services.get_mut(WEB).unwrap()["deploymentConfiguration"]["deploymentCircuitBreaker"] = breaker;
}

/// How it ends mostly: `newer` was live, and `new` was deployed again.
const TAKEN_BACK: Scenario = Scenario {
    name: "",
    run: |_| Box::pin(std::future::ready(())),
    story: &["push succeeded new", "push rolled_back newer", "rollback succeeded new"],
    runs: "new",
    quarantine: &["newer"],
    is_held: false,
};

/// `newer` never was live, and ECS went back.
const FAILED: Scenario = Scenario { story: &["push succeeded new", "push failed newer"], ..TAKEN_BACK };

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "good → bad: the rollout fails, and ECS goes back by itself",
        run: |world| {
            Box::pin(async move {
                let bad = release(&world, NEWER).await;
                wait(60).await;
                world.state().ecs.begin_roll_back(WEB);
                let response = world.deliver("rollback", &failed(&bad)).await.unwrap();
                assert_eq!(rule(&response), "ecs-goes-back", "{response}");
                world.deliver("notify", &failed(&bad)).await.unwrap();
            })
        },
        ..FAILED
    },
    Scenario {
        name: "good → bad: the rollout fails, and ECS does not go back",
        run: |world| {
            Box::pin(async move {
                breaker(&world, true, false);
                let bad = release(&world, NEWER).await;
                wait(60).await;
                world.state().ecs.end_rollout(WEB, "FAILED");
                let response = world.deliver("rollback", &failed(&bad)).await.unwrap();
                assert_eq!(rule(&response), "rollout-failed", "{response}");
            })
        },
        story: &["push succeeded new", "push failed newer", "rollback succeeded new"],
        runs: "new",
        quarantine: &["newer"],
        is_held: false,
    },
    Scenario {
        name: "good → bad: the rollout passes its deadline without an end",
        run: |world| {
            Box::pin(async move {
                release(&world, NEWER).await;
                minutes(&world, 29).await;
                assert_eq!(running(&world), image(NEWER));
                minutes(&world, 3).await;
            })
        },
        ..FAILED
    },
    Scenario {
        name: "good → bad: its alarm goes off in the middle of the rollout",
        run: |world| {
            Box::pin(async move {
                release(&world, NEWER).await;
                wait(60).await;
                let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
                assert_eq!(rule(&response), "alarm", "{response}");
                assert_eq!(world.count("StopServiceDeployment"), 1);
            })
        },
        ..FAILED
    },
    Scenario {
        name: "good → bad: it starts well, and its alarm goes off in the bake",
        run: |world| {
            Box::pin(async move {
                let response = trips(&world, NEWER).await;
                assert_eq!(rule(&response), "alarm", "{response}");
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "good → bad: it starts well, and its tasks fail in the bake",
        run: |world| {
            Box::pin(async move {
                live(&world, NEWER).await;
                for expected in ["baking", "baking", "tasks-failed"] {
                    wait(20).await;
                    let event = task_fails(&world);
                    let response = world.deliver("rollback", &event).await.unwrap();
                    assert_eq!(rule(&response), expected, "{response}");
                }
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "good → bad: no event comes, and the sweep finds the alarm",
        run: |world| {
            Box::pin(async move {
                live(&world, NEWER).await;
                alarm(&world);
                minute(&world).await;
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "bad → bad → good",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                completes(&world).await;
                trips(&world, NEWEST).await;
                completes(&world).await;
                live(&world, FIXED).await;
            })
        },
        story: &[
            "push succeeded new",
            "push rolled_back newer",
            "rollback succeeded new",
            "push rolled_back newest",
            "rollback succeeded new",
            "push succeeded fixed",
        ],
        runs: "fixed",
        quarantine: &["newer", "newest"],
        is_held: false,
    },
    Scenario {
        name: "bad during rollback: another bad release is pushed while the good one comes back",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                wait(5).await;
                trips(&world, NEWEST).await;
            })
        },
        story: &[
            "push succeeded new",
            "push rolled_back newer",
            "rollback superseded new",
            "push rolled_back newest",
            "rollback succeeded new",
        ],
        runs: "new",
        quarantine: &["newer", "newest"],
        is_held: false,
    },
    Scenario {
        name: "bad during rollback: another release fails, and ECS goes back to the bad one",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                wait(5).await;
                let overtaking = release(&world, NEWEST).await;
                wait(60).await;
                world.state().ecs.roll_back(WEB);
                assert_eq!(running(&world), image(NEWER));
                let response = world.deliver("rollback", &failed(&overtaking)).await.unwrap();
                assert_eq!(rule(&response), "returned", "{response}");
                world.deliver("notify", &failed(&overtaking)).await.unwrap();
            })
        },
        story: &[
            "push succeeded new",
            "push rolled_back newer",
            "rollback superseded new",
            "push failed newest",
            "rollback succeeded new",
        ],
        runs: "new",
        quarantine: &["newer", "newest"],
        is_held: false,
    },
    Scenario {
        name: "bad during rollback: the alarm goes off once more while the good release comes back",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                wait(20).await;
                let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
                assert_eq!(rule(&response), "rolling", "{response}");
                minute(&world).await;
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "alarm before deploy: it was in ALARM before, so nothing is deployed",
        run: |world| {
            Box::pin(async move {
                let event = alarm(&world);
                wait(30).await;
                release(&world, NEWER).await;
                let response = world.deliver("rollback", &event).await.unwrap();
                assert_eq!(rule(&response), "live", "{response}");
                assert_eq!(running(&world), image(NEW));
                calm_down(&world);
                world.deliver("deploy", &tag_change(WEB)).await.unwrap();
            })
        },
        story: &["push succeeded new", "tags succeeded newer"],
        runs: "newer",
        quarantine: &[],
        is_held: false,
    },
    Scenario {
        name: "alarm before deploy: its event comes late, about a time before the deployment",
        run: |world| {
            Box::pin(async move {
                let event = alarm(&world);
                calm_down(&world);
                wait(30).await;
                release(&world, NEWER).await;
                let response = world.deliver("rollback", &event).await.unwrap();
                assert_eq!(rule(&response), "rolling", "{response}");
            })
        },
        story: &["push succeeded new", "push succeeded newer"],
        runs: "newer",
        quarantine: &[],
        is_held: false,
    },
    Scenario {
        name: "manual deploy in between: somebody deploys by hand, and then the alarm goes off",
        run: |world| {
            Box::pin(async move {
                live(&world, NEWER).await;
                let (revision, seconds) = (by_hand(&world, FIXED), world.seconds());
                let id = world.state().ecs.deploy_by_others(WEB, &revision, seconds, "COMPLETED");
                world.deliver("notify", &ecs_event("SERVICE_DEPLOYMENT_COMPLETED", &id)).await.unwrap();
                wait(30).await;
                let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
                assert_eq!(rule(&response), "by-others", "{response}");
            })
        },
        story: &["push succeeded new", "push succeeded newer", "external succeeded fixed"],
        runs: "fixed",
        quarantine: &[],
        is_held: false,
    },
    Scenario {
        name: "first deploy bad: nothing before it is proven good",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
            })
        },
        story: &["push succeeded newer"],
        runs: "newer",
        quarantine: &["newer"],
        is_held: false,
    },
    Scenario {
        name: "target image expired: the release before that one comes back",
        run: |world| {
            Box::pin(async move {
                world.state().ecr.repositories.get_mut("tides/web").unwrap().remove(NEW);
                let response = trips(&world, NEWER).await;
                let notes = response["decisions"][0]["notes"].to_string();
                assert!(notes.contains("passed over: web:2: its image was deleted"), "{response}");
            })
        },
        story: &["push succeeded new", "push rolled_back newer", "rollback succeeded old"],
        runs: "old",
        quarantine: &["newer"],
        is_held: false,
    },
    Scenario {
        name: "target image expired, and so is every other",
        run: |world| {
            Box::pin(async move {
                world.state().ecr.repositories.get_mut("tides/web").unwrap().retain(|_, image| image.tags.is_empty());
                live(&world, NEWER).await;
                world.state().ecr.repositories.get_mut("tides/web").unwrap().retain(|digest, _| digest == NEWER);
                let response = world.deliver("rollback", &alarm(&world)).await.unwrap();
                assert_eq!(
                    (response["decisions"][0]["action"].as_str(), rule(&response)),
                    (Some("hold"), "nothing-good")
                );
            })
        },
        story: &["push succeeded new", "push succeeded newer"],
        runs: "newer",
        quarantine: &["newer"],
        is_held: false,
    },
    Scenario {
        name: "the target's revision was deregistered: it is registered again",
        run: |world| {
            Box::pin(async move {
                let revision = world.state().ecs.newest("web");
                live(&world, NEWER).await;
                world.state().ecs.deregister(&revision);
                world.deliver("rollback", &alarm(&world)).await.unwrap();
                assert_eq!(world.state().ecs.families["web"].len(), 4);
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "ECS and us at once: the alarm goes off while ECS goes back",
        run: |world| {
            Box::pin(async move {
                let bad = release(&world, NEWER).await;
                wait(60).await;
                world.state().ecs.begin_roll_back(WEB);
                let event = alarm(&world);
                let (alarmed, told) =
                    (world.deliver("rollback", &event).await.unwrap(), world.deliver("rollback", &failed(&bad)).await);
                assert_eq!((rule(&alarmed), rule(&told.unwrap())), ("ecs-goes-back", "ecs-goes-back"));
            })
        },
        ..FAILED
    },
    Scenario {
        name: "ECS and us at once: the rollout ends when we tell ECS to stop it",
        run: |world| {
            Box::pin(async move {
                release(&world, NEWER).await;
                wait(60).await;
                let (event, other) = (alarm(&world), world.clone());
                let mut is_first = true;
                world.fates(move |call, _| {
                    if call.operation == "StopServiceDeployment" && std::mem::take(&mut is_first) {
                        other.later(|state| state.ecs.end_rollout(WEB, "COMPLETED"));
                        return Fate::Refused(400, "ConflictException");
                    }
                    Fate::Answered
                });
                world.deliver("rollback", &event).await.unwrap();
                world.calm();
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "duplicate triggers: alarm, tasks, schedule and a person, at once and again",
        run: |world| {
            Box::pin(async move {
                live(&world, NEWER).await;
                let tasks = [task_fails(&world), task_fails(&world), task_fails(&world)];
                wait(1).await;
                let (alarm, asked) = (alarm(&world), asked(&world, "1", &json!({})));
                let mut events = vec![alarm.clone(), alarm, asked.clone(), asked, sweep(), sweep()];
                events.extend(tasks);
                for _ in 0..2 {
                    let deliveries = events.iter().map(|event| Box::pin(world.deliver("rollback", event)));
                    for delivered in futures_util::future::join_all(deliveries).await {
                        delivered.unwrap();
                    }
                }
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "a person asks for the release before, and the event comes three times",
        run: |world| {
            Box::pin(async move {
                live(&world, NEWER).await;
                minutes(&world, 20).await;
                let event = asked(&world, "1", &json!({}));
                for expected in ["asked", "done-before", "done-before"] {
                    let response = world.deliver("rollback", &event).await.unwrap();
                    assert_eq!(rule(&response), expected, "{response}");
                }
            })
        },
        ..TAKEN_BACK
    },
    Scenario {
        name: "a person asks for a release by its digest, which need not be the last good one",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                completes(&world).await;
                let response = world.deliver("rollback", &asked(&world, "1", &json!({"to": "v99"}))).await.unwrap();
                assert_eq!(rule(&response), "no-such-release", "{response}");
                let to = json!({"to": OLD.get(7..19)});
                let response = world.deliver("rollback", &asked(&world, "2", &to)).await.unwrap();
                assert_eq!(rule(&response), "asked", "{response}");
            })
        },
        story: &["push succeeded new", "push rolled_back newer", "rollback rolled_back new", "rollback succeeded old"],
        runs: "old",
        quarantine: &["newer"],
        is_held: false,
    },
    Scenario {
        name: "a person wants the bad release back, all the same",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                completes(&world).await;
                let response = world.deliver("rollback", &asked(&world, "1", &json!({"to": NEWER}))).await.unwrap();
                assert_eq!(rule(&response), "asked", "{response}");
            })
        },
        story: &[
            "push succeeded new",
            "push rolled_back newer",
            "rollback rolled_back new",
            "rollback succeeded newer",
        ],
        runs: "newer",
        quarantine: &[],
        is_held: false,
    },
    Scenario {
        name: "a person asks, and something newer is deployed before the request comes",
        run: |world| {
            Box::pin(async move {
                let bad = live(&world, NEWER).await;
                let (late, named) = (asked(&world, "1", &json!({})), asked(&world, "2", &json!({"undoes": bad})));
                wait(5).await;
                live(&world, FIXED).await;
                for event in [late, named] {
                    let response = world.deliver("rollback", &event).await.unwrap();
                    assert_eq!(rule(&response), "not-current", "{response}");
                }
            })
        },
        story: &["push succeeded new", "push succeeded newer", "push succeeded fixed"],
        runs: "fixed",
        quarantine: &[],
        is_held: false,
    },
    Scenario {
        name: "the good release can't come back: ECS goes back to the bad one, and Tidegate stops",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                let recovery = primary(&world);
                wait(60).await;
                world.state().ecs.roll_back(WEB);
                world.deliver("notify", &failed(&recovery)).await.unwrap();
                world.deliver("rollback", &failed(&recovery)).await.unwrap();
            })
        },
        story: &["push succeeded new", "push rolled_back newer", "rollback failed new"],
        runs: "newer",
        quarantine: &["newer"],
        is_held: true,
    },
    Scenario {
        name: "four bad releases within an hour: three are taken back, and then Tidegate stops",
        run: |world| {
            Box::pin(async move {
                for digest in [NEWER, NEWEST, FIXED] {
                    trips(&world, digest).await;
                    completes(&world).await;
                }
                let response = trips(&world, LATEST).await;
                assert_eq!(response["decisions"][0]["action"], "hold", "{response}");
                let response = world.deliver("deploy", &push(LATEST)).await.unwrap();
                assert_eq!(rule(&response), "already-runs", "{response}");
            })
        },
        story: &[
            "push succeeded new",
            "push rolled_back newer",
            "rollback succeeded new",
            "push rolled_back newest",
            "rollback succeeded new",
            "push rolled_back fixed",
            "rollback succeeded new",
            "push succeeded latest",
        ],
        runs: "latest",
        quarantine: &["latest", "newer", "newest", "fixed"],
        is_held: true,
    },
    Scenario {
        name: "the bad image is pushed again, tagged again and swept for: it stays out until a person releases it",
        run: |world| {
            Box::pin(async move {
                trips(&world, NEWER).await;
                completes(&world).await;
                for event in [push(NEWER), tag_change(WEB), sweep()] {
                    world.deliver("deploy", &event).await.unwrap();
                    assert_eq!(running(&world), image(NEW), "{event}");
                }
                let release = json!({
                    "source": "tidegate", "detail-type": "Release",
                    "detail": {"service": WEB, "digest": NEWER.get(7..19), "actor": "ana"},
                });
                let response = world.deliver("deploy", &release).await.unwrap();
                assert_eq!((rule(&response), running(&world)), ("released", image(NEWER)), "{response}");
            })
        },
        story: &["push succeeded new", "push rolled_back newer", "rollback succeeded new", "release succeeded newer"],
        runs: "newer",
        quarantine: &[],
        is_held: false,
    },
];

#[tokio::test(start_paused = true)]
async fn every_scenario_ends_as_the_table_says() {
    let mut table = String::from(
        "# Rollbacks\n\n\
         What becomes of a service when a release turns bad. A test writes this table: each row is acted out by the \
         shipped\nfunctions in a simulated AWS. The service `production/web` runs the release `new`, which is proven \
         good, as `old` was\nbefore it, unless the row says otherwise; `newer`, `newest`, `fixed` and `latest` are \
         pushed after it, in this order.\n\n\
         | what happens | what the records say in the end | what runs | in quarantine | why |\n|---|---|---|---|---|\n",
    );
    for scenario in SCENARIOS {
        let Scenario { name, run, .. } = scenario;
        let world = if name.starts_with("first deploy") { young() } else { proven().await };
        run(world.clone()).await;
        settle(&world).await;
        let told = story(&world);
        let told: Vec<&str> = told.iter().map(String::as_str).skip_while(|line| line.starts_with("external")).collect();
        assert_eq!(told, scenario.story, "{name}: {:#?}", records(&world));
        assert_eq!(called(running(&world).rsplit_once('@').unwrap().1), scenario.runs, "{name}");
        assert_eq!(quarantine(&world), scenario.quarantine, "{name}");
        assert_eq!(is_held(&world), scenario.is_held, "{name}");
        crate::outcomes::check_told_once(&world, name);
        let mut last = records(&world);
        last.retain(|record| record.get("recovery").is_some() || record["state"] == "failed");
        let why =
            |record: &Value| record["recovery"]["reason"].as_str().or(record["reason"].as_str()).unwrap().to_owned();
        let why = last.last().map(why).unwrap_or_default();
        let quarantine = scenario.quarantine.join(", ");
        let held = if scenario.is_held { " (held)" } else { "" };
        let (lines, runs) = (told.join(", "), scenario.runs);
        writeln!(table, "| {name} | {lines} | {runs}{held} | {quarantine} | {} |", plain(&why)).unwrap();
    }
    table.push_str(&super::speed::table().await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ROLLBACKS.md");
    let is_up_to_date = std::fs::read_to_string(&path).unwrap_or_default() == table;
    std::fs::write(&path, table).unwrap();
    assert!(is_up_to_date, "{} was not up to date; it is now: look at it, and commit it", path.display());
}
