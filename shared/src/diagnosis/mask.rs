//! Masking of secrets in text that others wrote: log lines, and ECS's words.
//!
//! Four passes, each over what the one before has left: literals that are known to be secret, `tokens` that are known
//! by their shape, values that are `assigned` to a name like `password`, and `runs` of characters that look random.
//! Where in doubt, text is masked: a log line that lost a word costs less than a password in a channel. What a reader
//! needs to find the fault is kept: hosts, names, ARNs, digests, UUIDs and paths.

mod assigned;
mod environment;
mod runs;
mod tokens;

use std::borrow::Cow;

use regex_lite::Regex;

pub use self::environment::secrets_of;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// What a pass has masked may show a secret to one before it, and so a line is done when nothing changes any more. Two
/// rounds are the rule.
const ROUNDS_MAX: usize = 5;

/// Literals shorter than this are not looked for: they would mask parts of ordinary words.
const LITERAL_CHARS_MIN: usize = 6;

/// `text` without secrets: neither those of `secrets`, wherever they stand, nor anything that looks like one. Masking
/// twice is masking once.
#[must_use]
pub fn masked(text: &str, secrets: &[String]) -> String {
    let without_literals = without_literals(text, secrets);
    let text = tokens::without_private_keys(&without_literals);
    let mut masked = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut line = Cow::Borrowed(line);
        for _ in 0..ROUNDS_MAX {
            match line_masked(&line) {
                next if next == line => break,
                next => line = Cow::Owned(next),
            }
        }
        masked.push_str(&line);
    }
    masked
}

fn line_masked(line: &str) -> String {
    let line = tokens::without(line);
    let line = assigned::without(&line);
    runs::without(&line).into_owned()
}

/// `text` without the literals of `secrets`, as they are and as JSON writes them. Longer ones go first: one may hold
/// another.
pub(super) fn without_literals<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut literals: Vec<String> = Vec::with_capacity(secrets.len());
    for secret in secrets.iter().filter(|secret| secret.chars().count() >= LITERAL_CHARS_MIN) {
        let as_json = serde_json::to_string(secret).unwrap_or_default();
        let inside = as_json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        literals.extend(inside.map(str::to_owned));
        literals.push(secret.clone());
    }
    literals.sort_by_key(|literal| std::cmp::Reverse(literal.len()));
    literals.dedup();
    literals.iter().filter(|literal| !literal.is_empty()).fold(Cow::Borrowed(text), |text, literal| {
        match text.contains(literal.as_str()) {
            true => Cow::Owned(text.replace(literal.as_str(), MASK)),
            false => text,
        }
    })
}

