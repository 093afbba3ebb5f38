//! `cargo demo`: Tidegate's main job on this machine, told and checked.

#![expect(clippy::disallowed_methods, reason = "the demo runs on this machine's clock and looks at its environment")]
#![expect(clippy::indexing_slicing, reason = "JSON values are indexed by name: a name that is missing gives null")]

mod difference;
mod keep;
mod report;
mod screen;
mod story;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use local::cloud::{Cloud, SlackSecret};
use local::tools::Workspace;

use crate::screen::Screen;
use crate::story::Story;

const HELP: &str = "\
Tidegate's demo: an image is pushed to a registry, and what follows it is rolled out, recorded and announced.
All of it happens on this machine, in an AWS emulator. It needs Rust and Python 3.10 or newer; the first run installs
the emulator and cargo-lambda into the target folder and builds the functions.

  cargo demo                                   tell the story and check it
  cargo demo -- --keep                         then leave the cloud running, and print how to talk to it
  cargo demo -- push REPOSITORY:TAG [--bad]    push an image of your own to the cloud that --keep left running;
                                               with --bad its tasks exit as soon as they start
  cargo demo -- --help                         this text

It ends with 0 when every check held, with 1 when one did not, with 2 when it was asked for something it does not know.";

/// What was asked for.
enum Command {
    Tell { keep: bool },
    Push { image: String, bad: bool },
    Help,
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Screen::new().failed(&format!("no threads to run on: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run());
    // An interrupted build is not waited for.
    runtime.shutdown_background();
    code
}

async fn run() -> ExitCode {
    let screen = Screen::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = parse(&arguments) else {
        screen.failed(&format!("{} is not among what the demo knows.\n\n{HELP}", arguments.join(" ")));
        return ExitCode::from(2);
    };
    let work = async {
        match command {
            Command::Tell { keep } => tell(&screen, keep).await,
            Command::Push { image, bad } => keep::push(&screen, &image, bad).await,
            Command::Help => {
                screen.line(HELP);
                Ok(())
            }
        }
    };
    // Whatever ends the work, the cloud is dropped here, and ends with it.
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => {
            screen.failed("interrupted");
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Command> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Some(match arguments[..] {
        [] => Command::Tell { keep: false },
        ["--keep"] => Command::Tell { keep: true },
        ["push", image] => Command::Push { image: image.to_owned(), bad: false },
        ["push", image, "--bad"] | ["push", "--bad", image] => Command::Push { image: image.to_owned(), bad: true },
        ["--help" | "-h"] => Command::Help,
        _ => return None,
    })
}

async fn tell(screen: &Screen, keep: bool) -> Result<()> {
    let start = Instant::now();
    screen.heading("Tidegate: push an image, watch it go live");
    let cloud = Cloud::start(SlackSecret::BotToken, &screen.progress()).await?;
    let prepared = start.elapsed();

    let mut story = Story::new(&cloud, screen);
    let told = story.tell().await;
    let report = Workspace::find()?.folder().join("report.md");
    let summary = format!(
        "{} checks, {:.1} s to get ready, {:.1} s for the story",
        story.checks,
        prepared.as_secs_f64(),
        (start.elapsed() - prepared).as_secs_f64()
    );
    let outcome = match &told {
        Ok(()) => format!("All held: {summary}."),
        Err(error) => format!("**It failed** after {summary}.\n\n```text\n{error:#}\n```"),
    };
    story.report.write(&report, &outcome)?;
    screen.heading(if told.is_ok() { "All of it held" } else { "It did not hold" });
    screen.line(&format!("  {summary}"));
    screen.line(&format!("  the report: {}", report.display()));
    told.context("the demo failed")?;
    if keep {
        keep::run(screen, &cloud).await?;
    }
    Ok(())
}
