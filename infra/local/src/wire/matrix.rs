//! The cases, and how they are run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::Value;

use super::bench::Bench;
use super::end;
use super::faults::{Call, Extent, Fault, calls, listening, rules};
use super::scenario::{Scenario, Subject};

/// How long what was told may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// A call of a function that goes wrong in one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// What happens.
    pub scenario: Scenario,
    /// The call.
    pub call: Call,
    /// What becomes of it.
    pub fault: Fault,
    /// How often.
    pub extent: Extent,
}

/// What came of a case.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The case.
    pub case: Case,
    /// How often the fault was there.
    pub fired: usize,
    /// How many invocations it took until one ended well.
    pub tries: usize,
    /// How the end differs from that of an undisturbed run, if it does.
    pub difference: Option<String>,
}

impl Outcome {
    /// Whether the fault was there, and the end is that of an undisturbed run.
    pub fn is_good(&self) -> bool {
        self.fired > 0 && self.difference.is_none()
    }
}

/// What a function does when nothing is in its way.
#[derive(Debug, Clone)]
pub struct Undisturbed {
    /// The calls that it makes, in order.
    pub calls: Vec<Call>,
    /// What there is in the end.
    pub end: Value,
}

/// What the names of subjects begin with in each scenario. All are equally long, so that none is part of another.
fn name(scenario: Scenario, number: usize) -> String {
    let kind = match scenario {
        Scenario::Push => "tern",
        Scenario::Live => "gull",
        Scenario::Failed => "rail",
        Scenario::Alarm => "skua",
        Scenario::AlarmInRollout => "smew",
        Scenario::Backlog => "crew",
        Scenario::NoPlace => "dock",
    };
    format!("{kind}{number:04}")
}

/// Runs a scenario with nothing in its way, and tells which calls there are.
async fn undisturbed(bench: &Bench, scenario: Scenario) -> Result<Undisturbed> {
    let subject = scenario.prepare(bench, &name(scenario, 0)).await?;
    let function = scenario.function();
    bench.cool_down(function).await?;
    bench.proxy()?.set_rules(&[listening()]).await?;
    let handled = bench.deliver(function, &subject.event, &subject.keys()).await;
    let requests = bench.proxy()?.fired().await?;
    bench.proxy()?.set_rules(&[]).await?;
    let handled = handled?;
    ensure!(handled.tries == 1, "{function} failed though nothing was in its way: {:?}", handled.errors);
    scenario.settle(bench, &subject).await?;
    let mut end = scenario.end(bench, &subject).await?;
    // What was told may still be on its way.
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = scenario.end(bench, &subject).await?;
        if now == std::mem::replace(&mut end, now.clone()) {
            break;
        }
    }
    scenario.clear(bench, &subject).await?;
    let rejects = end::rejects(bench).await?;
    ensure!(rejects.is_empty(), "an event was rejected though nothing was in its way: {rejects:?}");
    Ok(Undisturbed { calls: calls(&requests), end })
}

/// Runs scenarios undisturbed, shared out among the benches.
pub async fn all_undisturbed(benches: &[Bench], scenarios: &[Scenario]) -> Result<BTreeMap<Scenario, Undisturbed>> {
    let work = benches.iter().enumerate().map(|(at, bench)| async move {
        let mut found = Vec::new();
        for &scenario in scenarios.iter().skip(at).step_by(benches.len()) {
            let undisturbed = undisturbed(bench, scenario).await;
            found.push((scenario, undisturbed.with_context(|| format!("in {}", scenario.name()))?));
        }
        anyhow::Ok(found)
    });
    Ok(try_join_all(work).await?.into_iter().flatten().collect())
}

/// Every call of a scenario with every fault.
pub fn all(scenario: Scenario, calls: &[Call]) -> Vec<Case> {
    let mut cases = Vec::new();
    for call in calls {
        for fault in Fault::ALL {
            for extent in Extent::ALL {
                cases.push(Case { scenario, call: call.clone(), fault, extent });
            }
        }
    }
    cases
}

/// A few cases of a scenario: each fault at another call, which changes something where only the answer is lost. A time-out
/// that lasts takes three quarters of a minute, and is left out.
pub fn some(scenario: Scenario, calls: &[Call]) -> Vec<Case> {
    let number = Scenario::ALL.iter().take_while(|other| **other != scenario).count();
    let changing: Vec<&Call> = calls.iter().filter(|call| is_change(call)).collect();
    let any: Vec<&Call> = calls.iter().collect();
    let pick = |from: &[&Call], at: usize| from.get(at % from.len().max(1)).map(|call| (*call).clone());
    let of = |(at, fault): (usize, Fault)| {
        let from = if fault == Fault::AnswerLost { &changing } else { &any };
        let extent = match fault {
            Fault::TimedOut => Extent::Once,
            _ if (number + at) % 2 == 0 => Extent::Once,
            _ => Extent::UntilGivenUp,
        };
        // All over the invocation, and elsewhere in each scenario.
        let call = pick(from, (at * from.len() / Fault::ALL.len()) + number)?;
        Some(Case { scenario, call, fault, extent })
    };
    Fault::ALL.into_iter().enumerate().filter_map(of).collect()
}

fn is_change(call: &Call) -> bool {
    ["BatchGet", "Describe", "Get", "List", "Query"].iter().all(|word| !call.operation.starts_with(word))
}

