//! From which version to which.

use super::mrkdwn::{code, link, words};
use crate::image::short_digest;
use crate::links::Links;
use crate::provenance::{Provenance, short_revision};
use crate::record::{Origin, Record};

/// The longest name of a version that is shown.
pub(super) const NAME_UNITS_MAX: usize = 100;
const DETAIL_UNITS_MAX: usize = 24;

/// An image as people call it: its version or else its tag, and what tells it from others of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version<'a> {
    name: &'a str,
    detail: Detail<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail<'a> {
    Commit(&'a str),
    Digest(&'a str),
    None,
}

impl<'a> Version<'a> {
    /// `image` is a digest, or what else the task definition names. `None` where nothing is known.
    fn new(provenance: Option<&'a Provenance>, tag: &'a str, image: &'a str, is_by_commit: bool) -> Option<Self> {
        let revision = provenance.and_then(|it| it.revision.as_deref()).map(short_revision);
        let detail = match (revision.filter(|_| is_by_commit), image.contains(':')) {
            (Some(revision), _) => Detail::Commit(revision),
            (None, true) => Detail::Digest(short_digest(image)),
            (None, false) => Detail::None,
        };
        let name = [provenance.and_then(|it| it.version.as_deref()).unwrap_or_default(), tag, image];
        let name = name.into_iter().find(|name| !name.trim().is_empty())?;
        // A digest is its own name.
        let is_digest = name == image && image.contains(':');
        let name = if is_digest { short_digest(name) } else { name };
        let detail = Some(detail).filter(|detail| detail.text() != name).unwrap_or(Detail::None);
        Some(Self { name, detail })
    }
}

impl<'a> Detail<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Commit(text) | Self::Digest(text) => text,
            Self::None => "",
        }
    }
}

/// What a deployment changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    from: Option<Version<'a>>,
    to: Option<Version<'a>>,
    digest: &'a str,
    is_theirs: bool,
}

impl<'a> Change<'a> {
    /// What `record` changes.
    pub(crate) fn of(record: &'a Record) -> Self {
        let change = |is_by_commit| {
            let tag_from = record.tag_from.as_deref().unwrap_or_default();
            let digest_from = record.digest_from.as_deref().unwrap_or_default();
            let from = Version::new(record.provenance_from.as_ref(), tag_from, digest_from, is_by_commit);
            let to = Version::new(record.provenance.as_ref(), &record.tag, &record.digest, is_by_commit);
            // A tag alone is what somebody else has deployed, or what could not be.
            let is_theirs = record.origin == Origin::External;
            Self {
                from,
                to: to.filter(|_| is_theirs || !record.digest.is_empty()),
                digest: short_digest(&record.digest),
                is_theirs,
            }
        };
        // A commit that was built twice does not tell the images apart.
        Some(change(true)).filter(|change| change.from != change.to).unwrap_or_else(|| change(false))
    }

    /// Whether there is an image to name.
    fn has_image(&self) -> bool {
        self.to.is_some() || self.is_theirs
    }

    /// The change in mrkdwn, with `links` to the commit and to what lies between; empty where no image is named.
    pub(crate) fn shown(&self, links: &Links) -> String {
        if !self.has_image() {
            return String::new();
        }
        let commit = |text: &str| links.commit.as_deref().and_then(|url| link(url, text));
        let to = self.to.map_or("an image of theirs".to_owned(), |to| shown(&to, commit));
        let change = match self.from {
            Some(from) if Some(from) == self.to => format!("{to}, the same image as before"),
            Some(from) => format!("{} → {to}", shown(&from, |_| None)),
            None if self.to.is_some() => format!("{to}, the first known here"),
            None => to,
        };
        match links.compare.as_deref().and_then(|url| link(url, "compare")) {
            Some(compare) => format!("{change} · {compare}"),
            None => change,
        }
    }

