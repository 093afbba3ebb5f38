//! References, manifests, configurations, policies.

use chrono::DateTime;
use shared::ecr::Image;
use shared::image::{EcrRepository, Reference, pinned, short_digest, starts_like};
use shared::manifest::{check, read, wanted};
use shared::policy::{Policy, version_of};
use shared::provenance::{Provenance, matches_digest, of_config, read_manifest, short_revision};

use crate::{json, text};

/// A digest.
pub(crate) const DIGEST: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";

/// A reference that parses prints as itself, and pinned to a digest it names the same repository, and no tag.
pub fn reference(data: &[u8]) {
    let Some(image) = text(data) else { return };
    let _seen = (short_digest(image), starts_like(DIGEST, image), starts_like(image, image));
    let Some(reference) = Reference::parse(image) else {
        assert_eq!(pinned(image, DIGEST), None);
        return;
    };
    let Reference { registry, repository, tag, digest } = reference;
    let slash = if registry.is_empty() { "" } else { "/" };
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    assert_eq!(format!("{registry}{slash}{repository}{tag}{digest}"), image);
    let pinned = pinned(image, DIGEST).unwrap_or_default();
    let again = Reference::parse(&pinned);
    assert_eq!(again, Some(Reference { registry, repository, tag: None, digest: Some(DIGEST) }), "{pinned}");
    let account = image.get(..12).unwrap_or_default().to_owned();
    let of = EcrRepository { account, region: "eu-west-1".into(), name: repository.to_owned() };
    assert_eq!(of.serves(image), of.serves(&pinned), "who serves an image serves it pinned");
}

/// A manifest, an index or what claims to be one; and a task definition that wants a platform of it.
pub fn manifest(data: &[u8]) {
    let Some(body) = text(data) else { return };
    let task = json(data).and_then(|value| value.as_object().cloned()).unwrap_or_default();
    let wanted = wanted(&task);
    for media_type in [None, Some("application/vnd.oci.image.index.v1+json"), Some(body)] {
        let platforms = read(media_type, body);
        let _seen = check(&wanted, &platforms);
    }
    if let Some(manifest) = read_manifest(body) {
        let _seen = (manifest.child_for(None), manifest.config_digest(), manifest.annotations().is_empty());
    }
    let _seen = matches_digest(DIGEST, data);
}

/// An image's configuration: what its labels say of the commit it was built from.
pub fn config(data: &[u8]) {
    let provenance = of_config(data);
    if let Some(revision) = &provenance.revision {
        let _seen = short_revision(revision);
    }
    assert_eq!(provenance.clone().or(Provenance::default()), provenance, "nothing adds nothing");
    if let Some(tag) = text(data) {
        let _seen = Provenance::of_tag(tag);
    }
}

/// A policy that parses prints as what parses to the same; a version is one version.
pub fn policy(data: &[u8]) {
    let Some(value) = text(data) else { return };
    let _seen = version_of(value);
    let Ok(policy) = Policy::parse(value) else { return };
    let again = policy.to_string();
    assert_eq!(Policy::parse(&again).as_ref(), Ok(&policy), "`{value}` prints as `{again}`");
    let _seen = policy.may_select(value);
}

/// The first line is a policy, each other one an image: its tags, and when it was pushed. What is selected is one of them,
/// by a tag of its own that the policy may select; and the order of the list is no matter where the times differ.
pub fn selection(data: &[u8]) {
    let Some((policy, images)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let Ok(policy) = Policy::parse(policy) else { return };
    let image = |(number, line): (usize, &str)| {
        let mut words = line.split_whitespace();
        let pushed_at = words.next().and_then(|word| word.parse().ok()).and_then(|at| DateTime::from_timestamp(at, 0));
        Image {
            digest: format!("sha256:{number:064x}"),
            tags: words.map(str::to_owned).collect(),
            pushed_at,
            manifest_media_type: None,
            artifact_media_type: None,
        }
    };
    let mut images: Vec<Image> = images.lines().take(200).enumerate().map(image).collect();
    let newest = policy.newest(&images).map(|(image, tag)| (image.clone(), tag.to_owned()));
    if let Some((image, tag)) = &newest {
        assert!(image.tags.contains(tag), "a tag of another image");
        assert!(policy.may_select(tag), "{policy} does not select {tag}");
    }
    images.reverse();
    let turned = policy.newest(&images).map(|(_, tag)| tag.to_owned());
    assert_eq!(turned.is_some(), newest.is_some(), "the order of the list decides whether there is one");
}
