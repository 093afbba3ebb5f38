//! How the long parts tell that they are at work.

use std::io::Write as _;
use std::sync::Arc;

/// A moment in the preparation of the local cloud.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Something that takes a while begins.
    Started(&'a str),
    /// A sign of life from it.
    Detail(&'a str),
    /// It has ended well.
    Finished,
    /// Something is wrong that stops nothing.
    Warning(&'a str),
}

/// Told of every step; called from any thread.
pub type Progress = Arc<dyn Fn(Step<'_>) + Send + Sync>;

/// Writes a line for each step to standard error, past the test harness, so that a first `cargo test` does not look
/// dead for minutes.
pub fn lines() -> Progress {
    Arc::new(|step| {
        let line = match step {
            Step::Started(what) => format!("local cloud: {what} ...\n"),
            Step::Warning(what) => format!("local cloud: {what}\n"),
            Step::Detail(_) | Step::Finished => return,
        };
        // Nobody is left to tell if this fails.
        _ = std::io::stderr().write_all(line.as_bytes());
    })
}
