//! What tasks need beside their image before they can start: roles, secrets and parameters that the task definition
//! names. Tidegate looks whether they are there, never what they hold.

use std::collections::BTreeSet;
use std::fmt;

use aws_sdk_ssm::types::ParameterStringFilter;
use futures_util::future::join_all;
use serde_json::{Map, Value};

use crate::error::{Error, from_sdk};

/// Most names that one `DescribeParameters` call takes.
const PARAMETERS_PER_CALL_MAX: usize = 50;

/// Something that a task definition names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// An IAM role, by its ARN.
    Role(String),
    /// A secret of AWS Secrets Manager, by its ARN.
    Secret(String),
    /// A parameter of SSM's Parameter Store, by its ARN or name.
    Parameter(String),
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(arn) => write!(f, "role {}", name_of_role(arn)),
            Self::Secret(arn) => write!(f, "secret {}", arn.rsplit(':').next().unwrap_or(arn)),
            Self::Parameter(name) => write!(f, "parameter {}", parameter_name(name)),
        }
    }
}

/// What is known of a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// It is there.
    Exists,
    /// It is not, or not for long: tasks can't start. In words for people.
    Missing(String),
    /// It can't be told, with the reason.
    CannotTell(String),
}

/// The dependencies of a task definition: `executionRoleArn`, `taskRoleArn`, the `valueFrom` of secrets and of log
/// options, and the credentials of private registries. See
/// [Secret](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Secret.html).
#[must_use]
pub fn of(task_definition: &Map<String, Value>) -> BTreeSet<Dependency> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let roles = ["executionRoleArn", "taskRoleArn"].into_iter().filter_map(|field| text(task_definition.get(field)));
    let mut found: BTreeSet<Dependency> = roles.map(Dependency::Role).collect();
    let containers = task_definition.get("containerDefinitions").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        let lists = [container.get("secrets"), container.pointer("/logConfiguration/secretOptions")];
        let secrets = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
        let values = secrets.filter_map(|secret| text(secret.get("valueFrom")));
        let credentials = text(container.pointer("/repositoryCredentials/credentialsParameter"));
        found.extend(values.chain(credentials).map(|value| from_value(&value)));
    }
    found
}

/// A secret's ARN may be followed by a JSON key, a version stage and a version; whatever is no secret is a parameter.
fn from_value(value: &str) -> Dependency {
    let parts: Vec<&str> = value.split(':').collect();
    match parts.as_slice() {
        ["arn", _, "secretsmanager", ..] => Dependency::Secret(parts.into_iter().take(7).collect::<Vec<_>>().join(":")),
        _ => Dependency::Parameter(value.to_owned()),
    }
}

fn name_of_role(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, name)| name)
}

/// A parameter's name, from its ARN or name. The ARN of `/a` and that of `a` are the same.
fn parameter_name(value: &str) -> &str {
    value.split_once(":parameter").map_or(value, |(_, name)| name)
}

/// The APIs that know what exists.
#[derive(Debug, Clone)]
pub struct Directory {
    iam: aws_sdk_iam::Client,
    secrets: aws_sdk_secretsmanager::Client,
    ssm: aws_sdk_ssm::Client,
}

impl Directory {
    /// The directory through these clients.
    #[must_use]
    pub fn new(iam: aws_sdk_iam::Client, secrets: aws_sdk_secretsmanager::Client, ssm: aws_sdk_ssm::Client) -> Self {
        Self { iam, secrets, ssm }
    }

    /// Looks up everything at once. `home` is the Region and account of the service: what is elsewhere can't be asked
    /// for with our permissions. A failure is no reason to stop a deployment: the answer says what could not be learnt.
    pub async fn look_up(&self, wanted: &BTreeSet<Dependency>, home: (&str, &str)) -> Vec<(Dependency, Existence)> {
        let (near, far): (Vec<_>, Vec<_>) = wanted.iter().cloned().partition(|dependency| is_near(dependency, home));
        let far = far.into_iter().map(|dependency| {
            let elsewhere = Existence::CannotTell(format!("the {dependency} is in another account or Region"));
            (dependency, elsewhere)
        });
        let parameters: Vec<Dependency> =
            near.iter().filter(|near| matches!(near, Dependency::Parameter(_))).cloned().collect();
        let singles = near.into_iter().filter(|near| !matches!(near, Dependency::Parameter(_)));
        let singles = join_all(singles.map(|dependency| async move {
            let existence = match &dependency {
                Dependency::Role(arn) => self.role(arn).await,
                Dependency::Secret(arn) => self.secret(arn).await,
                Dependency::Parameter(_) => Ok(Existence::Exists),
            };
            let existence = existence.unwrap_or_else(|error| Existence::CannotTell(error.to_string()));
            (dependency, existence)
        }));
        let (singles, parameters) = futures_util::future::join(singles, self.parameters(parameters)).await;
        far.chain(singles).chain(parameters).collect()
    }

    async fn role(&self, arn: &str) -> Result<Existence, Error> {
        let name = name_of_role(arn);
        let got = self.iam.get_role().role_name(name).send().await;
        match got.map_err(|error| from_sdk("GetRole", name, &error)) {
            Ok(_) => Ok(Existence::Exists),
            Err(error) if matches!(error.code(), Some("NoSuchEntity" | "NoSuchEntityException")) => {
                Ok(Existence::Missing(format!("the role {name} does not exist")))
            }
            Err(error) => Err(error),
        }
    }

