//! Deployments: rolled out, told of, and taken back.

use serde_json::{Value, json};
use sim::world::fleet::sweep;
use sim::world::{ACCOUNT, Fate, HOST, REGION, World};

use super::{Job, alarm, event, now, wait};

pub(super) const JOBS: &[Job] = &[
    ("a push, with everything that can be checked", || Box::pin(pushed())),
    ("a release goes live, and everybody is told", || Box::pin(live())),
    ("a rollout fails, and people are told why", || Box::pin(failed())),
    ("others deploy, and DORA's report is asked for", || Box::pin(others())),
    ("a rollout is stopped", || Box::pin(stopped())),
    ("what was good is deployed again, from a revision that was deregistered", || Box::pin(taken_back())),
    ("a rollout can't be stopped", || Box::pin(unstoppable())),
    ("a release that named a tag is deployed again", || Box::pin(resolved())),
    ("hundreds of decisions came since", || Box::pin(long_ago())),
    ("events that nobody can handle", || Box::pin(rejected())),
];

const WEB: &str = "production/web";
const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";
const NEW: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
const NEWER: &str = "sha256:7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tides/db-a1b2c3";

/// A service that runs [`OLD`], with all that can be checked and told.
fn furnished() -> World {
    let world = World::new();
    let mut state = world.state();
    state.other_sinks = true;
    let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/{name}");
    let options = json!({"awslogs-group": "/ecs/web", "awslogs-region": REGION, "awslogs-stream-prefix": "web"});
    state.ecs.register(&json!({
        "family": "web", "executionRoleArn": role("pull"), "taskRoleArn": role("task"),
        "runtimePlatform": {"operatingSystemFamily": "LINUX", "cpuArchitecture": "ARM64"},
        "containerDefinitions": [{
            "name": "web", "image": format!("{HOST}/tides/web@{OLD}"), "essential": true,
            "secrets": [{"name": "DB", "valueFrom": SECRET}, {"name": "KEY", "valueFrom": "/web/key"}],
            "logConfiguration": {"logDriver": "awslogs", "options": options},
        }],
        "tags": [{"key": "team", "value": "tides"}],
    }));
    let tags = [("tidegate:follow/tides/web", "tag:master"), ("tidegate:rollback-on/web-5xx", "yes")];
    state.ecs.add_service("production", "web", "web", &tags);
    state.roles.extend(["pull", "task"].map(str::to_owned));
    state.secrets.insert(SECRET.into(), false);
    state.parameters.insert("/web/key".into());
    state.alarms.insert("web-5xx".into(), "OK".into());
    state.ecr.push("tides/web", "v1", OLD, 1_794_000_000);
    drop(state);
    world
}

/// An image is pushed, and rolled out.
async fn push(world: &World, digest: &str) {
    deliver_push(world, digest).await;
    assert!(world.state().ecs.running(WEB).contains(digest));
}

/// An image is pushed, which says from which commit it is.
async fn deliver_push(world: &World, digest: &str) {
    let now = world.seconds() as u64;
    {
        let mut state = world.state();
        state.ecr.push("tides/web", "master", digest, now);
        let commit = [
            ("org.opencontainers.image.revision", digest),
            ("org.opencontainers.image.source", "https://github.com/tides/web"),
        ];
        state.ecr.image_mut("tides/web", digest).be_index(&commit, &[]);
    }
    let detail = json!({
        "result": "SUCCESS", "repository-name": "tides/web", "image-digest": digest, "action-type": "PUSH",
        "image-tag": "master",
    });
    world.deliver("deploy", &event(world, "aws.ecr", "ECR Image Action", "", &detail)).await.unwrap();
}

/// ECS says this of the deployment that it shows as PRIMARY.
fn says(world: &World, name: &str) -> Value {
    let id = world.state().ecs.services[WEB]["deployments"][0]["id"].clone();
    let detail = json!({"eventType": "INFO", "eventName": name, "deploymentId": id, "updatedAt": now(world)});
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{WEB}");
    event(world, "aws.ecs", "ECS Deployment State Change", &arn, &detail)
}

/// The schedules of `notify` and `rollback` come round for so many minutes.
async fn minutes(world: &World, count: u64) {
    for _ in 0..count {
        world.deliver("rollback", &sweep()).await.unwrap();
        world.deliver("notify", &sweep()).await.unwrap();
        wait(60).await;
    }
}

/// What is live is watched for its bake time.
async fn bakes(world: &World) {
    minutes(world, 1).await;
    wait(660).await;
    minutes(world, 2).await;
}

/// The newest rollout completes.
async fn completes(world: &World) {
    world.state().ecs.end_rollout(WEB, "COMPLETED");
    world.state().ecs.drain(WEB);
    world.deliver("notify", &says(world, "SERVICE_DEPLOYMENT_COMPLETED")).await.unwrap();
}

async fn pushed() -> World {
    let world = furnished();
    push(&world, NEW).await;
    world.deliver("deploy", &sweep()).await.unwrap();
    let arn = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{WEB}");
    let tagged = json!({"changed-tag-keys": ["tidegate:hold"], "service": "ecs", "resource-type": "service"});
    world.deliver("deploy", &event(&world, "aws.tag", "Tag Change on Resource", &arn, &tagged)).await.unwrap();
    world
}

