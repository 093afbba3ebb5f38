//! How well deployments went: DORA's measures, from the records of a window of days.

use chrono::{Days, NaiveDate};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;

use super::Notifier;
use crate::decision::Handled;
use crate::dora;
use crate::error::Error;
use crate::events::ReportAsked;
use crate::record::Record;

/// How many days are read at once.
const DAYS_AT_ONCE: usize = 8;

impl Notifier {
    /// The report that is asked for, as JSON and as text.
    pub(super) async fn report(&self, asked: &ReportAsked) -> Result<Handled, Error> {
        let to = self.platform.now().date_naive();
        let from = to.checked_sub_days(Days::new(u64::from(asked.days) - 1)).unwrap_or(to);
        // What failed the day before may be mended on the first day.
        let first = from.pred_opt().unwrap_or(from);
        let days: Vec<NaiveDate> = first.iter_days().take_while(|day| *day <= to).collect();
        let of_days: Vec<Vec<Record>> =
            stream::iter(days).map(|day| self.store.deployments_of(day)).buffered(DAYS_AT_ONCE).try_collect().await?;
        let mut records: Vec<Record> = of_days.into_iter().flatten().collect();
        if let Some(service) = &asked.service {
            records.retain(|record| record.service_ref().to_string() == *service);
        }
        let report = dora::report(&records, from, to);
        let mut handled = Handled::default();
        handled.answer.insert("text".into(), json!(dora::text(&report)));
        handled.answer.insert("report".into(), json!(report));
        Ok(handled)
    }
}
