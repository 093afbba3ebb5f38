//! What came out, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::faults::{Extent, Fault};
use super::matrix::Outcome;

/// A line for each case.
pub fn lines(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        text.push_str(&line(outcome));
        text.push('\n');
    }
    text
}

/// A case in a line.
pub fn line(outcome: &Outcome) -> String {
    let Outcome { case, fired, tries, difference } = outcome;
    let end = match difference {
        None => "same end".to_owned(),
        Some(difference) => format!("DIFFERENT: {difference}"),
    };
    format!(
        "{:13} {:26} {:42} {:11} {:14} fired {fired}, {tries} invocation(s), {end}",
        case.scenario.function(),
        case.scenario.name(),
        case.call.to_string(),
        case.fault.name(),
        case.extent.name(),
    )
}

#[derive(Default)]
struct Sum {
    cases: usize,
    by_sdk: usize,
    by_redelivery: usize,
    not_fired: usize,
    different: usize,
}

/// A row for each function and fault, in Markdown.
pub fn summary(outcomes: &[Outcome]) -> String {
    let mut sums: BTreeMap<(&str, Fault, Extent), Sum> = BTreeMap::new();
    for outcome in outcomes {
        let case = &outcome.case;
        let sum = sums.entry((case.scenario.function(), case.fault, case.extent)).or_default();
        sum.cases += 1;
        let is_good = outcome.is_good();
        sum.by_sdk += usize::from(is_good && outcome.tries == 1);
        sum.by_redelivery += usize::from(is_good && outcome.tries > 1);
        sum.not_fired += usize::from(outcome.fired == 0);
        sum.different += usize::from(outcome.difference.is_some());
    }
    let mut text = String::from(
        "| Function | Fault | Requests that it meets | Cases | Recovered in the invocation | Recovered by the next one | Not \
         met | Other end |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for ((function, fault, extent), sum) in &sums {
        let Sum { cases, by_sdk, by_redelivery, not_fired, different } = sum;
        _ = writeln!(
            text,
            "| {function} | {} | {} | {cases} | {by_sdk} | {by_redelivery} | {not_fired} | {different} |",
            fault.name(),
            extent.name(),
        );
    }
    text
}
