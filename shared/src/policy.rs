//! Which images of a repository a service takes.
//!
//! A tag that is pushed again says by itself which image is meant. Under the other policies many images could be, and
//! the choice must not depend on the order in which events arrive or ECR lists its images: it is the maximum of a total
//! order over all of them.

use std::fmt;

use chrono::{DateTime, Utc};
use semver::Version;

use crate::ecr::Image;

/// Which images of a repository a service takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// `tag:develop` or bare `develop`: whatever this tag points to.
    Tag(String),
    /// `prefix:main-`: the newest image whose tag begins like this.
    Prefix(String),
    /// `semver:1.x`: the highest version in this range.
    Semver(Range),
    /// `any`: the newest image.
    Any,
}

/// What image tags are made of, in the grammar of the
/// [OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md).
fn is_of_tag(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_.-".contains(character)
}

impl Policy {
    /// Reads the value of a follow tag.
    ///
    /// # Errors
    /// What is wrong with it, for its owner.
    pub fn parse(value: &str) -> Result<Self, String> {
        let value = value.trim();
        let named = |kind: &str, argument: &str| match argument {
            "" => Err(format!("`{value}` names no {kind}")),
            argument if argument.contains(char::is_whitespace) => Err(format!("`{value}` has a space in its {kind}")),
            argument => Ok(argument.to_owned()),
        };
        let of_tag = |kind: &str, argument: &str| {
            let argument = named(kind, argument)?;
            match argument.chars().all(is_of_tag) {
                true => Ok(argument),
                false => Err(format!("`{value}` has a character in its {kind} that image tags don't have")),
            }
        };
        match value.split_once(':') {
            Some(("tag", tag)) => of_tag("tag", tag).map(Self::Tag),
            Some(("prefix", prefix)) => of_tag("prefix", prefix).map(Self::Prefix),
            Some(("semver", range)) => Range::parse(&named("version range", range)?).map(Self::Semver),
            Some((kind, _)) => {
                Err(format!("`{kind}:` is no policy; use tag:, prefix:, semver:, any, or the bare name of a tag"))
            }
            None if value == "any" => Ok(Self::Any),
            None => of_tag("tag", value).map(Self::Tag),
        }
    }

    /// Whether an image with this tag could be what is wanted.
    #[must_use]
    pub fn may_select(&self, tag: &str) -> bool {
        match self {
            Self::Tag(wanted) => tag == wanted,
            Self::Prefix(prefix) => tag.starts_with(prefix) && !is_signature_tag(tag),
            Self::Semver(range) => version_of(tag).is_some_and(|version| range.contains(&version)),
            Self::Any => !is_signature_tag(tag),
        }
    }

    /// The image that is wanted of all `images`, and the tag by which it is: the highest version under `semver:`, the
    /// one pushed last otherwise. `None` where none is eligible.
    #[must_use]
    pub fn newest<'a>(&self, images: &'a [Image]) -> Option<(&'a Image, &'a str)> {
        images
            .iter()
            .filter(|image| image.why_not_an_image().is_none())
            .flat_map(|image| image.tags.iter().map(move |tag| (image, tag.as_str())))
            .filter(|(_, tag)| self.may_select(tag))
            .max_by_key(|(image, tag)| self.rank(image, tag))
    }

    /// The place of a tagged image among those eligible. Tag and digest only break ties.
    fn rank<'a>(&self, image: &'a Image, tag: &'a str) -> (Option<Version>, Option<DateTime<Utc>>, &'a str, &'a str) {
        let version = match self {
            Self::Semver(_) => version_of(tag),
            Self::Tag(_) | Self::Prefix(_) | Self::Any => None,
        };
        (version, image.pushed_at, tag, &image.digest)
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "tag:{tag}"),
            Self::Prefix(prefix) => write!(f, "prefix:{prefix}"),
            Self::Semver(range) => write!(f, "semver:{range}"),
            Self::Any => f.write_str("any"),
        }
    }
}

/// Released versions. A pre-release is in no range: who wants one names its tag.
///
/// The grammar is small because ECS tags can't hold `^`, `~`, `*` or `>`, and because a range that people read in two
/// ways is none: to Cargo `1.4` means 1.4.0 up to 2.0.0, to npm up to 1.5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// `any`.
    Any,
    /// `1.x`.
    Major(u64),
    /// `1.4.x`.
    Minor(u64, u64),
    /// `1.4.2`.
    Exact(u64, u64, u64),
}

