//! The tags of an ECS service: how its owner tells Tidegate what to do.
//!
//! A tag that can't be read is an error its owner sees, never a silent default: an unknown `tidegate:` key may be a
//! misspelt `tidegate:hold`. ECS allows letters, digits, spaces and `_ . : / = + - @` in tags, so the grammar is small.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};

use crate::policy::Policy;

/// Prefix of every tag key that is ours.
const PREFIX: &str = "tidegate:";
/// Prefix of the tag key that opts a service in; the repository follows it, so that one call to the tagging API finds
/// every follower of a pushed image.
const FOLLOW: &str = "tidegate:follow/";
/// Prefix of the tag on a task definition revision that keeps the image's tag for people.
const IMAGE_TAG: &str = "tidegate:tag/";
/// Keys that [scaling](crate::scale::service::goal) reads; here they only need to be known.
const OTHER_KEYS: &[&str] = &[
    SCALE_QUEUE,
    "tidegate:scale/min",
    "tidegate:scale/max",
    "tidegate:scale/target-wait",
    "tidegate:scale/service-time",
    "tidegate:scale/concurrency",
    "tidegate:scale/protected",
];
/// Tag key that names the queue a service works on, and opts it in to scaling.
pub const SCALE_QUEUE: &str = "tidegate:scale/queue";
/// Prefix of the tag key that names a CloudWatch alarm, so that one call to the tagging API finds whom it watches.
const ROLLBACK_ON: &str = "tidegate:rollback-on/";

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

impl Tag {
    /// A tag.
    #[must_use]
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// The tag that keeps the name an image was pushed under on the revision that runs it.
    #[must_use]
    pub fn image_tag(repository: &str, tag: &str) -> Self {
        Self::new(format!("{IMAGE_TAG}{repository}"), tag)
    }

    /// Whether the tag was written by Tidegate.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.key.starts_with(IMAGE_TAG)
    }
}

/// The tag key by which services follow `repository`.
#[must_use]
pub fn follow_key(repository: &str) -> String {
    format!("{FOLLOW}{repository}")
}

/// The tag key by which services are watched by `alarm`.
#[must_use]
pub fn rollback_key(alarm: &str) -> String {
    format!("{ROLLBACK_ON}{alarm}")
}

/// Whether a tag with this key makes a service follow a repository.
#[must_use]
pub fn is_follow_key(key: &str) -> bool {
    key.starts_with(FOLLOW)
}

/// Whether a tag with this key tells Tidegate how to scale.
#[must_use]
pub fn is_scale_key(key: &str) -> bool {
    key.starts_with("tidegate:scale/")
}

/// Whether a tag with this key tells Tidegate something.
#[must_use]
pub fn is_key_of_ours(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// What the names of ECR repositories are made of. See
/// [CreateRepository](https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html).
fn is_of_repository(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || "._-/".contains(character)
}

/// Whether Tidegate acts on a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Deploys.
    #[default]
    Auto,
    /// Says what it would deploy.
    Notify,
}

/// How long a rollout may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(TimeDelta);

impl Deadline {
    /// A week: what is slower does not end.
    const MINUTES: RangeInclusive<i64> = 1..=7 * 24 * 60;
    const DEFAULT: i64 = 30;
}

impl Default for Deadline {
    fn default() -> Self {
        Self(TimeDelta::minutes(Self::DEFAULT))
    }
}

impl std::ops::Add<Deadline> for DateTime<Utc> {
    type Output = Self;

    fn add(self, deadline: Deadline) -> Self {
        self + deadline.0
    }
}

/// How long a deployment that has completed is watched. Whoever is not taken back by then is proven good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bake(TimeDelta);

impl Bake {
    /// None at all, or up to a day: what turns bad later has other causes.
    const MINUTES: RangeInclusive<i64> = 0..=24 * 60;
    const DEFAULT: i64 = 10;
}

impl Default for Bake {
    fn default() -> Self {
        Self(TimeDelta::minutes(Self::DEFAULT))
    }
}

impl std::ops::Add<Bake> for DateTime<Utc> {
    type Output = Self;

    fn add(self, bake: Bake) -> Self {
        self + bake.0
    }
}

fn minutes(value: &str, allowed: &RangeInclusive<i64>, default: i64) -> Result<TimeDelta, String> {
    let minutes = value.trim().parse().ok().filter(|minutes| allowed.contains(minutes));
    minutes.map(TimeDelta::minutes).ok_or_else(|| {
        format!(
            "`{value}` is no number of minutes from {} to {}; {default} is the default",
            allowed.start(),
            allowed.end()
        )
    })
}

/// What the tags of a service say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceTags {
    /// Policy by repository, where the policy can be read.
    pub follows: BTreeMap<String, Policy>,
    /// The repositories that the service follows, whether or not their policies can be read.
    pub repositories: BTreeSet<String>,
    /// `tidegate:mode`.
    pub mode: Mode,
    /// `tidegate:hold`: the reason why nothing is deployed.
    pub hold: Option<String>,
    /// `tidegate:channel`: id of the Slack channel.
    pub channel: Option<String>,
    /// `tidegate:deadline`: by when a rollout has to be done.
    pub deadline: Deadline,
    /// `tidegate:bake`: how long a deployment that has completed is watched.
    pub bake: Bake,
    /// `tidegate:rollback-on/<alarm name>`: names of the CloudWatch alarms that watch a deployment.
    pub rollback_on: BTreeSet<String>,
    /// What can't be read, in words for the owner. Nothing is deployed while there is any.
    pub problems: BTreeSet<String>,
}

