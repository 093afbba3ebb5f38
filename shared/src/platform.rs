//! Time, as the functions are given it. Nothing else reads a clock: in a simulation time stands still until it is told
//! to pass.

use std::future::Future;
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use aws_smithy_async::time::SharedTimeSource;
use chrono::{DateTime, Utc};

use crate::error::Error;

/// The clock and the sleep of the SDK, shared with the functions.
#[derive(Debug, Clone)]
pub struct Platform {
    time: SharedTimeSource,
    sleep: SharedAsyncSleep,
}

impl Platform {
    /// A platform of this clock and this sleep.
    #[must_use]
    pub fn new(time: SharedTimeSource, sleep: SharedAsyncSleep) -> Self {
        Self { time, sleep }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.time.now().into()
    }

    /// Waits before looking again at what another invocation has in hand; where this invocation has no time left, fails
    /// with `why`, for the platform to try again.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub async fn look_again(&self, deadline: DateTime<Utc>, why: impl FnOnce() -> String) -> Result<(), Error> {
        match self.sleep_before(deadline, LOOK_AGAIN).await {
            true => Ok(()),
            false => Err(Error::Busy(format!("{}; this event will be tried again", why()))),
        }
    }

    /// Sleeps for `duration`, whatever the invocation's deadline: for a wait whose length the caller has seen to.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep.sleep(duration).await;
    }

    /// What `work` comes to, or `None` if it takes longer than `limit`.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(limit) => None,
        }
    }

    /// Whether an invocation that ends at `deadline` has this much time left, and what it needs to end well.
    #[must_use]
    pub fn has_time(&self, deadline: DateTime<Utc>, needed: Duration) -> bool {
        self.now() + needed + END_MARGIN <= deadline
    }

    /// How much time an invocation that ends at `deadline` has left, but for what it needs to end well.
    #[must_use]
    pub fn time_left(&self, deadline: DateTime<Utc>) -> Duration {
        (deadline - self.now()).to_std().unwrap_or_default().saturating_sub(END_MARGIN)
    }

    /// Sleeps for `duration` if that leaves the invocation the time it needs to end well, and says whether it did.
    pub async fn sleep_before(&self, deadline: DateTime<Utc>, duration: Duration) -> bool {
        let has_time = self.has_time(deadline, duration);
        if has_time {
            self.sleep(duration).await;
        }
        has_time
    }
}

/// A time as AWS's JSON writes it: seconds since 1970, with a fraction.
#[must_use]
pub fn from_seconds(seconds: f64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis((seconds * 1000.0) as i64)
}

/// How long another invocation is given before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What an invocation keeps back before its deadline, for its last calls and its answer.
pub const END_MARGIN: Duration = Duration::from_secs(8);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_smithy_async::rt::sleep::TokioSleep;
    use aws_smithy_async::time::TimeSource;

    /// Tokio's clock, which stands still while nothing waits.
    #[derive(Debug)]
    struct Paused(tokio::time::Instant);

    impl TimeSource for Paused {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(1_794_819_600) + self.0.elapsed()
        }
    }

    /// A platform for tests that have paused tokio's clock.
    pub(crate) fn paused() -> Platform {
        let time = SharedTimeSource::new(Paused(tokio::time::Instant::now()));
        Platform::new(time, SharedAsyncSleep::new(TokioSleep::new()))
    }
}
