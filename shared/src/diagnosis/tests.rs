use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const OURS: &str = "ecs-svc/8251469930473958214";
const OTHER: &str = "ecs-svc/1111111111111111111";
/// 2026-11-16T09:54:37Z, when the deployment began.
const STARTED: f64 = 1_794_822_877.0;
const TARGETS: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/73e2d6bc24d8a067";

/// A task of ours that stopped a minute after the start, with these fields.
pub(super) fn task(fields: Value) -> StoppedTask {
    let mut task = json!({
        "taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/production/0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        "startedBy": OURS, "lastStatus": "STOPPED", "stoppedAt": STARTED + 60.0,
    });
    let Value::Object(fields) = fields else { panic!("{fields}") };
    task.as_object_mut().unwrap().extend(fields);
    StoppedTask::read(&task)
}

fn exited(containers: Value) -> StoppedTask {
    let reason = "Essential container in task exited";
    task(json!({"stopCode": "EssentialContainerExited", "stoppedReason": reason, "containers": containers}))
}

fn not_started(reason: &str) -> StoppedTask {
    let image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web";
    let containers = json!([{"name": "web", "image": image}, {"name": "proxy", "image": "envoy"}]);
    task(json!({"stopCode": "TaskFailedToStart", "stoppedReason": reason, "containers": containers}))
}

