//! What becomes of calls.

use std::time::Duration;

use fastrand::Rng;

use crate::plan::Faults;
use crate::world::{Call, Fate};

/// Who is not AWS.
const SINKS: [&str; 5] = ["chat.postMessage", "chat.update", "newrelic", "hook", "webhook"];

/// Decides on each call by itself, at these rates.
pub(crate) fn fates(faults: Faults, mut rng: Rng) -> impl FnMut(&Call, usize) -> Fate + Send + 'static {
    let classes = [
        faults.throttled,
        faults.failed,
        faults.reset,
        faults.answer_lost,
        faults.black_hole,
        faults.late,
        faults.slow,
        faults.stale,
        faults.killed,
    ];
    move |call, _| {
        if SINKS.contains(&call.operation.as_str()) {
            return sink(&mut rng, faults.sinks);
        }
        let mut draw = rng.u32(0..1000);
        let class = classes.iter().position(|rate| match draw.checked_sub(*rate) {
            Some(left) => {
                draw = left;
                false
            }
            None => true,
        });
        match class {
            Some(0) => Fate::Refused(400, "ThrottlingException"),
            Some(1) => Fate::Refused(500, "ServerException"),
            Some(2) => Fate::Lost,
            Some(3) => Fate::AnswerLost,
            Some(4) => Fate::Hangs,
            Some(5) => Fate::Late(delay(&mut rng)),
            Some(6) => Fate::Slow(delay(&mut rng)),
            Some(7) => Fate::Stale,
            Some(8) if rng.bool() => Fate::KilledBefore,
            Some(8) => Fate::KilledAfter,
            // No two calls take equally long, so that handlers get in between each other.
            _ => match rng.u64(0..40) {
                0..20 => Fate::Answered,
                millis => Fate::Late(Duration::from_millis(millis)),
            },
        }
    }
}

/// Kills handlers at these calls, counted from the beginning, and does nothing else.
pub(crate) fn kills(kills: Vec<(usize, Fate)>) -> impl FnMut(&Call, usize) -> Fate + Send + 'static {
    let mut count = 0;
    move |_, _| {
        let fate = kills.iter().find(|(at, _)| *at == count).map(|(_, fate)| fate.clone());
        count += 1;
        fate.unwrap_or(Fate::Answered)
    }
}

/// Mostly moments; now and then long enough for others to get in between, and for the SDK to give up.
fn delay(rng: &mut Rng) -> Duration {
    let most = [400, 4000, 20_000][rng.usize(0..3)];
    Duration::from_millis(rng.u64(0..most))
}

fn sink(rng: &mut Rng, rate: u32) -> Fate {
    match rng.u32(0..1000) {
        draw if draw >= rate => Fate::Answered,
        draw => match draw % 4 {
            0 => Fate::Refused(500, "internal_error"),
            1 => Fate::Limited(20),
            2 => Fate::Lost,
            _ => Fate::AnswerLost,
        },
    }
}
