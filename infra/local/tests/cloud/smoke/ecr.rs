//! ECR: pushes, and what images say of themselves.

use anyhow::{Context as _, Result};
use axum::http::Method;
use local::cloud::Cloud;
use local::registry::{self, Behaviour, Image};
use serde_json::{Value, json};

use super::code;
use crate::scenario;

#[test]
fn a_tag_that_points_nowhere_is_an_error() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/empty").await?;
        let input = json!({ "repositoryName": "smoke/empty", "imageIds": [{ "imageTag": "gone" }] });
        assert_eq!(code(cloud.aws.ecr("DescribeImages", &input).await)?, "ImageNotFoundException");
        Ok(())
    })
}

#[test]
fn a_push_is_announced_child_by_child_and_the_index_with_its_tag() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/pushed").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/pushed", "develop", &image).await?;
        assert_eq!(registry::resolve(&cloud.aws, "smoke/pushed", "develop").await?, Some(digest.clone()));
        let events = cloud
            .wait_for("four events", || async {
                let mut events = cloud.events.published();
                events.retain(|event| event["detail"]["repository-name"] == "smoke/pushed");
                Ok(if events.len() == 4 { Ok(events) } else { Err(format!("{events:?}")) })
            })
            .await?;
        let tags: Vec<_> = events.iter().map(|event| event["detail"]["image-tag"].as_str()).collect();
        assert_eq!(tags, [Some(""), Some(""), Some(""), Some("develop")]);
        assert_eq!(events[3]["detail"]["image-digest"], digest);
        assert_eq!(events[3]["detail"]["manifest-media-type"], "application/vnd.oci.image.index.v1+json");
        Ok(())
    })
}

/// What an index has to tell of itself is in its manifest: its media types say only that it is one.
#[test]
fn images_are_described_as_by_aws() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/described").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/described", "develop", &image).await?;
        let describe = |id: Value| async move {
            let input = json!({ "repositoryName": "smoke/described", "imageIds": [id] });
            Ok::<_, anyhow::Error>(cloud.aws.ecr("DescribeImages", &input).await?["imageDetails"][0].clone())
        };
        let index = describe(json!({ "imageTag": "develop" })).await?;
        assert_eq!(index["imageDigest"], digest);
        assert_eq!(index["imageTags"], json!(["develop"]));
        assert_eq!(index["imageStatus"], "ACTIVE");
        assert_eq!(index["imageManifestMediaType"], "application/vnd.oci.image.index.v1+json");
        assert_eq!(index.get("artifactMediaType"), None, "an index has no configuration");

        let manifest = manifest(cloud, "smoke/described", &digest).await?;
        let child = describe(json!({ "imageDigest": manifest["manifests"][0]["digest"] })).await?;
        assert_eq!(child["imageManifestMediaType"], "application/vnd.oci.image.manifest.v1+json");
        assert_eq!(child["artifactMediaType"], "application/vnd.oci.image.config.v1+json");
        assert_eq!(child.get("imageTags"), None);
        Ok(())
    })
}

#[test]
fn the_manifest_of_an_index_tells_its_platforms() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/manifest").await?;
        let image = Image::build("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/manifest", "develop", &image).await?;
        let manifest = manifest(cloud, "smoke/manifest", &digest).await?;
        let platforms = manifest["manifests"].as_array().context("no manifests")?.iter();
        let platforms: Vec<_> = platforms.map(|child| child["platform"]["architecture"].as_str()).collect();
        assert_eq!(platforms, [Some("amd64"), Some("arm64"), Some("unknown")]);
        let gone = json!([{ "imageDigest": format!("sha256:{:064x}", 1) }]);
        let input = json!({ "repositoryName": "smoke/manifest", "imageIds": gone });
        let answer = cloud.aws.ecr("BatchGetImage", &input).await?;
        assert_eq!(answer["images"], json!([]));
        assert_eq!(answer["failures"][0]["failureCode"], "ImageNotFound", "not an error: {answer}");
        Ok(())
    })
}

