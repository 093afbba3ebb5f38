//! Which release to go back to: the last one that is proven good.

use std::fmt;

use crate::image::starts_like;
use crate::record::{History, Record, State};
use crate::task_definition::revision_name;

/// A release that is not good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// What it is called.
    pub name: String,
    /// Why it is not.
    pub why: String,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

/// Releases before `bad` that are proven good, the newest first, and newer ones that are not. What a person has asked for
/// need not be proven.
#[must_use]
pub fn candidates(history: &History, bad: &Record, wanted: Option<&str>) -> (Vec<Record>, Vec<Passed>) {
    let mut candidates: Vec<Record> = Vec::new();
    let mut passed = Vec::new();
    for record in history.records.iter().filter(|record| record.id < bad.id) {
        let is_another = record.revision_to.is_some() && record.revision_to != bad.revision_to;
        let is_known = candidates.iter().any(|known| known.revision_to == record.revision_to);
        if !is_another || is_known || record.live_at.is_none() {
            continue;
        }
        match wanted {
            Some(wanted) if is_meant(record, wanted) => candidates.push(record.clone()),
            Some(_) => {}
            None => match why_not_good(history, record) {
                None => candidates.push(record.clone()),
                Some(why) if candidates.is_empty() => passed.push(Passed { name: name(record), why }),
                Some(_) => {}
            },
        }
    }
    (candidates, passed)
}

fn why_not_good(history: &History, record: &Record) -> Option<String> {
    if history.guard.quarantine.contains_key(&record.digest) {
        return Some("it is in quarantine".into());
    }
    match (record.state, record.baked_at) {
        (State::Succeeded, Some(_)) => None,
        (State::Succeeded, None) => Some("it was replaced before its bake time was over".into()),
        _ => Some(format!("it is {}", record.state.as_str().replace('_', " "))),
    }
}

/// Whether a person means this release: by its record, its revision, its digest (or how that begins), or its tag.
pub(super) fn is_meant(record: &Record, wanted: &str) -> bool {
    let revision = record.revision_to.as_deref().unwrap_or_default();
    record.id == wanted
        || revision == wanted
        || (!revision.is_empty() && revision_name(revision) == wanted)
        || starts_like(&record.digest, wanted)
        || (!wanted.is_empty() && record.tag == wanted)
}

/// What people call a release.
#[must_use]
pub fn name(record: &Record) -> String {
    let version = record.provenance.as_ref().and_then(|provenance| provenance.version.clone());
    let revision = record.revision_to.as_deref().map(|arn| revision_name(arn).to_owned());
    version.filter(|version| !version.is_empty()).or(revision).unwrap_or_else(|| record.id.clone())
}
