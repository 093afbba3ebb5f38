//! How many instances a cluster should have, and which one may go. Pure: what was seen goes in, steps with their reason
//! come out.
//!
//! It grows at once, by the most that any rule says: tasks that find no place, headroom for the next ones, CPU, memory.
//! Shrinking takes its time: an instance that was not needed for ten minutes is drained, and terminated when it is empty.
//! The desired capacity is never lowered in another way, because the group would then choose whom to terminate.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

mod candidates;
mod demand;
mod drains;
mod fleet;
mod leaving;
mod load;
mod memory;
mod packing;
mod plan;
mod seen;
mod sizing;

use self::candidates::Choice;
use self::demand::Unplaced;
use self::fleet::Fleet;
use self::memory::since;
pub use self::memory::{Departure, Drain, InVain, Shape, Size, State};
pub use self::plan::{Notice, Plan, Step};
use self::plan::{instances, waiting};
pub use self::seen::{Demand, Goal, Group, Hook, Instance, Leaving, Minute, Observed, Resources, Stage, Task};
use self::sizing::{Loads, Need, Rule, from_to, size};

/// How long an instance must not have been needed before it goes.
const UNNEEDED: TimeDelta = TimeDelta::minutes(10);
/// How long no instance goes after the cluster was to get larger.
const AFTER_SCALE_OUT: TimeDelta = TimeDelta::minutes(10);
/// How long CloudWatch may say nothing before people are told.
const BLIND_PATIENCE: TimeDelta = TimeDelta::minutes(10);

/// What was found out in a look.
struct Look<'a> {
    fleet: Fleet<'a>,
    unplaced: Unplaced<'a>,
    loads: Loads,
    need: Need,
}

impl<'a> Look<'a> {
    fn at(seen: &Observed<'a>, state: &mut State) -> Self {
        let fleet = Fleet::sort(seen, state);
        let unplaced = Unplaced::sort(seen, &fleet, state);
        let loads = Loads::of(seen);
        let need = size(seen, &fleet, &unplaced, &loads, state);
        Self { fleet, unplaced, loads, need }
    }

    fn choice<'look>(&'look self, seen: &'look Observed<'a>, state: &'look State) -> Choice<'look, 'a> {
        Choice { seen, fleet: &self.fleet, unplaced: &self.unplaced, loads: &self.loads, state }
    }
}

/// How many instances the cluster should have, and which one may go.
///
/// The same look once more, with the state that the first has left, gives the same steps; so a step that was lost is made
/// up for.
#[must_use]
pub fn decide(seen: &Observed<'_>, state: &State) -> Plan {
    let mut state = state.at(seen.now, seen.group.desired);
    leaving::remember(seen, &mut state);
    drains::remember(seen, &mut state);
    let mut look = Look::at(seen, &mut state);
    let mut reasons = Vec::new();
    if look.need.extra > 0 {
        let rule = look.need.rule.clone();
        // What still runs is there sooner than what is to be launched.
        if drains::end_all(seen, &mut state) {
            reasons.push(format!("instances that were to go take tasks again: {rule}"));
            look = Look::at(seen, &mut state);
        }
        state.scaled_out_at = Some(seen.now);
        state.unneeded.clear();
    }
    let wanted = seen.group.desired.saturating_add(look.need.extra);
    let desired = wanted.min(seen.group.max).max(seen.group.min);
    let mut set = None;
    if desired > seen.group.desired {
        set = Some(Step::SetDesired(desired));
        reasons.push(why_out(seen, &look.need, wanted, desired));
    }
    let gone = match why_not(seen, &look, &state) {
        Some(why) => {
            state.unneeded = match keeps_counting(seen, &look) {
                true => unneeded(seen, &look, &state).1,
                false => Default::default(),
            };
            if reasons.is_empty() {
                reasons.push(format!("{}; none may go: {why}", enough(seen, &look.need)));
            }
            Vec::new()
        }
        None => shrink(seen, &look, &mut state, &mut reasons),
    };
    let (undrain, drain) = drains::tell(seen, &state);
    let mut steps: Vec<Step> = undrain.into_iter().chain(set).chain(drain).collect();
    steps.extend(gone.into_iter().map(Step::Terminate));
    steps.extend(leaving::steps(seen, &mut state));
    let notices = notices(seen, &look, &mut state, wanted);
    let is_restless = !steps.is_empty()
        || look.need.extra > 0
        || look.fleet.coming > 0
        || look.unplaced.tasks > 0
        || !state.drains.is_empty()
        || !state.leaving.is_empty();
    Plan { steps, reason: reasons.join("; "), notices, state, wanted, is_restless }
}

