//! Faults between the real functions and AWS: for every call that a function makes, every way in which it may go wrong.
//! Then the event comes again, and the end must be that of an undisturbed run.
//!
//! - [`faults`]: what may become of a call.
//! - [`scenario`]: for each function an event that makes it do its work, what comes before and after.
//! - [`end`]: all that must be the same, however it came about.
//! - [`mod@bench`]: a cloud in which nothing happens by itself.
//! - [`matrix`]: the cases, and how they are run.
//! - [`table`]: what came out, for people.
//!
//! Which calls there are is not written here: each undisturbed run tells.

pub mod bench;
pub mod end;
pub mod faults;
pub mod matrix;
pub mod scenario;
pub mod table;
