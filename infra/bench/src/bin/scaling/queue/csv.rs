//! A trace from a file: lines of second and arrivals.

use anyhow::{Context as _, Result, bail, ensure};

use super::scene::Load;

/// No trace is longer, in seconds: 31 days.
const LONGEST: usize = 31 * 86_400;
/// No second has more messages.
const MOST: f64 = 1_000_000.0;

/// Reads `second,arrivals`, with or without a header. Whole numbers are messages that come in that second, and a second
/// without a line has none; numbers with a decimal point are rates, messages a second, and each holds until the next line.
///
/// # Errors
///
/// With the number of the line that can't be read.
pub(crate) fn parse(text: &str) -> Result<Load> {
    let mut rows: Vec<(usize, f64)> = Vec::new();
    let mut are_rates = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') || (rows.is_empty() && is_header(line)) {
            continue;
        }
        let (second, arrivals) = row(line).with_context(|| format!("line {}: {line:?}", index + 1))?;
        are_rates |= arrivals.fract() != 0.0 || line.contains('.');
        let is_later = rows.last().is_none_or(|(last, _)| second > *last);
        ensure!(is_later, "line {}: second {second} is not after the one before", index + 1);
        rows.push((second, arrivals));
    }
    let Some((last, _)) = rows.last().copied() else { bail!("there is no line of second and arrivals") };
    Ok(if are_rates { Load::Rates(held(&rows, last)) } else { Load::Counts(counted(&rows, last)) })
}

/// A first line without a number in it.
fn is_header(line: &str) -> bool {
    line.split([',', ';', '\t']).all(|field| field.trim().parse::<f64>().is_err())
}

fn row(line: &str) -> Result<(usize, f64)> {
    let fields: Vec<&str> = line.split([',', ';', '\t']).map(str::trim).collect();
    let [second, arrivals] = fields.as_slice() else { bail!("expected two fields, second and arrivals") };
    let second: usize = second.parse().context("the second must be a whole number, counted from the beginning")?;
    ensure!(second < LONGEST, "second {second}: a trace lasts at most 31 days, and is counted from its beginning");
    let arrivals: f64 = arrivals.parse().context("the arrivals must be a number")?;
    ensure!((0.0..=MOST).contains(&arrivals), "the arrivals must be between 0 and 1,000,000");
    Ok((second, arrivals))
}

fn counted(rows: &[(usize, f64)], last: usize) -> Vec<u32> {
    let mut counts = vec![0; last + 1];
    for (second, arrivals) in rows {
        if let Some(count) = counts.get_mut(*second) {
            *count = *arrivals as u32;
        }
    }
    counts
}

/// The last line holds for as long as the one before it.
fn held(rows: &[(usize, f64)], last: usize) -> Vec<f64> {
    let step = rows.iter().rev().nth(1).map_or(1, |(before, _)| last - before);
    let mut rates = Vec::with_capacity(last + step);
    for (second, rate) in rows {
        let before = rates.last().copied().unwrap_or_default();
        rates.resize(*second, before);
        rates.push(*rate);
    }
    rates.resize(last + step, rates.last().copied().unwrap_or_default());
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_messages_and_others_are_rates() {
        let cases = [
            ("second,arrivals\n0,2\n1,0\n3,5\n", Load::Counts(vec![2, 0, 0, 5])),
            ("0,2\r\n1,3\r\n", Load::Counts(vec![2, 3])),
            ("# from a log\n\n2;7", Load::Counts(vec![0, 0, 7])),
            ("second,arrivals\n0,1.5\n1,0.25\n", Load::Rates(vec![1.5, 0.25])),
            ("0,2.0\n2,4.0\n", Load::Rates(vec![2.0, 2.0, 4.0, 4.0])),
            ("2,4.0\n", Load::Rates(vec![0.0, 0.0, 4.0])),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let cases = [
            ("", "there is no line of second and arrivals"),
            ("second,arrivals\n", "there is no line of second and arrivals"),
            ("0,1\nx,2", "line 2: \"x,2\": the second must be a whole number, counted from the beginning"),
            ("0,1\n1,many", "line 2: \"1,many\": the arrivals must be a number"),
            ("0,1\n1", "line 2: \"1\": expected two fields, second and arrivals"),
            ("0,-1", "line 1: \"0,-1\": the arrivals must be between 0 and 1,000,000"),
            ("0,NaN", "line 1: \"0,NaN\": the arrivals must be between 0 and 1,000,000"),
            ("5,1\n5,1", "line 2: second 5 is not after the one before"),
            (
                "1763900000,1",
                "line 1: \"1763900000,1\": second 1763900000: a trace lasts at most 31 days, and is counted from its beginning",
            ),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
