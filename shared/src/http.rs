//! HTTP to others than AWS, through the connector of the SDK: one HTTP stack, one TLS provider, one place to cut the wire
//! in a test.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

/// What is read of an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A client. It never tells a URL: that of a webhook is its secret.
#[derive(Debug, Clone)]
pub struct Http(SharedHttpConnector);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// After how long to ask again, where the header `Retry-After` says so in seconds.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

impl Http {
    /// A client over `connector`.
    #[must_use]
    pub fn new(connector: SharedHttpConnector) -> Self {
        Self(connector)
    }

    /// `POST`s `body` to `url`.
    ///
    /// # Errors
    /// What went wrong, in words that hold nothing of the request.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<Response, &'static str> {
        self.send("POST", url, headers, SdkBody::from(body)).await
    }

    /// `GET`s `url`.
    ///
    /// # Errors
    /// What went wrong, in words that hold nothing of the request.
    pub async fn get(&self, url: &str) -> Result<Response, &'static str> {
        self.send("GET", url, &[], SdkBody::empty()).await
    }

    async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&'static str, String)],
        body: SdkBody,
    ) -> Result<Response, &'static str> {
        let mut request = HttpRequest::new(body);
        if request.set_method(method).is_err() || request.set_uri(url).is_err() {
            return Err("its URL can't be read");
        }
        for (name, value) in headers {
            if request.headers_mut().try_insert(*name, value.clone()).is_err() {
                return Err("a header can't be sent; does the secret hold a line break?");
            }
        }
        let response = self.0.call(request).await.map_err(|_| "the connection failed")?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|seconds| seconds.trim().parse().ok());
        let declared = response.headers().get("content-length").and_then(|length| length.parse::<usize>().ok());
        if declared.is_some_and(|length| length > ANSWER_BYTES_MAX) {
            return Err("its answer is too long");
        }
        let body = ByteStream::new(response.into_body()).collect().await.map_err(|_| "its answer broke off")?;
        let body = body.to_vec();
        match body.len() <= ANSWER_BYTES_MAX {
            true => Ok(Response { status, retry_after: retry_after.map(Duration::from_secs), body }),
            false => Err("its answer is too long"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    use aws_smithy_runtime_api::client::http::HttpConnectorFuture;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::client::result::ConnectorError;

    type Answering = dyn Fn(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send + Sync;

    /// A connector that answers as it is told to.
    #[derive(Clone)]
    pub(crate) struct Canned(Arc<Answering>);

    impl std::fmt::Debug for Canned {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Canned")
        }
    }

    impl HttpConnector for Canned {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            HttpConnectorFuture::ready((self.0)(&request))
        }
    }

    /// A connector that answers with what `answer` says of a request.
    pub(crate) fn canned(
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, ConnectorError> + Send + Sync + 'static,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Canned(Arc::new(answer)))
    }

    /// An answer.
    pub(crate) fn answer(status: u16, body: impl Into<SdkBody>) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), body.into())
    }

    const URL: &str = "https://hooks.example/services/hunter2";

    async fn posted(url: &str, header: &str, respond: fn() -> HttpResponse) -> Result<Response, &'static str> {
        let http = Http::new(canned(move |request| {
            assert_eq!((request.method(), request.uri()), ("POST", URL));
            assert_eq!(request.headers().get("api-key"), Some("key"));
            assert_eq!(request.body().bytes(), Some("{}".as_bytes()));
            Ok(respond())
        }));
        http.post(url, &[("api-key", header.to_owned())], "{}".into()).await
    }

    #[tokio::test]
    async fn an_answer_is_what_was_answered() {
        let found = posted(URL, "key", || answer(404, "not here")).await.unwrap();
        assert_eq!(found, Response { status: 404, retry_after: None, body: b"not here".to_vec() });
    }

    #[tokio::test]
    async fn retry_after_is_read_in_seconds() {
        let retry_after = async |value: &'static str| {
            let http = Http::new(canned(move |_| {
                let mut limited = answer(429, "");
                limited.headers_mut().insert("retry-after", value);
                Ok(limited)
            }));
            http.get(URL).await.unwrap().retry_after.map(|wait| wait.as_secs())
        };
        for (value, seconds) in [("7", Some(7)), (" 30 ", Some(30)), ("0", Some(0)), ("604800", Some(604_800))] {
            assert_eq!(retry_after(value).await, seconds, "{value}");
        }
        for value in ["", "soon", "-1", "1.5", "Mon, 16 Nov 2026 10:00:00 GMT", "99999999999999999999999"] {
            assert_eq!(retry_after(value).await, None, "{value}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_not_kept() {
        let long = || answer(200, vec![b'x'; ANSWER_BYTES_MAX + 1]);
        assert_eq!(posted(URL, "key", long).await, Err("its answer is too long"));
        let declared = || {
            let mut long = answer(200, "");
            long.headers_mut().insert("content-length", (ANSWER_BYTES_MAX + 1).to_string());
            long
        };
        assert_eq!(posted(URL, "key", declared).await, Err("its answer is too long"));
        let longest = posted(URL, "key", || answer(200, vec![b'x'; ANSWER_BYTES_MAX])).await.unwrap();
        assert_eq!(longest.body.len(), ANSWER_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said_without_the_secret() {
        let fine = || answer(200, "");
        for url in ["", "hunter2 hunter2", "https://[hunter2"] {
            assert_eq!(posted(url, "key", fine).await, Err("its URL can't be read"), "{url}");
        }
        for header in ["hunter2\n", "hunter2\r\nx: y", "\u{1}hunter2"] {
            let refused = posted(URL, header, fine).await.unwrap_err();
            assert!(refused.starts_with("a header can't be sent"), "{header:?}: {refused}");
        }
        let http = Http::new(canned(|request| Err(ConnectorError::io(request.uri().to_owned().into()))));
        assert_eq!(http.get(URL).await, Err("the connection failed"));
        assert!(!format!("{http:?}").contains("hunter2"));
    }
}
