"""What CloudWatch has of queues, and what Application Auto Scaling has of services: the emulator has neither."""

import json
import os
import threading
import time

from ministack.core import iam_actions, router
from ministack.core.responses import (
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    new_uuid,
    request_scope,
)
from ministack.services import cloudwatch, sqs

# CloudWatch takes a look at a queue in each minute; so much is enough for its maximum.
SAMPLE_EVERY = 2
KEPT = 3600


# SQS. Messages are counted as they come and go; how many wait is sampled. On AWS a minute can be read a minute after
# its end; here at once.


def count(metric, queue_url, messages=1):
    if messages:
        queue = {"QueueName": queue_url.rstrip("/").rsplit("/", 1)[-1]}
        cloudwatch._store_datum("AWS/SQS", metric, queue, time.time(), "Count", messages, None, None, None)


def counted(operation, metric):
    """One message came or went."""

    def wrapped(data, queue_url):
        answer = operation(data, queue_url)
        count(metric, data.get("QueueUrl", queue_url))
        return answer

    return wrapped


def counted_batch(operation, metric):
    def wrapped(data, queue_url):
        answer = operation(data, queue_url)
        count(metric, data.get("QueueUrl", queue_url), len(answer.get("Successful", [])))
        return answer

    return wrapped


def sample():
    now = time.time()
    for url, queue in list(sqs._queues.items()):
        with sqs._queues_lock:
            sqs._refresh_counts(queue)
            waiting = [message["sent_at"] for message in queue["messages"] if message["visible_at"] <= now]
            attributes = dict(queue["attributes"])
        name = {"QueueName": url.rstrip("/").rsplit("/", 1)[-1]}
        values = {
            "ApproximateNumberOfMessagesVisible": int(attributes["ApproximateNumberOfMessages"]),
            "ApproximateNumberOfMessagesNotVisible": int(attributes["ApproximateNumberOfMessagesNotVisible"]),
            "ApproximateNumberOfMessagesDelayed": int(attributes["ApproximateNumberOfMessagesDelayed"]),
            "ApproximateAgeOfOldestMessage": now - min(waiting, default=now),
            # A minute in which nothing came or went has points too.
            "NumberOfMessagesSent": 0,
            "NumberOfMessagesDeleted": 0,
        }
        for metric, value in values.items():
            cloudwatch._store_datum("AWS/SQS", metric, name, now, "Count", value, None, None, None)
    for (namespace, _, _), points in cloudwatch._metrics.items():
        if namespace == "AWS/SQS" and points and points[0]["Timestamp"] < now - 2 * KEPT:
            points[:] = [point for point in points if point["Timestamp"] > now - KEPT]


def move_back(name, seconds):
    """Makes all that CloudWatch has of a queue or a cluster so much older."""
    with request_scope(os.environ["MINISTACK_ACCOUNT_ID"], os.environ["MINISTACK_REGION"]):
        for (namespace, _, _), points in cloudwatch._metrics.items():
            for point in points:
                if namespace in ("AWS/SQS", "AWS/ECS") and name in point["Dimensions"].values():
                    point["Timestamp"] -= seconds


def sampling(problem):
    with request_scope(os.environ["MINISTACK_ACCOUNT_ID"], os.environ["MINISTACK_REGION"]):
        while True:
            time.sleep(SAMPLE_EVERY)
            try:
                sample()
            except Exception:
                problem()


# Application Auto Scaling: its targets, with nothing that scales them.

TARGETS = AccountRegionScopedDict()
KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


def register_scalable_target(data):
    key = tuple(data.get(field, "") for field in KEY)
    target = TARGETS.get(key) or {
        **dict(zip(KEY, key)),
        "RoleARN": f"arn:aws:iam::{get_account_id()}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService",
        "CreationTime": time.time(),
        "ScalableTargetARN": f"arn:aws:application-autoscaling:{get_region()}:{get_account_id()}:scalable-target/"
        + new_uuid(),
        "SuspendedState": dict.fromkeys(
            ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), False
        ),
    }
    target.update({field: data[field] for field in ("MinCapacity", "MaxCapacity") if field in data})
    target["SuspendedState"].update(data.get("SuspendedState", {}))
    TARGETS[key] = target
    return json_response({"ScalableTargetARN": target["ScalableTargetARN"]})


def deregister_scalable_target(data):
    if not TARGETS.pop(tuple(data.get(field, "") for field in KEY), None):
        return error_response_json("ObjectNotFoundException", "No scalable target found for it.", 400)
    return json_response({})


def describe_scalable_targets(data):
    if not data.get("ServiceNamespace"):
        return error_response_json("ValidationException", "ServiceNamespace is needed.", 400)
    ids, dimension = data.get("ResourceIds"), data.get("ScalableDimension")
    found = [
        target
        for target in TARGETS.values()
        if target["ServiceNamespace"] == data["ServiceNamespace"]
        and (not ids or target["ResourceId"] in ids)
        and (not dimension or target["ScalableDimension"] == dimension)
    ]
    return json_response({"ScalableTargets": found})


TARGET_OPERATIONS = {
    "RegisterScalableTarget": register_scalable_target,
    "DeregisterScalableTarget": deregister_scalable_target,
    "DescribeScalableTargets": describe_scalable_targets,
}


async def application_auto_scaling(_method, _path, headers, body, _query_params):
    name = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
    operation = TARGET_OPERATIONS.get(name)
    if not operation:
        return error_response_json("InvalidAction", f"The emulator does not know {name}", 400)
    return operation(json.loads(body or b"{}"))


def install(app, problem):
    """Puts all of it where the emulator looks for it."""
    for operation, metric, wrap in (
        ("send_message", "NumberOfMessagesSent", counted),
        ("delete_message", "NumberOfMessagesDeleted", counted),
        ("delete_message_batch", "NumberOfMessagesDeleted", counted_batch),
    ):
        name = f"_act_{operation}"
        wrapped = wrap(getattr(sqs, name), metric)
        for target, known in list(sqs._HANDLERS.items()):
            if known is getattr(sqs, name):
                sqs._HANDLERS[target] = wrapped
        # A batch is sent message by message.
        setattr(sqs, name, wrapped)
    app.SERVICE_HANDLERS["application-autoscaling"] = application_auto_scaling
    router.SERVICE_PATTERNS["application-autoscaling"] = {
        "host_patterns": [],
        "target_prefixes": ["AnyScaleFrontendService"],
        "credential_scope": "application-autoscaling",
    }
    iam_actions.SERVICE_TO_IAM_NAMESPACE["application-autoscaling"] = "application-autoscaling"
    threading.Thread(target=sampling, args=(problem,), daemon=True).start()