    /// The change in words, for who sees no markup.
    pub(crate) fn in_words(&self) -> String {
        let plain = |version: &Version<'_>| {
            let name = words(version.name, NAME_UNITS_MAX);
            match version.detail {
                Detail::None => name,
                detail => format!("{name} ({})", words(detail.text(), DETAIL_UNITS_MAX)),
            }
        };
        match (&self.from, &self.to) {
            (from, Some(to)) if from.as_ref() == Some(to) => format!("{} again", plain(to)),
            (Some(from), Some(to)) => format!("from {} to {}", plain(from), plain(to)),
            (None, Some(to)) => plain(to),
            _ => String::new(),
        }
    }

    /// The new image's digest, where the change is shown without it.
    pub(crate) fn digest_behind(&self) -> Option<String> {
        let is_behind = matches!(self.to?.detail, Detail::Commit(_)) && !self.digest.is_empty();
        is_behind.then(|| words(self.digest, DETAIL_UNITS_MAX))
    }

    /// The version before, by what tells it from the new one.
    pub(crate) fn before(&self) -> Option<&'a str> {
        let from = self.from?;
        let is_told_by_name = self.to.is_none_or(|to| to.name != from.name) || from.detail == Detail::None;
        Some(if is_told_by_name { from.name } else { from.detail.text() })
    }
}

fn shown(version: &Version<'_>, commit: impl Fn(&str) -> Option<String>) -> String {
    let name = code(version.name, NAME_UNITS_MAX);
    let detail = words(version.detail.text(), DETAIL_UNITS_MAX);
    match version.detail {
        _ if detail.is_empty() => name,
        Detail::Commit(_) => format!("{name} ({})", commit(&detail).unwrap_or(detail)),
        _ => format!("{name} ({detail})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::State;
    use crate::record::tests::record;

    const OLD: &str = "sha256:9a1f0c4b5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566a";

    fn told(version: Option<&str>, revision: Option<&str>) -> Option<Provenance> {
        let (version, revision) = (version.map(str::to_owned), revision.map(str::to_owned));
        Some(Provenance { version, revision, ..Provenance::default() })
    }

    #[test]
    fn an_image_is_called_what_people_call_it_and_told_from_others_of_that_name() {
        let base = Record { digest_from: Some(OLD.into()), ..record(State::Rolling) };
        let (old, new) = ("9d1e0c4a7b", "3f9c2ab81d");
        let moving = Record { tag_from: Some("master".into()), ..base.clone() };
        let cases = [
            ("no tag is known before", base.clone(), "`9a1f0c4b5e6d` → `master` (4f53cda18c2b)"),
            ("a moving tag", moving.clone(), "`master` (9a1f0c4b5e6d) → `master` (4f53cda18c2b)"),
            (
                "commits are known",
                Record { provenance: told(None, Some(new)), provenance_from: told(None, Some(old)), ..moving.clone() },
                "`master` (9d1e0c4) → `master` (3f9c2ab)",
            ),
            (
                "versions are known",
                Record {
                    provenance: told(Some("1.42.0"), Some(new)),
                    provenance_from: told(Some("1.41.0"), None),
                    ..base.clone()
                },
                "`1.41.0` (9a1f0c4b5e6d) → `1.42.0` (3f9c2ab)",
            ),
            (
                "one commit, built twice",
                Record { provenance: told(None, Some(old)), provenance_from: told(None, Some(old)), ..moving.clone() },
                "`master` (9a1f0c4b5e6d) → `master` (4f53cda18c2b)",
            ),
            (
                "the task definition named a tag",
                Record { digest_from: Some("a-rather-long-tag".into()), ..base.clone() },
                "`a-rather-long-tag` → `master` (4f53cda18c2b)",
            ),
            (
                "nothing is known before",
                Record { digest_from: None, ..base.clone() },
                "`master` (4f53cda18c2b), the first known here",
            ),
            ("no tag", Record { tag: String::new(), ..base.clone() }, "`9a1f0c4b5e6d` → `4f53cda18c2b`"),
            (
                "others deployed the same image",
                Record { digest: OLD.into(), ..moving },
                "`master` (9a1f0c4b5e6d), the same image as before",
            ),
            (
                "others deployed what names neither",
                Record { origin: Origin::External, tag: String::new(), digest: String::new(), ..base.clone() },
                "`9a1f0c4b5e6d` → an image of theirs",
            ),
            ("no image was found", Record { digest: String::new(), ..base }, ""),
        ];
        for (case, record, expected) in cases {
            assert_eq!(Change::of(&record).shown(&Links::default()), expected, "{case}");
        }
    }
}
