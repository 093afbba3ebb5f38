//! Scaling: services follow the work in their queues, and clusters follow what their tasks need.
//!
//! The loop is a schedule, never an alarm: EventBridge and Lambda see one event for each change of an alarm's state,
//! however long it lasts. Every minute a sweep looks at all who have opted in, and sends ticks, delayed, for those where
//! there is work. Each look is the same: observe, decide, and write an absolute number where it differs. So a tick that
//! comes twice, late, or not at all does no harm, and an alarm is no more than a reason to look now.

pub mod cluster;
pub mod memory;
pub mod notice;
pub mod service;
pub mod tell;
pub mod ticks;
