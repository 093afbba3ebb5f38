//! What the indexes list.

use aws_sdk_dynamodb::types::AttributeValue;
use chrono::NaiveDate;

use super::{DAY, DAYS, GOOD, Item, OPEN, Store, WATCH, read, read_of, service_of};
use crate::error::{Error, from_sdk};
use crate::events::ServiceRef;
use crate::record::Record;

/// A record that is not at rest, as the index shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRecord {
    /// The service; its ARN is not in the index.
    pub service: ServiceRef,
    /// Id of the record.
    pub id: String,
    /// ECS's id of the deployment.
    pub ecs_deployment_id: Option<String>,
}

impl OpenRecord {
    fn read(item: Item) -> Option<Self> {
        let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
        Some(Self {
            service: service_of(&item)?,
            id: text("id")?.clone(),
            ecs_deployment_id: text("ecs_deployment_id").cloned(),
        })
    }
}

impl Store {
    /// The records that are not at rest, oldest first, at most `limit`. The index may lag behind the table by a moment.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn open_records(&self, limit: i32) -> Result<Vec<OpenRecord>, Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(OPEN)
            .key_condition_expression("#open = :open")
            .expression_attribute_names("#open", OPEN)
            .expression_attribute_values(":open", AttributeValue::S(OPEN.into()))
            .limit(limit)
            .send()
            .await
            .map_err(|error| from_sdk("Query", "the open records", &error))?;
        Ok(answer.items.unwrap_or_default().into_iter().filter_map(OpenRecord::read).collect())
    }

    /// The services that have a deployment which is not proven, at most `limit`. The index may lag behind the table by a
    /// moment.
    ///
    /// # Errors
    /// [`Error::Aws`].
    pub async fn watched_services(&self, limit: i32) -> Result<Vec<ServiceRef>, Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(WATCH)
            .key_condition_expression("watch = :watch")
            .expression_attribute_values(":watch", AttributeValue::S(WATCH.into()))
            .limit(limit)
            .send()
            .await
            .map_err(|error| from_sdk("Query", "the watched services", &error))?;
        Ok(answer.items.unwrap_or_default().iter().filter_map(service_of).collect())
    }

    /// The deployments of `service` that are proven good and were not taken back, the newest first, at most `limit`. The
    /// index may lag behind the table by a moment.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where an item can't be read.
    pub async fn good_releases(&self, service: &ServiceRef, limit: i32) -> Result<Vec<Record>, Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(GOOD)
            .key_condition_expression("good = :service")
            .expression_attribute_values(":service", AttributeValue::S(service.to_string()))
            .scan_index_forward(false)
            .limit(limit)
            .send()
            .await
            .map_err(|error| from_sdk("Query", service.to_string(), &error))?;
        answer.items.unwrap_or_default().into_iter().map(|item| read(item, service)).collect()
    }

    /// The deployments that were detected on `day` (UTC), of all services, oldest first.
    ///
    /// # Errors
    /// [`Error::Aws`]; [`Error::Input`] where an item can't be read.
    pub async fn deployments_of(&self, day: NaiveDate) -> Result<Vec<Record>, Error> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(DAYS)
            .key_condition_expression("#day = :day")
            .expression_attribute_names("#day", DAY)
            .expression_attribute_values(":day", AttributeValue::S(day.to_string()))
            .into_paginator()
            .items()
            .send();
        let mut records = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| from_sdk("Query", format!("the deployments of {day}"), &error))?;
            let whose = item.get("pk").and_then(|pk| pk.as_s().ok()).cloned().unwrap_or_default();
            records.push(read_of(item, &whose)?);
        }
        Ok(records)
    }
}
