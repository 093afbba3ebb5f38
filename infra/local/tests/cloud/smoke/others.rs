//! What else the functions depend on: alarms, secrets, the table, topics and events.

use anyhow::{Context as _, Result};
use local::aws::elements;
use serde_json::json;

use super::code;
use crate::scenario;

#[test]
fn alarms_are_described_by_name_with_their_state() -> Result<()> {
    scenario(|cloud| async move {
        let alarm = json!({
            "AlarmName": "smoke-5xx", "Namespace": "AWS/ApplicationELB", "MetricName": "HTTPCode_Target_5XX_Count",
            "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0,
            "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "ignore",
        });
        cloud.aws.cloudwatch("PutMetricAlarm", &alarm).await?;
        let composite = json!({ "AlarmName": "smoke-any", "AlarmRule": "ALARM(smoke-5xx)" });
        cloud.aws.cloudwatch("PutCompositeAlarm", &composite).await?;
        let state = json!({ "AlarmName": "smoke-5xx", "StateValue": "ALARM", "StateReason": "on purpose" });
        cloud.aws.cloudwatch("SetAlarmState", &state).await?;
        let input = json!({
            "AlarmNames": ["smoke-5xx", "smoke-any", "smoke-gone"], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"],
        });
        let answer = cloud.aws.cloudwatch("DescribeAlarms", &input).await?;
        assert_eq!(answer["MetricAlarms"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["MetricAlarms"][0]["AlarmName"], "smoke-5xx");
        assert_eq!(answer["MetricAlarms"][0]["StateValue"], "ALARM");
        assert_eq!(answer["CompositeAlarms"].as_array().map(Vec::len), Some(1), "{answer}");
        assert_eq!(answer["CompositeAlarms"][0]["AlarmName"], "smoke-any");
        Ok(())
    })
}

#[test]
fn the_stack_has_alarms_of_metric_math() -> Result<()> {
    scenario(|cloud| async move {
        let input = json!({ "AlarmNames": ["tidegate-errors", "tidegate-throttles", "tidegate-delays"] });
        let answer = cloud.aws.cloudwatch("DescribeAlarms", &input).await?;
        assert_eq!(answer["MetricAlarms"].as_array().map(Vec::len), Some(3), "{answer}");
        Ok(())
    })
}

#[test]
fn what_a_task_definition_names_is_there_or_not() -> Result<()> {
    scenario(|cloud| async move {
        let role = cloud.create_task_role("smoke-role").await?;
        let found = cloud.aws.iam("GetRole", &[("RoleName", "smoke-role")]).await?;
        assert_eq!(elements(&found, "Arn").next(), Some(role.as_str()));
        assert_eq!(code(cloud.aws.iam("GetRole", &[("RoleName", "smoke-gone")]).await)?, "NoSuchEntity");

        let secret = json!({ "Name": "smoke/secret", "SecretString": "hush" });
        let arn = cloud.aws.secrets("CreateSecret", &secret).await?["ARN"].clone();
        for id in [json!("smoke/secret"), arn.clone()] {
            let described = cloud.aws.secrets("DescribeSecret", &json!({ "SecretId": id })).await?;
            assert_eq!(described["ARN"], arn);
            assert!(!described.to_string().contains("hush"), "{described}");
        }
        let gone = cloud.aws.secrets("DescribeSecret", &json!({ "SecretId": "smoke/gone" })).await;
        assert_eq!(code(gone)?, "ResourceNotFoundException");

        let parameter = json!({ "Name": "/smoke/parameter", "Type": "SecureString", "Value": "hush" });
        cloud.aws.ssm("PutParameter", &parameter).await?;
        let filter = json!({ "Key": "Name", "Option": "Equals", "Values": ["/smoke/parameter", "/smoke/gone"] });
        let found = cloud.aws.ssm("DescribeParameters", &json!({ "ParameterFilters": [filter] })).await?;
        assert_eq!(found["Parameters"].as_array().map(Vec::len), Some(1), "{found}");
        assert_eq!(found["Parameters"][0]["Name"], "/smoke/parameter");
        assert_eq!(found["Parameters"][0].get("Value"), None);
        Ok(())
    })
}

#[test]
fn items_of_the_table_are_read_one_by_one_and_together() -> Result<()> {
    scenario(|cloud| async move {
        let table = cloud.stack.output("TableName")?;
        let key = |sk: &str| json!({ "pk": { "S": "SMOKE" }, "sk": { "S": sk } });
        for sk in ["1", "2"] {
            cloud.aws.dynamodb("PutItem", &json!({ "TableName": table, "Item": key(sk) })).await?;
        }
        let get = |sk: &str| json!({ "TableName": table, "Key": key(sk), "ConsistentRead": true });
        assert_eq!(cloud.aws.dynamodb("GetItem", &get("1")).await?["Item"], key("1"));
        assert_eq!(cloud.aws.dynamodb("GetItem", &get("3")).await?.get("Item"), None);
        let keys = json!({ "Keys": [key("1"), key("2"), key("3")], "ConsistentRead": true });
        let answer = cloud.aws.dynamodb("BatchGetItem", &json!({ "RequestItems": { table: keys } })).await?;
        let items = answer["Responses"][table].as_array().context("no items")?;
        assert_eq!(items.len(), 2, "{answer}");
        assert!(items.contains(&key("1")) && items.contains(&key("2")), "{answer}");
        assert_eq!(answer["UnprocessedKeys"], json!({}));
        Ok(())
    })
}

#[test]
fn an_item_is_in_an_index_while_it_has_its_attribute() -> Result<()> {
    scenario(|cloud| async move {
        let table = cloud.stack.output("TableName")?;
        let query = |index: &'static str, attribute: &'static str, value: &'static str| async move {
            let input = json!({
                "TableName": table, "IndexName": index, "KeyConditionExpression": "#a = :a",
                "ExpressionAttributeNames": { "#a": attribute }, "ExpressionAttributeValues": { ":a": { "S": value } },
            });
            let answer = cloud.aws.dynamodb("Query", &input).await?;
            Ok::<_, anyhow::Error>(answer["Items"].as_array().context("no items")?.clone())
        };
        let key = |sk: &str| json!({ "pk": { "S": "SMOKE#index" }, "sk": { "S": sk } });
        for (sk, id) in [("2", "02"), ("1", "01"), ("3", "03")] {
            let mut item = key(sk);
            item["id"] = json!({ "S": id });
            item["reason"] = json!({ "S": "smoke" });
            item["ecs_deployment_id"] = json!({ "S": "ecs-svc/1" });
            if sk != "3" {
                for (name, value) in [("open", "smoke"), ("day", "1926-11-02"), ("good", "smoke"), ("live", "smoke")] {
                    item[name] = json!({ "S": value });
                }
            }
            cloud.aws.dynamodb("PutItem", &json!({ "TableName": table, "Item": item })).await?;
        }
        let open = query("open", "open", "smoke").await?;
        let mut first = key("1");
        first["open"] = json!({ "S": "smoke" });
        first["id"] = json!({ "S": "01" });
        first["ecs_deployment_id"] = json!({ "S": "ecs-svc/1" });
        assert_eq!(open.len(), 2, "in the order of their ids, and only those with the attribute: {open:?}");
        assert_eq!(open[0], first, "what it was made with, and no more");
        for (index, attribute, value) in
            [("days", "day", "1926-11-02"), ("good", "good", "smoke"), ("live", "live", "smoke")]
        {
            let items = query(index, attribute, value).await?;
            assert_eq!(items.len(), 2, "{index}: {items:?}");
            assert_eq!(items[0]["reason"], json!({ "S": "smoke" }), "{index}");
        }
        let update = json!({
            "TableName": table, "Key": key("1"), "UpdateExpression": "SET reason = :r REMOVE #o",
            "ExpressionAttributeNames": { "#o": "open" }, "ExpressionAttributeValues": { ":r": { "S": "done" } },
        });
        cloud.aws.dynamodb("UpdateItem", &update).await?;
        assert_eq!(query("open", "open", "smoke").await?.len(), 1);
        assert_eq!(query("good", "good", "smoke").await?[0]["reason"], json!({ "S": "done" }));

        let consistent = json!({
            "TableName": table, "IndexName": "open", "KeyConditionExpression": "#a = :a", "ConsistentRead": true,
            "ExpressionAttributeNames": { "#a": "open" }, "ExpressionAttributeValues": { ":a": { "S": "smoke" } },
        });
        assert_eq!(code(cloud.aws.dynamodb("Query", &consistent).await)?, "ValidationException");
        let empty = json!({
            "TableName": table, "Key": key("2"), "UpdateExpression": "SET #o = :o",
            "ExpressionAttributeNames": { "#o": "open" }, "ExpressionAttributeValues": { ":o": { "S": "" } },
        });
        assert_eq!(code(cloud.aws.dynamodb("UpdateItem", &empty).await)?, "ValidationException");
        Ok(())
    })
}

