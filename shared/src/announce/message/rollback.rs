//! A deployment that turned bad, and the one that brings a good release back, in words: what was wrong, what was done
//! about it, and what keeps the image away.

use serde_json::Value;

use super::Style;
use super::mrkdwn::{block, list, words};
use super::outcome::{SENTENCE_UNITS_MAX, between, progress, sentences};
use super::section;
use super::version::NAME_UNITS_MAX;
use crate::image::short_digest;
use crate::record::{Origin, Record, Recovery, Remedy, State};

/// How many releases that were passed over are named.
const PASSED_MAX: usize = 8;

/// Whether the deployment is bad and stays, so that a person has to see to it.
pub(crate) fn is_held(record: &Record) -> bool {
    let is_there = matches!(record.state, State::Rolling | State::Succeeded | State::Failed | State::RolledBack);
    is_there && remedy(record) == Some(Remedy::Hold)
}

/// Whether Tidegate takes it back, or has.
pub(crate) fn is_taken_back(record: &Record) -> bool {
    let is_there = !matches!(record.state, State::Superseded | State::Skipped);
    is_there && matches!(remedy(record), Some(Remedy::Stop | Remedy::Deploy))
}

/// Whether it brings a good release back.
pub(crate) fn is_recovery(record: &Record) -> bool {
    record.origin == Origin::Rollback
}

/// The digest that is kept from the service since.
pub(crate) fn quarantined(record: &Record) -> Option<&str> {
    let is_bad = record.has_gone_bad() || record.recovery.is_some() && !is_recovery(record);
    Some(record.digest.as_str()).filter(|digest| is_bad && !digest.is_empty())
}

fn remedy(record: &Record) -> Option<Remedy> {
    record.recovery.as_ref().map(|recovery| recovery.remedy)
}

/// Emoji and words, where they are not those of any deployment. `after` is how long it took.
pub(super) fn headline(record: &Record, after: &str) -> Option<(&'static str, String)> {
    let recovery = record.recovery.as_ref();
    if is_held(record) {
        let what = match (record.state, between(record.live_at, recovery.map(|recovery| recovery.at))) {
            (State::Failed, _) => format!("failed{after}"),
            (State::Rolling, _) => format!("bad{}", progress(record.progress)),
            (_, Some(time)) => format!("bad {time} after going live"),
            _ => "bad".to_owned(),
        };
        return Some((":rotating_light:", format!("{what}, not taken back")));
    }
    match record.state {
        State::Intended | State::Rolling if is_taken_back(record) => {
            Some((":rewind:", "about to be taken back".into()))
        }
        State::Succeeded if is_taken_back(record) => Some((":rewind:", "live, and about to be taken back".into())),
        // It has not failed by itself.
        State::Failed if is_taken_back(record) && recovery.is_some_and(is_asked) => {
            Some((":rewind:", format!("taken back{after}")))
        }
        _ if !is_recovery(record) => None,
        State::Intended => Some((":rewind:", "about to go back".into())),
        State::Rolling => Some((":rewind:", format!("going back{}", progress(record.progress)))),
        State::Succeeded => Some((":white_check_mark:", format!("went back, live{after}"))),
        State::Failed => Some((":x:", format!("going back failed{after}"))),
        State::Superseded => Some((":fast_forward:", format!("going back was superseded{after}"))),
        State::Skipped => Some((":no_entry_sign:", "nothing to go back to".into())),
        State::RolledBack => None,
    }
}

fn is_asked(recovery: &Recovery) -> bool {
    recovery.actor.is_some() || !recovery.event_id.is_empty()
}

/// What was wrong, and what was done about it: a line each. `None` where this is no matter of a rollback by Tidegate.
pub(super) fn why(record: &Record, style: Style<'_>) -> Option<Vec<String>> {
    let summary = record.diagnosis.as_ref().map_or("", |diagnosis| &diagnosis.summary);
    if is_held(record) || is_taken_back(record) {
        let fault = record.recovery.as_ref().map(|recovery| &*recovery.why).filter(|why| !why.is_empty());
        let fault = fault.unwrap_or(&record.reason);
        // What the tasks died of may be the fault itself, counted in other words.
        let cause = summary.split_once(": ").map_or(summary, |(_, cause)| cause);
        let mut lines = sentences([fault, if fault.contains(cause) { "" } else { summary }]);
        lines.extend(record.recovery.as_ref().map(|recovery| done(record, recovery, style)));
        lines.extend(is_recovery(record).then(|| taken_back(record, style)));
        return Some(lines);
    }
    is_recovery(record).then(|| {
        let mut lines = match record.state {
            State::Intended | State::Rolling | State::Succeeded => Vec::new(),
            _ => sentences([summary, &record.reason]),
        };
        lines.push(taken_back(record, style));
        lines
    })
}