impl Range {
    /// Reads a range.
    ///
    /// # Errors
    /// What is wrong with it, and what to write, for its owner.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            let bare = text.strip_prefix('v').unwrap_or(text);
            match Self::read(bare).or_else(|| Self::read(&format!("{bare}.x"))) {
                Some(meant) => format!("`{text}` is no version range; write {meant}"),
                None => format!("`{text}` is no version range; write any, or one like 1.x, 1.4.x or 1.4.2"),
            }
        })
    }

    fn read(text: &str) -> Option<Self> {
        let number = |part: &str| part.parse().ok();
        let parts: Vec<&str> = text.split('.').collect();
        let range = match parts.as_slice() {
            ["any"] => Self::Any,
            [major, "x"] => Self::Major(number(major)?),
            [major, minor, "x"] => Self::Minor(number(major)?, number(minor)?),
            [major, minor, patch] => Self::Exact(number(major)?, number(minor)?, number(patch)?),
            _ => return None,
        };
        // Numbers are also read from `01` and `+1`, which are parts of no version.
        (range.to_string() == text).then_some(range)
    }

    fn contains(self, version: &Version) -> bool {
        let Version { major, minor, patch, .. } = *version;
        version.pre.is_empty()
            && match self {
                Self::Any => true,
                Self::Major(wanted) => major == wanted,
                Self::Minor(wanted_major, wanted_minor) => (major, minor) == (wanted_major, wanted_minor),
                Self::Exact(wanted_major, wanted_minor, wanted_patch) => {
                    (major, minor, patch) == (wanted_major, wanted_minor, wanted_patch)
                }
            }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Major(major) => write!(f, "{major}.x"),
            Self::Minor(major, minor) => write!(f, "{major}.{minor}.x"),
            Self::Exact(major, minor, patch) => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// The version that a tag names: all three numbers, with or without a leading `v`. Commit hashes and dates that happen
/// to be all digits are none.
#[must_use]
pub fn version_of(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// Whether a tag is that of something attached to an image: `sha256-<64 hex digits>`, with a suffix from cosign
/// (`.sig`, `.att`, `.sbom`), without one from the
/// [referrers tag schema](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema).
#[must_use]
pub fn is_signature_tag(tag: &str) -> bool {
    tag.strip_prefix("sha256-")
        .map(|rest| rest.split_once('.').map_or(rest, |(hex, _)| hex))
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIGNATURE: &str = "sha256-4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945.sig";

    fn image(digest: &str, pushed_at: Option<i64>, tags: &[&str]) -> Image {
        Image {
            digest: digest.into(),
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            pushed_at: pushed_at.and_then(|at| DateTime::from_timestamp(at, 0)),
            manifest_media_type: None,
            artifact_media_type: None,
        }
    }

    fn chart(digest: &str, pushed_at: Option<i64>, tags: &[&str]) -> Image {
        Image {
            artifact_media_type: Some("application/vnd.cncf.helm.config.v1+json".into()),
            ..image(digest, pushed_at, tags)
        }
    }

    fn newest<'a>(policy: &str, images: &'a [Image]) -> Option<(&'a str, &'a str)> {
        Policy::parse(policy).unwrap().newest(images).map(|(image, tag)| (image.digest.as_str(), tag))
    }

    #[test]
    fn every_policy_of_the_contract_is_read_and_written_alike() {
        for policy in
            ["tag:develop", "prefix:main-", "semver:any", "semver:1.x", "semver:1.4.x", "semver:10.0.2", "any"]
        {
            assert_eq!(Policy::parse(policy).unwrap().to_string(), policy);
        }
        assert_eq!(Policy::parse("develop"), Policy::parse("tag:develop"));
    }

    #[test]
    fn the_owner_of_a_range_that_cannot_be_read_is_told_what_to_write() {
        for (policy, expected) in [
            ("semver:1", "`1` is no version range; write 1.x"),
            ("semver:1.4", "`1.4` is no version range; write 1.4.x"),
            ("semver:v1", "write 1.x"),
            ("semver:v1.x", "write 1.x"),
            ("semver:v1.4", "write 1.4.x"),
            ("semver:v1.4.2", "write 1.4.2"),
            ("semver:", "names no version range"),
            ("semver:1.x 2.x", "space"),
        ] {
            let problem = Policy::parse(policy).unwrap_err();
            assert!(problem.contains(expected), "{policy}: {problem}");
        }
        for policy in
            ["1.x.x", "01.x", "+1.x", "1.4.2-rc.1", "x", "1.2.3.4", "latest", "=1.4.2", "1.", "99999999999999999999.x"]
        {
            let problem = Policy::parse(&format!("semver:{policy}")).unwrap_err();
            assert!(problem.ends_with("write any, or one like 1.x, 1.4.x or 1.4.2"), "{policy}: {problem}");
        }
    }

    #[test]
    fn a_range_holds_released_versions_only() {
        for (range, inside, outside) in [
            ("any", ["0.0.1", "v10.0.0"].as_slice(), ["1.0.0-rc.1", "latest", "1.4", "v1"].as_slice()),
            ("1.x", &["1.0.0", "v1.99.3"], &["0.1.0", "2.0.0", "10.0.0", "1.4.0-beta", "1.x"]),
            ("1.4.x", &["1.4.0", "v1.4.17"], &["1.40.0", "1.3.9", "1.4.1-rc.1", "1.4"]),
            ("1.4.2", &["1.4.2", "v1.4.2"], &["1.4.20", "1.4.2-rc.1"]),
        ] {
            let policy = Policy::parse(&format!("semver:{range}")).unwrap();
            for tag in inside {
                assert!(policy.may_select(tag), "{range} holds {tag}");
            }
            for tag in outside {
                assert!(!policy.may_select(tag), "{range} does not hold {tag}");
            }
        }
    }

    #[test]
    fn only_three_numbers_make_a_version() {
        assert_eq!(version_of("v1.4.2"), Some(Version::new(1, 4, 2)));
        assert_eq!(version_of("1.4.2"), Some(Version::new(1, 4, 2)));
        for tag in
            ["", "v", "1", "1.4", "20261123", "1234567", "2026.01.05", "vv1.4.2", "V1.4.2", "1.4.2.1", "web-1.4.2"]
        {
            assert_eq!(version_of(tag), None, "{tag}");
        }
    }

    #[test]
    fn the_tenth_minor_version_is_higher_than_the_ninth() {
        let images = [image("a", Some(1), &["v1.10.0"]), image("b", Some(2), &["v1.9.0"])];
        assert_eq!(newest("semver:1.x", &images), Some(("a", "v1.10.0")));
        assert_eq!(newest("prefix:v", &images), Some(("b", "v1.9.0")), "a prefix says nothing about versions");
    }

    #[test]
    fn of_one_version_pushed_twice_the_newer_is_taken() {
        let images = [image("a", Some(2), &["1.4.2"]), image("b", Some(1), &["v1.4.2"])];
        assert_eq!(newest("semver:any", &images), Some(("a", "1.4.2")));
    }

    #[test]
    fn an_image_is_named_by_the_tag_that_selected_it() {
        let images = [image("a", Some(1), &["latest", "main-7", "main-41", "1.4.2", "v1.4.10", "v1.4.9"])];
        assert_eq!(newest("prefix:main-", &images), Some(("a", "main-7")));
        assert_eq!(newest("any", &images), Some(("a", "v1.4.9")));
        assert_eq!(newest("semver:1.x", &images), Some(("a", "v1.4.10")));
        assert_eq!(newest("latest", &images), Some(("a", "latest")));
        assert_eq!(newest("develop", &images), None);
    }

    #[test]
    fn an_image_of_unknown_age_is_older_than_every_other() {
        let images = [image("a", None, &["main-2"]), image("b", Some(-5), &["main-1"])];
        assert_eq!(newest("prefix:main-", &images), Some(("b", "main-1")));
    }

    #[test]
    fn of_images_pushed_in_the_same_second_tag_and_digest_decide() {
        let mut images = [image("b", Some(1), &["v1"]), image("c", Some(1), &["v1"]), image("a", Some(1), &["v2"])];
        for _ in 0..images.len() {
            images.rotate_left(1);
            assert_eq!(newest("any", &images), Some(("a", "v2")));
            assert_eq!(newest("v1", &images), Some(("c", "v1")));
        }
    }

    #[test]
    fn what_is_no_image_is_never_selected() {
        let images = [
            image("a", Some(1), &["sha256-1"]),
            image("signature", Some(2), &[SIGNATURE]),
            image("referrers", Some(2), &[SIGNATURE.trim_end_matches(".sig")]),
            chart("chart", Some(3), &["sha256-2", "1.0.0"]),
        ];
        for policy in ["any", "prefix:sha256-"] {
            assert_eq!(newest(policy, &images), Some(("a", "sha256-1")), "{policy}");
        }
        assert_eq!(newest("semver:any", &images), None);
        assert_eq!(newest("any", &[]), None);
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        prop_oneof![
            "(main-1|v1\\.0\\.0|7)".prop_map(Policy::Tag),
            "(main-|m|v|sha256-)".prop_map(Policy::Prefix),
            "(any|[01]\\.x|[01]\\.[01]\\.x|1\\.0\\.0)".prop_map(|range| Policy::Semver(Range::parse(&range).unwrap())),
            Just(Policy::Any),
        ]
    }

    /// Few different tags, times and digests: ties are what the order must settle.
    fn any_images() -> impl Strategy<Value = Vec<Image>> {
        let tag =
            prop_oneof!["(main-[1-3]|v?[01]\\.[01]\\.[01]|1\\.0\\.0-rc\\.[12]|[0-9]{7,8})", Just(SIGNATURE.to_owned())];
        let image = ("[a-d]", proptest::option::of(0..3_i64), proptest::collection::vec(tag, 0..4), any::<bool>())
            .prop_map(|(digest, at, tags, is_chart)| {
                let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
                if is_chart { chart(&digest, at, &tags) } else { image(&digest, at, &tags) }
            });
        proptest::collection::vec(image, 0..8)
    }

    proptest! {
        #[test]
        fn a_policy_survives_being_shown(value in "(semver:)?[ -~]{0,30}|semver:v?[0-9x+.]{0,8}") {
            if let Ok(policy) = Policy::parse(&value) {
                prop_assert_eq!(Policy::parse(&policy.to_string()), Ok(policy));
            }
        }

        #[test]
        fn never_panics(value in "(semver:)?.{0,30}", tag in ".{0,80}") {
            if let Ok(policy) = Policy::parse(&value) {
                let _ignored = policy.newest(&[image("a", None, &[&tag])]);
            }
            let _ignored = version_of(&tag);
            let _ignored = is_signature_tag(&tag);
        }

        #[test]
        fn the_order_of_the_listing_does_not_matter(
            policy in any_policy(),
            (images, shuffled) in
                any_images().prop_flat_map(|images| (Just(images.clone()), Just(images).prop_shuffle())),
        ) {
            let named = |chosen: Option<(&Image, &str)>| chosen.map(|(i, tag)| (i.digest.clone(), i.pushed_at, tag.to_owned()));
            prop_assert_eq!(named(policy.newest(&images)), named(policy.newest(&shuffled)));
        }

        #[test]
        fn what_is_chosen_is_eligible_and_nothing_eligible_is_newer(policy in any_policy(), images in any_images()) {
            let eligible = |image: &Image| -> Vec<String> {
                let tags = image.tags.iter().filter(|tag| policy.may_select(tag));
                if image.artifact_media_type.is_none() { tags.cloned().collect() } else { Vec::new() }
            };
            let Some((chosen, tag)) = policy.newest(&images) else {
                prop_assert!(images.iter().all(|image| eligible(image).is_empty()));
                return Ok(());
            };
            prop_assert!(eligible(chosen).iter().any(|eligible| eligible == tag));
            for other in images.iter().flat_map(eligible) {
                if matches!(policy, Policy::Semver(_)) {
                    prop_assert!(version_of(tag) >= version_of(&other));
                }
            }
            for other in images.iter().filter(|image| !eligible(image).is_empty()) {
                let same_version = eligible(other).iter().any(|other| version_of(other) == version_of(tag));
                if !matches!(policy, Policy::Semver(_)) || same_version {
                    prop_assert!(chosen.pushed_at >= other.pushed_at);
                }
            }
        }

        #[test]
        fn a_tag_of_digits_is_no_version(tag in "[0-9]{1,40}") {
            prop_assert!(!Policy::Semver(Range::Any).may_select(&tag));
            prop_assert!(newest("semver:any", &[image("a", Some(1), &[&tag])]).is_none());
        }
    }
}
