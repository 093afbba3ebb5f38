//! What the benchmark has to show, or the build is broken.

use super::Book;
use super::policy::Name;
use super::scene::Kind;

/// Most minutes in which the wait is not kept, over the six core traces.
const VIOLATION_MINUTES: f64 = 5.0;
/// Most task-hours, over those that the messages take.
const OVER_WORK: f64 = 1.5;

/// Who misses the wait for more minutes than these does not keep it: being cheaper is then no merit.
const KEEPS_WAIT_MINUTES: f64 = 50.0;

/// Something to show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    /// What, with the figures.
    pub what: String,
    /// Whether it is so.
    pub is_met: bool,
}

/// The goals, and whether they are met.
pub(crate) fn check(book: &Book) -> Vec<Goal> {
    let totals = book.totals(Kind::Core);
    let Some((_, ours)) = totals.iter().find(|(name, _)| *name == Name::Ours) else { return Vec::new() };
    let (minutes, over) = (ours.violation_minutes, ours.over_work());
    let mut goals = vec![
        Goal {
            what: format!("{minutes:.1} violation minutes on the core traces, of at most {VIOLATION_MINUTES}"),
            is_met: minutes <= VIOLATION_MINUTES,
        },
        Goal { what: format!("{over:.2} times the work, of at most {OVER_WORK}"), is_met: over <= OVER_WORK },
    ];
    goals.extend(totals.iter().filter(|(name, _)| name.is_reference()).map(|(name, rival)| {
        let is_cheaper = rival.task_hours <= ours.task_hours;
        let keeps_wait = rival.violation_minutes <= KEEPS_WAIT_MINUTES;
        Goal {
            what: format!(
                "ahead of {}: {minutes:.1} to {:.1} violation minutes, {:.0} to {:.0} task-hours{}",
                name.label(),
                rival.violation_minutes,
                ours.task_hours,
                rival.task_hours,
                if is_cheaper && !keeps_wait { " (cheaper, and does not keep the wait)" } else { "" }
            ),
            is_met: minutes < rival.violation_minutes && !(is_cheaper && keeps_wait),
        }
    }));
    goals.extend(book.tried.iter().filter(|tried| tried.scene.is_protected).filter_map(|tried| {
        let killed = tried.outcome(Name::Ours)?.killed;
        Some(Goal {
            what: format!("{killed:.0} messages killed in {}, of at most 0", tried.scene.name),
            is_met: killed <= 0.0,
        })
    }));
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::run::Outcome;
    use crate::queue::scene::{Load, Scene};
    use crate::queue::{Row, Tried};

    /// What is not met when ours and step scaling have these violation minutes and task-hours, for 100 hours of work.
    fn missed(ours: (f64, f64), step: (f64, f64)) -> usize {
        let row = |name: Name| {
            let (minutes, hours) = match name {
                Name::Ours => ours,
                Name::Step => step,
                _ => (1000.0, 1000.0),
            };
            let (violation_minutes, task_hours) = (minutes, hours);
            let outcome = Outcome { violation_minutes, task_hours, work_hours: 100.0, ..Outcome::default() };
            Row { name, outcome, samples: Vec::new() }
        };
        let scene = Scene::new("x", Kind::Core, "", Load::Counts(Vec::new()));
        let book = Book { seeds: 1, tried: vec![Tried { scene, rows: Name::ALL.into_iter().map(row).collect() }] };
        check(&book).iter().filter(|goal| !goal.is_met).count()
    }

    #[test]
    fn ahead_is_ahead_on_both_but_of_those_who_do_not_keep_the_wait() {
        let cases = [
            ((2.0, 140.0), (10.0, 150.0), 0),
            ((2.0, 140.0), (10.0, 130.0), 1),
            ((2.0, 140.0), (60.0, 130.0), 0),
            ((2.0, 140.0), (1.0, 150.0), 1),
            ((6.0, 140.0), (10.0, 150.0), 1),
            ((2.0, 151.0), (10.0, 160.0), 1),
        ];
        for (ours, step, expected) in cases {
            assert_eq!(missed(ours, step), expected, "{ours:?} {step:?}");
        }
    }
}
