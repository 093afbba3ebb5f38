//! The secrets that a task definition holds as plain text.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::LITERAL_CHARS_MIN;

/// Parts of names that say "secret" wherever they stand.
const TELLING: &[&str] = &[
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "CREDENTIAL",
    "APIKEY",
    "PRIVATEKEY",
    "ACCESSKEY",
    "CONNECTIONSTRING",
    "CONNECTION_STRING",
    "WEBHOOK",
];

/// Words that say so as a word of their own: `STRIPE_KEY`, but not `MONKEY`.
const TELLING_WORDS: &[&str] = &["AUTH", "COOKIE", "DSN", "JWT", "KEYS", "PASS", "PEPPER", "PW", "PWD", "SALT"];

/// Last words of names that say where a secret is, or what it is like.
const ABOUT: &[&str] = &[
    "ALGORITHM",
    "ARN",
    "COUNT",
    "ENABLED",
    "ENDPOINT",
    "EXPIRY",
    "FILE",
    "HEADER",
    "HOST",
    "ISSUER",
    "LENGTH",
    "NAME",
    "PATH",
    "PREFIX",
    "PROVIDER",
    "REGION",
    "TTL",
    "TYPE",
    "VERSION",
];

/// Values that nobody has to hide, and that would mask ordinary words.
const WORDS: &[&str] = &["default", "disabled", "enabled", "optional", "production", "required", "staging"];

/// The values of a task definition's environment whose names look secret, and of its containers' log options: people
/// put passwords there, and programs print them. Of an address with credentials it is the password, so that the host
/// stays readable; the address itself is masked wherever it stands.
#[must_use]
pub fn secrets_of(task_definition_body: &Map<String, Value>) -> Vec<String> {
    let containers = task_definition_body.get("containerDefinitions").and_then(Value::as_array);
    let mut secrets = BTreeSet::new();
    for container in containers.into_iter().flatten() {
        let environment = container.get("environment").and_then(Value::as_array).into_iter().flatten();
        let variables = environment.filter_map(|one| Some((one.get("name")?.as_str()?, one.get("value")?.as_str()?)));
        let options = container.pointer("/logConfiguration/options").and_then(Value::as_object);
        let options = options.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        for (name, value) in variables.chain(options) {
            secrets.extend(secret_in(name, value.trim()).into_iter().map(str::to_owned));
        }
    }
    // A key of many lines is printed line by line.
    let lines: Vec<String> = secrets.iter().flat_map(|secret| secret.lines()).map(str::to_owned).collect();
    secrets.extend(lines.into_iter().filter(|line| !line.contains("-----")));
    secrets.into_iter().filter(|secret| secret.chars().count() >= LITERAL_CHARS_MIN).collect()
}

fn secret_in<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    if let Some(credentials) = credentials_of_address(value) {
        return Some(credentials);
    }
    let name = name.to_ascii_uppercase().replace(['-', '.'], "_");
    let is_word = WORDS.iter().any(|word| word.eq_ignore_ascii_case(value));
    let is_path = value.starts_with('/') && !value.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_elsewhere = value.starts_with("arn:") || is_path;
    (is_secret_name(&name, value) && !is_word && !is_elsewhere).then_some(value)
}

fn is_secret_name(name: &str, value: &str) -> bool {
    let words = || name.split('_').filter(|word| !word.is_empty());
    let last = words().next_back().unwrap_or_default();
    if ABOUT.contains(&last) {
        return false;
    }
    let is_address = value.contains("://");
    // Addresses without credentials are no secret, unless the address itself is (of a webhook), or has a query.
    if is_address && matches!(last, "URL" | "URI" | "DSN") && !name.contains("WEBHOOK") {
        return value.contains('?');
    }
    // A key may also be that of a cache or of a sort order: those are words.
    let is_plain = value.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-.:".contains(&byte));
    TELLING.iter().any(|part| name.contains(part))
        || words().any(|word| TELLING_WORDS.contains(&word))
        || words().any(|word| word == "KEY") && !is_plain
        || name.contains("DATABASE_URL")
}

