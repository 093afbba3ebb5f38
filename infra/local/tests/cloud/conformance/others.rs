//! What else the functions ask: alarms, parameters, secrets, roles, topics, queues, the event bus and logs.

use anyhow::{Context as _, Result};
use aws_sdk_cloudwatch::types::AlarmType;
use local::aws::{ACCOUNT, REGION};
use serde_json::{Value, json};

use super::{Seen, outcome, same};

#[test]
fn alarms_are_described_by_name_and_those_that_are_gone_are_absent() -> Result<()> {
    same(|place| async move {
        let (cloudwatch, mut seen) = (aws_sdk_cloudwatch::Client::new(&place.sdk()), Seen::default());
        place.alarm("conformance-5xx", "ALARM").await?;
        place.alarm("conformance-slow", "OK").await?;
        place.composite_alarm("conformance-any", "conformance-5xx").await?;
        let names = ["conformance-5xx", "conformance-slow", "conformance-any", "conformance-gone"];
        for types in [vec![], vec![AlarmType::MetricAlarm, AlarmType::CompositeAlarm]] {
            let answer = cloudwatch
                .describe_alarms()
                .set_alarm_names(Some(names.map(str::to_owned).to_vec()))
                .set_alarm_types(Some(types.clone()).filter(|types| !types.is_empty()))
                .send()
                .await?;
            let metric = answer
                .metric_alarms()
                .iter()
                .map(|it| json!([it.alarm_name(), it.alarm_arn(), it.state_value().map(|state| state.as_str())]));
            let mut metric: Vec<Value> = metric.collect();
            metric.sort_by_key(Value::to_string);
            let composite = answer.composite_alarms().iter();
            let composite: Vec<Value> =
                composite.map(|it| json!([it.alarm_name(), it.state_value().map(|state| state.as_str())])).collect();
            seen.note(&format!("{types:?}"), json!([metric, composite]));
        }
        // The emulator takes more than a hundred names. CloudWatch does not.
        Ok(seen)
    })
}

