"""The part of EC2 Auto Scaling and of ECS's scheduler that the emulator lacks: instances that boot, join the cluster
that their user data names, take tasks as far as they have room, drain, and go.

A group whose launch configuration or template has `ECS_CLUSTER=name` in its user data is such a group. Its cluster's EC2
tasks are placed; other clusters stay as the emulator has them: without instances, and with room for everything. The launcher
hands in what it shares.
"""

import base64
import math
import os
import random
import re
import secrets
import threading
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

from ministack.core.responses import (
    error_response_json,
    json_response,
    now_iso,
    request_scope,
)
from ministack.services import autoscaling, ec2, ecs

# What the instances of the local cloud have: CPU units, and the memory that the agent leaves (MiB).
TYPES = {
    "t3.small": (2048, 1896),
    "m5.large": (2048, 7680),
    "m5.xlarge": (4096, 15731),
}
# From the launch to InService, and to the cluster. On AWS it takes minutes.
IN_SERVICE_AFTER = 0.7
IN_CLUSTER_AFTER = 1.5
# ECS says again and again that it finds no place.
REPEAT_AFTER = 5
PAGE_MAX = 100
DRAINED_PER_CALL_MAX = 10

# One lock for all that moves here. It is taken before any lock of the emulator's.
LOCK = threading.RLock()
MACHINES = {}
HELD = {}
PROTECTED = {}
COMPLAINED = {}
shared = SimpleNamespace()


# Groups. Instances boot, and leave through the hook that waits for them.


def launch_of(group):
    """How a group's instances are launched: its launch configuration, or the newest version of its launch template."""
    template = ec2._launch_templates.get((group.get("LaunchTemplate") or {}).get("LaunchTemplateId"))
    if template:
        return template["Versions"][-1]["LaunchTemplateData"]
    return autoscaling._launch_configs.get(group.get("LaunchConfigurationName") or "") or {}


def cluster_of(group):
    """The cluster that a group's instances join."""
    configuration = launch_of(group)
    user_data = base64.b64decode(configuration.get("UserData") or "").decode(errors="replace")
    named = re.search(r"ECS_CLUSTER=([\w-]+)", user_data)
    return named and named[1]


def type_of(group):
    return launch_of(group).get("InstanceType", "")


def has_instances(cluster):
    """Whether a group's instances join it, though there may be none now."""
    return any(cluster_of(group) == cluster for group in autoscaling._asgs.values())


def leaves(member):
    return member["LifecycleState"].startswith("Terminat")


def reconcile_instances(original):
    def wrapped(group):
        if not cluster_of(group):
            return original(group)
        with LOCK:
            staying = [member for member in group["Instances"] if not leaves(member)]
            for member in staying[group["DesiredCapacity"] :]:
                terminate(group, member)
            leaving = [member for member in group["Instances"] if leaves(member)]
            group["Instances"] = [member for member in group["Instances"] if not leaves(member)]
            before = len(group["Instances"])
            original(group)
            for member in group["Instances"][before:]:
                member["LifecycleState"] = "Pending"
                launch(group, member)
            group["Instances"] += leaving

    return wrapped


def launch(group, member):
    cpu, memory = TYPES.get(type_of(group), TYPES["m5.large"])
    MACHINES[member["InstanceId"]] = {
        "cluster": cluster_of(group),
        "type": type_of(group),
        "launched": time.monotonic(),
        "cpu": cpu,
        "memory": memory,
        "zone": member["AvailabilityZone"],
        "status": None,
        "version": 1,
        "registered_at": None,
        "id": "".join(random.choices("0123456789abcdef", k=32)),
    }


def terminate(group, member):
    """Takes an instance away; where the group has a hook for that, it waits."""
    if leaves(member):
        return
    name, instance = group["AutoScalingGroupName"], member["InstanceId"]
    hook = next(
        (
            hook
            for hook in autoscaling._hooks.values()
            if hook["AutoScalingGroupName"] == name
            and hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
        ),
        None,
    )
    if not hook:
        return gone(group, member)
    member["LifecycleState"] = "Terminating:Wait"
    token = "-".join(secrets.token_hex(n) for n in (4, 2, 2, 2, 6))
    HELD[name, instance] = {"hook": hook["LifecycleHookName"], "token": token, "heartbeats": 0}
    shared.record(
        "lifecycle",
        group=name,
        groupArn=group["AutoScalingGroupARN"],
        instance=instance,
        hook=hook["LifecycleHookName"],
        token=token,
    )


