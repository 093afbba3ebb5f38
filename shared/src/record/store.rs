//! The DynamoDB table: every write conditional, every read of a service one query.

mod indexes;
mod telling;

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, KeysAndAttributes, Put, TransactWriteItem, Update};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::indexes::OpenRecord;
use super::{Guard, History, Live, Record, ServiceItem, State, millis};
use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;

type Item = HashMap<String, AttributeValue>;

/// Sort key of a service's own item.
const SERVICE: &str = "SERVICE";
/// What the sort key of a record begins with.
const DEPLOYMENT: &str = "DEPLOYMENT#";
/// Sort key of what keeps deployments from a service.
const GUARD: &str = "GUARD";
/// What the sort key of that which runs begins with.
const LIVE: &str = "LIVE#";
/// Partition and sort key of the sweep's place.
const SWEEP: &str = "SWEEP";

/// How many of a service's records its history holds. Deployments of one service that are open at once are few; the
/// rest is for telling whether a digest has failed before.
const RECORDS_READ: i32 = 25;

/// The index of records that are not at rest, its hash key, and that key's value. The notify function's sweep reads it.
const OPEN: &str = "open";
/// The index of deployments by day, and its hash key: the UTC date.
const DAYS: &str = "days";
const DAY: &str = "day";
/// The index of deployments that are proven good and were not taken back, and its hash key: `<cluster>/<service>`.
const GOOD: &str = "good";
/// The index of what runs everywhere, its hash key, and that key's value.
const INDEX_OF_LIVE: &str = "live";
/// The index of services that are watched, its hash key, and that key's value. The rollback function's sweep reads it.
const WATCH: &str = "watch";

/// What changes of a record beside its state.
const KEPT_BESIDE_THE_STATE: &[&str] = &[
    "pk",
    "sk",
    "slack_channel",
    "slack_ts",
    "slack_details_ts",
    "slack_details_call",
    "link_to_bad",
    "link_to_recovery",
    "links_changed",
    "links_told",
    "metrics_counted",
    "slack_told",
    "sns_told",
    "amazon_q_told",
    "newrelic_told",
    "cdevents_told",
    "webhook_told",
    "metrics_told",
    "tell_after",
    "telling_until",
    "progress",
    "provenance",
    "provenance_from",
    "tag_from",
];

const EXISTS: &str = "attribute_exists(pk)";

/// What came of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was written.
    Yes,
    /// Somebody else has written first: read again.
    Outrun,
}

/// What a write does to that which keeps deployments from the service.
#[derive(Debug, Clone, Copy)]
pub enum Guarding<'a> {
    /// Nothing.
    Not,
    /// The write is refused if this digest is in quarantine, or the service is held.
    RefusesDigest(&'a str),
    /// It becomes this, if nobody has changed it meanwhile.
    Becomes(&'a Guard),
}

/// The table.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    table: String,
}

