//! Getting a message to somebody who may be slow, limited or out of order.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use crate::error::Error;
use crate::http::Response;
use crate::platform::Platform;
use crate::secrets::Secret;

/// How often a request is repeated in one invocation when it is not answered as it should be. A 429 does not count.
const ATTEMPTS_MAX: u32 = 3;
/// How long to wait where somebody says 429 and not for how long.
pub const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// How long one request may take. A connector's time-out does not see an answer that never ends.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// What came of one request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was taken.
    Ok(T),
    /// Not now, but after this long.
    Limited(Duration),
    /// It was refused, with this reason, and will be again.
    Refused(String),
    /// It did not get there, or the other side is out of order.
    Broken(String),
}

impl<T> Answer<T> {
    /// What came of a request: what `read` makes of the response, if there is one.
    #[must_use]
    pub fn of(sent: Result<Response, &'static str>, read: impl FnOnce(&Response) -> Self) -> Self {
        match sent {
            Ok(response) => read(&response),
            Err(reason) => Self::Broken(reason.into()),
        }
    }

    /// What an [HTTP status](https://www.rfc-editor.org/rfc/rfc9110#section-15) other than success says by itself.
    #[must_use]
    pub fn of_status(Response { status, retry_after, .. }: &Response) -> Self {
        match status {
            429 => Self::Limited(retry_after.unwrap_or(RETRY_AFTER_DEFAULT)),
            408 | 425 | 500..=599 => Self::Broken(format!("HTTP status {status}")),
            _ => Self::Refused(format!("HTTP status {status}")),
        }
    }
}

/// Why something was not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, in the other side's words.
    pub reason: String,
    /// Whether it may be taken later.
    pub transient: bool,
}

impl Refusal {
    /// As an error of `sink`.
    #[must_use]
    pub fn of(self, sink: &'static str) -> Error {
        Error::Sink { sink, reason: self.reason, transient: self.transient }
    }
}

/// Makes a request with a secret, and once more with the secret read again where `is_about_secret` the refusal is: it may
/// have been rotated.
///
/// # Errors
/// [`Error`] where the secret can't be read; in the answer, [`Refusal`].
pub async fn with_secret<T>(
    secret: &Secret,
    is_about_secret: impl Fn(&str) -> bool,
    request: impl AsyncFn(SecretString) -> Result<T, Refusal>,
) -> Result<Result<T, Refusal>, Error> {
    let answer = request(secret.read().await?).await;
    if !answer.as_ref().is_err_and(|refusal| is_about_secret(&refusal.reason)) {
        return Ok(answer);
    }
    secret.forget();
    Ok(request(secret.read().await?).await)
}

