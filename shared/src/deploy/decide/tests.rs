//! Every rule with a situation that it decides, and the table of them.

use std::fmt::Write as _;
use std::path::Path;

use super::super::preflight::{self, Findings};
use super::*;
use crate::dependencies::{Dependency, Existence};
use crate::ecr::Image;
use crate::ecs::service_with;
use crate::events::ImageAction;
use crate::manifest::Platforms;
use crate::record::tests::{NowForTests, record};
use crate::record::{Guard, ServiceItem, millis};
use serde_json::{Value, json};

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";
const NEW: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
const OTHER: &str = "sha256:7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730";
const INDEX: &str = r#"{"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}"#;

/// A situation in which the followed tag leads to a deployment; each test changes one thing.
#[derive(Clone)]
struct Situation {
    origin: Origin,
    service: Value,
    tags: Vec<(String, String)>,
    candidate: Candidate,
    listing: Vec<Image>,
    base: Option<Value>,
    base_tags: Value,
    alarms: AlarmStates,
    history: History,
    findings: Findings,
}

fn situation() -> Situation {
    Situation {
        origin: Origin::Push,
        service: json!({
            "status": "ACTIVE", "deployments": [{"id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": "web:7"}],
        }),
        tags: vec![("tidegate:follow/tides/web".into(), "tag:master".into())],
        candidate: candidate("master", NEW),
        listing: Vec::new(),
        base: Some(fargate(&format!("{HOST}/tides/web@{OLD}"))),
        base_tags: json!([]),
        alarms: AlarmStates::default(),
        history: History::default(),
        findings: Findings { platforms: crate::manifest::read(None, INDEX), dependencies: [].into() },
    }
}

fn fargate(image: &str) -> Value {
    json!({"requiresCompatibilities": ["FARGATE"], "containerDefinitions": [{"name": "web", "image": image}]})
}

