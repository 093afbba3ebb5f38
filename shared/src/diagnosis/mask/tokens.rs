//! Secrets that are known by their shape, whatever stands around them.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::{MASK, compiled};

/// Hints that it may be there, a pattern, and what is left of what it finds.
type Pattern = (&'static [&'static str], &'static str, &'static str);

/// The body of a private key in PEM, in one piece or with its line breaks written as `\n`. The frame stays, because
/// "expected -----BEGIN PRIVATE KEY-----" is an error message. What has lost its beginning is found by its end.
const PRIVATE_KEYS: &[Pattern] = &[
    (
        &["private key"],
        r"(?x)
        ( -----BEGIN\ [A-Z0-9\ ]*PRIVATE\ KEY(?:\ BLOCK)?----- )
        (?: (?:\s|\\[nr])* (?: [A-Za-z0-9+/=]{16,} | (?:Proc-Type|DEK-Info|Version|Comment|Hash):[^\n\\]* ) )+
        (?: (?:\s|\\[nr])* [A-Za-z0-9+/=]+ ((?:\s|\\[nr])*-----END) )?",
        "${1}***${2}",
    ),
    (&["private key"], r"[A-Za-z0-9+/=]{4,}((?:\s|\\[nr])+-----END [A-Z0-9 ]*PRIVATE KEY)", "***${1}"),
];

/// All others, which stand in one line.
const OTHERS: &[Pattern] = &[
    // Credentials in addresses; the host stays. Passwords of databases often hold what an address may not, such as `/`.
    (
        &["@"],
        r#"(?xi)
        ( (?: postgres(?:ql)?|mysqlx?|mariadb|mongodb|rediss?|valkeys?|amqps?|mssql|sqlserver|clickhouse|cockroachdb
            |nats|kafka|mqtts?|ldaps?|smtps?|cassandra|neo4j|bolt )
          (?:\+[a-z0-9+]+)? :// )
        [^\s"'<>]* @"#,
        "${1}***@",
    ),
    (&["@"], r#"(://)[^\s/?\#"'<>]+@"#, "${1}***@"),
    (&["@"], r#"(://)[^\s/?\#"'<>:@]*:[0-9]*[^\s/?\#"'<>@0-9][^\s"'<>@]*@"#, "${1}***@"),
    (&["jdbc:"], r#"(?i)(jdbc:[a-z0-9]+:[a-z0-9]+:)[^\s@"'<>]+@"#, "${1}***@"),
    (&["@tcp(", "@unix(", "@cloudsql("], r#"[A-Za-z0-9_.-]+:[^\s"'<>]+(@(?:tcp|unix|cloudsql)\()"#, "***${1}"),
    // Webhooks whose address is the secret.
    (
        &["hooks.slack", "webhook", "telegram"],
        r#"(?xi)
        ( hooks\.slack(?:-gov)?\.com/[a-z]+/ | discord(?:app)?\.com/api/webhooks/ | webhook\.office\.com/
        | api\.telegram\.org/bot )
        [^\s"'<>]+"#,
        "${1}***",
    ),
    // JSON Web Tokens: <https://www.rfc-editor.org/rfc/rfc7519>.
    (&["eyj"], r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*", MASK),
    // Access keys: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>.
    (&["akia", "asia"], r"(?:AKIA|ASIA)[A-Z0-9]{16}", MASK),
    // Tokens whose makers gave them a prefix so that they are found: GitHub, npm, Docker, DigitalOcean, Linear,
    // Shopify, Stripe, Sentry, Brevo, Grafana …
    (
        &[
            "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "_pat_", "npm_", "_v1_", "lin_api_", "shp", "k_live_", "k_test_",
            "whsec_", "sntrys_", "sntryu_", "xkeysib_", "glc_", "glsa_", "hf_",
        ],
        r"(?x)
        (?: gh[opsur] | github_pat | npm | dckr_pat | do[opr]_v1 | lin_api | shp[a-z]{2} | [rsp]k_(?:live|test) | whsec
          | sntry[su] | xkeysib | glc | glsa | \bhf ) _ [A-Za-z0-9_+/=-]{10,}",
        MASK,
    ),
    // … GitLab, Slack, PyPI, New Relic, Tailscale, age; OpenAI and those who do as it does …
    (
        &["gl", "xox", "xapp-", "pypi-", "nr", "tskey-", "age-secret-key-", "sk-"],
        r"(?x)
        (?: gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt|ffct) | xox[a-z](?:\.xox[a-z])? | xapp | pypi | NRAK | NRI[A-Z]
          | NRJS | tskey | AGE-SECRET-KEY ) - [A-Za-z0-9_-]{10,}
        | \bsk-(?:[a-z]+[0-9]*-)*[A-Za-z0-9_]{20,}[A-Za-z0-9_-]*",
        MASK,
    ),
    // … Google, SendGrid, Vault, Databricks.
    (
        &["aiza", "ya29.", "sg.", "hvs.", "hvb.", "hvr.", "dapi"],
        r"(?x)
        AIza[A-Za-z0-9_-]{30,} | ya29\.[A-Za-z0-9_-]{20,} | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}
        | hv[sbr]\.[A-Za-z0-9_-]{20,} | dapi[0-9a-f]{32}",
        MASK,
    ),
];

static COMPILED_PRIVATE_KEYS: LazyLock<Vec<Option<Regex>>> = LazyLock::new(|| all_compiled(PRIVATE_KEYS));
static COMPILED_OTHERS: LazyLock<Vec<Option<Regex>>> = LazyLock::new(|| all_compiled(OTHERS));

fn all_compiled(patterns: &[Pattern]) -> Vec<Option<Regex>> {
    patterns.iter().map(|(_, pattern, _)| compiled(pattern)).collect()
}

/// `text` without private keys.
pub(super) fn without_private_keys(text: &str) -> Cow<'_, str> {
    replaced(text, PRIVATE_KEYS, &COMPILED_PRIVATE_KEYS)
}

/// `line` without other such tokens.
pub(super) fn without(line: &str) -> Cow<'_, str> {
    replaced(line, OTHERS, &COMPILED_OTHERS)
}

fn replaced<'a>(text: &'a str, patterns: &[Pattern], compiled: &[Option<Regex>]) -> Cow<'a, str> {
    // Most lines have no hint, and so cost no search for a pattern: that takes a hundred times as long.
    let lower = text.to_ascii_lowercase();
    patterns.iter().zip(compiled).fold(Cow::Borrowed(text), |text, ((hints, _, left), regex)| match regex {
        _ if hints.iter().all(|hint| !lower.contains(hint)) => text,
        None => Cow::Borrowed(MASK),
        Some(regex) => Cow::Owned(regex.replace_all(&text, *left).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for (compiled, (_, pattern, _)) in
            COMPILED_PRIVATE_KEYS.iter().chain(&*COMPILED_OTHERS).zip(PRIVATE_KEYS.iter().chain(OTHERS))
        {
            assert!(compiled.is_some(), "{pattern}");
        }
    }
}