/// A pattern of ours. A test sees to it that every one compiles; if one did not, everything would be masked.
fn compiled(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn masked(text: &str) -> String {
        super::masked(text, &[])
    }

    #[test]
    fn secrets_are_masked_and_what_helps_is_kept() {
        for (text, expected) in [
            // Assignments.
            ("password=hunter2", "password=***"),
            ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
            (r#"{"api_key": "a\"b", "user": "bob"}"#, r#"{"api_key": "***", "user": "bob"}"#),
            (r#"{\"client_secret\":\"hunter2\",\"user\":1}"#, r#"{\"client_secret\":\"***",\"user\":1}"#),
            ("{'passwd': 'hunter2', 'user': 'bob'}", "{'passwd': '***', 'user': 'bob'}"),
            (r#"Config { token: Some("hunter2"), port: 1 }"#, r#"Config { token: Some("***"), port: 1 }"#),
            ("passwords=[alpha, beta] rest", "passwords=[***] rest"),
            (":secret_key=>\"hunter2\"", ":secret_key=>\"***\""),
            ("os.environ['API_TOKEN'] = 'hunter2'", "os.environ['API_TOKEN'] = '***'"),
            ("<password>hunter2</password>", "<password>***</password>"),
            ("migrate --db-password hunter2 --verbose", "migrate --db-password *** --verbose"),
            ("spring.datasource.password=hunter2", "spring.datasource.password=***"),
            ("Server=db;User ID=sa;Password=hun,ter2;Encrypt=true", "Server=db;User ID=sa;Password=***;Encrypt=true"),
            ("GET /cb?access_token=hunter2&state=ok HTTP/1.1", "GET /cb?access_token=***&state=ok HTTP/1.1"),
            ("password = \"cut before the quote closes", "password = \"***"),
            // Headers.
            ("Authorization: Bearer hunter2", "Authorization: Bearer ***"),
            ("authorization: Basic dXNlcjpwYXNz, x", "authorization: Basic ***, x"),
            ("sent Bearer abc123def456 to host", "sent Bearer *** to host"),
            ("Cookie: a=b; session=c", "Cookie: ***"),
            ("X-Api-Key: hunter2", "X-Api-Key: ***"),
            // Addresses.
            ("https://bob:hunter2@example.com/x", "https://***@example.com/x"),
            ("https://bob:hun/ter2@example.com/x", "https://***@example.com/x"),
            ("postgres://u:p/a?ss@db.internal:5432/app", "postgres://***@db.internal:5432/app"),
            ("redis://:hunter2@cache:6379", "redis://***@cache:6379"),
            ("root:hunter2@tcp(db:3306)/app", "***@tcp(db:3306)/app"),
            ("jdbc:oracle:thin:scott/tiger@//db:1521/x", "jdbc:oracle:thin:***@//db:1521/x"),
            ("https://hooks.slack.com/services/T0/B0/abc ok", "https://hooks.slack.com/services/*** ok"),
            // Tokens.
            ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
            ("id=ASIAIOSFODNN7EXAMPLE", "id=***"),
            ("xoxb-123456789012-abcdefABCDEF was refused", "*** was refused"),
            ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "***"),
            ("glpat-abcdefghij0123456789", "***"),
            ("sk_live_abcdefghijkl", "***"),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY is wrong", "*** is wrong"),
            // Private keys.
            (
                "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq3\nq8Zs\n-----END RSA PRIVATE KEY-----\nlistening",
                "-----BEGIN RSA PRIVATE KEY-----***\n-----END RSA PRIVATE KEY-----\nlistening",
            ),
            (
                r#""-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq3\n-----END PRIVATE KEY-----\n""#,
                r#""-----BEGIN PRIVATE KEY-----***\n-----END PRIVATE KEY-----\n""#,
            ),
            ("q8Zs\n-----END PRIVATE KEY-----", "***\n-----END PRIVATE KEY-----"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn ordinary_lines_are_left_alone() {
        for text in [
            "2026-11-16T09:54:37.123Z INFO listening on http://0.0.0.0:8080 (pid 1)",
            "Traceback (most recent call last):",
            r#"  File "/usr/local/lib/python3.12/site-packages/sqlalchemy/engine/base.py", line 145, in __init__"#,
            "psycopg2.OperationalError: FATAL:  password authentication failed for user \"app\"",
            "sqlalchemy.exc.OperationalError: connection to server at \"db.internal\" (10.0.3.17), port 5432 failed",
            "    at com.example.auth.TokenService.validate(TokenService.java:42) ~[app.jar!/:1.4.2]",
            "Caused by: org.springframework.beans.factory.UnsatisfiedDependencyException: Error creating bean",
            "org.springframework.boot.autoconfigure.jdbc.DataSourceProperties$DataSourceBeanCreationException: Failed",
            "    at Object.<anonymous> (/usr/src/app/node_modules/express/lib/router/index.js:284:15)",
            "Error: Cannot find module '/usr/src/app/dist/server.js'",
            "SyntaxError: Unexpected token < in JSON at position 0",
            "thread 'main' panicked at src/main.rs:12:5: called `Result::unwrap()` on an `Err` value: NotFound",
            "   3: core::ops::function::FnOnce::call_once{{vtable.shim}}::h4f53cda18c2baa0c",
            "/usr/local/cargo/registry/src/index.crates.io-6f17d22bba15001f/tokio-1.38.0/src/runtime/park.rs",
            "panic: runtime error: invalid memory address or nil pointer dereference [signal SIGSEGV: 0xb code=0x1]",
            "goroutine 1 [running]: main.(*Server).Start(0xc0001a6000, {0x7ffd1e5c8f3a, 0x4})",
            "exec /usr/local/bin/app: exec format error",
            "GET /healthz 502 3.1ms trace=00f067aa0ba902b7 request=6f1c2d3e-4b5a-4c6d-8e7f-0a1b2c3d4e5f",
            "pulled web@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/web:9fceb02d0ae598e95dc970b74767f19372d61af8: not found",
            "starting commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf: AccessDeniedException",
            "User: arn:aws:sts::1:assumed-role/Shop-TaskRole30FC0FBB-v3VAz81Cmm5R/4f53cda18c2baa0c0354bb5f9a3ecbe5 is \
             not authorized to perform: dynamodb:Query on resource: arn:aws:dynamodb:eu-west-1:1:table/Orders",
            "https://sqs.eu-west-1.amazonaws.com/1/ShopStack-OrdersQueueE6CA6235-4XQGJ5TZ6T8H does not exist",
            "ExpiredTokenException: The security token included in the request is expired",
            "unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR",
            "Basic authentication is off, Bearer authentication is on; max_tokens=4096 token_type=access",
            "password: null, token: undefined, PWD=/usr/src/app",
            "integrity sha512-bC7elrdJaJnPbAP+1EotYvqZsb3ecl5wi6Bfi6BJTUcNowp6cvspg0jXznRTKDjm/E7AdgFBVeAPVMNcKGsHMA==",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 AbstractAutowireCapableBeanFactory getURLForABCWithXYZHandler",
            "could not connect to postgres://db.internal:5432/app?sslmode=require",
            "mail to ops@example.com: https://example.com/search?mail=ops@example.com",
            "=================================== 2024-11-16T09-54-37-000Z_some-long-directory-name-of-a-build",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    fn random(seed: u32) -> [u8; 32] {
        Sha256::digest(seed.to_be_bytes()).into()
    }

    #[test]
    fn random_keys_need_no_name() {
        let mut missed = 0;
        for seed in 0..1000 {
            let bytes = random(seed);
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let base64 = [STANDARD.encode(&bytes[..30]), URL_SAFE_NO_PAD.encode(bytes)];
            for secret in base64.into_iter().chain([hex.chars().take(32).collect(), hex]) {
                missed += i32::from(masked(&format!("got {secret}, twice")) != "got ***, twice");
            }
        }
        // Chance makes words too.
        assert!(missed <= 1, "{missed} of 4000");
    }

    #[test]
    fn the_literals_of_the_environment_are_masked_wherever_they_stand() {
        let secrets = ["tide-pool".to_owned(), "tide-pool-2".into(), "say \"hi\"".into(), "short".into()];
        assert_eq!(
            super::masked(r#"xtide-pool-2x tide-pool {"a":"say \"hi\""} short"#, &secrets),
            r#"x***x *** {"a":"***"} short"#
        );
    }

    /// A secret of a known shape.
    fn token() -> impl Strategy<Value = String> {
        prop_oneof![
            "(AKIA|ASIA)[A-Z2-7]{16}",
            "gh[pousr]_[A-Za-z0-9]{36}",
            "github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
            "glpat-[A-Za-z0-9_-]{20}",
            "npm_[A-Za-z0-9]{36}",
            "(sk|rk)_(live|test)_[A-Za-z0-9]{24}",
            "xox[abeprs]-[0-9]{10,12}-[0-9]{10,12}-[A-Za-z0-9]{24}",
            "https://hooks\\.slack\\.com/services/T[A-Z0-9]{8}/B[A-Z0-9]{8}/[A-Za-z0-9]{24}",
            "eyJ[A-Za-z0-9_-]{20,60}\\.eyJ[A-Za-z0-9_-]{20,90}\\.[A-Za-z0-9_-]{43}",
            "AIza[A-Za-z0-9_-]{35}",
            Just("postgresql://app:s3cr/et?#x@db:5432/app".to_owned()),
            "[a-z]{2,8}://[a-z]{1,8}:[A-Za-z0-9!$%^&*(),;=+-]{4,20}@[a-z]{1,9}\\.example",
            any::<u32>().prop_map(|seed| STANDARD.encode(&random(seed)[..30])),
        ]
    }

    proptest! {
        #[test]
        fn a_token_never_survives(
            token in token(), before in "(\\PC{0,30}[\\s\"'(=\\[{>])?", after in "([\\s\"',)\\]}<]\\PC{0,30})?",
        ) {
            let text = format!("{before}{token}{after}");
            let masked = masked(&text);
            prop_assert!(!masked.contains(&token), "{text} became {masked}");
        }

        #[test]
        fn an_assigned_value_never_survives(
            value in "[A-Za-z0-9!$%^*()+_./-][A-Za-z0-9!$%^*()+_./@#~|?-]{5,30}[A-Za-z0-9]",
            prefix in "(DB_|db\\.|app-|my)?",
            word in "(password|PASSWORD|passwd|secret|Token|api_key|apiKey|API-KEY|private_key|credentials)",
            spelling in 0..14, before in "(\\PC{0,30}[ ,;&?{(])?", after in "([ \n\",}]\\PC{0,30})?",
        ) {
            let name = prefix + &word;
            // Words such as `missing` are kept; a digit makes it none.
            let value = format!("{value}7");
            let assigned = match spelling {
                0 => format!("{name}={value}"),
                1 => format!("{name}: {value}"),
                2 => format!("\"{name}\": \"{value}\""),
                3 => format!("\"{name}\":\"{value}\""),
                4 => format!("'{name}': '{value}'"),
                5 => format!("{name} = \"{value}\""),
                6 => format!(":{name} => '{value}'"),
                7 => format!("--{name} {value}"),
                8 => format!("<{name}>{value}</{name}>"),
                9 => format!("\\\"{name}\\\":\\\"{value}\\\""),
                10 => format!("{name}: Some(\"{value}\")"),
                11 => format!("{name}=Bearer {value}"),
                12 => format!("{name}:{value}"),
                _ => format!("{name}%3D{value}"),
            };
            let text = format!("{before}{assigned}{after}");
            let masked = masked(&text);
            prop_assert!(!masked.contains(&value), "{text} became {masked}");
        }

        #[test]
        fn a_literal_never_survives(secret in "\\PC{6,30}", before in "\\PC{0,60}", after in "\\PC{0,60}") {
            prop_assume!(!"***".contains(secret.trim_matches('*')));
            let masked = super::masked(&format!("{before}{secret}{after}"), std::slice::from_ref(&secret));
            prop_assert!(!masked.contains(&secret), "{masked}");
        }

        #[test]
        fn masking_twice_is_masking_once(parts in proptest::collection::vec(part(), 0..12), secret in "[a-z]{6,9}") {
            let secrets = [secret.clone()];
            let text = parts.concat() + &secret;
            let once = super::masked(&text, &secrets);
            prop_assert_eq!(super::masked(&once, &secrets), once.clone(), "{}", text);
        }

        #[test]
        fn never_panics(text in "(?s).{0,200}", secrets in proptest::collection::vec(".{0,10}", 0..4)) {
            let _ignored = super::masked(&text, &secrets);
        }
    }

    /// Pieces that together look like anything.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            token(),
            "[ \n\"'=:;,&<>{}()\\[\\]\\\\@/?#*.-]{1,3}",
            "(password|token|Authorization|secret|Bearer|Basic|cookie|--api-key|commit|sha256|PWD|dsn)",
            "(=|: |\": \"|=>|%3D|://|@|@tcp\\(|\\\\n|eyJ|\\.dkr\\.ecr\\.|arn:aws:ecs:::)",
            "-----(BEGIN|END) PRIVATE KEY-----",
            "[A-Za-z0-9+/_-]{1,50}",
            "[a-f0-9]{20,50}",
            "\\PC{0,10}",
        ]
    }

    /// Not a benchmark: a pattern that goes back and forth would take minutes.
    #[test]
    fn long_lines_take_no_minutes() {
        for piece in ["password=a&", "tokens=", "://a:b", "eyJ@", "x:@", "password: \"", "secret(", "0a1-"] {
            let _ignored = masked(&piece.repeat(10_000 / piece.len()));
        }
        let _ignored = masked(&"GET /healthz 200 took 3.1 ms, as was to be expected\n".repeat(2000));
    }
}