impl Store {
    /// The table named `table`, through `client`.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    /// What the table knows of `service`: one consistent query. The service's item sorts behind all records, so that
    /// reading backwards finds it first and then the newest records. Where many decisions not to deploy came after the
    /// newest intention, its record takes one more read.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where an item can't be read.
    pub async fn history(&self, service: &ServiceRef) -> Result<History, Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(partition(service)))
            .scan_index_forward(false)
            .consistent_read(true)
            .limit(RECORDS_READ)
            .send()
            .await
            .map_err(|error| from_sdk("Query", service.to_string(), &error))?;
        let mut history = History::default();
        for item in answer.items.unwrap_or_default() {
            match item.get("sk").and_then(|sk| sk.as_s().ok()).map(String::as_str) {
                Some(SERVICE) => history.item = Some(read(item, service)?),
                Some(GUARD) => history.guard = read(item, service)?,
                Some(sk) if sk.starts_with(LIVE) => history.live.push(read(item, service)?),
                Some(sk) if sk.starts_with(DEPLOYMENT) => history.records.push(read(item, service)?),
                _ => {}
            }
        }
        let missing = history.item.as_ref().filter(|item| !item.record.is_empty() && history.current().is_none());
        if let Some(id) = missing.map(|item| item.record.clone()) {
            history.records.extend(self.record(service, &id).await?);
        }
        Ok(history)
    }

    /// One record, or `None` where there is none of this id.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where it can't be read.
    pub async fn record(&self, service: &ServiceRef, id: &str) -> Result<Option<Record>, Error> {
        let item = self.item(key(partition(service), format!("{DEPLOYMENT}{id}")), service).await?;
        item.map(|item| read(item, service)).transpose()
    }

    async fn item(&self, key: Item, resource: impl ToString) -> Result<Option<Item>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| from_sdk("GetItem", resource.to_string(), &error))?;
        Ok(answer.item)
    }

    /// The items of up to 100 services, by `<cluster>/<service>`: one call. Services without an item
    /// are absent, as are those that DynamoDB was too busy for.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where an item can't be read.
    pub async fn service_items(&self, services: &[ServiceRef]) -> Result<BTreeMap<String, ServiceItem>, Error> {
        let keys = services.iter().map(|service| key(partition(service), SERVICE.into())).collect();
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true);
        let answer = self
            .client
            .batch_get_item()
            .request_items(&self.table, built(wanted.build())?)
            .send()
            .await
            .map_err(|error| from_sdk("BatchGetItem", "the services' items", &error))?;
        let mut items = BTreeMap::new();
        for item in answer.responses.unwrap_or_default().into_values().flatten() {
            let pk = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
            if let Some(service) = services.iter().find(|service| partition(service) == pk) {
                items.insert(service.to_string(), read(item, service)?);
            }
        }
        Ok(items)
    }

    /// Writes a decision: the service's item moves from the generation that `seen` holds to that of `item`, and
    /// `records` are put beside it, all or none. A record that `seen` holds is changed, another one is new.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn write(
        &self,
        seen: &History,
        item: &ServiceItem,
        records: &[&Record],
        guarding: Guarding<'_>,
    ) -> Result<Written, Error> {
        let Some(service) = records.first().map(|record| record.service_ref()) else {
            return Ok(Written::Yes);
        };
        let guard = match seen.item {
            None => "attribute_not_exists(pk)",
            Some(_) => "generation = :seen",
        };
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(write(item, key(partition(&service), SERVICE.into()))?))
            .condition_expression(guard)
            .set_expression_attribute_values(
                seen.item.as_ref().map(|item| Item::from([(":seen".into(), number(item.generation))])),
            );
        let mut writes = vec![TransactWriteItem::builder().put(built(put.build())?).build()];
        for record in records {
            writes.push(self.put_record(record, seen.records.iter().find(|known| known.id == record.id))?);
            writes.extend(self.put_live(record, seen)?);
        }
        writes.extend(self.guard(&service, seen, guarding)?);
        self.transact(writes, &service).await
    }

    /// Writes what came of the intention `before` and gives up its lease, both or neither, if it is still the service's
    /// newest decision.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn settle(&self, before: &Record, after: &Record) -> Result<Written, Error> {
        let writes = self.settling(before, after)?;
        self.transact(writes, &before.service_ref()).await
    }

    /// The same, and with it the next state of another record.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn settle_both(
        &self,
        before: &Record,
        after: &Record,
        (other, then): (&Record, &Record),
    ) -> Result<Written, Error> {
        let mut writes = self.settling(before, after)?;
        writes.push(self.put_record(then, Some(other))?);
        self.transact(writes, &before.service_ref()).await
    }

    /// Gives the intention `before` another lease, until `until`, if it is still the service's newest decision. Under a new
    /// generation: whoever was about to take it over is refused. `None` where somebody has.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn renew(&self, before: &Record, until: DateTime<Utc>) -> Result<Option<Record>, Error> {
        let service = before.service_ref();
        let after = Record { generation: before.generation + 1, version: before.version + 1, ..before.clone() };
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(partition(&service), SERVICE.into())))
            .update_expression("SET generation = :next, lease_until = :until")
            .condition_expression("generation = :ours")
            .expression_attribute_values(":ours", number(before.generation))
            .expression_attribute_values(":next", number(after.generation))
            .expression_attribute_values(":until", number(millis(until)));
        let writes = vec![
            TransactWriteItem::builder().update(built(update.build())?).build(),
            self.put_record(&after, Some(before))?,
        ];
        Ok((self.transact(writes, &service).await? == Written::Yes).then_some(after))
    }

    fn settling(&self, before: &Record, after: &Record) -> Result<Vec<TransactWriteItem>, Error> {
        let service = before.service_ref();
        let mut changes = vec!["lease_until = :none"];
        let mut update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key(partition(&service), SERVICE.into())))
            .condition_expression("generation = :ours")
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":ours", number(before.generation));
        match &after.ecs_deployment_id {
            Some(id) => {
                changes.push("ecs_deployment_id = :id");
                update = update.expression_attribute_values(":id", AttributeValue::S(id.clone()));
            }
            // The sweep must not take the digest for one that runs.
            None => {
                changes.push("digest = :nothing");
                update = update.expression_attribute_values(":nothing", AttributeValue::S(String::new()));
            }
        }
        let update = update.update_expression(format!("SET {}", changes.join(", ")));
        Ok(vec![
            TransactWriteItem::builder().update(built(update.build())?).build(),
            self.put_record(after, Some(before))?,
        ])
    }

    /// The last service of a sweep that had to stop early; `None` where the last one came to its end.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn sweep_cursor(&self) -> Result<Option<String>, Error> {
        let item = self.item(key(SWEEP.into(), SWEEP.into()), "the sweep's place").await?;
        let after = item.and_then(|item| item.get("after").and_then(|after| after.as_s().ok()).cloned());
        Ok(after.filter(|after| !after.is_empty()))
    }

    /// Keeps where the next sweep goes on; `None`: from the beginning.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn keep_sweep_cursor(&self, after: Option<&str>) -> Result<(), Error> {
        let mut item = key(SWEEP.into(), SWEEP.into());
        item.insert("after".into(), AttributeValue::S(after.unwrap_or_default().to_owned()));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map_err(|error| from_sdk("PutItem", "the sweep's place", &error))?;
        Ok(())
    }

    /// Writes a record's next state, if nobody has changed it since `before` was read, and what runs then. The digest of
    /// a deployment that has gone bad goes into quarantine with it.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn advance(&self, seen: &History, before: &Record, after: &Record) -> Result<Written, Error> {
        let mut writes = vec![self.put_record(after, Some(before))?];
        writes.extend(self.put_live(after, seen)?);
        let is_new = after.has_gone_bad() && !seen.guard.quarantine.contains_key(&after.digest);
        let guard = is_new.then(|| seen.guard.with(after, after.changed_at()));
        let guarding = guard.as_ref().map_or(Guarding::Not, Guarding::Becomes);
        writes.extend(self.guard(&before.service_ref(), seen, guarding)?);
        self.transact(writes, &before.service_ref()).await
    }

    /// Writes what keeps deployments from `service`, if nobody has changed it since `seen` was read.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn keep_guard(&self, service: &ServiceRef, seen: &History, guard: &Guard) -> Result<Written, Error> {
        let write = self.guard(service, seen, Guarding::Becomes(guard))?;
        self.transact(write.into_iter().collect(), service).await
    }

    /// Ends the watching of a service, if nothing was decided about it since `item` was read.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn watched(&self, service: &ServiceRef, item: &ServiceItem) -> Result<Written, Error> {
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(partition(service), SERVICE.into())))
            .update_expression("REMOVE watch")
            .condition_expression("generation = :seen")
            .expression_attribute_values(":seen", number(item.generation))
            .send()
            .await;
        match sent.map_err(|error| from_sdk("UpdateItem", service.to_string(), &error)) {
            Ok(_) => Ok(Written::Yes),
            Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(Written::Outrun),
            Err(error) => Err(error),
        }
    }

    /// Notes that `record` is proven good, if it still is what it was.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn baked(&self, record: &Record, at: DateTime<Utc>) -> Result<Option<Record>, Error> {
        let good = AttributeValue::S(record.service_ref().to_string());
        let values = [(":at", value(&at)?), (":good", good), (":version", number(record.version))];
        self.update(record, "SET baked_at = :at, good = :good", "version = :version", &values).await
    }

    /// Changes an attribute of a record that does not belong to its state: both can change at once without losing
    /// either. `None` where the condition does not hold.
    async fn update(
        &self,
        record: &Record,
        expression: &str,
        condition: &str,
        values: &[(&str, AttributeValue)],
    ) -> Result<Option<Record>, Error> {
        let service = record.service_ref();
        let sent = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(record_key(record)))
            .update_expression(expression)
            .condition_expression(condition)
            // A word that DynamoDB has for itself.
            .set_expression_attribute_names(
                expression.contains("#open").then(|| HashMap::from([("#open".into(), OPEN.into())])),
            )
            .set_expression_attribute_values(
                (!values.is_empty())
                    .then(|| values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()),
            )
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew)
            .send()
            .await;
        match sent {
            Ok(answer) => answer.attributes.map(|item| read(item, &service)).transpose(),
            Err(error) => match from_sdk("UpdateItem", service.to_string(), &error) {
                error if error.code() == Some("ConditionalCheckFailedException") => Ok(None),
                error => Err(error),
            },
        }
    }

    fn guard(
        &self,
        service: &ServiceRef,
        seen: &History,
        guarding: Guarding<'_>,
    ) -> Result<Option<TransactWriteItem>, Error> {
        let key = key(partition(service), GUARD.into());
        Ok(match guarding {
            Guarding::Not => None,
            Guarding::RefusesDigest(digest) => {
                let check = ConditionCheck::builder()
                    .table_name(&self.table)
                    .set_key(Some(key))
                    .condition_expression("attribute_not_exists(quarantine.#digest) AND attribute_not_exists(held)")
                    .expression_attribute_names("#digest", digest);
                Some(TransactWriteItem::builder().condition_check(built(check.build())?).build())
            }
            Guarding::Becomes(guard) => {
                let put = Put::builder().table_name(&self.table).set_item(Some(write(guard, key)?));
                let put = match seen.guard.version {
                    0 => put.condition_expression("attribute_not_exists(pk)"),
                    seen => {
                        put.condition_expression("version = :seen").expression_attribute_values(":seen", number(seen))
                    }
                };
                Some(TransactWriteItem::builder().put(built(put.build())?).build())
            }
        })
    }

    /// What runs after `record`, where it has succeeded and nothing newer has: written if that is still so.
    fn put_live(&self, record: &Record, seen: &History) -> Result<Option<TransactWriteItem>, Error> {
        let known = seen.live_from(&record.repository).map(|live| &live.record);
        if record.state != State::Succeeded || known.is_some_and(|known| *known >= record.id) {
            return Ok(None);
        }
        let key = key(partition(&record.service_ref()), format!("{LIVE}{}", record.repository));
        let mut item = write(&Live::of(record), key)?;
        item.insert(INDEX_OF_LIVE.into(), AttributeValue::S(INDEX_OF_LIVE.into()));
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = match known {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(known) => put
                .condition_expression("#record = :seen")
                .expression_attribute_names("#record", "record")
                .expression_attribute_values(":seen", AttributeValue::S(known.clone())),
        };
        Ok(Some(TransactWriteItem::builder().put(built(put.build())?).build()))
    }

    /// Puts a record's state without touching what its sinks have told, if it still is what `seen` was.
    fn put_record(&self, record: &Record, seen: Option<&Record>) -> Result<TransactWriteItem, Error> {
        let mut item = write(record, record_key(record))?;
        let (listed, mut unlisted) = lists(record, seen.is_none() && record.is_at_rest());
        item.extend(listed);
        if seen.is_none() {
            let put = Put::builder()
                .table_name(&self.table)
                .set_item(Some(item))
                .condition_expression("attribute_not_exists(pk)");
            return Ok(TransactWriteItem::builder().put(built(put.build())?).build());
        }
        for kept in KEPT_BESIDE_THE_STATE {
            item.remove(*kept);
        }
        let mut update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(record_key(record)))
            .condition_expression("version = :seen")
            .expression_attribute_values(":seen", number(seen.map_or(0, |seen| seen.version)));
        let mut assignments = Vec::with_capacity(item.len());
        let mut sorted: Vec<_> = item.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (at, (name, value)) in sorted.into_iter().enumerate() {
            assignments.push(format!("#a{at} = :v{at}"));
            update = update
                .expression_attribute_names(format!("#a{at}"), name)
                .expression_attribute_values(format!(":v{at}"), value);
        }
        let mut expression = format!("SET {}", assignments.join(", "));
        // Whoever was refused the last version is not kept from this one.
        unlisted.push("tell_after");
        if !unlisted.is_empty() {
            let names: Vec<String> = unlisted.iter().map(|name| format!("#{name}")).collect();
            expression = format!("{expression} REMOVE {}", names.join(", "));
            for name in unlisted {
                update = update.expression_attribute_names(format!("#{name}"), name);
            }
        }
        Ok(TransactWriteItem::builder().update(built(update.update_expression(expression).build())?).build())
    }

    async fn transact(&self, writes: Vec<TransactWriteItem>, service: &ServiceRef) -> Result<Written, Error> {
        transact(&self.client, writes, &service.to_string()).await
    }
}

