//! A load of pushes, and its figures; `--help` says how.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;

use sim::load::{self, Load};

const HELP: &str = "\
Pushes very many images at once, with duplicates, to services that follow them, within the rates of ECS. Fails if
anything is lost, a service ends on another image than it follows, or the calls are out of proportion.

    cargo run -p sim --profile sim --example load -- [--events N] [--services N] [--minutes M] [--concurrency N]
                                                     [--seed SEED]
";

fn options() -> Result<Load, String> {
    let mut load = Load::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse::<u32>().ok());
        let (true, Some(number)) = (name != "--help", value) else { return Err(HELP.into()) };
        match name.as_str() {
            "--events" => load.events = number as usize,
            "--services" => load.services = number as usize,
            "--minutes" => load.minutes = number.into(),
            "--concurrency" => load.concurrency = number as usize,
            "--seed" => load.seed = number.into(),
            _ => return Err(HELP.into()),
        }
    }
    Ok(load)
}

fn main() -> ExitCode {
    match options() {
        Ok(load) => {
            println!("{}", load::play(load));
            ExitCode::SUCCESS
        }
        Err(help) => {
            println!("{help}");
            ExitCode::FAILURE
        }
    }
}
