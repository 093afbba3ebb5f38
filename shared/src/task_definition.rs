//! Task definitions as lossless documents.
//!
//! A new revision must differ from its base in image references and in our own tags, and in nothing else. The typed
//! structures of an SDK can't promise that: a field younger than the SDK would be dropped in silence between Describe
//! and Register. So the document stays JSON from one end to the other.

mod difference;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::image::{self, EcrRepository, Reference};
use crate::platform::from_seconds;
use crate::tags::Tag;

/// The fields that `DescribeTaskDefinition` adds and `RegisterTaskDefinition` does not take: the difference between
/// [`TaskDefinition`](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html) and the
/// [request](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RegisterTaskDefinition.html).
const READ_ONLY: &[&str] = &[
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
];

/// Largest task definition that ECS takes, in bytes
/// ([service quotas](https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html)).
const SIZE_BYTES_MAX: usize = 64 * 1024;

/// Most tags that a resource takes. The owner's go first: ours is only for people to read.
const TAGS_MAX: usize = 50;

/// A registered revision.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskDefinition {
    /// ARN with the revision.
    pub arn: String,
    /// What `RegisterTaskDefinition` would be given to register it again, without tags.
    body: Map<String, Value>,
    /// Its tags; AWS keeps them beside the document.
    pub tags: Vec<Tag>,
    /// ARN of who registered it, where ECS tells.
    pub registered_by: Option<String>,
    /// When it was registered, where ECS tells.
    pub registered_at: Option<DateTime<Utc>>,
    /// `ACTIVE`, `INACTIVE` or `DELETE_IN_PROGRESS`.
    status: String,
}

/// An image reference that a new revision changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageChange {
    /// Name of the container.
    pub container: String,
    /// The base's reference.
    pub from: String,
    /// The new reference, by digest.
    pub to: String,
}

impl ImageChange {
    /// The name of what changes.
    #[must_use]
    pub fn field(&self) -> String {
        format!("containerDefinitions[{}].image", self.container)
    }
}

/// A revision to register.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The document, without tags.
    body: Map<String, Value>,
    /// The tags.
    tags: Vec<Tag>,
    /// What it changes. Empty: the base already runs this digest.
    pub changes: Vec<ImageChange>,
}

impl TaskDefinition {
    /// Reads the answer of `DescribeTaskDefinition` (called with `include: [TAGS]`) or `RegisterTaskDefinition`.
    ///
    /// # Errors
    /// [`Error::Answer`] where it holds no task definition.
    pub fn from_answer(operation: &'static str, resource: &str, mut answer: Value) -> Result<Self, Error> {
        let missing = |missing| Error::Answer { operation, resource: resource.to_owned(), missing };
        let tags = answer.get_mut("tags").map(Value::take);
        let Some(Value::Object(mut body)) = answer.get_mut("taskDefinition").map(Value::take) else {
            return Err(missing("taskDefinition"));
        };
        let arn = body.get("taskDefinitionArn").and_then(Value::as_str);
        let arn = arn.ok_or_else(|| missing("taskDefinitionArn"))?.to_owned();
        let registered_by = body.get("registeredBy").and_then(Value::as_str).map(str::to_owned);
        let registered_at = body.get("registeredAt").and_then(Value::as_f64).and_then(from_seconds);
        let status = body.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
        for field in READ_ONLY {
            body.remove(*field);
        }
        Ok(Self {
            arn,
            body,
            status,
            tags: tags.as_ref().map(read_tags).unwrap_or_default(),
            registered_by,
            registered_at,
        })
    }

    /// The document, as `RegisterTaskDefinition` takes it, without tags.
    #[must_use]
    pub fn body(&self) -> &Map<String, Value> {
        &self.body
    }

    /// Whether it was deregistered: services that run it go on, and no deployment takes it.
    #[must_use]
    pub fn is_inactive(&self) -> bool {
        !matches!(self.status.as_str(), "" | "ACTIVE")
    }

    /// The same document, to be registered again.
    #[must_use]
    pub fn again(&self) -> Draft {
        let tags = self.tags.iter().filter(|tag| !tag.key.starts_with("aws:")).cloned().collect();
        Draft { body: self.body.clone(), tags, changes: Vec::new() }
    }

    /// The tag of the image from `repository`, as it was written on the revision when it was registered.
    #[must_use]
    pub fn image_tag(&self, repository: &EcrRepository) -> Option<&str> {
        let key = Tag::image_tag(&repository.name, "").key;
        self.tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
    }

    /// The names of what differs from an `older` revision, never values. Our own tags, and those of AWS, don't count.
    #[must_use]
    pub fn differences_from(&self, older: &Self) -> Vec<String> {
        let mut differences = difference::differences(&older.body, &self.body);
        let others = |tags: &[Tag]| -> BTreeMap<String, String> {
            tags.iter().filter(|tag| is_of_owner(tag)).map(|tag| (tag.key.clone(), tag.value.clone())).collect()
        };
        let (before, now) = (others(&older.tags), others(&self.tags));
        let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        differences
            .extend(keys.into_iter().filter(|key| before.get(*key) != now.get(*key)).map(|key| format!("tags[{key}]")));
        differences
    }

