//! What the emulator does not act out of the example environment is asserted on its templates: that nothing which runs is
//! expired, that copies are spread and never fewer than they should be, and that tags are those that Tidegate reads.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml_ng::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn template(name: &str) -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(root().join("infra/example").join(name)).unwrap()).unwrap()
}

/// The properties of the resources of a type, by logical name.
fn resources<'a>(template: &'a Value, kind: &str) -> Vec<(&'a str, &'a Value)> {
    let all = template["Resources"].as_mapping().unwrap().iter();
    let of_kind = all.filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(name, resource)| (name.as_str().unwrap(), &resource["Properties"])).collect()
}

/// The text of an intrinsic such as `!Ref Follow` or `!Sub tag:${Follow}`, or a plain text.
fn text(value: &Value) -> String {
    match value {
        Value::Tagged(tagged) => format!("{} {}", tagged.tag, tagged.value.as_str().unwrap_or_default()),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// An image of a repository: its tags, and how many days ago it was pushed.
#[derive(Debug, Clone)]
struct Image {
    tags: Vec<String>,
    days: u64,
}

/// Which images a policy expires, as ECR says that it evaluates its rules: all of them look at all images; whatever a rule
/// selects by its tags is out of reach of those with a lower priority; all patterns of a rule must match.
fn expired(policy: &Value, images: &[Image]) -> BTreeSet<usize> {
    let mut rules: Vec<&Value> = policy["rules"].as_sequence().unwrap().iter().collect();
    rules.sort_by_key(|rule| rule["rulePriority"].as_u64());
    let (mut gone, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for rule in rules {
        let selection = &rule["selection"];
        let patterns = selection["tagPatternList"].as_sequence().cloned().unwrap_or_default();
        let mut selected: Vec<usize> = (0..images.len())
            .filter(|at| match selection["tagStatus"].as_str().unwrap() {
                "untagged" => images[*at].tags.is_empty(),
                "tagged" => patterns.iter().all(|pattern| images[*at].tags.iter().any(|tag| fits(pattern, tag))),
                other => panic!("{other} is not thought of here"),
            })
            .filter(|at| !taken.contains(at))
            .collect();
        taken.extend(selected.iter().copied());
        selected.sort_by_key(|at| images[*at].days);
        let count = usize::try_from(selection["countNumber"].as_u64().unwrap()).unwrap();
        match selection["countType"].as_str().unwrap() {
            "imageCountMoreThan" => gone.extend(selected.into_iter().skip(count)),
            "sinceImagePushed" => gone.extend(selected.into_iter().filter(|at| images[*at].days > count as u64)),
            other => panic!("{other} is not thought of here"),
        }
        assert_eq!(rule["action"]["type"], "expire");
    }
    gone
}

fn fits(pattern: &Value, tag: &str) -> bool {
    let pattern = pattern.as_str().unwrap();
    pattern.strip_suffix('*').map_or(pattern == tag, |start| tag.starts_with(start))
}

fn policy() -> Value {
    let base = template("base.yaml");
    for (name, repository) in resources(&base, "AWS::ECR::Repository") {
        assert!(
            matches!(&repository["LifecyclePolicy"]["LifecyclePolicyText"], Value::Tagged(tagged)
            if tagged.tag == "FindInMap" && tagged.value[0] == "Images"),
            "{name}"
        );
    }
    serde_yaml_ng::from_str(base["Mappings"]["Images"]["Rules"]["Keep"].as_str().unwrap()).unwrap()
}

/// As many builds as there are days, each with the tag of its commit, and now and then with one that moves.
fn builds(days: u64) -> Vec<Image> {
    (0..days).map(|days| Image { tags: vec![format!("sha-{days:040x}")], days }).collect()
}

#[test]
fn what_runs_is_not_expired() {
    let policy = policy();
    let mut images = builds(900);
    // Production was last released two years and more ago; somebody has kept another; staging is up to date.
    images[800].tags.push("master".into());
    images[850].tags.push("keep-before-the-migration".into());
    images[0].tags.push("develop".into());
    let gone = expired(&policy, &images);
    for at in [0, 800, 850] {
        assert!(!gone.contains(&at), "{:?}", images[at]);
    }
    // A service that went back, or is held, runs one of the newest 500 that has no moving tag any more.
    assert!((0..500).all(|at| !gone.contains(&at)));
    assert!(gone.contains(&700), "and what nobody can want is expired");

    // A tag was moved by hand, off an image that has no other: it may run.
    let moved = |days| Image { tags: vec![], days };
    assert_eq!(expired(&policy, &[moved(1), moved(179), moved(400)]), BTreeSet::from([2]));
}

/// Why a rule with several patterns would not do.
#[test]
fn a_rule_protects_only_what_has_all_its_patterns() {
    let text = fs::read_to_string(root().join("infra/example/base.yaml")).unwrap();
    assert!(!text.contains(r#"["develop", "master"]"#));
    for rule in policy()["rules"].as_sequence().unwrap() {
        let patterns = rule["selection"]["tagPatternList"].as_sequence().map_or(0, Vec::len);
        assert!(patterns <= 1, "{rule:?}");
    }
}

#[test]
fn only_tags_that_are_followed_can_be_moved() {
    let base = template("base.yaml");
    let repositories = resources(&base, "AWS::ECR::Repository");
    assert_eq!(repositories.len(), 2);
    for (name, repository) in repositories {
        assert_eq!(repository["ImageTagMutability"], "IMMUTABLE_WITH_EXCLUSION", "{name}");
        let filters = repository["ImageTagMutabilityExclusionFilters"].as_sequence().unwrap();
        let movable: Vec<_> = filters.iter().map(|it| text(&it["ImageTagMutabilityExclusionFilterValue"])).collect();
        assert_eq!(movable, ["develop", "master"], "{name}");
        let resource = &base["Resources"][name];
        assert_eq!(resource["DeletionPolicy"], "RetainExceptOnCreate", "{name}");
    }
}

#[test]
fn copies_are_spread_and_never_fewer_than_they_should_be() {
    let template = template("services.yaml");
    let services = resources(&template, "AWS::ECS::Service");
    assert_eq!(services.len(), 2);
    for (name, service) in services {
        let deployment = &service["DeploymentConfiguration"];
        assert_eq!(deployment["MinimumHealthyPercent"], 100, "{name}");
        assert_eq!(deployment["DeploymentCircuitBreaker"]["Enable"], true, "{name}");
        assert_eq!(deployment["DeploymentCircuitBreaker"]["Rollback"], true, "{name}");
        assert_eq!(service["AvailabilityZoneRebalancing"], "ENABLED", "{name}");
        let Value::Tagged(placement) = &service["PlacementStrategies"] else { panic!("{name} is spread nowhere") };
        assert_eq!(placement.value[1][0]["Field"], "attribute:ecs.availability-zone", "{name}");
    }
    // Two copies at least: of the web service by its count, of the worker by Tidegate's lower bound.
    assert_eq!(template["Parameters"]["WebTasks"]["MinValue"], 2);
    assert_eq!(text(&template["Resources"]["WebService"]["Properties"]["DesiredCount"]), "!Ref WebTasks");
    assert_eq!(template["Parameters"]["WorkerTasksMin"]["Default"], 2);
    assert!(template["Resources"]["WorkerService"]["Properties"].get("DesiredCount").is_none(), "it is Tidegate's");
    let group = &self::template("cluster.yaml")["Resources"]["AutoScalingGroup"]["Properties"];
    assert!(group.get("DesiredCapacity").is_none(), "it is Tidegate's too");
}

/// A task that goes has answered what it had: first the load balancer waits, then ECS.
#[test]
fn connections_are_drained() {
    let template = template("services.yaml");
    let (_, group) = resources(&template, "AWS::ElasticLoadBalancingV2::TargetGroup").remove(0);
    let attributes = group["TargetGroupAttributes"].as_sequence().unwrap();
    let delay = attributes.iter().find(|it| it["Key"] == "deregistration_delay.timeout_seconds").unwrap();
    let delay: u64 = delay["Value"].as_str().unwrap().parse().unwrap();
    let web = &template["Resources"]["WebTaskDefinition"]["Properties"]["ContainerDefinitions"][0];
    assert!(web["StopTimeout"].as_u64() > Some(delay), "{web:?}");
    assert_eq!(group["HealthCheckPath"], "/health");
    // And a message in hand is finished before it is somebody else's.
    let worker = &template["Resources"]["WorkerTaskDefinition"]["Properties"]["ContainerDefinitions"][0];
    let hidden = &template["Resources"]["Jobs"]["Properties"]["VisibilityTimeout"];
    assert!(worker["StopTimeout"].as_u64() < hidden.as_u64());
}

/// The article's alarms: CPU, age and depth of the queue, errors.
#[test]
fn the_alarms_are_there_and_tell_somebody() {
    let mut alarms = Vec::new();
    for template in ["cluster.yaml", "services.yaml"].map(template) {
        for (name, alarm) in resources(&template, "AWS::CloudWatch::Alarm") {
            for told in ["AlarmActions", "OKActions"] {
                assert_eq!(alarm[told].as_sequence().map(Vec::len), Some(1), "{name}");
            }
            alarms.push(format!("{} {}", text(&alarm["MetricName"]), alarm["Threshold"].as_u64().unwrap()));
        }
    }
    alarms.sort();
    assert_eq!(
        alarms,
        [
            "ApproximateAgeOfOldestMessage 300",
            "ApproximateNumberOfMessagesVisible 0",
            "ApproximateNumberOfMessagesVisible 1000",
            "CPUUtilization 85",
            "CPUUtilization 85",
            "HTTPCode_ELB_5XX_Count 10",
            "HTTPCode_Target_5XX_Count 20",
        ]
    );
}

/// No value is in a task definition that should change without a deployment, and no secret is anywhere.
#[test]
fn configuration_is_kept_where_it_can_be_changed() {
    let template = template("services.yaml");
    let web = &template["Resources"]["WebTaskDefinition"]["Properties"]["ContainerDefinitions"][0];
    let secrets: Vec<_> = web["Secrets"].as_sequence().unwrap().iter().map(|it| text(&it["ValueFrom"])).collect();
    assert!(secrets[0].contains(":parameter/${Project}/${EnvironmentName}/web/greeting"), "{secrets:?}");
    assert_eq!(secrets[1], "!Ref WebSigningKey");
    let secret = &template["Resources"]["WebSigningKey"]["Properties"];
    assert!(secret.get("GenerateSecretString").is_some() && secret.get("SecretString").is_none());
}

#[test]
fn every_tag_is_one_that_tidegate_reads() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut keys = Vec::new();
    for template in ["cluster.yaml", "services.yaml"].map(template) {
        for (_, resource) in template["Resources"].as_mapping().unwrap() {
            let Some(Value::Sequence(tags)) = resource["Properties"].get("Tags") else { continue };
            for tag in tags {
                // Some are there under a condition only.
                let tag = if let Value::Tagged(tagged) = tag { &tagged.value[1] } else { tag };
                let key = text(&tag["Key"]);
                if let Some((_, name)) = key.split_once("tidegate:") {
                    keys.push(format!("tidegate:{}", name.split_once("/$").map_or(name, |(before, _)| before)));
                }
            }
        }
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 10, "{keys:?}");
    for key in keys {
        assert!(readme.contains(&format!("| `{key}")) || readme.contains(&format!("`{key}`")), "{key}");
    }
}
