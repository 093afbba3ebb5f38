//! A campaign of the simulation; `--help` says how.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;
use std::time::Duration;

use sim::campaign::{self, Failure};
use sim::case;
use sim::crashes::{self, SCENARIOS};
use sim::mutants::{MUTANTS, Mutant};
use sim::plan::Plan;

/// A third of a run is allocation.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
Plays Tidegate's handlers in a simulated AWS, one scenario for each seed, and checks the invariants.

    cargo run -p sim --profile sim -- [--from SEED] [--seeds N] [--minutes M] [--threads T]
    cargo run -p sim --profile sim -- --seed SEED       play one scenario again, and say how it went
    cargo run -p sim --profile sim -- --tell SEED       and print every deed, event and call of it
    cargo run -p sim --profile sim -- --bug N --seed S  with the Nth of the deliberate bugs
    cargo run -p sim --profile sim -- --mutants N       which seed of N catches each deliberate bug, and how
    cargo run -p sim --profile sim -- --crashes STEP    kill handlers before and after every STEPth call of each story
";

struct Options {
    from: u64,
    seeds: u64,
    minutes: u64,
    threads: usize,
    seed: Option<u64>,
    is_told: bool,
    bug: Option<&'static Mutant>,
    mutants: Option<u64>,
    crashes: Option<u64>,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        seeds: 1000,
        minutes: 600,
        threads: 2,
        seed: None,
        is_told: false,
        bug: None,
        mutants: None,
        crashes: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--help" {
            return Err(HELP.into());
        }
        let value = arguments.next().ok_or_else(|| format!("{name} wants a number\n\n{HELP}"))?;
        let number: u64 = value.parse().map_err(|_| format!("{name} wants a number, not {value}\n\n{HELP}"))?;
        match name.as_str() {
            "--from" => options.from = number,
            "--seeds" => options.seeds = number,
            "--minutes" => options.minutes = number,
            "--threads" => options.threads = usize::try_from(number).unwrap_or(1),
            "--seed" => options.seed = Some(number),
            "--tell" => (options.seed, options.is_told) = (Some(number), true),
            "--bug" => {
                let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
                let bug = at.and_then(|at| MUTANTS.get(at));
                options.bug = Some(bug.ok_or_else(|| format!("there are {} deliberate bugs", MUTANTS.len()))?);
            }
            "--crashes" => options.crashes = Some(number),
            "--mutants" => options.mutants = Some(number),
            _ => return Err(format!("there is no option {name}\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(said) => {
            println!("{said}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(seed) = options.seed {
        let plan = Plan { is_told: options.is_told, ..Plan::of(seed) };
        let report = match options.bug {
            Some(bug) => case::play_mutant(plan, bug),
            None => case::play(plan),
        };
        println!("{report:#?}");
        return ExitCode::SUCCESS;
    }
    campaign::keep_panics();
    if let Some(step) = options.crashes {
        return crashes(usize::try_from(step).unwrap_or(1), options.threads);
    }
    if let Some(seeds) = options.mutants {
        return mutants(seeds);
    }
    let seeds = options.from..options.from + options.seeds;
    let summary = campaign::play(seeds, Duration::from_secs(60 * options.minutes), options.threads, tell);
    println!("{summary}");
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How a run failed, and how to see it again.
fn tell(Failure { seed, what }: &Failure) {
    let what: String = what.chars().take(600).collect();
    println!("seed {seed}: {what}\n    again: cargo run -p sim --profile sim -- --seed {seed}\n");
}

/// A table of the crash points.
fn crashes(step: usize, threads: usize) -> ExitCode {
    let mut failures = 0;
    println!("{:<56} {:>6} {:>6} {:>9}", "scenario", "calls", "runs", "failures");
    for scenario in SCENARIOS {
        let found = crashes::enumerate(scenario, step, 200 / step, threads);
        println!("{:<56} {:>6} {:>6} {:>9}", found.name, found.calls, found.runs, found.failures.len());
        for failure in found.failures.iter().take(3) {
            println!("    {}", failure.what.chars().take(1500).collect::<String>());
        }
        failures += found.failures.len();
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A table of the deliberate bugs.
fn mutants(seeds: u64) -> ExitCode {
    let mut missed = 0;
    for mutant in MUTANTS {
        let (seed, what) = match campaign::hunt(mutant, 0..seeds) {
            Some(failure) => {
                (failure.seed.to_string(), failure.what.chars().take(110).collect::<String>().replace('\n', " "))
            }
            None => {
                missed += 1;
                ("none".to_owned(), "NOT CAUGHT".to_owned())
            }
        };
        println!("{:<22} {:<72} seed {seed:>4}  {what}", mutant.name, mutant.bug);
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