#[test]
fn what_a_task_definition_names_is_there_or_not() -> Result<()> {
    same(|place| async move {
        let (sdk, mut seen) = (place.sdk(), Seen::default());
        let iam = aws_sdk_iam::Client::new(&sdk);
        place.role("conformance-role").await?;
        for name in ["conformance-role", "conformance-gone"] {
            let got = iam.get_role().role_name(name).send().await;
            let role =
                got.as_ref().ok().and_then(|answer| answer.role()).map(|role| json!([role.role_name(), role.arn()]));
            seen.note(name, json!([outcome(&got), role]));
        }
        let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
        let arn = place.secret("conformance/secret").await?;
        seen.name(&arn, "secret");
        for id in ["conformance/secret", &arn, "conformance/gone"] {
            let got = secrets.describe_secret().secret_id(id).send().await;
            let secret = got.as_ref().ok().map(|it| json!([it.name(), it.arn(), it.deleted_date().is_some()]));
            seen.note(&format!("the secret {id}"), json!([outcome(&got), secret]));
        }
        let ssm = aws_sdk_ssm::Client::new(&sdk);
        place.parameter("/conformance/parameter").await?;
        for name in ["/conformance/parameter", "/conformance/gone"] {
            let got = ssm.get_parameter().name(name).with_decryption(true).send().await;
            let value = got
                .as_ref()
                .ok()
                .and_then(|it| it.parameter())
                .map(|it| json!([it.name(), it.value(), it.r#type().map(|kind| kind.as_str())]));
            seen.note(&format!("the parameter {name}"), json!([outcome(&got), value]));
        }
        let filter = aws_sdk_ssm::types::ParameterStringFilter::builder()
            .key("Name")
            .option("Equals")
            .values("/conformance/parameter")
            .values("/conformance/gone")
            .build()?;
        let found = ssm.describe_parameters().parameter_filters(filter).send().await?;
        let found: Vec<_> = found.parameters().iter().map(|it| it.name()).collect();
        seen.note("the parameters that there are", json!(found));
        Ok(seen)
    })
}

#[test]
fn a_message_goes_to_a_topic_or_a_queue_that_is_there() -> Result<()> {
    same(|place| async move {
        let (sdk, mut seen) = (place.sdk(), Seen::default());
        let sns = aws_sdk_sns::Client::new(&sdk);
        for (what, topic, message) in [
            ("a topic", place.topic()?, "{\"conformance\": true}"),
            ("no such topic", format!("arn:aws:sns:{REGION}:{ACCOUNT}:conformance-gone"), "{}"),
            // The emulator takes an empty message. SNS does not.
        ] {
            let sent = sns.publish().topic_arn(topic).message(message).send().await;
            let has_id = sent.as_ref().ok().map(|answer| answer.message_id().is_some());
            seen.note(what, json!([outcome(&sent), has_id]));
        }
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        place.queue("conformance-jobs").await?;
        let url = sqs.get_queue_url().queue_name("conformance-jobs").send().await?;
        let url = url.queue_url().context("no URL")?.to_owned();
        seen.note("its URL", json!(url.ends_with("/123456789012/conformance-jobs")));
        seen.note("no such URL", outcome(&sqs.get_queue_url().queue_name("conformance-gone").send().await));
        for url in [url.clone(), url.replace("jobs", "gone")] {
            let sent = sqs.send_message().queue_url(&url).message_body("{\"conformance\": true}").send().await;
            let has_id = sent.as_ref().ok().map(|answer| answer.message_id().is_some());
            seen.note("a message", json!([outcome(&sent), has_id]));
            use aws_sdk_sqs::types::QueueAttributeName as Name;
            let attributes = sqs
                .get_queue_attributes()
                .queue_url(&url)
                .attribute_names(Name::ApproximateNumberOfMessages)
                .attribute_names(Name::ApproximateNumberOfMessagesNotVisible)
                .send()
                .await;
            let mut told: Vec<_> = attributes
                .as_ref()
                .ok()
                .and_then(|answer| answer.attributes())
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            told.sort_unstable();
            seen.note("what waits", json!([outcome(&attributes), told]));
        }
        Ok(seen)
    })
}

#[test]
fn the_event_bus_takes_ten_events_at_once() -> Result<()> {
    same(|place| async move {
        let (events, mut seen) = (aws_sdk_eventbridge::Client::new(&place.sdk()), Seen::default());
        let entry = |detail: &str| {
            aws_sdk_eventbridge::types::PutEventsRequestEntry::builder()
                .source("conformance")
                .detail_type("Conformance")
                .detail(detail)
                .build()
        };
        // The emulator takes a detail that is no JSON, and was changed to take the sources of AWS.
        let put = events.put_events().entries(entry("{\"a\": 1}")).entries(entry("{}")).send().await?;
        let told: Vec<_> = put.entries().iter().map(|it| (it.event_id().is_some(), it.error_code())).collect();
        seen.note("two", json!([put.failed_entry_count(), told]));
        let many = std::iter::repeat_n(entry("{}"), 11).collect();
        seen.note("eleven", outcome(&events.put_events().set_entries(Some(many)).send().await));
        Ok(seen)
    })
}

#[test]
fn a_log_is_read_from_its_end() -> Result<()> {
    same(|place| async move {
        let (logs, mut seen) = (aws_sdk_cloudwatchlogs::Client::new(&place.sdk()), Seen::default());
        let (group, stream) = ("/conformance/log", "app/1");
        place.log(group, stream, &["one", "two", "three"]).await?;
        for (group, stream, limit) in
            [(group, stream, 2), (group, stream, 100), (group, "app/2", 2), ("/conformance/gone", stream, 2)]
        {
            let read = logs.get_log_events().log_group_name(group).log_stream_name(stream).limit(limit).send().await;
            let lines: Vec<_> = read.iter().flat_map(|answer| answer.events()).map(|it| it.message()).collect();
            seen.note(&format!("{limit} of {group} {stream}"), json!([outcome(&read), lines]));
        }
        let backward = logs.get_log_events().log_group_name(group).log_stream_name(stream).limit(2);
        let end = backward.clone().send().await?;
        let before = backward.clone().set_next_token(end.next_backward_token.clone()).send().await?;
        let lines: Vec<_> = before.events().iter().map(|it| it.message()).collect();
        seen.note("the page before", json!(lines));
        let first = backward.set_next_token(before.next_backward_token.clone()).send().await?;
        let is_end = first.next_backward_token() == before.next_backward_token();
        seen.note("and before that", json!([first.events().len(), is_end]));
        Ok(seen)
    })
}
