//! Image references: which registry and repository an image comes from, and what it is pinned to.
//!
//! The parser is our own forty lines instead of the one of `oci-spec`: that one compiles a large regular expression at
//! the first use, which a cold start would pay for. A property test holds the two against each other.

use std::fmt;

/// An image reference, taken apart. Borrowed from the text it was read from.
///
/// Follows the grammar of the
/// [OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/main/spec.md): the digest
/// is what follows `@`; the tag is what follows the last `:` behind the last `/`, so that the port of a registry is
/// never taken for a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Registry host with its port; empty where the reference names none (Docker Hub).
    pub registry: &'a str,
    /// Repository, without the registry.
    pub repository: &'a str,
    /// Tag.
    pub tag: Option<&'a str>,
    /// Digest, with its algorithm (`sha256:…`).
    pub digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Takes `image` apart. `None` where it has no repository.
    #[must_use]
    pub fn parse(image: &'a str) -> Option<Self> {
        let (name, digest) = match image.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (image, None),
        };
        let last_slash = name.rfind('/').map_or(0, |at| at + 1);
        let (directories, last) = name.split_at_checked(last_slash)?;
        let (last, tag) = match last.split_once(':') {
            Some((last, tag)) => (last, Some(tag)),
            None => (last, None),
        };
        let name = name.get(..directories.len() + last.len())?;
        let (registry, repository) = match name.split_once('/') {
            Some((host, rest)) if is_registry(host) => (host, rest),
            _ => ("", name),
        };
        let complete = !repository.is_empty() && tag != Some("") && digest != Some("");
        complete.then_some(Self { registry, repository, tag, digest })
    }
}

/// The rule of Docker's reference grammar: the first part is a registry if it could not be a plain path component.
fn is_registry(host: &str) -> bool {
    host.contains('.') || host.contains(':') || host == "localhost"
}

/// An ECR repository of one account and Region: what a push event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EcrRepository {
    /// Account id of the registry.
    pub account: String,
    /// AWS Region of the registry.
    pub region: String,
    /// Repository name; may contain `/`.
    pub name: String,
}

impl EcrRepository {
    /// Whether `image` names exactly this registry and repository, with whatever tag or digest.
    ///
    /// Every host under which ECR serves a private registry counts, see
    /// [Making requests to Amazon ECR registries](https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-settings.html).
    #[must_use]
    pub fn serves(&self, image: &str) -> bool {
        Reference::parse(image)
            .is_some_and(|reference| reference.repository == self.name && self.has_host(reference.registry))
    }

    fn has_host(&self, host: &str) -> bool {
        let Some(rest) = host.strip_prefix(self.account.as_str()) else {
            return false;
        };
        let region = &self.region;
        [
            format!(".dkr.ecr.{region}.amazonaws.com"),
            format!(".dkr.ecr-fips.{region}.amazonaws.com"),
            format!(".dkr.ecr.{region}.amazonaws.com.cn"),
            format!(".dkr-ecr.{region}.on.aws"),
            format!(".dkr-ecr-fips.{region}.on.aws"),
            format!(".dkr-ecr.{region}.on.amazonwebservices.com.cn"),
        ]
        .iter()
        .any(|known| known == rest)
    }
}

impl fmt::Display for EcrRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// `image` pinned to `digest`: same registry host, same repository, no tag, which is the form
/// [ECS documents](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html).
/// `None` where `image` is no reference.
#[must_use]
pub fn pinned(image: &str, digest: &str) -> Option<String> {
    let Reference { registry, repository, .. } = Reference::parse(image)?;
    let separator = if registry.is_empty() { "" } else { "/" };
    Some(format!("{registry}{separator}{repository}@{digest}"))
}

/// A digest as people read it: its first twelve digits, without the algorithm.
#[must_use]
pub fn short_digest(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// Whether a person means this digest: by all of it, or by how its hex begins, of which it takes seven digits.
#[must_use]
pub fn starts_like(digest: &str, wanted: &str) -> bool {
    let hex = |digest: &str| digest.split_once(':').map_or(digest, |(_, hex)| hex).to_owned();
    let wanted = hex(wanted);
    wanted.len() >= 7 && hex(digest).starts_with(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";

    fn repository(name: &str) -> EcrRepository {
        EcrRepository { account: "123456789012".into(), region: "eu-west-1".into(), name: name.into() }
    }

    #[test]
    fn a_port_is_not_a_tag_and_a_digest_is_not_cut() {
        let with_port = Reference::parse("localhost:5000/tides/web").unwrap();
        assert_eq!((with_port.registry, with_port.repository), ("localhost:5000", "tides/web"));
        assert_eq!(with_port.tag, None);

        let image = format!("localhost:5000/web:v1@{DIGEST}");
        let both = Reference::parse(&image).unwrap();
        assert_eq!((both.repository, both.tag, both.digest), ("web", Some("v1"), Some(DIGEST)));
    }

    #[test]
    fn docker_hub_names_have_no_registry() {
        let reference = Reference::parse("datadog/agent:7").unwrap();
        assert_eq!((reference.registry, reference.repository), ("", "datadog/agent"));
    }

    #[test]
    fn broken_references_are_none() {
        for broken in ["", "web:", "web@", "registry.example.com/", ":v1", "@sha256:00"] {
            assert_eq!(Reference::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn every_host_of_the_registry_serves_its_repository() {
        for host in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr-fips.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "123456789012.dkr-ecr.eu-west-1.on.aws",
        ] {
            assert!(repository("tides/web").serves(&format!("{host}/tides/web:develop")), "{host}");
        }
    }

    #[test]
    fn another_registry_region_or_repository_is_not_ours() {
        for image in [
            "tides/web:develop",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tides/web-proxy:develop",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/old/tides/web:develop",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/tides/web:develop",
            "210987654321.dkr.ecr.eu-west-1.amazonaws.com/tides/web:develop",
            "evil-123456789012.dkr.ecr.eu-west-1.amazonaws.com/tides/web:develop",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.example.com/tides/web:develop",
        ] {
            assert!(!repository("tides/web").serves(image), "{image}");
        }
    }

    #[test]
    fn pinning_drops_the_tag_and_keeps_the_host() {
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        for image in [format!("{host}/web:develop"), format!("{host}/web@sha256:00")] {
            assert_eq!(pinned(&image, DIGEST).unwrap(), format!("{host}/web@{DIGEST}"));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference_parser(
            host in prop_oneof![
                Just(String::new()), Just("localhost/".into()), Just("localhost:5000/".into()),
                "[a-z]{1,8}\\.[a-z]{2,3}(:[0-9]{2,5})?/",
            ],
            path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){1,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            digest in proptest::option::of("[0-9a-f]{64}"),
        ) {
            let tag_part = tag.as_ref().map(|t| format!(":{t}")).unwrap_or_default();
            let digest_part = digest.as_ref().map(|d| format!("@sha256:{d}")).unwrap_or_default();
            let image = format!("{host}{path}{tag_part}{digest_part}");
            let theirs: oci_spec::distribution::Reference = image.parse().unwrap();
            let ours = Reference::parse(&image).unwrap();
            prop_assert_eq!(ours.repository, theirs.repository());
            if !ours.registry.is_empty() {
                prop_assert_eq!(ours.registry, theirs.registry());
            }
            prop_assert_eq!(ours.digest, theirs.digest());
            prop_assert_eq!(ours.tag, tag.as_deref());
        }

        #[test]
        fn never_panics(image in ".*") {
            let _ignored = Reference::parse(&image);
            let _ignored = pinned(&image, DIGEST);
            let _ignored = short_digest(&image);
        }
    }
}