#[test]
fn what_is_published_and_sent_can_be_looked_at() -> Result<()> {
    scenario(|cloud| async move {
        for (topic, text) in [("TopicArn", "smoke on the topic"), ("ChatTopicArn", "smoke in the chat")] {
            let message = json!({ "text": text }).to_string();
            let input = [("TopicArn", cloud.stack.output(topic)?), ("Message", &message)];
            cloud.aws.query("sns", "2010-03-31", "Publish", &input).await?;
        }
        let detail = json!({ "context": { "id": "smoke" } });
        cloud
            .events
            .publish(&json!({ "source": "tidegate", "detail-type": "dev.cdevents.smoke", "detail": detail }))
            .await?;
        cloud
            .wait_for("all three", || async {
                let on_topic = cloud.announcements().await?.contains(&json!({ "text": "smoke on the topic" }));
                let in_chat = cloud.chat().await?.contains(&json!({ "text": "smoke in the chat" }));
                let events = cloud.cdevents().await?;
                let mut sent = events.iter().filter(|event| event["detail-type"] == "dev.cdevents.smoke");
                let is_sent = sent.any(|event| event["source"] == "tidegate" && event["detail"] == detail);
                let seen = (on_topic, in_chat, is_sent);
                Ok(if seen == (true, true, true) { Ok(()) } else { Err(format!("{seen:?}")) })
            })
            .await
    })
}
