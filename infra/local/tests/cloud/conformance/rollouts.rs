//! ECS: what an update of a service starts, and how its deployments are told, stopped and taken back.

use anyhow::{Context as _, Result};
use aws_sdk_ecs::Client;
use aws_sdk_ecs::types::{Service, ServiceDeploymentStatus, StopServiceDeploymentStopType};
use local::registry::{self, Behaviour};
use serde_json::{Value, json};

use super::ecs::{CLUSTER, register, service};
use super::place::Place;
use super::{Seen, outcome, same};

/// The deployments of a service: status and revision of each.
fn deployments(service: &Service) -> Value {
    let revision = |arn: Option<&str>| arn.and_then(|arn| arn.rsplit('/').next()).map(str::to_owned);
    let shown = |it: &aws_sdk_ecs::types::Deployment| {
        json!([it.status(), it.rollout_state().map(|state| state.as_str()), revision(it.task_definition())])
    };
    service.deployments().iter().map(shown).collect()
}

async fn described(ecs: &Client, name: &str) -> Result<Service> {
    let answer = ecs.describe_services().cluster(CLUSTER).services(name).send().await?;
    answer.services.unwrap_or_default().into_iter().next().with_context(|| format!("no service {name}"))
}

/// The PRIMARY one of what [`deployments`] shows.
fn primary_of(shown: &Value) -> Option<Value> {
    shown.as_array()?.iter().find(|it| it[0] == "PRIMARY").cloned()
}

fn primary(service: &Service) -> String {
    let mut all = service.deployments().iter();
    all.find(|it| it.status() == Some("PRIMARY")).and_then(|it| it.id()).unwrap_or_default().to_owned()
}

#[test]
fn an_update_starts_a_deployment_where_something_changes() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let name = "conformance-update";
        service(&place, name, &[]).await?;
        let before = primary(&described(&ecs, name).await?);
        let update = |service: &str| ecs.update_service().cluster(CLUSTER).service(service);

        let same_revision = update(name).task_definition(format!("{name}:1")).send().await?;
        let after = same_revision.service.context("no service")?;
        seen.note("the revision that runs", json!([deployments(&after), primary(&after) == before]));
        let scaled = update(name).desired_count(1).send().await?.service.context("no service")?;
        seen.note("another count", json!([scaled.desired_count(), primary(&scaled) == before]));

        let second = register(&place, name, "public.ecr.aws/tides/web:2").await?;
        let after = update(name).task_definition(&second).send().await?.service.context("no service")?;
        seen.note("another revision", json!([deployments(&after), primary(&after) == before, after.desired_count()]));
        let told = primary(&described(&ecs, name).await?) == primary(&after);
        seen.note("it is told by the id that the update has told", json!(told));
        place.completed(CLUSTER, name).await?;
        let completed = described(&ecs, name).await?;
        seen.note("it completes", json!([deployments(&completed), primary(&completed) == primary(&after)]));

        let forced = update(name).force_new_deployment(true).task_definition(&second).send().await?;
        let forced = forced.service.context("no service")?;
        seen.note("the same, by force", json!([deployments(&forced), primary(&forced) == primary(&completed)]));
        place.completed(CLUSTER, name).await?;

        // The emulator takes revisions that are INACTIVE or were never there, and calls a missing cluster a missing
        // service. ECS does not.
        let gone = update("gone").task_definition(format!("{name}:1")).send().await;
        seen.note("no such service", outcome(&gone));
        Ok(seen)
    })
}

/// The history of a service's deployments, newest first.
async fn history(ecs: &Client, name: &str, statuses: &[ServiceDeploymentStatus]) -> Result<Vec<(String, String)>> {
    let listed = ecs
        .list_service_deployments()
        .cluster(CLUSTER)
        .service(name)
        .set_status(Some(statuses.to_vec()).filter(|statuses| !statuses.is_empty()))
        .send()
        .await?;
    let shown = |it: &aws_sdk_ecs::types::ServiceDeploymentBrief| {
        let arn = it.service_deployment_arn().unwrap_or_default().to_owned();
        (arn, it.status().map(|status| status.as_str()).unwrap_or_default().to_owned())
    };
    Ok(listed.service_deployments().iter().map(shown).collect())
}

fn statuses(history: &[(String, String)]) -> Value {
    history.iter().map(|(_, status)| json!(status)).collect()
}

/// A revision of an image that behaves like this, so that its rollout goes on for a while.
async fn lasting(place: &Place, name: &str, how: Behaviour) -> Result<String> {
    let repository = format!("conformance/{name}");
    place.repository(&repository).await?;
    let digest = place.push_of(&repository, "master", "1.0.0", how).await?;
    register(place, name, &format!("{}/{repository}@{digest}", registry::host())).await
}

