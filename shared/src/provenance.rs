//! Where an image comes from: the commit it was built of, as the image itself says.
//!
//! It may say so in three places, and builders differ in which they fill: the labels in its configuration, the
//! annotations of its manifest, and those of the index above it. They are asked in this order, each for what the ones
//! before do not say ([`Provenance::or`]). The tag comes last: it may hold the commit.
//!
//! Who pushes an image chooses all of this. So nothing is taken that is not plainly what it should be: it ends in
//! messages, and in links.

mod manifest;
mod source;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::manifest::{Child, Manifest, matches_digest, read_manifest};
pub(crate) use self::source::{Forge, web_address};

/// The largest configuration that is looked at. Real ones have a few kilobytes.
pub const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// A tag has at most 128 characters, and a version that is longer can't be shown.
const VERSION_CHARS_MAX: usize = 128;
/// Git makes longer abbreviations than this, unless told otherwise; shorter ones may be anything.
const REVISION_CHARS_MIN: usize = 7;
/// A commit's name is 40 digits of SHA-1; with SHA-256 it is 64.
const SHA1_CHARS: usize = 40;
const SHA256_CHARS: usize = 64;
/// Builds that are to be reproducible make up a time: the year 1, 1970, or 1980. Before this there was neither an image
/// nor a commit.
const FIRST_YEAR: i32 = 1990;
/// The last that has four digits, as RFC 3339 wants it.
const LAST_YEAR: i32 = 9999;
/// How many characters of a commit's name people read.
const SHORT_CHARS: usize = 7;

/// What an image says of its origin. See the
/// [annotations](https://github.com/opencontainers/image-spec/blob/main/annotations.md) that OCI defines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// The commit (`org.opencontainers.image.revision`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Web address of the source repository, always https (`org.opencontainers.image.source`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The version (`org.opencontainers.image.version`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When the image was built (`org.opencontainers.image.created`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// When the commit was made (`tidegate.committed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<DateTime<Utc>>,
}

impl Provenance {
    /// What labels say, or annotations: their keys are the same. Behind OCI's come those of
    /// [label-schema.org](http://label-schema.org/rc1/), which they have replaced.
    fn of_labels(labels: &Map<String, Value>) -> Self {
        let texts = |keys: [&str; 2]| keys.map(|key| labels.get(key).and_then(Value::as_str)).into_iter().flatten();
        Self {
            revision: texts(["org.opencontainers.image.revision", "org.label-schema.vcs-ref"]).find_map(revision),
            source: texts(["org.opencontainers.image.source", "org.label-schema.vcs-url"]).find_map(web_address),
            version: texts(["org.opencontainers.image.version", "org.label-schema.version"]).find_map(version),
            created: texts(["org.opencontainers.image.created", "org.label-schema.build-date"]).find_map(time),
            committed: labels.get("tidegate.committed").and_then(Value::as_str).and_then(time),
        }
    }

    /// What the tag says: the commit, if a part of it can hardly be anything else.
    #[must_use]
    pub fn of_tag(tag: &str) -> Self {
        let parts = || tag.split(['-', '_', '.']);
        let before = std::iter::once("").chain(parts());
        let mut commits = before.zip(parts()).filter_map(|(before, part)| commit_of(before, part));
        // Two of them are none: a UUID, say.
        let commit = commits.next().filter(|_| commits.next().is_none());
        Self { revision: commit.map(str::to_owned), ..Self::default() }
    }

