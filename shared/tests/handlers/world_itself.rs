//! The world of the tests answers as AWS does, to the SDK's own clients.

mod history;
mod sinks;
mod table;

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_cloudwatch::types::AlarmType;
use aws_sdk_cloudwatchlogs::operation::get_log_events::GetLogEventsOutput;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageFailureCode, ImageIdentifier, ImageStatusFilter, TagStatus};
use aws_sdk_ecs::types::ServiceField;
use aws_sdk_ssm::types::ParameterStringFilter;
use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde_json::{Value, json};

use crate::world::{self, Fate, World};

const DIGESTS: [&str; 2] = [
    "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a",
    "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
];

fn sdk(world: &World) -> SdkConfig {
    world.sdk().into_builder().retry_config(RetryConfig::disabled()).build()
}

/// Sends what no client of the SDK does: status, and body.
async fn send(world: &World, method: &str, url: &str, headers: &[(&'static str, &str)], body: &str) -> (u16, String) {
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(method).unwrap();
    request.set_uri(url).unwrap();
    headers.iter().for_each(|(name, value)| drop(request.headers_mut().insert(*name, (*value).to_owned())));
    let response = SharedHttpConnector::new(world.clone()).call(request).await.unwrap();
    let status = response.status().as_u16();
    let body = ByteStream::new(response.into_body()).collect().await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(world: &World, url: &str) -> (u16, String) {
    send(world, "GET", url, &[], "").await
}

/// The code that a call was refused with.
fn code<T>(result: Result<T, impl ProvideErrorMetadata>) -> String {
    result.err().unwrap().code().unwrap().to_owned()
}

/// A world with these services of the family `web` in `production`.
fn with_services(names: &[&str]) -> World {
    let world = World::new();
    world.state().ecs.register(&json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "web:1"}]}));
    for name in names {
        world.state().ecs.add_service("production", name, "web", &[("key", name)]);
    }
    world
}

