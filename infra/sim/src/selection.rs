//! The image that a policy selects, worked out from what ECR holds and nothing of ours.

use std::collections::BTreeMap;

use crate::world::Image;

/// Digest and tag of what a service with this policy is to run; `None` where nothing fits.
#[must_use]
pub fn selected(images: &BTreeMap<String, Image>, policy: &str) -> Option<(String, String)> {
    let tagged: Vec<_> = images.values().flat_map(|image| image.tags.iter().map(move |tag| (image, tag))).collect();
    let version = |tag: &str| -> Option<Vec<u64>> {
        tag.starts_with("1.").then(|| tag.split('.').map(|part| part.parse().unwrap()).collect())
    };
    let chosen = match policy {
        "any" => tagged.iter().max_by_key(|(image, _)| image.pushed_at),
        "prefix:main-" => {
            tagged.iter().filter(|(_, tag)| tag.starts_with("main-")).max_by_key(|(image, _)| image.pushed_at)
        }
        "semver:1.x" => tagged.iter().filter(|(_, tag)| version(tag).is_some()).max_by_key(|(_, tag)| version(tag)),
        _ => tagged.iter().find(|(_, tag)| *tag == "master"),
    };
    chosen.map(|(image, tag)| (image.digest.clone(), (*tag).clone()))
}
