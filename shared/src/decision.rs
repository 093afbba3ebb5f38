//! The answer of every function: what was decided for each service, and why.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::record::Record;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A deployment was started.
    Deploy,
    /// A bad deployment was taken back.
    Rollback,
    /// A bad deployment stays, because there is no way back: a person has to see to it.
    Hold,
    /// Nothing is done.
    Skip,
    /// The number of tasks or instances was changed.
    Scale,
    /// A record was brought up to date.
    Record,
    /// The attempt failed for good; the event is in the rejects queue, unless it only asked for an explanation.
    Reject,
}

/// One entry of a function's response, and one line of its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// `<cluster>/<service>`; absent where no service is concerned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The cluster, where the decision is about one as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// What was decided.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// The rule that made the decision, where one did: see `DECISIONS.md`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    /// Repository of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Tag of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Digest of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// ARN of the task definition revision that was deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Id of the deployment record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// ECS's id of the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecs_deployment_id: Option<String>,
    /// State of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Number of tasks or instances before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// Number of tasks or instances after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// What the new revision changes, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What else people should know, such as what could not be checked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Decision {
    /// A decision that says no more than this.
    #[must_use]
    pub fn new(action: Action, reason: impl Into<String>) -> Self {
        Self {
            service: None,
            cluster: None,
            action,
            reason: reason.into(),
            rule: None,
            repository: None,
            tag: None,
            digest: None,
            revision: None,
            record: None,
            ecs_deployment_id: None,
            state: None,
            from: None,
            to: None,
            changes: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A decision about a record.
    #[must_use]
    pub fn about(action: Action, record: &Record) -> Self {
        Self {
            service: Some(record.service_ref().to_string()),
            repository: Some(record.repository.clone()),
            tag: Some(record.tag.clone()),
            digest: Some(record.digest.clone()),
            revision: record.revision_to.clone(),
            record: Some(record.id.clone()),
            ecs_deployment_id: record.ecs_deployment_id.clone(),
            state: Some(record.state.as_str()),
            notes: record.notes.clone(),
            ..Self::new(action, record.reason.clone())
        }
    }
}

/// What came of an event: decisions, and failures that did not stop the rest.
#[derive(Debug, Default)]
pub struct Handled {
    /// One for each service concerned, or one for the event.
    pub decisions: Vec<Decision>,
    /// What failed, with the service where one is concerned.
    pub failures: Vec<Failure>,
    /// What was asked for, where it is no decision: fields of the response beside `decisions`.
    pub answer: Map<String, Value>,
}

/// A failure while handling an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `<cluster>/<service>`; absent where no service is concerned.
    pub service: Option<String>,
    /// What went wrong.
    pub error: Error,
}

impl Handled {
    /// The response of the function.
    #[must_use]
    pub fn response(&self) -> Value {
        let mut response = self.answer.clone();
        response.insert("decisions".into(), json!(self.decisions));
        Value::Object(response)
    }

    /// Adds what failed for one service.
    pub fn fail(&mut self, service: impl ToString, error: Error) {
        self.failures.push(Failure { service: Some(service.to_string()), error });
    }

    /// Adds what came of something else.
    pub fn extend(&mut self, other: Self) {
        self.decisions.extend(other.decisions);
        self.failures.extend(other.failures);
    }
}

impl From<Decision> for Handled {
    fn from(decision: Decision) -> Self {
        Self { decisions: vec![decision], ..Self::default() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { service: None, error }
    }
}

impl From<Error> for Handled {
    fn from(error: Error) -> Self {
        Self { failures: vec![error.into()], ..Self::default() }
    }
}
