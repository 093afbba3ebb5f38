//! A service follows the work in its queue.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::fleet::{definition, sweep};
use crate::world::queues::Queue;
use crate::world::{ACCOUNT, Fate, HOST, REGION, World};

const WORKER: &str = "production/worker";
const JOBS: &str = "jobs";
const TAGS: [(&str, &str); 5] = [
    ("tidegate:scale/queue", JOBS),
    ("tidegate:scale/min", "1"),
    ("tidegate:scale/max", "40"),
    ("tidegate:scale/service-time", "6"),
    ("tidegate:channel", "C0000000001"),
];

/// A worker with its queue, which nobody has filled yet.
fn world_with(tags: &[(&str, &str)]) -> World {
    let world = World::new();
    {
        let mut state = world.state();
        state.ecs.register(&definition("worker", &format!("{HOST}/tides/worker@{}", crate::OLD)));
        let extra = json!({"desiredCount": 2, "runningCount": 2, "pendingCount": 0});
        state.ecs.add_service_with("production", "worker", "worker", tags, &extra);
        state.queues.insert(JOBS.into(), Queue::default());
    }
    world
}

fn world() -> World {
    world_with(&TAGS)
}

fn desired(world: &World) -> u64 {
    world.state().ecs.services[WORKER]["desiredCount"].as_u64().unwrap()
}

/// ECS runs as many tasks as it is to.
fn runs(world: &World) {
    let mut state = world.state();
    let service = state.ecs.services.get_mut(WORKER).unwrap();
    service["runningCount"] = service["desiredCount"].clone();
}

fn fill(world: &World, visible: u32, in_flight: u32) {
    world.state().queues.insert(JOBS.into(), Queue { visible, in_flight, delayed: 0 });
}

/// CloudWatch has these sums for each of the last twenty minutes.
fn meter(world: &World, sent: f64, deleted: f64) {
    let now = world.seconds();
    let mut state = world.state();
    for (metric, value) in [("NumberOfMessagesSent", sent), ("NumberOfMessagesDeleted", deleted)] {
        state.metered.put(metric, JOBS, now, 20, value);
    }
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn look(world: &World) -> Value {
    world.deliver("scale-service", &sweep()).await.unwrap()
}

/// The decision about the worker.
fn of_worker(response: &Value) -> Value {
    let decisions = response["decisions"].as_array().unwrap();
    decisions.iter().find(|decision| decision["service"] == WORKER).cloned().unwrap_or(Value::Null)
}

fn tick() -> Value {
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{WORKER}");
    let body = json!({"source": "tidegate", "detail-type": "Tick", "detail": {"of": [arn]}}).to_string();
    json!({"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": body}]})
}

fn alarm(dimensions: &Value) -> Value {
    let metric = json!({"namespace": "AWS/SQS", "name": "ApproximateAgeOfOldestMessage", "dimensions": dimensions});
    json!({
        "version": "0", "id": "1", "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
        "account": ACCOUNT, "time": "2026-11-16T09:00:00Z", "region": REGION, "resources": [], "detail": {
            "alarmName": "jobs-age", "state": {"value": "ALARM", "timestamp": "2026-11-16T09:00:00.000+0000"},
            "configuration": {"metrics": [{"id": "m1", "metricStat": {"metric": metric, "period": 60, "stat": "Maximum"}}]},
        },
    })
}