    /// This, and from `other` what this does not say.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            revision: self.revision.or(other.revision),
            source: self.source.or(other.source),
            version: self.version.or(other.version),
            created: self.created.or(other.created),
            committed: self.committed.or(other.committed),
        }
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the [configuration](https://github.com/opencontainers/image-spec/blob/main/config.md) of an image says: its
/// labels, and when it was created.
#[must_use]
pub fn of_config(body: &[u8]) -> Provenance {
    let is_small = u64::try_from(body.len()).is_ok_and(|bytes| bytes <= CONFIG_BYTES_MAX);
    let config: Value = is_small.then(|| serde_json::from_slice(body).ok()).flatten().unwrap_or_default();
    let labels = config.get("config").and_then(|config| config.get("Labels")).and_then(Value::as_object);
    let created = config.get("created").and_then(Value::as_str).and_then(time);
    labels.map(Provenance::of_labels).unwrap_or_default().or(Provenance { created, ..Provenance::default() })
}

/// A commit's name as people read it.
#[must_use]
pub fn short_revision(revision: &str) -> &str {
    revision.char_indices().nth(SHORT_CHARS).and_then(|(at, _)| revision.get(..at)).unwrap_or(revision)
}

/// The name of a commit, in small letters; `None` where it is none.
pub(crate) fn revision(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    ((REVISION_CHARS_MIN..=SHA256_CHARS).contains(&text.len()) && is_hex(&text)).then_some(text)
}

/// Letters, digits and signs, as versions are made of. What lies beyond ASCII is refused too: some of it changes how
/// the rest of a line is shown.
fn version(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (is_plain && (1..=VERSION_CHARS_MAX).contains(&text.len())).then(|| text.to_owned())
}

/// A time in the format of RFC 3339, which both specifications ask for; `None` where it can't have been.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text.trim()).ok()?.to_utc();
    (FIRST_YEAR..=LAST_YEAR).contains(&time.year()).then_some(time)
}

/// The commit that a part of a tag names, by the part before it.
///
/// Tags are free text, and a wrong commit is worse than none. Sure are a whole SHA-1, and what is marked as a commit:
/// `sha-4f53cda` by Docker's metadata action, `v1.2.0-3-g4f53cda` by git describe. Anything else has to have letters as
/// well as digits, which one in 25 abbreviated commits has not: `20261116` is a date, `1234567` the number of a build,
/// and `defaced` a word. And it must not hold a date, as `20261116a` and `b261116` do. SHA-256 stays out: in a tag it
/// is the digest of another image, such as one that was signed.
fn commit_of<'a>(before: &str, part: &'a str) -> Option<&'a str> {
    let described = part.strip_prefix('g');
    let hex = described.unwrap_or(part);
    // Git writes small letters.
    let is_name = (REVISION_CHARS_MIN..=SHA1_CHARS).contains(&hex.len()) && is_hex(hex) && *hex == hex.to_lowercase();
    let is_sure = described.is_some() || before == "sha" || hex.len() == SHA1_CHARS;
    let is_mixed = hex.contains(|c: char| c.is_ascii_digit()) && hex.contains(|c: char| c.is_ascii_alphabetic());
    (is_name && (is_sure || is_mixed && !holds_date(hex))).then_some(hex)
}

