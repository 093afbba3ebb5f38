use super::*;
use crate::diagnosis::tests::{symptoms, task};
use proptest::prelude::*;
use serde_json::json;

const REASON: &str = "Essential container in task exited";

fn container(name: &str, fields: Value) -> Value {
    let mut container = json!({"name": name, "logConfiguration": {"logDriver": "awslogs", "options": {
        "awslogs-group": format!("/ecs/{name}"), "awslogs-stream-prefix": "live", "awslogs-region": "eu-west-1"}}});
    let Value::Object(fields) = fields else { panic!("{fields}") };
    container.as_object_mut().unwrap().extend(fields);
    container
}

fn body(containers: Value) -> Map<String, Value> {
    json!({"family": "web", "containerDefinitions": containers}).as_object().unwrap().clone()
}

fn source() -> LogSource {
    let (container, group, stream) = ("web".into(), "/ecs/web".into(), "live/web/0f1e".into());
    LogSource { container, group, stream, region: None }
}

fn lines(messages: &[&str]) -> Vec<String> {
    tail(source(), messages.iter().copied(), &[]).lines
}

#[test]
fn the_log_is_that_of_the_container_at_fault_in_the_newest_task() {
    let codes = json!([{"name": "web", "exitCode": 1}, {"name": "proxy", "exitCode": 143}]);
    let tasks: Vec<StoppedTask> =
        [("task/production/old", "2026-11-16T09:55:00Z"), ("task/production/new", "2026-11-16T09:56:00Z")]
            .map(|(arn, at)| {
                task(json!({"taskArn": arn, "stoppedAt": at, "stoppedReason": REASON, "containers": codes}))
            })
            .into();
    let body = body(json!([container("proxy", json!({})), container("web", json!({}))]));
    assert_eq!(
        log_source(&body, &symptoms(&tasks, &[])).unwrap(),
        LogSource {
            container: "web".into(),
            group: "/ecs/web".into(),
            stream: "live/web/new".into(),
            region: Some("eu-west-1".into()),
        }
    );
}

#[test]
fn a_failed_check_leads_to_the_essential_container_that_listens() {
    let all = [
        container("init", json!({"essential": false, "portMappings": [{"containerPort": 1}]})),
        container("agent", json!({"portMappings": []})),
        container("web", json!({"portMappings": [{"containerPort": 8080}]})),
    ];
    let container_of =
        |fields: Value| log_source(&body(json!(all)), &symptoms(&[task(fields)], &[])).map(|source| source.container);
    let by_elb =
        json!({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed ELB health checks in (x)"});
    assert_eq!(container_of(by_elb).as_deref(), Some("web"));
    let unhealthy = json!({"stoppedReason": "Task failed container health checks",
                           "containers": [{"name": "web"}, {"name": "agent", "healthStatus": "UNHEALTHY"}]});
    assert_eq!(container_of(unhealthy).as_deref(), Some("agent"));
    let codes = json!([{"name": "init", "exitCode": 0}, {"name": "web", "exitCode": 137}]);
    let ended = json!({"stoppedReason": REASON, "containers": codes});
    assert_eq!(container_of(ended).as_deref(), Some("web"), "what is not essential ends no task");
    let not_started = json!({"stoppedReason": "CannotPullContainerError: not found", "containers": [{"name": "web"}]});
    assert_eq!(container_of(not_started), None);
}

#[test]
fn a_log_whose_name_is_not_known_is_not_looked_for() {
    let log = |driver: &str, options: Value| json!({"logConfiguration": {"logDriver": driver, "options": options}});
    for fields in [
        json!({"logConfiguration": null}),
        log("awsfirelens", json!({"awslogs-group": "g", "awslogs-stream-prefix": "p"})),
        log("awslogs", json!({"awslogs-group": "g"})),
        log("awslogs", json!({"awslogs-group": "g", "awslogs-stream-prefix": ""})),
        log("awslogs", json!({"awslogs-stream-prefix": "p"})),
        json!({"name": "other"}),
    ] {
        let stopped = task(json!({"stoppedReason": REASON, "containers": [{"name": "web", "exitCode": 1}]}));
        let body = body(json!([container("web", fields.clone())]));
        assert_eq!(log_source(&body, &symptoms(&[stopped], &[])), None, "{fields}");
    }
}

#[test]
fn lines_are_shown_as_people_see_them() {
    assert_eq!(
        lines(&[
            "\u{1b}[32mINFO\u{1b}[0m up\r\n\n",
            "10%\r20%",
            "\tat x\u{7}\u{200b}y\u{1b}]8;;http://x\u{7}link",
            "\u{9b}1mé"
        ]),
        ["INFO up", "10%", "20%", "  at xylink", "é"]
    );
}

#[test]
fn the_last_lines_are_shown_and_long_ones_are_cut() {
    let many: Vec<String> = (1..=100).map(|number| format!("line {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(lines(&many), many[85..]);
    let long = lines(&[&"word ".repeat(100)]);
    assert!(long[0].chars().count() == LINE_CHARS_MAX && long[0].ends_with("word…"), "{long:?}");
}

#[test]
fn secrets_are_masked_over_lines_colours_and_cuts() {
    let key =
        ["-----BEGIN PRIVATE KEY-----", "MIIEpAIBAAKCAQEA7bq3Zk0x", "q8Zs", "-----END PRIVATE KEY-----", "then this"];
    assert_eq!(lines(&key), ["-----BEGIN PRIVATE KEY-----***", "-----END PRIVATE KEY-----", "then this"]);
    assert_eq!(lines(&["pass\u{1b}[1mword\u{1b}[0m=\u{1b}[33mhunter2\u{1b}[0m"]), ["password=***"]);
    let at_the_cut = format!("{} password=hunter2hunter2", "x".repeat(184));
    assert_eq!(
        lines(&[&at_the_cut]),
        [format!("{} password=***", "x".repeat(184)).chars().take(199).collect::<String>()]
    );
    let secret = "tide pool at low water";
    let very_long = format!("{} {secret}", "x ".repeat(LINE_CHARS_READ / 2 - 5));
    let shown = tail(source(), [very_long.as_str()].into_iter(), &[secret.to_owned()]).lines.concat();
    assert!(!shown.contains("tide"), "{shown}");
}

proptest! {
    #[test]
    fn a_tail_is_bounded_plain_and_without_what_was_planted(
        messages in proptest::collection::vec("(?s).{0,200}", 0..25),
        secret in "[A-Za-z0-9+/=_-][A-Za-z0-9 +/=_-]{4,38}[A-Za-z0-9]", at in 0..25_usize,
        before in "(?s).{0,250}",
    ) {
        let planted = format!("{before}{secret}");
        let mut messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        messages.insert(at.min(messages.len()), &planted);
        let lines = tail(source(), messages.into_iter(), std::slice::from_ref(&secret)).lines;
        prop_assert!(lines.len() <= LINES_MAX);
        prop_assert!(lines.iter().map(|line| line.chars().count()).sum::<usize>() <= ALL_CHARS_MAX);
        for line in &lines {
            prop_assert!(line.chars().count() <= LINE_CHARS_MAX && !line.trim().is_empty());
            prop_assert!(!line.contains(|character: char| character.is_control()));
            prop_assert!(!line.contains(&secret), "{}", line);
        }
    }
}
