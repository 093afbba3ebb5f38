//! The least that would have been enough, known afterwards: for each minute the fewest tasks with which nobody waits for
//! longer than 45 seconds, started beforehand, and never stopped at work.

use super::super::engine::{Engine, Tally};
use super::super::scene::{SECOND, Scene};

/// Seconds that the oracle lets a message wait, as a share of the wait that is wanted.
const ALLOWED: f64 = 0.75;
/// Seconds of a task that are paid before its first message.
pub(crate) const START_SECONDS: u64 = 60;

/// The scene as the oracle acts in it: tasks are there when they are asked for, and are not stopped at work.
pub(crate) fn scene(scene: &Scene) -> Scene {
    Scene { start: (0.0, 0.0), is_protected: true, ..scene.clone() }
}

/// The fewest tasks for the coming minute.
pub(crate) fn tasks(engine: &Engine<'_>, now: u64, scene: &Scene) -> u32 {
    let late = |tasks: u32| late(engine, now, scene, tasks);
    let (mut low, mut high) = (scene.min, engine.desired().clamp(scene.min, scene.max));
    // No number of tasks can do better than the most.
    let mut least = late(high);
    if least > 0 {
        (low, high) = (high + 1, scene.max);
        least = late(high);
    }
    while low < high {
        let middle = u32::midpoint(low, high);
        if late(middle) <= least {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

/// Messages of the coming minute, and from before, that would come too late with so many tasks.
fn late(engine: &Engine<'_>, now: u64, scene: &Scene, tasks: u32) -> u64 {
    let limit = scene.target_wait * ALLOWED;
    let mut tally = Tally { limit, ..Tally::default() };
    let mut engine = engine.clone();
    engine.set_desired(tasks, &mut tally);
    engine.advance(now + 60 * SECOND, &mut tally);
    // What came in this minute has that long to be begun; what comes after it would be in its way only if it were not
    // first in, first out.
    let over = ((limit * SECOND as f64) as u64).min(600 * SECOND);
    engine.advance(now + 60 * SECOND + over, &mut tally);
    tally.late + engine.waiting_longer_than(limit)
}