def gone(group, member):
    instance = member["InstanceId"]
    HELD.pop((group["AutoScalingGroupName"], instance), None)
    group["Instances"] = [other for other in group["Instances"] if other is not member]
    machine = MACHINES.pop(instance, None)
    if not machine or not machine["status"]:
        return
    arn = arn_of(machine)
    for task in tasks_on(arn):
        reason = f"Host EC2 (instance {instance}) terminated."
        if ecs._mark_task_stopped(task["taskArn"], task, reason, "TerminationNotice", exit_code=137):
            ecs._cleanup_task_resources(task, ecs._get_docker())
    machine["status"] = "INACTIVE"
    announce(instance, machine)


def set_desired_capacity(original):
    def wrapped(parameters):
        group = autoscaling._asgs.get(parameters.get("AutoScalingGroupName", ""))
        desired = int(parameters.get("DesiredCapacity") or 0)
        for bound, word, is_beyond in (
            ("MaxSize", "above max", lambda most: desired > most),
            ("MinSize", "below min", lambda fewest: desired < fewest),
        ):
            if group and is_beyond(group[bound]):
                beyond = f"New SetDesiredCapacity value {desired} is {word} value {group[bound]}"
                return autoscaling._error("ValidationError", f"{beyond} for the AutoScalingGroup.")
        return original(parameters)

    return wrapped


def terminate_instance(parameters):
    instance = parameters.get("InstanceId", "")
    with LOCK:
        group, member = find(instance)
        if not group:
            message = f"Instance Id not found - No managed instance found for instance ID: {instance}"
            return autoscaling._error("ValidationError", message)
        if parameters.get("ShouldDecrementDesiredCapacity") == "true":
            if group["DesiredCapacity"] <= group["MinSize"]:
                message = (
                    f"Currently, desiredSize equals minSize ({group['MinSize']}). Terminating instance without "
                    "replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity "
                    "flag to false or lower group's min size."
                )
                return autoscaling._error("ValidationError", message)
            if not leaves(member):
                group["DesiredCapacity"] -= 1
        terminate(group, member)
        autoscaling._reconcile_instances(group)
    activity = (
        f"<ActivityId>{secrets.token_hex(16)}</ActivityId>"
        f"<AutoScalingGroupName>{group['AutoScalingGroupName']}</AutoScalingGroupName>"
        f"<Cause>instance {instance} was taken out of service in response to a user request.</Cause>"
        f"<StartTime>{now_iso()}</StartTime><StatusCode>InProgress</StatusCode>"
    )
    name = "TerminateInstanceInAutoScalingGroup"
    return autoscaling._xml(200, f"{name}Response", f"<{name}Result><Activity>{activity}</Activity></{name}Result>")


def find(instance):
    for group in autoscaling._asgs.values():
        for member in group["Instances"]:
            if member["InstanceId"] == instance:
                return group, member
    return None, None


def held(parameters):
    """The lifecycle action that a call names by its token or its instance, with its key."""
    name, token, instance = (
        parameters.get(field, "") for field in ("AutoScalingGroupName", "LifecycleActionToken", "InstanceId")
    )
    for key, action in HELD.items():
        if key[0] == name and action["hook"] == parameters.get("LifecycleHookName"):
            if action["token"] == token or not token and key[1] == instance:
                return key, action
    return None, None


def no_action(parameters):
    named = parameters.get("LifecycleActionToken") or parameters.get("InstanceId")
    return autoscaling._error("ValidationError", f"No active Lifecycle Action found with token {named}")


def complete_lifecycle_action(original):
    def wrapped(parameters):
        with LOCK:
            key, _ = held(parameters)
            if not key:
                return no_action(parameters)
            gone(*find(key[1]))
        return original(parameters)

    return wrapped


def record_heartbeat(original):
    def wrapped(parameters):
        with LOCK:
            key, action = held(parameters)
            if not key:
                return no_action(parameters)
            action["heartbeats"] += 1
        return original(parameters)

    return wrapped


def replace_action(operation, make):
    autoscaling._ACTION_MAP[operation] = make(autoscaling._ACTION_MAP[operation])


# Container instances.


def arn_of(machine):
    return shared.ecs_arn("container-instance", machine["cluster"], machine["id"])


