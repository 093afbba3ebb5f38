//! The pace of our calls: AWS limits each API per account and Region to a burst and a rate, see
//! [request throttling for the Amazon ECS API](https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html).
//!
//! Who stays inside of them waits a known time; who does not, retries against everybody else in the account.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::platform::Platform;

/// A token bucket: it holds `burst` tokens, and is filled at a steady rate.
///
/// Tokens are counted as time. Each that is taken adds one interval to what the bucket owes, passing time works it off,
/// and as many intervals as the burst may be owed before anyone has to wait. So nothing needs to fill the bucket.
#[derive(Debug)]
pub struct Bucket {
    /// The time in which one token comes in.
    interval: Duration,
    /// What may be owed without waiting.
    burst: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the bucket owed when it was last looked at.
    owed: Duration,
    /// When that was: the latest time ever seen. A clock that was set back fills nothing before it has caught up.
    at: Option<DateTime<Utc>>,
}

impl Bucket {
    /// A full bucket of `burst` tokens, of which `per_second` come in each second. Never fewer than one of either.
    #[must_use]
    pub fn new(burst: u32, per_second: u32) -> Self {
        // Rounded up, never to be faster than AWS allows.
        let interval = Duration::from_nanos(NANOS_PER_SECOND.div_ceil(u64::from(per_second.max(1))));
        Self { interval, burst: interval.saturating_mul(burst.max(1)), state: Mutex::default() }
    }

    /// Takes a token, and waits for it if need be: first come, first served. The wait of one who gives up is not
    /// handed on.
    pub async fn take(&self, platform: &Platform) {
        let wait = self.reserve(platform.now());
        if !wait.is_zero() {
            platform.sleep(wait).await;
        }
    }

    /// Empties the bucket: AWS has throttled a call, so others have taken what we thought was there.
    pub fn drain(&self, platform: &Platform) {
        let mut state = self.state_at(platform.now());
        state.owed = state.owed.max(self.burst);
    }

    /// Reserves the next token, and says how long until it is there. Who comes later waits longer, so several can wait
    /// at once without holding the lock.
    fn reserve(&self, now: DateTime<Utc>) -> Duration {
        let mut state = self.state_at(now);
        state.owed = state.owed.saturating_add(self.interval);
        state.owed.saturating_sub(self.burst)
    }

    /// The state, brought up to `now`.
    fn state_at(&self, now: DateTime<Utc>) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.at.map_or(now, |at| at.max(now));
        let passed = state.at.map_or(Duration::ZERO, |before| (at - before).to_std().unwrap_or_default());
        *state = State { owed: state.owed.saturating_sub(passed), at: Some(at) };
        state
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
    use aws_smithy_async::time::{SharedTimeSource, TimeSource};
    use futures_util::future::join_all;
    use proptest::prelude::*;
    use tokio::time::Instant;

    /// Tokio's clock, as it shows on a wall where it can be set.
    #[derive(Debug, Clone)]
    struct Clock {
        start: Instant,
        set_by_seconds: Arc<AtomicI64>,
    }

    impl TimeSource for Clock {
        fn now(&self) -> SystemTime {
            let start = 1_794_819_600 + self.set_by_seconds.load(Ordering::Relaxed);
            UNIX_EPOCH + Duration::from_secs(start.unsigned_abs()) + self.start.elapsed()
        }
    }

    struct World {
        clock: Clock,
        platform: Platform,
    }

    impl World {
        fn new() -> Self {
            let clock = Clock { start: Instant::now(), set_by_seconds: Arc::default() };
            let time = SharedTimeSource::new(clock.clone());
            Self { clock, platform: Platform::new(time, SharedAsyncSleep::new(TokioSleep::new())) }
        }

        fn set_clock_by(&self, seconds: i64) {
            self.clock.set_by_seconds.store(seconds, Ordering::Relaxed);
        }

        /// Takes a token, and says when it was there, in milliseconds.
        async fn take(&self, bucket: &Bucket) -> u64 {
            bucket.take(&self.platform).await;
            u64::try_from(self.clock.start.elapsed().as_millis()).unwrap()
        }

