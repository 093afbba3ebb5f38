//! What every outcome looks like, and that no record breaks a message.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::examples::{examples, hostile};
use super::mrkdwn::units;
use super::*;
use crate::record::tests::record;

#[test]
fn every_outcome_has_its_message() {
    for (name, _, record) in examples() {
        let Message { text, blocks } = render(&record);
        let details = details(&record).map(|Details { message: Message { text, blocks }, broadcast }| {
            json!({"broadcast": broadcast, "text": text, "blocks": blocks})
        });
        insta::assert_json_snapshot!(name, json!({"text": text, "blocks": blocks, "details": details}));
    }
}

#[test]
fn what_others_have_changed_is_named_and_the_rest_is_in_the_thread() {
    let changed_by_others = (1..=10).map(|number| format!("field{number}")).collect();
    let record = Record { changed_by_others, ..record(State::Failed) };
    let text = render(&record).blocks.to_string();
    assert!(text.contains("since the last deployment: field1, field2"), "{text}");
    assert!(text.contains("field8, and 2 more"), "{text}");
    let details = details(&record).unwrap();
    assert!(details.message.blocks.to_string().contains("field10"), "{details:?}");
    assert!(!details.broadcast);
}

#[test]
fn a_deployment_of_somebody_else_is_told_as_theirs() {
    let theirs = Record { origin: Origin::External, digest: String::new(), ..record(State::Succeeded) };
    let text = render(&theirs).blocks.to_string();
    assert!(text.contains("deployed by somebody else, not by Tidegate") && text.contains("tides/web:master"), "{text}");
}

#[test]
fn the_environment_is_called_what_the_stack_calls_it() {
    let message = render(&Record { environment: "live".into(), ..record(State::Rolling) });
    assert!(message.text.contains("web in live:"), "{}", message.text);
    assert!(message.blocks.to_string().contains("cluster production"), "{}", message.blocks);
}

#[test]
fn what_was_taken_back_is_told_to_the_channel_whatever_is_known_of_it() {
    let bare = details(&Record { reason: "alarm web-5xx".into(), ..record(State::RolledBack) }).unwrap();
    assert!(bare.broadcast && bare.message.text.contains(": alarm web-5xx; "), "{bare:?}");
    let never_started = Record { ecs_deployment_id: None, ..record(State::Failed) };
    assert_eq!(details(&never_started), None);
}

/// The two sides of a rollback, with the link between them and without, as with a webhook.
#[test]
fn both_sides_of_a_rollback_name_each_other() {
    for (name, _, record) in examples() {
        let (link, other) = match name {
            "rolled_back" => ("p1794823320000200", "01JD90BQ4X7Z2C5V8N1M3K6J9H"),
            "back" | "going_back" => ("p1794822877000100", "01JD8Z6W3Q0K8T4Y5V9N2R7XAB"),
            _ => continue,
        };
        let url = format!("<https://slack.com/archives/C0123456789/{link}|deployment {other}>");
        let message = render(&record);
        assert!(message.blocks.to_string().contains(&url), "{}", message.blocks);
        assert!(message.text.contains(&format!("deployment {other}")), "{}", message.text);
        let record = Record { link_to_bad: None, link_to_recovery: None, ..record };
        let unlinked = render(&record).blocks.to_string();
        assert!(unlinked.contains(&format!("deployment {other}")) && !unlinked.contains("slack.com"), "{unlinked}");
    }
}

#[test]
fn a_migration_is_said_to_stay_once_on_each_side() {
    for (name, _, record) in examples() {
        let is_side = name.starts_with("rolled_back") && name != "rolled_back_in_vain" || name.starts_with("back");
        if is_side && name != "back_to_nothing" {
            let Message { text, blocks } = render(&record);
            assert_eq!((text.matches("is not undone").count(), name), (1, name), "{text}");
            assert_eq!(blocks.to_string().matches("is not undone").count(), 1, "{name}: {blocks}");
        }
    }
}

