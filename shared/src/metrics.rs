//! CloudWatch metrics about deployments, in the
//! [embedded metric format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html):
//! one line of JSON on standard output, of which CloudWatch Logs makes metrics. No call, no permission, nothing to wait
//! for.
//!
//! Every document counts, so each state of a record is told once. ARCHITECTURE.md names the metrics.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::dora::times;
use crate::record::{Origin, Record, Remedy, State, UndoneBy, millis};

/// The namespace of all metrics.
const NAMESPACE: &str = "Tidegate";
/// A good release was brought back.
const RECOVERED: &str = "Recovered";
/// A bad deployment stays, for a person to see to.
const HELD: &str = "Held";
/// How old the time of a metric
/// [may be](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html).
const AGE_MAX: TimeDelta = TimeDelta::days(14);
/// The most characters of a
/// [dimension's value](https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_Dimension.html).
const DIMENSION_CHARS_MAX: usize = 1024;
/// The most characters of what is only there to be searched for.
const FIELD_CHARS_MAX: usize = 500;

/// The document about the state that `record` has come to; `None` where there is nothing to count: before the outcome,
/// and after a decision not to deploy.
///
/// A deployment counts when it goes live, and once more when it is taken back. What others have deployed has a metric of
/// its own for going live, so that the deployments per day of both can be told apart and added up. What brings a good
/// release back is no deployment, and has metrics of its own too. Nothing is counted again because the record has changed
/// in another way.
#[must_use]
pub fn of_deployment(record: &Record, now_ms: u64) -> Option<Value> {
    let counts = counts(record);
    if counts.is_empty() {
        return None;
    }
    let mut metrics: Vec<(&str, &str, u64)> = counts.iter().map(|name| (*name, "Count", 1)).collect();
    if counts.contains(&RECOVERED) {
        let time = times::live(record).and_then(|live| times::seconds(record.detected_at, live));
        metrics.extend(time.map(|seconds| ("RecoverySeconds", "Seconds", seconds)));
    } else if counts.contains(&gone_live(record)) {
        let durations = [
            ("RolloutSeconds", times::rollout(record)),
            ("PushToLiveSeconds", times::push_to_live(record)),
            ("CommitToLiveSeconds", times::commit_to_live(record)),
        ];
        metrics.extend(durations.into_iter().filter_map(|(name, seconds)| Some((name, "Seconds", seconds?))));
    }
    let (environment, service) = names(record);
    let dimensions = [("Environment", environment), ("Service", service)];
    let mut document = document("deployment", now_ms, time(record, &counts, now_ms), &dimensions, &metrics);
    let fields = [
        ("record", Some(&record.id)),
        ("cluster", Some(&record.cluster)),
        ("reason", Some(&record.reason)),
        ("repository", Some(&record.repository)),
        ("tag", Some(&record.tag)),
        ("digest", Some(&record.digest)),
        ("ecs_deployment_id", record.ecs_deployment_id.as_ref()),
    ];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            document.insert(name.into(), cut(value).into());
        }
    }
    document.insert("state".into(), record.state.as_str().into());
    document.insert("origin".into(), json!(record.origin));
    Some(document.into())
}

/// The names of the metrics that count what has become of `record`, and have not counted it yet.
#[must_use]
pub fn counts(record: &Record) -> Vec<&'static str> {
    let is_recovery = record.origin == Origin::Rollback;
    // It may have been taken back before anybody was told that it is live.
    let live = matches!(record.state, State::Succeeded | State::RolledBack).then(|| gone_live(record));
    let outcome = match record.state {
        State::Failed | State::RolledBack if is_recovery => Some("RecoveryFailed"),
        State::Failed => Some("Failed"),
        State::RolledBack => Some("RolledBack"),
        State::Superseded if !is_recovery => Some("Superseded"),
        State::Intended | State::Rolling | State::Succeeded | State::Superseded | State::Skipped => None,
    };
    let is_taken_back = record.undone_by == Some(UndoneBy::Tidegate);
    let remedy = match record.recovery.as_ref().map(|recovery| recovery.remedy) {
        Some(Remedy::Hold) => Some(HELD),
        Some(Remedy::Stop | Remedy::Deploy) if is_taken_back => Some("TakenBackByTidegate"),
        _ => None,
    };
    let is_new = |name: &&str| !record.metrics_counted.iter().any(|counted| counted == name);
    live.into_iter().chain(outcome).chain(remedy).filter(is_new).collect()
}

