//! ECS: task definitions, services, their tags, and tasks.

use anyhow::{Context as _, Result};
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{DesiredStatus, ServiceField, TaskDefinitionField};
use local::aws::service_arn;
use serde_json::{Value, json};

use super::place::Place;
use super::{Seen, outcome, same};

/// The cluster of all that is played here.
pub(super) const CLUSTER: &str = "conformance";

/// A task definition whose tasks always run.
pub(super) fn definition(family: &str, image: &str) -> Value {
    json!({
        "family": family,
        "containerDefinitions": [{ "name": "app", "image": image, "memory": 128, "essential": true }],
    })
}

/// Registers a revision of `family`: its ARN.
pub(super) async fn register(place: &Place, family: &str, image: &str) -> Result<String> {
    let answer = place.raw_ecs("RegisterTaskDefinition", &definition(family, image)).await?;
    Ok(answer["taskDefinition"]["taskDefinitionArn"].as_str().with_context(|| answer.to_string())?.to_owned())
}

/// A service called like its family.
pub(super) async fn service(place: &Place, name: &str, tags: &[(&str, &str)]) -> Result<()> {
    register(place, name, "public.ecr.aws/tides/web:1").await?;
    place.service(CLUSTER, name, name, tags).await
}

#[test]
fn a_task_definition_is_kept_as_it_was_registered() -> Result<()> {
    same(|place| async move {
        let mut seen = Seen::default();
        let mut document = definition("conformance-fields", "public.ecr.aws/tides/web:1");
        document["fieldOfTomorrow"] = json!({ "deep": [1, null, { "x": "y" }] });
        document["containerDefinitions"][0]["another"] = json!(true);
        document["tags"] = json!([{ "key": "team", "value": "tides" }]);
        place.raw_ecs("RegisterTaskDefinition", &document).await?;
        for include in [json!([]), json!(["TAGS"])] {
            let ask = json!({ "taskDefinition": "conformance-fields", "include": include });
            let mut answer = place.raw_ecs("DescribeTaskDefinition", &ask).await?;
            // What ECS adds by itself is not looked at: the model adds less than ECS does.
            let added = ["registeredAt", "registeredBy", "compatibilities", "requiresAttributes", "volumes"];
            let defaults = ["networkMode", "placementConstraints"];
            let described = &mut answer["taskDefinition"];
            if let Some(fields) = described.as_object_mut() {
                fields.retain(|name, _| !added.contains(&name.as_str()) && !defaults.contains(&name.as_str()));
            }
            if let Some(container) = described["containerDefinitions"][0].as_object_mut() {
                container.retain(|name, _| name != "cpu");
            }
            seen.note(&format!("including {include}"), json!([answer["taskDefinition"], answer.get("tags")]));
        }
        Ok(seen)
    })
}

#[test]
fn a_revision_is_inactive_and_can_still_be_seen() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let family = "conformance-family";
        let describe = async |id: &str| {
            let described = ecs.describe_task_definition().task_definition(id).send().await;
            let found = described.as_ref().ok().and_then(|answer| answer.task_definition()).map(|found| {
                let status = found.status().map(|status| status.as_str());
                json!([found.task_definition_arn(), found.revision(), status, found.registered_at().is_some()])
            });
            json!([outcome(&described), found])
        };
        seen.note("before there is one", describe(family).await);
        let first = register(&place, family, "public.ecr.aws/tides/web:1").await?;
        let second = register(&place, family, "public.ecr.aws/tides/web:2").await?;
        seen.note("of two", describe(family).await);
        seen.note("by number", describe(&format!("{family}:1")).await);
        place.deregister(&second).await?;
        // The emulator goes on naming an INACTIVE revision where only the family is given. ECS does not.
        seen.note("the second is gone", describe(&second).await);
        seen.note("the first", describe(&first).await);
        seen.note("a number that was never given", describe(&format!("{family}:9")).await);
        let next = register(&place, family, "public.ecr.aws/tides/web:3").await?;
        seen.note("the next", describe(&next).await);
        let tags =
            ecs.describe_task_definition().task_definition(&next).include(TaskDefinitionField::Tags).send().await?;
        seen.note("its tags", json!(tags.tags().len()));
        Ok(seen)
    })
}

