//! Deployment frequency: how often something goes live, and Four Keys' bucket.

use super::{Bucket, Day, Frequency};

/// A month, in days.
const MONTH: usize = 30;
const NO_RECORD: &str = "no record is known";
const NO_DAY: &str = "the window has no day";
const NO_WEEK: &str = "the window is shorter than a week";
const NO_MONTH: &str = "a window of less than 30 days does not tell Monthly from Yearly";

/// The frequency of what went live on each day of the window. `is_known`: whether there is any record, so that a day
/// without one means something.
pub(super) fn frequency(by_day: Vec<Day>, is_known: bool) -> Frequency {
    let deployments: u64 = by_day.iter().map(|day| day.deployments).sum();
    let with_deployments = |days: &[Day]| days.iter().filter(|day| day.deployments > 0).count() as u64;
    // Counted back from the last day, because what is recent matters most.
    let weeks: Vec<u64> = by_day.rchunks_exact(7).map(with_deployments).collect();
    let months = by_day.rchunks_exact(MONTH).map(|month| month.iter().map(|day| day.deployments).sum());
    let median_week = middle(weeks.clone()).filter(|_| is_known);
    let median_month = middle(months.collect());
    let (bucket, unknown_because) = match (median_week, median_month) {
        _ if !is_known => (None, Some(NO_RECORD)),
        _ if by_day.is_empty() => (None, Some(NO_DAY)),
        (None, _) => (None, Some(NO_WEEK)),
        (Some(week), _) if week >= 3.0 => (Some(Bucket::Daily), None),
        (Some(week), _) if week >= 1.0 => (Some(Bucket::Weekly), None),
        (_, None) => (None, Some(NO_MONTH)),
        (_, Some(month)) if month >= 1.0 => (Some(Bucket::Monthly), None),
        _ => (Some(Bucket::Yearly), None),
    };
    let days = by_day.len() as u64;
    Frequency {
        per_day: (is_known && days > 0).then(|| deployments as f64 / days as f64),
        days,
        days_with_deployments: with_deployments(&by_day),
        median_days_per_week: median_week,
        weeks: weeks.len() as u64,
        bucket,
        unknown_because,
        by_day,
    }
}

/// The median of counts, which may lie between two of them.
fn middle(mut counts: Vec<u64>) -> Option<f64> {
    counts.sort_unstable();
    let upper = *counts.get(counts.len() / 2)?;
    let lower = *counts.get((counts.len() - 1) / 2)?;
    Some((lower as f64 + upper as f64) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, NaiveDate};

    /// Days with these numbers of deployments, the last on the 30th of November.
    fn days(deployments: &[u64]) -> Vec<Day> {
        let last: NaiveDate = "2026-11-30".parse().unwrap();
        let ago = (0..deployments.len() as u64).rev();
        deployments
            .iter()
            .zip(ago)
            .map(|(deployments, ago)| Day { date: last - Days::new(ago), deployments: *deployments, by_others: 0 })
            .collect()
    }

    fn repeated(pattern: &[u64], times: usize) -> Vec<u64> {
        pattern.repeat(times)
    }

    #[test]
    fn the_bucket_is_that_of_four_keys() {
        use Bucket::{Daily, Monthly, Weekly, Yearly};
        let once_in = |days: usize| (0..days).map(|day| u64::from(day == 0)).collect::<Vec<_>>();
        for (what, deployments, bucket, median) in [
            ("three days of each week", repeated(&[1, 0, 5, 0, 1, 0, 0], 13), Some(Daily), Some(3.0)),
            ("many on one day of each week", repeated(&[9, 0, 0, 0, 0, 0, 0], 13), Some(Weekly), Some(1.0)),
            ("one week of two", repeated(&once_in(14), 6), Some(Monthly), Some(0.5)),
            ("one in thirty days", repeated(&once_in(30), 3), Some(Monthly), Some(0.0)),
            ("one in ninety days", once_in(90), Some(Yearly), Some(0.0)),
            ("none", repeated(&[0], 90), Some(Yearly), Some(0.0)),
            ("none in a short window", repeated(&[0], 29), None, Some(0.0)),
            ("daily in a short window", repeated(&[1], 7), Some(Daily), Some(7.0)),
            ("less than a week", repeated(&[1], 6), None, None),
            ("no day", vec![], None, None),
        ] {
            let found = frequency(days(&deployments), true);
            assert_eq!((found.bucket, found.median_days_per_week), (bucket, median), "{what}");
            assert_eq!(found.unknown_because.is_some(), bucket.is_none(), "{what}");
        }
    }

    #[test]
    fn days_without_deployments_count() {
        let found = frequency(days(&[0, 3, 0, 0]), true);
        assert_eq!((found.per_day, found.days, found.days_with_deployments), (Some(0.75), 4, 1));
    }

    #[test]
    fn no_record_is_not_no_deployment() {
        let found = frequency(days(&repeated(&[0], 90)), false);
        assert_eq!((found.per_day, found.median_days_per_week, found.bucket), (None, None, None));
        assert_eq!(found.unknown_because, Some(NO_RECORD));
    }
}
