//! A tiny AWS client: enough of the protocols to talk to the emulator.
//!
//! It does not use the AWS SDK on purpose: it compiles in no time, and a mistake shared with the product cannot hide.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::http::Method;
use bytes::Bytes;
use serde_json::Value;

use crate::http::{Http, Response};

/// The account of the local cloud.
pub const ACCOUNT: &str = "123456789012";
/// The Region of the local cloud.
pub const REGION: &str = "eu-west-1";

/// A client for one emulator.
#[derive(Debug, Clone)]
pub struct Aws {
    /// The HTTP client, for what is not an AWS API.
    pub http: Http,
    endpoint: String,
}

/// An error that the API answered.
#[derive(Debug)]
pub struct ApiError {
    /// The operation that failed.
    pub operation: String,
    /// The code, such as `ClientException`.
    pub code: String,
    /// The message.
    pub message: String,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answered {}: {}", self.operation, self.code, self.message)
    }
}

impl std::error::Error for ApiError {}

impl Aws {
    /// A client for the emulator at `endpoint`.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { http: Http::default(), endpoint: endpoint.into() }
    }

    /// The emulator's address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls an operation of a service with the JSON protocol. `target` is what AWS calls the target prefix and the
    /// operation, such as `AmazonSSM.PutParameter`.
    pub async fn json(&self, service: &str, target: &str, input: &Value) -> Result<Value> {
        let headers = [("x-amz-target", target), ("content-type", "application/x-amz-json-1.1")];
        let response = self.send(service, Method::POST, "/", &headers, input.to_string()).await?;
        let output: Value = if response.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&response.body).with_context(|| format!("{target} answered {}", response.text()))?
        };
        if response.status.is_success() {
            return Ok(output);
        }
        let text = |name: &str| output.get(name).and_then(Value::as_str);
        let code = text("__type").or_else(|| text("code")).unwrap_or("UnknownError");
        Err(ApiError {
            operation: target.to_owned(),
            code: code.rsplit('#').next().unwrap_or(code).to_owned(),
            message: text("message").or_else(|| text("Message")).unwrap_or_default().to_owned(),
        }
        .into())
    }

    /// Calls an operation of Amazon ECS.
    pub async fn ecs(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("ecs", &format!("AmazonEC2ContainerServiceV20141113.{operation}"), input).await
    }

    /// Calls an operation of Amazon ECR.
    pub async fn ecr(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("ecr", &format!("AmazonEC2ContainerRegistry_V20150921.{operation}"), input).await
    }

    /// Calls an operation of Amazon DynamoDB.
    pub async fn dynamodb(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("dynamodb", &format!("DynamoDB_20120810.{operation}"), input).await
    }

    /// Calls an operation of Amazon SQS.
    pub async fn sqs(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("sqs", &format!("AmazonSQS.{operation}"), input).await
    }

    /// Calls an operation of AWS Systems Manager.
    pub async fn ssm(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("ssm", &format!("AmazonSSM.{operation}"), input).await
    }

    /// Calls an operation of Amazon EventBridge.
    pub async fn events(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("events", &format!("AWSEvents.{operation}"), input).await
    }

    /// Calls an operation of the Resource Groups Tagging API.
    pub async fn tagging(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("tagging", &format!("ResourceGroupsTaggingAPI_20170126.{operation}"), input).await
    }

    /// Calls an operation of AWS Secrets Manager.
    pub async fn secrets(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("secretsmanager", &format!("secretsmanager.{operation}"), input).await
    }

    /// Calls an operation of Amazon CloudWatch.
    pub async fn cloudwatch(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("monitoring", &format!("GraniteServiceVersion20100801.{operation}"), input).await
    }

    /// Calls an operation of Application Auto Scaling.
    pub async fn scaling_targets(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("application-autoscaling", &format!("AnyScaleFrontendService.{operation}"), input).await
    }

    /// Calls an operation of Amazon EC2 Auto Scaling, which answers XML.
    pub async fn autoscaling(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<String> {
        self.query("autoscaling", "2011-01-01", operation, parameters).await
    }

    /// Calls an operation of AWS IAM, which answers XML.
    pub async fn iam(&self, operation: &str, parameters: &[(&str, &str)]) -> Result<String> {
        self.query("iam", "2010-05-08", operation, parameters).await
    }

    /// Calls an operation of Amazon CloudWatch Logs.
    pub async fn logs(&self, operation: &str, input: &Value) -> Result<Value> {
        self.json("logs", &format!("Logs_20140328.{operation}"), input).await
    }

    /// Calls an operation with the query protocol, which answers XML.
    pub async fn query(
        &self,
        service: &str,
        version: &str,
        operation: &str,
        parameters: &[(&str, &str)],
    ) -> Result<String> {
        let mut body = format!("Action={operation}&Version={version}");
        for (name, value) in parameters {
            body.push('&');
            body.push_str(&encode(name));
            body.push('=');
            body.push_str(&encode(value));
        }
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let response = self.send(service, Method::POST, "/", &headers, body).await?;
        let text = response.text();
        if response.status.is_success() {
            return Ok(text);
        }
        Err(ApiError {
            operation: operation.to_owned(),
            code: elements(&text, "Code").next().unwrap_or("UnknownError").to_owned(),
            message: elements(&text, "Message").next().unwrap_or(&text).to_owned(),
        }
        .into())
    }

    /// Invokes a Lambda function and waits for its response.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let tried = self.try_invoke(function, event).await?;
        tried.map_err(|error| anyhow!("the function {function} failed: {error}"))
    }

    /// Invokes a Lambda function and waits for its response, or for the error that it ends with.
    pub async fn try_invoke(&self, function: &str, event: &Value) -> Result<Result<Value, String>> {
        let response = self.invoke_as(function, "RequestResponse", event).await?;
        if response.headers.contains_key("x-amz-function-error") {
            return Ok(Err(response.text()));
        }
        let answer = serde_json::from_slice(&response.body);
        Ok(Ok(answer.with_context(|| format!("{function} answered {}", response.text()))?))
    }

    /// Hands an event to a Lambda function as EventBridge does: without waiting, and tried again when it fails.
    pub async fn deliver(&self, function: &str, event: &Value) -> Result<()> {
        self.invoke_as(function, "Event", event).await?;
        Ok(())
    }

    async fn invoke_as(&self, function: &str, kind: &str, event: &Value) -> Result<Response> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let headers = [("x-amz-invocation-type", kind)];
        let response = self.send("lambda", Method::POST, &path, &headers, event.to_string()).await?;
        ensure!(response.status.is_success(), "the function {function} cannot be invoked: {}", response.text());
        Ok(response)
    }

    /// Sends a request to a service, for those with an API of their own (S3, Lambda).
    pub async fn send(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response> {
        // The emulator finds the service and the Region in the credential's scope and checks no signature.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=none"
        );
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.http.send(method, &format!("{}{path}", self.endpoint), &all, body).await
    }
}

/// The texts of all elements called `name`, in order.
pub fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once(&open)?;
        let (text, after) = from.split_once(&close)?;
        rest = after;
        Some(text)
    })
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The ARN of a service.
pub fn service_arn(cluster: &str, service: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:service/{cluster}/{service}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_a_name() {
        let xml = "<a><Key>x</Key><Value>1</Value></a><a><Key>y</Key></a>";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(elements(xml, "Nothing").count(), 0);
    }

    #[test]
    fn text_is_encoded_for_a_form() {
        assert_eq!(encode("a b/ü~"), "a%20b%2F%C3%BC~");
    }
}
