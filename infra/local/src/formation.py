"""What the emulator's CloudFormation makes of ECS's and Auto Scaling's resources goes through the same operations that
everybody else calls; and a secret is known by its ARN. The emulator writes its tables itself, and leaves out most of what a template says: placement,
daemons, health checks, secrets, instances.
"""

from ministack.services import autoscaling, ec2, ecs, secretsmanager
from ministack.services.cloudformation import provisioners

import instances

# Their keys are the user's own, and stay as they are.
NAMES_OF_OTHERS = {"options", "dockerLabels", "driverOpts", "labels", "systemControls"}
# CloudFormation takes numbers and truths as texts too, as a parameter has them.
NUMBERS = {
    "desiredCount", "healthCheckGracePeriodSeconds", "minimumHealthyPercent", "maximumPercent", "containerPort",
    "hostPort", "memoryReservation", "stopTimeout", "startTimeout", "interval", "timeout", "retries", "startPeriod",
}  # fmt: skip
# What the operation calls otherwise.
OTHER_NAMES = {"placementStrategies": "placementStrategy"}


def in_the_words_of_ecs(value, key=""):
    """A template's properties as the API has them: keys begin with a small letter, numbers are numbers."""
    if isinstance(value, dict):
        if key in NAMES_OF_OTHERS:
            return value
        small = {name[:1].lower() + name[1:]: content for name, content in value.items()}
        return {OTHER_NAMES.get(name, name): in_the_words_of_ecs(content, name) for name, content in small.items()}
    if isinstance(value, list):
        return [in_the_words_of_ecs(item, key) for item in value]
    if isinstance(value, str) and (key in NUMBERS and value.isdigit() or value in ("true", "false")):
        return int(value) if value.isdigit() else value == "true"
    return value


def call(operation, data):
    status, _, body = ecs._ACTION_MAP[operation](data)
    if status >= 400:
        raise ValueError(f"{operation}: {body!r}")
    return instances.shared.body_of((status, {}, body))


def register(properties):
    document = in_the_words_of_ecs(properties)
    # In a container these are numbers, of the task they are texts.
    for container in document.get("containerDefinitions", []):
        for name in ("cpu", "memory"):
            if name in container:
                container[name] = int(container[name])
    arn = call("RegisterTaskDefinition", document)["taskDefinition"]["taskDefinitionArn"]
    return arn, {"TaskDefinitionArn": arn}


def create_task_definition(logical_id, properties, stack_name):
    return register({"Family": f"{stack_name}-{logical_id}", **properties})


def update_task_definition(physical_id, old, new, stack_name, logical_id=None):
    if {**old, "Tags": None} == {**new, "Tags": None}:
        return physical_id, {"TaskDefinitionArn": physical_id}
    return create_task_definition(logical_id or physical_id, new, stack_name)


def create_service(logical_id, properties, stack_name):
    wanted = {"ServiceName": f"{stack_name}-{logical_id}", "DesiredCount": 1, **properties}
    service = call("CreateService", in_the_words_of_ecs(wanted))["service"]
    return service["serviceArn"], {"ServiceArn": service["serviceArn"], "Name": service["serviceName"]}


UPDATED = (
    "TaskDefinition", "DesiredCount", "DeploymentConfiguration", "NetworkConfiguration", "HealthCheckGracePeriodSeconds",
    "PlacementStrategies", "LoadBalancers",
)  # fmt: skip


def update_service(physical_id, old, new, stack_name):
    if old != new:
        said = in_the_words_of_ecs({name: new[name] for name in UPDATED if name in new})
        cluster, name = physical_id.rsplit("/", 2)[-2:]
        call("UpdateService", {"cluster": cluster, "service": name, **said})
    return physical_id, {"ServiceArn": physical_id, "Name": physical_id.rsplit("/", 1)[-1]}


# Groups. A group that is made or changed gets its instances, in the zones of its subnets; one that goes loses them.


def zones_of(group):
    subnets = [ec2._subnets.get(subnet.strip()) for subnet in group.get("VPCZoneIdentifier", "").split(",")]
    return [subnet["AvailabilityZone"] for subnet in subnets if subnet]


def settled(make):
    def wrapped(*arguments, **named):
        result = make(*arguments, **named)
        group = autoscaling._asgs.get(result[0])
        if group is not None:
            group["AvailabilityZones"] = zones_of(group) or group["AvailabilityZones"]
            autoscaling._reconcile_instances(group)
        return result

    return wrapped


def updated(update):
    """The desired capacity stays as it is where the template does not say one."""

    def wrapped(physical_id, old, new, *arguments, **named):
        group = autoscaling._asgs.get(physical_id)
        if group is not None and "DesiredCapacity" not in new:
            least, most = int(new.get("MinSize", 0)), int(new.get("MaxSize", 0))
            new = {**new, "DesiredCapacity": min(max(group["DesiredCapacity"], least), most)}
        return update(physical_id, old, new, *arguments, **named)

    return wrapped


def deleted(delete):
    def wrapped(physical_id, properties):
        group = autoscaling._asgs.get(physical_id)
        for member in list(group["Instances"]) if group else []:
            instances.gone(group, member)
        return delete(physical_id, properties)

    return wrapped


# Secrets. What `Ref` says of one is its ARN; the emulator says its name, with which no task starts.


def name_of(arn):
    return next((name for name, secret in secretsmanager._secrets.items() if secret["ARN"] == arn), arn)


def by_arn(change):
    def wrapped(*arguments, **named):
        first, *others = arguments
        result = change(name_of(first), *others, **named)
        if not result:
            return result
        secret = secretsmanager._secrets.get(result[0])
        return (secret["ARN"] if secret else result[0]), result[1]

    return wrapped


def install():
    handlers = provisioners._RESOURCE_HANDLERS
    secret = handlers["AWS::SecretsManager::Secret"]
    secret.update({kind: by_arn(secret[kind]) for kind in ("create", "update", "delete")})
    handlers["AWS::ECS::TaskDefinition"].update(create=create_task_definition, update=update_task_definition)
    handlers["AWS::ECS::Service"].update(create=create_service, update=update_service)
    group = handlers["AWS::AutoScaling::AutoScalingGroup"]
    group.update(create=settled(group["create"]), update=settled(updated(group["update"])), delete=deleted(group["delete"]))
