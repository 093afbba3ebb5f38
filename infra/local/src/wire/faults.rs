//! What may become of a call.

use serde_json::{Value, json};

use crate::proxy::Fired;

/// As often as the functions' SDK sends a request before it gives up.
const ATTEMPTS: usize = 4;
/// Longer than the functions' SDK waits for an answer.
const BLACK_HOLE_MILLISECONDS: u32 = 11_000;
/// Services of the query protocol, or that have come from it, which have their own word for it.
const OF_QUERY_PROTOCOL: [&str; 5] = ["autoscaling", "cloudwatch", "iam", "monitoring", "sns"];

/// A call that a function makes in one invocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The service, as in the scope of a signature.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// Which of the calls of this operation it is, from 1.
    pub nth: usize,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service, self.operation)?;
        if self.nth > 1 { write!(f, " ({})", self.nth) } else { Ok(()) }
    }
}

/// The calls in these requests, which none was in the way of.
pub fn calls(requests: &[Fired]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    // What has no signature is no call of an API: a layer of an image is fetched from a URL.
    for request in requests.iter().filter(|request| !request.operation.is_empty()) {
        let before =
            calls.iter().filter(|call| (&call.service, &call.operation) == (&request.service, &request.operation));
        let nth = before.count() + 1;
        calls.push(Call { service: request.service.clone(), operation: request.operation.clone(), nth });
    }
    calls
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// It is refused: too many of them.
    Throttled,
    /// It is refused with status 500.
    ServerError,
    /// The connection is reset before the call arrives.
    Reset,
    /// It does not arrive, and there is no answer.
    TimedOut,
    /// It is done, and the connection lost before the answer has come.
    AnswerLost,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Throttled, Self::ServerError, Self::Reset, Self::TimedOut, Self::AnswerLost];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttle",
            Self::ServerError => "500",
            Self::Reset => "reset",
            Self::TimedOut => "time-out",
            Self::AnswerLost => "answer lost",
        }
    }

    fn effect(self, service: &str) -> Value {
        match self {
            Self::Throttled => {
                let code = match service {
                    "sqs" => "RequestThrottled",
                    _ if OF_QUERY_PROTOCOL.contains(&service) => "Throttling",
                    _ => "ThrottlingException",
                };
                json!({ "error": { "code": code, "message": "Rate exceeded", "status": 400 } })
            }
            Self::ServerError => {
                json!({ "error": { "code": "InternalFailure", "message": "try again", "status": 500 } })
            }
            Self::Reset => json!({ "reset": true }),
            Self::TimedOut => json!({ "timeout_ms": BLACK_HOLE_MILLISECONDS }),
            Self::AnswerLost => json!({ "response": { "abort_frac": 0.0 } }),
        }
    }
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extent {
    /// One request. The SDK sends another one.
    Once,
    /// As many as the SDK sends for one call. The invocation fails, unless it can do without.
    UntilGivenUp,
}

impl Extent {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Once, Self::UntilGivenUp];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::UntilGivenUp => "until given up",
        }
    }
}

/// The rule that sees every call and changes none. What the SDK sends again on a busy machine is the same call.
pub fn listening() -> Value {
    json!({ "service": "*", "headers": { "amz-sdk-request": "attempt=1" }, "latency": 0 })
}

/// The rules that let a call go wrong. The last one does it.
pub fn rules(call: &Call, fault: Fault, extent: Extent) -> Vec<Value> {
    let rule = |times: usize, effect: Value| {
        let mut rule = json!({ "service": call.service, "operation": call.operation, "times": times });
        if let (Value::Object(rule), Value::Object(effect)) = (&mut rule, effect) {
            rule.extend(effect);
        }
        rule
    };
    let times = match extent {
        Extent::Once => 1,
        Extent::UntilGivenUp => ATTEMPTS,
    };
    let before = (call.nth > 1).then(|| rule(call.nth - 1, json!({ "latency": 0 })));
    before.into_iter().chain([rule(times, fault.effect(&call.service))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(service: &str, operation: &str) -> Fired {
        Fired { rule: 1, service: service.into(), operation: operation.into() }
    }

    #[test]
    fn calls_of_one_operation_are_counted() {
        let requests = [
            fired("ecs", "DescribeServices"),
            fired("", ""),
            fired("ecs", "UpdateService"),
            fired("ecs", "DescribeServices"),
        ];
        let calls: Vec<String> = calls(&requests).iter().map(ToString::to_string).collect();
        assert_eq!(calls, ["ecs:DescribeServices", "ecs:UpdateService", "ecs:DescribeServices (2)"]);
    }

    #[test]
    fn the_calls_before_the_one_that_goes_wrong_pass() {
        let call = Call { service: "sns".into(), operation: "Publish".into(), nth: 3 };
        let expected = json!([
            { "service": "sns", "operation": "Publish", "times": 2, "latency": 0 },
            {
                "service": "sns", "operation": "Publish", "times": 4,
                "error": { "code": "Throttling", "message": "Rate exceeded", "status": 400 },
            },
        ]);
        assert_eq!(json!(rules(&call, Fault::Throttled, Extent::UntilGivenUp)), expected);
    }
}