fn image(tags: &[&str], digest: &str) -> Image {
    Image {
        digest: digest.into(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        pushed_at: None,
        manifest_media_type: None,
        artifact_media_type: None,
    }
}

fn candidate(tag: &str, digest: &str) -> Candidate {
    Candidate::Image { image: image(&[tag], digest), tag: tag.into() }
}

/// What keeps deployments away after this one.
fn guard(last: &Record) -> Guard {
    if last.has_gone_bad() { Guard::default().with(last, Utc::now_for_tests()) } else { Guard::default() }
}

/// ECS has not even accepted the attempt.
fn refused(it: &mut Situation) {
    it.history.records[0].ecs_deployment_id = None;
    it.history.guard = Guard::default();
}

fn repository() -> EcrRepository {
    EcrRepository { account: "123456789012".into(), region: "eu-west-1".into(), name: "tides/web".into() }
}

impl Situation {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn follows(self, policy: &str) -> Self {
        self.with(|it| it.tags[0].1 = policy.into())
    }

    fn tagged(self, key: &str, value: &str) -> Self {
        self.with(|it| it.tags.push((key.into(), value.into())))
    }

    fn runs(self, image: &str) -> Self {
        self.with(|it| it.base = Some(fargate(image)))
    }

    /// The table knows of an attempt for the new digest.
    fn attempted(self, state: State, lease: TimeDelta) -> Self {
        let mut record = record(state);
        record.reason = "ECS deployment circuit breaker: tasks failed to start.".into();
        let item = ServiceItem {
            generation: 3,
            record: record.id.clone(),
            digest: record.digest.clone(),
            lease_until: millis(Utc::now_for_tests() + lease),
            ..ServiceItem::default()
        };
        self.with(|it| {
            it.history =
                History { item: Some(item), guard: guard(&record), records: vec![record], ..History::default() }
        })
    }

    fn base(&self) -> Option<TaskDefinition> {
        let mut definition = self.base.clone()?;
        definition["taskDefinitionArn"] = "web:7".into();
        let answer = json!({"taskDefinition": definition, "tags": self.base_tags});
        Some(TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", answer).unwrap())
    }

    fn decide(&self) -> Verdict {
        let mut service = self.service.clone();
        service["tags"] = self.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        decide(&Observed {
            origin: self.origin,
            repository: &repository(),
            service: &service_with(service),
            selection: &Selection { candidate: self.candidate.clone(), listing: self.listing.clone() },
            base: self.base().as_ref(),
            alarms: &self.alarms,
            history: &self.history,
            now: Utc::now_for_tests(),
        })
    }

    /// Rule, decision and reason, with the checks that come after the decision.
    fn outcome(&self) -> (&'static str, &'static str, String) {
        match self.decide() {
            Verdict::Skip(skip) => (skip.rule(), "skip", skip.to_string()),
            Verdict::Wait => ("busy", "wait", "another invocation is at work on the service".into()),
            Verdict::Adopt { .. } => ("adopt", "record", "the deployment was started and not written down".into()),
            Verdict::Deploy(plan) => match preflight::judge(&self.base().unwrap(), &self.findings) {
                Err(skip) => (skip.rule(), "skip", skip.to_string()),
                Ok(notes) => {
                    let notes: Vec<String> = plan.notes.iter().chain(&notes).cloned().collect();
                    let noted = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
                    ("deploy", "deploy", format!("{}{noted}", plan.reason()))
                }
            },
        }
    }
}

/// Every rule, with a situation that it decides. The table in `DECISIONS.md` is made of it.
fn situations() -> Vec<(&'static str, &'static str, Situation)> {
    let primary = |fields: Value| {
        let mut deployment =
            json!({"id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": "web:7", "createdAt": 1.0});
        deployment.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        deployment
    };
    let rolling_back = json!({"status": "ACTIVE", "deployments": [
        primary(json!({"rolloutState": "IN_PROGRESS"})),
        {"id": "ecs-svc/2", "status": "ACTIVE", "rolloutState": "FAILED", "createdAt": 2.0},
    ]});
    let superseding = json!({"status": "ACTIVE", "deployments": [
        primary(json!({"rolloutState": "IN_PROGRESS"})),
        {"id": "ecs-svc/0", "status": "ACTIVE", "rolloutState": "COMPLETED", "createdAt": 0.5},
    ]});
    let firing = AlarmStates { firing: ["web-5xx".to_owned()].into(), ..AlarmStates::default() };
    let no_alarm = AlarmStates { missing: ["web-5xx".to_owned()].into(), ..AlarmStates::default() };
    let dependency = |existence| [(Dependency::Role("arn:aws:iam::123456789012:role/pull".into()), existence)].into();
    let versions = vec![image(&["1.4.2"], NEW), image(&["1.5.0"], OLD)];
    let arm = json!({"runtimePlatform": {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{OLD}")}]});
    let expired = -TimeDelta::seconds(1);
    let held = TimeDelta::seconds(30);
    vec![
        ("deploy", "the followed tag points to a new digest", situation()),
        ("deploy", "the newest image of a prefix is new", situation().follows("prefix:main-").with(|it| it.candidate = candidate("main-42", NEW))),
        ("deploy", "the newest image of the repository is new", situation().follows("any").with(|it| it.candidate = candidate("pr-7", NEW))),
        ("deploy", "a higher version of the range was pushed", situation().follows("semver:1.x").runs(&format!("{HOST}/tides/web:1.3.9")).with(|it| it.candidate = candidate("1.4.0", NEW))),
        ("deploy", "the version that runs was pushed again", situation().follows("semver:1.x").runs(&format!("{HOST}/tides/web:1.4.0")).with(|it| it.candidate = candidate("1.4.0", NEW))),
        ("deploy", "the followed tag was moved back to an older image", situation().with(|it| it.listing = vec![image(&["1.0.0"], NEW)])),
        ("deploy", "the task definition names the tag and not yet the digest", situation().runs(&format!("{HOST}/tides/web:master"))),
        ("deploy", "a rollout of another image is in progress: it is superseded", situation().with(|it| it.service = superseding)),
        ("deploy", "the digest ran here before, and well", situation().attempted(State::Succeeded, expired)),
        ("deploy", "ECS refused the last attempt, and the push is replayed", situation().attempted(State::Failed, expired).with(refused)),
        ("deploy", "the lease of a handler that died has expired", situation().attempted(State::Intended, expired)),
        ("deploy", "the task definition names no platform, and may run anywhere", situation().with(|it| {
            it.base = Some(json!({"containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{OLD}")}]}));
        })),
        ("deploy", "the image names no platform", situation().with(|it| it.findings.platforms = Platforms::Single)),
        ("deploy", "asking for the role is not allowed", situation().with(|it| it.findings.dependencies = dependency(Existence::CannotTell("GetRole was denied".into())))),
        ("deploy", "a rollback alarm does not exist", situation().with(|it| it.alarms = no_alarm)),
        ("already-runs", "the service runs the digest", situation().runs(&format!("{HOST}/tides/web@{NEW}"))),
        ("adopt", "the handler died after UpdateService", situation().attempted(State::Intended, expired).runs(&format!("{HOST}/tides/web@{NEW}"))),
        ("busy", "another handler has the lease", situation().attempted(State::Intended, held)),
        ("busy", "ECS does not show yet what it has just accepted", situation().attempted(State::Rolling, expired).with(|it| it.history.records[0].started_at = Some(Utc::now_for_tests()))),
        ("not-active", "the service is being deleted", situation().with(|it| it.service["status"] = "DRAINING".into())),
        ("tags", "a tag can't be read", situation().tagged("tidegate:mode", "atuo")),
        ("tags", "a tag is misspelt", situation().tagged("tidegate:holld", "freeze")),
        ("tags", "the policy is no policy", situation().follows("semver:1.4")),
        ("not-following", "the follow tag was removed", situation().with(|it| it.tags.clear())),
        ("controller", "CodeDeploy deploys the service", situation().with(|it| it.service["deploymentController"] = json!({"type": "CODE_DEPLOY"}))),
        ("controller", "the service has an external controller", situation().with(|it| it.service["deploymentController"] = json!({"type": "EXTERNAL"}))),
        ("no-repository", "the repository does not exist", situation().with(|it| it.candidate = Candidate::NoRepository)),
        ("nothing-selected", "the followed tag does not exist", situation().with(|it| it.candidate = Candidate::Nothing)),
        ("nothing-selected", "no version is in the range", situation().follows("semver:2.x").with(|it| it.candidate = Candidate::Nothing)),
        ("archived", "the image is in ECR's archive", situation().with(|it| it.candidate = Candidate::Archived)),
        ("not-an-image", "the tag names a Helm chart", situation().with(|it| {
            let mut chart = image(&["master"], NEW);
            chart.artifact_media_type = Some("application/vnd.cncf.helm.config.v1+json".into());
            it.candidate = Candidate::Image { image: chart, tag: "master".into() };
        })),
        ("no-primary", "the service has no PRIMARY deployment", situation().with(|it| it.service["deployments"] = json!([]))),
        ("revision-gone", "the revision that runs was deleted", situation().with(|it| it.base = None)),
        ("no-container", "no container is of the repository", situation().runs("envoyproxy/envoy:v1")),
        ("held", "the service is held", situation().tagged("tidegate:hold", "holiday freeze")),
        ("downgrade", "the highest version to be found is lower than what runs", situation().follows("semver:1.x").with(|it| (it.candidate, it.listing) = (candidate("1.4.2", NEW), versions.clone()))),
        ("quarantine", "the digest's rollout failed", situation().attempted(State::Failed, expired)),
        ("quarantine", "ECS has gone back, and its events have not come", situation().attempted(State::Rolling, expired)),
        ("quarantine", "the digest was rolled back", situation().attempted(State::RolledBack, expired)),
        ("deploy", "the digest was rolled back, and then released", situation().attempted(State::RolledBack, expired).with(|it| it.history.guard = it.history.guard.without(NEW))),
        ("deploy", "another digest was rolled back", situation().attempted(State::RolledBack, expired).with(|it| it.candidate = candidate("master", OTHER))),
        ("stopped", "too many deployments were taken back in a short time", situation().attempted(State::RolledBack, expired).with(|it| {
            it.candidate = candidate("master", OTHER);
            it.history.guard = it.history.guard.holding("3 deployments were taken back within an hour", Utc::now_for_tests());
        })),
        ("refused", "ECS refused the last attempt, and the sweep comes by", situation().attempted(State::Failed, expired).with(|it| {
            refused(it);
            it.origin = Origin::Sweep;
            it.history.records[0].reason = "UpdateService for production/web failed: AccessDeniedException".into();
            it.history.records[0].finished_at = Some(Utc::now_for_tests() - TimeDelta::minutes(5));
        })),
        ("taken-back", "somebody went back to another image by hand", situation().attempted(State::Superseded, expired).with(|it| {
            it.service["deployments"][0]["createdAt"] = (Utc::now_for_tests().timestamp() as f64).into();
        })),
        ("deploy", "somebody went back by hand, and then the tag was moved to an image from before", situation().attempted(State::Superseded, expired).with(|it| {
            it.service["deployments"][0]["createdAt"] = (Utc::now_for_tests().timestamp() as f64).into();
            let newer = Record { id: "01JD8Z6W3Q0K8T4Y5V9N2R7XAC".into(), digest: "sha256:7d86".into(), ..it.history.records[0].clone() };
            it.history.records.insert(0, newer);
        })),
        ("deploy", "somebody went back by hand, and now the service's tags are changed", situation().attempted(State::Superseded, expired).with(|it| {
            it.origin = Origin::Tags;
            it.service["deployments"][0]["createdAt"] = (Utc::now_for_tests().timestamp() as f64).into();
        })),
        ("rolling-back", "ECS is going back to the deployment before", situation().with(|it| it.service = rolling_back)),
        ("alarm", "a rollback alarm is in ALARM", situation().with(|it| it.alarms = firing.clone())),
        ("deploy", "a rollback alarm is in ALARM, and what runs has gone bad", situation().attempted(State::Failed, expired).with(|it| {
            it.history.records[0].ecs_deployment_id = Some("ecs-svc/1".into());
            it.candidate = candidate("master", OTHER);
            it.alarms = firing.clone();
        })),
        ("too-large", "the document would be too large", situation().with(|it| {
            it.base = Some(json!({"containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{OLD}"), "command": ["x".repeat(66_000)]}]}));
        })),
        ("platform", "the image lacks the platform", situation().with(|it| it.base = Some(arm))),
        ("dependencies", "the execution role was deleted", situation().with(|it| it.findings.dependencies = dependency(Existence::Missing("the role pull does not exist".into())))),
        ("notify-mode", "the owner only wants to be told", situation().tagged("tidegate:mode", "notify")),
    ]
}

