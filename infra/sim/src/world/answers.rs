//! Who answers which call.

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use serde_json::{Value, json};

use super::wire::Refusal;
use super::{Call, World, tagging};
use crate::mutants::Verdict;

impl World {
    pub(super) fn answer(&self, call: &Call, request: &HttpRequest) -> Result<Value, Refusal> {
        let Some(mutant) = self.state().mutant else { return self.apply(call, request) };
        let mut call = call.clone();
        match (mutant.request)(&mut call) {
            Verdict::Go => {}
            Verdict::Pretend(answer) => return Ok(answer),
            Verdict::Later => {
                self.state().later.push(call);
                return Ok(json!({}));
            }
        }
        let mut answered = self.apply(&call, request);
        if let Ok(answer) = &mut answered {
            (mutant.answer)(&call, answer);
        }
        if call.operation == "UpdateService" {
            let held_back = std::mem::take(&mut self.state().later);
            for late in held_back {
                let _whatever = self.apply(&late, request);
            }
        }
        answered
    }

    fn apply(&self, call: &Call, request: &HttpRequest) -> Result<Value, Refusal> {
        let now = self.seconds();
        let mut state = self.state();
        let Call { operation, body, .. } = call;
        if state.limits_on && !state.limits.admit(operation, self.start.elapsed()) {
            state.throttled += 1;
            return Err(("ThrottlingException", json!({"message": "Rate exceeded"})));
        }
        let change = state.about_to_change(call, self.start.elapsed());
        let answer = match operation.as_str() {
            "GetResources" => tagging::get_resources(&state.ecs, body),
            "DescribeServices" => state.ecs.describe_services(body),
            "DescribeTaskDefinition" => state.ecs.describe_task_definition(body),
            "RegisterTaskDefinition" => Ok(state.ecs.register(body)),
            "UpdateService" => state.ecs.update_service(body, now),
            "ListServiceDeployments" => state.ecs.list_service_deployments(body),
            "DescribeServiceDeployments" => state.ecs.describe_service_deployments(body),
            "StopServiceDeployment" => state.ecs.stop_service_deployment(body),
            "DescribeServiceRevisions" => state.ecs.describe_service_revisions(body),
            "ListTasks" => state.ecs.list_tasks(body),
            "DescribeTasks" => state.ecs.describe_tasks(body),
            "ListContainerInstances" => state.ecs.list_container_instances(body),
            "DescribeContainerInstances" => state.ecs.describe_container_instances(body),
            "UpdateContainerInstancesState" => state.ecs.update_container_instances_state(body),
            "ListServices" => state.ecs.list_services(body),
            "GetTaskProtection" => state.ecs.get_task_protection(body),
            "DescribeCapacityProviders" => state.ecs.describe_capacity_providers(body),
            "DescribeAutoScalingGroups" => Ok(state.groups.describe(body)),
            "DescribeInstanceRefreshes" => state.groups.describe_refreshes(body),
            "SetDesiredCapacity" => state.groups.set_desired(body),
            "TerminateInstanceInAutoScalingGroup" => state.groups.terminate(body),
            "CompleteLifecycleAction" => state.groups.complete(body),
            "RecordLifecycleActionHeartbeat" => state.groups.heartbeat(body),
            "GetQueueUrl" => state.get_queue_url(body),
            "GetQueueAttributes" => state.get_queue_attributes(body),
            "DescribeScalableTargets" => Ok(state.describe_scalable_targets(body)),
            "GetMetricData" => Ok(state.metered.get_metric_data(body)),
            "SendMessageBatch" => Ok(state.send_ticks(body)),
            "DescribeImages" => state.ecr.describe_images(body),
            "BatchGetImage" => state.ecr.batch_get_image(body),
            "GetDownloadUrlForLayer" => state.ecr.get_download_url_for_layer(body),
            "blob" => state.ecr.blob(request.uri(), request.headers().get("authorization")),
            "GetLogEvents" => state.get_log_events(body),
            "Query" => state.table.query(body),
            "GetItem" => Ok(state.table.get_item(body)),
            "BatchGetItem" => state.table.batch_get_item(body),
            "PutItem" => state.table.put_item(body),
            "UpdateItem" => state.table.update_item(body),
            "TransactWriteItems" => state.table.transact(body),
            "DescribeAlarms" => state.describe_alarms(body),
            "GetRole" => state.get_role(body),
            "DescribeSecret" => state.describe_secret(body),
            "DescribeParameters" => state.describe_parameters(body),
            "GetParameter" => state.get_parameter(body),
            "SendMessage" => state.send_message(body),
            "Publish" => state.publish(body),
            "PutEvents" => state.put_events(body),
            "chat.postMessage" | "chat.update" => {
                let token = request.headers().get("authorization").unwrap_or_default();
                Ok(state.slack(operation, body, token))
            }
            "webhook" => {
                state.slack.entry("webhook".into()).or_default().push(body.clone());
                Ok(json!("ok"))
            }
            "newrelic" => state.newrelic(body, request),
            "hook" => state.hook(request),
            other => panic!("the world has no {other}"),
        };
        if answer.is_ok() {
            state.changes.extend(change);
        }
        answer
    }
}