        async fn take_many(&self, bucket: &Bucket, count: usize) -> Vec<u64> {
            join_all((0..count).map(|_| self.take(bucket))).await
        }
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_at_once_are_a_burst_and_then_one_each_second() {
        let granted = World::new().take_many(&Bucket::new(20, 1), 100).await;
        let expected: Vec<u64> = (0..100_u64).map(|number| number.saturating_sub(19) * 1000).collect();
        assert_eq!(granted, expected, "first come, first served");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_was_left_alone_is_full_and_no_fuller() {
        let (world, bucket) = (World::new(), Bucket::new(3, 2));
        assert_eq!(world.take_many(&bucket, 3).await, [0, 0, 0]);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let granted = world.take_many(&bucket, 5).await;
        assert_eq!(granted, [3_600_000, 3_600_000, 3_600_000, 3_600_500, 3_601_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_aws_has_throttled_there_is_no_burst() {
        let (world, bucket) = (World::new(), Bucket::new(20, 4));
        bucket.drain(&world.platform);
        assert_eq!(world.take_many(&bucket, 3).await, [250, 500, 750]);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_an_empty_bucket_makes_nobody_wait_longer() {
        let (world, bucket) = (World::new(), Bucket::new(1, 1));
        world.take(&bucket).await;
        bucket.drain(&world.platform);
        bucket.drain(&world.platform);
        assert_eq!(world.take(&bucket).await, 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_and_forth_grants_nothing() {
        let (world, bucket) = (World::new(), Bucket::new(2, 1));
        assert_eq!(world.take_many(&bucket, 2).await, [0, 0]);
        world.set_clock_by(-3600);
        assert_eq!(world.take(&bucket).await, 1000);
        world.set_clock_by(0);
        assert_eq!(world.take_many(&bucket, 2).await, [2000, 3000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_does_not_divide_a_second_is_never_exceeded() {
        let granted = World::new().take_many(&Bucket::new(1, 3), 4).await;
        assert_eq!(granted, [0, 334, 667, 1001], "the fourth comes after a second, not before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_without_tokens_or_rate_still_moves() {
        let world = World::new();
        assert_eq!(world.take_many(&Bucket::new(0, 0), 2).await, [0, 1000]);
        let widest = Bucket::new(u32::MAX, 1);
        world.take(&widest).await;
        widest.drain(&world.platform);
        assert_eq!(world.take(&widest).await, 2000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_window_of_time_is_ever_granted_more_than_aws_allows(
            arrivals in proptest::collection::vec(0..20_000_u64, 1..60),
            (burst, per_second) in (1..20_u32, 1..10_u32),
            drained_at in proptest::option::of(0..20_000_u64),
            // When the clock is set, and by how much it is behind from then on.
            set_back in proptest::option::of((0..20_000_u64, 1..600_i64)),
        ) {
            let mut granted = run(async {
                let (world, bucket) = (World::new(), Bucket::new(burst, per_second));
                let at = |millis| tokio::time::sleep(Duration::from_millis(millis));
                let drain = async {
                    if let Some(drained_at) = drained_at {
                        at(drained_at).await;
                        bucket.drain(&world.platform);
                    }
                };
                let set_back = async {
                    if let Some((set_at, seconds)) = set_back {
                        at(set_at).await;
                        world.set_clock_by(-seconds);
                    }
                };
                let takers = join_all(arrivals.iter().map(|&arrival| {
                    let (world, bucket) = (&world, &bucket);
                    async move {
                        at(arrival).await;
                        world.take(bucket).await
                    }
                }));
                tokio::join!(takers, drain, set_back).0
            });
            granted.sort_unstable();
            for (first, &from) in granted.iter().enumerate() {
                for (last, &to) in granted.iter().enumerate().skip(first) {
                    let count = u64::try_from(last - first + 1).unwrap();
                    let allowed = 1000 * u64::from(burst + 1) + u64::from(per_second) * (to - from);
                    prop_assert!(1000 * count <= allowed, "{count} between {from} and {to} ms");
                }
            }
        }

        #[test]
        fn who_comes_first_is_served_first_and_nobody_waits_for_nothing(
            mut arrivals in proptest::collection::vec(0..20_000_u64, 1..60),
            (burst, per_second) in (1..20_u32, 1..10_u32),
        ) {
            arrivals.sort_unstable();
            let granted = run(async {
                let (world, bucket) = (World::new(), Bucket::new(burst, per_second));
                join_all(arrivals.iter().map(|&arrival| {
                    let (world, bucket) = (&world, &bucket);
                    async move {
                        tokio::time::sleep(Duration::from_millis(arrival)).await;
                        world.take(bucket).await
                    }
                }))
                .await
            });
            prop_assert!(granted.is_sorted(), "{granted:?}");
            // One who waits was preceded by a whole burst, and the token came one interval after the last one's.
            let interval = 1000_u64.div_ceil(u64::from(per_second));
            let burst = usize::try_from(burst).unwrap();
            for (index, (&at, &arrival)) in granted.iter().zip(&arrivals).enumerate() {
                // Timers have the resolution of a millisecond.
                if at > arrival + 1 {
                    prop_assert!(index >= burst);
                    prop_assert!(at <= granted[index - 1].max(arrival) + interval + 1, "{granted:?}");
                }
            }
        }
    }
}
