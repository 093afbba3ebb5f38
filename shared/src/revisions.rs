//! The task definition revisions of one invocation: each is read once, and services of one family share what is
//! registered.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use crate::ecs::Ecs;
use crate::error::Error;
use crate::task_definition::{Draft, TaskDefinition, family_of};

/// Revisions by family.
#[derive(Debug)]
pub(crate) struct Revisions<'a> {
    ecs: &'a Ecs,
    families: std::sync::Mutex<BTreeMap<String, Arc<Mutex<Family>>>>,
}

/// What is known of a family.
#[derive(Debug, Default)]
struct Family {
    /// The newest active revision, if there is one.
    newest: Option<TaskDefinition>,
    /// Other revisions, by ARN.
    others: BTreeMap<String, TaskDefinition>,
    is_read: bool,
}

impl<'a> Revisions<'a> {
    pub(crate) fn new(ecs: &'a Ecs) -> Self {
        Self { ecs, families: std::sync::Mutex::default() }
    }

    fn family(&self, arn: &str) -> Arc<Mutex<Family>> {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.entry(family_of(arn).to_owned()).or_default().clone()
    }

    /// The revision that a service runs, or ran. Mostly it is the family's newest, which has to be read anyway. `None`
    /// where it was deleted.
    pub(crate) async fn revision(&self, arn: &str) -> Result<Option<TaskDefinition>, Error> {
        let family = self.family(arn);
        let mut family = family.lock().await;
        self.read(&mut family, arn).await?;
        let newest = family.newest.clone().filter(|newest| newest.arn == arn);
        if let Some(known) = newest.or_else(|| family.others.get(arn).cloned()) {
            return Ok(Some(known));
        }
        let other = self.ecs.describe_task_definition(arn).await?;
        if let Some(other) = &other {
            family.others.insert(arn.to_owned(), other.clone());
        }
        Ok(other)
    }

    async fn read(&self, family: &mut Family, arn: &str) -> Result<(), Error> {
        if !family.is_read {
            family.newest = self.ecs.describe_task_definition(family_of(arn)).await?;
            family.is_read = true;
        }
        Ok(())
    }

    /// The revision that holds `draft`: the family's newest where that is the same document, else a new one.
    pub(crate) async fn register(&self, base: &str, draft: &Draft) -> Result<String, Error> {
        let family = self.family(base);
        let mut family = family.lock().await;
        self.read(&mut family, base).await?;
        if let Some(newest) = family.newest.as_ref().filter(|newest| draft.is_same_as(newest)) {
            return Ok(newest.arn.clone());
        }
        // Where it fails, there may be a revision all the same: the next one looks.
        family.is_read = false;
        let registered = self.ecs.register(family_of(base), draft).await?;
        family.is_read = true;
        let arn = registered.arn.clone();
        family.newest = Some(registered);
        Ok(arn)
    }
}
