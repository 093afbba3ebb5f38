//! Values that are assigned to a name which says that they are secret: `password=…`, `"api_key": "…"`,
//! `Authorization: Bearer …`, `--token …`, in the spellings of shells, JSON, YAML, XML, connection strings and the
//! debug output of common languages.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::{MASK, compiled};

/// A name with a telling word in it, or one that is telling as a whole.
const NAME: &str = concat!(
    r"(?: [a-z0-9_.\-]*",
    r"(?: pass(?:word|wd|phrase|code) | pwd | secret | token | credential | authorization | cookie | signature | dsn",
    r" | api[_.\-]?key | connection[_.\-]?string | session[_.\-]?id",
    r" | (?: access|account|app|application|auth|client|encryption|hmac|jwt|licen[cs]e|master|private|service|session",
    r"   | shared|signing|ssh|storage|webhook )[_.\-]?key )",
    r" [a-z0-9_\-]*",
    r"| \b(?:[a-z0-9_.\-]*[_.\-])?(?:pass|pw|sig|jwt|_auth) )",
);

/// What a line has that has such a name, or a header's scheme.
const HINTS: &[&str] = &[
    "auth",
    "basic",
    "bearer",
    "connection",
    "cookie",
    "credential",
    "dsn",
    "jwt",
    "key",
    "pass",
    "pw",
    "secret",
    "session",
    "sig",
    "token",
];

/// Where a value begins. An ARN of Secrets Manager is only passed over: what follows `secret:` in it is a name.
static OPENING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(&format!(
        r#"(?xi)
        (?P<arn> arn:[a-z\-]*:secretsmanager:[a-z0-9\-]*:[0-9]*:secret: )
        | (?P<scheme> \b(?:bearer|basic)[\ \t]+ )
        | (?P<cookie> \b(?:set-)?cookie[\ \t]*:[\ \t]* )
        | (?P<name> {NAME} ) \\*["'\]]* (?: [\ \t]*(?:=>|:=|==?|:)[\ \t]* | %3d | > )
        | --(?P<flag> {NAME} )[\ \t]+"#
    ))
});

/// A value at the beginning of a text: what is kept of it and what is masked, in pairs of groups. A quoted value may
/// have been cut before its closing quote; an unquoted one may go on behind a comma or an ampersand.
static VALUE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compiled(
        r#"(?xi) ^ (?:
          ( (?:[a-z_][a-z0-9_:]*\()* [bfru]? " ) ( (?:[^"\\\n]|\\[^\n])* )
        | ( (?:[a-z_][a-z0-9_:]*\()* [bfru]? ' ) ( (?:[^'\\\n]|\\[^\n])* )
        | ( (?:[a-z_][a-z0-9_:]*\()* \\+["'] ) ( [^"'\n]* )
        | ( \[ ) ( [^\]\n]* )
        | ( \{ ) ( [^\s"'}]+ )
        | ( (?:(?:bearer|basic|digest|token|negotiate)[\ \t]+)? )
          ( [^\s"'<>\[{&;,:=] [^\s"'<>&;,]* (?:[&;,][^\s"'<>&;,:=]*)* )
        )"#,
    )
});

/// What may follow `Bearer` or `Basic`.
static OPAQUE: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r"^()([A-Za-z0-9._~+/=-]{8,})"));

