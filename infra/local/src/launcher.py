"""Starts the pinned emulator with the behaviours of AWS that Tidegate depends on and the emulator lacks.

The emulator's private names are used here, so its version is pinned, and tests/cloud/smoke.rs asserts every behaviour
below: a new version that breaks one fails there, loudly. Usage: launcher.py STATE_DIRECTORY, with a pipe as standard
input that the parent keeps open for as long as the emulator shall live.
"""

import asyncio
import collections
import copy
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
from datetime import datetime
from urllib.parse import parse_qs

import ministack.app as app
from ministack.core import iam_actions
from ministack.core.responses import error_response_json, get_account_id, get_region, json_response, now_iso
from ministack.services import ecr, ecs, eventbridge, lambda_svc, tagging


# Lifetime. Lambda bootstraps are our children and would outlive a parent that was killed, so the end of the pipe, which
# the kernel guarantees, ends the whole process group.


def end_with_parent(state_directory):
    sys.stdin.buffer.read()
    shutil.rmtree(state_directory, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


# The journal. What AWS would announce by events is written down where it happens; the publisher of the local cloud
# reads it over HTTP. Watching the API instead would miss what comes and goes between two looks.

JOURNAL = []


def record(kind, **fields):
    JOURNAL.append({"kind": kind, "account": get_account_id(), "region": get_region(), "at": now_iso(), **fields})


async def serve_journal(scope, send):
    after = int(parse_qs(scope["query_string"].decode())["after"][0])
    deadline = time.monotonic() + 1
    while len(JOURNAL) <= after and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    body = json.dumps(JOURNAL[after:]).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def with_journal(scope, receive, send, emulator=app.app):
    if scope["type"] == "http" and scope["path"] == "/_tidegate/journal":
        await serve_journal(scope, send)
    else:
        await emulator(scope, receive, send)


app.app = with_journal


# Invoking by hand. `cargo lambda invoke` and a plain curl sign nothing, so they are taken for the account's owner.

INVOCATION = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
OWNER = b"AWS4-HMAC-SHA256 Credential=%s/20261101/%s/lambda/aws4_request, SignedHeaders=host, Signature=none"


async def with_unsigned_invocations(scope, receive, send, emulator=app.app):
    if scope["type"] == "http" and INVOCATION.fullmatch(scope["path"]):
        if not any(name == b"authorization" for name, _ in scope["headers"]):
            owner = OWNER % (os.environ["MINISTACK_ACCOUNT_ID"].encode(), os.environ["MINISTACK_REGION"].encode())
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", owner)]}
    await emulator(scope, receive, send)


app.app = with_unsigned_invocations


# EventBridge. The publisher stands in for AWS, so it may use sources that begin with `aws.`.

put_events = eventbridge._put_events
eventbridge._put_events = lambda data, allow_aws_source=False: put_events(data, allow_aws_source=True)


# EventBridge invokes a function asynchronously: tried again when it fails, then sent to its failure destination.


def invoke_as_eventbridge_does(arn, payload):
    function, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if function:
        target = lambda_svc._execution_record_for_config(function, config)
        lambda_svc.invoke_async_with_retry(target, json.loads(payload))


eventbridge._dispatch_to_lambda = invoke_as_eventbridge_does


def body_of(response):
    return json.loads(response[2])


def page_of(items, size, token):
    """A page of the items, and the token of the next page if there is one."""
    start = int(token or 0)
    end = start + size
    return items[start:end], str(end) if end < len(items) else None


# ECR. Pushes are written to the journal. Images are described as by AWS, page by page; a tag that does not exist is an
# error.

put_manifest = ecr._v2_put_manifest
describe_images = ecr._describe_images


def artifact_media_type(manifest):
    """What an image is: its configuration tells. An index has none."""
    return manifest.get("artifactType") or manifest.get("config", {}).get("mediaType")


def put_manifest_and_record(name, reference, headers, body):
    response = put_manifest(name, reference, headers, body)
    if response[0] == 201:
        record(
            "push",
            repository=name,
            digest=response[1]["Docker-Content-Digest"],
            tag="" if reference.startswith("sha256:") else reference,
            mediaType=headers.get("content-type"),
            artifactMediaType=artifact_media_type(json.loads(body)),
        )
    return response


def describe_images_as_aws_does(data):
    name = data.get("repositoryName", "")
    ids = data.get("imageIds")
    if ids and not {"maxResults", "nextToken"}.isdisjoint(data):
        message = "maxResults and nextToken cannot be used with imageIds."
        return error_response_json("InvalidParameterException", message, 400)
    for image in ids or []:
        if name in ecr._repositories and not ecr._find_image(name, image):
            return error_response_json("ImageNotFoundException", f"The image with imageId {image} does not exist.", 400)
    response = describe_images(data)
    if response[0] != 200:
        return response
    wanted = data.get("filter", {}).get("tagStatus", "ANY")
    details = [detail for detail in body_of(response)["imageDetails"] if wanted in ("ANY", tag_status(detail))]
    page, token = (details, None) if ids else page_of(details, data.get("maxResults", 100), data.get("nextToken"))
    body = {"imageDetails": [as_aws_describes(detail) for detail in page]}
    if token:
        body["nextToken"] = token
    return json_response(body)


def tag_status(detail):
    return "TAGGED" if detail["imageTags"] else "UNTAGGED"


def as_aws_describes(detail):
    image = ecr._find_image(detail["repositoryName"], {"imageDigest": detail["imageDigest"]})
    described = {
        **detail,
        "artifactMediaType": artifact_media_type(json.loads(image["imageManifest"])),
        "imageStatus": "ACTIVE",
    }
    return {field: value for field, value in described.items() if value not in (None, [])}


ecr._v2_put_manifest = put_manifest_and_record
ecr._describe_images = describe_images_as_aws_does


# The tagging API. Resources come page by page.

get_resources = tagging._get_resources


def get_resources_in_pages(data):
    response = get_resources(data)
    if response[0] != 200:
        return response
    body = body_of(response)
    resources = body["ResourceTagMappingList"]
    page, token = page_of(resources, data.get("ResourcesPerPage", 100), data.get("PaginationToken"))
    return json_response({**body, "ResourceTagMappingList": page, "PaginationToken": token or ""})


tagging._HANDLERS["GetResources"] = get_resources_in_pages


# ECS. What follows is stricter than the emulator, because its leniency would hide losses.


def replace(operation, make):
    """Puts `make(original)` where the emulator looks for the operation: its module and its table of operations."""
    name = "_" + "".join("_" + c.lower() if c.isupper() else c for c in operation).lstrip("_")
    setattr(ecs, name, make(getattr(ecs, name)))
    ecs._ACTION_MAP[operation] = getattr(ecs, name)


# Deployments: the id is `ecs-svc/` and digits, the first deployment of a service rolls out like any other, and every
# change of a rollout's state is written to the journal.

IN_SERVICE = threading.local()
make_deployment = ecs._make_deployment


class Deployment(dict):
    """One deployment of a service, which writes its own changes of state to the journal, with the reasons of AWS."""

    def __setitem__(self, key, value):
        if key == "rolloutStateReason":
            return
        changed = key == "rolloutState" and self.get(key) != value
        super().__setitem__(key, value)
        if changed:
            self.announce()

    def announce(self):
        reason = self.reason()
        super().__setitem__("rolloutStateReason", reason)
        cluster, service = self["_service"]
        state = self["rolloutState"]
        record("deployment", id=self["id"], state=state, reason=reason, cluster=cluster, service=service)

    def reason(self):
        match self["rolloutState"]:
            case "FAILED":
                return "ECS deployment circuit breaker: tasks failed to start."
            case "COMPLETED":
                super().__setitem__("_completed", True)
                return f"ECS deployment {self['id']} completed."
            case _ if self.get("_completed"):
                return f"ECS deployment circuit breaker: rolling back to deploymentId {self['id']}."
            case _:
                return f"ECS deployment {self['id']} in progress."


def make_observed_deployment(*args, **kwargs):
    deployment = Deployment(make_deployment(*args, **kwargs))
    deployment.update(
        id=f"ecs-svc/{random.randrange(10**18, 10**19)}",
        rolloutState="IN_PROGRESS",
        _service=IN_SERVICE.names,
    )
    deployment.announce()
    return deployment


def in_service(operation):
    def wrapped(data):
        name = data.get("serviceName") or (ecs._resolve_service_ref(data.get("service", "")) or ("",))[0]
        IN_SERVICE.names = (ecs._resolve_cluster_name(data.get("cluster", "default")), name)
        return operation(data)

    return wrapped


def refuse_other_controllers(update_service):
    def wrapped(data):
        cluster, name = IN_SERVICE.names
        service = ecs._services.get(f"{cluster}/{name}") or {}
        controller = (service.get("deploymentController") or {}).get("type", "ECS")
        if controller != "ECS" and "taskDefinition" in data:
            return error_response_json(
                "InvalidParameterException",
                f"Unable to update task definition on services with a {controller} deployment controller.",
                400,
            )
        return update_service(data)

    return wrapped


def strict_describe_services(describe_services):
    def wrapped(data):
        if len(data.get("services", [])) > 10:
            return error_response_json("InvalidParameterException", "services can have at most 10 items.", 400)
        response = describe_services(data)
        body = body_of(response)
        if "TAGS" not in data.get("include", []):
            for service in body.get("services", []):
                service.pop("tags", None)
        return json_response(body, response[0])

    return wrapped


ecs._make_deployment = make_observed_deployment
replace("CreateService", in_service)
replace("UpdateService", lambda update: in_service(refuse_other_controllers(update)))
replace("DescribeServices", strict_describe_services)


# Times are told to the millisecond, so that what happens within a second has an order.


def with_milliseconds(value):
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except (AttributeError, ValueError):
        return value


ecs._ts_to_epoch = with_milliseconds


# A task that a service started says by which deployment.


def started_by_deployment(run_task):
    def wrapped(data):
        if data.get("_deploymentId"):
            data = {**data, "startedBy": data["_deploymentId"]}
        return run_task(data)

    return wrapped


replace("RunTask", started_by_deployment)


# The emulator looks at every container ten times a second. Once a task has outlived its start, every other second is
# enough, and leaves the processor to the functions.

maybe_mark_stopped = ecs._maybe_mark_stopped


def look_at_times(task, docker_client=None):
    if task.get("_startup_stable"):
        if time.monotonic() < task.get("_next_look", 0):
            return
        task["_next_look"] = time.monotonic() + 2
    maybe_mark_stopped(task, docker_client)


ecs._maybe_mark_stopped = look_at_times


# Task definitions: every field of the request is kept, known or not; nothing is made up for those it left out; fields
# that AWS sets itself are refused; tags are told only to who asks for them.

SET_BY_AWS = {
    "compatibilities",
    "deleteRequestedAt",
    "deregisteredAt",
    "registeredAt",
    "registeredBy",
    "requiresAttributes",
    "revision",
    "status",
    "taskDefinitionArn",
}
ALWAYS_THERE = SET_BY_AWS | {"volumes", "placementConstraints", "networkMode"}


def keep_every_field(register):
    def wrapped(data):
        refused = SET_BY_AWS & data.keys()
        if refused:
            return error_response_json("ClientException", f"Unknown parameter in input: {sorted(refused)}", 400)
        request = copy.deepcopy(data)
        response = register(data)
        if response[0] != 200:
            return response
        arn = body_of(response)["taskDefinition"]["taskDefinitionArn"]
        definition = ecs._task_defs[ecs._resolve_td_key(arn)]
        for field in set(definition) - set(request) - ALWAYS_THERE:
            del definition[field]
        for field in set(request) - set(definition) - {"tags"}:
            definition[field] = request[field]
        definition["requiresAttributes"] = [{"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}]
        return json_response({"taskDefinition": definition, "tags": request.get("tags", [])})

    return wrapped


def tags_on_request(describe):
    def wrapped(data):
        response = describe(data)
        body = body_of(response)
        if "TAGS" not in data.get("include", []):
            body.pop("tags", None)
        return json_response(body, response[0])

    return wrapped


replace("RegisterTaskDefinition", keep_every_field)
replace("DescribeTaskDefinition", tags_on_request)


# Tags. Each change of a service's tags is written to the journal, whichever API made it.

TAG_CHANGES = collections.Counter()


def tags_of(arn):
    return {tag["key"]: tag.get("value", "") for tag in ecs._tags.get(arn, [])}


def announce_tags(change, arn_of):
    def wrapped(*args):
        arn = arn_of(*args)
        before = tags_of(arn)
        response = change(*args)
        after = tags_of(arn)
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        if keys and ":service/" in arn:
            TAG_CHANGES[arn] += 1
            record("tags", arn=arn, keys=keys, tags=after, version=TAG_CHANGES[arn])
        return response

    return wrapped


for operation in ("TagResource", "UntagResource"):
    replace(operation, lambda change: announce_tags(change, lambda data: data.get("resourceArn", "")))
for operations in (tagging._WRITERS, tagging._REMOVERS):
    operations["ecs"] = announce_tags(operations["ecs"], lambda _spec, arn, _change: arn)


# Permissions are checked against the service or the family that a call names, not only against its cluster.

extract_resource_arn = iam_actions.extract_resource_arn


def resource_arn(service, method, path, headers, body, query_params, region, account_id):
    arn = extract_resource_arn(service, method, path, headers, body, query_params, region, account_id)
    if service != "ecs":
        return arn
    request = json.loads(body or b"{}")
    prefix = f"arn:aws:ecs:{region}:{account_id}"
    if "family" in request:
        return f"{prefix}:task-definition/{request['family']}:*"
    name = request.get("service") or next(iter(request.get("services", [])), None)
    if not name:
        return arn
    cluster = ecs._resolve_cluster_name(request.get("cluster", "default"))
    return name if name.startswith("arn:") else f"{prefix}:service/{cluster}/{name}"


iam_actions.extract_resource_arn = resource_arn


threading.Thread(target=end_with_parent, args=(sys.argv.pop(1),), daemon=True).start()
app.main()
