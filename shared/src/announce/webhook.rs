//! A webhook of one's own, signed as [Standard Webhooks](https://www.standardwebhooks.com) says, so that the receiver
//! can check with a ready-made library that it was Tidegate who called, and when.
//!
//! Pure: a record goes in, a request comes out.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::Sha256;

use super::delivery::Answer;
use super::sns;
use crate::http::Response;
use crate::record::Record;

/// What a secret begins with that is written in base64.
const BASE64_PREFIX: &str = "whsec_";
/// What the key of another kind of signature begins with.
const ASYMMETRIC_PREFIX: &str = "whsk_";
/// The shortest secret that the specification allows.
const KEY_BYTES_MIN: usize = 24;
/// What a refusal of the signature begins with.
const SECRET_REFUSED: &str = "it does not take our signature";

/// A request to send with POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Names and values of its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body, to be sent as it is: the signature is that of these bytes.
    pub body: String,
}

/// The request that tells of `record`. However often it is made, `webhook-id` is the same, and a receiver can know by
/// it what it has already. `webhook-timestamp` is the time of the attempt, as the specification wants.
///
/// # Errors
/// Why nothing can be signed with `secret`, without any of it.
pub fn request(record: &Record, secret: &SecretString, now: DateTime<Utc>) -> Result<Post, String> {
    let key = key(secret)?;
    let body = json!({
        "type": format!("deployment.{}", record.state.as_str()),
        "timestamp": record.changed_at(),
        "data": sns::body(record),
    })
    .to_string();
    // A full stop in it could be taken for one that separates what is signed.
    let id = record.id.chars().filter(char::is_ascii_alphanumeric).take(100);
    let id = format!("{}-{}", id.collect::<String>(), record.version);
    let timestamp = now.timestamp();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| "the webhook's signing secret is no key")?;
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ];
    Ok(Post { headers, body })
}

/// The key that a secret stands for: behind `whsec_` in base64, or else the text itself.
///
/// # Errors
/// What is wrong with the secret, without any of it.
fn key(secret: &SecretString) -> Result<Vec<u8>, String> {
    let secret = secret.expose_secret().trim();
    if secret.starts_with(ASYMMETRIC_PREFIX) {
        return Err(format!(
            "the webhook's signing secret is a key for asymmetric signatures ({ASYMMETRIC_PREFIX}); put a shared \
             secret there, {BASE64_PREFIX} and base64"
        ));
    }
    let key = match secret.strip_prefix(BASE64_PREFIX) {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .map_err(|_| format!("what follows {BASE64_PREFIX} in the webhook's signing secret is not base64"))?,
        None => secret.as_bytes().to_vec(),
    };
    match key.len() {
        0 => Err("the webhook's signing secret is empty".into()),
        1..KEY_BYTES_MIN => {
            Err(format!("the webhook's signing secret is too short; take at least {KEY_BYTES_MIN} random bytes"))
        }
        _ => Ok(key),
    }
}

/// What the receiver's answer means. The
/// [specification](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
/// wants redirects not to be followed, and nothing to be sent to what is gone.
#[must_use]
pub fn read_answer(response: &Response) -> Answer<()> {
    let status = response.status;
    match status {
        200..=299 => Answer::Ok(()),
        300..=399 => Answer::Refused(format!("it answers with a redirect ({status}); set the URL that it leads to")),
        401 | 403 => Answer::Refused(format!(
            "{SECRET_REFUSED} (HTTP status {status}); both sides need the same signing secret, and the right time"
        )),
        404 | 410 => Answer::Refused(format!("it is gone (HTTP status {status}); set another URL, or none")),
        _ => Answer::of_status(response),
    }
}

/// Whether a refusal is about the signing secret, which may have been rotated.
#[must_use]
pub fn is_about_secret(reason: &str) -> bool {
    reason.starts_with(SECRET_REFUSED)
}

#[cfg(test)]
mod tests {
    use super::sns::tests::{STATES, full, hostile};
    use super::*;
    use crate::record::State;
    use proptest::prelude::*;
    use serde_json::Value;
    use standardwebhooks::Webhook;
    use std::time::Duration;

    /// The example of the specification's own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    const WAIT: Duration = Duration::from_secs(7);

    fn of(record: &Record, secret: &str, now: DateTime<Utc>) -> Result<Post, String> {
        request(record, &SecretString::from(secret), now)
    }

