//! Tidegate's common crate: an image pushed to ECR becomes a rollout on every ECS service that follows it, ECS's events
//! about that rollout become a record and a message, and what turns bad is taken back. Services and clusters are as large
//! as the work needs.
//!
//! Follow one image from event to message by reading in this order, always downwards:
//!
//! 1. [`lambda`]: how a function starts, and what becomes of what it handled
//! 2. [`events`]: what AWS tells, leniently read
//! 3. [`deploy`]: observe, [decide](deploy::decide), [check](deploy::preflight), act: from a push to a rollout
//! 4. [`notify`]: observe, [judge](notify::judge), act: from a deployment event to an outcome
//! 5. [`rollback`]: observe, [decide](rollback::decide), act: from a failure to the last good release
//! 6. [`scale`]: observe, decide, act: from a queue to a [desired count](scale::service::decide), from tasks to a
//!    [desired capacity](scale::cluster::decide)
//! 7. [`announce`]: Slack and SNS, each alone
//! 8. [`record`]: the deployment record, its state machine and its table
//! 9. [`queues`], [`metering`], [`groups`], [`clusters`], [`ecs`], [`ecr`], [`followers`], [`alarms`], [`dependencies`]: the
//!    AWS APIs we read and call, at a [`pace`]
//! 10. [`task_definition`], [`manifest`], [`image`], [`tags`], [`policy`]: documents, references, and the grammar of
//!     the tags
//!
//! Decisions are pure functions over values. Time, clients and the network are passed in ([`platform`]); only
//! [`settings`] reads the environment.

pub mod alarms;
pub mod announce;
pub mod clusters;
pub mod decision;
pub mod dependencies;
pub mod deploy;
pub mod diagnosis;
pub mod dora;
pub mod ecr;
pub mod ecs;
pub mod error;
pub mod events;
pub mod followers;
pub mod groups;
pub mod http;
pub mod image;
pub mod lambda;
mod lease;
pub mod links;
pub mod logs;
pub mod manifest;
pub mod metering;
pub mod metrics;
pub mod notify;
pub mod pace;
pub mod platform;
pub mod policy;
pub mod provenance;
pub mod queues;
pub mod record;
pub mod rejects;
mod revisions;
pub mod rollback;
pub mod scale;
pub mod secrets;
pub mod settings;
pub mod tags;
pub mod task_definition;
