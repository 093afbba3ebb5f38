//! Which image a service gets under its policy, whatever the events say and in whatever order they come.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::checks::{sweep, tagged};
use crate::world::{HOST, Image, State, World};
use crate::{NEW, NEWER, OLD, decision, image, push, pushed, records};

const SIGNATURE: &str = "sha256-4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945.sig";
const CHART: &str = "application/vnd.cncf.helm.config.v1+json";

/// Images by tag, digest and the time of their push.
type Images<'a> = &'a [(&'a str, &'a str, u64)];

/// Name, policy, images, what the event says was pushed, and the digest that runs in the end.
type Choice<'a> = (&'a str, &'a str, Images<'a>, (&'a str, &'a str), &'a str);

/// `production/web` runs [`OLD`] and follows `tides/web` by `policy`; the repository holds `images` alone.
fn following(policy: &str, images: Images<'_>) -> World {
    let world = pushed();
    let mut state = world.state();
    state.ecr.repositories.get_mut("tides/web").unwrap().clear();
    state.ecs.set_tags("production/web", &[("tidegate:follow/tides/web", policy)]);
    images.iter().for_each(|(tag, digest, at)| state.ecr.push("tides/web", tag, digest, *at));
    drop(state);
    world
}

fn pushed_to(repository: &str, tag: &str, digest: &str) -> Value {
    let mut event = push(digest);
    (event["detail"]["repository-name"], event["detail"]["image-tag"]) = (json!(repository), json!(tag));
    event
}

fn pushed_as(tag: &str, digest: &str) -> Value {
    pushed_to("tides/web", tag, digest)
}

