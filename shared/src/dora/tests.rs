use super::*;
use crate::announce::message::examples::recovery;
use crate::provenance::Provenance;
use crate::record::tests::{ALL, record};
use crate::record::{Origin, State};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

fn day(day: &str) -> NaiveDate {
    day.parse().unwrap()
}

/// A time in November of 2026, such as `16 09:57:49`.
fn at(time: &str) -> DateTime<Utc> {
    let (day, time) = time.split_once(' ').unwrap();
    format!("2026-11-{day}T{time}Z").parse().unwrap()
}

/// A record of `web` that ended then, three minutes after its push.
fn ended(id: &str, state: State, end: &str) -> Record {
    let end = at(end);
    Record {
        id: id.into(),
        pushed_at: Some(end - TimeDelta::seconds(180)),
        detected_at: end - TimeDelta::seconds(178),
        started_at: Some(end - TimeDelta::seconds(177)),
        live_at: matches!(state, State::Succeeded | State::RolledBack).then_some(end),
        finished_at: Some(end),
        ..record(state)
    }
}

fn taken_back(id: &str, live: &str, taken_back: &str) -> Record {
    Record { rolled_back_at: Some(at(taken_back)), ..ended(id, State::RolledBack, live) }
}

/// Two services, with everything that can happen to them.
fn history() -> Vec<Record> {
    let committed = Provenance { committed: Some(at("02 09:00:00")), ..Provenance::default() };
    let api = |record| Record { service: "api".into(), environment: "live".into(), ..record };
    vec![
        Record { provenance: Some(committed), ..ended("A", State::Succeeded, "02 10:00:00") },
        ended("B", State::Failed, "03 10:00:00"),
        ended("C", State::Succeeded, "03 12:00:00"),
        taken_back("D", "10 10:00:00", "10 10:30:00"),
        ended("E", State::Superseded, "10 11:00:00"),
        ended("F", State::Succeeded, "10 11:30:00"),
        ended("G", State::Skipped, "11 10:00:00"),
        Record { finished_at: None, ..ended("H", State::Rolling, "12 10:00:00") },
        api(Record { origin: Origin::External, pushed_at: None, ..ended("I", State::Succeeded, "04 10:00:00") }),
        api(taken_back("J", "28 23:59:59", "29 00:10:00")),
        // Outside the window: it counts for nothing, but ends a recovery.
        api(ended("K", State::Succeeded, "29 01:10:00")),
    ]
}

fn november(records: &[Record]) -> Report {
    report(records, day("2026-11-01"), day("2026-11-28"))
}

fn web(records: &[Record]) -> Measures {
    november(records).services.into_iter().find(|one| one.service == "web").unwrap().measures
}

#[test]
fn the_report_is_stable() {
    let mut report = serde_json::to_value(november(&history())).unwrap();
    let services = report["services"].as_array().unwrap().len();
    let mut shorten = |pointer: String| {
        let days = report.pointer_mut(&format!("{pointer}/deployment_frequency/by_day")).unwrap();
        days.as_array_mut().unwrap().truncate(2);
    };
    shorten("/total".into());
    (0..services).for_each(|service| shorten(format!("/services/{service}")));
    insta::assert_json_snapshot!(report);
}

#[test]
fn the_table_is_for_people() {
    insta::assert_snapshot!(text(&november(&history())));
    insta::assert_snapshot!(text(&november(&[])));
}

#[test]
fn each_outcome_is_counted_for_what_it_is() {
    let measures = web(&history());
    let expected = Counts {
        deployments: 4,
        succeeded: 3,
        rolled_back: 1,
        failed_before_serving: 1,
        superseded: 1,
        ..Counts::default()
    };
    assert_eq!(measures.counts, expected);
    assert_eq!(measures.change_fail_rate.value, Some(0.25));
    assert_eq!(measures.failed_before_serving_rate.value, Some(0.2));
    // C came after B, and F after D.
    assert_eq!((measures.rework_rate.count, measures.rework_rate.of), (2, 4));
    let days = measures.deployment_frequency.by_day;
    assert_eq!(days.len(), 28);
    let busy: Vec<_> = days.iter().filter(|day| day.deployments > 0).map(|day| (day.date, day.deployments)).collect();
    assert_eq!(busy, [(day("2026-11-02"), 1), (day("2026-11-03"), 1), (day("2026-11-10"), 2)]);
}

