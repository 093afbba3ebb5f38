//! Secrets of others' services, in the Parameter Store: read when first needed, and again when they are refused, for they
//! may have been rotated.

use std::sync::{Mutex, PoisonError};

use aws_sdk_ssm::Client;
use secrecy::SecretString;

use crate::error::{Error, from_sdk};

/// A secret, known by the name of its SecureString parameter.
#[derive(Debug)]
pub struct Secret {
    ssm: Client,
    name: String,
    /// Whose it is and what it must be, for the operator.
    owner: &'static str,
    kind: &'static str,
    known: Mutex<Option<SecretString>>,
}

impl Secret {
    /// The secret in the parameter `name`, which `owner` wants and which is `kind`.
    #[must_use]
    pub fn new(ssm: Client, name: impl Into<String>, owner: &'static str, kind: &'static str) -> Self {
        Self { ssm, name: name.into(), owner, kind, known: Mutex::default() }
    }

    /// The secret.
    ///
    /// # Errors
    /// [`Error::Sink`] where there is no such parameter; [`Error::Aws`].
    pub async fn read(&self) -> Result<SecretString, Error> {
        if let Some(secret) = self.known().clone() {
            return Ok(secret);
        }
        let Self { name, owner, kind, .. } = self;
        let answer = self.ssm.get_parameter().name(name).with_decryption(true).send().await;
        let answer = answer.map_err(|error| match from_sdk("GetParameter", name, &error) {
            error if error.code() == Some("ParameterNotFound") => Error::Sink {
                sink: owner,
                reason: format!("there is no parameter {name}; put {kind} into a SecureString of that name"),
                transient: false,
            },
            error => error,
        })?;
        let value = answer.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        let secret = SecretString::from(value.trim().to_owned());
        *self.known() = Some(secret.clone());
        Ok(secret)
    }

    /// Reads it again the next time.
    pub fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<SecretString>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_sdk_ssm::config::retry::RetryConfig;
    use aws_sdk_ssm::config::{BehaviorVersion, Credentials, Region};
    use aws_smithy_runtime_api::client::http::http_client_fn;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use crate::http::tests::{answer, canned};

    /// A Parameter Store in which every parameter is `parameter` or, where that is an error, refused; and how often it
    /// was asked.
    pub(crate) fn store(parameter: Result<&'static str, &'static str>) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let connector = canned(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            assert_eq!(body, json!({"Name": "/tidegate/slack", "WithDecryption": true}));
            Ok(match parameter {
                Ok(value) => answer(200, json!({"Parameter": {"Value": value}}).to_string()),
                Err(code) => answer(400, json!({"__type": code, "message": "no"}).to_string()),
            })
        });
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        (Client::from_conf(config), asked)
    }

    fn secret(parameter: Result<&'static str, &'static str>) -> (Secret, Arc<AtomicUsize>) {
        let (ssm, asked) = store(parameter);
        (Secret::new(ssm, "/tidegate/slack", "Slack", "a bot token"), asked)
    }

    #[tokio::test]
    async fn a_secret_is_read_once_and_again_when_it_was_forgotten() {
        let (secret, asked) = secret(Ok(" xoxb-hunter2\n"));
        for _ in 0..3 {
            assert_eq!(secret.read().await.unwrap().expose_secret(), "xoxb-hunter2", "without what was pasted with it");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(!format!("{secret:?}").contains("hunter2"));
        secret.forget();
        secret.read().await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_refusal_says_what_to_do_and_is_not_kept() {
        for (code, text, transient) in [
            (
                "ParameterNotFound",
                "Slack did not take the message: there is no parameter /tidegate/slack; put a bot token",
                false,
            ),
            ("AccessDeniedException", "Allow GetParameter in the function's role", false),
            ("ThrottlingException", "GetParameter for /tidegate/slack failed", true),
        ] {
            let (secret, asked) = secret(Err(code));
            for _ in 0..2 {
                let error = secret.read().await.unwrap_err();
                assert!(error.to_string().contains(text), "{error}");
                assert_eq!(error.is_transient(), transient, "{error}");
            }
            assert_eq!(asked.load(Ordering::Relaxed), 2, "{code}");
        }
    }
}