impl ServiceTags {
    /// Reads the tags of a service. Tags of others are passed over.
    #[must_use]
    pub fn read<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> Self {
        let mut read = Self::default();
        for tag in tags {
            if let Err(problem) = read.add(tag) {
                read.problems.insert(format!("tag {}: {problem}", tag.key));
            }
        }
        read
    }

    fn add(&mut self, Tag { key, value }: &Tag) -> Result<(), String> {
        if let Some(repository) = key.strip_prefix(FOLLOW) {
            if repository.is_empty() {
                return Err("the key names no repository".into());
            }
            self.repositories.insert(repository.to_owned());
            if !repository.chars().all(is_of_repository) {
                return Err("ECR has no such repository: names have small letters, digits and . _ - / only".into());
            }
            self.follows.insert(repository.to_owned(), Policy::parse(value)?);
            return Ok(());
        }
        match key.as_str() {
            "tidegate:mode" => {
                self.mode = match value.trim() {
                    "auto" => Mode::Auto,
                    "notify" => Mode::Notify,
                    other => return Err(format!("`{other}` is no mode; use auto or notify")),
                }
            }
            "tidegate:hold" => {
                let reason = value.trim();
                self.hold = Some(if reason.is_empty() { "no reason given" } else { reason }.to_owned());
            }
            "tidegate:channel" => match value.trim() {
                "" => return Err("the value is empty; use the id of a Slack channel".into()),
                id => self.channel = Some(id.to_owned()),
            },
            "tidegate:deadline" => self.deadline = Deadline(minutes(value, &Deadline::MINUTES, Deadline::DEFAULT)?),
            "tidegate:bake" => self.bake = Bake(minutes(value, &Bake::MINUTES, Bake::DEFAULT)?),
            key if OTHER_KEYS.contains(&key) => {}
            key if key.starts_with(ROLLBACK_ON) => {
                let alarm = key.strip_prefix(ROLLBACK_ON).filter(|alarm| !alarm.is_empty());
                let alarm = alarm.ok_or("the key names no alarm")?;
                match value.trim() {
                    "yes" => self.rollback_on.insert(alarm.to_owned()),
                    other => {
                        return Err(format!("`{other}` is not `yes`; remove the tag if the alarm shall not count"));
                    }
                };
            }
            key if is_key_of_ours(key) => {
                return Err("Tidegate knows no such tag; is it misspelt?".into());
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(tags: &[(&str, &str)]) -> ServiceTags {
        let tags: Vec<Tag> = tags.iter().map(|(key, value)| Tag::new(*key, *value)).collect();
        ServiceTags::read(&tags)
    }

    #[test]
    fn a_bare_value_is_a_tag() {
        let tags = read(&[("tidegate:follow/tides/web", "develop")]);
        assert_eq!(tags.follows["tides/web"], Policy::Tag("develop".into()));
        assert_eq!(tags.follows["tides/web"], Policy::parse("tag:develop").unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_told_to_the_owner() {
        for (key, value, expected) in [
            ("tidegate:follow/web", "glob:v*", "glob"),
            ("tidegate:follow/web", "tag:", "names no tag"),
            ("tidegate:follow/web", "", "names no tag"),
            ("tidegate:follow/web", "two words", "space"),
            ("tidegate:follow/", "develop", "names no repository"),
            ("tidegate:mode", "atuo", "`atuo` is no mode"),
            ("tidegate:holld", "broken", "misspelt"),
            ("tidegate:channel", "", "empty"),
            ("tidegate:follow/web", "semver:1", "1.x"),
            ("tidegate:follow/web", "prefix:a@b", "image tags"),
            ("tidegate:follow/Tides/Web", "develop", "small letters"),
            ("tidegate:deadline", "soon", "minutes"),
            ("tidegate:deadline", "0", "minutes"),
            ("tidegate:bake", "-1", "from 0 to 1440"),
            ("tidegate:bake", "10m", "minutes"),
            ("tidegate:rollback-on/", "yes", "names no alarm"),
            ("tidegate:rollback-on/web-5xx", "no", "remove the tag"),
        ] {
            let problems = read(&[(key, value)]).problems;
            let problem = problems.first().unwrap_or_else(|| panic!("{key}={value} was accepted"));
            assert!(problem.contains(expected) && problem.contains(key), "{problem}");
        }
    }

    #[test]
    fn tags_of_others_and_of_other_functions_are_no_problem() {
        let tags = read(&[("team", "payments"), ("tidegate:scale/queue", "jobs")]);
        assert_eq!(tags, ServiceTags::default());
    }

    #[test]
    fn the_alarms_that_watch_a_service_are_known() {
        let tags = read(&[("tidegate:rollback-on/web-5xx", "yes"), ("tidegate:rollback-on/web latency", " yes ")]);
        assert_eq!(tags.rollback_on.into_iter().collect::<Vec<_>>(), ["web latency", "web-5xx"]);
    }

    #[test]
    fn a_hold_without_a_reason_is_still_a_hold() {
        assert_eq!(read(&[("tidegate:hold", " ")]).hold.as_deref(), Some("no reason given"));
    }

    proptest! {
        #[test]
        fn never_panics(key in "(tidegate:)?(follow/|hold|mode)?.{0,20}", value in ".{0,40}") {
            let _ignored = ServiceTags::read(&[Tag::new(key, value)]);
        }
    }
}
