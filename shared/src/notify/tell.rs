//! Telling people of one service: of which record first, and how the two sides of a rollback come to name each other.
//!
//! The message of a bad deployment links to that of its recovery, and the other way round. Where a message is shows only
//! once it was posted. So what is known of the other side is kept with each record, counted, and compared again after
//! everything that is told; whoever comes next finds what a dead handler has left.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::Notifier;
use crate::announce::slack::{message_of, owes_links};
use crate::ecs::Service;
use crate::error::Error;
use crate::record::{History, Link, Record};

impl Notifier {
    /// Tells people what they are owed of `records`, which are in order of their age, as far as it `is_due`. Returns what
    /// failed.
    pub(super) async fn tell(
        &self,
        service: Option<&Service>,
        history: &History,
        mut records: Vec<Record>,
        deadline: DateTime<Utc>,
        is_due: impl Fn(&Record) -> bool,
    ) -> Vec<Error> {
        let mut failed = Vec::new();
        let mut refused = BTreeSet::new();
        failed.extend(self.link(&mut records).await.err());
        // What was told first may have to name what was told after it.
        for is_again in [false, true] {
            for at in order(&records) {
                let Some(record) = records.get(at) else { continue };
                let is_left = !is_again || owes_links(record) && !refused.contains(&record.id);
                if !is_left || !self.announcer.owes(record) || !is_due(record) {
                    continue;
                }
                let record = self.traced(record.clone(), history, deadline).await;
                let record = self.diagnosed(record, service, deadline).await;
                let (told, errors) = self.announcer.tell(&self.store, &record, deadline).await;
                if !errors.is_empty() {
                    refused.insert(told.id.clone());
                }
                failed.extend(errors);
                records.iter_mut().filter(|record| record.id == told.id).for_each(|record| record.clone_from(&told));
                failed.extend(self.link(&mut records).await.err());
            }
        }
        failed
    }

    /// Notes with each of `records` what is known of its other sides by now, where people read of it.
    async fn link(&self, records: &mut [Record]) -> Result<(), Error> {
        if !self.announcer.has_messages() {
            return Ok(());
        }
        for at in 0..records.len() {
            let Some(record) = records.get(at) else { continue };
            let is_read = self.announcer.owes(record) || message_of(record).is_some();
            if !is_read || !self.announcer.is_news(record) {
                continue;
            }
            let (to_bad, to_recovery) = links(record, records);
            if to_bad.is_none() && to_recovery.is_none() {
                continue;
            }
            // Who is outrun has nothing to add.
            let linked = self.store.linked(record, to_bad.as_ref(), to_recovery.as_ref()).await?;
            if let (Some(linked), Some(record)) = (linked, records.get_mut(at)) {
                *record = linked;
            }
        }
        Ok(())
    }
}

/// In which order people are told, as places in `records`: oldest first, so that they read the end of one deployment
/// before the start of the next. But a message that stands already is edited after that of its recovery is posted: then
/// one edit suffices.
fn order(records: &[Record]) -> Vec<usize> {
    let place = |id: &String| records.iter().position(|record| record.id == *id);
    let mut order = Vec::with_capacity(records.len());
    for at in 0..records.len() {
        // The chain of those that have to come before it.
        let mut chain = vec![at];
        while let Some(next) = chain.last().and_then(|last| records.get(*last)).and_then(|record| {
            let recovery = record.recovery.as_ref().filter(|_| message_of(record).is_some())?;
            place(recovery.record.as_ref()?).filter(|next| !chain.contains(next))
        }) {
            chain.push(next);
        }
        for at in chain.into_iter().rev() {
            if !order.contains(&at) {
                order.push(at);
            }
        }
    }
    order
}

/// What is new about the other sides of `record`: about the deployment that it takes back, and about the one that brings
/// a good release back in its place.
fn links(record: &Record, records: &[Record]) -> (Option<Link>, Option<Link>) {
    let find = |id: Option<&String>| records.iter().find(|other| Some(&other.id) == id && other.id != record.id);
    let bad = find(record.recovers.as_ref()).and_then(|bad| news(record.link_to_bad.as_ref(), bad));
    let recovery = find(record.recovery.as_ref().and_then(|recovery| recovery.record.as_ref()));
    (bad, recovery.and_then(|recovery| news(record.link_to_recovery.as_ref(), recovery)))
}