/// Events that can't make anything deploy.
fn pushes() -> Vec<(&'static str, ImageAction)> {
    let push = || ImageAction {
        event_id: "1".into(),
        time: None,
        repository: repository(),
        digest: NEW.into(),
        tag: Some("master".into()),
        action: "PUSH".into(),
        result: "SUCCESS".into(),
        manifest_media_type: None,
        artifact_media_type: None,
    };
    let chart = Some("application/vnd.cncf.helm.config.v1+json".to_owned());
    let signature = NEW.replace(':', "-") + ".sig";
    vec![
        ("one platform of an index, or an attestation, was pushed", ImageAction { tag: None, ..push() }),
        ("a signature was attached", ImageAction { tag: Some(signature), ..push() }),
        ("a Helm chart was pushed", ImageAction { artifact_media_type: chart, ..push() }),
        ("an image was deleted", ImageAction { action: "DELETE".into(), ..push() }),
        ("the replication failed", ImageAction { action: "REPLICATE".into(), result: "FAILED".into(), ..push() }),
    ]
}

#[test]
fn every_rule_decides_its_situation_and_the_table_is_up_to_date() {
    let mut table = String::from(
        "# Decisions\n\n\
         What `deploy` decides for a service, and why. A test writes this table: each row is a situation that it \
         decides anew. The\nrule is in the function's response and log, and in what `explain` prints; the reason is in \
         the record too. Here\n`production/web` follows `tides/web` by `tag:master`, unless the row says \
         otherwise.\n\n\
         | situation | decision | rule | reason |\n|---|---|---|---|\n",
    );
    for (rule, name, situation) in situations() {
        let (decided_by, decision, reason) = situation.outcome();
        assert_eq!(decided_by, rule, "{name}: {reason}");
        writeln!(table, "| {name} | {decision} | `{rule}` | {} |", reason.replace('|', "\\|")).unwrap();
    }
    table.push_str("\n## Before a service is looked at\n\n| event | decision | rule | reason |\n|---|---|---|---|\n");
    for (name, push) in pushes() {
        writeln!(table, "| {name} | skip | `not-deployable` | {} |", push.why_not_deployable().unwrap()).unwrap();
    }
    let nobody = super::super::nobody_follows("tides/web");
    writeln!(table, "| nobody follows the repository | skip | `nobody-follows` | {nobody} |").unwrap();
    let unselected = Skip::NotSelected(Policy::parse("tag:master").unwrap());
    let name = "a follower's policy can't select the pushed tag";
    writeln!(table, "| {name} | skip | `{}` | {unselected} |", unselected.rule()).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("DECISIONS.md");
    let is_up_to_date = std::fs::read_to_string(&path).unwrap_or_default() == table;
    std::fs::write(&path, table).unwrap();
    assert!(is_up_to_date, "{} was not up to date; it is now: look at it, and commit it", path.display());
}

