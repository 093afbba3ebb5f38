//! What people are told of scaling: not each change, but what they have to see to, and when it is over.
//!
//! Pure. A state that lasts is told once, after it has lasted for a while, and edited when it has been over for a while.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::announce::message::mrkdwn::words;
use crate::announce::message::{Message, section, small};
pub use crate::metrics::Subject;

/// How long something has to last before people are told.
const PATIENCE: TimeDelta = TimeDelta::minutes(3);
/// How long it has to be over before people are told.
const CALM: TimeDelta = TimeDelta::minutes(10);
/// The longest text, in units of UTF-16.
const TEXT_UNITS_MAX: usize = 2000;
const NAME_UNITS_MAX: usize = 200;

/// What people have to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// More is needed than is allowed.
    AtMaximum,
    /// More does not help.
    Ineffective,
    /// Tidegate does not scale it, and why.
    Refused,
    /// Something did not become what it should have.
    Stuck,
}

impl Kind {
    /// How others know it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtMaximum => "at_maximum",
            Self::Ineffective => "ineffective",
            Self::Refused => "refused",
            Self::Stuck => "stuck",
        }
    }

    /// The metric that counts it, once for each time that people are told.
    #[must_use]
    pub fn metric(self) -> &'static str {
        match self {
            Self::AtMaximum => "AtMaximum",
            Self::Ineffective => "ScalingIneffective",
            Self::Refused => "ScalingRefused",
            Self::Stuck => "ScalingStuck",
        }
    }

    fn patience(self) -> TimeDelta {
        if self == Self::Refused { TimeDelta::zero() } else { PATIENCE }
    }

    fn calm(self) -> TimeDelta {
        if self == Self::Refused { TimeDelta::zero() } else { CALM }
    }

    fn headline(self, is_over: bool) -> &'static str {
        match (self, is_over) {
            (Self::AtMaximum, false) => "at its maximum, and needs more",
            (Self::AtMaximum, true) => "no longer needs more than its maximum",
            (Self::Ineffective, false) => "more does not help",
            (Self::Ineffective, true) => "keeps up again",
            (Self::Refused, false) => "not scaled by Tidegate",
            (Self::Refused, true) => "scaled by Tidegate again",
            (Self::Stuck, false) => "does not scale as it should",
            (Self::Stuck, true) => "scales as it should again",
        }
    }
}

/// Something that people have to see to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Since when it is so.
    pub since: DateTime<Utc>,
    /// When it was last so.
    pub seen: DateTime<Utc>,
    /// What it is, with its numbers.
    pub text: String,
    /// What people were told of it; `None`: nothing.
    pub told: Option<String>,
    /// Where its Slack message is, as the channel's id and Slack's id of the message.
    pub slack: Option<(String, String)>,
}

impl Notice {
    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self, kind: Kind, now: DateTime<Utc>) -> bool {
        self.seen < now && now - self.seen >= kind.calm()
    }
}

/// All there is of one service or cluster.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Notices(BTreeMap<Kind, Notice>);

impl Notices {
    /// Notes what is so `now`, and forgets what is over and was told to nobody.
    pub fn note(&mut self, now: DateTime<Utc>, conditions: &[(Kind, String)]) {
        for (kind, text) in conditions {
            let new = || Notice { since: now, seen: now, text: text.clone(), told: None, slack: None };
            let notice = self.0.entry(*kind).or_insert_with(new);
            // It was over, though nobody could be told so.
            if notice.is_over(*kind, now) && *kind != Kind::Refused {
                notice.since = now;
            }
            notice.seen = now;
            notice.text.clone_from(text);
        }
        self.0.retain(|kind, notice| notice.told.is_some() || !notice.is_over(*kind, now));
    }

    /// Those of which people are to be told now: that they are so, or that they are over.
    #[must_use]
    pub fn owed(&self, now: DateTime<Utc>) -> Vec<Kind> {
        let is_owed = |kind: Kind, notice: &Notice| match &notice.told {
            None => notice.seen - notice.since >= kind.patience() && !notice.is_over(kind, now),
            Some(told) => notice.is_over(kind, now) || kind == Kind::Refused && *told != notice.text,
        };
        self.0.iter().filter(|(kind, notice)| is_owed(**kind, notice)).map(|(kind, _)| *kind).collect()
    }

    /// What there is of `kind`.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<&Notice> {
        self.0.get(&kind)
    }

    /// Notes that people were told of `kind`, and where Slack has its message.
    pub fn told(&mut self, kind: Kind, slack: Option<(String, String)>, now: DateTime<Utc>) {
        let Some(notice) = self.0.get_mut(&kind) else { return };
        if notice.is_over(kind, now) {
            self.0.remove(&kind);
            return;
        }
        notice.told = Some(notice.text.clone());
        notice.slack = slack.or(notice.slack.take());
    }
}

