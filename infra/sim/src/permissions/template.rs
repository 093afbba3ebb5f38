//! `infra/template.yaml` as CloudFormation resolves it, as far as roles need it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use serde_yaml_ng::Value;
use serde_yaml_ng::value::TaggedValue;

use crate::world::{ACCOUNT, REGION};

/// What the [`world`](crate::world) calls resources that the template has another name for, or none.
const NAMES: [(&str, &str); 5] = [
    ("HistoryTable", "history"),
    ("DeploymentsTopic", "outcomes"),
    ("RejectsQueue", "rejects"),
    ("ScaleServiceTicks", "scale-service-ticks"),
    ("ScaleClusterTicks", "scale-cluster-ticks"),
];

/// The template, with the values of its parameters.
#[derive(Debug, Clone)]
pub struct Template {
    /// As it is written, with its comments.
    pub text: String,
    document: Value,
    parameters: BTreeMap<String, String>,
}

impl Template {
    /// The template of this repository; `parameters` go before the defaults.
    pub fn read(parameters: &[(&str, &str)]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let document: Value = serde_yaml_ng::from_str(&text).unwrap();
        let defaults = document["Parameters"].as_mapping().unwrap().iter();
        let mut all: BTreeMap<String, String> =
            defaults.map(|(name, parameter)| (string(name), string(&parameter["Default"]))).collect();
        for (name, value) in parameters {
            assert!(all.insert((*name).to_owned(), (*value).to_owned()).is_some(), "there is no parameter {name}");
        }
        Self { text, document, parameters: all }
    }

    /// The template with every part of it that is optional.
    pub fn with_all_parts() -> Self {
        Self::read(&[
            ("SlackSecretName", "/tidegate/slack"),
            ("NewRelicSecretName", "/tidegate/newrelic"),
            ("WebhookSecretName", "/tidegate/webhook"),
            ("WebhookUrl", "https://hooks.example/tidegate"),
            ("ChatNotifications", "amazon-q"),
        ])
    }

    /// The resources of a type that there are with these parameters, by logical name.
    pub fn resources(&self, kind: &str) -> impl Iterator<Item = (String, &Value)> {
        let all = self.document["Resources"].as_mapping().unwrap().iter();
        let of_kind = all.filter(move |(_, resource)| resource["Type"] == *kind);
        let there =
            of_kind.filter(|(_, resource)| resource.get("Condition").is_none_or(|name| self.holds(&string(name))));
        there.map(|(name, resource)| (string(name), resource))
    }

    /// The resource of this logical name.
    pub fn resource(&self, name: &str) -> &Value {
        let resource = &self.document["Resources"][name];
        assert!(!resource.is_null(), "the template has no resource {name}");
        resource
    }

    /// What every function has in common.
    pub fn globals(&self) -> &Value {
        &self.document["Globals"]["Function"]
    }

    /// A value with its intrinsic functions evaluated; `None` where it is `AWS::NoValue`.
    pub fn resolve(&self, value: &Value) -> Option<Json> {
        Some(match value {
            Value::Tagged(intrinsic) => return self.intrinsic(intrinsic),
            Value::Sequence(items) => items.iter().filter_map(|item| self.resolve(item)).collect(),
            Value::Mapping(fields) => {
                let fields = fields.iter().filter_map(|(name, value)| Some((string(name), self.resolve(value)?)));
                Json::Object(fields.collect())
            }
            plain => serde_json::to_value(plain).unwrap(),
        })
    }

    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html>
    fn intrinsic(&self, intrinsic: &TaggedValue) -> Option<Json> {
        let TaggedValue { tag, value } = intrinsic;
        match tag.to_string().as_str() {
            "!Ref" if value == "AWS::NoValue" => None,
            "!Ref" => Some(json!(self.reference(&string(value)))),
            "!GetAtt" => Some(json!(self.attribute(&string(value)))),
            "!Sub" => Some(json!(self.substituted(&string(value)))),
            "!If" => self.resolve(self.branch(value)),
            "!Split" => {
                let (by, text) = (string(&value[0]), self.resolve(&value[1])?);
                Some(text.as_str()?.split(&by).collect())
            }
            other => panic!("a policy with {other}"),
        }
    }

    /// Which of the two values of an `!If` there is.
    pub(super) fn branch<'a>(&self, parts: &'a Value) -> &'a Value {
        &parts[if self.holds(&string(&parts[0])) { 1 } else { 2 }]
    }

    /// Whether a condition holds.
    fn holds(&self, name: &str) -> bool {
        fn truth(template: &Template, value: &Value) -> bool {
            let Value::Tagged(intrinsic) = value else { panic!("{value:?} is no condition") };
            let parts = intrinsic.value.as_sequence().unwrap();
            match intrinsic.tag.to_string().as_str() {
                "!Not" => !truth(template, &parts[0]),
                "!Equals" => template.resolve(&parts[0]) == template.resolve(&parts[1]),
                other => panic!("a condition with {other}"),
            }
        }
        truth(self, &self.document["Conditions"][name])
    }

    fn reference(&self, name: &str) -> String {
        match name {
            "AWS::Partition" => "aws".to_owned(),
            "AWS::Region" => REGION.to_owned(),
            "AWS::AccountId" => ACCOUNT.to_owned(),
            name => match (self.parameters.get(name), self.document["Resources"][name]["Type"].as_str()) {
                (Some(value), _) => value.clone(),
                (_, Some("AWS::SNS::Topic")) => self.arn_of(name),
                (_, kind) => panic!("a reference to {name}, {kind:?}"),
            },
        }
    }

    fn attribute(&self, path: &str) -> String {
        match path.split_once('.') {
            Some((name, "Arn")) => self.arn_of(name),
            _ => panic!("the attribute {path}"),
        }
    }

    fn substituted(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap();
            result += &if name.contains('.') { self.attribute(name) } else { self.reference(name) };
            result += rest;
        }
        result
    }

    pub(super) fn arn_of(&self, logical: &str) -> String {
        let resource = self.resource(logical);
        let known = NAMES.iter().find(|(name, _)| *name == logical).map(|(_, physical)| (*physical).to_owned());
        let named = |property: &str| known.clone().unwrap_or_else(|| string(&resource["Properties"][property]));
        let arn = |service: &str, rest: String| format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}");
        match resource["Type"].as_str().unwrap() {
            "AWS::DynamoDB::Table" => arn("dynamodb", format!("table/{}", named("TableName"))),
            "AWS::SQS::Queue" => arn("sqs", named("QueueName")),
            "AWS::SNS::Topic" => arn("sns", named("TopicName")),
            "AWS::Logs::LogGroup" => arn("logs", format!("log-group:{}:*", named("LogGroupName"))),
            other => panic!("the ARN of {logical}, of type {other}"),
        }
    }
}

/// A scalar as text.
pub(super) fn string(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(is_so) => is_so.to_string(),
        other => panic!("{other:?} is no text"),
    }
}