    /// The containers whose image comes from `repository`: name and reference.
    pub fn images_of<'a>(&'a self, repository: &'a EcrRepository) -> impl Iterator<Item = (&'a str, &'a str)> {
        containers(&self.body).filter(|(_, image)| repository.serves(image))
    }

    /// Whether a container is pinned to this digest.
    #[must_use]
    pub fn names_digest(&self, digest: &str) -> bool {
        let mut references = containers(&self.body).filter_map(|(_, image)| Reference::parse(image));
        references.any(|reference| reference.digest == Some(digest))
    }

    /// The image of `repository` that it names.
    #[must_use]
    pub fn image_of<'a>(&'a self, repository: &'a EcrRepository) -> Option<Reference<'a>> {
        self.images_of(repository).find_map(|(_, image)| Reference::parse(image))
    }

    /// The same document with every container of `repository` pinned to `digest`, and with the image's tag kept as a
    /// tag of the revision for people. Containers of other repositories are left alone.
    #[must_use]
    pub fn with_image(&self, repository: &EcrRepository, digest: &str, image_tag: &str) -> Draft {
        let mut body = self.body.clone();
        let mut changes = Vec::new();
        let definitions = body.get_mut("containerDefinitions").and_then(Value::as_array_mut);
        for container in definitions.into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let Some(Value::String(reference)) = container.get_mut("image") else { continue };
            if !repository.serves(reference) {
                continue;
            }
            if let Some(to) = image::pinned(reference, digest).filter(|to| to != reference) {
                let from = std::mem::replace(reference, to.clone());
                changes.push(ImageChange { container: name, from, to });
            }
        }
        let ours = Tag::image_tag(&repository.name, image_tag);
        let mut tags: Vec<Tag> =
            self.tags.iter().filter(|tag| !tag.key.starts_with("aws:") && tag.key != ours.key).cloned().collect();
        if tags.len() < TAGS_MAX {
            tags.push(ours);
        }
        Draft { body, tags, changes }
    }
}

impl Draft {
    /// Whether `revision` already is what this draft would register. Our own tags don't count: the same image under
    /// another name needs no new revision.
    #[must_use]
    pub fn is_same_as(&self, revision: &TaskDefinition) -> bool {
        let others = |tags: &[Tag]| {
            let mut others: Vec<Tag> = tags.iter().filter(|tag| is_of_owner(tag)).cloned().collect();
            others.sort();
            others
        };
        self.body == revision.body && others(&self.tags) == others(&revision.tags)
    }

    /// The request for `RegisterTaskDefinition`.
    #[must_use]
    pub fn request(&self) -> Value {
        let mut request = self.body.clone();
        let tags = self.tags.iter().map(|tag| serde_json::json!({"key": tag.key, "value": tag.value}));
        request.insert("tags".into(), tags.collect());
        Value::Object(request)
    }

    /// The document's size in bytes if it is more than ECS takes.
    #[must_use]
    pub fn excess_size(&self) -> Option<usize> {
        let size = serde_json::to_vec(&self.body).map(|bytes| bytes.len()).unwrap_or_default();
        (size > SIZE_BYTES_MAX).then_some(size)
    }
}

/// Whether a tag was set by the owner, and neither by us nor by AWS.
fn is_of_owner(tag: &Tag) -> bool {
    !tag.is_ours() && !tag.key.starts_with("aws:")
}

fn containers(body: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    let definitions = body.get("containerDefinitions").and_then(Value::as_array);
    definitions.into_iter().flatten().filter_map(|container| {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        Some((name, container.get("image")?.as_str()?))
    })
}

/// Tags as ECS writes them: `[{"key": …, "value": …}]`.
pub(crate) fn read_tags(tags: &Value) -> Vec<Tag> {
    let text = |tag: &Value, key: &str| tag.get(key).and_then(Value::as_str).map(str::to_owned);
    tags.as_array()
        .into_iter()
        .flatten()
        .filter_map(|tag| Some(Tag::new(text(tag, "key")?, text(tag, "value").unwrap_or_default())))
        .collect()
}

/// The family of a task definition ARN, `…:task-definition/<family>:<revision>`.
#[must_use]
pub fn family_of(arn: &str) -> &str {
    let name = revision_name(arn);
    name.rsplit_once(':').map_or(name, |(family, _)| family)
}