/// Makes a request until it is taken or refused for good, waiting out limits and repeating what did not get there, as
/// long as the invocation has time.
///
/// # Errors
/// [`Refusal`].
pub async fn insist<T>(
    platform: &Platform,
    deadline: DateTime<Utc>,
    mut request: impl AsyncFnMut() -> Answer<T>,
) -> Result<T, Refusal> {
    let mut attempts = 0;
    loop {
        let answer = platform.within(REQUEST_TIME, request()).await;
        let (wait, reason) = match answer.unwrap_or_else(|| Answer::Broken("it did not answer in time".into())) {
            Answer::Ok(answer) => return Ok(answer),
            Answer::Refused(reason) => return Err(Refusal { reason, transient: false }),
            Answer::Limited(wait) => (wait, "it limits our rate (429)".to_owned()),
            Answer::Broken(reason) => {
                attempts += 1;
                (Duration::from_secs(1 << attempts.min(4)), reason)
            }
        };
        if attempts >= ATTEMPTS_MAX || !platform.sleep_before(deadline, wait).await {
            return Err(Refusal { reason, transient: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use crate::platform::tests::paused;
    use crate::secrets::tests::store;
    use chrono::TimeDelta;
    use secrecy::ExposeSecret;

    /// What comes of these answers, after which there is none: the result, how many requests it took, and how long.
    async fn insisted(answers: Vec<Answer<u8>>, time: TimeDelta) -> (Result<u8, Refusal>, usize, Duration) {
        let platform = paused();
        let (began, deadline) = (tokio::time::Instant::now(), platform.now() + time);
        let (mut answers, mut requests) = (answers.into_iter(), 0);
        let request = async || {
            requests += 1;
            match answers.next() {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        };
        let result = insist(&platform, deadline, request).await;
        (result, requests, began.elapsed())
    }

    fn limited(seconds: u64) -> Answer<u8> {
        Answer::Limited(Duration::from_secs(seconds))
    }

    fn broken() -> Answer<u8> {
        Answer::Broken("oops".into())
    }

    fn refusal(reason: &str, transient: bool) -> Result<u8, Refusal> {
        Err(Refusal { reason: reason.into(), transient })
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_repeated_as_their_answers_ask() {
        let silent = "it did not answer in time";
        let limit = "it limits our rate (429)";
        let cases = [
            (vec![Answer::Ok(1)], Ok(1), 1, 0),
            (vec![Answer::Refused("no".into())], refusal("no", false), 1, 0),
            (vec![broken(), Answer::Ok(1)], Ok(1), 2, 2),
            (vec![broken(), broken(), Answer::Ok(1)], Ok(1), 3, 2 + 4),
            (vec![broken(), broken(), broken(), Answer::Ok(1)], refusal("oops", true), 3, 2 + 4),
            (vec![broken(), Answer::Refused("no".into())], refusal("no", false), 2, 2),
            // A limit is no failure, however often it is told.
            (vec![limited(7), limited(8), limited(9), limited(1), Answer::Ok(1)], Ok(1), 5, 25),
            (vec![broken(), limited(5), broken(), limited(5), Answer::Ok(1)], Ok(1), 5, 16),
            (vec![limited(600)], refusal(limit, true), 1, 0),
            (vec![limited(100), limited(100)], refusal(limit, true), 2, 100),
            (vec![], refusal(silent, true), 3, 3 * 15 + 2 + 4),
        ];
        for (answers, result, requests, seconds) in cases {
            let situation = format!("{answers:?}");
            let expected = (result, requests, Duration::from_secs(seconds));
            assert_eq!(insisted(answers, TimeDelta::seconds(120)).await, expected, "{situation}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_repeated_that_would_leave_no_time_to_end_well() {
        for (seconds_left, requests) in [(3, 1), (9, 1), (11, 2), (13, 2), (15, 3)] {
            let (result, made, took) =
                insisted(vec![broken(), broken(), broken()], TimeDelta::seconds(seconds_left)).await;
            assert_eq!((result, made), (refusal("oops", true), requests), "{seconds_left}");
            assert!(took.as_secs() + 8 <= seconds_left.unsigned_abs().max(8), "{seconds_left} {took:?}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_read_again_where_the_refusal_is_about_it_and_once() {
        let refused = |reason: &str| Err(Refusal { reason: reason.into(), transient: false });
        for (answers, reads, requests, is_taken) in [
            (vec![Ok(())], 1, 1, true),
            (vec![refused("key"), Ok(())], 2, 2, true),
            (vec![refused("key"), refused("key"), Ok(())], 2, 2, false),
            (vec![refused("no entity"), Ok(())], 1, 1, false),
        ] {
            let (ssm, asked) = store(Ok("hunter2"));
            let secret = Secret::new(ssm, "/tidegate/slack", "the test", "a secret");
            let (answers, made) = (Mutex::new(answers.into_iter()), Mutex::new(0));
            let request = async |secret: SecretString| {
                assert_eq!(secret.expose_secret(), "hunter2");
                *made.lock().unwrap() += 1;
                answers.lock().unwrap().next().unwrap()
            };
            let result = with_secret(&secret, |reason| reason == "key", request).await.unwrap();
            assert_eq!((asked.load(Ordering::Relaxed), *made.lock().unwrap()), (reads, requests));
            assert_eq!(result.is_ok(), is_taken);
            if let Err(refusal) = result {
                let error = refusal.of("the test");
                assert!(error.to_string().starts_with("the test did not take the message: "), "{error}");
                assert!(!error.is_transient());
            }
        }
    }

    #[tokio::test]
    async fn without_a_secret_nothing_is_sent() {
        let (ssm, _) = store(Err("ParameterNotFound"));
        let secret = Secret::new(ssm, "/tidegate/slack", "the test", "a secret");
        let request = async |_: SecretString| -> Result<(), Refusal> { panic!("there is nothing to send it with") };
        let error = with_secret(&secret, |_| true, request).await.unwrap_err();
        assert!(error.to_string().contains("put a secret into a SecureString"), "{error}");
    }

    #[test]
    fn a_status_says_whether_to_come_again() {
        let of = |status, retry_after| Answer::<()>::of_status(&Response { status, retry_after, body: Vec::new() });
        let week = Duration::from_secs(604_800);
        assert_eq!(of(429, Some(week)), Answer::Limited(week));
        assert_eq!(of(429, None), Answer::Limited(RETRY_AFTER_DEFAULT));
        for status in [408, 425, 500, 503, 599] {
            assert_eq!(of(status, None), Answer::Broken(format!("HTTP status {status}")));
        }
        for status in [100, 301, 400, 401, 404, 410, 600] {
            assert_eq!(of(status, None), Answer::Refused(format!("HTTP status {status}")));
        }
    }
}
