//! ECR: which image a tag stands for, what is in it, and how images are listed.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, ImageIdentifier, TagStatus};
use serde_json::{Value, json};

use super::{Seen, outcome, same};

fn tag(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

fn digest(digest: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_digest(digest).build()
}

fn shown(image: &ImageDetail) -> Value {
    let tags: BTreeSet<&String> = image.image_tags().iter().collect();
    json!({
        "digest": image.image_digest(), "tags": tags, "repository": image.repository_name(),
        "registry": image.registry_id(), "media_type": image.image_manifest_media_type(),
        "artifact": image.artifact_media_type(), "has_time": image.image_pushed_at().is_some(),
        "status": image.image_status().map(|status| status.as_str()),
    })
}

#[test]
fn an_image_is_described_by_its_tag_and_by_its_digest() -> Result<()> {
    same(|place| async move {
        let (ecr, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let repository = "conformance/described";
        place.repository(repository).await?;
        let first = place.push(repository, "master", "1.0.0").await?;
        place.tag(repository, &first, "main-1").await?;
        let second = place.push(repository, "main-2", "1.1.0").await?;
        seen.name(&first, "first");
        seen.name(&second, "second");
        let gone = format!("sha256:{:064x}", 1);
        let describe = async |step: &str, repository: &str, ids: Vec<ImageIdentifier>, seen: &mut Seen| {
            let described = ecr.describe_images().repository_name(repository).set_image_ids(Some(ids)).send().await;
            let mut images: Vec<Value> =
                described.iter().flat_map(|answer| answer.image_details()).map(shown).collect();
            images.sort_by_key(|image| image["tags"].to_string());
            seen.note(step, json!([outcome(&described), images]));
        };
        describe("by tag", repository, vec![tag("master")], &mut seen).await;
        describe("by digest", repository, vec![digest(&second)], &mut seen).await;
        describe("by both", repository, vec![tag("main-2"), digest(&first)], &mut seen).await;
        describe("no such tag", repository, vec![tag("gone")], &mut seen).await;
        describe("no such digest", repository, vec![digest(&gone)], &mut seen).await;
        describe("one of two is missing", repository, vec![tag("master"), tag("gone")], &mut seen).await;
        describe("no such repository", "conformance/gone", vec![tag("master")], &mut seen).await;
        place.tag(repository, &second, "master").await?;
        describe("the tag has moved", repository, vec![tag("master")], &mut seen).await;
        describe("what it stood for", repository, vec![digest(&first)], &mut seen).await;
        Ok(seen)
    })
}

#[test]
fn images_are_listed_page_by_page_and_by_whether_they_have_a_tag() -> Result<()> {
    same(|place| async move {
        let (ecr, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let repository = "conformance/pages";
        place.repository(repository).await?;
        seen.note("empty", outcome(&ecr.describe_images().repository_name(repository).send().await));
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            place.push(repository, version, version).await?;
        }
        place.push(repository, "1.0.0", "1.0.1").await?;
        // The model shows no manifests of platforms, which have no tag. Nobody asks for those.
        for size in [1, 2, 100] {
            let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
            let mut pages = ecr
                .describe_images()
                .repository_name(repository)
                .filter(filter)
                .max_results(size)
                .into_paginator()
                .send();
            // The order is nobody's promise.
            let (mut sizes, mut found) = (Vec::new(), BTreeSet::new());
            while let Some(page) = pages.next().await {
                let page = page?;
                sizes.push(page.image_details().len());
                found.extend(page.image_details().iter().flat_map(|image| image.image_tags().to_vec()));
            }
            seen.note(&format!("tagged ones by {size}"), json!([sizes, found]));
        }
        let both = ecr.describe_images().repository_name(repository).image_ids(tag("1.1.0")).max_results(2);
        seen.note("ids and a size", outcome(&both.send().await));
        Ok(seen)
    })
}

#[test]
fn a_manifest_names_its_platforms_and_their_configurations() -> Result<()> {
    same(|place| async move {
        let (ecr, mut seen) = (Client::new(&place.sdk()), Seen::default());
        let repository = "conformance/index";
        place.repository(repository).await?;
        let index = place.push(repository, "master", "1.0.0").await?;
        seen.name(&index, "index");
        let get =
            |ids: Vec<ImageIdentifier>| ecr.batch_get_image().repository_name(repository).set_image_ids(Some(ids));
        let answer = get(vec![tag("master"), tag("gone")]).send().await?;
        let image = answer.images().first().context("no image")?;
        let manifest: Value = serde_json::from_str(image.image_manifest().unwrap_or_default())?;
        let children = manifest["manifests"].as_array().context("no manifests")?;
        let platforms: Vec<Value> = children.iter().map(|child| child["platform"].clone()).collect();
        let failures: Vec<Value> = answer
            .failures()
            .iter()
            .map(|failure| {
                let id = failure.image_id().and_then(|id| id.image_tag());
                json!([id, failure.failure_code().map(|code| code.as_str())])
            })
            .collect();
        let id = image.image_id().map(|id| json!([id.image_digest(), id.image_tag()]));
        seen.note("the index", json!([id, image.image_manifest_media_type(), platforms, failures]));

        let child = children[0]["digest"].as_str().context("no digest")?;
        let answer = get(vec![digest(child)]).send().await?;
        let image = answer.images().first().context("no image")?;
        let manifest: Value = serde_json::from_str(image.image_manifest().unwrap_or_default())?;
        let is_it = image.image_id().and_then(|id| id.image_digest()) == Some(child);
        seen.note("a platform's", json!([is_it, image.image_manifest_media_type(), manifest["config"]["mediaType"]]));

        let config = manifest["config"]["digest"].as_str().context("no configuration")?;
        let layer = |digest: &str| ecr.get_download_url_for_layer().repository_name(repository).layer_digest(digest);
        let url = layer(config).send().await?;
        let is_signed = url.download_url().is_some_and(|url| url.contains("?X-Amz-"));
        seen.note("the configuration's URL", json!([is_signed, url.layer_digest() == Some(config)]));
        seen.note("no such layer", outcome(&layer(&format!("sha256:{:064x}", 1)).send().await));
        let gone = ecr.batch_get_image().repository_name("conformance/gone").image_ids(tag("master")).send().await;
        seen.note("no such repository", outcome(&gone));
        Ok(seen)
    })
}