def in_cluster(cluster, *statuses):
    return [
        (instance, machine)
        for instance, machine in MACHINES.items()
        if machine["cluster"] == cluster and machine["status"] in statuses
    ]


def tasks_on(arn):
    """The tasks that hold room there."""
    return [
        task
        for task in list(ecs._tasks.values())
        if task.get("containerInstanceArn") == arn and task["lastStatus"] in ecs._PRE_STOP_STATUSES
    ]


def needs_of(definition):
    """CPU, memory and static host ports of a task: its own, or what its containers reserve."""
    containers = definition.get("containerDefinitions", [])
    cpu = int(definition.get("cpu") or sum(container.get("cpu", 0) for container in containers))
    reserved = (container.get("memoryReservation") or container.get("memory", 0) for container in containers)
    memory = int(definition.get("memory") or sum(reserved))
    ports = {
        mapping["hostPort"]
        for container in containers
        for mapping in container.get("portMappings", [])
        if mapping.get("hostPort") and definition.get("networkMode") != "awsvpc"
    }
    return cpu, memory, ports


def room_of(machine):
    """What of an instance is free; of the ports, those that are taken."""
    cpu, memory, ports = machine["cpu"], machine["memory"], {22, 2375, 2376, 51678, 51679}
    for task in tasks_on(arn_of(machine)):
        definition = ecs._task_defs.get(ecs._resolve_td_key(task["taskDefinitionArn"]), {})
        needs = needs_of(definition)
        cpu, memory, ports = cpu - needs[0], memory - needs[1], ports | needs[2]
    return cpu, memory, ports