/// The Slack message.
#[must_use]
pub fn render(subject: &Subject, kind: Kind, notice: &Notice, now: DateTime<Utc>) -> Message {
    let is_over = notice.is_over(kind, now);
    let emoji = if is_over { ":white_check_mark:" } else { ":warning:" };
    let name = words(subject.service.as_deref().unwrap_or(&subject.cluster), NAME_UNITS_MAX);
    let environment = words(&subject.environment, NAME_UNITS_MAX);
    let whose = if subject.service.is_some() { "" } else { "the cluster " };
    let headline = kind.headline(is_over);
    let text = words(&notice.text, TEXT_UNITS_MAX);
    let shown = if is_over { format!("~{text}~") } else { text.clone() };
    let times = match is_over {
        true => format!("{} to {}", minute(notice.since), minute(notice.seen)),
        false => format!("since {}", minute(notice.since)),
    };
    let blocks = json!([
        section("head", &format!("{emoji} {whose}*{name}* in *{environment}*: {headline}")),
        section("why", &shown),
        small("foot", &format!("scaling · {times}")),
    ]);
    Message { text: format!("{emoji} {whose}{name} in {environment}: {headline}: {text}"), blocks }
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%H:%M UTC").to_string()
}

/// The document for SNS: `tidegate.scaling/1`.
#[must_use]
pub fn document(subject: &Subject, kind: Kind, notice: &Notice, now: DateTime<Utc>) -> Value {
    let is_over = notice.is_over(kind, now);
    json!({
        "schema": "tidegate.scaling/1",
        "kind": kind,
        "state": if is_over { "over" } else { "raised" },
        "reason": notice.text,
        "environment": subject.environment,
        "cluster": subject.cluster,
        "service": subject.service,
        "since": notice.since,
        "endedAt": is_over.then_some(notice.seen),
    })
}

/// The subject of the e-mail that a subscriber may get.
#[must_use]
pub fn subject_line(subject: &Subject, kind: Kind, notice: &Notice, now: DateTime<Utc>) -> String {
    let name = subject.service.as_deref().unwrap_or(&subject.cluster);
    format!("{name} in {}: {}", subject.environment, kind.headline(notice.is_over(kind, now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        "2026-11-16T10:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
    }

    fn subject() -> Subject {
        Subject {
            environment: "production".into(),
            cluster: "production".into(),
            service: Some("worker".into()),
            channel: None,
        }
    }

    #[test]
    fn what_lasts_is_told_once_and_when_it_has_been_over_for_a_while() {
        let mut notices = Notices::default();
        let condition = [(Kind::AtMaximum, "needs 34 tasks, and 20 are the most".to_owned())];
        let mut told = Vec::new();
        for minute in 0..40 {
            let is_so = minute < 10 || minute == 15;
            notices.note(at(minute), if is_so { &condition } else { &[] });
            for kind in notices.owed(at(minute)) {
                let notice = notices.get(kind).unwrap().clone();
                told.push((minute, document(&subject(), kind, &notice, at(minute))["state"].clone()));
                notices.told(kind, None, at(minute));
            }
        }
        assert_eq!(told, [(3, json!("raised")), (25, json!("over"))]);
        assert_eq!(notices, Notices::default());
    }

    #[test]
    fn what_passes_is_not_told() {
        let mut notices = Notices::default();
        let condition = [(Kind::Ineffective, String::new())];
        for minute in 0..30 {
            let is_so = minute % 12 < 2;
            notices.note(at(minute), if is_so { &condition } else { &[] });
            assert_eq!(notices.owed(at(minute)), [], "{minute}");
        }
    }

    #[test]
    fn a_refusal_is_told_at_once_and_again_when_its_reason_is_another() {
        let mut notices = Notices::default();
        let mut told = Vec::new();
        for (minute, reason) in [(0, Some("a")), (1, Some("a")), (2, Some("b")), (3, None), (4, None)] {
            let conditions: Vec<_> = reason.iter().map(|reason| (Kind::Refused, (*reason).to_owned())).collect();
            notices.note(at(minute), &conditions);
            for kind in notices.owed(at(minute)) {
                told.push((minute, notices.get(kind).unwrap().is_over(kind, at(minute))));
                notices.told(kind, Some(("C1".into(), "1.1".into())), at(minute));
            }
        }
        assert_eq!(told, [(0, false), (2, false), (3, true)]);
    }

    #[test]
    fn messages_are_stable() {
        let text = "needs 34 tasks, and tidegate:scale/max is 20; *1204* messages wait".to_owned();
        let notice = Notice { since: at(0), seen: at(5), text, told: None, slack: None };
        let cluster = Subject { service: None, ..subject() };
        let now = render(&subject(), Kind::AtMaximum, &notice, at(5));
        let over = render(&cluster, Kind::AtMaximum, &notice, at(15));
        insta::assert_json_snapshot!([
            json!({"text": now.text, "blocks": now.blocks}),
            json!({"text": over.text, "blocks": over.blocks}),
            document(&subject(), Kind::AtMaximum, &notice, at(15)),
            json!(subject_line(&cluster, Kind::Refused, &notice, at(5))),
        ]);
    }
}
