//! What Lambda itself does with the role of a function. It makes no call that the [`world`](crate::world) could see.

use serde_yaml_ng::Value;

use super::Use;
use super::policies::function_name;
use super::template::{Template, string};

/// Writes its log; keeps an event that no invocation could handle; takes messages from the queues that wake it.
///
/// - <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs.html>
/// - <https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html>
/// - <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>
pub fn uses_of_lambda(template: &Template) -> Vec<Use> {
    let arn = |value: &Value| template.resolve(value).unwrap().as_str().unwrap().to_owned();
    let mut uses = Vec::new();
    for (logical, resource) in template.resources("AWS::Serverless::Function") {
        let properties = &resource["Properties"];
        let function = function_name(&logical, properties);
        let mut needs = |actions: &[&str], resource: String| {
            let one = |action: &&str| Use {
                function: function.clone(),
                action: (*action).to_owned(),
                resource: resource.clone(),
                context: Vec::new(),
            };
            uses.extend(actions.iter().map(one));
        };
        let Value::Tagged(group) = &properties["LoggingConfig"]["LogGroup"] else {
            panic!("{logical} has no log group")
        };
        let stream = template.arn_of(&string(&group.value)).replace(":*", ":log-stream:2026/11/16/[$LATEST]01234567");
        needs(&["logs:CreateLogStream", "logs:PutLogEvents"], stream);
        let failed = &template.globals()["EventInvokeConfig"]["DestinationConfig"]["OnFailure"];
        assert_eq!(failed["Type"], "SQS");
        needs(&["sqs:SendMessage"], arn(&failed["Destination"]));
        for event in properties["Events"].as_mapping().unwrap().values().filter(|event| event["Type"] == "SQS") {
            let actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"];
            needs(&actions, arn(&event["Properties"]["Queue"]));
        }
    }
    uses
}
