//! Deliberate bugs, and whether the simulation catches them: one that catches none is decoration.
//!
//! A bug is made on the wire. What a handler says to AWS is changed before it arrives, or what AWS says before the handler
//! hears it, just as if the handler had a line wrong: a condition that it does not send, a tag that it does not read, two
//! writes in the wrong order. The code that is shipped knows nothing of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::plan::{Deed, Nature, Plan};
use crate::world::Call;

/// What becomes of a request with the bug in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It goes out, as it was changed.
    Go,
    /// It does not, and this is what the handler believes was answered.
    Pretend(Value),
    /// It goes out only after the next `UpdateService` of the function; until then the handler believes it has.
    Later,
}

/// A deliberate bug.
#[derive(Debug)]
pub struct Mutant {
    pub name: &'static str,
    /// What is wrong with the handler.
    pub bug: &'static str,
    pub request: fn(&mut Call) -> Verdict,
    pub answer: fn(&Call, &mut Value),
    /// What a run needs for the bug to matter.
    pub needs: fn(&mut Plan),
    /// A seed that catches it; see `--mutants`.
    pub caught_by: u64,
}

const fn mutant(name: &'static str, bug: &'static str) -> Mutant {
    Mutant { name, bug, request: |_| Verdict::Go, answer: |_, _| {}, needs: |_| {}, caught_by: 0 }
}