#[test]
fn a_recovery_lasts_from_taken_back_to_the_next_one_that_stays() {
    let again = |records: &[Record]| web(records).recovery_time;
    let bad = taken_back("D", "10 10:00:00", "10 10:30:00");
    let worse = taken_back("E", "10 11:00:00", "10 11:10:00");
    let good = ended("F", State::Succeeded, "10 12:00:00");
    let before = ended("A", State::Succeeded, "10 10:29:59");
    let elsewhere = Record { service: "api".into(), ..ended("G", State::Succeeded, "10 11:30:00") };

    let one = again(&[bad.clone(), before.clone(), elsewhere, good.clone()]);
    assert_eq!((one.median_seconds, one.of), (Some(5400), 1));
    assert_eq!(one.each[0].recovered_by.as_deref(), Some("F"));
    let two = again(&[bad.clone(), worse.clone(), good]);
    assert_eq!((two.median_seconds, two.of), (Some((5400 + 3000) / 2), 2));
    let none = again(&[bad, worse, before.clone()]);
    assert_eq!((none.median_seconds, none.of, none.each.len()), (None, 0, 2));
    assert_eq!(none.unknown_because, Some("nothing good has been live since"));
    assert_eq!(again(&[before]).unknown_because, Some("nothing was taken back"));
}

/// What Tidegate brings back, in any state.
fn brought_back(id: &str, state: State, end: &str) -> Record {
    let committed = Provenance { committed: Some(at("01 09:00:00")), ..Provenance::default() };
    Record { origin: Origin::Rollback, provenance: Some(committed), ..ended(id, state, end) }
}

fn with_remedy(remedy: &str, record: Record) -> Record {
    let at = record.rolled_back_at.or(record.finished_at).unwrap();
    Record { recovery: Some(crate::record::Recovery { at, ..recovery(remedy, "") }), ..record }
}

#[test]
fn what_is_brought_back_ends_a_failure_and_is_no_deployment() {
    let bad = with_remedy("deploy", taken_back("D", "10 10:00:00", "10 10:30:00"));
    let alone = web(std::slice::from_ref(&bad));
    let later = ended("F", State::Succeeded, "10 12:00:00");
    for (state, ended_by) in [
        (State::Succeeded, Some(("R", 45))),
        (State::Failed, None),
        (State::Superseded, None),
        (State::Rolling, None),
        (State::Skipped, None),
    ] {
        let measures = web(&[bad.clone(), brought_back("R", state, "10 10:30:45")]);
        let each = &measures.recovery_time.each[0];
        let by = each.recovered_by.as_deref().zip(each.seconds);
        assert_eq!(by, ended_by, "{state:?}");
        let counts = Counts { brought_back: 0, ..measures.counts };
        assert_eq!((counts, measures.rework_rate.count), (alone.counts, 0), "{state:?}");
        assert_eq!(measures.counts.brought_back, u64::from(state == State::Succeeded));
        let others = [&measures.push_to_live, &measures.change_lead_time];
        assert_eq!(others, [&alone.push_to_live, &alone.change_lead_time], "{state:?}");
        assert_eq!(measures.deployment_frequency, alone.deployment_frequency, "{state:?}");
        assert_eq!(measures.change_fail_rate.value, Some(1.0), "{state:?}");
        assert_eq!(measures.failed_before_serving_rate.count, 0, "{state:?}");
        // What follows a way back that failed is rework of the bad deployment, and mends it.
        let mended = web(&[bad.clone(), brought_back("R", state, "10 10:30:45"), later.clone()]);
        assert_eq!(mended.rework_rate.count, 1, "{state:?}");
        assert_eq!(mended.recovery_time.median_seconds, Some(if ended_by.is_some() { 45 } else { 5400 }));
    }
}

