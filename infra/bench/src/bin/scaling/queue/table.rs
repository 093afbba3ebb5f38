//! The results as Markdown.

use super::policy::Name;
use super::run::Outcome;
use super::scene::{Kind, Scene};
use super::{Book, Tried};

/// Traces side by side in one table.
const COLUMNS: usize = 7;

/// A table; the columns are aligned, so that it can be read as it is.
pub(crate) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).chain(head.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
        })
        .collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(column, (cell, width))| {
                    if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(column, width)| if column == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) })
        .collect();
    let mut text = line(head) + &line(&rule);
    text.extend(rows.iter().map(|row| line(row)));
    text
}

fn strings(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// A number with as many digits as it deserves.
fn short(value: f64) -> String {
    if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.95 || value == 0.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Every measure of each policy.
pub(crate) fn outcomes(rows: &[(Name, Outcome)]) -> String {
    let head = strings(&[
        "policy",
        "mean wait s",
        "p99 wait s",
        "max backlog",
        "violation min",
        "% late",
        "task-h",
        "÷ work",
        "actions",
        "flaps",
        "killed",
    ]);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, outcome)| {
            vec![
                name.label().to_owned(),
                short(outcome.mean_wait),
                short(outcome.p99_wait),
                format!("{:.0}", outcome.max_backlog),
                format!("{:.1}", outcome.violation_minutes),
                format!("{:.1}", outcome.late_percent),
                short(outcome.task_hours),
                format!("{:.2}", outcome.over_work()),
                format!("{:.0}", outcome.actions),
                format!("{:.0}", outcome.flaps),
                short(outcome.killed),
            ]
        })
        .collect();
    table(&head, &cells)
}

/// Violation minutes, p99 wait and cost of each policy in each scene; killed messages where there are any.
fn matrix(tried: &[&Tried]) -> String {
    let mut head = strings(&["policy"]);
    head.extend(tried.iter().map(|tried| tried.scene.name.clone()));
    let names = tried.first().map(|tried| tried.rows.iter().map(|row| row.name)).into_iter().flatten();
    let rows: Vec<Vec<String>> = names
        .map(|name| {
            let cells =
                tried.iter().map(|tried| tried.outcome(name).map_or_else(String::new, |outcome| cell(&outcome)));
            std::iter::once(name.label().to_owned()).chain(cells).collect()
        })
        .collect();
    table(&head, &rows)
}

fn cell(outcome: &Outcome) -> String {
    let killed = if outcome.killed >= 0.5 { format!(" †{:.0}", outcome.killed) } else { String::new() };
    format!("{:.1} / {:.0} / {:.2}{killed}", outcome.violation_minutes, outcome.p99_wait, outcome.over_work())
}

/// Where one of the others has done better than we have, scene by scene.
fn honest(tried: &[Tried]) -> String {
    let line = |tried: &Tried| {
        let ours = tried.outcome(Name::Ours)?;
        let rivals = tried.rows.iter().filter(|row| row.name.is_rival());
        let better: Vec<String> = rivals
            .filter_map(|row| better(&row.outcome, &ours).map(|how| format!("{} ({how})", row.name.label())))
            .collect();
        let figures = format!("{:.1} min at {:.2}×", ours.violation_minutes, ours.over_work());
        (!better.is_empty()).then(|| format!("- {}: Tidegate {figures}; {}\n", tried.scene.name, better.join(", ")))
    };
    let lines: String = tried.iter().filter_map(line).collect();
    if lines.is_empty() { "- nowhere\n".to_owned() } else { lines }
}

/// Fewer violations by more than half a minute, or no more of them for at least 3 % less.
fn better(rival: &Outcome, ours: &Outcome) -> Option<String> {
    let waits_less = rival.violation_minutes < ours.violation_minutes - 0.5;
    let is_cheaper = rival.task_hours < ours.task_hours * 0.97;
    let waits_no_more = rival.violation_minutes <= ours.violation_minutes + 0.5;
    let figures = format!("{:.1} min at {:.2}×", rival.violation_minutes, rival.over_work());
    match (waits_less, is_cheaper) {
        (true, true) => Some(format!("{figures}, less of both")),
        (true, false) => Some(format!("{figures}, fewer violations")),
        (false, true) if waits_no_more => Some(format!("{figures}, cheaper")),
        _ => None,
    }
}

/// All tables of a run; with `details` also one for each scene.
pub(crate) fn report(book: &Book, details: bool) -> String {
    let mut parts = vec![format!(
        "# Scaling on queues\n\nMeans of {} seeds. Violation: minutes in which the oldest message had waited for longer \
         than was wanted. ÷ work: task-hours over those that the messages take with no second idle. Flaps: changes of \
         direction within ten minutes. Killed: messages in work when their task was killed (†). The oracle knows the \
         future.\n",
        book.seeds
    )];
    let sections = [
        (Kind::Core, "The six core traces"),
        (Kind::Other, "Traces that nothing was tuned on"),
        (Kind::Special, "Special traces"),
    ];
    parts.extend(sections.into_iter().filter_map(|(kind, title)| section(book, kind, title)));
    if book.tried.len() > 1 {
        parts.push(format!(
            "## Where another policy does better\n\nFewer violations by more than half a minute, or about as many for at \
             least 3 % less:\n\n{}",
            honest(&book.tried)
        ));
    }
    if details || book.tried.len() == 1 {
        parts.extend(book.tried.iter().map(|tried| {
            let rows: Vec<(Name, Outcome)> = tried.rows.iter().map(|row| (row.name, row.outcome)).collect();
            format!("## {}\n\n{}", about(&tried.scene), outcomes(&rows))
        }));
    }
    parts.join("\n")
}

/// The tables of one kind of trace, where more than one was tried.
fn section(book: &Book, kind: Kind, title: &str) -> Option<String> {
    let tried: Vec<&Tried> = book.tried.iter().filter(|tried| tried.scene.kind == kind).collect();
    if tried.len() < 2 {
        return None;
    }
    let mut parts = vec![format!("## {title}\n")];
    // The special ones have nothing in common that could be added up.
    if kind != Kind::Special {
        parts.push(format!(
            "All of them; waits, shares and backlog are means over the traces, the rest are sums.\n\n{}",
            outcomes(&book.totals(kind))
        ));
    }
    parts.push("Violation minutes / p99 wait in seconds / ÷ work, of each:\n".to_owned());
    parts.extend(tried.chunks(COLUMNS).map(matrix));
    parts.push(tried.iter().map(|tried| format!("- {}\n", about(&tried.scene))).collect());
    Some(parts.join("\n"))
}

fn about(scene: &Scene) -> String {
    format!("{}: {}", scene.name, scene.about)
}
