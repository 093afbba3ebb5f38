//! `cargo run --package local`: asks the functions in the local cloud.

mod explain;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::explain::Question;

const HELP: &str = "\
Asks Tidegate what it would do about an event, and why. Nothing is deployed, recorded or announced.

  cargo run --package local -- explain EVENT.json [--function deploy|notify]
  cargo run --package local -- --help

EVENT.json is an event as EventBridge delivers it, such as those in events/, or {\"source\":\"tidegate\",
\"detail-type\":\"Sweep\"} for a look at every service. Events of aws.ecs are for notify and all others for deploy, unless
--function says so.

The cloud that `cargo demo -- --keep` left running is asked. Where none runs, one is started with the services of the
demo, asked, and ended; it needs Rust and Python 3.10 or newer.

It ends with 0 when the function answered, with 1 when it did not, with 2 when it was asked for something it does not
know.";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    Explain(Question),
    Help,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = parse(&arguments) else {
        complain(&format!("{:?} is not among what this knows.\n\n{HELP}", arguments.join(" ")));
        return ExitCode::from(2);
    };
    match run(command) {
        Ok(answer) => {
            // A reader that has gone, such as `head`, wants no more of this.
            _ = writeln!(std::io::stdout(), "{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<String> {
    match command {
        Command::Explain(question) => Runtime::new()?.block_on(explain::ask(&question)),
        Command::Help => Ok(HELP.to_owned()),
    }
}

fn parse(arguments: &[String]) -> Option<Command> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let explain = |event: &str, function: Option<&str>| {
        Command::Explain(Question { event: event.into(), function: function.map(str::to_owned) })
    };
    Some(match arguments[..] {
        ["--help" | "-h"] | ["explain", "--help" | "-h"] => Command::Help,
        ["explain", event] => explain(event, None),
        ["explain", event, "--function", function] | ["explain", "--function", function, event] => {
            explain(event, Some(function))
        }
        _ => return None,
    })
}

fn complain(text: &str) {
    // Nobody is left to tell if this fails.
    _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &str) -> Option<Command> {
        parse(&arguments.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_function_may_be_named_before_and_after_the_event() {
        let question = Question { event: "push.json".into(), function: Some("deploy".to_owned()) };
        assert_eq!(parsed("explain push.json --function deploy"), Some(Command::Explain(question)));
        assert_eq!(parsed("explain push.json --function deploy"), parsed("explain --function deploy push.json"));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for arguments in ["", "explain", "explain push.json deploy", "explain push.json --function", "push a:b"] {
            assert_eq!(parsed(arguments), None, "{arguments}");
        }
    }
}