#[test]
fn what_something_good_has_to_replace_has_a_time_of_recovery() {
    let back = brought_back("R", State::Succeeded, "10 10:40:00");
    let failed = || ended("D", State::Failed, "10 10:30:00");
    let live = || ended("D", State::Succeeded, "10 10:30:00");
    for (what, bad, expected) in [
        ("it had to be replaced", with_remedy("deploy", failed()), Some(600)),
        ("a person had to see to it", with_remedy("hold", failed()), Some(600)),
        ("it was live, and stayed", with_remedy("hold", live()), Some(600)),
        ("ECS was told to go back", with_remedy("stop", failed()), None),
        ("ECS went back", failed(), None),
        ("nothing was wrong", live(), None),
        // What is about to be taken back is told when it is.
        ("it is about to be replaced", with_remedy("deploy", live()), None),
    ] {
        let measures = web(&[bad, back.clone()]);
        assert_eq!(measures.recovery_time.median_seconds, expected, "{what}");
        assert_eq!(measures.recovery_time.each.len(), usize::from(expected.is_some()), "{what}");
    }
    let held = web(&[with_remedy("hold", live())]);
    assert_eq!((held.counts.succeeded, held.counts.rolled_back, held.change_fail_rate.value), (0, 1, Some(1.0)));
    assert_eq!(held.recovery_time.unknown_because, Some("nothing good has been live since"));
}

#[test]
fn a_deployment_long_after_a_failure_is_no_rework() {
    for (live, expected) in [("04 10:00:00", 1), ("04 10:00:01", 0), ("03 10:00:00", 0), ("03 09:59:59", 0)] {
        let records = [ended("B", State::Failed, "03 10:00:00"), ended("C", State::Succeeded, live)];
        assert_eq!(web(&records).rework_rate.count, expected, "{live}");
    }
}

#[test]
fn what_can_not_be_known_is_null_with_a_reason() {
    let unknown = |measures: &Measures| {
        [
            measures.deployment_frequency.unknown_because,
            measures.change_fail_rate.unknown_because,
            measures.failed_before_serving_rate.unknown_because,
            measures.recovery_time.unknown_because,
            measures.push_to_live.unknown_because,
            measures.change_lead_time.unknown_because,
            measures.rework_rate.unknown_because,
        ]
        .map(|why| why.is_some())
    };
    assert_eq!(unknown(&november(&[]).total), [true; 7]);
    assert_eq!(november(&[]).total.deployment_frequency.per_day, None);
    // A service that only has skipped is known to have deployed nothing; four weeks are no month.
    let skipped = november(&[ended("G", State::Skipped, "11 10:00:00")]).total;
    assert_eq!(skipped.deployment_frequency.per_day, Some(0.0));
    assert_eq!(unknown(&skipped), [true; 7]);
    let failed = november(&[ended("B", State::Failed, "11 10:00:00")]).total;
    assert_eq!(unknown(&failed), [true, true, false, true, true, true, true]);
    let unnamed = november(&[ended("A", State::Succeeded, "11 10:00:00")]).total;
    assert_eq!(unknown(&unnamed), [true, false, false, true, false, true, false]);
}

#[test]
fn a_window_has_its_last_day_and_no_more_than_ten_years() {
    let one = report(&history(), day("2026-11-02"), day("2026-11-02"));
    assert_eq!((one.days, one.total.counts.deployments), (1, 1));
    let none = report(&history(), day("2026-11-03"), day("2026-11-02"));
    assert_eq!((none.days, none.total.counts, none.total.deployment_frequency.per_day), (0, Counts::default(), None));
    let long = report(&history(), NaiveDate::MIN, day("2026-11-28"));
    assert_eq!((long.days, long.from), (DAYS_MAX, day("2016-11-28")));
}

fn any_record() -> impl Strategy<Value = Record> {
    let states = prop::sample::select(ALL.to_vec());
    let origins = prop::sample::select(vec![
        Origin::Push,
        Origin::Tags,
        Origin::Sweep,
        Origin::External,
        Origin::Release,
        Origin::Rollback,
    ]);
    let remedies = prop::sample::select(vec![None, None, Some("stop"), Some("deploy"), Some("hold")]);
    // Minutes since some days before the window; absent, or in any order.
    let time = || prop::option::weighted(0.9, 0..60_000_i64);
    let names = ("(|live)", "(blue|green)", "(web|api)");
    let origins = (origins, remedies);
    (names, states, origins, 0..60_000_i64, (time(), time(), time(), time(), time()), any::<u32>()).prop_map(
        |((environment, cluster, service), state, origins, detected, (pushed, started, live, back, committed), id)| {
            let (origin, remedy) = origins;
            let at = |minutes: i64| at("01 00:00:00") - TimeDelta::days(7) + TimeDelta::minutes(minutes);
            Record {
                id: format!("{id:010}"),
                environment,
                cluster,
                service,
                origin,
                detected_at: at(detected),
                pushed_at: pushed.map(at),
                started_at: started.map(at),
                live_at: live.map(at),
                finished_at: live.map(at),
                rolled_back_at: back.map(at),
                recovery: remedy.map(|remedy| recovery(remedy, "")),
                provenance: Some(Provenance { committed: committed.map(at), ..Provenance::default() }),
                ..record(state)
            }
        },
    )
}