/// Terminates what is empty, or begins to drain what is not needed. The instances that go.
fn shrink<'a>(seen: &Observed<'a>, look: &Look<'a>, state: &mut State, reasons: &mut Vec<String>) -> Vec<String> {
    let gone = drains::terminate(seen, &look.fleet, state);
    if !gone.is_empty() {
        let to = seen.group.desired.saturating_sub(fleet::length(&gone));
        let verb = if gone.len() == 1 { "is empty and goes" } else { "are empty and go" };
        reasons.push(format!("{} {verb}: {}", gone.join(", "), from_to(seen.group.desired, to)));
    }
    let (candidates, unneeded) = unneeded(seen, look, state);
    state.unneeded = unneeded;
    if !state.drains.is_empty() {
        if reasons.is_empty() {
            reasons.push(why_wait(state));
        }
        return gone;
    }
    let is_long =
        |instance: &&Instance| state.unneeded.get(&instance.id).is_some_and(|since| seen.now - *since >= UNNEEDED);
    let ripe: Vec<&'a Instance> = candidates.into_iter().filter(is_long).collect();
    let capacity = look.fleet.capacity();
    let floor = seen.group.min;
    let surplus = seen.group.desired.saturating_sub(floor).min(capacity.saturating_sub(floor));
    let most = surplus.min((capacity / 10).max(1));
    let chosen = look.choice(seen, state).together(&ripe, usize::try_from(most).unwrap_or(0));
    drains::begin(seen, &chosen, state);
    if !chosen.is_empty() {
        reasons.push(why_in(look, &chosen));
    } else if reasons.is_empty() {
        let why = match state.unneeded.len() {
            0 => "the others have no room for its tasks and for what may come".into(),
            _ if surplus == 0 => format!("the group's minimum is {floor}"),
            _ => "10 minutes must have passed in which it was not needed".to_owned(),
        };
        reasons.push(format!("{}; none may go: {why}", enough(seen, &look.need)));
    }
    gone
}

/// The instances that could go, the best first, and since when.
fn unneeded<'a>(
    seen: &Observed<'a>,
    look: &Look<'a>,
    state: &State,
) -> (Vec<&'a Instance>, BTreeMap<String, DateTime<Utc>>) {
    let choice = look.choice(seen, state);
    let candidates = choice.candidates();
    let since = since(&state.unneeded, candidates.iter().map(|instance| instance.id.as_str()), seen.now);
    (candidates, since)
}

/// Whether the time in which an instance is not needed goes on, though none may go right now.
fn keeps_counting(seen: &Observed<'_>, look: &Look<'_>) -> bool {
    look.need.extra == 0 && why_needed(seen, look).is_none()
}

/// Why no instance may go now.
fn why_not(seen: &Observed<'_>, look: &Look<'_>, state: &State) -> Option<String> {
    let Look { fleet, unplaced, need, .. } = look;
    if need.extra > 0 {
        return Some(need.rule.to_string());
    }
    if unplaced.tasks > 0 {
        return Some(waiting(unplaced.tasks) + " for a place");
    }
    if !state.leaving.is_empty() {
        return Some("somebody else takes an instance away".into());
    }
    if fleet.coming > 0 {
        return Some(format!("{} yet to come", are(fleet.coming)));
    }
    if seen.is_rolling_out {
        return Some("a deployment is going on".into());
    }
    if seen.group.is_refreshing {
        return Some("an instance refresh is going on".into());
    }
    if seen.group.suspended.contains("Terminate") {
        return Some("the group's Terminate is suspended".into());
    }
    if state.scaled_out_at.is_some_and(|at| seen.now - at < AFTER_SCALE_OUT) {
        return Some("the cluster got larger less than 10 minutes ago".into());
    }
    why_needed(seen, look)
}

/// Why all instances are needed, by what CloudWatch says.
///
/// `tidegate:scale/cpu-low` is meant as it is written: at or above it, no instance goes. To ask only that the others stay
/// below what the cluster is sized to would save 6 % of the instance-hours on the benchmark's day.
fn why_needed(seen: &Observed<'_>, look: &Look<'_>) -> Option<String> {
    let low = seen.goal.cpu_low;
    match (look.loads.cpu.newest(), look.loads.memory.newest()) {
        (Some(cpu), Some(_)) if cpu < low => None,
        (Some(cpu), Some(_)) => Some(format!("CPU is at {cpu:.0} %, not below {low:.0} %")),
        _ => Some("CloudWatch has no fresh CPU and memory of the cluster".into()),
    }
}