/// Looks every quarter of a minute for so long, as the schedule and its ticks do, with tasks that run at once.
async fn quarters(world: &World, minutes: u64, mut each: impl FnMut(&World)) -> Vec<Value> {
    let mut decisions = Vec::new();
    for quarter in 0..minutes * 4 {
        each(world);
        let event = if quarter % 4 == 0 { sweep() } else { tick() };
        decisions.push(of_worker(&world.deliver("scale-service", &event).await.unwrap()));
        runs(world);
        wait(15).await;
    }
    decisions
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_fills_brings_tasks_at_once_and_an_empty_one_lets_them_go_slowly() {
    let world = world();
    fill(&world, 150, 2);
    let out = of_worker(&look(&world).await);
    assert_eq!(
        (&out["action"], &out["rule"], &out["from"], &out["to"]),
        (&json!("scale"), &json!("out"), &json!(2), &json!(30))
    );
    let update = world.body("UpdateService");
    assert_eq!(update, json!({"cluster": "production", "service": "worker", "desiredCount": 30}), "and nothing else");
    assert_eq!(world.state().ecs.turns.len(), 0, "no deployment");
    runs(&world);
    fill(&world, 0, 0);
    let decisions = quarters(&world, 20, |world| meter(world, 0.0, 0.0)).await;
    let steps: Vec<(usize, u64)> = decisions
        .iter()
        .enumerate()
        .filter(|(_, it)| it["action"] == "scale")
        .map(|(at, it)| (at / 4, it["to"].as_u64().unwrap()))
        .collect();
    assert_eq!(steps.first(), Some(&(5, 15)), "{steps:?}");
    assert_eq!(desired(&world), 1, "{steps:?}");
    let actions = world.state().table.items("ACTION#");
    assert_eq!(actions.len(), steps.len() + 1);
    for action in &actions {
        assert_eq!(action["outcome"], "accepted", "{action}");
        assert!(action["inputs"]["service_time"].is_number() && action["expires_at"].is_number(), "{action}");
        assert!(action["reason"].as_str().unwrap().contains("tasks"), "{action}");
    }
    let metrics = world.state().metrics.clone();
    let count = |name: &str| metrics.iter().filter(|document| document[name] == 1).count();
    assert_eq!((count("ScaledOut"), count("ScaledIn")), (1, steps.len()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_nothing_is_to_change() {
    let world = world();
    quarters(&world, 10, |world| meter(world, 0.0, 0.0)).await;
    let before = world.count("UpdateService");
    world.calm();
    quarters(&world, 5, |world| meter(world, 0.0, 0.0)).await;
    assert_eq!(before + world.count("UpdateService"), 1, "from two tasks to one");
    // An idle queue costs no metric.
    assert_eq!(world.count("GetMetricData"), 0);
}

#[tokio::test(start_paused = true)]
async fn ticks_are_sent_by_the_schedule_alone_and_while_there_is_work() {
    let world = world();
    quarters(&world, 12, |world| meter(world, 0.0, 0.0)).await;
    world.state().ticks.clear();
    look(&world).await;
    assert_eq!(world.state().ticks, [], "the queue is empty, and there is one task");
    fill(&world, 50, 2);
    look(&world).await;
    let ticks = std::mem::take(&mut world.state().ticks);
    assert_eq!(ticks.iter().map(|(delay, _)| *delay).collect::<Vec<_>>(), [15, 30, 45]);
    assert_eq!(ticks[0].1["detail"]["of"], json!([format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{WORKER}")]));
    world.deliver("scale-service", &tick()).await.unwrap();
    world.deliver("scale-service", &alarm(&json!({"QueueName": JOBS}))).await.unwrap();
    assert_eq!(world.state().ticks, [], "a chain of functions would be stopped by Lambda");
}

#[tokio::test(start_paused = true)]
async fn an_alarm_wakes_whom_it_concerns() {
    for (dimensions, wakes) in [
        (json!({"QueueName": JOBS}), true),
        (json!({"QueueName": "others"}), false),
        (json!({"LoadBalancer": "app/web"}), false),
        // A composite alarm does not say what it watches.
        (json!({}), true),
    ] {
        let world = world();
        fill(&world, 150, 2);
        let response = world.deliver("scale-service", &alarm(&dimensions)).await.unwrap();
        assert_eq!(desired(&world), if wakes { 30 } else { 2 }, "{dimensions}: {response}");
    }
}

#[tokio::test(start_paused = true)]
async fn alarms_that_say_nothing_of_a_load_do_nothing() {
    let mut suppressed = alarm(&json!({"QueueName": JOBS}));
    suppressed["detail"]["state"]["actionsSuppressedBy"] = json!("WaitPeriod");
    let mut unknown = alarm(&json!({"QueueName": JOBS}));
    unknown["detail"]["state"]["value"] = json!("INSUFFICIENT_DATA");
    let mut changed = alarm(&json!({"QueueName": JOBS}));
    changed["detail-type"] = json!("CloudWatch Alarm Configuration Change");
    for event in [suppressed, unknown, changed] {
        let world = world();
        fill(&world, 150, 2);
        world.deliver("scale-service", &event).await.unwrap();
        assert_eq!(world.operations(), Vec::<String>::new(), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_application_auto_scaling_owns_is_left_alone_and_its_owner_told() {
    let world = world();
    world.state().targets.insert(WORKER.into(), false);
    fill(&world, 150, 2);
    let refused = of_worker(&look(&world).await);
    assert_eq!((&refused["action"], &refused["rule"]), (&json!("skip"), &json!("refused")));
    assert_eq!(desired(&world), 2);
    look(&world).await;
    let texts = crate::outcomes::texts(&world);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("Application Auto Scaling scales this service"), "{texts:?}");
    let told = world.state().published.clone();
    assert_eq!(
        (told.len(), &told[0]["schema"], &told[0]["kind"]),
        (1, &json!("tidegate.scaling/1"), &json!("refused"))
    );
    // A target that is suspended does not fight.
    world.state().targets.insert(WORKER.into(), true);
    wait(60).await;
    look(&world).await;
    assert_eq!(desired(&world), 30);
    let texts = crate::outcomes::texts(&world);
    assert!(texts.len() == 1 && texts[0].contains("scaled by Tidegate again"), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_told_to_the_owner() {
    for (key, value, expected) in [
        ("tidegate:scale/max", "many", "no number of tasks"),
        ("tidegate:scale/queue", "nowhere", "there is no queue nowhere"),
        ("tidegate:scale/mxa", "4", "misspelt"),
    ] {
        let mut tags: Vec<_> = TAGS.into_iter().filter(|(known, _)| *known != key).collect();
        tags.push((key, value));
        let world = world_with(&tags);
        fill(&world, 150, 2);
        let refused = of_worker(&look(&world).await);
        assert!(refused["reason"].as_str().unwrap().contains(expected), "{refused}");
        assert_eq!((desired(&world), world.state().rejects.len()), (2, 0));
        assert!(crate::outcomes::texts(&world)[0].contains(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_maximum_that_is_too_low_is_told_once_it_lasts_and_again_when_it_is_over() {
    let world = world();
    fill(&world, 2000, 2);
    quarters(&world, 2, |world| meter(world, 60.0, 60.0)).await;
    assert_eq!((desired(&world), world.state().published.len()), (40, 0), "two minutes are no news");
    quarters(&world, 4, |world| meter(world, 60.0, 60.0)).await;
    let told = |world: &World| world.state().published.iter().map(|it| it["state"].clone()).collect::<Vec<_>>();
    assert_eq!(told(&world), ["raised"]);
    assert!(crate::outcomes::texts(&world)[0].contains("tidegate:scale/max is 40"));
    fill(&world, 0, 1);
    quarters(&world, 14, |world| meter(world, 60.0, 60.0)).await;
    assert_eq!(told(&world), ["raised", "over"]);
    assert_eq!(crate::outcomes::texts(&world).len(), 1, "it is one message");
    let metrics = world.state().metrics.clone();
    assert_eq!(metrics.iter().filter(|document| document["AtMaximum"] == 1).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_and_missing_numbers_keep_the_tasks() {
    let going_on: fn(&World) = |world| {
        world.state().ecs.services.get_mut(WORKER).unwrap()["deployments"][0]["rolloutState"] = json!("IN_PROGRESS");
    };
    let held: fn(&World) = |world| {
        let tags: Vec<_> = TAGS.into_iter().chain([("tidegate:hold", "month end")]).collect();
        world.state().ecs.set_tags(WORKER, &tags);
    };
    let silent: fn(&World) = |world| {
        world.state().metered.clear();
        fill(world, 0, 1);
    };
    for (rule, change) in [("rolling-out", going_on), ("held", held), ("no-data", silent)] {
        let world = world();
        {
            let mut state = world.state();
            let service = state.ecs.services.get_mut(WORKER).unwrap();
            (service["desiredCount"], service["runningCount"]) = (json!(20), json!(20));
        }
        let decisions = quarters(&world, 20, |world| {
            meter(world, 6.0, 6.0);
            change(world);
        })
        .await;
        assert_eq!((desired(&world), &decisions.last().unwrap()["rule"]), (20, &json!(rule)), "{decisions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_aws_does_not_answer_changes_nothing() {
    for operation in [
        "GetResources",
        "DescribeServices",
        "GetItem",
        "GetQueueAttributes",
        "GetMetricData",
        "DescribeScalableTargets",
    ] {
        let world = world();
        {
            let mut state = world.state();
            let service = state.ecs.services.get_mut(WORKER).unwrap();
            (service["desiredCount"], service["runningCount"]) = (json!(20), json!(20));
        }
        fill(&world, 0, 1);
        world.fates(move |call, _| match call.operation == operation {
            true => Fate::Refused(400, "ThrottlingException"),
            false => Fate::Answered,
        });
        for _ in 0..15 {
            meter(&world, 6.0, 6.0);
            // What fails here is a failure of the invocation, or an answer that says so.
            let _failed = world.invoke("scale-service", &sweep()).await;
            wait(60).await;
        }
        assert_eq!(desired(&world), 20, "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn killed_anywhere_and_looked_at_again_it_ends_as_undisturbed() {
    let fates =
        [Fate::KilledBefore, Fate::KilledAfter, Fate::AnswerLost, Fate::Lost, Fate::Refused(500, "ServerException")];
    let run = async |at: Option<usize>, fate: Fate| {
        let world = world();
        fill(&world, 100, 2);
        meter(&world, 60.0, 60.0);
        world.fates(move |_, number| if Some(number) == at { fate.clone() } else { Fate::Answered });
        let _first = world.invoke("scale-service", &sweep()).await;
        let calls = world.operations().len();
        world.calm();
        wait(15).await;
        world.deliver("scale-service", &tick()).await.unwrap();
        (calls, desired(&world))
    };
    let (calls, undisturbed) = run(None, Fate::Answered).await;
    assert!((20..40).contains(&undisturbed), "{undisturbed}");
    for at in 0..calls {
        for fate in &fates {
            assert_eq!(run(Some(at), fate.clone()).await.1, undisturbed, "call {at}: {fate:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_ecs_refuses_for_long_is_told() {
    let world = world();
    fill(&world, 150, 2);
    world.fates(|call, _| match call.operation.as_str() {
        "UpdateService" => Fate::Refused(400, "AccessDeniedException"),
        _ => Fate::Answered,
    });
    quarters(&world, 2, |world| meter(world, 60.0, 60.0)).await;
    assert_eq!(world.state().published, Vec::<Value>::new());
    quarters(&world, 3, |world| meter(world, 60.0, 60.0)).await;
    let told = world.state().published.clone();
    assert_eq!((told.len(), &told[0]["kind"]), (1, &json!("stuck")), "{told:?}");
    assert!(told[0]["reason"].as_str().unwrap().contains("Allow UpdateService in the function's role"), "{told:?}");
    assert_eq!((desired(&world), world.state().rejects.len()), (2, 0));
    let actions = world.state().table.items("ACTION#");
    assert!(actions.iter().all(|action| action["outcome"].as_str().unwrap().contains("AccessDenied")), "{actions:?}");
}

#[tokio::test(start_paused = true)]
async fn two_looks_at_once_make_one_change() {
    let world = world();
    fill(&world, 150, 2);
    let (event, again) = (sweep(), tick());
    let both = tokio::join!(world.invoke("scale-service", &event), world.invoke("scale-service", &again));
    let rules = [both.0, both.1].map(|response| of_worker(&response.unwrap().unwrap())["rule"].clone());
    assert!(rules.contains(&json!("out")), "{rules:?}");
    assert_eq!((world.count("UpdateService"), desired(&world)), (1, 30), "{rules:?}");
    assert_eq!(world.state().table.items("ACTION#").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_explanation_writes_nothing() {
    let world = world();
    fill(&world, 150, 2);
    let event = json!({"source": "tidegate", "detail-type": "Explain", "detail": {"event": sweep()}});
    let told = of_worker(&world.deliver("scale-service", &event).await.unwrap());
    assert_eq!((&told["action"], &told["to"]), (&json!("scale"), &json!(30)));
    let writes = ["UpdateService", "PutItem", "TransactWriteItems", "UpdateItem", "SendMessageBatch", "Publish"];
    assert!(
        world.operations().iter().all(|operation| !writes.contains(&operation.as_str())),
        "{:?}",
        world.operations()
    );
}

#[tokio::test(start_paused = true)]
async fn a_look_is_few_dependent_calls() {
    let world = world();
    fill(&world, 150, 2);
    meter(&world, 60.0, 60.0);
    world.calm();
    look(&world).await;
    let steps: Vec<String> = world.steps().iter().map(|step| step.join(" ‖ ")).collect();
    assert_eq!(
        steps,
        [
            "GetResources",
            "DescribeServices ‖ GetItem",
            "DescribeScalableTargets ‖ GetQueueUrl",
            "GetQueueAttributes",
            "GetMetricData",
            "TransactWriteItems",
            "UpdateService",
            "UpdateItem",
            "SendMessageBatch",
        ]
    );
    wait(15).await;
    world.calm();
    world.deliver("scale-service", &tick()).await.unwrap();
    assert_eq!(world.operations().len(), 5, "{:?}", world.operations());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_of_ours_is_kept() {
    let world = world();
    let event = json!({"Records": [{"eventSource": "aws:sqs", "body": "hello"}]});
    let response = world.deliver("scale-service", &event).await.unwrap();
    assert_eq!(response["decisions"][0]["action"], "reject");
    assert_eq!(world.state().rejects.len(), 1);
}
