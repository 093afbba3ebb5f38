//! What passes through the SDK as JSON, for its typed structures would lose what is younger than they are.

use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::Value;

use crate::error::Error;

/// Puts `body` on the wire in place of what the SDK serialised. Runs before signing.
pub(super) fn put_on_wire(request: &mut HttpRequest, body: &str) {
    request.headers_mut().insert("content-length", body.len().to_string());
    *request.body_mut() = SdkBody::from(body);
}

/// Keeps the body of an answer as it came over the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Option<Vec<u8>>>>);

impl Wire {
    pub(super) fn answer(&self, operation: &'static str, resource: &str) -> Result<Value, Error> {
        let body = self.0.lock().ok().and_then(|mut kept| kept.take()).unwrap_or_default();
        serde_json::from_slice(&body).map_err(|_| Error::Answer {
            operation,
            resource: resource.to_owned(),
            missing: "a JSON body",
        })
    }
}

impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "Wire"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(body), Ok(mut kept)) = (context.response().body().bytes(), self.0.lock()) {
            *kept = Some(body.to_vec());
        }
        Ok(())
    }
}
