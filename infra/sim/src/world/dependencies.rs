//! What the services of others depend on: alarms, roles, secrets and parameters.

use serde_json::{Value, json};

use super::tagging::page;
use super::wire::Refusal;
use super::{ACCOUNT, REGION, State};

impl State {
    pub(super) fn describe_alarms(&self, body: &Value) -> Result<Value, Refusal> {
        let names = body["AlarmNames"].as_array();
        if names.is_some_and(|names| names.len() > 100) {
            return Err(("ValidationError", Value::Null));
        }
        // As CloudWatch does: metric alarms alone unless it is asked for others.
        let types = body.get("AlarmTypes").cloned().unwrap_or_else(|| json!(["MetricAlarm"]));
        let wanted = |kind: &str| types.as_array().unwrap().iter().any(|wanted| wanted == kind);
        let of_kind = |kind: &'static str, alarms: &'_ super::state::Alarms| {
            let named = alarms.iter().filter(|(name, _)| names.is_none_or(|names| names.contains(&json!(name))));
            let alarms: Vec<Value> = named.map(|(name, state)| json!([kind, self.alarm(name, state)])).collect();
            if wanted(kind) { alarms } else { Vec::new() }
        };
        let found = [of_kind("CompositeAlarm", &self.composite_alarms), of_kind("MetricAlarm", &self.alarms)].concat();
        let (page, token) = page(found, &body["MaxRecords"], (50, 100), &body["NextToken"])?;
        let shown = |kind: &str| -> Vec<Value> {
            page.iter().filter(|alarm| alarm[0] == kind).map(|alarm| alarm[1].clone()).collect()
        };
        Ok(json!({
            "MetricAlarms": shown("MetricAlarm"), "CompositeAlarms": shown("CompositeAlarm"), "NextToken": token,
        }))
    }

    fn alarm(&self, name: &str, state: &str) -> Value {
        let arn = format!("arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{name}");
        let mut alarm = json!({"AlarmName": name, "AlarmArn": arn, "StateValue": state});
        if let Some(since) = self.alarms_since.get(name) {
            alarm["StateTransitionedTimestamp"] = json!(since);
        }
        alarm
    }

    pub(super) fn get_role(&self, body: &Value) -> Result<Value, Refusal> {
        let name = body["RoleName"].as_str().unwrap();
        if !self.roles.contains(name) {
            return Err(("NoSuchEntity", Value::Null));
        }
        Ok(json!({"Role": {
            "Path": "/", "RoleName": name, "RoleId": "AROAEXAMPLE", "CreateDate": "2026-01-01T00:00:00Z",
            "Arn": format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
        }}))
    }

    pub(super) fn describe_secret(&self, body: &Value) -> Result<Value, Refusal> {
        let id = body["SecretId"].as_str().unwrap();
        let deleted = self.secrets.get(id).ok_or(("ResourceNotFoundException", Value::Null))?;
        let mut secret = match id.split_once(":secret:") {
            Some((_, name)) => json!({"ARN": id, "Name": name.rsplit_once('-').map_or(name, |(name, _suffix)| name)}),
            None => {
                json!({"ARN": format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{id}-a1b2c3"), "Name": id})
            }
        };
        if *deleted {
            secret["DeletedDate"] = json!(1_795_000_000);
        }
        Ok(secret)
    }

    /// Without decryption there is nothing to be read.
    pub(super) fn get_parameter(&self, body: &Value) -> Result<Value, Refusal> {
        let name = body["Name"].as_str().unwrap();
        let of_sink = match name {
            "/tidegate/slack" => Some(&self.slack_secret),
            "/tidegate/newrelic" => Some(&self.newrelic_key),
            "/tidegate/webhook" => Some(&self.hook_secret),
            _ => None,
        };
        let value = self.secrets_by_name.get(name).or(of_sink).ok_or(("ParameterNotFound", Value::Null))?;
        let value = if body["WithDecryption"] == true { value } else { "AQICAHencrypted" };
        Ok(json!({"Parameter": {"Name": name, "Type": "SecureString", "Value": value, "Version": 1}}))
    }

    pub(super) fn describe_parameters(&self, body: &Value) -> Result<Value, Refusal> {
        let filter = &body["ParameterFilters"][0];
        assert_eq!((&filter["Key"], &filter["Option"]), (&json!("Name"), &json!("Equals")), "{body}");
        let names = filter["Values"].as_array().unwrap();
        if names.is_empty() || names.len() > 50 {
            return Err(("InvalidFilterValue", Value::Null));
        }
        let found = self.parameters.iter().filter(|name| names.contains(&json!(name)));
        let found = found.map(|name| json!({"Name": name, "Type": "SecureString", "Version": 1})).collect();
        let (page, token) = page(found, &body["MaxResults"], (10, 50), &body["NextToken"])?;
        Ok(json!({"Parameters": page, "NextToken": token}))
    }
}
