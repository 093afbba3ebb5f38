//! The tagging API over the world's services.

use serde_json::{Value, json};

use super::ecs::Ecs;
use super::wire::Refusal;

pub(super) fn get_resources(ecs: &Ecs, body: &Value) -> Result<Value, Refusal> {
    let filters = body["TagFilters"].as_array().cloned().unwrap_or_default();
    let found = |resource: &&Value| filters.iter().all(|filter| has_tag(resource, filter));
    let shown = |arn: &Value, resource: &Value| json!({"ResourceARN": arn, "Tags": tags(resource)});
    let list: Vec<Value> = match &body["ResourceTypeFilters"][0] {
        kind if kind == "ecs:cluster" => {
            ecs.tagged_clusters.values().filter(found).map(|cluster| shown(&cluster["clusterArn"], cluster)).collect()
        }
        _ => ecs.services.values().filter(found).map(|service| shown(&service["serviceArn"], service)).collect(),
    };
    let (page, token) = page(list, &body["ResourcesPerPage"], (50, 100), &body["PaginationToken"])?;
    Ok(json!({"PaginationToken": token.unwrap_or_default(), "ResourceTagMappingList": page}))
}

fn has_tag(service: &Value, filter: &Value) -> bool {
    let values = filter["Values"].as_array().cloned().unwrap_or_default();
    let meets = |tag: &Value| tag["key"] == filter["Key"] && (values.is_empty() || values.contains(&tag["value"]));
    service["tags"].as_array().unwrap().iter().any(meets)
}

fn tags(service: &Value) -> Vec<Value> {
    let tags = service["tags"].as_array().unwrap().iter();
    tags.map(|tag| json!({"Key": tag["key"], "Value": tag["value"]})).collect()
}

/// The page of `list` that `token` asks for, and the token of the next one. `usual` and `most` bound its `size`.
pub(super) fn page(
    list: Vec<Value>,
    size: &Value,
    (usual, most): (usize, usize),
    token: &Value,
) -> Result<(Vec<Value>, Option<String>), Refusal> {
    let size = size.as_u64().map_or(usual, |size| size as usize);
    if !(1..=most).contains(&size) {
        return Err(("InvalidParameterException", json!({"message": "the size of a page is out of bounds"})));
    }
    let from = token.as_str().filter(|token| !token.is_empty());
    let from = from.map_or(0, |token| token.strip_prefix("from-").unwrap().parse::<usize>().unwrap());
    let next = from + size;
    let more = (next < list.len()).then(|| format!("from-{next}"));
    Ok((list.into_iter().skip(from).take(size).collect(), more))
}