/// The rest of a line of a header.
static LINE: LazyLock<Option<Regex>> = LazyLock::new(|| compiled(r#"^()([^"'\n]+)"#));

/// `line` without such values.
pub(super) fn without(line: &str) -> Cow<'_, str> {
    let lower = line.to_ascii_lowercase();
    if HINTS.iter().any(|hint| lower.contains(hint)) { masked(line) } else { Cow::Borrowed(line) }
}

fn masked(text: &str) -> Cow<'_, str> {
    let (Some(opening), Some(value), Some(opaque), Some(line)) = (&*OPENING, &*VALUE, &*OPAQUE, &*LINE) else {
        return Cow::Borrowed(MASK);
    };
    let mut masked = String::new();
    let mut done = 0;
    while let Some(found) = opening.captures_at(text, done) {
        let Some(whole) = found.get(0) else { break };
        let (before, rest) = (text.get(done..whole.end()), text.get(whole.end()..));
        let (Some(before), Some(rest)) = (before, rest) else { break };
        masked.push_str(before);
        done = whole.end();
        let group = |name| found.name(name).map(|group| group.as_str());
        let secret = match (group("name").or(group("flag")), group("scheme"), group("cookie")) {
            (Some(name), _, _) if is_innocent_name(name) => None,
            (Some(name), _, _) => {
                Value::read(value, rest).filter(|value| !value.is_innocent(name)).map(|value| value.ended(rest))
            }
            (_, Some(_), _) => Value::read(opaque, rest).filter(|value| !is_word(value.secret)),
            (_, _, Some(_)) => Value::read(line, rest),
            _ => None,
        };
        if let Some(secret) = secret {
            masked.push_str(secret.kept);
            masked.push_str(MASK);
            done += secret.kept.len() + secret.secret.len();
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(text.get(done..).unwrap_or_default());
    Cow::Owned(masked)
}

/// A value, and the opening quotes and such before it that are kept.
struct Value<'a> {
    kept: &'a str,
    secret: &'a str,
}

impl<'a> Value<'a> {
    fn read(regex: &Regex, rest: &'a str) -> Option<Self> {
        let found = regex.captures(rest)?;
        let pair = (1..found.len()).step_by(2).find_map(|index| found.get(index).zip(found.get(index + 1)));
        let (kept, secret) = pair?;
        Some(Self { kept: kept.as_str(), secret: secret.as_str() }).filter(|value| !value.secret.is_empty())
    }

    /// Whether this is a value that nobody has to hide: none at all, or a word that says what is wrong with it.
    fn is_innocent(&self, name: &str) -> bool {
        let value = self.secret.trim_end_matches([',', ';', '.', ')', '}', ']']);
        let is_directory = name.to_ascii_lowercase().ends_with("pwd") && value.starts_with('/');
        let words = [
            "",
            "empty",
            "expired",
            "false",
            "invalid",
            "missing",
            "nil",
            "none",
            "null",
            "required",
            "true",
            "undefined",
        ];
        is_directory || words.iter().any(|word| word.eq_ignore_ascii_case(value))
    }

    /// The same value without what belongs to the text around it: the name of another assignment behind a comma or an
    /// ampersand, and closing brackets.
    fn ended(mut self, rest: &str) -> Self {
        let is_quoted = self.kept.ends_with(['"', '\'', '[', '{']);
        if is_quoted {
            return self;
        }
        let after = rest.get(self.kept.len() + self.secret.len()..).unwrap_or_default();
        if after.starts_with(['=', ':']) {
            let last = self.secret.rfind(['&', ';', ',']);
            self.secret = last.and_then(|at| self.secret.get(..at)).unwrap_or(self.secret);
        }
        let trimmed = self.secret.trim_end_matches([',', ';', ')', '}', ']']);
        self.secret = if trimmed.is_empty() { self.secret } else { trimmed };
        self
    }
}

/// Whether a name only looks like that of a secret: it counts tokens, says where a secret is, or is that of an error
/// or of a class.
fn is_innocent_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ends = [
        "arn",
        "controller",
        "count",
        "encoder",
        "endpoint",
        "error",
        "exception",
        "expires",
        "expires_in",
        "expiry",
        "factory",
        "failure",
        "file",
        "filter",
        "handler",
        "length",
        "manager",
        "name",
        "passwordless",
        "path",
        "policy",
        "provider",
        "repository",
        "service",
        "store",
        "tokenizer",
        "tokens",
        "ttl",
        "type",
        "uri",
        "url",
        "validator",
    ];
    ends.iter().any(|end| name.ends_with(end))
}

/// Whether this could be a word of a sentence: `Basic authentication failed`.
fn is_word(text: &str) -> bool {
    let word = text.trim_end_matches(['.', ',']);
    let rest = word.get(1..).unwrap_or_default();
    let is_letters = word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let is_of_one_case =
        rest.bytes().all(|byte| !byte.is_ascii_uppercase()) || word.bytes().all(|byte| !byte.is_ascii_lowercase());
    word.len() < 20 && is_letters && is_of_one_case
}
