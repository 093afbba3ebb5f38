//! A decision in words, with its numbers.

use super::{Goal, Inputs, Why};

/// Why the desired count becomes, or stays, `to`.
pub(super) fn reason(why: Why, to: u32, inputs: &Inputs, goal: &Goal) -> String {
    let Inputs { desired, .. } = *inputs;
    let need = need(inputs);
    match why {
        Why::Out if to < inputs.wanted => {
            format!("out from {desired} to {to} tasks, the most that is allowed: {need}")
        }
        Why::Out => format!("out from {desired} to {to} tasks: {need}"),
        Why::In if to > inputs.wanted && to == goal.min => {
            format!("in from {desired} to {to} tasks, the fewest that are allowed: {need}")
        }
        Why::In => format!("in from {desired} to {to} tasks: {need}"),
        Why::Bounds => {
            format!("from {desired} to {to} tasks: the tags allow {} to {}", goal.min, goal.max)
        }
        Why::Steady if inputs.wanted > goal.max => {
            format!("stays at {desired} tasks, the most that is allowed: {need}")
        }
        Why::Steady => format!("stays at {desired} tasks: {need}"),
        Why::TooSoon => format!("stays at {desired} tasks until it has been watched for five minutes: {need}"),
        Why::Pause => format!("stays at {desired} tasks: the last change was just now; {need}"),
        Why::NoData => format!("stays at {desired} tasks: the queue's numbers are missing or old; {need}"),
        Why::RollingOut => format!("stays at {desired} tasks while a deployment is going on: {need}"),
        Why::Held => format!("stays at {desired} tasks: the service is held (tidegate:hold); {need}"),
        Why::AtWork => format!("stays at {desired} tasks, which are at work: {need}"),
    }
}

fn need(inputs: &Inputs) -> String {
    let Inputs { visible, in_flight, arrivals, service_time, wanted, .. } = *inputs;
    let number = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0}"));
    let rate = arrivals.map_or_else(|| "unknown".to_owned(), |rate| format!("{:.1} a minute", rate * 60.0));
    format!(
        "messages waiting: {}, in flight: {}, coming: {rate}, each takes {service_time:.1} s; that needs {wanted}",
        number(visible),
        number(in_flight)
    )
}