/// Whether eight digits somewhere in it are a day, or the only digits it has are the six of one.
fn holds_date(hex: &str) -> bool {
    let is_day =
        |text: &str| NaiveDate::parse_from_str(text, "%Y%m%d").is_ok_and(|day| (2000..2100).contains(&day.year()));
    let digits = hex.trim_matches(|c: char| !c.is_ascii_digit());
    digits.len() == 6 && is_day(&format!("20{digits}"))
        || (0..hex.len()).filter_map(|at| hex.get(at..at + 8)).any(is_day)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const COMMIT: &str = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d";

    fn at(text: &str) -> Option<DateTime<Utc>> {
        Some(text.parse().unwrap())
    }

    fn config(created: &str, labels: &Value) -> String {
        json!({"architecture": "arm64", "os": "linux", "created": created,
                            "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/web"], "Labels": labels},
                            "rootfs": {"type": "layers", "diff_ids": []},
                            "history": [{"created": created, "created_by": "COPY web /web"}]})
        .to_string()
    }

    fn read(created: &str, labels: &Value) -> Provenance {
        of_config(config(created, labels).as_bytes())
    }

    /// What docker/metadata-action writes, with the commit's time that we ask for.
    fn metadata_action_labels() -> Value {
        json!({
            "org.opencontainers.image.created": "2026-11-16T09:52:10.482Z",
            "org.opencontainers.image.description": "The web site",
            "org.opencontainers.image.licenses": "",
            "org.opencontainers.image.revision": COMMIT,
            "org.opencontainers.image.source": "https://github.com/tides/web",
            "org.opencontainers.image.title": "web",
            "org.opencontainers.image.url": "https://github.com/tides/web",
            "org.opencontainers.image.version": "master",
            "tidegate.committed": "2026-11-16T10:48:00+01:00"
        })
    }

    #[test]
    fn the_sample_is_what_the_specification_says() {
        let config = config("2026-11-16T09:53:00Z", &metadata_action_labels());
        oci_spec::image::ImageConfiguration::from_reader(config.as_bytes()).unwrap();
    }

    #[test]
    fn labels_of_the_metadata_action_say_everything() {
        let expected = Provenance {
            revision: Some(COMMIT.into()),
            source: Some("https://github.com/tides/web".into()),
            version: Some("master".into()),
            created: at("2026-11-16T09:52:10.482Z"),
            committed: at("2026-11-16T09:48:00Z"),
        };
        assert_eq!(read("2026-11-16T09:53:00Z", &metadata_action_labels()), expected);
    }

    #[test]
    fn label_schema_is_read_where_oci_says_nothing_that_can_be_used() {
        let mut labels = json!({
            "org.label-schema.schema-version": "1.0",
            "org.label-schema.build-date": "2026-11-16T09:52:10Z",
            "org.label-schema.vcs-ref": "4F53CDA",
            "org.label-schema.vcs-url": "git@gitlab.com:tides/shore/web.git",
            "org.label-schema.version": "1.2.0",
            "org.opencontainers.image.revision": "${GIT_COMMIT}",
            "org.opencontainers.image.source": "",
        });
        let expected = Provenance {
            revision: Some("4f53cda".into()),
            source: Some("https://gitlab.com/tides/shore/web".into()),
            version: Some("1.2.0".into()),
            created: at("2026-11-16T09:52:10Z"),
            committed: None,
        };
        assert_eq!(read("", &labels), expected);
        labels["org.opencontainers.image.version"] = json!("1.3.0");
        assert_eq!(read("", &labels).version.as_deref(), Some("1.3.0"));
    }

    #[test]
    fn the_configurations_own_time_is_the_last_resort_and_no_made_up_one() {
        for (created, expected) in [
            ("2026-11-16T09:52:10.123456789Z", at("2026-11-16T09:52:10.123456789Z")),
            ("0001-01-01T00:00:00Z", None),
            ("1970-01-01T00:00:00Z", None),
            ("1980-01-01T00:00:01Z", None),
            ("yesterday", None),
        ] {
            assert_eq!(read(created, &Value::Null).created, expected, "{created}");
            assert_eq!(read(created, &json!({"org.opencontainers.image.created": created})).created, expected);
        }
    }

    #[test]
    fn what_is_not_plainly_what_it_should_be_is_passed_over() {
        let long = "9".repeat(VERSION_CHARS_MAX + 1);
        for (key, value) in [
            ("revision", json!("master")),
            ("revision", json!("4f53cd")),
            ("revision", json!(format!("{COMMIT}-dirty"))),
            ("revision", json!("a".repeat(65))),
            ("revision", json!(4_053_018)),
            ("source", json!("http://github.com/tides/web")),
            ("source", json!(["https://github.com/tides/web"])),
            ("version", json!("")),
            ("version", json!(long)),
            ("version", json!("1.0\n2.0")),
            ("version", json!("1.0\u{7}")),
            ("version", json!("1.0\u{202e}0.2")),
            ("created", json!("2026-11-16")),
            ("created", json!(1_794_822_730)),
            // In UTC that is the year 10000.
            ("created", json!("9999-12-31T23:59:59-23:00")),
        ] {
            let labels = json!({format!("org.opencontainers.image.{key}"): value});
            assert!(read("", &labels).is_empty(), "{labels}");
        }
    }

    #[test]
    fn a_configuration_without_labels_or_one_that_is_none_says_nothing() {
        let too_large = format!("{{{}{}", " ".repeat(1024 * 1024), r#""created": "2026-11-16T09:52:10Z"}"#);
        for body in ["", "[]", "{}", "null", r#"{"config": null}"#, r#"{"config": {"Labels": []}}"#, &too_large] {
            assert!(of_config(body.as_bytes()).is_empty());
        }
        assert!(of_config(b"\xff\xfe").is_empty());
    }

    #[test]
    fn labels_come_first_and_what_they_lack_comes_from_the_next() {
        let labels = read("", &json!({"org.opencontainers.image.version": "1.2.0"}));
        let index = read_manifest(
            r#"{"manifests": [], "annotations": {"org.opencontainers.image.version": "nightly",
                "org.opencontainers.image.source": "https://github.com/tides/web"}}"#,
        );
        let all = labels.or(index.unwrap().annotations().clone()).or(Provenance::of_tag("master-4f53cda"));
        let expected = Provenance {
            revision: Some("4f53cda".into()),
            source: Some("https://github.com/tides/web".into()),
            version: Some("1.2.0".into()),
            ..Provenance::default()
        };
        assert_eq!(all, expected);
    }

    #[test]
    fn a_tag_may_name_a_commit() {
        for (tag, expected) in [
            ("4f53cda", "4f53cda"),
            ("sha-4f53cda", "4f53cda"),
            (COMMIT, COMMIT),
            ("master-4f53cda", "4f53cda"),
            ("20261116-4f53cda", "4f53cda"),
            ("20261116.1234_4f53cda18c", "4f53cda18c"),
            ("v1.2.0-3-g4f53cda", "4f53cda"),
            ("1.2.0-rc.1.4f53cda", "4f53cda"),
            // All digits, all letters, or with a date in it: a mark or the whole length makes it a commit all the same.
            ("sha-1234567", "1234567"),
            ("v1.2.0-3-g1234567", "1234567"),
            ("sha-defaced", "defaced"),
            ("4f53cda18c2baa0c0354bb5f9a20261116d2ab4d", "4f53cda18c2baa0c0354bb5f9a20261116d2ab4d"),
        ] {
            assert_eq!(Provenance::of_tag(tag).revision.as_deref(), Some(expected), "{tag}");
        }
    }

    #[test]
    fn a_date_a_number_or_a_word_is_no_commit() {
        for tag in [
            "",
            "master",
            "latest",
            "v1.2.0",
            "4f53cd",
            "20261116",
            "release-20261116",
            "20261116095434",
            "20261116a",
            "b20261116",
            "e2e20261116",
            "261116a",
            "b261116",
            "1234567",
            "build-1794822730",
            "defaced",
            "4F53CDA",
            "my4f53cda18c",
            // A UUID.
            "123e4567-e89b-12d3-a456-42661417400f",
            // The signature of an image.
            "sha256-4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945.sig",
        ] {
            assert!(Provenance::of_tag(tag).is_empty(), "{tag}");
        }
    }

    #[test]
    fn a_short_revision_has_seven_characters() {
        for (long, short) in [(COMMIT, "4f53cda"), ("4f53cda", "4f53cda"), ("", ""), ("ééééééééé", "ééééééé")]
        {
            assert_eq!(short_revision(long), short);
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_what_is_said_survives_the_record(
            key in "(revision|source|version|created)", value in "(https://|20[0-9]{2}-11-16T|[0-9a-f]{5})?.{0,30}",
            raw in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ignored = of_config(&raw);
            let _ignored = short_revision(&value);
            let labels = json!({format!("org.opencontainers.image.{key}"): value, "tidegate.committed": value});
            let config = json!({"created": value, "config": {"Labels": labels}}).to_string();
            let said = of_config(config.as_bytes());
            for text in [&said.revision, &said.source, &said.version].into_iter().flatten() {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.len() <= 500);
            }
            let kept: Provenance = serde_json::from_value(serde_json::to_value(&said).unwrap()).unwrap();
            prop_assert_eq!(kept, said);
        }

        #[test]
        fn no_day_is_ever_a_commit(
            days in 0..36_500_i64, before in "([a-f]|build-|v1\\.)?",
            after in "([a-f]|-rc1|\\.[0-9]{1,12}|T[0-9]{6})?",
        ) {
            let day = NaiveDate::from_ymd_opt(2000, 1, 1).unwrap() + chrono::TimeDelta::days(days);
            let tag = format!("{before}{}{after}", day.format("%Y%m%d"));
            prop_assert!(Provenance::of_tag(&tag).is_empty(), "{tag}");
        }

        #[test]
        fn a_tag_yields_a_part_of_itself(tag in "[0-9a-gA-F_.-]{0,60}|.{0,60}") {
            let revision = Provenance::of_tag(&tag).revision;
            let Some(found) = &revision else { return Ok(()) };
            prop_assert!(tag.contains(found) && revision == super::revision(found), "{found}");
        }

        #[test]
        fn every_marked_commit_is_found(hex in "[0-9a-f]{7,40}", name in "(master|develop|v1\\.2\\.0)") {
            let expected = Some(hex.clone());
            prop_assert_eq!(&Provenance::of_tag(&format!("{name}-sha-{hex}")).revision, &expected);
            prop_assert_eq!(&Provenance::of_tag(&format!("{name}-3-g{hex}")).revision, &expected);
        }
    }
}
