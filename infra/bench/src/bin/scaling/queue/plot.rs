//! A page for each trace: backlog, oldest wait and tasks over time, ours and the best of each other kind.

use std::path::Path;

use anyhow::{Error, Result};
use plotters::prelude::*;

use super::Tried;
use super::policy::Name;
use super::run::Sample;
use super::scene::Scene;

const SIZE: (u32, u32) = (1200, 1000);
/// The height of a panel with a legend, over that of its lines.
const LEGEND_ROOM: f64 = 1.5;
const GREY: RGBColor = RGBColor(120, 120, 120);
/// Colours that people who see colours differently can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(230, 159, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// A line of all panels.
struct Line<'a> {
    name: String,
    colour: RGBColor,
    samples: &'a [Sample],
}

/// Draws the page of a trace.
///
/// # Errors
///
/// When the file can't be written.
pub(crate) fn page(file: &Path, tried: &Tried) -> Result<()> {
    let lines: Vec<Line<'_>> = shown(tried)
        .into_iter()
        .zip(COLOURS)
        .filter_map(|(name, colour)| {
            let row = tried.rows.iter().find(|row| row.name == name)?;
            let outcome = row.outcome;
            let figures = format!("{:.1} min late, {:.2}× work", outcome.violation_minutes, outcome.over_work());
            let label = format!("{} ({figures})", name.label().replace('*', ""));
            Some(Line { name: label, colour, samples: &row.samples })
        })
        .collect();
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let titled = root.margin(10, 10, 10, 20).titled(&title(&tried.scene), ("sans-serif", 26)).map_err(failed)?;
    let panels = titled.split_evenly((3, 1));
    let [backlog, wait, tasks] = panels.as_slice() else { return Ok(()) };
    panel(backlog, "messages waiting", &lines, None, true, |sample| sample.backlog)?;
    panel(wait, "oldest wait, seconds", &lines, Some(tried.scene.target_wait), false, |sample| sample.oldest)?;
    panel(tasks, "tasks (running; desired thin)", &lines, None, false, |sample| sample.running)?;
    root.present().map_err(failed)
}

/// Ours, and of each other family the one with the fewest violations.
pub(crate) fn shown(tried: &Tried) -> Vec<Name> {
    let families =
        [[Name::Step, Name::StepTuned], [Name::Tracking, Name::TrackingTuned], [Name::Keda, Name::KedaTuned]];
    let rank = |name: &Name| tried.outcome(*name).map_or(f64::MAX, |it| it.violation_minutes + it.over_work() / 100.0);
    let best = families.iter().filter_map(|family| family.iter().min_by(|one, two| rank(one).total_cmp(&rank(two))));
    std::iter::once(Name::Ours).chain(best.copied()).collect()
}

fn title(scene: &Scene) -> String {
    let about: String = scene.about.chars().take(95).collect();
    format!("{}: {about}", scene.name)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    what: &str,
    lines: &[Line<'_>],
    limit: Option<f64>,
    has_legend: bool,
    value: impl Fn(&Sample) -> f64,
) -> Result<()> {
    let hours = |sample: &Sample| sample.at / 3600.0;
    let all = || lines.iter().flat_map(|line| line.samples);
    let end = all().map(hours).fold(0.01, f64::max);
    let highest = all().map(|sample| value(sample).max(if is_tasks(what) { sample.desired } else { 0.0 }));
    let top = highest.fold(limit.unwrap_or(1.0) * 1.2, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(38)
        .y_label_area_size(75)
        .build_cartesian_2d(0.0..end, 0.0..top * if has_legend { LEGEND_ROOM } else { 1.05 })
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1))
        .x_desc("hours")
        .y_desc(what)
        .axis_desc_style(("sans-serif", 19))
        .label_style(("sans-serif", 17))
        .x_label_formatter(&|hour| trimmed(*hour))
        .y_label_formatter(&|value| trimmed(*value))
        .draw()
        .map_err(failed)?;
    if let Some(limit) = limit {
        let style = GREY.stroke_width(1);
        chart.draw_series(LineSeries::new([(0.0, limit), (end, limit)], style)).map_err(failed)?;
    }
    for line in lines.iter().filter(|_| has_legend) {
        let style = line.colour.stroke_width(3);
        let named = chart.draw_series(LineSeries::new(std::iter::empty(), style)).map_err(failed)?;
        named.label(line.name.clone()).legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    // Ours last, on top of the others.
    for line in lines.iter().rev() {
        if is_tasks(what) {
            let desired = line.samples.iter().map(|sample| (hours(sample), sample.desired));
            chart.draw_series(LineSeries::new(desired, line.colour.mix(0.45).stroke_width(1))).map_err(failed)?;
        }
        let points = line.samples.iter().map(|sample| (hours(sample), value(sample)));
        chart.draw_series(LineSeries::new(points, line.colour.stroke_width(2))).map_err(failed)?;
    }
    if has_legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .legend_area_size(32)
            .margin(8)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font(("sans-serif", 17))
            .draw()
            .map_err(failed)?;
    }
    Ok(())
}

fn is_tasks(what: &str) -> bool {
    what.starts_with("tasks")
}

/// A number without the zeros behind its point.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::msg(format!("the plot could not be drawn: {error}"))
}