/// [`NEW`] is live and proven good.
async fn live() -> World {
    let world = furnished();
    push(&world, NEW).await;
    world.deliver("notify", &says(&world, "SERVICE_DEPLOYMENT_IN_PROGRESS")).await.unwrap();
    wait(60).await;
    completes(&world).await;
    bakes(&world).await;
    world
}

async fn failed() -> World {
    let world = furnished();
    push(&world, NEW).await;
    let task = world.state().ecs.stop_task(WEB, &json!({}));
    world.state().ecs.tasks.get_mut(WEB).unwrap()[0]["containers"][0]["exitCode"] = json!(1);
    world.log("/ecs/web", &format!("web/web/{}", task.rsplit('/').next().unwrap()), &["no route to database"]);
    let event = says(&world, "SERVICE_DEPLOYMENT_FAILED");
    world.state().ecs.roll_back(WEB);
    world.deliver("rollback", &event).await.unwrap();
    world.deliver("notify", &event).await.unwrap();
    minutes(&world, 3).await;
    // A person lets it be deployed again.
    let released = json!({"service": WEB, "digest": NEW, "actor": "ana"});
    world.deliver("deploy", &asked(&world, "Release", &released)).await.unwrap();
    world
}

fn asked(world: &World, kind: &str, detail: &Value) -> Value {
    event(world, "tidegate", kind, "", detail)
}

async fn others() -> World {
    let world = live().await;
    let now = world.seconds();
    {
        let mut state = world.state();
        let revision = state.ecs.newest("web").replace(":2", ":1");
        state.ecs.deploy_by_others(WEB, &revision, now, "COMPLETED");
    }
    world.deliver("notify", &says(&world, "SERVICE_DEPLOYMENT_COMPLETED")).await.unwrap();
    minutes(&world, 2).await;
    world.deliver("notify", &asked(&world, "Report", &json!({"days": 28}))).await.unwrap();
    world
}

/// The alarm goes off, and the functions are told.
async fn alarms(world: &World) {
    let since = world.seconds() + 0.001;
    world.state().alarms.insert("web-5xx".into(), "ALARM".into());
    world.state().alarms_since.insert("web-5xx".into(), since);
    let event = alarm(world, "web-5xx", "AWS/ApplicationELB", &json!({}));
    world.deliver("rollback", &event).await.unwrap();
    world.state().alarms.insert("web-5xx".into(), "OK".into());
}

async fn stopped() -> World {
    let world = live().await;
    push(&world, NEWER).await;
    wait(60).await;
    alarms(&world).await;
    assert_eq!(world.count("StopServiceDeployment"), 1);
    minutes(&world, 3).await;
    world
}

async fn taken_back() -> World {
    let world = live().await;
    let good = world.state().ecs.newest("web");
    push(&world, NEWER).await;
    completes(&world).await;
    wait(60).await;
    world.state().ecs.deregister(&good);
    alarms(&world).await;
    completes(&world).await;
    bakes(&world).await;
    assert!(world.state().ecs.running(WEB).contains(NEW));
    world
}

async fn unstoppable() -> World {
    let world = live().await;
    push(&world, NEWER).await;
    wait(60).await;
    world.fates(|call, _| match call.operation == "StopServiceDeployment" {
        true => Fate::Refused(400, "ConflictException"),
        false => Fate::Answered,
    });
    alarms(&world).await;
    world
}

/// Somebody has deployed a tag; ECS knows what it stood for.
async fn resolved() -> World {
    let world = furnished();
    {
        let mut state = world.state();
        let definition = &mut state.ecs.families.get_mut("web").unwrap()[0]["taskDefinition"];
        definition["containerDefinitions"][0]["image"] = json!(format!("{HOST}/tides/web:v1"));
        state.ecs.resolved.insert("ecs-svc/1".into(), OLD.into());
    }
    push(&world, NEW).await;
    wait(60).await;
    completes(&world).await;
    wait(60).await;
    // Its tasks fail.
    for _ in 0..3 {
        let failed = json!({"containers": [{"name": "web", "exitCode": 1, "lastStatus": "STOPPED"}]});
        world.state().ecs.stop_task(WEB, &failed);
    }
    minutes(&world, 1).await;
    alarms(&world).await;
    assert!(world.state().ecs.running(WEB).contains(OLD));
    world
}

/// More than a look at the history reads.
async fn long_ago() -> World {
    let world = live().await;
    {
        let mut state = world.state();
        let tags = [("tidegate:follow/tides/web", "tag:master"), ("tidegate:hold", "freeze")];
        state.ecs.set_tags(WEB, &tags);
    }
    for number in 0..30 {
        wait(60).await;
        deliver_push(&world, &format!("sha256:{number:064x}")).await;
    }
    world.deliver("notify", &says(&world, "SERVICE_DEPLOYMENT_COMPLETED")).await.unwrap();
    let asked_back = json!({"service": WEB, "reason": "checkout is broken", "actor": "ana"});
    world.deliver("rollback", &asked(&world, "Rollback", &asked_back)).await.unwrap();
    world
}

/// Of every function, also of those that scale.
async fn rejected() -> World {
    let world = World::new();
    for function in ["deploy", "notify", "rollback", "scale-service", "scale-cluster"] {
        let before = world.state().rejects.len();
        world.deliver(function, &json!({"source": "nobody", "detail-type": "Nothing", "detail": {}})).await.unwrap();
        assert_eq!(world.state().rejects.len(), before + 1, "{function}");
    }
    world
}