fn why_out(seen: &Observed<'_>, need: &Need, wanted: u32, desired: u32) -> String {
    let Group { min, max, desired: from, .. } = seen.group;
    let change = from_to(*from, desired);
    match need.rule {
        Rule::Enough => format!("out {change}: that is the group's minimum"),
        _ if wanted > *max => {
            format!("out {change}, the group's maximum, and {wanted} are needed: {}", need.rule)
        }
        _ if wanted < *min => format!("out {change}, the group's minimum: {}", need.rule),
        _ => format!("out {change}: {}", need.rule),
    }
}

fn why_in(look: &Look<'_>, chosen: &[&Instance]) -> String {
    let tasks = chosen.iter().map(|instance| demand::count(&instance.tasks)).fold(0, u32::saturating_add);
    let ids: Vec<&str> = candidates::ids(chosen).into_iter().collect();
    let verb = if ids.len() == 1 { "drains" } else { "drain" };
    let cpu = look.loads.cpu.newest().unwrap_or_default();
    let tasks = match tasks {
        0 => "nothing runs there".to_owned(),
        1 => "the one task there fits elsewhere".to_owned(),
        _ => format!("the {tasks} tasks there fit elsewhere"),
    };
    format!("{} {verb}, to go: not needed for 10 minutes, {tasks}, and CPU is at {cpu:.0} %", ids.join(", "))
}

fn enough(seen: &Observed<'_>, need: &Need) -> String {
    match need.extra {
        0 => format!("{} {} enough", instances(seen.group.desired), if seen.group.desired == 1 { "is" } else { "are" }),
        _ => format!("{} is the group's maximum, and {}", instances(seen.group.desired), need.rule),
    }
}

fn are(count: u32) -> String {
    format!("{} {}", instances(count), if count == 1 { "is" } else { "are" })
}

/// What is waited for, where instances drain.
fn why_wait(state: &State) -> String {
    let (told, draining): (Vec<_>, Vec<_>) = state.drains.iter().partition(|(_, drain)| drain.terminated_at.is_some());
    let sentence = |drains: Vec<(&String, &Drain)>, one: &str, many: &str| {
        let ids: Vec<&str> = drains.iter().map(|(id, _)| id.as_str()).collect();
        let verb = if ids.len() == 1 { one } else { many };
        (!ids.is_empty()).then(|| format!("{} {verb}", ids.join(", ")))
    };
    let draining = sentence(draining, "drains, and has to become empty", "drain, and have to become empty");
    let told = sentence(told, "is terminated", "are terminated");
    draining.into_iter().chain(told).collect::<Vec<_>>().join("; ")
}

/// What people should know.
fn notices(seen: &Observed<'_>, look: &Look<'_>, state: &mut State, wanted: u32) -> Vec<Notice> {
    let Look { fleet, unplaced, loads, .. } = look;
    let mut notices = unplaced.notices.clone();
    if wanted > seen.group.max {
        notices.push(Notice::AtMaximum { wanted, max: seen.group.max, unplaced: unplaced.tasks });
    }
    if fleet.missing > 0 {
        let is_suspended = seen.group.suspended.contains("Launch");
        notices.push(Notice::NotLaunched { missing: fleet.missing, is_suspended });
    }
    let named = [
        (&fleet.slow, Notice::SlowBoot as fn(Vec<String>) -> Notice),
        (&fleet.lost, Notice::Lost),
        (&fleet.left, Notice::LeftDraining),
    ];
    notices.extend(named.into_iter().filter(|(ids, _)| !ids.is_empty()).map(|(ids, notice)| notice(ids.clone())));
    notices.extend(state.given_up.keys().cloned().map(Notice::GaveUp));
    let is_blind = fleet.registered > 0 && (loads.cpu.newest().is_none() || loads.memory.newest().is_none());
    state.blind_since = is_blind.then(|| state.blind_since.map_or(seen.now, |at| at.min(seen.now)));
    if state.blind_since.is_some_and(|at| seen.now - at > BLIND_PATIENCE) {
        notices.push(Notice::Blind);
    }
    notices
}

#[cfg(test)]
mod tests;
