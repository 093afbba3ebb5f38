//! The local cloud: a place on this machine where Tidegate runs as it does on AWS.
//!
//! An emulator written in Python supplies most of AWS. What no emulator has is here. In reading order:
//!
//! - [`tools`] installs the emulator and cargo-lambda, [`build`] builds the functions with it.
//! - [`emulator`] starts the emulator, with the behaviours that `launcher.py` adds to it.
//! - [`engine`] decides what becomes of ECS tasks; [`registry`] makes and pushes the images that say so.
//! - [`events`] publishes the events that ECR and ECS would.
//! - [`slack`] stands in for Slack, [`sink`] for the others who are told; [`fault`] lets them misbehave. [`listeners`]
//!   hear what is published inside AWS.
//! - [`stack`] deploys `infra/template.yaml`.
//! - [`cloud`] puts it all together for the demo and the tests; [`kept`] finds one that another process left running.
//! - [`fleet`] fills it with the services that the demo tells of.
//! - [`explain`] asks the functions what they would do; [`told`] gathers what everyone has been told.
//! - [`proxy`] stands between the functions and the emulator where calls are to fail; [`wire`] lets each of them fail.
//!
//! README.md tells what is the emulator's and what is ours.

#![expect(clippy::disallowed_methods, reason = "the local cloud runs on this machine's clock and its processes")]
#![expect(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by name: reading a name that is missing gives null, and only objects are written"
)]

pub mod aws;
pub mod build;
pub mod cloud;
pub mod emulator;
pub mod engine;
pub mod events;
pub mod explain;
pub mod fault;
pub mod fleet;
pub mod http;
pub mod json;
pub mod kept;
pub mod listeners;
pub mod progress;
pub mod proxy;
pub mod registry;
pub mod sink;
pub mod slack;
pub mod stack;
pub mod told;
pub mod tools;
pub mod wire;