#[tokio::test(start_paused = true)]
async fn resources_come_in_pages_with_their_tags() {
    let world = with_services(&["a", "b", "c"]);
    world.state().ecs.set_tags("production/b", &[("other", "x")]);
    let client = aws_sdk_resourcegroupstagging::Client::new(&sdk(&world));
    let first = client.get_resources().resources_per_page(2).send().await.unwrap();
    let token = first.pagination_token().unwrap();
    let last = client.get_resources().resources_per_page(2).pagination_token(token).send().await.unwrap();
    assert_eq!((first.resource_tag_mapping_list().len(), last.resource_tag_mapping_list().len()), (2, 1));
    assert_eq!(last.pagination_token(), Some(""));
    assert_eq!(last.resource_tag_mapping_list()[0].tags()[0].value(), "c");

    let filter = aws_sdk_resourcegroupstagging::types::TagFilter::builder().key("other").build();
    let found = client.get_resources().tag_filters(filter).send().await.unwrap();
    assert!(found.resource_tag_mapping_list()[0].resource_arn().unwrap().ends_with("service/production/b"));
    assert_eq!(code(client.get_resources().resources_per_page(101).send().await), "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn images_are_found_by_tag_and_digest_and_listed_in_pages() {
    let world = World::new();
    let [one, two] = DIGESTS;
    for (tag, digest, at) in [("v1", one, 100), ("master", one, 200), ("master", two, 300), ("v2", two, 400)] {
        world.state().ecr.push("web", tag, digest, at);
    }
    world.state().ecr.untag("web", "v2");
    let client = aws_sdk_ecr::Client::new(&sdk(&world));
    let ask = || client.describe_images().repository_name("web").registry_id(world::ACCOUNT);
    let tagged = |tag: &str| ImageIdentifier::builder().image_tag(tag).build();

    let found = ask().image_ids(tagged("master")).send().await.unwrap().image_details()[0].clone();
    assert_eq!((found.image_digest(), found.image_tags()), (Some(two), &["master".to_owned()][..]));
    assert_eq!(found.image_pushed_at().unwrap().secs(), 300, "an image keeps the time of its push");
    assert_eq!(code(ask().image_ids(tagged("v2")).send().await), "ImageNotFoundException");
    assert_eq!(code(ask().repository_name("other").send().await), "RepositoryNotFoundException");

    let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged);
    let page = ask().filter(filter.build()).max_results(1).send().await.unwrap();
    let rest = ask().max_results(1).next_token(page.next_token().unwrap()).send().await.unwrap();
    assert_eq!((page.image_details().len(), rest.image_details().len(), rest.next_token()), (1, 1, None));

    world.state().ecr.image_mut("web", one).archived = true;
    assert_eq!(code(ask().image_ids(tagged("v1")).send().await), "ImageNotFoundException");
    let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
    let archived = ask().image_ids(tagged("v1")).filter(any).send().await.unwrap();
    assert_eq!(archived.image_details()[0].image_status().unwrap().as_str(), "ARCHIVED");

    let by_digest = ImageIdentifier::builder().image_digest(two).build();
    let ids = [by_digest, tagged("v1"), tagged("none")];
    let got = client.batch_get_image().repository_name("web").set_image_ids(Some(ids.into())).send().await.unwrap();
    assert!(got.images()[0].image_manifest().unwrap().contains(r#""architecture":"arm64""#));
    let failures: Vec<_> = got.failures().iter().map(|failure| failure.failure_code().unwrap().clone()).collect();
    assert_eq!(failures, [ImageFailureCode::ImageInaccessible, ImageFailureCode::ImageNotFound]);
}

#[tokio::test(start_paused = true)]
async fn services_are_described_by_name_and_tags_only_if_they_are_asked_for() {
    let world = with_services(&["a"]);
    let alarms = json!({"deploymentConfiguration": {"alarms": {"alarmNames": ["errors"], "enable": true}}});
    world.state().ecs.add_service_with("production", "b", "web", &[], &alarms);
    let configuration = world.state().ecs.services["production/b"]["deploymentConfiguration"].clone();
    assert_eq!((&configuration["alarms"]["enable"], &configuration["maximumPercent"]), (&json!(true), &json!(200)));

    world.state().ecs.delete_service("production/b");
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let ask = || client.describe_services().cluster("production");
    let found = ask().services("a").services("b").send().await.unwrap();
    assert_eq!((found.services()[0].tags().len(), found.failures()[0].reason()), (0, Some("MISSING")));
    let found = ask().services("a").include(ServiceField::Tags).send().await.unwrap();
    assert_eq!(found.services()[0].tags()[0].value(), Some("a"));
    assert_eq!(code(ask().set_services(Some(vec!["a".into(); 11])).send().await), "InvalidParameterException");
    assert_eq!(code(ask().cluster("other").services("a").send().await), "ClusterNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_not_active_can_be_seen_but_not_deployed() {
    let world = with_services(&["a"]);
    let definition = json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "web:2"}]});
    world.state().ecs.register(&definition);
    let second = world.state().ecs.newest("web");
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let describe = |id: &str| client.describe_task_definition().task_definition(id).send();
    let update = |id: &str| client.update_service().cluster("production").service("a").task_definition(id).send();

    world.state().ecs.deregister(&second);
    assert_eq!(describe(&second).await.unwrap().task_definition().unwrap().status().unwrap().as_str(), "INACTIVE");
    assert_eq!(describe("web").await.unwrap().task_definition().unwrap().revision(), 1);
    assert_eq!(code(update(&second).await), "ClientException");
    world.state().ecs.delete_revision(&second);
    assert_eq!(code(describe(&second).await), "ClientException");

    world.state().ecs.services.get_mut("production/a").unwrap()["deploymentController"] = json!({"type": "EXTERNAL"});
    assert_eq!(code(update("web:1").await), "InvalidParameterException");
}

#[tokio::test(start_paused = true)]
async fn others_deploy_and_ecs_rolls_back_to_what_was_completed_under_its_old_id() {
    let world = with_services(&["a"]);
    let second = world.state().ecs.register(&json!({"family": "web"}))["taskDefinition"]["taskDefinitionArn"].clone();
    let (now, second) = (world.seconds(), second.as_str().unwrap().to_owned());
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let update = || client.update_service().cluster("production").service("a").task_definition(&second).send();
    let id = world.state().ecs.deploy_by_others("production/a", &second, now, "IN_PROGRESS");
    let answer = update().await.unwrap();
    let primary = &answer.service().unwrap().deployments()[0];
    assert_eq!(primary.id(), Some(id.as_str()), "what runs already is not deployed again");

    world.state().ecs.begin_roll_back("production/a");
    let deployments = world.state().ecs.services["production/a"]["deployments"].clone();
    let seen = |number: usize| (&deployments[number]["id"], &deployments[number]["rolloutState"]);
    assert_eq!(seen(0), (&json!("ecs-svc/1"), &json!("IN_PROGRESS")));
    assert_eq!(seen(1), (&json!(id), &json!("FAILED")));
    world.state().ecs.drain("production/a");
    assert_eq!(world.state().ecs.running("production/a"), "web:1");
}