/// What was done about a bad deployment, and what serves now as far as that is certain.
fn done(record: &Record, recovery: &Recovery, style: Style<'_>) -> String {
    let link = record.link_to_recovery.as_ref();
    let to = recovery.release.as_deref().map(|name| style.name(name, NAME_UNITS_MAX)).filter(|name| !name.is_empty());
    let good = to.unwrap_or_else(|| "a good release".into());
    let done = match (recovery.remedy, link.map(|link| link.state)) {
        (Remedy::Hold, _) => return words(&recovery.reason, SENTENCE_UNITS_MAX),
        (Remedy::Stop, _) => return format!("Tidegate has told ECS to stop the rollout and to go back to {good}"),
        (Remedy::Deploy, Some(State::Succeeded)) => {
            let time = between(Some(recovery.at), link.and_then(|link| link.live_at));
            format!("{good} serves again{}", time.map(|time| format!(", {time} after that")).unwrap_or_default())
        }
        (Remedy::Deploy, Some(State::RolledBack)) => format!("{good} was brought back, and taken back as well"),
        (Remedy::Deploy, Some(State::Failed)) => format!("{good} could not be brought back, look at the service"),
        (Remedy::Deploy, Some(State::Superseded)) => {
            format!("a newer deployment took the place of the one that was to bring {good} back")
        }
        (Remedy::Deploy, _) => format!("Tidegate brings {good} back"),
    };
    match &recovery.record {
        Some(id) => format!("{done}: {}", style.linked(style.links.recovery.as_deref(), &deployment(id))),
        None => done,
    }
}

/// Which deployment a recovery takes back, and what was wrong with that.
fn taken_back(record: &Record, style: Style<'_>) -> String {
    // Until it has ended, its own reason is what was wrong.
    let reason = match &record.link_to_bad {
        Some(bad) => &bad.reason,
        None if record.state.is_open() => &record.reason,
        None => "",
    };
    let reason = Some(words(reason, SENTENCE_UNITS_MAX)).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let bad = deployment(record.recovers.as_deref().unwrap_or_default());
    let what = if record.state == State::Skipped { "stays" } else { "was taken back" };
    format!("{} {what}{reason}", style.linked(style.links.bad.as_deref(), &bad))
}

fn deployment(id: &str) -> String {
    match words(id, 60) {
        id if id.is_empty() => "a bad deployment".into(),
        id => format!("deployment {id}"),
    }
}

/// What people should know beside: that the image is kept away, and that a release is more than its tasks.
pub(super) fn cautions(record: &Record, style: Style<'_>) -> Vec<String> {
    let digest = quarantined(record).map(|digest| style.name(short_digest(digest), NAME_UNITS_MAX));
    let quarantine = digest.filter(|digest| !digest.is_empty());
    // What is held says itself what can be done.
    let way_out = if is_held(record) { "" } else { ": push a new image, or release it" };
    let quarantine = quarantine.map(|it| format!("{it} is in quarantine here{way_out}"));
    let is_undone = is_taken_back(record) || is_recovery(record) && record.state != State::Skipped;
    quarantine.into_iter().chain(is_undone.then(|| "a database migration is not undone".to_owned())).collect()
}

/// For the thread: releases that were passed over, and how to let the image be deployed again.
pub(super) fn details(record: &Record) -> impl Iterator<Item = Value> {
    let passed = record.recovery.as_ref().map_or(&[][..], |recovery| &recovery.passed_over);
    let passed = Some(list(passed, PASSED_MAX, 200, "\n• ")).filter(|passed| !passed.is_empty());
    let passed = passed.map(|passed| section("passed", &format!("*Passed over*\n• {passed}")));
    passed.into_iter().chain(release_event(record).map(|event| section("release", &event)))
}

