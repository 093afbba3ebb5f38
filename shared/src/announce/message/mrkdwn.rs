//! What others have written, as Slack's [mrkdwn](https://docs.slack.dev/messaging/formatting-message-text): shown as it
//! is, and never read as markup.
//!
//! mrkdwn can escape three characters and no more, so where another one would be read as markup, one that looks like
//! it takes its place. In code there is no such need: names that people copy are shown as code.

/// The longest link that is shown. Slack takes 3,000 characters, but 13,000 of a whole message.
const LINK_UNITS_MAX: usize = 1000;
/// Where a line of a log is cut.
const LINE_UNITS_MAX: usize = 400;
/// What stands for the part that was cut.
const ELLIPSIS: &str = "…";

/// The length of `text` in a request, counted on the safe side: in units of UTF-16, quoted as JSON quotes.
pub(crate) fn units(text: &str) -> usize {
    text.chars().map(|character| character.len_utf16() + usize::from(matches!(character, '"' | '\\' | '\n'))).sum()
}

/// Text of at most so many [`units`].
struct Cut {
    text: String,
    left: usize,
}

impl Cut {
    fn new(max: usize) -> Self {
        Self { text: String::new(), left: max.saturating_sub(units(ELLIPSIS)) }
    }

    /// Adds `piece` whole. If it has no place, the text ends here, and this is false.
    fn push(&mut self, piece: &str) -> bool {
        match self.left.checked_sub(units(piece)) {
            Some(left) => {
                self.left = left;
                self.text.push_str(piece);
                true
            }
            None => {
                self.text.push_str(ELLIPSIS);
                false
            }
        }
    }
}

/// `text` between words of ours, at most `max` units long.
pub(crate) fn words(text: &str, max: usize) -> String {
    let text = one_line(text);
    let mut cut = Cut::new(max);
    let mut characters = text.chars();
    // Underscores inside a word are not markup, and names are full of them.
    let (mut before, mut last) = (None, None);
    while let Some(character) = characters.next() {
        let rest = characters.as_str();
        let is_in_word = || is_word(before) && is_word(rest.trim_start_matches('_').chars().next());
        let mut itself = [0; 4];
        let shown = match character {
            '*' => "∗",
            '~' => "∼",
            '_' if !is_in_word() => "＿",
            // Somebody who is written with an @ may be called.
            '@' if !is_word(last) || is_everybody(rest) => "＠",
            // The end of a link in the markdown of other chats.
            '(' if last == Some(']') => " (",
            // At the start of a line it quotes, escaped or not.
            '>' if cut.text.is_empty() => "›",
            _ => escaped(character, &mut itself),
        };
        if !cut.push(shown) {
            // No underscore may be left without its word.
            return format!("{}{ELLIPSIS}", cut.text.trim_end_matches(['_', '…']));
        }
        last = Some(character);
        before = last.filter(|&it| it != '_').or(before);
    }
    cut.text
}

/// `text` where nothing is read as markup: in one line of at most `max` units.
pub(crate) fn plain(text: &str, max: usize) -> String {
    let text = one_line(text);
    let mut cut = Cut::new(max);
    text.chars().take_while(|character| cut.push(character.encode_utf8(&mut [0; 4]))).for_each(drop);
    cut.text
}

/// `text` as code between words of ours, at most `max` units long; empty where nothing of it can be seen.
pub(crate) fn code(text: &str, max: usize) -> String {
    let text = one_line(text);
    let mut cut = Cut::new(max.saturating_sub(2));
    for character in text.chars() {
        if !cut.push(escaped(character, &mut [0; 4])) {
            break;
        }
    }
    if cut.text.is_empty() { cut.text } else { format!("`{}`", cut.text) }
}

/// The last of `lines` as a block of code of at most `max` units; `None` where there is nothing to see.
pub(crate) fn block(lines: &[String], max: usize) -> Option<String> {
    let mut left = max.saturating_sub(units("```\n…\n\n```"));
    let mut shown = Vec::new();
    for line in lines.iter().rev() {
        let line = code_line(line);
        match left.checked_sub(units(&line) + units("\n")) {
            Some(rest) => left = rest,
            None => {
                shown.push(ELLIPSIS.to_owned());
                break;
            }
        }
        shown.push(line);
    }
    shown.reverse();
    let text = shown.join("\n");
    (!text.trim().is_empty()).then(|| format!("```\n{}\n```", text.trim_end()))
}

/// A line of a log: its spaces stay, terminal colours go.
fn code_line(line: &str) -> String {
    let mut cut = Cut::new(LINE_UNITS_MAX);
    let mut characters = line.trim_end().chars();
    while let Some(character) = characters.next() {
        let mut itself = [0; 4];
        let shown = match character {
            '\u{1b}' if characters.as_str().starts_with('[') => {
                // Such a sequence ends with one of these.
                characters.by_ref().skip(1).find(|it| ('@'..='~').contains(it));
                continue;
            }
            '\t' => "    ",
            unseen if is_unseen(unseen) => continue,
            space if space.is_whitespace() => " ",
            seen => escaped(seen, &mut itself),
        };
        if !cut.push(shown) {
            break;
        }
    }
    cut.text
}

