//! Services that scale on a queue: every policy with the same messages, and what came of it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

mod csv;
mod engine;
mod goals;
mod plot;
mod policy;
mod run;
mod scene;
mod scenes;
mod sensors;
mod table;

use self::policy::Name;
use self::run::{Outcome, Sample};
use self::scene::{Kind, Scene, Work};
use crate::options::{Options, Trace};

/// A policy in a scene.
#[derive(Debug)]
pub(crate) struct Row {
    /// The policy.
    pub name: Name,
    /// The mean of all seeds.
    pub outcome: Outcome,
    /// How it went with the first seed.
    pub samples: Vec<Sample>,
}

/// A scene with every policy.
#[derive(Debug)]
pub(crate) struct Tried {
    /// The scene.
    pub scene: Scene,
    /// The policies.
    pub rows: Vec<Row>,
}

impl Tried {
    /// What came of a policy.
    pub(crate) fn outcome(&self, name: Name) -> Option<Outcome> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.outcome)
    }
}

/// All that was tried.
#[derive(Debug)]
pub(crate) struct Book {
    /// How many times each scene was drawn.
    pub seeds: u64,
    /// The scenes.
    pub tried: Vec<Tried>,
}

impl Book {
    /// Each policy over all traces of a kind.
    pub(crate) fn totals(&self, kind: Kind) -> Vec<(Name, Outcome)> {
        let total = |name: Name| {
            let tried = self.tried.iter().filter(|tried| tried.scene.kind == kind);
            let outcomes: Vec<Outcome> = tried.filter_map(|tried| tried.outcome(name)).collect();
            (name, Outcome::over_traces(&outcomes))
        };
        Name::ALL.into_iter().map(total).collect()
    }
}

/// Runs what was asked for, tells it to `say`, and writes tables and plots. False when a goal is missed that was to be
/// checked.
///
/// # Errors
///
/// When a trace can't be read, or a file can't be written.
pub(crate) fn bench(options: &Options, say: &mut dyn FnMut(&str)) -> Result<bool> {
    let scenes = chosen(options)?;
    let mut book = Book { seeds: options.seeds, tried: Vec::new() };
    let count = scenes.len();
    for (index, scene) in scenes.into_iter().enumerate() {
        say(&format!("[{}/{count}] {}: {}", index + 1, scene.name, scene.about));
        book.tried.push(try_all(scene, options.seeds));
    }
    let has_core = book.tried.iter().filter(|tried| tried.scene.kind == Kind::Core).count() > 1;
    let checked = if has_core { goals::check(&book) } else { Vec::new() };
    let line = |goal: &goals::Goal| format!("- {}: {}\n", if goal.is_met { "met" } else { "MISSED" }, goal.what);
    let lines: String = checked.iter().map(line).collect();
    let goals = if lines.is_empty() { lines } else { format!("\n## Goals\n\n{lines}") };
    say(&format!("\n{}{goals}", table::report(&book, false)));
    write(&options.out, &book, &format!("{}{goals}", table::report(&book, true)))?;
    say(&format!("tables and plots are in {}", options.out.display()));
    Ok(!options.quick || checked.iter().all(|goal| goal.is_met))
}

/// The scenes that were asked for.
fn chosen(options: &Options) -> Result<Vec<Scene>> {
    let mut scenes = match &options.trace {
        Some(trace) => vec![from_file(trace)?],
        None => scenes::all(),
    };
    if options.quick {
        scenes.retain(|scene| scene.kind == Kind::Core || scene.name == scenes::PROTECTED);
    }
    if let Some(only) = &options.only {
        let names: Vec<String> = scenes.iter().map(|scene| scene.name.clone()).collect();
        scenes.retain(|scene| scene.name == *only);
        if scenes.is_empty() {
            bail!("{only} is not a trace; there are: {}", names.join("; "));
        }
    }
    Ok(scenes)
}

fn from_file(trace: &Trace) -> Result<Scene> {
    let file = trace.file.display();
    let text = fs::read_to_string(&trace.file).with_context(|| format!("{file} can't be read"))?;
    let load = csv::parse(&text).with_context(|| file.to_string())?;
    let name = trace.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let about = format!(
        "{} seconds a message, which may wait {}; {} to {} tasks of {}{}",
        trace.service_time,
        trace.target_wait,
        trace.min,
        trace.max,
        trace.concurrency,
        if trace.is_protected { ", protected" } else { "" }
    );
    Ok(Scene {
        cv: trace.cv,
        target_wait: trace.target_wait,
        min: trace.min,
        max: trace.max,
        concurrency: trace.concurrency,
        is_protected: trace.is_protected,
        ..Scene::new(&name, Kind::File, &about, load).taking(trace.service_time)
    })
}

/// A scene with every policy: each seed draws its messages once, for all of them.
fn try_all(scene: Scene, seeds: u64) -> Tried {
    let mut runs: Vec<(Name, Vec<Outcome>, Vec<Sample>)> =
        Name::ALL.into_iter().map(|name| (name, Vec::new(), Vec::new())).collect();
    for seed in 1..=seeds {
        let work = Work::draw(&scene, seed);
        for (name, outcomes, samples) in &mut runs {
            let run = run::run(&scene, &work, *name, seed);
            outcomes.push(run.outcome);
            if seed == 1 {
                *samples = run.samples;
            }
        }
    }
    let row = |(name, outcomes, samples): (Name, Vec<Outcome>, Vec<Sample>)| Row {
        name,
        outcome: Outcome::mean(&outcomes),
        samples,
    };
    Tried { scene, rows: runs.into_iter().map(row).collect() }
}

fn write(folder: &Path, book: &Book, report: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    for tried in &book.tried {
        let name: String =
            tried.scene.name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
        plot::page(&folder.join(format!("queue-{name}.svg")), tried)?;
    }
    let file = folder.join("queue.md");
    fs::write(&file, report).with_context(|| format!("{} can't be written", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::scene::Load;

    #[test]
    fn the_same_seeds_give_the_same_table() {
        let report = || {
            let load = Load::Rates((0..1800).map(|t| if t < 600 { 1.0 } else { 4.0 }).collect());
            let scene = Scene::new("small", Kind::File, "", load);
            table::report(&Book { seeds: 2, tried: vec![try_all(scene, 2)] }, true)
        };
        assert_eq!(report(), report());
    }
}