/// The event by which a person releases the image.
fn release_event(record: &Record) -> Option<String> {
    let digest = quarantined(record)?;
    let text = |text: &str| Value::from(text).to_string();
    let service = text(&record.service_ref().to_string());
    let lines = [
        "{\"source\": \"tidegate\", \"detail-type\": \"Release\", \"detail\": {".to_owned(),
        format!("  \"service\": {service},"),
        format!("  \"digest\": {},", text(digest)),
        "  \"actor\": \"your name\"}}".to_owned(),
    ];
    let has_stopped = record.recovery.as_ref().is_some_and(|recovery| recovery.stops_deployments);
    let but = match is_held(record) && has_stopped {
        true => "; without the digest it lets other images in, and this one stays out",
        false => "",
    };
    Some(format!("*To release the image*, send this event to the deploy function{but}\n{}", block(&lines, 1200)?))
}

#[cfg(test)]
mod tests {
    use super::super::examples::{recovery, taken_back_record};
    use super::*;
    use crate::links::Links;
    use crate::record::Link;
    use crate::record::tests::record;

    fn lines(record: &Record) -> Vec<String> {
        why(record, Style::words(&Links::default())).unwrap()
    }

    #[test]
    fn a_bad_deployment_says_how_far_its_recovery_is() {
        let link = |state| Link {
            state,
            reason: String::new(),
            live_at: Some("2026-11-16T10:02:45Z".parse().unwrap()),
            slack_channel: None,
            slack_ts: None,
        };
        let bad = taken_back_record();
        for (state, said) in [
            (None, "Tidegate brings 1.41.0 back: deployment 01JD90"),
            (Some(State::Rolling), "Tidegate brings 1.41.0 back: deployment 01JD90"),
            (Some(State::Succeeded), "1.41.0 serves again, 45s after that: deployment 01JD90"),
            (Some(State::Failed), "1.41.0 could not be brought back, look at the service: deployment 01JD90"),
            (Some(State::RolledBack), "1.41.0 was brought back, and taken back as well: deployment 01JD90"),
            (Some(State::Superseded), "a newer deployment took the place of the one that was to bring 1.41.0 back"),
        ] {
            let bad = Record { link_to_recovery: state.map(link), ..bad.clone() };
            let lines = lines(&bad);
            assert!(lines[2].starts_with(said), "{state:?}: {lines:?}");
        }
    }

    #[test]
    fn what_was_passed_over_is_for_the_thread() {
        let passed =
            recovery("deploy", "back to 1.40.0; passed over: 1.41.0: it is in quarantine; web:6: it is failed");
        let bad = Record { recovery: Some(passed), ..taken_back_record() };
        assert!(!lines(&bad).concat().contains("passed over"));
        let details: Vec<String> = details(&bad).map(|block| block.to_string()).collect();
        assert!(details[0].contains("• 1.41.0: it is in quarantine\\n• web:6: it is failed"), "{details:?}");
    }

    #[test]
    fn the_event_that_releases_can_be_copied() {
        let event = release_event(&taken_back_record()).unwrap();
        let json = event.split("```").nth(1).unwrap();
        let json: Value = serde_json::from_str(json).unwrap();
        let asked = crate::events::read(&json).unwrap();
        let crate::events::Event::Release(asked) = asked else { panic!("{asked:?}") };
        assert_eq!(asked.digest, Some(taken_back_record().digest));
        assert_eq!(asked.service.to_string(), "production/web");
    }

    #[test]
    fn in_quarantine_is_what_has_gone_bad_and_never_a_release_that_was_brought_back() {
        let is_in = |record: &Record| quarantined(record).is_some();
        assert!(is_in(&record(State::Failed)) && is_in(&record(State::RolledBack)));
        let held = Record { recovery: Some(recovery("hold", "")), ..record(State::Succeeded) };
        assert!(is_in(&held) && !is_in(&record(State::Succeeded)));
        let never_started = Record { ecs_deployment_id: None, ..record(State::Failed) };
        let brought_back = Record { origin: Origin::Rollback, ..record(State::Failed) };
        let unknown = Record { digest: String::new(), ..record(State::Failed) };
        assert!([never_started, brought_back, unknown].iter().all(|record| !is_in(record)));
    }
}
