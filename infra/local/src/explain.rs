//! Asks the functions what they would do about an event, and puts their answers into words.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::json::{list, text};
use crate::registry::short;
use crate::stack::Stack;

/// Asks a function what it would do about an event. It does nothing of it.
pub async fn ask(aws: &Aws, stack: &Stack, function: &str, event: &Value) -> Result<Value> {
    let question = json!({ "source": "tidegate", "detail-type": "Explain", "detail": { "event": event } });
    aws.invoke(stack.function(function)?, &question).await
}

/// The decisions in a function's answer, a block for each.
pub fn rendered(answer: &Value) -> Result<String> {
    let decisions = answer.get("decisions").and_then(Value::as_array);
    let decisions = decisions.with_context(|| format!("the function answered without decisions: {answer}"))?;
    if decisions.is_empty() {
        return Ok("There was nothing to decide.".to_owned());
    }
    Ok(decisions.iter().map(block).collect::<Vec<_>>().join("\n\n"))
}

fn block(decision: &Value) -> String {
    let mut lines = vec![heading(decision)];
    let mut add = |label: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("  {label:<9} {text}"));
        }
    };
    add("rule", text(decision, "rule"));
    add("image", &image(decision));
    add("revision", text(decision, "revision"));
    for note in list(decision, "notes") {
        add("note", note.as_str().unwrap_or_default());
    }
    for change in list(decision, "changes") {
        add("changes", change.as_str().unwrap_or_default());
    }
    lines.join("\n")
}

fn heading(decision: &Value) -> String {
    let decided = match (text(decision, "action"), text(decision, "reason")) {
        (action, "") => action.to_owned(),
        (action, reason) => format!("{action}, because {reason}"),
    };
    let named = ["service", "cluster"].map(|field| text(decision, field));
    match named.into_iter().find(|name| !name.is_empty()) {
        Some(name) => format!("{name}: {decided}"),
        None => decided,
    }
}

fn image(decision: &Value) -> String {
    let part = |mark: &str, name: &str| match text(decision, name) {
        "" => String::new(),
        text => format!("{mark}{}", short(text)),
    };
    [part("", "repository"), part(":", "tag"), part("@", "digest")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_tells_its_reason_and_what_would_change() -> Result<()> {
        let answer = json!({ "decisions": [
            {
                "service": "staging/web", "action": "deploy", "reason": "tag:develop points to 002ed2795ebf now",
                "rule": "newer", "repository": "tides/web", "tag": "develop", "digest": "sha256:002ed2795ebf6c8e1d3a",
                "revision": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web-staging:7",
                "notes": ["platform: linux/arm64 is there", "alarms: not checked, it has none"],
                "changes": ["containerDefinitions[web].image", "containerDefinitions[init].image"],
            },
            { "service": "production/web", "action": "skip", "reason": "the service follows tag:master",
              "rule": "other-tag" },
        ] });
        let expected = "\
staging/web: deploy, because tag:develop points to 002ed2795ebf now
  rule      newer
  image     tides/web:develop@002ed2795ebf
  revision  arn:aws:ecs:eu-west-1:123456789012:task-definition/web-staging:7
  note      platform: linux/arm64 is there
  note      alarms: not checked, it has none
  changes   containerDefinitions[web].image
  changes   containerDefinitions[init].image

production/web: skip, because the service follows tag:master
  rule      other-tag";
        assert_eq!(rendered(&answer)?, expected);
        Ok(())
    }

    #[test]
    fn what_a_decision_leaves_out_is_left_out() -> Result<()> {
        let answer = json!({ "decisions": [
            { "action": "reject", "reason": "the event has no detail", "rule": "unreadable" },
            { "action": "skip", "repository": "tides/docs", "tag": "latest", "notes": [] },
        ] });
        let expected = "\
reject, because the event has no detail
  rule      unreadable

skip
  image     tides/docs:latest";
        assert_eq!(rendered(&answer)?, expected);
        assert_eq!(rendered(&json!({ "decisions": [] }))?, "There was nothing to decide.");
        Ok(())
    }

    #[test]
    fn an_answer_without_decisions_is_shown() {
        let error = rendered(&json!({ "errorMessage": "out of memory" })).err().map(|error| error.to_string());
        let expected = r#"the function answered without decisions: {"errorMessage":"out of memory"}"#;
        assert_eq!(error.as_deref(), Some(expected));
    }
}