/// What is known of `other` now, where that is more than what was `known`. Nothing is forgotten: `other` may have been read
/// before it was told.
fn news(known: Option<&Link>, other: &Record) -> Option<Link> {
    let place = message_of(other).map(|(channel, ts)| (channel.to_owned(), ts.to_owned()));
    let place = place.or_else(|| known.and_then(|known| known.slack_channel.clone().zip(known.slack_ts.clone())));
    // That it goes on needs no words without a place.
    if other.state.is_open() && place.is_none() {
        return None;
    }
    let (slack_channel, slack_ts) = place.unzip();
    let why = other.recovery.as_ref().map_or(&other.reason, |recovery| &recovery.why);
    let link = Link { state: other.state, reason: why.clone(), live_at: other.live_at, slack_channel, slack_ts };
    let is_older = |known: &Link| !known.state.is_open() && link.state.is_open();
    (Some(&link) != known && !known.is_some_and(is_older)).then_some(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::message::examples::recovery;
    use crate::record::tests::record;
    use crate::record::{Origin, Recovery, State};
    use proptest::prelude::*;

    fn bad(id: &str, by: &str) -> Record {
        let recovery = Recovery { record: Some(by.into()), ..recovery("deploy", "back to web:7") };
        Record { id: id.into(), recovery: Some(recovery), ..record(State::RolledBack) }
    }

    fn back(id: &str, from: &str) -> Record {
        Record { id: id.into(), recovers: Some(from.into()), origin: Origin::Rollback, ..record(State::Rolling) }
    }

    fn told(record: Record, ts: &str) -> Record {
        Record { slack_channel: Some("C0123456789".into()), slack_ts: Some(ts.into()), ..record }
    }

    #[test]
    fn a_message_that_stands_is_edited_after_its_recovery_is_posted() {
        let (other, bad, back) = (record(State::Succeeded), bad("B", "R"), back("R", "B"));
        assert_eq!(order(&[bad.clone(), back.clone(), other.clone()]), [0, 1, 2]);
        assert_eq!(order(&[told(bad.clone(), "1.1"), other.clone(), back.clone()]), [2, 0, 1]);
        assert_eq!(order(&[told(bad.clone(), "webhook"), back.clone()]), [0, 1]);
        // The recovery is not known any more, or turned bad itself.
        assert_eq!(order(&[told(bad.clone(), "1.1"), other]), [0, 1]);
        let bad_back = Record { recovery: self::bad("R", "S").recovery, ..back };
        let last = self::back("S", "R");
        assert_eq!(order(&[told(bad.clone(), "1.1"), told(bad_back.clone(), "1.2"), last.clone()]), [2, 1, 0]);
        assert_eq!(order(&[told(bad, "1.1"), bad_back, last]), [1, 0, 2]);
    }

    #[test]
    fn each_side_learns_of_the_other_once() {
        let (bad, back) = (told(bad("B", "R"), "1.1"), back("R", "B"));
        let both = [bad.clone(), back.clone()];
        assert_eq!(links(&bad, &both), (None, None), "that it goes on is known");
        let (to_bad, none) = links(&back, &both);
        assert_eq!((to_bad.as_ref().unwrap().slack_ts.as_deref(), none), (Some("1.1"), None));
        assert_eq!(to_bad.as_ref().unwrap().reason, "web-5xx went into ALARM");
        let back = told(Record { link_to_bad: to_bad, ..back }, "2.2");
        let both = [bad.clone(), back.clone()];
        assert_eq!(links(&back, &both), (None, None));
        let (_, to_back) = links(&bad, &both);
        assert_eq!(to_back.as_ref().unwrap().slack_ts.as_deref(), Some("2.2"));
        let bad = Record { link_to_recovery: to_back, ..bad };
        assert_eq!(links(&bad, &both), (None, None));
        let done = Record { state: State::Succeeded, live_at: back.started_at, ..back.clone() };
        let (_, to_done) = links(&bad, &[bad.clone(), done]);
        let bad = Record { link_to_recovery: to_done, ..bad };
        assert_eq!(bad.link_to_recovery.as_ref().unwrap().state, State::Succeeded);
        // Who has read it before does not take that back.
        assert_eq!(links(&bad, &[bad.clone(), back]), (None, None));
    }

    /// With a webhook there is no place to link to, and nothing to say before the end.
    #[test]
    fn without_a_place_the_outcome_alone_is_news() {
        let bad = bad("B", "R");
        for ts in [None, Some("webhook")] {
            let back = Record { slack_ts: ts.map(str::to_owned), ..back("R", "B") };
            assert_eq!(links(&bad, &[bad.clone(), back.clone()]), (None, None));
            let (_, link) = links(&bad, &[bad.clone(), Record { state: State::Failed, ..back }]);
            assert_eq!(link.map(|link| (link.state, link.slack_ts)), Some((State::Failed, None)));
        }
    }

    proptest! {
        /// Whatever the records say of each other, each is told once.
        #[test]
        fn every_record_has_its_turn(sides in prop::collection::vec((0..6_usize, 0..6_usize, any::<bool>()), 0..6)) {
            let records: Vec<Record> = sides.iter().enumerate().map(|(at, (bad, back, is_told))| Record {
                recovers: Some(bad.to_string()),
                slack_ts: is_told.then(|| "1.1".to_owned()),
                slack_channel: Some("C0".into()),
                ..self::bad(&at.to_string(), &back.to_string())
            }).collect();
            let mut order = order(&records);
            order.sort_unstable();
            prop_assert_eq!(order, (0..records.len()).collect::<Vec<_>>());
        }

        /// What is noted is not news any more, so that no two records tell of each other for ever.
        #[test]
        fn nothing_is_news_twice(
            state in prop::sample::select(vec![State::Rolling, State::Succeeded, State::Failed, State::Superseded]),
            known in prop::option::of((prop::sample::select(vec![State::Rolling, State::Failed]), "[12]\\.[0-9]{3}")),
            ts in prop::option::of("[12]\\.[0-9]{3}|webhook"),
        ) {
            let other = Record { slack_channel: Some("C0".into()), slack_ts: ts, ..record(state) };
            let known = known.map(|(state, ts)| Link {
                state, reason: String::new(), live_at: None, slack_channel: Some("C0".into()), slack_ts: Some(ts),
            });
            if let Some(link) = news(known.as_ref(), &other) {
                prop_assert_eq!(news(Some(&link), &other), None);
            }
        }
    }
}
