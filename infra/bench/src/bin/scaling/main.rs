//! The scaling benchmark: the decisions that are shipped, in simulations, next to what people use otherwise.

mod cluster;
mod options;
mod queue;

use std::io::Write as _;
use std::process::ExitCode;

use self::options::Options;

/// What `--only` calls the clusters.
const CLUSTERS: &str = "clusters";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout();
    // Nobody listens any more: then nobody is told.
    let mut say = |text: &str| drop(writeln!(out, "{text}"));
    let options = match options::parse(&arguments) {
        Ok(options) if options.help => {
            say(options::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(options) => options,
        Err(error) => {
            say(&format!("{error:#}\n\n{}", options::HELP));
            return ExitCode::from(2);
        }
    };
    match bench(&options, &mut say) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("a goal was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The queues, and then the clusters, as far as they were asked for. False when a goal is missed.
fn bench(options: &Options, say: &mut dyn FnMut(&str)) -> anyhow::Result<bool> {
    let only = options.only.as_deref();
    let queues = only == Some(CLUSTERS) || queue::bench(options, say)?;
    let has_clusters = options.trace.is_none() && only.is_none_or(|only| only == CLUSTERS);
    let clusters = !has_clusters || cluster::run(options.seeds, &options.out, say)?;
    Ok(queues && clusters)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one seed of the core traces of queues, and of the clusters.
    #[test]
    fn the_goals_are_met() {
        let out = std::env::temp_dir().join(format!("tidegate-scaling-{}", std::process::id()));
        let line = format!("--quick --out {}", out.display());
        let options = options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap();
        let mut said = String::new();
        let are_met = bench(&options, &mut |line| said.extend([line, "\n"])).unwrap();
        let has_plots = out.join("cluster-step.svg").exists() && out.join("queue.md").exists();
        std::fs::remove_dir_all(&out).unwrap();
        assert!(are_met && has_plots, "{said}");
    }
}