    fn noon() -> DateTime<Utc> {
        "2026-11-16T12:00:00Z".parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "the verifier holds the request against the wall clock")]
    fn wall_clock() -> DateTime<Utc> {
        std::time::SystemTime::now().into()
    }

    fn is_verified(post: &Post, webhook: &Webhook) -> bool {
        let headers = post.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        webhook.verify(post.body.as_bytes(), &headers.collect()).is_ok()
    }

    #[test]
    fn every_state_has_its_request() {
        let requests = STATES.map(|state| {
            let Post { mut headers, body } = of(&full(state), SECRET, noon()).unwrap();
            let mut body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["data"], sns::body(&full(state)));
            body["data"] = "the SNS message".into();
            headers.retain(|(name, _)| *name != "webhook-signature");
            json!({"headers": headers, "body": body})
        });
        insta::assert_json_snapshot!(requests);
    }

    #[test]
    fn the_receiver_can_tell_that_it_was_us() {
        let (now, webhook) = (wall_clock(), Webhook::new(SECRET).unwrap());
        for state in STATES {
            let post = of(&full(state), SECRET, now).unwrap();
            assert!(is_verified(&post, &webhook), "{state:?}");
            assert!(!is_verified(&Post { body: post.body.replace("live", "test"), ..post.clone() }, &webhook));
            let other = Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
            assert!(!is_verified(&post, &other));
            for name in ["webhook-id", "webhook-timestamp"] {
                let mut changed = post.clone();
                let (_, value) = changed.headers.iter_mut().find(|(header, _)| *header == name).unwrap();
                let last = if value.pop() == Some('0') { '1' } else { '0' };
                value.push(last);
                assert!(!is_verified(&changed, &webhook), "{name}");
            }
        }
        let raw = "a secret of at least 24 bytes";
        let post = of(&full(State::Failed), &format!(" {raw}\n"), now).unwrap();
        assert!(is_verified(&post, &Webhook::from_bytes(raw.into()).unwrap()));
    }

    #[test]
    fn a_retry_has_the_same_id_and_body_at_another_time() {
        let record = full(State::Succeeded);
        let (first, again) = (of(&record, SECRET, noon()).unwrap(), of(&record, SECRET, wall_clock()).unwrap());
        assert_eq!((&first.headers[1], &first.body), (&again.headers[1], &again.body));
        assert_ne!((&first.headers[2], &first.headers[3]), (&again.headers[2], &again.headers[3]));
        let newer = of(&Record { version: 4, ..record }, SECRET, noon()).unwrap();
        assert_ne!(first.headers[1], newer.headers[1]);
    }

    #[test]
    fn what_can_not_sign_is_said_and_not_shown() {
        let refused = [
            ("", "is empty"),
            (" \n", "is empty"),
            ("whsec_", "is empty"),
            ("whsec_hunter2!", "is not base64"),
            ("whsec_aHVudGVyMg==", "too short"),
            ("hunter2", "too short"),
            ("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "asymmetric"),
        ];
        for (secret, because) in refused {
            let error = of(&full(State::Failed), secret, noon()).unwrap_err();
            assert!(error.contains(because), "{secret}: {error}");
            assert!(!["hunter2", "aHVudGVyMg", "MfKQ9r8"].iter().any(|shown| error.contains(shown)), "{error}");
        }
    }

    #[test]
    fn an_answer_is_a_success_or_says_what_to_do() {
        let answer = |status| read_answer(&Response { status, retry_after: Some(WAIT), body: Vec::new() });
        assert_eq!((answer(200), answer(204)), (Answer::Ok(()), Answer::Ok(())));
        assert_eq!(answer(429), Answer::Limited(WAIT));
        for status in [408, 425, 500, 502, 503, 504, 599] {
            assert_eq!(answer(status), Answer::Broken(format!("HTTP status {status}")));
        }
        for (status, says) in [
            (302, "set the URL that it leads to"),
            (401, "the same signing secret"),
            (403, "the same signing secret"),
            (404, "set another URL"),
            (410, "set another URL"),
            (400, "HTTP status 400"),
            (422, "HTTP status 422"),
            (600, "HTTP status 600"),
        ] {
            let Answer::Refused(reason) = answer(status) else { panic!("{status}") };
            assert!(reason.contains(says), "{status}: {reason}");
            assert_eq!(is_about_secret(&reason), matches!(status, 401 | 403), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn any_record_makes_headers_and_a_signature_that_holds(
            text in "\\PC{0,100}|[\\x00-\\x1f.\"🌊]{0,100}", version in any::<u64>(), secret in "\\PC{24,80}",
        ) {
            let record = Record { version, ..hostile(State::Failed, &text, &[]) };
            let key = SecretString::from(format!("whsec_{}", BASE64_STANDARD.encode(&secret)));
            let post = request(&record, &key, noon()).unwrap();
            prop_assert!(post.headers.iter().all(|(_, value)| value.bytes().all(|byte| byte.is_ascii_graphic())));
            let (id, signature) = (&post.headers[1].1, &post.headers[3].1);
            prop_assert!(!id.contains('.') && id.len() <= 121);
            let webhook = Webhook::new(key.expose_secret()).unwrap();
            let signed = webhook.sign(id, noon().timestamp(), post.body.as_bytes()).unwrap();
            prop_assert_eq!(signature, &signed);
        }

        #[test]
        fn any_secret_signs_or_is_not_shown(secret in "(whsec_|whsk_)?\\PC{0,80}") {
            if let Err(error) = of(&full(State::Failed), &secret, noon()) {
                prop_assert!(secret.trim().len() < 12 || !error.contains(secret.trim()));
            }
        }
    }
}