#[test]
fn the_plan_pins_what_the_policy_selects_and_not_what_an_event_says() {
    let Verdict::Deploy(plan) = situation().decide() else { panic!() };
    assert_eq!((plan.digest.as_str(), plan.tag.as_str()), (NEW, "master"));
    assert_eq!(plan.draft.changes[0].to, format!("{HOST}/tides/web@{NEW}"));
}

#[test]
fn the_version_that_runs_is_told_by_the_image_before_the_revisions_tag() {
    let lower = |it: &mut Situation| it.candidate = candidate("1.4.2", NEW);
    let by_tag_alone = situation().follows("semver:1.x").with(lower).with(|it| {
        it.base_tags = json!([{"key": "tidegate:tag/tides/web", "value": "1.5.0"}]);
    });
    assert_eq!(by_tag_alone.outcome().0, "downgrade");
    // Somebody went back by hand, and left the revision's tag as it was.
    let went_back = by_tag_alone.with(|it| it.listing = vec![image(&["1.4.1", "latest"], OLD)]);
    assert_eq!(went_back.outcome().0, "deploy");
}

#[test]
fn a_refusal_is_tried_again_by_the_sweep_after_an_hour() {
    let situation = situation().attempted(State::Failed, TimeDelta::zero()).with(|it| {
        refused(it);
        it.origin = Origin::Sweep;
        it.history.records[0].finished_at = Some(Utc::now_for_tests() - TimeDelta::minutes(61));
    });
    assert_eq!(situation.outcome().0, "deploy");
}

#[test]
fn a_skipped_record_hides_no_failure_behind_it() {
    let situation = situation().attempted(State::Failed, TimeDelta::zero());
    let situation = situation.with(|it| it.history.records.insert(0, record(State::Skipped)));
    assert_eq!(situation.outcome().0, "quarantine");
}
