//! Checks the protocol, and shows for each deliberate bug the shortest way to where it does harm.

use std::io::Write as _;
use std::process::ExitCode;

use protocol::{Bug, Protocol};

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    // Nobody listens any more: then nobody is told.
    let mut say = |text: &str| drop(writeln!(out, "{text}"));
    let shipped = Protocol::shipped();
    let found = shipped.check();
    say(&format!(
        "Two handlers, {} pushes, {} crash, {} stall: {} situations, {} steps, the farthest {} steps away.",
        shipped.pushes, shipped.crashes, shipped.stalls, found.states, found.steps, found.depth
    ));
    found.kept.iter().for_each(|kept| say(&format!("  holds   {kept}")));
    found.broken.iter().for_each(|(broken, way)| say(&format!("  BROKEN  {broken}: {way:?}")));
    let mut is_right = found.broken.is_empty();
    for bug in Bug::ALL {
        let found = Protocol::with(bug).check();
        match found.shortest() {
            Some((broken, way)) => {
                say(&format!("\n{bug:?} breaks \"{broken}\" in {} steps:", way.len()));
                way.iter().for_each(|action| say(&format!("  {action:?}")));
            }
            None => {
                is_right = false;
                say(&format!("\n{bug:?} breaks nothing in {} situations", found.states));
            }
        }
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
