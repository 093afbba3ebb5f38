//! Slack's messages as people see them, in plain text.

use serde_json::Value;

use crate::json::{list, text};

/// A message as a person sees it, in plain text.
pub(super) fn render(body: &Value) -> String {
    let attachments = list(body, "attachments").iter().flat_map(|attachment| list(attachment, "blocks"));
    let blocks: Vec<String> = list(body, "blocks").iter().chain(attachments).map(render_block).collect();
    let text = match blocks.is_empty() {
        true => plain(text(body, "text")),
        false => blocks.join("\n"),
    };
    text.trim_end().to_owned()
}

fn render_block(block: &Value) -> String {
    let own_text = |object: &Value| plain(text(object, "text"));
    let own = block.get("text").map(own_text);
    match text(block, "type") {
        "divider" => "────────".to_owned(),
        "context" => list(block, "elements").iter().map(own_text).collect::<Vec<_>>().join("  "),
        "rich_text" => {
            let mut texts = String::new();
            collect(block, &mut texts);
            texts
        }
        "actions" => {
            let label = |button: &Value| format!("[{}]", button.get("text").map(own_text).unwrap_or_default());
            list(block, "elements").iter().map(label).collect::<Vec<_>>().join(" ")
        }
        _ => {
            let field = |field: &Value| own_text(field).replacen('\n', ": ", 1);
            let fields = list(block, "fields").iter().map(field).collect::<Vec<_>>().join("   ");
            own.into_iter().chain(Some(fields).filter(|fields| !fields.is_empty())).collect::<Vec<_>>().join("\n")
        }
    }
}

/// The texts of rich text, which are not mrkdwn, in order.
fn collect(element: &Value, texts: &mut String) {
    texts.push_str(text(element, "text"));
    list(element, "elements").iter().for_each(|element| collect(element, texts));
}

/// Slack's mrkdwn as plain text. A block of code is shown as it is.
pub fn plain(mrkdwn: &str) -> String {
    let parts = mrkdwn.split("```").enumerate();
    parts.map(|(at, part)| if at % 2 == 0 { prose(part) } else { unescaped(part.trim_matches('\n')) }).collect()
}

/// Marks removed, links as their texts, the emoji that Tidegate uses as characters.
fn prose(mrkdwn: &str) -> String {
    let mut text = String::new();
    let mut rest = mrkdwn;
    while let Some((before, link)) = rest.split_once('<') {
        text.push_str(before);
        let Some((link, after)) = link.split_once('>') else {
            rest = link;
            break;
        };
        text.push_str(link.split_once('|').map_or(link, |(_, label)| label));
        rest = after;
    }
    text.push_str(rest);
    for (name, emoji) in EMOJI {
        text = text.replace(name, emoji);
    }
    unescaped(&text.replace(['*', '`'], ""))
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

const EMOJI: [(&str, &str); 7] = [
    (":fast_forward:", "⏩"),
    (":hourglass_flowing_sand:", "⏳"),
    (":no_entry_sign:", "🚫"),
    (":rewind:", "⏪"),
    (":rotating_light:", "🚨"),
    (":white_check_mark:", "✅"),
    (":x:", "❌"),
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_as_people_see_it() {
        let message = json!({
            "text": "not shown",
            "blocks": [
                { "type": "section", "text": { "type": "mrkdwn", "text": ":white_check_mark: *web* is live" } },
                { "type": "context", "elements": [{ "type": "mrkdwn", "text": "<https://example.com/1|8f4e2d1> &amp; more" }] },
            ],
        });
        assert_eq!(render(&message), "✅ web is live\n8f4e2d1 & more");
        assert_eq!(render(&json!({ "text": "a < b" })), "a  b");
        assert_eq!(
            render(&json!({ "text": "*the log*\n```\nKEY=**** &lt;a&gt;\n```\n*more*" })),
            "the log\nKEY=**** <a>\nmore"
        );
        let code = json!({ "type": "rich_text_preformatted", "elements": [{ "type": "text", "text": "*a* <b>" }] });
        assert_eq!(render(&json!({ "blocks": [{ "type": "rich_text", "elements": [code] }] })), "*a* <b>");
    }
}
