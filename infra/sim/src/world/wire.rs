//! The protocols that the SDK speaks: JSON, queries answered in XML, and RPC v2 in CBOR. All others speak JSON too.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

use super::{Call, cbor};

/// An error code, and what comes with it.
pub(super) type Refusal = (&'static str, Value);

/// What AWS says where a request makes no sense to it.
pub(super) fn invalid(message: &str) -> Refusal {
    ("ValidationException", json!({"message": message}))
}

/// Who is not AWS, by the beginning of the URL, and what a call of theirs is known as here.
const OTHERS: [(&str, &str); 5] = [
    ("https://hooks.slack.com/", "webhook"),
    ("https://api.newrelic.com/graphql", "newrelic"),
    ("https://api.eu.newrelic.com/graphql", "newrelic"),
    ("https://hooks.example/tidegate", "hook"),
    ("https://layers.example/", "blob"),
];

#[derive(Debug, Clone, Copy)]
pub(super) enum Protocol {
    Json,
    Query,
    Cbor,
}

/// The call that a request is, and how to answer it.
pub(super) fn read(request: &HttpRequest, by: &'static str, at: Duration) -> (Protocol, Call) {
    let bytes = request.body().bytes().unwrap_or_default();
    let text = || String::from_utf8(bytes.to_vec()).unwrap();
    let json = || match request.method() {
        // There is no more to it than what it asks for.
        "GET" => json!({"url": request.uri()}),
        _ => serde_json::from_slice(bytes).unwrap(),
    };
    let (protocol, operation, body) = if let Some(target) = request.headers().get("x-amz-target") {
        (Protocol::Json, target.rsplit('.').next().unwrap().to_owned(), json())
    } else if let Some(method) = request.uri().strip_prefix("https://slack.com/api/") {
        (Protocol::Json, method.to_owned(), json())
    } else if let Some((_, name)) = OTHERS.iter().find(|(url, _)| request.uri().starts_with(url)) {
        (Protocol::Json, (*name).to_owned(), json())
    } else if request.headers().get("smithy-protocol") == Some("rpc-v2-cbor") {
        (Protocol::Cbor, request.uri().rsplit('/').next().unwrap().to_owned(), cbor::decode(bytes))
    } else {
        let fields: BTreeMap<String, String> = form_urlencoded::parse(text().as_bytes()).into_owned().collect();
        (Protocol::Query, fields["Action"].clone(), json!(fields))
    };
    (protocol, Call { by, operation, body, at })
}

impl Protocol {
    pub(super) fn answer(self, operation: &str, result: Result<Value, Refusal>) -> HttpResponse {
        match (self, result) {
            (_, Err((code, extra))) => self.refuse(status_of(code), code, &extra),
            // Slack answers a webhook in plain text, and a blob is what it is.
            (_, Ok(Value::String(text))) => respond(200, text),
            (Self::Json, Ok(answer)) => respond(200, answer.to_string()),
            (Self::Cbor, Ok(answer)) => respond(200, cbor::encode(&answer)),
            (Self::Query, Ok(answer)) => {
                // The result comes first.
                let parts =
                    [json!({format!("{operation}Result"): answer}), json!({"ResponseMetadata": {"RequestId": "1"}})];
                let answer: String = parts.iter().map(xml).collect();
                respond(200, format!("<{operation}Response>{answer}</{operation}Response>"))
            }
        }
    }

    /// Too many calls: what HTTP has for it.
    pub(super) fn limit(self, seconds: u64) -> HttpResponse {
        let mut response = self.refuse(429, "ratelimited", &Value::Null);
        response.headers_mut().insert("retry-after", seconds.to_string());
        response
    }

    pub(super) fn refuse(self, status: u16, code: &str, extra: &Value) -> HttpResponse {
        let message = extra.get("message").and_then(Value::as_str).unwrap_or("as AWS would say");
        let mut error = json!({"__type": code, "message": message});
        match self {
            Self::Json => {
                error.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
                // As Slack says it.
                error["ok"] = json!(false);
                error["error"] = json!(code);
                respond(status, error.to_string())
            }
            Self::Cbor => respond(status, cbor::encode(&error)),
            Self::Query => {
                let error = json!({"Type": "Sender", "Code": code, "Message": message});
                respond(status, xml(&json!({"ErrorResponse": {"Error": error, "RequestId": "1"}})))
            }
        }
    }
}

fn status_of(code: &str) -> u16 {
    match code {
        "Unauthorized" => 401,
        "SignatureDoesNotMatch" => 403,
        "NoSuchEntity" | "NoSuchKey" => 404,
        _ => 400,
    }
}

fn respond(status: u16, body: impl Into<SdkBody>) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), body.into())
}

fn xml(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("<{name}>{}</{name}>", xml(value))).collect()
        }
        Value::Array(items) => items.iter().map(|item| format!("<member>{}</member>", xml(item))).collect(),
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