/// Runs cases of one scenario: prepares them together, disturbs one after the other, and lets all come to their end.
async fn together(bench: &Bench, cases: &[(usize, Case)], expected: &Value) -> Result<Vec<Outcome>> {
    let prepared = cases.iter().map(|(number, case)| async move {
        let name = name(case.scenario, *number);
        case.scenario.prepare(bench, &name).await.with_context(|| format!("while preparing {case:?}"))
    });
    let subjects = try_join_all(prepared).await?;
    let mut disturbed = Vec::new();
    for ((_, case), subject) in cases.iter().zip(&subjects) {
        disturbed.push(disturb(bench, case, subject).await?);
    }
    let ends = join_all(cases.iter().zip(&subjects).map(|((_, case), subject)| finish(bench, case, subject, expected)));
    let mut outcomes = Vec::new();
    for (((_, case), (fired, tries, failed)), end) in cases.iter().zip(disturbed).zip(ends.await) {
        let difference = failed.or(end.unwrap_or_else(|error| Some(format!("{error:#}"))));
        outcomes.push(Outcome { case: case.clone(), fired, tries, difference });
    }
    let rejects = end::rejects(bench).await?;
    ensure!(rejects.is_empty(), "events were rejected in {cases:?}: {rejects:?}");
    // Nobody asks for it any more, and it would be read again with each case that comes.
    bench.cloud.forget_what_was_told().await?;
    Ok(outcomes)
}

/// Wakes the function with the fault in its way, then with the same event once more. Returns how often the fault was
/// there, how many invocations it took, and what is wrong with that.
async fn disturb(bench: &Bench, case: &Case, subject: &Subject) -> Result<(usize, usize, Option<String>)> {
    let function = case.scenario.function();
    bench.cool_down(function).await?;
    let numbers = bench.proxy()?.set_rules(&rules(&case.call, case.fault, case.extent)).await?;
    let handled = bench.deliver(function, &subject.event, &subject.keys()).await?;
    let fired = bench.proxy()?.fired().await?;
    bench.proxy()?.set_rules(&[]).await?;
    let fired = fired.iter().filter(|it| Some(&it.rule) == numbers.last()).count();
    let again = bench.deliver(function, &subject.event, &subject.keys()).await?;
    let failed = (again.tries > 1).then(|| format!("failed with nothing in its way any more: {:?}", again.errors));
    let failed = handled.has_failed().then(|| format!("no invocation ended well: {:?}", handled.errors)).or(failed);
    Ok((fired, handled.tries, failed))
}

async fn finish(bench: &Bench, case: &Case, subject: &Subject, expected: &Value) -> Result<Option<String>> {
    case.scenario.settle(bench, subject).await?;
    let deadline = Instant::now() + PATIENCE;
    let difference = loop {
        let difference = end::difference(expected, &case.scenario.end(bench, subject).await?);
        if difference.is_none() || Instant::now() > deadline {
            break difference;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    case.scenario.clear(bench, subject).await?;
    Ok(difference)
}

/// Runs cases on several benches at once, the slow ones last, and tells each outcome as it comes. None is begun after
/// `deadline`.
pub async fn run(
    benches: &[Bench],
    cases: &[Case],
    undisturbed: &BTreeMap<Scenario, Undisturbed>,
    deadline: Option<Instant>,
    told: &(dyn Fn(&Outcome) + Sync),
) -> Result<Vec<Outcome>> {
    let mut numbered: Vec<(usize, Case)> = (1..).zip(cases.iter().cloned()).collect();
    let kind = |case: &Case| ((case.fault == Fault::TimedOut).then_some(case.extent), case.scenario);
    numbered.sort_by_key(|(number, case)| (kind(case), *number));
    let groups = numbered.chunk_by(|(_, one), (_, other)| kind(one) == kind(other));
    let portions = groups.flat_map(|group| group.chunks(group.first().map_or(1, |(_, case)| case.scenario.at_once())));
    let waiting: Mutex<VecDeque<&[(usize, Case)]>> = Mutex::new(portions.collect());
    let is_over = || deadline.is_some_and(|deadline| Instant::now() > deadline);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front().filter(|_| !is_over());
    let work = benches.iter().map(|bench| async {
        let mut outcomes = Vec::new();
        while let Some(portion) = next() {
            let scenario = portion.first().context("an empty portion")?.1.scenario;
            let expected = &undisturbed.get(&scenario).context("a scenario that was not run undisturbed")?.end;
            let failed = |error: &anyhow::Error, case: &Case| {
                let difference = Some(format!("{error:#}"));
                Outcome { case: case.clone(), fired: 0, tries: 0, difference }
            };
            let some = together(bench, portion, expected).await;
            let some = some.unwrap_or_else(|error| portion.iter().map(|(_, case)| failed(&error, case)).collect());
            some.iter().for_each(told);
            outcomes.extend(some);
        }
        anyhow::Ok(outcomes)
    });
    let mut outcomes: Vec<Outcome> = try_join_all(work).await?.into_iter().flatten().collect();
    outcomes.sort_by(|one, other| one.case.cmp(&other.case));
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_cases_have_every_fault_and_lose_the_answers_of_changes() {
        let call = |operation: &str| Call { service: "ecs".into(), operation: operation.into(), nth: 1 };
        let calls = ["DescribeServices", "ListTasks", "UpdateService", "DescribeTasks"].map(call);
        for scenario in Scenario::ALL {
            let some = some(scenario, &calls);
            assert_eq!(some.iter().map(|case| case.fault).collect::<Vec<_>>(), Fault::ALL);
            assert_eq!(some[4].call, calls[2], "{some:?}");
        }
    }
}