/// Writes all or nothing, if what each write asks for holds.
///
/// # Errors
/// [`Error::Aws`].
pub(crate) async fn transact(client: &Client, writes: Vec<TransactWriteItem>, whose: &str) -> Result<Written, Error> {
    let sent = client.transact_write_items().set_transact_items(Some(writes)).send().await;
    let Err(error) = sent else { return Ok(Written::Yes) };
    if let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() {
        let mut codes = cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code());
        if codes.any(|code| matches!(code, "ConditionalCheckFailed" | "TransactionConflict")) {
            return Ok(Written::Outrun);
        }
    }
    Err(from_sdk("TransactWriteItems", whose, &error))
}

/// The attributes by which indexes list a record, and the names of those that it must not have.
fn lists(record: &Record, at_rest: bool) -> (Item, Vec<&'static str>) {
    let mut listed = Item::new();
    let mut unlisted = Vec::new();
    let day = record.detected_at.date_naive().to_string();
    for (name, value) in [
        (OPEN, (!at_rest).then(|| OPEN.to_owned())),
        (DAY, (record.state != State::Skipped).then_some(day)),
        (
            GOOD,
            (record.state == State::Succeeded && record.baked_at.is_some()).then(|| record.service_ref().to_string()),
        ),
    ] {
        match value {
            Some(value) => drop(listed.insert(name.into(), AttributeValue::S(value))),
            None => unlisted.push(name),
        }
    }
    (listed, unlisted)
}