#[tokio::test(start_paused = true)]
async fn ecs_refuses_calls_beyond_its_rate_and_serves_them_later() {
    let world = with_services(&[]);
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let register = || client.register_task_definition().family("web").send();
    let burst = futures_util::future::join_all((0..21).map(|_| register())).await;
    assert_eq!(burst.iter().filter(|answer| answer.is_err()).count(), 1);
    assert_eq!(code(register().await), "ThrottlingException");
    assert_eq!(world.state().throttled, 2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answers = futures_util::future::join_all((0..3).map(|_| register())).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "one token a second");
    world.state().limits_on = false;
    register().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn alarms_have_a_state_and_composite_ones_are_shown_on_request() {
    let world = World::new();
    world.state().alarms.insert("errors".into(), "ALARM".into());
    world.state().composite_alarms.insert("all".into(), "OK".into());
    let client = aws_sdk_cloudwatch::Client::new(&sdk(&world));
    let ask = || client.describe_alarms().alarm_names("errors").alarm_names("all").alarm_names("none");
    let metric = ask().send().await.unwrap();
    assert_eq!((metric.metric_alarms().len(), metric.composite_alarms().len()), (1, 0));
    let alarm = &metric.metric_alarms()[0];
    assert_eq!((alarm.state_value().unwrap().as_str(), alarm.state_transitioned_timestamp()), ("ALARM", None));
    world.state().alarms_since.insert("errors".into(), 1_794_819_600.25);
    let since = ask().send().await.unwrap().metric_alarms()[0].state_transitioned_timestamp().copied();
    assert_eq!(since.unwrap().to_millis().unwrap(), 1_794_819_600_250);
    let all = ask().alarm_types(AlarmType::MetricAlarm).alarm_types(AlarmType::CompositeAlarm).send().await.unwrap();
    assert_eq!((all.metric_alarms().len(), all.composite_alarms()[0].alarm_name()), (1, Some("all")));

    world.fates(|_, _| Fate::Refused(400, "AccessDenied"));
    assert_eq!(code(ask().send().await), "AccessDenied");
}

#[tokio::test(start_paused = true)]
async fn roles_secrets_and_parameters_are_there_or_not() {
    let world = World::new();
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tides/db-a1b2c3";
    world.state().roles.insert("task".into());
    world.state().secrets.insert(secret.into(), true);
    world.state().parameters.insert("/tides/key".into());
    let sdk = sdk(&world);

    let iam = aws_sdk_iam::Client::new(&sdk);
    let role = iam.get_role().role_name("task").send().await.unwrap().role.unwrap();
    assert_eq!(role.arn(), "arn:aws:iam::123456789012:role/task");
    assert_eq!(code(iam.get_role().role_name("none").send().await), "NoSuchEntity");

    let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
    let found = secrets.describe_secret().secret_id(secret).send().await.unwrap();
    assert_eq!((found.name(), found.deleted_date().is_some()), (Some("tides/db"), true));
    assert_eq!(code(secrets.describe_secret().secret_id("none").send().await), "ResourceNotFoundException");

    let names = ParameterStringFilter::builder().key("Name").option("Equals").values("/tides/key").values("/none");
    let parameters = aws_sdk_ssm::Client::new(&sdk).describe_parameters().parameter_filters(names.build().unwrap());
    let found = parameters.send().await.unwrap();
    assert_eq!((found.parameters().len(), found.parameters()[0].name()), (1, Some("/tides/key")));
}

#[tokio::test(start_paused = true)]
async fn calls_arrive_five_milliseconds_after_they_are_made() {
    let world = with_services(&["a"]);
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let call = || client.describe_services().cluster("production").services("a").send();
    call().await.unwrap();
    let (one, two) = tokio::join!(call(), call());
    one.unwrap();
    two.unwrap();
    let arrivals: Vec<_> = world.state().calls.iter().map(|call| call.at).collect();
    assert_eq!(arrivals, [5, 10, 10].map(Duration::from_millis));
}

#[tokio::test(start_paused = true)]
async fn an_invocation_is_killed_when_its_time_is_over_and_no_other_with_it() {
    let world = World::new();
    world.state().time_out = Duration::from_secs(4);
    world.fates(|call, _| match call.body.to_string().contains("deploy") {
        true => Fate::Late(Duration::from_secs(9)),
        false => Fate::Answered,
    });
    let event = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {}});
    let (first, second) = tokio::join!(world.invoke("deploy", &event), world.invoke("notify", &event));
    assert!(first.is_none() && second.is_some(), "{first:?} {second:?}");
    assert_eq!((world.seconds(), world.state().timed_out), (1_794_819_604.0, 1));
    assert_eq!(world.state().rejects.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_by_its_own_time_out_and_is_not_applied() {
    let world = with_services(&[]);
    world.fates(|_, number| if number == 0 { Fate::Hangs } else { Fate::Answered });
    let client = aws_sdk_ecs::Client::new(&sdk(&world));
    let hung = client.register_task_definition().family("web").send().await;
    assert!(matches!(hung, Err(SdkError::TimeoutError(_))), "{hung:?}");
    assert_eq!(world.seconds(), 1_794_819_610.0);
    assert_eq!(world.state().ecs.families["web"].len(), 1);
    let retried = aws_sdk_ecs::Client::new(&world.sdk());
    world.fates(|_, number| if number == 0 { Fate::Hangs } else { Fate::Answered });
    retried.register_task_definition().family("web").send().await.unwrap();
    let state = world.state();
    assert_eq!((state.ecs.families["web"].len(), state.calls.len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_image_leads_to_what_its_config_says() {
    let world = World::new();
    let [index, single] = DIGESTS;
    for (tag, digest) in [("index", index), ("single", single)] {
        world.state().ecr.push("tides/web", tag, digest, 100);
    }
    let (label, annotation) =
        [("org.opencontainers.image.revision", "abc"), ("org.opencontainers.image.source", "git")].into();
    world.state().ecr.image_mut("tides/web", index).be_index(&[label], &[annotation]);
    world.state().ecr.image_mut("tides/web", single).be_single(&[label], &[]);
    let client = aws_sdk_ecr::Client::new(&sdk(&world));
    let manifest = async |digest: &str| -> Value {
        let id = ImageIdentifier::builder().image_digest(digest).build();
        let got = client.batch_get_image().repository_name("tides/web").image_ids(id).send().await.unwrap();
        assert_eq!(got.images()[0].image_id().unwrap().image_digest(), Some(digest));
        serde_json::from_str(got.images()[0].image_manifest().unwrap()).unwrap()
    };
    let config = async |manifest: &Value| -> Value {
        let digest = manifest["config"]["digest"].as_str().unwrap();
        let layer = client.get_download_url_for_layer().repository_name("tides/web").layer_digest(digest);
        let url = layer.send().await.unwrap().download_url.unwrap();
        let (status, blob) = get(&world, &url).await;
        assert_eq!((status, world::ecr::digest_of(&blob).as_str()), (200, digest));
        assert_eq!(manifest["config"]["size"], blob.len());
        assert_eq!(get(&world, url.split('?').next().unwrap()).await.0, 403, "a URL is nothing without its signature");
        serde_json::from_str(&blob).unwrap()
    };
    let found = manifest(index).await;
    assert_eq!(found["annotations"], json!({annotation.0: annotation.1}));
    for (number, architecture, labels) in
        [(0, "amd64", json!({label.0: label.1})), (1, "arm64", json!({label.0: label.1})), (2, "unknown", json!(null))]
    {
        let child = manifest(found["manifests"][number]["digest"].as_str().unwrap()).await;
        let config = config(&child).await;
        assert_eq!((&config["architecture"], &config["config"]["Labels"]), (&json!(architecture), &labels));
    }
    let found = manifest(single).await;
    assert_eq!(config(&found).await["config"]["Labels"], json!({label.0: label.1}));
    let none = client.get_download_url_for_layer().repository_name("tides/web").layer_digest(single).send().await;
    assert_eq!(code(none), "LayersNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn logs_are_read_from_their_end_or_their_beginning() {
    let world = World::new();
    world.log("/tides", "web/1", &["one", "two", "three"]);
    let client = aws_sdk_cloudwatchlogs::Client::new(&sdk(&world));
    let ask = || client.get_log_events().log_group_name("/tides").log_stream_name("web/1").limit(2);
    let lines = |answer: &GetLogEventsOutput| -> Vec<String> {
        answer.events().iter().map(|event| event.message().unwrap().to_owned()).collect()
    };
    let last = ask().send().await.unwrap();
    assert_eq!(lines(&last), ["two", "three"]);
    assert_eq!(last.events()[0].timestamp(), Some(1_794_819_600_000));
    let earlier = ask().next_token(last.next_backward_token().unwrap()).send().await.unwrap();
    assert_eq!(lines(&earlier), ["one"]);
    let none = ask().next_token(earlier.next_backward_token().unwrap()).send().await.unwrap();
    assert_eq!((lines(&none).len(), none.next_backward_token()), (0, earlier.next_backward_token()));
    let first = ask().start_from_head(true).send().await.unwrap();
    assert_eq!(lines(&first), ["one", "two"]);
    let rest = ask().start_from_head(true).next_token(first.next_forward_token().unwrap()).send().await.unwrap();
    assert_eq!(lines(&rest), ["three"]);
    assert_eq!(code(ask().log_stream_name("web/2").send().await), "ResourceNotFoundException");
    assert_eq!(code(ask().limit(0).send().await), "InvalidParameterException");
}