/// The metric that counts it when it goes live.
fn gone_live(record: &Record) -> &'static str {
    match record.origin {
        Origin::Rollback => RECOVERED,
        Origin::External => "DeployedByOthers",
        _ => "Succeeded",
    }
}

/// Whom scaling is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What people call the environment; the cluster's name where it has none.
    pub environment: String,
    /// The cluster.
    pub cluster: String,
    /// The service; `None` where it is about the cluster itself.
    pub service: Option<String>,
    /// Id of its own Slack channel.
    pub channel: Option<String>,
}

/// The document about what was done to the size of a service or a cluster, or what people have to see to: each of these
/// `names` once. `inputs` are the numbers behind it, to be searched for.
#[must_use]
pub fn of_scaling(subject: &Subject, names: &[&str], inputs: Option<&Value>, now_ms: u64) -> Value {
    let metrics: Vec<(&str, &str, u64)> = names.iter().map(|name| (*name, "Count", 1)).collect();
    let Subject { environment, cluster, service, .. } = subject;
    let whose = service.as_deref().unwrap_or(cluster);
    let (environment, whose) = dimensions(environment, cluster, whose);
    let mut document =
        document("scaling", now_ms, now_ms, &[("Environment", environment), ("Service", whose)], &metrics);
    document.insert("cluster".into(), cut(cluster).into());
    if let Some(inputs) = inputs {
        document.insert("inputs".into(), inputs.clone());
    }
    document.into()
}

/// The document about `count` events that `function` has put into the rejects queue.
#[must_use]
pub fn rejects(function: &str, count: usize, now_ms: u64) -> Value {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    document("rejects", now_ms, now_ms, &[("Function", ascii(function))], &[("Rejects", "Count", count)]).into()
}

/// Each metric with these dimensions, and once more with none. A graph of all services needs the second: a search finds
/// no metric that [has been silent for two weeks](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-search-expressions.html),
/// and nobody can make a percentile of percentiles.
fn document(
    message: &str,
    now_ms: u64,
    time_ms: u64,
    dimensions: &[(&str, String)],
    metrics: &[(&str, &str, u64)],
) -> Map<String, Value> {
    let keys: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let definitions: Vec<Value> = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let directive = json!({"Namespace": NAMESPACE, "Dimensions": [keys, []], "Metrics": definitions});
    let mut document = Map::new();
    document.insert("_aws".into(), json!({"Timestamp": time_ms, "CloudWatchMetrics": [directive]}));
    for (name, value) in dimensions {
        document.insert((*name).into(), value.as_str().into());
    }
    for (name, _, value) in metrics {
        document.insert((*name).into(), (*value).into());
    }
    // As every other line of the log has them. Lambda drops a line by its level, and takes what has none for INFO.
    document.insert("level".into(), "INFO".into());
    document.insert("message".into(), message.into());
    if let Some(now) = at(now_ms) {
        document.insert("timestamp".into(), json!(now));
    }
    document
}

/// When it happened, so that an outcome that was found late counts for its own day. CloudWatch takes nothing that is
/// too old, and a clock may be ahead of ours: then it is now.
fn time(record: &Record, counts: &[&str], now_ms: u64) -> u64 {
    // It may have been live for long when it turns out that it stays.
    let held_at = record.recovery.as_ref().filter(|_| counts == [HELD]).map(|recovery| recovery.at);
    let happened = held_at.unwrap_or_else(|| record.changed_at());
    let age = at(now_ms).map(|now| now - happened);
    let is_fit = age.is_some_and(|age| TimeDelta::zero() <= age && age < AGE_MAX);
    if is_fit { millis(happened) } else { now_ms }
}

