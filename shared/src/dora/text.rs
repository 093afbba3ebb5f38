//! The report as a table for people.

use std::fmt::Write;

use super::{Durations, Measures, Rate, Report, ServiceReport};

const UNKNOWN: &str = "-";
const HEAD: [&str; 11] = [
    "service",
    "live",
    "others",
    "per day",
    "bucket",
    "change fail",
    "never live",
    "recovery",
    "push to live",
    "lead time",
    "rework",
];
const LEGEND: &str = "\
live: deployments that went live, without releases that were brought back; others: those of them that others have made;
change fail: of what went live, taken back; never live: failed before it was; recovery: from bad to the next good one,
median; push to live: median / nine of ten; lead time: from the commit, median, and of how many deployments it is known;
rework: live within 24 hours after a failure, a heuristic
";

/// The report in a table: a line for each service and one for all, and why something is not known.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(report.services.iter().map(|service| row(name(service), &service.measures)));
    rows.push(row("all services".into(), &report.total));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = format!("Deployments from {} to {}: {} days, UTC\n\n", report.from, report.to, report.days);
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        line(&mut text, &cells.collect::<Vec<_>>().join("  "));
    }
    text.push('\n');
    text.push_str(LEGEND);
    for (what, why) in unknown(&report.total) {
        line(&mut text, &format!("{what} is not known: {why}"));
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string can't fail.
    let _infallible = writeln!(text, "{}", line.trim_end());
}

/// The service in its environment, on one line.
fn name(service: &ServiceReport) -> String {
    let ServiceReport { environment, cluster, service, .. } = service;
    let name = match environment == cluster {
        true => format!("{environment}/{service}"),
        false => format!("{environment} {cluster}/{service}"),
    };
    name.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

fn row(name: String, measures: &Measures) -> [String; HEAD.len()] {
    let Measures { counts, deployment_frequency: frequency, recovery_time, push_to_live, change_lead_time, .. } =
        measures;
    [
        name,
        counts.deployments.to_string(),
        counts.by_others.to_string(),
        frequency.per_day.map_or(UNKNOWN.into(), |per_day| format!("{per_day:.2}")),
        frequency.bucket.map_or(UNKNOWN.into(), |bucket| format!("{bucket:?}")),
        share(&measures.change_fail_rate),
        share(&measures.failed_before_serving_rate),
        recovery_time.median_seconds.map_or(UNKNOWN.into(), duration),
        both(push_to_live),
        change_lead_time
            .median_seconds
            .map_or(UNKNOWN.into(), |median| format!("{} ({})", duration(median), change_lead_time.of)),
        share(&measures.rework_rate),
    ]
}

fn share(rate: &Rate) -> String {
    match rate.value {
        Some(value) => format!("{:.0}% ({}/{})", value * 100.0, rate.count, rate.of),
        None => UNKNOWN.into(),
    }
}

fn both(durations: &Durations) -> String {
    match (durations.median_seconds, durations.p90_seconds) {
        (Some(median), Some(p90)) => format!("{} / {}", duration(median), duration(p90)),
        _ => UNKNOWN.into(),
    }
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// What is not known of all services, and why.
fn unknown(total: &Measures) -> impl Iterator<Item = (&'static str, &'static str)> {
    [
        ("deployment frequency", total.deployment_frequency.unknown_because),
        ("change fail rate", total.change_fail_rate.unknown_because),
        ("the rate of what failed before it was live", total.failed_before_serving_rate.unknown_because),
        ("recovery time", total.recovery_time.unknown_because),
        ("push to live", total.push_to_live.unknown_because),
        ("change lead time", total.change_lead_time.unknown_because),
        ("rework rate", total.rework_rate.unknown_because),
    ]
    .into_iter()
    .filter_map(|(what, why)| Some((what, why?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3599, "59m59s"),
            (3600, "1h00m"),
            (86_399, "23h59m"),
            (86_400, "1d00h"),
            (u64::MAX, "213503982334601d07h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