/// The service that an item belongs to, without its ARN.
fn service_of(item: &Item) -> Option<ServiceRef> {
    let (cluster, service) = item.get("pk")?.as_s().ok()?.strip_prefix("SERVICE#")?.split_once('/')?;
    Some(ServiceRef { cluster: cluster.to_owned(), service: service.to_owned(), arn: String::new() })
}

fn partition(service: &ServiceRef) -> String {
    format!("SERVICE#{service}")
}

fn key(pk: String, sk: String) -> Item {
    Item::from([("pk".into(), AttributeValue::S(pk)), ("sk".into(), AttributeValue::S(sk))])
}

fn record_key(record: &Record) -> Item {
    key(partition(&record.service_ref()), format!("{DEPLOYMENT}{}", record.id))
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn read<T: serde::de::DeserializeOwned>(item: Item, service: &ServiceRef) -> Result<T, Error> {
    read_of(item, &service.to_string())
}

fn read_of<T: serde::de::DeserializeOwned>(item: Item, whose: &str) -> Result<T, Error> {
    serde_dynamo::from_item(item)
        .map_err(|error| Error::Input(format!("an item of {whose} in the table can't be read: {error}")))
}

fn value(value: &impl Serialize) -> Result<AttributeValue, Error> {
    serde_dynamo::to_attribute_value(value)
        .map_err(|error| Error::Input(format!("an attribute of the table can't be written: {error}")))
}

fn write(value: &impl Serialize, key: Item) -> Result<Item, Error> {
    let mut item: Item = serde_dynamo::to_item(value)
        .map_err(|error| Error::Input(format!("an item of the table can't be written: {error}")))?;
    item.extend(key);
    Ok(item)
}

fn built<T>(built: Result<T, aws_sdk_dynamodb::error::BuildError>) -> Result<T, Error> {
    built.map_err(|error| Error::Input(format!("a write to the table is incomplete: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::{Progress, State, Told, UndoneBy};

    #[test]
    fn a_record_survives_the_table() {
        let full = Record {
            undone_by: Some(UndoneBy::Ecs),
            progress: Some(Progress { running: 1, desired: 2, failed: 3 }),
            told: Told { slack: 1, metrics: 2, ..Told::default() },
            ..record(State::Failed)
        };
        for record in [full, record(State::Intended)] {
            let item = write(&record, record_key(&record)).unwrap();
            assert_eq!(read::<Record>(item, &record.service_ref()), Ok(record));
        }
    }
}