fn at(ms: u64) -> Option<DateTime<Utc>> {
    i64::try_from(ms).ok().and_then(DateTime::from_timestamp_millis)
}

/// The values of the dimensions Environment and Service. Clusters that share an environment may have services of one
/// name, and these must not be added up: where the environment is called something else than the cluster, the service's
/// name carries the cluster's. Where CloudWatch can't have the environment's name, the cluster's stands in for it.
fn names(record: &Record) -> (String, String) {
    dimensions(record.environment(), &record.cluster, &record.service)
}

fn dimensions(environment: &str, cluster: &str, service: &str) -> (String, String) {
    if environment == cluster || ascii(environment) != environment {
        (ascii(cluster), ascii(service))
    } else {
        (environment.to_owned(), ascii(&format!("{cluster}/{service}")))
    }
}

/// A dimension's value as CloudWatch takes it: printable ASCII, not empty, and not too long. Names of ECS are.
fn ascii(text: &str) -> String {
    let is_fit = |character: &char| character.is_ascii_graphic() || *character == ' ';
    let fit: String = text.chars().map(|it| if is_fit(&it) { it } else { '_' }).take(DIMENSION_CHARS_MAX).collect();
    if fit.trim().is_empty() { "unknown".into() } else { fit }
}

fn cut(text: &str) -> String {
    text.chars().take(FIELD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::message::examples::recovery;
    use crate::provenance::Provenance;
    use crate::record::tests::record;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// 2026-11-16T10:00:00Z
    const NOW: u64 = 1_794_823_200_000;
    /// Units of the [schema](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)
    /// that we use.
    const UNITS: [&str; 2] = ["Count", "Seconds"];
    /// Every metric there is.
    const METRICS: [&str; 21] = [
        "ScaledOut",
        "ScaledIn",
        "AtMaximum",
        "ScalingIneffective",
        "ScalingRefused",
        "ScalingStuck",
        "WaitObjectiveMissed",
        "Succeeded",
        "DeployedByOthers",
        "Failed",
        "RolledBack",
        "TakenBackByTidegate",
        "Held",
        "Recovered",
        "RecoveryFailed",
        "Superseded",
        "RecoverySeconds",
        "RolloutSeconds",
        "PushToLiveSeconds",
        "CommitToLiveSeconds",
        "Rejects",
    ];

    fn finished(state: State) -> Record {
        Record {
            reason: "the rollout completed".into(),
            live_at: matches!(state, State::Succeeded | State::RolledBack)
                .then(|| "2026-11-16T09:57:49Z".parse().unwrap()),
            finished_at: Some("2026-11-16T09:57:49Z".parse().unwrap()),
            rolled_back_at: (state == State::RolledBack).then(|| "2026-11-16T09:59:00Z".parse().unwrap()),
            ..record(state)
        }
    }

    /// The metrics of a document with their values, in order of their names.
    fn metrics(document: &Value) -> Vec<(String, u64)> {
        let definitions = document["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        let names = definitions.iter().map(|metric| metric["Name"].as_str().unwrap());
        let mut metrics: Vec<_> = names.map(|name| (name.to_owned(), document[name].as_u64().unwrap())).collect();
        metrics.sort();
        metrics
    }

    fn counted(record: &Record) -> Vec<(String, u64)> {
        of_deployment(record, NOW).map(|document| metrics(&document)).unwrap_or_default()
    }

    /// What the specification and its JSON schema ask of a document, and CloudWatch of a dimension.
    fn is_emf(document: &Value) -> Result<(), String> {
        let check = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {document}")) };
        let is_name = |name: &str| (1..=255).contains(&name.chars().count()) && name.is_ascii();
        check(document.to_string().len() < 256 * 1024, "the size of a log event")?;
        check(!document.to_string().contains('\n'), "one line")?;
        check(document["_aws"]["Timestamp"].is_u64(), "Timestamp is an integer")?;
        let directives = document["_aws"]["CloudWatchMetrics"].as_array().ok_or("CloudWatchMetrics is an array")?;
        check(document["_aws"].as_object().is_some_and(|metadata| metadata.len() == 2), "nothing else in _aws")?;
        for directive in directives {
            check(directive.as_object().is_some_and(|members| members.len() == 3), "nothing else in a directive")?;
            check(directive["Namespace"].as_str().is_some_and(is_name), "Namespace")?;
            let sets = directive["Dimensions"].as_array().filter(|sets| !sets.is_empty()).ok_or("Dimensions")?;
            for set in sets {
                let keys = set.as_array().filter(|keys| keys.len() <= 9).ok_or("at most 9 dimensions")?;
                for key in keys {
                    let key = key.as_str().filter(|key| is_name(key) && !key.starts_with(':')).ok_or("a key")?;
                    let value = document[key].as_str().ok_or("a dimension's value is a string of the root")?;
                    check((1..=1024).contains(&value.len()), "the length of a dimension's value")?;
                    check(value.chars().all(|it| it.is_ascii() && !it.is_ascii_control()), "printable ASCII")?;
                    check(!value.trim().is_empty(), "a dimension's value is not blank")?;
                }
            }
            let metrics =
                directive["Metrics"].as_array().filter(|all| (1..=100).contains(&all.len())).ok_or("count")?;
            let mut seen = BTreeSet::new();
            for metric in metrics {
                let name = metric["Name"].as_str().filter(|name| is_name(name)).ok_or("a metric's name")?;
                check(seen.insert(name) && METRICS.contains(&name), "a metric is known, and named once")?;
                check(UNITS.contains(&metric["Unit"].as_str().unwrap_or_default()), "a metric's unit")?;
                check(document[name].is_u64(), "a metric's value is a number of the root")?;
            }
        }
        Ok(())
    }

    #[test]
    fn documents_are_stable() {
        let committed = Some("2026-11-16T09:40:00Z".parse().unwrap());
        let told = Record {
            provenance: Some(Provenance { committed, ..Provenance::default() }),
            ..finished(State::Succeeded)
        };
        insta::assert_json_snapshot!([of_deployment(&told, NOW).unwrap(), rejects("tidegate-deploy", 2, NOW)]);
    }

    #[test]
    fn what_was_done_to_the_size_of_something_is_counted_with_its_numbers() {
        let service = Subject {
            environment: "live".into(),
            cluster: "production".into(),
            service: Some("worker".into()),
            channel: None,
        };
        let cluster = Subject { environment: "production".into(), service: None, ..service.clone() };
        let out = of_scaling(&service, &["ScaledOut"], Some(&json!({"wanted": 12})), NOW);
        let stuck = of_scaling(&cluster, &["ScalingStuck"], None, NOW);
        for document in [&out, &stuck] {
            assert_eq!(is_emf(document), Ok(()));
        }
        assert_eq!((&out["Service"], &out["inputs"]["wanted"]), (&json!("production/worker"), &json!(12)));
        assert_eq!((&stuck["Environment"], &stuck["Service"]), (&json!("production"), &json!("production")));
        assert_eq!(metrics(&out), [("ScaledOut".to_owned(), 1)]);
    }

    #[test]
    fn every_outcome_is_counted_by_its_own_metric() {
        let external = Record { origin: Origin::External, pushed_at: None, ..finished(State::Succeeded) };
        let outcome = |name: &str| vec![(name.to_owned(), 1)];
        let measured = |name: &str| vec![(name.to_owned(), 1), ("RolloutSeconds".into(), 192)];
        let pushed = [("PushToLiveSeconds".to_owned(), 195), ("RolloutSeconds".into(), 192), ("Succeeded".into(), 1)];
        for (record, expected) in [
            (finished(State::Intended), vec![]),
            (finished(State::Rolling), vec![]),
            (finished(State::Skipped), vec![]),
            (finished(State::Failed), outcome("Failed")),
            (finished(State::Superseded), outcome("Superseded")),
            (before(&["Succeeded"], finished(State::RolledBack)), outcome("RolledBack")),
            (finished(State::RolledBack), [outcome("RolledBack"), pushed.to_vec()].concat()),
            (finished(State::Succeeded), pushed.to_vec()),
            (external, measured("DeployedByOthers")),
        ] {
            let expected: BTreeSet<_> = expected.into_iter().collect();
            let counted = counted(&record).into_iter().collect::<BTreeSet<_>>();
            assert_eq!(counted, expected, "{:?} {:?}", record.state, record.origin);
        }
    }

    fn before(counted: &[&str], record: Record) -> Record {
        Record { metrics_counted: counted.iter().map(|name| (*name).to_owned()).collect(), ..record }
    }

    /// Whatever else changes in a record, and however often.
    #[test]
    fn a_rollback_is_counted_once_on_both_sides_and_is_no_deployment() {
        let (deploy, hold) = (Some(recovery("deploy", "back to web:7")), Some(recovery("hold", "there is none")));
        let bad = |state| Record {
            recovery: deploy.clone(),
            undone_by: Some(UndoneBy::Tidegate),
            ..before(&["Succeeded"], finished(state))
        };
        let back = |state| Record { origin: Origin::Rollback, ..finished(state) };
        let names = |record: &Record| counts(record);
        for (record, expected) in [
            (bad(State::RolledBack), vec!["RolledBack", "TakenBackByTidegate"]),
            (bad(State::Failed), vec!["Failed", "TakenBackByTidegate"]),
            // It was counted as failed before anything was done about it.
            (before(&["Failed"], bad(State::Failed)), vec!["TakenBackByTidegate"]),
            // It is about to be taken back.
            (Record { undone_by: None, ..bad(State::Succeeded) }, vec![]),
            (Record { recovery: hold.clone(), ..before(&["Succeeded"], finished(State::Succeeded)) }, vec!["Held"]),
            (
                Record { recovery: hold, undone_by: None, ..before(&["Failed", "Held"], finished(State::Failed)) },
                vec![],
            ),
            (back(State::Rolling), vec![]),
            (back(State::Succeeded), vec!["Recovered"]),
            (back(State::Failed), vec!["RecoveryFailed"]),
            (before(&["Recovered"], back(State::RolledBack)), vec!["RecoveryFailed"]),
            (back(State::Superseded), vec![]),
            (back(State::Skipped), vec![]),
        ] {
            assert_eq!(names(&record), expected, "{:?} {:?}", record.state, record.origin);
            let counted: Vec<&str> =
                record.metrics_counted.iter().map(String::as_str).chain(expected.iter().copied()).collect();
            let again = Record { version: 9, ..before(&counted, record.clone()) };
            assert_eq!(of_deployment(&again, NOW), None);
        }
        let measured = counted(&back(State::Succeeded));
        assert_eq!(measured, [("Recovered".to_owned(), 1), ("RecoverySeconds".to_owned(), 193)]);
    }

    #[test]
    fn services_of_one_name_in_one_environment_are_kept_apart() {
        let names_of = |environment: &str, cluster: &str| {
            names(&Record { environment: environment.into(), cluster: cluster.into(), ..record(State::Succeeded) })
        };
        for (environment, cluster, expected) in [
            ("", "blue", ("blue", "web")),
            ("blue", "blue", ("blue", "web")),
            ("live", "blue", ("live", "blue/web")),
            ("live", "green", ("live", "green/web")),
            ("本番", "green", ("green", "web")),
            (" ", "green", ("green", "web")),
        ] {
            assert_eq!(
                names_of(environment, cluster),
                (expected.0.into(), expected.1.into()),
                "{environment} {cluster}"
            );
        }
    }

    #[test]
    fn an_outcome_counts_for_its_own_day_where_cloudwatch_still_takes_it() {
        let outcome = millis(finished(State::Succeeded).finished_at.unwrap());
        let day = 24 * 60 * 60 * 1000;
        for (now, expected) in [
            (outcome, outcome),
            (outcome + 13 * day, outcome),
            (outcome + 14 * day, outcome + 14 * day),
            // Our clock is behind.
            (outcome - 1, outcome - 1),
            (u64::MAX, u64::MAX),
        ] {
            let document = of_deployment(&finished(State::Succeeded), now).unwrap();
            assert_eq!(document["_aws"]["Timestamp"], expected);
        }
        let taken_back = finished(State::RolledBack);
        let document = of_deployment(&taken_back, NOW).unwrap();
        assert_eq!(document["_aws"]["Timestamp"], millis(taken_back.rolled_back_at.unwrap()));
        let hold = recovery("hold", "");
        let held = Record { recovery: Some(hold.clone()), ..before(&["Succeeded"], finished(State::Succeeded)) };
        let document = of_deployment(&held, NOW + day).unwrap();
        assert_eq!(document["_aws"]["Timestamp"], millis(hold.at));
    }

    #[test]
    fn the_dashboard_shows_metrics_that_there_are() {
        let template = include_str!("../../infra/template.yaml");
        let shown = |before: &str| -> BTreeSet<&str> {
            template.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
        };
        let shown: BTreeSet<&str> = shown("[\"Tidegate\", \"")
            .union(&shown("Service} MetricName=\\\""))
            .map(|it| it.trim_end_matches('\\'))
            .collect();
        let missing: Vec<_> = shown.iter().filter(|name| !METRICS.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(shown.contains("Succeeded") && shown.contains("DeployedByOthers"), "{shown:?}");
    }

    proptest! {
        #[test]
        fn every_document_is_valid(
            (environment, cluster, service, reason) in (".{0,40}", ".{0,1100}", ".{0,300}", "(?s).{0,800}"),
            (state, origin, remedy) in (0..7_usize, 0..4_usize, 0..4_usize),
            (pushed, started, live, committed) in (any::<i32>(), any::<i32>(), any::<i32>(), any::<i32>()),
            now in any::<u64>(),
            count in any::<usize>(),
        ) {
            let at = |seconds: i32| DateTime::from_timestamp(i64::from(seconds), 0);
            let states = [State::Intended, State::Rolling, State::Succeeded, State::Failed, State::RolledBack,
                State::Superseded, State::Skipped];
            let record = Record {
                environment, cluster, service, reason,
                origin: [Origin::Push, Origin::External, Origin::Release, Origin::Rollback][origin],
                recovery: ["stop", "deploy", "hold"].get(remedy).map(|remedy| recovery(remedy, "")),
                undone_by: Some(UndoneBy::Tidegate),
                pushed_at: at(pushed), started_at: at(started), live_at: at(live), finished_at: at(live),
                provenance: Some(Provenance { committed: at(committed), ..Provenance::default() }),
                ..record(states[state])
            };
            if let Some(document) = of_deployment(&record, now) {
                is_emf(&document).map_err(TestCaseError::fail)?;
                let counted = metrics(&document).into_iter().filter(|(name, _)| !name.ends_with("Seconds"));
                let counted: BTreeSet<(String, u64)> = counted.collect();
                let expected = counts(&record).into_iter().map(|name| (name.to_owned(), 1));
                prop_assert_eq!(counted, expected.collect::<BTreeSet<_>>());
            }
            is_emf(&rejects(&record.service, count, now)).map_err(TestCaseError::fail)?;
        }

        #[test]
        fn two_services_never_share_a_metric(
            a in ("(|live|blue|green)", "(blue|green)", "(web|api)"),
            b in ("(|live|blue|green)", "(blue|green)", "(web|api)"),
        ) {
            let of = |(environment, cluster, service): &(String, String, String)| names(&Record {
                environment: environment.clone(), cluster: cluster.clone(), service: service.clone(),
                ..record(State::Succeeded)
            });
            prop_assert!(of(&a) != of(&b) || (&a.1, &a.2) == (&b.1, &b.2), "{a:?} {b:?}");
        }
    }
}