    async fn secret(&self, arn: &str) -> Result<Existence, Error> {
        let secret = Dependency::Secret(arn.to_owned());
        let described = self.secrets.describe_secret().secret_id(arn).send().await;
        match described.map_err(|error| from_sdk("DescribeSecret", secret.to_string(), &error)) {
            Ok(answer) if answer.deleted_date().is_some() => {
                Ok(Existence::Missing(format!("the {secret} is scheduled for deletion")))
            }
            Ok(_) => Ok(Existence::Exists),
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                Ok(Existence::Missing(format!("the {secret} does not exist")))
            }
            Err(error) => Err(error),
        }
    }

    async fn parameters(&self, wanted: Vec<Dependency>) -> Vec<(Dependency, Existence)> {
        let names: BTreeSet<String> = wanted
            .iter()
            .filter_map(|dependency| match dependency {
                Dependency::Parameter(value) => Some(parameter_name(value)),
                _ => None,
            })
            .flat_map(|name| [name.to_owned(), other_name(name)])
            .filter(|name| !name.is_empty())
            .collect();
        let known = self.existing_parameters(names.into_iter().collect()).await;
        let existence = |dependency: &Dependency| {
            let Dependency::Parameter(value) = dependency else { return Existence::Exists };
            let name = parameter_name(value);
            match &known {
                Ok(known) if known.contains(name) || known.contains(&other_name(name)) => Existence::Exists,
                Ok(_) if name.starts_with("/aws/") => Existence::CannotTell(format!("the {dependency} belongs to AWS")),
                Ok(_) => Existence::Missing(format!("the {dependency} does not exist")),
                Err(error) => Existence::CannotTell(error.to_string()),
            }
        };
        wanted.into_iter().map(|dependency| (dependency.clone(), existence(&dependency))).collect()
    }

    async fn existing_parameters(&self, names: Vec<String>) -> Result<BTreeSet<String>, Error> {
        let mut known = BTreeSet::new();
        for page in names.chunks(PARAMETERS_PER_CALL_MAX) {
            let filter = ParameterStringFilter::builder().key("Name").option("Equals").set_values(Some(page.to_vec()));
            let filter = filter.build().map_err(|error| Error::Input(error.to_string()))?;
            let mut answers =
                self.ssm.describe_parameters().parameter_filters(filter).max_results(50).into_paginator().send();
            while let Some(answer) = answers.next().await {
                let answer = answer.map_err(|error| from_sdk("DescribeParameters", page.join(", "), &error))?;
                known.extend(answer.parameters().iter().filter_map(|parameter| parameter.name()).map(str::to_owned));
            }
        }
        Ok(known)
    }
}

/// A parameter called `a` and one called `/a` have the same ARN.
fn other_name(name: &str) -> String {
    match name.strip_prefix('/') {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => String::new(),
    }
}

/// Whether a dependency is where the service is. A role only has an account; a bare name is always near.
fn is_near(dependency: &Dependency, (region, account): (&str, &str)) -> bool {
    let (Dependency::Role(arn) | Dependency::Secret(arn) | Dependency::Parameter(arn)) = dependency;
    let mut parts = arn.split(':').skip(3);
    match (parts.next(), parts.next()) {
        (Some(of_region), Some(of_account)) => (of_region.is_empty() || of_region == region) && of_account == account,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf";

    #[test]
    fn everything_that_a_task_definition_names_is_found() {
        let definition = json!({
            "executionRoleArn": "arn:aws:iam::123456789012:role/path/pull", "taskRoleArn": "",
            "containerDefinitions": [
                {"name": "web", "secrets": [
                    {"name": "DB", "valueFrom": format!("{SECRET}:password::")}, {"name": "KEY", "valueFrom": "/web/key"},
                    {"name": "TOKEN", "valueFrom": "arn:aws:ssm:eu-west-1:123456789012:parameter/web/token"},
                 ],
                 "logConfiguration": {"secretOptions": [{"name": "splunk", "valueFrom": "splunk-token"}]}},
                {"name": "proxy", "repositoryCredentials": {"credentialsParameter": format!("{SECRET}2")}},
            ],
        });
        let found: Vec<String> = of(definition.as_object().unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "role pull",
                "secret db-AbCdEf",
                "secret db-AbCdEf2",
                "parameter /web/key",
                "parameter /web/token",
                "parameter splunk-token",
            ]
        );
    }

    #[test]
    fn what_is_in_another_account_or_region_is_not_asked_for() {
        let home = ("eu-west-1", "123456789012");
        for (dependency, near) in [
            (Dependency::Role("arn:aws:iam::123456789012:role/pull".into()), true),
            (Dependency::Role("arn:aws:iam::210987654321:role/pull".into()), false),
            (Dependency::Secret(SECRET.into()), true),
            (Dependency::Secret(SECRET.replace("eu-west-1", "us-east-1")), false),
            (Dependency::Parameter("/web/key".into()), true),
        ] {
            assert_eq!(is_near(&dependency, home), near, "{dependency}");
        }
    }

    #[test]
    fn the_arn_of_a_parameter_without_a_path_may_mean_two_names() {
        assert_eq!(parameter_name("arn:aws:ssm:eu-west-1:123456789012:parameter/key"), "/key");
        assert_eq!((other_name("/key"), other_name("/web/key")), ("key".into(), String::new()));
    }
}