/// All of them.
pub static MUTANTS: &[Mutant] = &[
    Mutant {
        request: |call| {
            for put in puts(call, "deploy", "SERVICE") {
                drop_condition(put);
            }
            Verdict::Go
        },
        needs: restless,
        ..mutant("condition-dropped", "an intention is written without regard for who was first")
    },
    Mutant {
        answer: |call, answer| {
            for item in items(call, answer, &["deploy", "rollback"]) {
                if item["sk"]["S"] == "SERVICE" {
                    item["lease_until"] = json!({"N": "0"});
                }
            }
        },
        needs: restless,
        caught_by: 18,
        ..mutant("lease-ignored", "a handler does not wait for the one that is at work")
    },
    Mutant {
        request: |call| {
            let is_intention = call.by == "deploy" && call.operation == "TransactWriteItems";
            if is_intention && call.body.to_string().contains(r#""state":{"S":"intended"}"#) {
                Verdict::Later
            } else {
                Verdict::Go
            }
        },
        needs: |plan| plan.faults.killed = 40,
        caught_by: 24,
        ..mutant("effect-first", "UpdateService is called before the intention is written")
    },
    Mutant {
        request: |call| {
            let writes = call.body.get_mut("TransactItems").and_then(Value::as_array_mut);
            if let Some(writes) = writes.filter(|_| call.by == "deploy") {
                writes.retain(|write| write.get("ConditionCheck").is_none());
            }
            Verdict::Go
        },
        answer: |call, answer| {
            if call.operation == "Query" && call.by == "deploy" {
                answer["Items"].as_array_mut().unwrap().retain(|item| item["sk"]["S"] != "GUARD");
            }
        },
        needs: bad_images,
        ..mutant("quarantine-forgotten", "a digest that went bad is deployed again")
    },
    Mutant {
        answer: |call, answer| without_tags(call, answer, |key| key == "tidegate:hold"),
        needs: |plan| {
            plan.services.truncate(1);
            plan.services[0].policy = "tag:master";
            plan.script = Some(vec![(10, Deed::Hold), (150, Deed::Push)]);
            plan.chaos = Duration::from_secs(300);
        },
        ..mutant("hold-ignored", "a service that is held is deployed to")
    },
    Mutant {
        answer: |call, answer| without_tags(call, answer, |key| key == "tidegate:mode"),
        needs: |plan| plan.services[0].is_told_only = true,
        ..mutant("mode-ignored", "a service that is only to be told of is deployed to")
    },
    Mutant {
        answer: |call, answer| {
            for tag in tags(call, answer).into_iter().flatten() {
                for (key, value) in [("key", "value"), ("Key", "Value")] {
                    if tag[key] == "tidegate:scale/max" {
                        tag[value] = json!("1000");
                    }
                }
            }
        },
        needs: queues,
        ..mutant("maximum-not-heeded", "a service is scaled beyond its maximum")
    },
    Mutant {
        request: |call| {
            if call.operation == "UpdateService" && call.body["taskDefinition"].is_string() {
                call.body["desiredCount"] = json!(1);
            }
            Verdict::Go
        },
        ..mutant("desired-count-sent", "a deployment sets the desired count")
    },
    Mutant {
        request: |call| {
            if call.operation == "RegisterTaskDefinition" {
                call.body.as_object_mut().unwrap().remove("fieldOfTomorrow");
            }
            Verdict::Go
        },
        ..mutant("fields-lost", "a task definition loses a field that the SDK does not know")
    },
    Mutant {
        request: |call| {
            if call.operation == "RegisterTaskDefinition" {
                let image = call.body["containerDefinitions"][0]["image"].as_str().unwrap().to_owned();
                call.body["containerDefinitions"][0]["image"] = json!(image.replace("@sha256:", ":sha256-"));
            }
            Verdict::Go
        },
        ..mutant("not-pinned", "a revision names a tag and no digest")
    },
    Mutant {
        request: |call| {
            let revision = call.body["taskDefinition"].as_str().unwrap_or_default().to_owned();
            if let Some((family, number)) =
                revision.rsplit_once(':').filter(|_| call.by == "rollback" && call.operation == "UpdateService")
            {
                let number = number.parse::<u64>().unwrap();
                call.body["taskDefinition"] = json!(format!("{family}:{}", (number + 1)));
            }
            Verdict::Go
        },
        needs: bad_images,
        ..mutant("another-revision", "a rollback brings a neighbour of the good revision back")
    },
    Mutant {
        answer: |call, answer| {
            for item in items(call, answer, &["rollback"]) {
                if item["state"]["S"] == "succeeded" && item.get("baked_at").is_none() {
                    item["baked_at"] = item["live_at"].clone();
                }
            }
        },
        needs: |plan| {
            bad_images(plan);
            plan.natures = vec![Nature::FailsLater];
            plan.pause = 60;
        },
        ..mutant("unproven-target", "what was live for a moment counts as proven good")
    },
    Mutant {
        answer: |call, answer| {
            if call.by == "notify" {
                newest_is_primary(call, answer);
            }
        },
        needs: |plan| {
            bad_images(plan);
            plan.natures = vec![Nature::Crashes];
        },
        caught_by: 7,
        ..mutant("success-of-another", "COMPLETED under another id counts as this deployment's success")
    },
    Mutant {
        request: |call| {
            let is_outcome = call.by == "notify" && call.operation == "TransactWriteItems";
            if is_outcome { Verdict::Pretend(json!({})) } else { Verdict::Go }
        },
        ..mutant("outcome-not-written", "a deployment never gets its outcome")
    },
    Mutant {
        request: |call| match call.operation.as_str() {
            "chat.update" => {
                Verdict::Pretend(json!({"ok": true, "ts": call.body["ts"], "channel": call.body["channel"]}))
            }
            _ => Verdict::Go,
        },
        ..mutant("message-not-edited", "Slack goes on showing what is not true any more")
    },
    Mutant {
        request: |call| match call.operation.as_str() {
            "SendMessage" => Verdict::Pretend(json!({"MessageId": "1", "MD5OfMessageBody": "0"})),
            _ => Verdict::Go,
        },
        needs: |plan| plan.deeds = vec![Deed::Garbage],
        ..mutant("reject-lost", "an event that can't be handled is dropped")
    },
    Mutant {
        answer: |call, answer| {
            if call.operation == "DescribeAlarms" && call.by == "rollback" {
                for alarm in answer["MetricAlarms"].as_array_mut().into_iter().flatten() {
                    alarm["StateValue"] = json!("OK");
                }
            }
            if call.operation == "ListTasks" && call.by == "rollback" {
                answer["taskArns"] = json!([]);
            }
        },
        needs: |plan| {
            bad_images(plan);
            plan.natures = vec![Nature::TripsAlarm, Nature::FailsLater];
            plan.delivery.lost = 50;
        },
        ..mutant("events-believed-only", "a failure that no event has told of is not found")
    },
    Mutant {
        answer: |call, answer| {
            for item in items(call, answer, &["rollback"]) {
                if let Some(item) = item.as_object_mut() {
                    item.remove("deadline_at");
                }
            }
        },
        needs: |plan| {
            bad_images(plan);
            plan.natures = vec![Nature::NeverReady];
        },
        ..mutant("deadline-forgotten", "a rollout that never ends is waited for for ever")
    },
    Mutant {
        answer: |call, answer| {
            if call.operation == "DescribeServices" && call.by == "scale-service" {
                for service in answer["services"].as_array_mut().into_iter().flatten() {
                    if let Some(deployments) = service["deployments"].as_array_mut() {
                        deployments.truncate(1);
                        deployments[0]["rolloutState"] = json!("COMPLETED");
                    }
                }
            }
        },
        needs: |plan| {
            queues(plan);
            plan.natures = vec![Nature::NeverReady];
            plan.pause = 30;
        },
        caught_by: 12,
        ..mutant("scales-in-a-rollout", "tasks are taken away while a rollout is going on")
    },
    Mutant {
        answer: |call, answer| {
            if call.operation == "DescribeServices" && call.by == "rollback" {
                for service in answer["services"].as_array_mut().into_iter().flatten() {
                    if let Some(deployments) = service["deployments"].as_array_mut().filter(|all| all.len() > 1) {
                        deployments.remove(0);
                        deployments[0]["status"] = json!("PRIMARY");
                    }
                }
            }
        },
        needs: |plan| {
            bad_images(plan);
            plan.pause = 20;
        },
        caught_by: 2,
        ..mutant("newer-undone", "what has gone bad is taken back although something newer has replaced it")
    },
    Mutant {
        answer: |call, answer| {
            let is_sweep = call.body["TagFilters"].as_array().is_none_or(Vec::is_empty);
            if call.operation == "GetResources" && call.by == "deploy" && is_sweep {
                answer["ResourceTagMappingList"] = json!([]);
            }
        },
        needs: |plan| {
            plan.delivery.lost = 50;
            plan.deeds.clear();
            plan.natures.clear();
        },
        caught_by: 9,
        ..mutant("sweep-blind", "a push whose event was lost is never found")
    },
    Mutant {
        request: |call| {
            let is_release = puts(call, "deploy", "GUARD").next().is_some();
            if is_release { Verdict::Pretend(json!({})) } else { Verdict::Go }
        },
        needs: |plan| {
            bad_images(plan);
            plan.deeds = vec![Deed::FlapAlarm];
        },
        caught_by: 2,
        ..mutant("release-ignored", "what a person releases from quarantine stays out")
    },
];