fn by_scheduler(reason: &str) -> StoppedTask {
    let containers = json!([{"name": "web", "exitCode": 137}]);
    task(json!({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": reason, "containers": containers}))
}

fn event(message: &str) -> ServiceEvent {
    ServiceEvent { created_at: STARTED + 60.0, message: message.into() }
}

pub(super) fn symptoms<'a>(tasks: &'a [StoppedTask], service_events: &'a [ServiceEvent]) -> Symptoms<'a> {
    let since = DateTime::from_timestamp(STARTED as i64, 0).unwrap();
    let ecs_reason = "ECS deployment circuit breaker: tasks failed to start.";
    Symptoms { deployment_id: OURS, since, tasks, service_events, alarms: &[], ecs_reason, secrets: &[] }
}

fn summary_of(tasks: &[StoppedTask], messages: &[&str]) -> Option<String> {
    let events: Vec<ServiceEvent> = messages.iter().map(|message| event(message)).collect();
    diagnose(&symptoms(tasks, &events)).map(|diagnosis| diagnosis.summary)
}

#[test]
fn a_stopped_task_has_its_cause() {
    let oom = "OutOfMemoryError: Container killed due to memory usage";
    let health = json!([{"name": "web", "healthStatus": "UNHEALTHY", "exitCode": 1}, {"name": "proxy", "exitCode": 0}]);
    for (task, expected) in [
        (
            exited(json!([{"name": "web", "exitCode": 1}, {"name": "proxy", "exitCode": 143}])),
            "container web exited with code 1",
        ),
        (
            exited(json!([{"name": "web", "exitCode": 137}])),
            "container web exited with code 137: it was killed (SIGKILL), and ECS does not say that memory was short",
        ),
        (
            exited(json!([{"name": "web", "exitCode": 137, "reason": oom}, {"name": "proxy", "exitCode": 1}])),
            "container web ran out of memory",
        ),
        (
            exited(json!([{"name": "proxy", "exitCode": 137}, {"name": "web", "exitCode": 0}])),
            "container web exited with code 0, proxy with code 137",
        ),
        (
            exited(json!([{"name": "web", "exitCode": 0}])),
            "container web exited with code 0: it ended by itself, and a service must not",
        ),
        (
            by_scheduler(&format!("Task failed ELB health checks in (target-group {TARGETS})")),
            "the load balancer's health checks failed in target group web",
        ),
        (
            task(
                json!({"stopCode": "ServiceSchedulerInitiated", "stoppedReason": "Task failed container health checks",
                     "containers": health}),
            ),
            "container web failed its health check",
        ),
        (
            task(json!({"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."})),
            "Spot capacity was taken back: not the release's doing",
        ),
        (
            by_scheduler("ECS is performing maintenance on the underlying infrastructure hosting the task."),
            "AWS did maintenance on the infrastructure: not the release's doing",
        ),
        (
            task(json!({"stopCode": "UserInitiated", "stoppedReason": "Task stopped by user"})),
            "somebody stopped the task: not the release's doing",
        ),
        (task(json!({"stopCode": "Novel", "stoppedReason": "Something new"})), "the task stopped: Something new"),
    ] {
        assert_eq!(summary_of(std::slice::from_ref(&task), &[]).unwrap(), format!("1 task: {expected}"), "{task:?}");
    }
}

#[test]
fn a_task_that_did_not_start_has_its_cause() {
    const NO_CONNECTION: &str = "no connection: see route, NAT gateway or VPC endpoints, security groups and DNS";
    let pull = |why| format!("the image of container web could not be pulled: {why}");
    for (reason, expected) in [
        ("CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref \
          123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1.2: not found",
         pull("not found")),
        ("CannotPullContainerError: ref pull has been retried 5 time(s): failed to resolve reference \
          \"123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:1.2\": unexpected status code 403 Forbidden",
         pull("a permission is missing")),
        ("CannotPullContainerError: image Manifest does not contain descriptor matching platform 'linux/amd64'",
         "the image of a container could not be pulled: it is not built for the platform of the tasks".into()),
        ("CannotPullContainerError: inspect image has been retried 5 time(s): httpReaderSeeker: failed open: \
          unexpected status code 429 Too Many Requests - toomanyrequests: You have reached your pull rate limit",
         "the image of a container could not be pulled: the registry's rate limit is reached".into()),
        ("ResourceInitializationError: unable to pull secrets or registry auth: The task cannot pull registry auth \
          from Amazon ECR: There is a connection issue between the task and Amazon ECR. Check your task network \
          configuration.",
         format!("ECS could not log in to the registry: {NO_CONNECTION}")),
        ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
          unable to retrieve secret from asm: service call has been retried 1 time(s): AccessDeniedException: no",
         "secrets or parameters could not be fetched: a permission is missing".into()),
        ("ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secrets from ssm: \
          invalid ssm parameters: /web/key",
         "secrets or parameters could not be fetched: not found".into()),
        ("ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: \
          ResourceNotFoundException: The specified log group does not exist.",
         "the log driver could not be started: not found".into()),
        ("ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: timed out",
         format!("a volume could not be attached: {NO_CONNECTION}")),
        ("CannotStartContainerError: failed to create task: exec: \"/app\": executable file not found in $PATH",
         "a container could not be started: its command is not in the image".into()),
        ("Timeout waiting for network interface provisioning to complete.",
         "the task got no network interface: Timeout waiting for network interface provisioning to complete.".into()),
        ("Unexpected EC2 error while attempting to Create Network Interface: InsufficientFreeAddressesInSubnet",
         "the task got no network interface: the subnet has no free addresses".into()),
        ("ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 3m0s",
         "a container could not be started: ContainerRuntimeTimeoutError: Could not transition to running; timed out \
          after waiting 3m0s".into()),
    ] {
        assert_eq!(summary_of(&[not_started(reason)], &[]).unwrap(), format!("1 task: {expected}"));
    }
}

#[test]
fn what_is_ordinary_is_no_symptom() {
    let scaled = by_scheduler(&format!("Scaling activity initiated by (deployment {OURS})"));
    let of_other = task(json!({"startedBy": OTHER, "stoppedReason": "Essential container in task exited",
                               "containers": [{"name": "web", "exitCode": 1}]}));
    let before = task(json!({"stoppedAt": STARTED - 60.0, "stoppedReason": "CannotPullContainerError: not found"}));
    let running = task(json!({"lastStatus": "RUNNING", "containers": [{"name": "init", "exitCode": 0}]}));
    let tasks = [scaled, of_other, before, running, by_scheduler("")];
    let of_other_task =
        "(service web) (task 0f1e2d3c4b5a69788796a5b4c3d2e1f0) (port 80) is unhealthy in (target-group x)";
    for message in [
        "(service web) has reached a steady state.",
        "(service web) has started 2 tasks: (task 0f1e).",
        &format!("(service web) rolling back to deployment {OTHER}."),
        &format!("(service web) could not launch 2 tasks for deployment {OTHER}."),
        &format!("(service web) (deployment {OURS}) deployment failed: tasks failed to start."),
    ] {
        assert_eq!(summary_of(&tasks, &[message]), None, "{message}");
    }
    assert_eq!(summary_of(&tasks[1..2], &[of_other_task]), None);
}

#[test]
fn events_tell_what_tasks_do_not() {
    for (message, expected) in [
        (
            format!(
                "(service web) (task 1) (port 8080) is unhealthy in (target-group {TARGETS}) due to (reason Health \
                  checks failed with these codes: [502])"
            ),
            "the load balancer's health checks failed in target group web: Health checks failed with these codes: \
             [502], port 8080",
        ),
        ("(service web) (task 1) failed container health checks.".into(), "a container failed its health check"),
        (
            "(service web) was unable to place a task because no container instance met all of its requirements. The \
          closest matching container-instance i-1 has insufficient CPU units available."
                .into(),
            "no place was found for a task: no container instance met all of its requirements. The closest matching \
          container-instance i-1 has insufficient CPU units available",
        ),
        (
            "(service web) was unable to place a task. Reason: Capacity is unavailable at this time. Please try again \
          later or in a different availability zone."
                .into(),
            "no place was found for a task: Capacity is unavailable at this time. Please try again later or in a \
          different availability zone",
        ),
        (
            "(service web) failed to launch a task with (error ECS was unable to assume the role \
          'arn:aws:iam::123456789012:role/tasks' that was provided for this task.)."
                .into(),
            "ECS could not use a role of the task: a permission is missing",
        ),
        (
            "(service web) is unable to consistently start tasks successfully.".into(),
            "tasks fail to start again and again, and ECS waits ever longer between",
        ),
    ] {
        assert_eq!(summary_of(&[], &[&message]).as_deref(), Some(expected));
    }
    let old =
        ServiceEvent { created_at: STARTED - 1.0, ..event("(service web) (task 1) failed container health checks.") };
    assert_eq!(diagnose(&symptoms(&[], &[old])), None);
}

#[test]
fn alarms_are_told_and_words_of_ecs_alone_are_explained_where_they_can_be() {
    let alarms = ["web-5xx".to_owned(), "web-latency".into(), "web-5xx".into()];
    let diagnosis = diagnose(&Symptoms { alarms: &alarms, ..symptoms(&[], &[]) }).unwrap();
    assert_eq!(diagnosis.summary, "alarms web-5xx, web-latency went off");
    assert_eq!(diagnosis.alarms, alarms[..2]);

    let ecs_reason = "tasks failed to start: CannotPullContainerError: web: not found";
    let diagnosis = diagnose(&Symptoms { ecs_reason, ..symptoms(&[], &[]) }).unwrap();
    assert_eq!(diagnosis.summary, "the image of a container could not be pulled: not found");
}

/// A bad day: everything at once.
fn bad_day() -> (Vec<StoppedTask>, Vec<ServiceEvent>) {
    let crash = || exited(json!([{"name": "web", "exitCode": 1}, {"name": "proxy", "exitCode": 143}]));
    let elb = || by_scheduler(&format!("Task failed ELB health checks in (target-group {TARGETS})"));
    let pull = "CannotPullContainerError: failed to resolve ref 123456789012.dkr.ecr.eu-west-1.amazonaws.com/web@\
                sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945: not found";
    let secret = "ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve secret \
                  from asm: failed to fetch arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf: \
                  AccessDeniedException: https://bob:hunter2@proxy.internal refused";
    let spot = task(json!({"stopCode": "SpotInterruption", "stoppedReason": "Your Spot Task was interrupted."}));
    let tasks = vec![spot, elb(), crash(), not_started(secret), crash(), not_started(pull), elb(), crash()];
    let unhealthy =
        format!("(service web) (port 8080) is unhealthy in (target-group {TARGETS}) due to (reason Request timed out)");
    let events = vec![
        event("(service web) is unable to consistently start tasks successfully."),
        event(&unhealthy),
        event("(service web) was unable to place a task. Reason: Capacity is unavailable at this time."),
        event("(service web) operations are being throttled. Will try again later."),
    ];
    (tasks, events)
}

#[test]
fn findings_are_counted_and_the_most_telling_is_first() {
    let (tasks, events) = bad_day();
    let alarms = ["web-5xx".to_owned()];
    insta::assert_json_snapshot!(diagnose(&Symptoms { alarms: &alarms, ..symptoms(&tasks, &events) }));
}

#[test]
fn secrets_in_the_words_of_ecs_are_masked_before_they_are_cut() {
    let long = "x".repeat(FINDING_CHARS_MAX - 140);
    for (words, secret) in [("token=hunter2hunter2", "hunter2"), ("at tide-pool-7", "tide-pool-7")] {
        let reason = format!("CannotStartContainerError: {long} {words}");
        let (tasks, secrets) = ([not_started(&reason)], ["tide-pool-7".to_owned()]);
        let told = diagnose(&Symptoms { secrets: &secrets, ..symptoms(&tasks, &[]) }).unwrap();
        let told = serde_json::to_string(&told).unwrap();
        assert!(told.contains("***") && !told.contains(secret) && !told.contains("hun"), "{told}");
    }
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}".prop_map(|some| some.repeat(10)),
        "(CannotPullContainerError|ResourceInitializationError|OutOfMemoryError|Task failed (ELB|container) health \
         checks in|targetgroup/|Scaling activity|\\(reason |\\(task |\\(port |is unhealthy in|unable to place a task \
         because |Reason: |\\(error |due to `|arn:aws:ecs:|secret|not found|timed out|\\)|[a-z ]{0,9}){1,4}",
    ]
}