/// The containers' images of what a service's PRIMARY deployment runs.
fn images_of(state: &State, service: &str) -> Vec<String> {
    let arn = state.ecs.services[service]["deployments"][0]["taskDefinition"].as_str().unwrap();
    let (family, revision) = arn.rsplit('/').next().unwrap().split_once(':').unwrap();
    let revision = &state.ecs.families[family][revision.parse::<usize>().unwrap() - 1];
    let containers = revision["taskDefinition"]["containerDefinitions"].as_array().unwrap();
    containers.iter().map(|container| container["image"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_is_moved_back_brings_the_older_image_back() {
    let world = following("tag:master", &[("v1", OLD, 100), ("master", NEW, 200)]);
    world.deliver("deploy", &push(NEW)).await.unwrap();
    world.state().ecs.end_rollout("production/web", "COMPLETED");
    world.state().ecr.push("tides/web", "master", OLD, 300);
    for event in [push(OLD), push(NEW), sweep()] {
        world.deliver("deploy", &event).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(OLD));
    }
    assert_eq!((records(&world).len(), world.count("UpdateService")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_late_event_of_an_older_push_deploys_what_the_tag_points_to_now() {
    let world = following("tag:master", &[("master", NEW, 100), ("master", NEWER, 200)]);
    for digest in [NEW, NEWER, NEW] {
        world.deliver("deploy", &push(digest)).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(NEWER));
    }
    assert_eq!(records(&world).len(), 1);
}

/// What one push of a signed image for two platforms under three tags sends, to a registry that scans and replicates.
fn burst() -> Vec<Value> {
    let [mut child, mut attestation, mut signature, mut replicated] = [(); 4].map(|()| push(NEW));
    for (event, digit) in [(&mut child, "1"), (&mut attestation, "a")] {
        event["detail"]["image-digest"] = json!(format!("sha256:{}", digit.repeat(64)));
        event["detail"]["image-tag"] = json!("");
    }
    signature["detail"]["image-digest"] = json!(NEWER);
    signature["detail"]["image-tag"] = json!(SIGNATURE);
    replicated["detail-type"] = json!("ECR Replication Action");
    replicated["detail"]["action-type"] = json!("REPLICATE");
    let mut scanned = push(NEW);
    scanned["detail-type"] = json!("ECR Image Scan");
    let tags = ["master", "latest", "main-42"].map(|tag| pushed_as(tag, NEW));
    [vec![child, attestation, signature, replicated, scanned], tags.into()].concat()
}

#[tokio::test(start_paused = true)]
async fn the_many_events_of_one_push_in_any_order_and_twice_make_one_rollout_for_each_service() {
    for seed in 0..6 {
        let images = [("master", NEW, 100), ("latest", NEW, 100), ("main-42", NEW, 100), (SIGNATURE, NEWER, 200)];
        let world = following("tag:master", &images);
        for (cluster, name, policy) in [
            ("production", "by-latest", "tag:latest"),
            ("production", "by-prefix", "prefix:main-"),
            ("staging", "by-any", "any"),
        ] {
            world.state().ecs.add_service(cluster, name, "web", &[("tidegate:follow/tides/web", policy)]);
        }
        let mut events = [burst(), burst()].concat();
        fastrand::Rng::with_seed(seed).shuffle(&mut events);
        match seed % 2 {
            0 => drop(join_all(events.iter().map(|event| world.deliver("deploy", event))).await),
            _ => {
                for event in &events {
                    world.deliver("deploy", event).await.unwrap();
                }
            }
        }
        let running = ["production/web", "production/by-latest", "production/by-prefix", "staging/by-any"]
            .map(|service| world.state().ecs.running(service));
        assert_eq!(running, [(); 4].map(|()| image(NEW)), "seed {seed}");
        assert_eq!((records(&world).len(), world.count("UpdateService")), (4, 4), "seed {seed}");
        let states: Vec<Value> = records(&world).iter().map(|record| record["state"].clone()).collect();
        assert_eq!((states, world.state().rejects.len()), (vec![json!("rolling"); 4], 0), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_policy_selects_its_image_and_not_the_pushed_one() {
    let cases: &[Choice<'_>] = &[
        (
            "the newest under the prefix",
            "prefix:main-",
            &[("main-1", NEW, 100), ("main-2", NEWER, 200)],
            ("main-1", NEW),
            NEWER,
        ),
        (
            "a build pushed late is the newest",
            "prefix:main-",
            &[("main-1", NEWER, 300), ("main-2", NEW, 200)],
            ("main-1", NEWER),
            NEWER,
        ),
        (
            "a tag put on an old image",
            "prefix:main-",
            &[("main-1", NEW, 100), ("main-2", NEWER, 200), ("main-3", NEW, 300)],
            ("main-3", NEW),
            NEWER,
        ),
        ("another prefix", "prefix:main-", &[("main-1", OLD, 100), ("pr-1", NEW, 200)], ("pr-1", NEW), OLD),
        (
            "the highest, and not the newest",
            "semver:1.x",
            &[("1.10.0", NEW, 200), ("1.9.0", NEWER, 300)],
            ("1.9.0", NEWER),
            NEW,
        ),
        ("a lower version", "semver:1.x", &[("1.4.0", OLD, 100), ("1.3.9", NEW, 200)], ("1.3.9", NEW), OLD),
        ("out of the range", "semver:1.x", &[("1.4.0", OLD, 100), ("2.0.0", NEW, 200)], ("2.0.0", NEW), OLD),
        ("a pre-release", "semver:any", &[("1.4.0", OLD, 100), ("2.0.0-rc.1", NEW, 200)], ("2.0.0-rc.1", NEW), OLD),
        ("a hash of digits", "semver:any", &[("1.4.0", OLD, 100), ("1234567", NEW, 200)], ("1234567", NEW), OLD),
        ("a date", "semver:any", &[("1.4.0", OLD, 100), ("20261116", NEW, 200)], ("20261116", NEW), OLD),
        (
            "a date with points and zeros",
            "semver:any",
            &[("1.4.0", OLD, 100), ("2026.01.05", NEW, 200)],
            ("2026.01.05", NEW),
            OLD,
        ),
        ("a leading v", "semver:1.4.x", &[("1.4.0", OLD, 100), ("v1.4.1", NEW, 200)], ("v1.4.1", NEW), NEW),
        ("the version pushed again", "semver:1.x", &[("1.4.0", OLD, 100), ("1.4.0", NEW, 200)], ("1.4.0", NEW), NEW),
        ("the newest of all", "any", &[("pr-1", NEW, 100), ("feature", NEWER, 200)], ("pr-1", NEW), NEWER),
        ("a signature", "any", &[("pr-1", NEW, 100), (SIGNATURE, NEWER, 200)], ("pr-1", NEW), NEW),
    ];
    for (name, policy, images, (tag, digest), expected) in cases {
        let world = following(policy, images);
        let event = pushed_as(tag, digest);
        for event in [event.clone(), event, sweep()] {
            world.deliver("deploy", &event).await.unwrap();
            assert_eq!(world.state().ecs.running("production/web"), image(expected), "{name}");
        }
        assert_eq!(world.count("UpdateService"), usize::from(*expected != OLD), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_helm_chart_in_the_same_repository_is_no_image_for_any_policy() {
    for (policy, tag) in [("any", "1.4.0"), ("semver:any", "1.4.0"), ("prefix:1", "1.4.0")] {
        let world = following(policy, &[(tag, NEW, 100), ("1.5.0", NEWER, 200)]);
        world.state().ecr.image_mut("tides/web", NEWER).artifact_media_type = Some(CHART.into());
        let mut chart = pushed_as("1.5.0", NEWER);
        chart["detail"]["artifact-media-type"] = json!(CHART);
        let response = world.deliver("deploy", &chart).await.unwrap();
        assert!(decision(&response)["reason"].as_str().unwrap().contains("not a container image"), "{response}");
        assert_eq!(world.count("UpdateService"), 0, "{policy}");
        // As ECR sends it when it does not know what it is.
        world.deliver("deploy", &pushed_as("1.5.0", NEWER)).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_never_leads_down_when_the_highest_version_is_gone() {
    type Loss = fn(&mut State);
    let losses: [(&str, Loss); 3] = [
        ("it was deleted, or the listing is short", |state| {
            state.ecr.repositories.get_mut("tides/web").unwrap().remove(NEW);
        }),
        ("it lost its tag", |state| state.ecr.untag("tides/web", "1.5.0")),
        ("it was archived", |state| state.ecr.image_mut("tides/web", NEW).archived = true),
    ];
    for (name, loss) in losses {
        let world = following("semver:1.x", &[("1.4.0", OLD, 100), ("1.5.0", NEW, 200)]);
        world.deliver("deploy", &pushed_as("1.5.0", NEW)).await.unwrap();
        world.state().ecs.end_rollout("production/web", "COMPLETED");
        loss(&mut world.state());
        world.state().ecr.push("tides/web", "1.4.1", NEWER, 300);
        for event in [pushed_as("1.4.1", NEWER), sweep(), sweep()] {
            world.deliver("deploy", &event).await.unwrap();
            assert_eq!(world.state().ecs.running("production/web"), image(NEW), "{name}");
        }
        let records = records(&world);
        assert_eq!((records.len(), &records[1]["state"]), (2, &json!("skipped")), "{name}");
        assert!(records[1]["reason"].as_str().unwrap().contains("follow tag:1.4.1"), "{name}: {}", records[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_image_is_found_on_every_page_of_a_large_repository() {
    let digest = |number: u64| format!("sha256:{number:064x}");
    for (policy, at) in [("prefix:main-", 0), ("prefix:main-", 1_500), ("any", 2_499), ("semver:any", 2_499)] {
        let world = following(policy, &[("main-", &digest(0), 0)]);
        let template = world.state().ecr.image_mut("tides/web", &digest(0)).clone();
        for number in 0..2_500 {
            let tag = if policy == "semver:any" { format!("1.{number}.0") } else { format!("main-{number}") };
            let pushed_at = 1_000_000 + if number == at { 10_000 } else { number };
            let image = Image { digest: digest(number), tags: [tag].into(), pushed_at, ..template.clone() };
            world.state().ecr.repositories.get_mut("tides/web").unwrap().insert(digest(number), image);
        }
        let tag = if policy == "semver:any" { "1.7.0" } else { "main-7" };
        world.deliver("deploy", &pushed_as(tag, &digest(7))).await.unwrap();
        assert_eq!(world.state().ecs.running("production/web"), image(&digest(at)), "{policy}");
        assert_eq!((world.count("DescribeImages"), world.count("UpdateService")), (3, 1), "{policy}");
    }
}

/// `production/web` follows the images of two of its three containers.
fn of_two_repositories() -> World {
    let world = pushed();
    let mut state = world.state();
    let containers = &mut state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"]["containerDefinitions"];
    let worker = json!({"name": "worker", "image": format!("{HOST}/tides/worker:first"), "essential": true});
    containers.as_array_mut().unwrap().push(worker);
    let follow = [("tidegate:follow/tides/web", "master"), ("tidegate:follow/tides/worker", "prefix:main-")];
    state.ecs.set_tags("production/web", &follow);
    state.ecr.push("tides/worker", "main-7", NEWER, 100);
    drop(state);
    world
}

#[tokio::test(start_paused = true)]
async fn a_service_that_follows_two_repositories_ends_up_with_both_images_and_its_own_sidecar() {
    let events = [push(NEW), pushed_to("tides/worker", "main-7", NEWER)];
    let expected = [image(NEW), "public.ecr.aws/envoy/envoy:v1.31".into(), format!("{HOST}/tides/worker@{NEWER}")];
    for (name, events) in [
        ("both pushes at once", events.to_vec()),
        ("and twice", [events.clone(), events.clone()].concat()),
        ("a change of its tags", vec![tagged("production/web")]),
        ("a sweep", vec![sweep()]),
    ] {
        let world = of_two_repositories();
        let delivered = join_all(events.iter().map(|event| world.deliver("deploy", event))).await;
        assert!(delivered.iter().all(Result::is_ok), "{name}: {delivered:?}");
        assert_eq!(images_of(&world.state(), "production/web"), expected, "{name}");
        assert_eq!((world.count("UpdateService"), records(&world).len()), (2, 2), "{name}");
        for record in records(&world) {
            assert!(record.get("changed_by_others").is_none(), "{name}: it was nobody but us: {record}");
        }
        world.deliver("deploy", &sweep()).await.unwrap();
        assert_eq!(world.count("UpdateService"), 2, "{name}: a sweep finds nothing to do");
    }
}

#[tokio::test(start_paused = true)]
async fn one_repository_is_followed_differently_in_staging_and_production() {
    let world = following("semver:1.x", &[("1.4.0", OLD, 100), ("pr-7", NEW, 200)]);
    world.state().ecs.add_service("staging", "web", "web", &[("tidegate:follow/tides/web", "any")]);
    let running = |world: &World| ["staging/web", "production/web"].map(|service| world.state().ecs.running(service));
    let response = world.deliver("deploy", &pushed_as("pr-7", NEW)).await.unwrap();
    assert_eq!(running(&world), [image(NEW), image(OLD)]);
    let rules: Vec<&Value> = response["decisions"].as_array().unwrap().iter().map(|it| &it["service"]).collect();
    assert_eq!(rules, ["production/web", "staging/web"], "both get an answer");

    world.state().ecr.push("tides/web", "1.5.0", NEWER, 300);
    world.deliver("deploy", &pushed_as("1.5.0", NEWER)).await.unwrap();
    assert_eq!(running(&world), [image(NEWER), image(NEWER)]);
}

#[tokio::test(start_paused = true)]
async fn a_repository_is_its_whole_name_with_every_slash() {
    const NAMES: [&str; 3] = ["web", "a/web", "team/a/web"];
    let world = pushed();
    let containers = NAMES.map(|name| json!({"name": name, "image": format!("{HOST}/{name}:1")}));
    world.state().ecs.register(&json!({"family": "deep", "containerDefinitions": containers}));
    let follow = [("tidegate:follow/team/a/web", "master")];
    world.state().ecs.add_service("production", "deep", "deep", &follow);
    for name in NAMES {
        world.state().ecr.push(name, "master", NEW, 100);
        world.deliver("deploy", &pushed_to(name, "master", NEW)).await.unwrap();
    }
    let expected = [format!("{HOST}/web:1"), format!("{HOST}/a/web:1"), format!("{HOST}/team/a/web@{NEW}")];
    assert_eq!(images_of(&world.state(), "production/deep"), expected);
    assert_eq!(records(&world).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn in_a_replica_region_the_end_of_the_replication_deploys_its_own_copy() {
    let world = following("tag:master", &[("master", NEW, 100)]);
    let elsewhere = format!("{HOST}/tides/web:master").replace("eu-west-1", "eu-central-1");
    let containers = json!([{"name": "web", "image": elsewhere}]);
    world.state().ecs.register(&json!({"family": "far", "containerDefinitions": containers}));
    world.state().ecs.add_service("production", "far", "far", &[("tidegate:follow/tides/web", "master")]);
    let mut event = push(NEW);
    event["detail-type"] = json!("ECR Replication Action");
    event["detail"]["action-type"] = json!("REPLICATE");
    event["detail"]["result"] = json!("FAILED");
    world.deliver("deploy", &event).await.unwrap();
    assert_eq!(world.count("UpdateService"), 0, "there is nothing to pull");

    event["detail"]["result"] = json!("SUCCESS");
    let response = world.deliver("deploy", &event).await.unwrap();
    assert_eq!(world.state().ecs.running("production/web"), image(NEW));
    assert_eq!(world.state().ecs.running("production/far"), elsewhere, "that image is of another registry");
    assert_eq!(response["decisions"][0]["rule"], "no-container", "{response}");
}