/// A link that is shown as `text`, which is words of ours, or was made by [`words`]; `None` where `url` is no web
/// address that is safe to show.
pub(crate) fn link(url: &str, text: &str) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !b"<>|\"\\`".contains(byte);
    let url = url.starts_with("https://").then(|| url.replace('&', "&amp;"))?;
    (units(&url) <= LINK_UNITS_MAX && url.as_bytes().iter().all(is_plain)).then(|| format!("<{url}|{text}>"))
}

/// The first `shown` of `items` in `max` units each, and how many more there are; empty where there is nothing to see.
pub(crate) fn list(items: &[String], shown: usize, max: usize, separator: &str) -> String {
    let mut names: Vec<String> = items.iter().map(|item| words(item, max)).filter(|item| !item.is_empty()).collect();
    let more = names.len().saturating_sub(shown);
    names.truncate(shown);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(separator)
}

/// Without line breaks, and without what can't be seen.
fn one_line(text: &str) -> String {
    let seen: String = text
        .chars()
        .filter(|&it| it.is_whitespace() || !is_unseen(it))
        .map(|it| if it.is_whitespace() { ' ' } else { it })
        .collect();
    seen.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The three characters that Slack reads as markup everywhere, and the one that ends code.
fn escaped(character: char, itself: &mut [u8; 4]) -> &str {
    match character {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '`' => "'",
        other => other.encode_utf8(itself),
    }
}

/// Whether a text after an @ calls everybody.
fn is_everybody(text: &str) -> bool {
    let is_start = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    ["channel", "everyone", "here"].into_iter().any(is_start)
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(char::is_alphanumeric)
}

/// Control characters, and those that change the direction or the borders of what is around them.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(character, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_slack_would_read_as_markup_is_shown_as_text() {
        for (text, shown) in [
            ("a & b <!channel> c", "a &amp; b &lt;!channel&gt; c"),
            ("> not a quote", "› not a quote"),
            ("*bold* ~gone~ _slanted_ __init__", "∗bold∗ ∼gone∼ ＿slanted＿ ＿＿init＿＿"),
            ("web_api and LOG__LEVEL stay", "web_api and LOG__LEVEL stay"),
            ("`code`", "'code'"),
            ("@here, @ana, (@all), x@Channel, ana@example.com", "＠here, ＠ana, (＠all), x＠Channel, ana@example.com"),
            ("[click](https://example.com)", "[click] (https://example.com)"),
            ("two\nlines,\r\n\ttab\u{2028}end", "two lines, tab end"),
            ("\u{202e}turned\u{2066} \u{200b}\u{0}", "turned"),
        ] {
            assert_eq!(words(text, 100), shown);
        }
    }

    #[test]
    fn code_stays_as_it_is_but_for_what_would_end_it() {
        assert_eq!(code("_x_ *y* `z` <a>&", 100), "`_x_ *y* 'z' &lt;a&gt;&amp;`");
        assert_eq!(code(" \n\u{0}", 100), "");
    }

    #[test]
    fn what_is_cut_says_so_and_cuts_no_entity() {
        assert_eq!(words("a<<<<", 10), "a&lt;&lt;…");
        assert_eq!(words("some_name", 6), "some…");
        assert_eq!(code("0123456789", 8), "`01234…`");
        assert_eq!(words("😀😀😀", 5), "😀😀…");
        assert_eq!(list(&["a".into(), " ".into(), "*".into(), "c".into()], 2, 9, ", "), "a, ∗, and 1 more");
    }

    #[test]
    fn a_log_keeps_its_end_and_can_not_leave_its_block() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let log = lines(&["first", "```", "\u{1b}[31mError:\u{1b}[0m <no>", "\tat main", ""]);
        assert_eq!(block(&log, 1000).unwrap(), "```\nfirst\n'''\nError: &lt;no&gt;\n    at main\n```");
        assert_eq!(block(&log, 40).unwrap(), "```\n…\n    at main\n```");
        assert_eq!((block(&[], 1000), block(&lines(&["", " "]), 1000)), (None, None));
    }

    #[test]
    fn only_a_plain_https_address_becomes_a_link() {
        assert_eq!(link("https://example.com/?a=1&b=2", "x").unwrap(), "<https://example.com/?a=1&amp;b=2|x>");
        let long = format!("https://example.com/{}", "x".repeat(1000));
        for url in ["http://example.com", "javascript:alert(1)", "https://a|b", "https://a>b", "https://a b", &long] {
            assert_eq!(link(url, "x"), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn nothing_gets_longer_than_it_may(text in "\\PC{0,80}|[<>&`*_~@\"\\\\\n]{0,80}", max in 4_usize..60) {
            prop_assert!(units(&words(&text, max)) <= max);
            prop_assert!(units(&code(&text, max)) <= max);
            prop_assert!(units(&plain(&text, max)) <= max);
            let block = block(&[text.clone(), text], max + 16).unwrap_or_default();
            prop_assert!(units(&block) <= max + 16, "{block}");
        }
    }
}
