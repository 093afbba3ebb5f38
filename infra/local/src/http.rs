//! The few lines of HTTP client and server that the local cloud needs: plain HTTP on loopback addresses.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

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

/// A task that ends when it is dropped.
#[derive(Debug)]
pub struct Background(AbortHandle);

impl Background {
    /// Starts it.
    pub fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server on a free port of the loopback interface, which ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    _task: Background,
}

impl Server {
    /// Serves `app`.
    pub async fn start(app: Router) -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("there is no free port on the loopback interface")?;
        let address = listener.local_addr()?;
        // Serving ends only with the task.
        let task = Background::start(async move { _ = axum::serve(listener, app).await });
        Ok(Self { address, _task: task })
    }
}