/// What people call the revision of a task definition ARN: `<family>:<revision>`.
#[must_use]
pub fn revision_name(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    const DIGEST: &str = "sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";

    fn web() -> EcrRepository {
        EcrRepository { account: "123456789012".into(), region: "eu-west-1".into(), name: "tides/web".into() }
    }

    fn described(extra: &Value) -> TaskDefinition {
        let mut definition = json!({
            "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
            "family": "web", "revision": 7, "status": "ACTIVE", "registeredAt": 1_762_000_000.5, "registeredBy": "me",
            "compatibilities": ["EC2"], "requiresAttributes": [{"name": "x"}], "deregisteredAt": 1, "deleteRequestedAt": 2,
            "containerDefinitions": [
                {"name": "web", "image": format!("{HOST}/tides/web:develop"), "environment": [{"name": "A", "value": ""}]},
                {"name": "proxy", "image": "envoyproxy/envoy:v1.31"},
            ],
        });
        for (key, value) in extra.as_object().unwrap() {
            definition[key] = value.clone();
        }
        let answer = json!({"taskDefinition": definition, "tags": [
            {"key": "team", "value": "payments"}, {"key": "aws:cloudformation:stack-id", "value": "x"},
            {"key": "tidegate:tag/tides/web", "value": "old"},
        ]});
        TaskDefinition::from_answer("DescribeTaskDefinition", "web:7", answer).unwrap()
    }

    #[test]
    fn only_the_image_of_that_repository_changes() {
        let draft = described(&json!({})).with_image(&web(), DIGEST, "develop");
        let request = draft.request();
        assert_eq!(request["containerDefinitions"][0]["image"], format!("{HOST}/tides/web@{DIGEST}"));
        assert_eq!(request["containerDefinitions"][1]["image"], "envoyproxy/envoy:v1.31");
        assert_eq!(draft.changes.len(), 1);
        assert_eq!(draft.changes[0].container, "web");
    }

    #[test]
    fn fields_that_describe_adds_are_stripped_and_no_others() {
        let request = described(&json!({})).with_image(&web(), DIGEST, "develop").request();
        let mut fields: Vec<&String> = request.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, ["containerDefinitions", "family", "tags"]);
    }

    #[test]
    fn tags_are_kept_but_for_those_aws_reserves() {
        let request = described(&json!({})).with_image(&web(), DIGEST, "develop").request();
        assert_eq!(
            request["tags"],
            json!([{"key": "team", "value": "payments"}, {"key": "tidegate:tag/tides/web", "value": "develop"}])
        );
    }

    #[test]
    fn our_tag_gives_way_where_the_owner_has_used_up_the_fifty() {
        let mut base = described(&json!({}));
        base.tags = (0..50).map(|number| Tag::new(format!("owner-{number}"), "")).collect();
        let request = base.with_image(&web(), DIGEST, "develop").request();
        assert_eq!(request["tags"].as_array().unwrap().len(), 50);
        assert!(!request["tags"].to_string().contains("tidegate:"));
    }

    #[test]
    fn every_container_of_the_repository_is_changed() {
        let image = format!("{HOST}/tides/web@sha256:00");
        let extra = json!({"containerDefinitions": [
            {"name": "migrate", "image": image}, {"name": "web", "image": image},
        ]});
        assert_eq!(described(&extra).with_image(&web(), DIGEST, "develop").changes.len(), 2);
    }

    #[test]
    fn a_base_that_already_runs_the_digest_has_no_changes() {
        let extra = json!({"containerDefinitions": [{"name": "web", "image": format!("{HOST}/tides/web@{DIGEST}")}]});
        let base = described(&extra);
        let draft = base.with_image(&web(), DIGEST, "master");
        assert_eq!(draft.changes, []);
        assert!(draft.is_same_as(&base), "another name for the same image needs no new revision");
    }

    #[test]
    fn another_owner_tag_makes_another_revision() {
        let base = described(&json!({}));
        let draft = base.with_image(&web(), DIGEST, "develop");
        let mut registered = TaskDefinition { arn: "web:8".into(), body: draft.body.clone(), ..base.clone() };
        assert!(draft.is_same_as(&registered));
        registered.tags.push(Tag::new("cost-centre", "7"));
        assert!(!draft.is_same_as(&registered));
    }

    #[test]
    fn a_document_over_64_kib_is_noticed_before_it_is_registered() {
        assert_eq!(described(&json!({})).with_image(&web(), DIGEST, "develop").excess_size(), None);
        let large = json!({"volumes": [{"name": "x".repeat(70_000)}]});
        assert!(described(&large).with_image(&web(), DIGEST, "develop").excess_size().unwrap() > 70_000);
    }

    #[test]
    fn the_family_is_read_from_the_arn() {
        assert_eq!(family_of("arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7"), "web");
    }

    /// Any JSON: what AWS may add tomorrow.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-zA-Z]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_but_the_image_and_our_tag_is_ever_changed(
            fields in proptest::collection::btree_map("x[a-zA-Z]{1,8}", any_json(), 0..6),
            in_container in proptest::collection::btree_map("x[a-zA-Z]{1,8}", any_json(), 0..6),
        ) {
            let mut container = json!({"name": "web", "image": format!("{HOST}/tides/web:develop")});
            container.as_object_mut().unwrap().extend(in_container);
            let mut extra: Value = Value::Object(fields.into_iter().collect());
            extra["containerDefinitions"] = json!([container, {"name": "side", "image": "side:1"}]);
            let base = described(&extra);

            let mut expected = Value::Object(base.body.clone());
            expected["containerDefinitions"][0]["image"] = format!("{HOST}/tides/web@{DIGEST}").into();
            let mut request = base.with_image(&web(), DIGEST, "develop").request();
            request.as_object_mut().unwrap().remove("tags");
            prop_assert_eq!(request, expected);
        }
    }
}
