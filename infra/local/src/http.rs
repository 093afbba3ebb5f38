//! The few lines of HTTP client that the local cloud needs: plain HTTP to loopback addresses.

use anyhow::{Context as _, Result};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

/// A client that can be cloned and shared.
#[derive(Debug, Clone)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

/// A response with its whole body.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Default for Http {
    fn default() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }
}

impl Http {
    /// Sends one request and reads the whole response, whatever its status.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).context("a malformed request")?;
        let response = self.0.request(request).await.with_context(|| format!("no answer from {url}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.with_context(|| format!("a broken answer from {url}"))?.to_bytes();
        Ok(Response { status: parts.status, headers: parts.headers, body })
    }
}

impl Response {
    /// The body as text, for messages to people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
