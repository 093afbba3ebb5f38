//! The cluster benchmark: the shipped decision next to what people use otherwise, on the same traces and seeds.

use std::path::Path;

use anyhow::Context;
use plotters::prelude::*;

mod ours;
mod rivals;
mod traces;
mod world;

use self::rivals::Policy;
use self::traces::{TRACES, Trace};
use self::world::{HOUR, Outcome, STEP, World};

/// How often policies look, in seconds.
const LOOK: i64 = 15;

/// The goals: pending task-minutes and instance-hours to the ideal on `step`, minutes of high CPU on `hot`.
const STEP_PENDING: f64 = 350.0;
const STEP_HOURS: f64 = 1.4;
const HOT_MINUTES: f64 = 10.0;

/// A policy that has seen nothing yet.
type New = fn() -> Box<dyn Policy>;

/// The policies, by name.
const POLICIES: [(&str, New); 5] = [
    ("C1 +1 on alarm", || Box::new(rivals::OnAlarm::default())),
    ("C2 +1 repeated, -1 undrained", || Box::new(rivals::Repeated::default())),
    ("C3 CPU or reservation, +20 %", || Box::new(rivals::Reservation::default())),
    ("C4 capacity provider", || Box::new(rivals::CapacityProvider::default())),
    (OURS, || Box::new(ours::Tidegate::new(40.0))),
];
const OURS: &str = "Tidegate";

/// Runs all traces with all policies, tells the table to `say`, and writes a plot of each trace to `out`. Whether the goals
/// hold.
pub(crate) fn run(seeds: u64, out: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<bool> {
    std::fs::create_dir_all(out).with_context(|| format!("{} can't be made", out.display()))?;
    let mut holds = true;
    let [pending, p99, hours, killed, hot, most] = ["pending", "p99", "hours", "killed", "hot", "most"];
    say(
        "Clusters: task-minutes without a place, p99 of the wait for one (s), instance-hours to the ideal, tasks killed,",
    );
    say("minutes with CPU above 85 %, and the most instances.");
    say(&format!("  {:<30} {pending:>8} {p99:>6} {hours:>6} {killed:>6} {hot:>6} {most:>4}", ""));
    for trace in &TRACES {
        say(&format!("\n{}: {}", trace.name, trace.about));
        let mut plots = Vec::new();
        for (name, policy) in POLICIES {
            let outcomes: Vec<Outcome> =
                (1..=seeds.max(1)).map(|seed| simulate(trace, policy().as_mut(), seed)).collect();
            let row = Row::of(&outcomes);
            say(&format!(
                "  {name:<30} {:>8.0} {:>6} {:>6.2} {:>6.1} {:>6.1} {:>4}",
                row.pending, row.p99, row.hours, row.killed, row.hot, row.most
            ));
            holds &= name != OURS || row.is_good(trace.name);
            plots.extend(outcomes.into_iter().next().map(|outcome| (name, outcome.series)));
        }
        plot(&out.join(format!("cluster-{}.svg", trace.name)), trace, &plots)?;
    }
    say(&format!("\nThe goals of the cluster {}.", if holds { "hold" } else { "do NOT hold" }));
    Ok(holds)
}

fn simulate(trace: &Trace, policy: &mut dyn Policy, seed: u64) -> Outcome {
    let mut world = World::new(seed, trace.instances, (trace.services)());
    while world.now < trace.hours * HOUR {
        if world.now % world::MINUTE == 0 {
            (trace.change)(&mut world);
        }
        world.step();
        if world.now % LOOK < STEP {
            policy.look(&mut world);
        }
    }
    world.outcome()
}

/// A row of the table: the mean of all seeds, and the most instances of any.
struct Row {
    pending: f64,
    p99: i64,
    hours: f64,
    killed: f64,
    hot: f64,
    most: usize,
}

impl Row {
    fn of(outcomes: &[Outcome]) -> Self {
        let count = f64::from(u32::try_from(outcomes.len()).unwrap_or(1));
        let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / count;
        let mut placements: Vec<i64> = outcomes.iter().flat_map(|outcome| outcome.placements.clone()).collect();
        placements.sort_unstable();
        Self {
            pending: mean(|outcome| outcome.pending),
            p99: placements.get(placements.len() * 99 / 100).copied().unwrap_or_default(),
            hours: mean(|outcome| outcome.instance_hours / outcome.ideal_hours),
            killed: mean(|outcome| f64::from(outcome.killed)),
            hot: mean(|outcome| f64::from(outcome.hot_minutes)),
            most: outcomes.iter().map(|outcome| outcome.most).max().unwrap_or_default(),
        }
    }

    fn is_good(&self, trace: &str) -> bool {
        let is_unharmed = self.killed < 0.5;
        match trace {
            "step" => self.pending <= STEP_PENDING && self.hours <= STEP_HOURS && is_unharmed,
            "hot" => self.hot <= HOT_MINUTES && is_unharmed,
            "day" => self.hours <= STEP_HOURS && is_unharmed,
            // EC2 leaves two minutes, and the others may have no room.
            "spot" => true,
            _ => is_unharmed,
        }
    }
}

/// What is drawn: which column of a series, and what it is called.
const PANELS: [(usize, &str); 3] = [(1, "instances"), (3, "tasks that wait"), (4, "CPU in percent")];

fn plot(path: &Path, trace: &Trace, plots: &[(&str, Vec<[f64; 5]>)]) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, (1000, 900)).into_drawing_area();
    root.fill(&WHITE)?;
    let hours = world::seconds(trace.hours);
    for (area, (column, title)) in root.split_evenly((3, 1)).iter().zip(PANELS) {
        let value = |row: &[f64; 5]| row.get(column).copied().unwrap_or_default();
        let top = plots.iter().flat_map(|(_, series)| series.iter().map(value)).fold(1.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{}: {title}", trace.name), ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(45)
            .build_cartesian_2d(0.0..hours, 0.0..top * 1.1)?;
        chart.configure_mesh().x_desc("hours").light_line_style(TRANSPARENT).draw()?;
        for (index, (name, series)) in plots.iter().enumerate() {
            let width = if *name == OURS { 3 } else { 1 };
            let style = Palette99::pick(index).stroke_width(width);
            let line =
                LineSeries::new(series.iter().map(|row| (row.first().copied().unwrap_or_default(), value(row))), style);
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style);
            chart.draw_series(line)?.label(*name).legend(legend);
        }
        if column == 1 {
            let ideal = plots.first().map(|(_, series)| series.as_slice()).unwrap_or_default();
            let line = ideal.iter().map(|[hour, _, ideal, ..]| (*hour, *ideal));
            let legend = |(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK);
            chart.draw_series(LineSeries::new(line, BLACK))?.label("ideal").legend(legend);
            chart.configure_series_labels().border_style(BLACK).background_style(WHITE.mix(0.8)).draw()?;
        }
    }
    root.present()?;
    Ok(())
}