fn restless(plan: &mut Plan) {
    plan.delivery.repeated = 50;
    plan.faults.late = 40;
    plan.faults.slow = 40;
    plan.pause = 20;
    plan.natures.clear();
}

fn bad_images(plan: &mut Plan) {
    plan.deeds = vec![Deed::Look];
    plan.natures = vec![Nature::Crashes, Nature::FailsLater, Nature::TripsAlarm];
    for (service, alarm) in plan.services.iter_mut().zip(["web-5xx", "staging-5xx", "api-5xx"]) {
        service.alarm = service.is_followed.then_some(alarm);
        service.is_told_only = false;
    }
}

fn queues(plan: &mut Plan) {
    plan.services[0].queue = Some((1, 6));
    plan.services[0].is_told_only = false;
}

/// What is put under this sort key.
fn puts<'a>(call: &'a mut Call, by: &str, sort_key: &'static str) -> impl Iterator<Item = &'a mut Value> {
    let is_it = call.by == by;
    let writes = call.body.get_mut("TransactItems").and_then(Value::as_array_mut).filter(|_| is_it);
    let writes = writes.into_iter().flatten();
    writes.filter_map(|write| write.get_mut("Put")).filter(move |put| put["Item"]["sk"]["S"] == sort_key)
}

fn drop_condition(write: &mut Value) {
    let fields = write.as_object_mut().unwrap();
    fields.remove("ConditionExpression");
    fields.remove("ExpressionAttributeValues");
    fields.remove("ExpressionAttributeNames");
}

/// The items that a function has read.
fn items<'a>(call: &Call, answer: &'a mut Value, by: &[&str]) -> Vec<&'a mut Value> {
    if !by.contains(&call.by) || call.operation != "Query" {
        return Vec::new();
    }
    answer["Items"].as_array_mut().into_iter().flatten().collect()
}

/// The tags in an answer, those of each resource together.
fn tags<'a>(call: &Call, answer: &'a mut Value) -> Vec<&'a mut Vec<Value>> {
    let (list, name) = match call.operation.as_str() {
        "DescribeServices" => ("services", "tags"),
        "GetResources" => ("ResourceTagMappingList", "Tags"),
        _ => return Vec::new(),
    };
    let resources = answer[list].as_array_mut().into_iter().flatten();
    resources.filter_map(|resource| resource.get_mut(name)?.as_array_mut()).collect()
}

fn without_tags(call: &Call, answer: &mut Value, is_it: fn(&str) -> bool) {
    for tags in tags(call, answer) {
        tags.retain(|tag| !["key", "Key"].iter().any(|key| tag[key].as_str().is_some_and(is_it)));
    }
}

/// The newest deployment seems to be PRIMARY, though ECS has gone back.
fn newest_is_primary(call: &Call, answer: &mut Value) {
    if call.operation != "DescribeServices" {
        return;
    }
    for service in answer["services"].as_array_mut().into_iter().flatten() {
        let number = |deployment: &Value| {
            deployment["id"].as_str().and_then(|id| id.rsplit('/').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        let newest = service["deployments"].as_array().and_then(|all| all.iter().max_by_key(|it| number(it)).cloned());
        if let Some(newest) = newest {
            service["deployments"][0]["id"] = newest["id"].clone();
            service["deployments"][0]["taskDefinition"] = newest["taskDefinition"].clone();
        }
    }
}
