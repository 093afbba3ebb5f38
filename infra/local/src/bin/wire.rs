//! `cargo run --package local --bin wire -- --all`: every call of every function, with every fault.

#![expect(clippy::disallowed_methods, reason = "it tells how long it has taken on this machine's clock")]

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use local::progress;
use local::wire::bench::Bench;
use local::wire::faults::{Extent, Fault};
use local::wire::matrix::{self, Case, Outcome};
use local::wire::scenario::Scenario;
use local::wire::table;

const HELP: &str = "\
Lets every AWS call of every function go wrong in every way, and checks that the end is that of an undisturbed run.

    cargo run --package local --bin wire -- --all [--benches N]
    cargo run --package local --bin wire -- [--function NAME] [--operation NAME] [--fault NAME] [--once] [--benches N]

    --calls         only tell which calls there are
    --function      deploy, notify, rollback, scale-service or scale-cluster
    --operation     such as UpdateService
    --fault         throttle, 500, reset, time-out or answer-lost
    --once          leave out the faults that last until the SDK gives up
    --minutes N     begin no more cases after N minutes
    --benches N     use N clouds at the same time (3)";

#[derive(Debug, Default)]
struct Wanted {
    is_all: bool,
    only_calls: bool,
    only_once: bool,
    function: Option<String>,
    operation: Option<String>,
    fault: Option<String>,
    minutes: Option<u64>,
    benches: usize,
}

impl Wanted {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut wanted = Self { benches: 3, ..Self::default() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--all" => wanted.is_all = true,
                "--calls" => wanted.only_calls = true,
                "--once" => wanted.only_once = true,
                "--function" => wanted.function = Some(value()?),
                "--operation" => wanted.operation = Some(value()?),
                "--fault" => wanted.fault = Some(value()?.replace("answer-lost", "answer lost")),
                "--minutes" => wanted.minutes = Some(value()?.parse().context("--minutes needs a number")?),
                "--benches" => wanted.benches = value()?.parse().context("--benches needs a number")?,
                "--help" | "-h" => return Ok(None),
                other => bail!("unknown argument {other}\n\n{HELP}"),
            }
        }
        let is_narrowed = wanted.function.is_some() || wanted.operation.is_some() || wanted.fault.is_some();
        Ok((wanted.is_all || wanted.only_calls || is_narrowed).then_some(wanted))
    }

    fn has_function(&self, scenario: Scenario) -> bool {
        self.function.as_deref().is_none_or(|function| function == scenario.function())
    }

    fn has(&self, case: &Case) -> bool {
        let is = |wanted: &Option<String>, it: &str| wanted.as_deref().is_none_or(|wanted| wanted == it);
        is(&self.operation, &case.call.operation)
            && is(&self.fault, case.fault.name())
            && (!self.only_once || case.extent == Extent::Once)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Some(wanted) = Wanted::read(std::env::args().skip(1))? else {
        say(HELP);
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(fault) = wanted.fault.as_deref().filter(|name| Fault::ALL.iter().all(|fault| fault.name() != *name)) {
        bail!("there is no fault {fault}\n\n{HELP}");
    }
    let outcomes = run(&wanted).await?;
    if wanted.only_calls {
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("\n{}\n{}", table::lines(&outcomes), table::summary(&outcomes)));
    let bad = outcomes.iter().filter(|outcome| !outcome.is_good()).count();
    say(&format!("{} cases, {bad} of them bad", outcomes.len()));
    Ok(if bad == 0 && !outcomes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(wanted: &Wanted) -> Result<Vec<Outcome>> {
    let began = Instant::now();
    let benches = Bench::start_many(wanted.benches, &progress::lines()).await?;
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(|it| wanted.has_function(*it)).collect();
    let undisturbed = matrix::all_undisturbed(&benches, &scenarios).await?;
    let mut cases = Vec::new();
    for (scenario, found) in &undisturbed {
        let calls: Vec<String> = found.calls.iter().map(ToString::to_string).collect();
        say(&format!("{}, {}: {}\n  {}", scenario.function(), scenario.name(), calls.join(", "), found.end));
        cases.extend(matrix::all(*scenario, &found.calls).into_iter().filter(|case| wanted.has(case)));
    }
    if wanted.only_calls {
        return Ok(Vec::new());
    }
    say(&format!("{} cases", cases.len()));
    let told = |outcome: &Outcome| say(&format!("{:5} s  {}", began.elapsed().as_secs(), table::line(outcome)));
    let deadline = wanted.minutes.map(|minutes| began + Duration::from_secs(60 * minutes));
    matrix::run(&benches, &cases, &undisturbed, deadline, &told).await
}

fn say(text: &str) {
    // Nobody is left to tell if this fails.
    _ = writeln!(std::io::stdout(), "{text}");
}