#[test]
fn a_rollout_is_stopped_and_the_one_before_comes_back() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let name = "conformance-stop";
        service(&place, name, &[]).await?;
        let good = described(&ecs, name).await?;
        let first = history(&ecs, name, &[]).await?;
        seen.note("before", statuses(&first));
        let revision = lasting(&place, name, Behaviour::Stuck).await?;
        let update = ecs.update_service().cluster(CLUSTER).service(name).task_definition(revision).send().await?;
        let bad = update.service.context("no service")?;

        let all = history(&ecs, name, &[]).await?;
        seen.note("while it goes on", statuses(&all));
        let going_on = history(&ecs, name, &[ServiceDeploymentStatus::InProgress]).await?;
        seen.note("only those that go on", json!([statuses(&going_on), going_on.first() == all.first()]));
        let arn = all.first().context("no deployment")?.0.clone();
        let now = described(&ecs, name).await?;
        seen.note("the current one", json!(now.current_service_deployment() == Some(arn.as_str())));
        let gone = format!("{arn}x");
        let told = ecs.describe_service_deployments().service_deployment_arns(&arn).service_deployment_arns(&gone);
        let told = told.send().await?;
        let failures: Vec<_> =
            told.failures().iter().map(|it| (it.arn() == Some(gone.as_str()), it.reason())).collect();
        let shown: Vec<Value> = told
            .service_deployments()
            .iter()
            .map(|it| {
                let target = it.target_service_revision().and_then(|revision| revision.arn()).unwrap_or_default();
                let sources = it.source_service_revisions();
                let digits = |id: &str| id.trim_start_matches("ecs-svc/").to_owned();
                json!({
                    "status": it.status().map(|status| status.as_str()), "is_over": it.finished_at().is_some(),
                    "target": target.ends_with(&digits(&primary(&bad))),
                    "sources": sources.iter().map(|it| it.arn().unwrap_or_default().ends_with(&digits(&primary(&good)))).collect::<Vec<_>>(),
                    "rollback": it.rollback().is_some(), "service": it.service_arn(),
                })
            })
            .collect();
        seen.note("described", json!([shown, failures]));

        let stop = |arn: &str| {
            ecs.stop_service_deployment().service_deployment_arn(arn).stop_type(StopServiceDeploymentStopType::Rollback)
        };
        seen.note("what is over is not stopped", outcome(&stop(&first[0].0).send().await));
        seen.note("what is not there is not stopped", outcome(&stop(&gone).send().await));
        let abort = stop(&arn).stop_type(StopServiceDeploymentStopType::Abort).send().await;
        seen.note("nothing is aborted", outcome(&abort));
        let stopped = stop(&arn).send().await?;
        seen.note("it is stopped", json!(stopped.service_deployment_arn() == Some(arn.as_str())));
        let now = described(&ecs, name).await?;
        seen.note("the one before is PRIMARY again", json!(primary(&now) == primary(&good)));
        place.completed(CLUSTER, name).await?;
        let now = described(&ecs, name).await?;
        // For how long the one that has failed is shown is nobody's promise.
        seen.note("in the end", json!([primary_of(&deployments(&now)), primary(&now) == primary(&good)]));
        seen.note("its history", statuses(&history(&ecs, name, &[]).await?));
        let told = ecs.describe_service_deployments().service_deployment_arns(&arn).send().await?;
        let rollback = told.service_deployments().first().and_then(|it| it.rollback()).context("no rollback")?;
        let back_to = rollback.service_revision_arn().unwrap_or_default();
        let digits = primary(&good).trim_start_matches("ecs-svc/").to_owned();
        seen.note("it went back to", json!([back_to.ends_with(&digits), rollback.reason().is_some()]));
        seen.note("it is not stopped twice", outcome(&stop(&arn).send().await));
        Ok(seen)
    })
}

#[test]
fn a_newer_deployment_ends_the_one_that_goes_on() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let name = "conformance-newer";
        service(&place, name, &[]).await?;
        for revision in
            [lasting(&place, name, Behaviour::Slow).await?, register(&place, name, "public.ecr.aws/tides/web:3").await?]
        {
            let update = ecs.update_service().cluster(CLUSTER).service(name).task_definition(revision).send().await?;
            seen.note("updated", deployments(&update.service.context("no service")?));
        }
        place.completed(CLUSTER, name).await?;
        seen.note("in the end", deployments(&described(&ecs, name).await?));
        seen.note("its history", statuses(&history(&ecs, name, &[]).await?));
        let gone = ecs.list_service_deployments().cluster(CLUSTER).service("gone").send().await;
        seen.note("the history of nobody", outcome(&gone));
        Ok(seen)
    })
}

#[test]
fn a_service_revision_tells_the_digest_that_runs() -> Result<()> {
    same(|place| async move {
        let (ecs, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let (name, repository) = ("conformance-revision", "conformance/revision");
        place.repository(repository).await?;
        let digest = place.push(repository, "master", "1.0.0").await?;
        seen.name(&digest, "digest");
        register(&place, name, &format!("{}/{repository}@{digest}", registry::host())).await?;
        place.service(CLUSTER, name, name, &[]).await?;
        let listed = ecs.list_service_deployments().cluster(CLUSTER).service(name).send().await?;
        let target = listed.service_deployments().first().and_then(|it| it.target_service_revision_arn());
        let target = target.context("no revision")?;
        let gone = format!("{target}0");
        let told =
            ecs.describe_service_revisions().service_revision_arns(target).service_revision_arns(&gone).send().await?;
        let revisions: Vec<Value> = told
            .service_revisions()
            .iter()
            .map(|it| {
                let images = it.container_images().iter();
                let images: Vec<Value> =
                    images.map(|it| json!([it.container_name(), it.image(), it.image_digest()])).collect();
                json!([it.service_revision_arn() == Some(target), it.task_definition(), images])
            })
            .collect();
        let failures: Vec<_> =
            told.failures().iter().map(|it| (it.arn() == Some(gone.as_str()), it.reason())).collect();
        seen.note("one of two", json!([revisions, failures]));
        Ok(seen)
    })
}
