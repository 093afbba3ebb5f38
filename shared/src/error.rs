//! What can go wrong, and whether trying again can help.
//!
//! One question decides what becomes of an event whose handling failed: is the failure [transient](Error::is_transient)?
//! A transient failure is returned to Lambda, which invokes the function again. Any other failure would only repeat
//! itself: the event is kept in the rejects queue with its cause, and the invocation ends well.
//!
//! `Display` never prints a secret and never prints a response body.

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

/// A failure, with the context an operator needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The event, or a value it leads to, can't be understood. Trying again can't help.
    #[error("{0}")]
    Input(String),

    /// AWS refused or did not answer a call.
    #[error("{operation} for {resource} failed: {code}: {message}{}", advice(.code, .operation, .message))]
    Aws {
        /// The API operation, as AWS names it.
        operation: &'static str,
        /// What it was called for.
        resource: String,
        /// AWS's error code, or what kind of network failure it was.
        code: String,
        /// AWS's message.
        message: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },

    /// AWS answered, but not with what its API promises.
    #[error("{operation} for {resource} answered without {missing}; this is unexpected, and will be tried again")]
    Answer {
        /// The API operation, as AWS names it.
        operation: &'static str,
        /// What it was called for.
        resource: String,
        /// What the answer lacks.
        missing: &'static str,
    },

    /// Another invocation is at work on the same thing and has not finished in time.
    #[error("{0}")]
    Busy(String),

    /// One of those who are told did not take it.
    #[error("{sink} did not take the message: {reason}")]
    Sink {
        /// Who.
        sink: &'static str,
        /// Their own error with what to do about it, or the network failure.
        reason: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },

    /// The function's environment is incomplete or malformed: every problem, each naming its variable.
    #[error("the function's settings are wrong: {}", .0.join("; "))]
    Settings(Vec<String>),
}

impl Error {
    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Input(_) | Self::Settings(_) => false,
            Self::Aws { transient, .. } | Self::Sink { transient, .. } => *transient,
            Self::Answer { .. } | Self::Busy(_) => true,
        }
    }

    /// Whether AWS asks to be called less.
    #[must_use]
    pub fn is_throttling(&self) -> bool {
        matches!(self, Self::Aws { code, .. } if THROTTLING_CODES.contains(&code.as_str()))
    }

    /// AWS's error code, where AWS gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Aws { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// Error codes that say "not so often", in any of the services we call.
const THROTTLING_CODES: &[&str] = &[
    "LimitExceededException",
    "OverLimit",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// Error codes that say "not now". Server errors (5xx) and HTTP 429 are recognised by their status.
const TRANSIENT_CODES: &[&str] = &[
    "InternalServerError",
    "ServerException",
    "ServiceUnavailable",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// Makes an [`Error`] of a failed SDK call. The SDK has already retried it.
pub fn from_sdk<E: ProvideErrorMetadata>(
    operation: &'static str,
    resource: impl Into<String>,
    error: &SdkError<E, HttpResponse>,
) -> Error {
    let (code, message, transient) = match error {
        SdkError::ServiceError(context) => {
            let status = context.raw().status().as_u16();
            let code = context.err().code().unwrap_or("UnknownError").to_owned();
            let known = TRANSIENT_CODES.contains(&code.as_str()) || THROTTLING_CODES.contains(&code.as_str());
            let transient = status >= 500 || status == 429 || known;
            (code, context.err().message().unwrap_or("no message").to_owned(), transient)
        }
        SdkError::TimeoutError(_) => ("Timeout".into(), "no answer in time".into(), true),
        SdkError::DispatchFailure(failure) if failure.is_user() => {
            ("RequestNotSent".into(), "the request could not be built".into(), false)
        }
        SdkError::DispatchFailure(_) => ("ConnectionFailed".into(), "the connection failed".into(), true),
        SdkError::ResponseError(context) => {
            ("BadAnswer".into(), format!("HTTP status {}", context.raw().status()), true)
        }
        _ => ("RequestNotSent".into(), "the request could not be built".into(), false),
    };
    Error::Aws { operation, resource: resource.into(), code, message, transient }
}

/// How the services say that a role lacks a permission; SNS says `AuthorizationError`.
const DENIED_CODES: [&str; 3] = ["AccessDenied", "AuthorizationError", "UnauthorizedOperation"];

/// What the operator can do about the refusals that people meet. What is missing is often not the operation itself:
/// AWS names `iam:PassRole` when the role of a task may not be handed on, and what is in a transaction or a batch.
fn advice(code: &str, operation: &str, message: &str) -> String {
    if !DENIED_CODES.iter().any(|denied| code.starts_with(denied)) {
        return String::new();
    }
    if message.contains("iam:PassRole") {
        return ". Add the role to the stack's parameter PassRoleArns".into();
    }
    let named = message.split_once("not authorized to perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    format!(". Allow {} in the function's role", named.unwrap_or(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(code: &str, transient: bool) -> Error {
        Error::Aws {
            operation: "UpdateService",
            resource: "production/web".into(),
            code: code.into(),
            message: "Rate exceeded".into(),
            transient,
        }
    }

    #[test]
    fn says_what_was_tried_and_what_aws_answered() {
        assert_eq!(
            aws("ThrottlingException", true).to_string(),
            "UpdateService for production/web failed: ThrottlingException: Rate exceeded"
        );
    }

    #[test]
    fn tells_the_operator_what_to_do_when_access_is_denied() {
        let text = aws("AccessDeniedException", false).to_string();
        assert!(text.ends_with("Allow UpdateService in the function's role"), "{text}");
        let role = "not authorized to perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/web";
        let text = advice("AccessDeniedException", "UpdateService", role);
        assert_eq!(text, ". Add the role to the stack's parameter PassRoleArns");
        assert_eq!(advice("ThrottlingException", "UpdateService", role), "");
        let item = "User: arn:aws:sts::123456789012:assumed-role/deploy/x is not authorized to perform: dynamodb:PutItem on \
                    resource: arn:aws:dynamodb:eu-west-1:123456789012:table/history because no identity-based policy \
                    allows the dynamodb:PutItem action";
        let text = advice("AccessDeniedException", "TransactWriteItems", item);
        assert_eq!(text, ". Allow dynamodb:PutItem in the function's role");
        assert_eq!(advice("AuthorizationError", "Publish", "no"), ". Allow Publish in the function's role");
    }

    #[test]
    fn only_input_settings_and_refusals_are_final() {
        assert!(aws("ThrottlingException", true).is_transient());
        assert!(!aws("AccessDeniedException", false).is_transient());
        assert!(!Error::Input("no detail".into()).is_transient());
        assert!(!Error::Settings(vec![]).is_transient());
        assert!(Error::Busy("later".into()).is_transient());
    }
}