/// The password of `scheme://user:password@host`, or the user where there is no password, as in Sentry's addresses.
fn credentials_of_address(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (credentials, _) = rest.rsplit_once('@')?;
    let is_of_query = credentials.contains('?') || credentials.contains(char::is_whitespace);
    let credentials = credentials.split_once(':').map_or(credentials, |(_, password)| password);
    (!is_of_query && !credentials.is_empty()).then_some(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::mask::masked;
    use proptest::prelude::*;
    use serde_json::json;

    fn secrets(name: &str, value: &str) -> Vec<String> {
        let body = json!({"containerDefinitions": [{"environment": [{"name": name, "value": value}]}]});
        secrets_of(body.as_object().unwrap())
    }

    #[test]
    fn a_name_tells_whether_its_value_is_secret() {
        for (name, value, expected) in [
            ("DB_PASSWORD", "hunter2", Some("hunter2")),
            ("dbPassword", "hunter2", Some("hunter2")),
            ("STRIPE_KEY", "Tide77", Some("Tide77")),
            ("SECRET_KEY_BASE", "tidepool", Some("tidepool")),
            ("SENTRY_DSN", "https://4f53cda1@o1.ingest.sentry.io/2", Some("4f53cda1")),
            ("DATABASE_URL", "postgres://app:hun@ter2@db:5432/app", Some("hun@ter2")),
            ("BROKER", "amqps://app:hunter2@mq", Some("hunter2")),
            ("MYSQL_DSN", "root:hunter2@tcp(db)/app", Some("root:hunter2@tcp(db)/app")),
            ("SLACK_WEBHOOK_URL", "https://hooks.example/T0/abc", Some("https://hooks.example/T0/abc")),
            ("GITHUB_TOKEN", "abc", None),
            ("DATABASE_URL", "postgres://db:5432/app", None),
            ("TOKEN_URL", "https://auth.example/oauth/token", None),
            ("SECRET_NAME", "production/db", None),
            ("DB_SECRET", "arn:aws:secretsmanager:eu-west-1:1:secret:db", None),
            ("TLS_KEY", "/etc/tls/key.pem", None),
            ("SORT_KEY", "created_at", None),
            ("MONKEY", "bananas", None),
            ("LOG_LEVEL", "warning", None),
            ("CSRF_TOKEN_CHECK", "enabled", None),
        ] {
            assert_eq!(secrets(name, value), expected.into_iter().collect::<Vec<_>>(), "{name}={value}");
        }
    }

    #[test]
    fn log_options_and_lines_of_keys_count() {
        let key = "-----BEGIN KEY-----\nMIIEpA+1\n-----END KEY-----";
        let body = json!({"containerDefinitions": [
            {"logConfiguration": {"options": {"splunk-token": "hunter2", "splunk-url": "https://x"}}},
            {"environment": [{"name": "TLS_PRIVATE_KEY", "value": key}, {}]},
            {"environment": 7}, "odd",
        ]});
        assert_eq!(secrets_of(body.as_object().unwrap()), [key, "MIIEpA+1", "hunter2"]);
        assert!(secrets_of(&Map::new()).is_empty());
    }

    proptest! {
        #[test]
        fn what_a_password_holds_is_masked_in_a_log(
            value in "[!-~]{6,40}", before in "\\PC{0,40}", after in "\\PC{0,40}",
        ) {
            prop_assume!(!is_path_or_mask(&value));
            let line = masked(&format!("{before}{value}{after}"), &secrets("APP_PASSWORD", &value));
            prop_assert!(!line.contains(&value), "{line}");
        }
    }

    fn is_path_or_mask(value: &str) -> bool {
        value.starts_with('/') || value.contains("***") || value.contains("://")
    }
}