fn any_history() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(any_record(), 0..24)
}

/// Every set of measures in a report.
fn all(report: &Report) -> impl Iterator<Item = &Measures> {
    report.services.iter().map(|service| &service.measures).chain([&report.total])
}

proptest! {
    // A case is many records, and each report every day of the window for every service.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_records_does_not_matter(
        (records, shuffled) in any_history().prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
    ) {
        prop_assert_eq!(november(&records), november(&shuffled));
    }

    #[test]
    fn a_day_without_deployments_only_dilutes(records in any_history(), days in 1..60_u64) {
        let (from, to) = (day("2026-11-01"), day("2027-01-31"));
        let short = report(&records, from, to);
        let long = report(&records, from, to + Days::new(days));
        for (short, long) in all(&short).zip(all(&long)) {
            prop_assert_eq!(short.counts, long.counts);
            prop_assert_eq!(&short.change_fail_rate, &long.change_fail_rate);
            prop_assert_eq!(&short.push_to_live, &long.push_to_live);
            let (before, after) = (&short.deployment_frequency, &long.deployment_frequency);
            prop_assert!(after.per_day <= before.per_day);
            prop_assert_eq!(before.days + days, after.days);
        }
    }

    #[test]
    fn rates_are_shares_and_nothing_is_null_without_a_reason(records in any_history()) {
        let report = november(&records);
        for measures in all(&report) {
            for rate in [&measures.change_fail_rate, &measures.failed_before_serving_rate, &measures.rework_rate] {
                prop_assert!(rate.value.is_none_or(|value| (0.0..=1.0).contains(&value)), "{rate:?}");
                prop_assert_eq!(rate.value.is_none(), rate.unknown_because.is_some());
                prop_assert_eq!(rate.value.is_none(), rate.of == 0);
            }
            for durations in [&measures.push_to_live, &measures.change_lead_time] {
                prop_assert!(durations.median_seconds <= durations.p90_seconds);
                prop_assert_eq!(durations.median_seconds.is_none(), durations.unknown_because.is_some());
                prop_assert!(durations.of <= measures.counts.deployments);
            }
        }
    }

    #[test]
    fn totals_add_up(records in any_history()) {
        let report = november(&records);
        for measures in all(&report) {
            let Counts { deployments, by_others, succeeded, rolled_back, .. } = measures.counts;
            prop_assert_eq!(succeeded + rolled_back, deployments);
            prop_assert!(by_others <= deployments);
            let days = &measures.deployment_frequency.by_day;
            prop_assert_eq!(days.len(), 28);
            prop_assert_eq!(days.iter().map(|day| day.deployments).sum::<u64>(), deployments);
            prop_assert_eq!(days.iter().map(|day| day.by_others).sum::<u64>(), by_others);
            // Beside those, rollouts that had to be replaced.
            let bad = measures.recovery_time.each.len() as u64;
            prop_assert!(bad <= rolled_back + measures.counts.failed_before_serving);
        }
        let sum = |of: fn(&Measures) -> u64| report.services.iter().map(|one| of(&one.measures)).sum::<u64>();
        let parts: [fn(&Measures) -> u64; 8] = [
            |it| it.counts.deployments,
            |it| it.counts.by_others,
            |it| it.counts.failed_before_serving,
            |it| it.counts.superseded,
            |it| it.recovery_time.of,
            |it| it.push_to_live.of,
            |it| it.change_lead_time.of,
            |it| it.rework_rate.count,
        ];
        for part in parts {
            prop_assert_eq!(sum(part), part(&report.total));
        }
        let table = text(&report);
        prop_assert!(table.lines().all(|line| line.chars().count() < 200 && line.trim_end() == line), "{table}");
    }

    #[test]
    fn no_window_panics(records in any_history(), from in any::<i32>(), to in any::<i32>()) {
        let day = |days: i32| NaiveDate::from_num_days_from_ce_opt(days / 6).unwrap_or(NaiveDate::MAX);
        let report = report(&records, day(from), day(to));
        prop_assert!(report.days <= DAYS_MAX);
    }
}