def resources(cpu, memory, ports):
    return [
        {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": memory},
        {"name": "PORTS", "type": "STRINGSET", "stringSetValue": sorted(map(str, ports))},
        {"name": "PORTS_UDP", "type": "STRINGSET", "stringSetValue": []},
    ]


def described(instance, machine):
    tasks = tasks_on(arn_of(machine))
    return {
        "containerInstanceArn": arn_of(machine),
        "ec2InstanceId": instance,
        "version": machine["version"],
        "versionInfo": {"agentVersion": "1.98.0", "dockerVersion": "DockerVersion: 25.0.8"},
        "remainingResources": resources(*room_of(machine)),
        "registeredResources": resources(machine["cpu"], machine["memory"], {22, 2375, 2376, 51678, 51679}),
        "status": machine["status"],
        "agentConnected": machine["status"] != "INACTIVE",
        "runningTasksCount": sum(task["lastStatus"] == "RUNNING" for task in tasks),
        "pendingTasksCount": sum(task["lastStatus"] != "RUNNING" for task in tasks),
        "attributes": [
            {"name": "ecs.instance-type", "value": machine["type"]},
            {"name": "ecs.availability-zone", "value": machine["zone"]},
        ],
        "registeredAt": machine["registered_at"],
        "attachments": [],
        "tags": [],
    }


def announce(instance, machine):
    """Writes down what an instance has become. Of tasks that start and end on it only while it drains."""
    machine["version"] += 1
    told = {**described(instance, machine), "registeredAt": now_iso(), "updatedAt": now_iso()}
    told["clusterArn"] = shared.ecs_arn("cluster", machine["cluster"])
    for field in ("attachments", "tags", "runningTasksCount", "pendingTasksCount"):
        told.pop(field)
    shared.record("instance", instance=told)


def named(data, field="containerInstances"):
    """The instances that a call names by ARN or id, and the failures."""
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    by_id = {machine["id"]: (instance, machine) for instance, machine in in_cluster(cluster, "ACTIVE", "DRAINING")}
    found, failures = [], []
    for name in data.get(field, []):
        if name.rsplit("/", 1)[-1] in by_id:
            found.append(by_id[name.rsplit("/", 1)[-1]])
        else:
            failures.append({"arn": name, "reason": "MISSING"})
    return found, failures


def list_container_instances(data):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    if cluster not in ecs._clusters:
        return error_response_json("ClusterNotFoundException", "Cluster not found.", 400)
    statuses = [data["status"]] if data.get("status") else ["ACTIVE", "DRAINING"]
    wanted = data.get("filter", "")
    ids = set(re.findall(r"i-[0-9a-f]+", wanted))
    if wanted and not re.fullmatch(r"\s*ec2InstanceId\s*(==|in)\s*[\[\]'\w\s,-]+", wanted):
        message = f"The emulator does not know the filter {wanted}"
        return error_response_json("InvalidParameterException", message, 400)
    with LOCK:
        arns = [
            arn_of(machine)
            for instance, machine in in_cluster(cluster, *statuses)
            if not wanted or instance in ids
        ]
    page, token = shared.page_of(arns, data.get("maxResults", PAGE_MAX), data.get("nextToken"))
    return json_response({"containerInstanceArns": page, **({"nextToken": token} if token else {})})


def describe_container_instances(data):
    if not 1 <= len(data.get("containerInstances", [])) <= PAGE_MAX:
        return error_response_json("InvalidParameterException", "containerInstances must have 1 to 100 items.", 400)
    with LOCK:
        found, failures = named(data)
        described_ones = [described(*one) for one in found]
    return json_response({"containerInstances": described_ones, "failures": failures})


def update_container_instances_state(data):
    if data.get("status") not in ("ACTIVE", "DRAINING"):
        return error_response_json("InvalidParameterException", "status must be ACTIVE or DRAINING.", 400)
    if not 1 <= len(data.get("containerInstances", [])) <= DRAINED_PER_CALL_MAX:
        return error_response_json("InvalidParameterException", "containerInstances must have 1 to 10 items.", 400)
    with LOCK:
        found, failures = named(data)
        for instance, machine in found:
            if machine["status"] != data["status"]:
                machine["status"] = data["status"]
                announce(instance, machine)
        described_ones = [described(*one) for one in found]
    return json_response({"containerInstances": described_ones, "failures": failures})


def describe_clusters(original):
    def wrapped(data):
        response = original(data)
        body = shared.body_of(response)
        for cluster in body.get("clusters", []):
            count = len(in_cluster(cluster["clusterName"], "ACTIVE", "DRAINING"))
            cluster["registeredContainerInstancesCount"] = count
        return json_response(body, response[0])

    return wrapped


def on_instance(list_tasks):
    def wrapped(data):
        response = list_tasks(data)
        wanted = data.get("containerInstance", "").rsplit("/", 1)[-1]
        if response[0] != 200 or not wanted:
            return response
        body = shared.body_of(response)
        place = lambda arn: (ecs._tasks.get(arn) or {}).get("containerInstanceArn", "")
        body["taskArns"] = [arn for arn in body["taskArns"] if place(arn).rsplit("/", 1)[-1] == wanted]
        return json_response(body)

    return wrapped


# Tasks that protect themselves from scale-in.


def is_protected(arn):
    return PROTECTED.get(arn, datetime.min.replace(tzinfo=timezone.utc)) > datetime.now(timezone.utc)


def protection_of(arn):
    if not is_protected(arn):
        return {"taskArn": arn, "protectionEnabled": False}
    return {"taskArn": arn, "protectionEnabled": True, "expirationDate": PROTECTED[arn].timestamp()}


def task_protection(data):
    cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
    told, failures = [], []
    for name in data.get("tasks", []):
        task = ecs._resolve_task(name, cluster)
        if not task or task["lastStatus"] == "STOPPED":
            failures.append({"arn": name, "reason": "MISSING"})
        elif not task.get("group", "").startswith("service:"):
            failures.append({"arn": name, "reason": "TASK_NOT_VALID"})
        else:
            arn = task["taskArn"]
            if data.get("protectionEnabled"):
                minutes = data.get("expiresInMinutes", 120)
                PROTECTED[arn] = datetime.now(timezone.utc) + timedelta(minutes=minutes)
            elif "protectionEnabled" in data:
                PROTECTED.pop(arn, None)
            told.append(protection_of(arn))
    return json_response({"protectedTasks": told, "failures": failures})


def spare_protected(stop_task):
    """The scheduler does not stop what protects itself; a person may."""

    def wrapped(data):
        if data.get("reason") in shared.by_the_scheduler and is_protected(data.get("task")):
            return json_response({"task": ecs._sanitize(ecs._tasks[data["task"]])})
        return stop_task(data)

    return wrapped


# Placing. Tasks of a cluster with instances go where there is room, to the instance with the most of it (spread).


def placed(run_task):
    def wrapped(data):
        cluster = ecs._resolve_cluster_name(data.get("cluster", "default"))
        definition = ecs._task_defs.get(ecs._resolve_td_key(data.get("taskDefinition", "")))
        strategy = data.get("capacityProviderStrategy") or []
        is_fargate = data.get("launchType") == "FARGATE" or any(
            provider["capacityProvider"].startswith("FARGATE") for provider in strategy
        )
        if not definition or is_fargate or not has_instances(cluster):
            return run_task(data)
        tasks, failures = [], []
        with LOCK:
            for _ in range(data.get("count", 1)):
                machine = place_for(cluster, needs_of(definition), taken_by(cluster, data))
                if not machine:
                    failures.append({"arn": shared.ecs_arn("cluster", cluster), "reason": "RESOURCE:CPU"})
                    continue
                body = shared.body_of(run_task({**data, "count": 1}))
                for task in body.get("tasks", []):
                    task["containerInstanceArn"] = arn_of(machine)
                    ecs._tasks[task["taskArn"]]["containerInstanceArn"] = arn_of(machine)
                    tasks.append(task)
                failures += body.get("failures", [])
        if failures and data.get("group", "").startswith("service:"):
            complain(cluster, data["group"].split(":", 1)[1])
        return json_response({"tasks": tasks, "failures": failures})

    return wrapped


def is_daemon(service):
    return (service or {}).get("schedulingStrategy") == "DAEMON"


def taken_by(cluster, data):
    """The instances that have their copy, if it is a daemon that is started."""
    name = data.get("group", "").split(":", 1)[-1]
    if not is_daemon(ecs._services.get(f"{cluster}/{name}")):
        return set()
    return {task.get("containerInstanceArn") for task in tasks_of(cluster, name)}


def place_for(cluster, needs, taken=frozenset()):
    fitting = []
    for _, machine in in_cluster(cluster, "ACTIVE"):
        cpu, memory, ports = room_of(machine)
        if arn_of(machine) not in taken and cpu >= needs[0] and memory >= needs[1] and not ports & needs[2]:
            fitting.append((cpu, machine["id"], machine))
    return max(fitting)[2] if fitting else None


def complain(cluster, name):
    """The words of ECS when it finds no place, in the service's events and as an event."""
    now = time.monotonic()
    if now - COMPLAINED.get((cluster, name), -math.inf) < REPEAT_AFTER:
        return
    COMPLAINED[cluster, name] = now
    machines = in_cluster(cluster, "ACTIVE")
    why = (
        f"The closest matching container-instance {machines[0][1]['id']} has insufficient CPU units available."
        if machines
        else "Reason: No Container Instances were found in your cluster."
    )
    message = (
        f"(service {name}) was unable to place a task because no container instance met all of its requirements. {why} "
        "For more information, see the Troubleshooting section of the Amazon ECS Developer Guide."
    )
    tell(cluster, name, message)
    shared.record("unplaced", cluster=cluster, service=name)


def tell(cluster, name, message):
    service = ecs._services.get(f"{cluster}/{name}")
    if service is not None:
        event = {"id": secrets.token_hex(16), "createdAt": ecs._iso(), "message": message}
        service["events"].insert(0, event)
        del service["events"][100:]


# The scheduler looks four times a second.


def tasks_of(cluster, name):
    arn = shared.ecs_arn("cluster", cluster)
    return [
        task
        for task in list(ecs._tasks.values())
        if task.get("group") == f"service:{name}"
        and task.get("clusterArn") == arn
        and task["lastStatus"] in ecs._PRE_STOP_STATUSES
    ]


def leaving_of(cluster, name):
    """The tasks of a service on instances that drain."""
    draining = {arn_of(machine) for _, machine in in_cluster(cluster, "DRAINING")}
    return [task for task in tasks_of(cluster, name) if task.get("containerInstanceArn") in draining]


def primary_of(service):
    return next((one for one in service["deployments"] if one["status"] == "PRIMARY"), {})


def reconcile_service(original):
    def wrapped(cluster, key):
        service = ecs._services.get(key)
        if not service or not has_instances(cluster):
            return original(cluster, key)
        with LOCK:
            leaving = leaving_of(cluster, service["serviceName"])
            if not leaving or primary_of(service).get("rolloutState") == "IN_PROGRESS":
                return original(cluster, key)
            move(cluster, service, leaving)
        ecs._refresh_service_state(cluster, f"service:{service['serviceName']}")

    return wrapped


def move(cluster, service, leaving):
    """Replaces tasks on instances that drain: within maximumPercent first the new one, then, keeping to
    minimumHealthyPercent, the old one goes."""
    name, desired = service["serviceName"], service["desiredCount"]
    configuration = service.get("deploymentConfiguration") or {}
    most = max(1, desired * int(configuration.get("maximumPercent", 200)) // 100)
    fewest = -(-desired * int(configuration.get("minimumHealthyPercent", 100)) // 100)
    gone_soon = {task["taskArn"] for task in leaving}
    live = tasks_of(cluster, name)
    staying = [task for task in live if task["taskArn"] not in gone_soon]
    wanted = min(desired - len(staying), most - len(live))
    if wanted > 0:
        ecs._run_task({
            "cluster": cluster,
            "taskDefinition": service["taskDefinition"],
            "count": wanted,
            "group": f"service:{name}",
            "launchType": service.get("launchType"),
            "capacityProviderStrategy": service.get("capacityProviderStrategy"),
            "networkConfiguration": service.get("networkConfiguration", {}),
            "_deploymentId": primary_of(service).get("id"),
        })
    serving = [task for task in staying if task["lastStatus"] == "RUNNING" and task.get("_startup_stable")]
    running = [task for task in leaving if task["lastStatus"] == "RUNNING"]
    spare = len(serving) + len(running) - fewest
    for task in running[: max(0, spare)]:
        ecs._stop_task({"cluster": cluster, "task": task["taskArn"], "reason": "Service scaling down"})


def look():
    with LOCK:
        for group in autoscaling._asgs.values():
            for member in list(group["Instances"]):
                machine = MACHINES.get(member["InstanceId"])
                if not machine:
                    continue
                age = time.monotonic() - machine["launched"]
                if member["LifecycleState"] == "Pending" and age > IN_SERVICE_AFTER:
                    member["LifecycleState"] = "InService"
                if machine["status"] is None and age > IN_CLUSTER_AFTER and machine["cluster"] in ecs._clusters:
                    machine.update(status="ACTIVE", registered_at=time.time())
                    announce(member["InstanceId"], machine)
                if machine["status"] == "DRAINING" and machine.get("tasks") != len(tasks_on(arn_of(machine))):
                    machine["tasks"] = len(tasks_on(arn_of(machine)))
                    announce(member["InstanceId"], machine)
        clusters = {cluster_of(group) for group in autoscaling._asgs.values()}
        for key, service in ecs._services.items():
            cluster = key.split("/", 1)[0]
            if is_daemon(service) and cluster in clusters:
                service["desiredCount"] = len(in_cluster(cluster, "ACTIVE"))
        behind = [
            (key.split("/", 1)[0], key)
            for key, service in ecs._services.items()
            if key.split("/", 1)[0] in clusters and service["status"] == "ACTIVE" and is_behind(key, service)
        ]
    for cluster, key in behind:
        ecs._reconcile_service_tasks(cluster, key)


def is_behind(key, service):
    cluster, name = key.split("/", 1)
    return len(tasks_of(cluster, name)) < service["desiredCount"] or leaving_of(cluster, name)


def schedule(problem):
    with request_scope(os.environ["MINISTACK_ACCOUNT_ID"], os.environ["MINISTACK_REGION"]):
        while True:
            time.sleep(0.25)
            try:
                look()
            except Exception:
                problem()


def install(**handed_in):
    """Puts all of it where the emulator looks for it. `handed_in` is what the launcher shares."""
    vars(shared).update(handed_in)
    autoscaling._reconcile_instances = reconcile_instances(autoscaling._reconcile_instances)
    replace_action("SetDesiredCapacity", set_desired_capacity)
    replace_action("CompleteLifecycleAction", complete_lifecycle_action)
    replace_action("RecordLifecycleActionHeartbeat", record_heartbeat)
    autoscaling._ACTION_MAP["TerminateInstanceInAutoScalingGroup"] = terminate_instance
    replace = shared.replace
    replace("ListContainerInstances", lambda _: list_container_instances)
    replace("DescribeContainerInstances", lambda _: describe_container_instances)
    ecs._ACTION_MAP["UpdateContainerInstancesState"] = update_container_instances_state
    replace("DescribeClusters", describe_clusters)
    replace("ListTasks", on_instance)
    replace("GetTaskProtection", lambda _: task_protection)
    replace("UpdateTaskProtection", lambda _: task_protection)
    replace("StopTask", spare_protected)
    replace("RunTask", placed)
    ecs._reconcile_service_tasks = reconcile_service(ecs._reconcile_service_tasks)
    threading.Thread(target=schedule, args=(shared.problem,), daemon=True).start()