fn any_task() -> impl Strategy<Value = StoppedTask> {
    let containers = proptest::collection::vec(("[a-z]{0,3}", proptest::option::of(0..256_i64), words()), 0..4);
    let code = "(TaskFailedToStart|EssentialContainerExited|ServiceSchedulerInitiated|SpotInterruption|)";
    (containers, words(), code, 0..200_i32, "[a-z0-9]{4}").prop_map(|(containers, reason, code, after, id)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, exit_code, reason)| json!({"name": name, "exitCode": exit_code, "reason": reason}))
            .collect();
        task(
            json!({"containers": containers, "stoppedReason": reason, "stopCode": code, "taskArn": format!("task/{id}"),
                    "stoppedAt": STARTED + f64::from(after)}),
        )
    })
}

proptest! {
    #[test]
    fn a_diagnosis_is_bounded_in_whatever_order_tasks_are_listed(
        tasks in proptest::collection::vec(any_task(), 0..6), messages in proptest::collection::vec(words(), 0..4),
        alarms in proptest::collection::vec("[a-z-]{0,30}", 0..15),
    ) {
        let events: Vec<ServiceEvent> = messages.iter().map(|message| event(message)).collect();
        let seen = diagnose(&Symptoms { alarms: &alarms, ..symptoms(&tasks, &events) });
        if let Some(diagnosis) = &seen {
            let first = &diagnosis.findings[0];
            prop_assert!(first.starts_with(diagnosis.summary.trim_end_matches('…')), "{first}");
            prop_assert!(diagnosis.findings.len() <= FINDINGS_MAX && diagnosis.alarms.len() <= ALARMS_MAX);
            prop_assert!(diagnosis.findings.iter().all(|finding| finding.chars().count() <= FINDING_CHARS_MAX));
        }
        let ids: std::collections::BTreeSet<&str> = tasks.iter().map(|task| task.id()).collect();
        prop_assume!(ids.len() == tasks.len());
        let reversed: Vec<StoppedTask> = tasks.into_iter().rev().collect();
        prop_assert_eq!(diagnose(&Symptoms { alarms: &alarms, ..symptoms(&reversed, &events) }), seen);
    }

    #[test]
    fn never_panics(task in any_task(), message in words(), ecs_reason in words()) {
        let (tasks, events) = ([task], [event(&message)]);
        let _ignored = diagnose(&Symptoms { ecs_reason: &ecs_reason, ..symptoms(&tasks, &events) });
    }
}