#[test]
fn an_images_configuration_is_downloaded_from_a_signed_url() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/labels").await?;
        let image = Image::single("https://example.com/smoke", "1.0.0", "8f4e2d1", Behaviour::Healthy)?;
        let digest = cloud.push("smoke/labels", "develop", &image).await?;
        let input = json!({ "repositoryName": "smoke/labels", "imageIds": [{ "imageDigest": digest }] });
        let answer = cloud.aws.ecr("BatchGetImage", &input).await?;
        let manifest: Value = serde_json::from_str(answer["images"][0]["imageManifest"].as_str().unwrap_or_default())?;
        let layer = |digest: &Value| json!({ "repositoryName": "smoke/labels", "layerDigest": digest });
        let link = cloud.aws.ecr("GetDownloadUrlForLayer", &layer(&manifest["config"]["digest"])).await?;
        assert_eq!(link["layerDigest"], manifest["config"]["digest"]);
        let url = link["downloadUrl"].as_str().context("no URL")?;
        let get = |url: String, headers: &'static [(&str, &str)]| async move {
            cloud.aws.http.send(Method::GET, &url, headers, "").await
        };
        let configuration = get(url.to_owned(), &[]).await?;
        assert_eq!(configuration.status, 200);
        let configuration: Value = serde_json::from_slice(&configuration.body)?;
        let labels = &configuration["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.revision"], "8f4e2d1");
        assert_eq!(labels["org.opencontainers.image.source"], "https://example.com/smoke");
        assert_eq!(get(url.to_owned(), &[("authorization", "Bearer a")]).await?.status, 400, "the URL is signed");
        assert_eq!(get(format!("{url}0"), &[]).await?.status, 403);
        let gone = cloud.aws.ecr("GetDownloadUrlForLayer", &layer(&json!(format!("sha256:{:064x}", 1)))).await;
        assert_eq!(code(gone)?, "LayersNotFoundException");
        Ok(())
    })
}

/// The manifest of an index, by its digest.
async fn manifest(cloud: &Cloud, repository: &str, digest: &str) -> Result<Value> {
    let index = "application/vnd.oci.image.index.v1+json";
    let input = json!({
        "repositoryName": repository, "imageIds": [{ "imageDigest": digest }], "acceptedMediaTypes": [index],
    });
    let answer = cloud.aws.ecr("BatchGetImage", &input).await?;
    let image = &answer["images"][0];
    assert_eq!(image["imageId"]["imageDigest"], digest);
    assert_eq!(image["imageManifestMediaType"], index);
    Ok(serde_json::from_str(image["imageManifest"].as_str().context("no manifest")?)?)
}

#[test]
fn images_come_page_by_page_and_by_whether_they_have_a_tag() -> Result<()> {
    scenario(|cloud| async move {
        cloud.create_repository("smoke/pages").await?;
        for version in ["1.0.0", "1.1.0", "1.2.0"] {
            let image = Image::build("https://example.com/smoke", version, "8f4e2d1", Behaviour::Healthy)?;
            cloud.push("smoke/pages", version, &image).await?;
        }
        let mut input =
            json!({ "repositoryName": "smoke/pages", "filter": { "tagStatus": "TAGGED" }, "maxResults": 2 });
        let first = cloud.aws.ecr("DescribeImages", &input).await?;
        assert_eq!(tags_of(&first), ["1.0.0", "1.1.0"]);
        input["nextToken"] = first["nextToken"].clone();
        let last = cloud.aws.ecr("DescribeImages", &input).await?;
        assert_eq!(tags_of(&last), ["1.2.0"]);
        assert_eq!(last.get("nextToken"), None);
        let untagged = json!({ "repositoryName": "smoke/pages", "filter": { "tagStatus": "UNTAGGED" } });
        let untagged = cloud.aws.ecr("DescribeImages", &untagged).await?;
        assert_eq!(untagged["imageDetails"].as_array().map(Vec::len), Some(9), "the children of three indexes");
        input["imageIds"] = json!([{ "imageTag": "1.0.0" }]);
        assert_eq!(code(cloud.aws.ecr("DescribeImages", &input).await)?, "InvalidParameterException");
        Ok(())
    })
}

fn tags_of(answer: &Value) -> Vec<&str> {
    let details = answer["imageDetails"].as_array().into_iter().flatten();
    details.filter_map(|detail| detail["imageTags"][0].as_str()).collect()
}
