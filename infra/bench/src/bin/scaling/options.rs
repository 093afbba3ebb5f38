//! What the command line asks for.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// What the benchmark knows.
pub(crate) const HELP: &str = "\
How Tidegate scales, next to what people use otherwise, in a simulation. Takes minutes.

  cargo run -p bench --bin scaling              all traces of queues and clusters; tables here, and with
                                                plots in target/bench/scaling
  cargo run -p bench --bin scaling -- --quick   the core traces of queues, and all of clusters; ends with 1
                                                when a goal is missed

  --only TRACE          one of the traces, by its name; or clusters
  --seeds N             how many times each is drawn (default 3; 1 with --quick)
  --out DIR             where tables and plots go (default target/bench/scaling)

  --trace FILE.csv      a trace of your own: lines of second,arrivals. Whole numbers are messages that come in that
                        second; numbers with a decimal point are rates, which hold until the next line. With it:
  --service-time S      seconds a message takes, on average (default 5)
  --cv X                how service times vary: 0 not at all, 1 exponential, anything else lognormal (default 1)
  --target-wait S       seconds a message may wait (default 60)
  --min N, --max N      bounds of the tasks (default 1 and 200)
  --concurrency N       messages a task works on at once (default 1)
  --protected           the tasks protect themselves while they work

  --help                this text

It ends with 2 when it was asked for something it does not know.";

/// What to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    /// Only print [`HELP`].
    pub help: bool,
    /// The core traces only, with the goals checked.
    pub quick: bool,
    /// One trace.
    pub only: Option<String>,
    /// How many times each trace is drawn.
    pub seeds: u64,
    /// Where tables and plots go.
    pub out: PathBuf,
    /// A trace from a file.
    pub trace: Option<Trace>,
}

/// A trace from a file, and the service in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trace {
    /// The file.
    pub file: PathBuf,
    /// Seconds a message takes.
    pub service_time: f64,
    /// How that varies.
    pub cv: f64,
    /// Seconds a message may wait.
    pub target_wait: f64,
    /// Fewest tasks.
    pub min: u32,
    /// Most tasks.
    pub max: u32,
    /// Messages a task works on at once.
    pub concurrency: u32,
    /// Whether the tasks protect themselves.
    pub is_protected: bool,
}

/// Reads the command line.
///
/// # Errors
///
/// When something in it is not known, or makes no sense.
pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
    let mut options =
        Options { help: false, quick: false, only: None, seeds: 0, out: "target/bench/scaling".into(), trace: None };
    let mut trace = Trace {
        file: PathBuf::new(),
        service_time: 5.0,
        cv: 1.0,
        target_wait: 60.0,
        min: 1,
        max: 200,
        concurrency: 1,
        is_protected: false,
    };
    let mut file = None;
    let mut of_trace = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => options.help = true,
            "--quick" => options.quick = true,
            "--only" => options.only = Some(value()?.clone()),
            "--out" => options.out = value()?.into(),
            "--trace" => file = Some(PathBuf::from(value()?)),
            "--seeds" => options.seeds = number(argument, value()?, 1, 1000)?,
            _ => {
                of_trace.push(argument.clone());
                match argument.as_str() {
                    "--service-time" => trace.service_time = number(argument, value()?, 0.001, 86_400.0)?,
                    "--cv" => trace.cv = number(argument, value()?, 0.0, 20.0)?,
                    "--target-wait" => trace.target_wait = number(argument, value()?, 1.0, 86_400.0)?,
                    "--min" => trace.min = number(argument, value()?, 0, 10_000)?,
                    "--max" => trace.max = number(argument, value()?, 1, 10_000)?,
                    "--concurrency" => trace.concurrency = number(argument, value()?, 1, 1000)?,
                    "--protected" => trace.is_protected = true,
                    _ => bail!("{argument} is not known"),
                }
            }
        }
    }
    ensure!(trace.min <= trace.max, "--min {} is more than --max {}", trace.min, trace.max);
    if let (None, Some(option)) = (&file, of_trace.first()) {
        bail!("{option} describes the service of --trace, which is missing");
    }
    options.trace = file.map(|file| Trace { file, ..trace });
    ensure!(!options.quick || options.trace.is_none(), "--quick runs the core traces, not a file");
    if options.seeds == 0 {
        options.seeds = if options.quick { 1 } else { 3 };
    }
    Ok(options)
}

fn number<N: FromStr + PartialOrd + std::fmt::Display>(option: &str, text: &str, least: N, most: N) -> Result<N> {
    let value = text.parse().ok().filter(|value| (&least..=&most).contains(&value));
    value.with_context(|| format!("{option} {text}: expected a number between {least} and {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_trace_has_its_service() {
        let line =
            "--trace a.csv --service-time 0.5 --target-wait 30 --min 0 --max 50 --concurrency 4 --cv 0 --protected";
        let options = parsed(line).unwrap();
        let expected = Trace {
            file: "a.csv".into(),
            service_time: 0.5,
            cv: 0.0,
            target_wait: 30.0,
            min: 0,
            max: 50,
            concurrency: 4,
            is_protected: true,
        };
        assert_eq!(options.trace, Some(expected));
        assert_eq!(options.seeds, 3);
        assert_eq!(parsed("--quick").unwrap().seeds, 1);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let cases = [
            ("--traces a.csv", "--traces is not known"),
            ("--trace", "--trace needs a value"),
            ("--trace a.csv --min 5 --max 4", "--min 5 is more than --max 4"),
            ("--trace a.csv --service-time NaN", "--service-time NaN: expected a number between 0.001 and 86400"),
            ("--trace a.csv --max 0", "--max 0: expected a number between 1 and 10000"),
            ("--seeds 0", "--seeds 0: expected a number between 1 and 1000"),
            ("--cv 1", "--cv describes the service of --trace, which is missing"),
            ("--quick --trace a.csv", "--quick runs the core traces, not a file"),
        ];
        for (line, expected) in cases {
            assert_eq!(parsed(line).unwrap_err().to_string(), expected, "{line}");
        }
    }
}