#[test]
fn services_are_described_ten_at_a_time_and_tags_on_request() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let tags = [("team", "tides"), ("tidegate:follow/tides/web", "tag:master")];
        service(&place, "conformance-described", &tags).await?;
        let describe = async |cluster: &str, names: &[&str], with_tags: bool| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let described = ecs
                .describe_services()
                .cluster(cluster)
                .set_services(Some(names))
                .set_include(with_tags.then(|| vec![ServiceField::Tags]))
                .send()
                .await;
            let services: Vec<Value> = described.iter().flat_map(|answer| answer.services()).map(shown).collect();
            let failures = described.iter().flat_map(|answer| answer.failures());
            let failures: Vec<Value> = failures.map(|it| json!([it.arn(), it.reason()])).collect();
            json!([outcome(&described), services, failures])
        };
        let name = "conformance-described";
        let arn = service_arn(CLUSTER, name);
        seen.note("without tags", describe(CLUSTER, &[name], false).await);
        seen.note("with tags", describe(CLUSTER, &[name], true).await);
        seen.note("by ARN", describe(CLUSTER, &[&arn], false).await);
        seen.note("one of two is missing", describe(CLUSTER, &["gone", name], false).await);
        seen.note("another cluster", describe("conformance-gone", &[name], false).await);
        seen.note("eleven", describe(CLUSTER, &[name; 11], false).await);
        Ok(seen)
    })
}

fn shown(service: &aws_sdk_ecs::types::Service) -> Value {
    let mut tags: Vec<Value> = service.tags().iter().map(|tag| json!([tag.key(), tag.value()])).collect();
    tags.sort_by_key(Value::to_string);
    let deployments: Vec<Value> = service
        .deployments()
        .iter()
        .map(|it| {
            let state = it.rollout_state().map(|state| state.as_str());
            json!([
                it.status(),
                state,
                it.task_definition(),
                it.desired_count(),
                it.running_count(),
                it.created_at().is_some()
            ])
        })
        .collect();
    json!({
        "arn": service.service_arn(), "name": service.service_name(), "status": service.status(),
        "desired": service.desired_count(), "tags": tags, "deployments": deployments,
        "controller": service.deployment_controller().map(|controller| controller.r#type().as_str()),
    })
}

#[test]
fn tasks_are_listed_by_one_filter_or_another() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        service(&place, "conformance-tasks", &[]).await?;
        let list = || ecs.list_tasks().cluster(CLUSTER);
        let stopped = DesiredStatus::Stopped;
        seen.note(
            "stopped ones",
            outcome(&list().service_name("conformance-tasks").desired_status(stopped.clone()).send().await),
        );
        let nobodys = list().started_by("ecs-svc/1").send().await;
        seen.note("of a deployment", json!([outcome(&nobodys), nobodys.map(|answer| answer.task_arns().len())?]));
        let with_service = list().started_by("ecs-svc/1").service_name("conformance-tasks").send().await;
        seen.note("of a deployment and a service", outcome(&with_service));
        // The emulator lists no tasks where there is no such service or cluster. ECS refuses.
        let gone = format!("arn:aws:ecs:eu-west-1:123456789012:task/{CLUSTER}/{:032x}", 1);
        let described = ecs.describe_tasks().cluster(CLUSTER).tasks(&gone).send().await?;
        let failures: Vec<Value> = described.failures().iter().map(|it| json!([it.arn(), it.reason()])).collect();
        seen.note("a task that is gone", json!([described.tasks().len(), failures]));
        Ok(seen)
    })
}

#[test]
fn services_are_found_by_their_tags() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (aws_sdk_resourcegroupstagging::Client::new(&place.sdk()), Seen::default());
        use aws_sdk_resourcegroupstagging::types::TagFilter;
        for (name, tags) in [
            ("conformance-found-1", &[("conformance/found", "a"), ("team", "tides")][..]),
            ("conformance-found-2", &[("conformance/found", "b")]),
            ("conformance-found-3", &[("team", "tides")]),
        ] {
            service(&place, name, tags).await?;
        }
        for (key, values, size) in [
            ("conformance/found", &[][..], 100),
            ("conformance/found", &[], 1),
            ("conformance/found", &["a", "c"], 100),
            ("conformance/gone", &[], 100),
        ] {
            let values: Vec<String> = values.iter().map(|value: &&str| (*value).to_owned()).collect();
            let filter =
                TagFilter::builder().key(key).set_values(Some(values.clone()).filter(|it| !it.is_empty())).build();
            let (mut pages, mut token) = (Vec::new(), None);
            loop {
                let answer = ecs
                    .get_resources()
                    .resource_type_filters("ecs:service")
                    .tag_filters(filter.clone())
                    .resources_per_page(size)
                    .set_pagination_token(token)
                    .send()
                    .await?;
                let found = answer.resource_tag_mapping_list().iter().map(|found| {
                    let mut tags: Vec<Value> = found.tags().iter().map(|tag| json!([tag.key(), tag.value()])).collect();
                    tags.sort_by_key(Value::to_string);
                    json!([found.resource_arn(), tags])
                });
                pages.push(found.collect::<Value>());
                token = answer.pagination_token().map(str::to_owned).filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
            seen.note(&format!("{key} {values:?} by {size}"), json!(pages));
        }
        Ok(seen)
    })
}