/// `MESSAGES.md`: the messages as Slack shows them, near enough.
#[test]
fn messages_md_shows_every_outcome() {
    let mut page = String::from(
        "# Messages\n\n\
         What people see in Slack. A test writes this page: each message is rendered anew from a record, here as\n\
         Markdown. There is one message for each deployment, edited as it goes on. What is known of a failure is a\n\
         reply in its thread; where the new image had served, or a person is needed, the channel sees the reply too.\n\
         A rollback has two sides with a message each, which link to each other: the bad deployment, and the one that\n\
         brings a good release back. The first line under each heading is the text of notifications and screen readers.\n",
    );
    for (_, heading, record) in examples() {
        let message = render(&record);
        write!(page, "\n## {heading}\n\n<sub>{}</sub>\n\n{}", markdown(&message.text), quoted(&message.blocks, "> "))
            .unwrap();
        if let Some(Details { message, broadcast }) = details(&record) {
            let told =
                if broadcast { "A reply in its thread, shown in the channel too:" } else { "A reply in its thread:" };
            write!(page, "\n{told}\n\n{}", quoted(&message.blocks, "> > ")).unwrap();
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("MESSAGES.md");
    let is_up_to_date = std::fs::read_to_string(&path).unwrap_or_default() == page;
    std::fs::write(&path, page).unwrap();
    assert!(is_up_to_date, "{} was not up to date; it is now: look at it, and commit it", path.display());
}

/// Blocks as a quote in Markdown.
fn quoted(blocks: &Value, mark: &str) -> String {
    let blocks = blocks.as_array().unwrap().iter().map(|block| {
        let (text, log) = text_of(block).split_once("```\n").unwrap_or((text_of(block), ""));
        let mut lines: Vec<String> = text.trim_end().lines().map(markdown).collect();
        if block["type"] == "context" {
            lines.iter_mut().for_each(|line| *line = format!("<sub>{line}</sub>"));
        }
        let (is_list, is_code) = (text.contains('•'), !log.is_empty());
        let mut shown = lines.join(if is_list { "\n" } else { "<br>\n" });
        if is_code {
            write!(shown, "\n```\n{}", unescaped(log)).unwrap();
        }
        shown
    });
    let text = blocks.collect::<Vec<_>>().join("\n\n");
    text.lines().fold(String::new(), |quote, line| quote + format!("{mark}{line}").trim_end() + "\n")
}

/// The one text of a block.
fn text_of(block: &Value) -> &str {
    let objects = [&block["text"], &block["elements"][0]];
    objects.into_iter().find_map(|object| object["text"].as_str()).unwrap()
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Slack's mrkdwn as Markdown.
fn markdown(mrkdwn: &str) -> String {
    let mut shown = String::new();
    for (number, part) in mrkdwn.split('`').enumerate() {
        if number % 2 == 1 {
            write!(shown, "`{}`", unescaped(part)).unwrap();
            continue;
        }
        let mut rest = part;
        while let Some((before, link)) = rest.split_once('<') {
            let (link, after) = link.split_once('>').unwrap();
            let (url, name) = link.split_once('|').unwrap();
            write!(shown, "{}[{name}]({})", emphasis(before), unescaped(url)).unwrap();
            rest = after;
        }
        shown.push_str(&emphasis(rest));
    }
    shown
}

fn emphasis(text: &str) -> String {
    let emoji = [
        (":hourglass_flowing_sand:", "⏳"),
        (":white_check_mark:", "✅"),
        (":x:", "❌"),
        (":rewind:", "⏪"),
        (":fast_forward:", "⏩"),
        (":no_entry_sign:", "🚫"),
        (":rotating_light:", "🚨"),
    ];
    let text = text.replace('_', "\\_").replace('*', "**").replace("• ", "- ");
    emoji.iter().fold(text, |text, (name, sign)| text.replace(&name.replace('_', "\\_"), sign))
}

/// What Slack would refuse, or read as something that it is not; empty where there is nothing of it.
fn faults(message: &Message) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |is_fault: bool, fault: String| faults.extend(is_fault.then_some(fault));
    let blocks = message.blocks.as_array().unwrap();
    check(blocks.is_empty() || blocks.len() > 50, format!("{} blocks", blocks.len()));
    let all = message.blocks.to_string().encode_utf16().count();
    check(all >= 13_000, format!("{all} units of blocks"));
    check(message.text.is_empty() || units(&message.text) > 4000, "the text's length".into());
    for block in blocks {
        let text = text_of(block);
        let (object, is_only) = match block["type"].as_str() {
            Some("section") => (&block["text"], true),
            _ => (&block["elements"][0], block["elements"].as_array().unwrap().len() == 1),
        };
        check(!is_only, format!("elements: {block}"));
        check(object["type"] != "mrkdwn" || object["verbatim"] != true, format!("not verbatim: {object}"));
        check(text.trim().is_empty() || units(text) > 3000, format!("{} units: {text}", units(text)));
        markup(text).into_iter().for_each(|fault| check(true, fault));
    }
    faults.extend(markup(&message.text));
    faults
}

/// What is not our own markup: links, bold words, code and one block of it.
fn markup(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |is_fault: bool, fault: &str| faults.extend(is_fault.then(|| format!("{fault}: {text}")));
    let fences = text.matches("```").count();
    check(fences != 0 && (fences != 2 || !text.ends_with("\n```")), "a block of code that ends early");
    let text_before = text.split("```").next().unwrap();
    check(!text_before.matches('`').count().is_multiple_of(2), "code that does not end");
    // Outside code.
    let outside: String = text_before.split('`').step_by(2).collect::<Vec<_>>().join("x");
    for link in outside.split('<').skip(1) {
        let is_ours =
            link.starts_with("https://") && link.split('>').next().unwrap().contains('|') && link.contains('>');
        check(!is_ours, "what is no link of ours");
    }
    let unlinked: Vec<&str> =
        outside.split('<').map(|part| part.split_once('>').map_or(part, |(_, after)| after)).collect();
    let unlinked = unlinked.concat();
    check(unlinked.contains('>'), "an open >");
    check(unlinked.contains('~'), "struck text");
    // Service and environment, or titles.
    check(![0, 2, 4].contains(&unlinked.matches('*').count()), "bold text");
    let calls = ["@here", "@channel", "@everyone"];
    check(calls.iter().any(|call| unlinked.to_lowercase().contains(call)), "a call");
    // Our own emoji have underscores, inside words.
    let characters: Vec<char> = format!(" {unlinked} ").chars().collect();
    let runs = characters.chunk_by(|one, other| (*one == '_') == (*other == '_')).collect::<Vec<_>>();
    let is_inside = |run: &[&[char]]| {
        run[1][0] != '_' || run[0].last().unwrap().is_alphanumeric() && run[2].first().unwrap().is_alphanumeric()
    };
    check(!runs.windows(3).all(is_inside), "slanted text");
    check(text.lines().any(|line| line.starts_with("&gt;")) && fences == 0, "a quote");
    let in_text =
        |it: char| it.is_control() && it != '\n' || ('\u{202a}'..='\u{202e}').contains(&it) || it == '\u{2066}';
    check(text.contains(in_text), "what can't be seen");
    faults
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_record_breaks_slacks_limits_or_becomes_markup(record in hostile()) {
        prop_assert_eq!(faults(&render(&record)), Vec::<String>::new());
        if let Some(details) = details(&record) {
            prop_assert_eq!(faults(&details.message), Vec::<String>::new());
            let is_bad = matches!(record.state, State::Failed | State::RolledBack) || rollback::is_held(&record);
            prop_assert!(!details.broadcast || is_bad);
        }
    }
}
