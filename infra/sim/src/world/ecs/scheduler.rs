//! ECS's scheduler on container instances, when a test lets it work.

use serde_json::{Value, json};

use super::instances::{holds, is_on};
use super::{Ecs, last_part};
use crate::world::{ACCOUNT, REGION};

/// What tests set up, and do as others would.
impl Ecs {
    /// A service of tasks that need this much, on instances, with as many tasks as it is to have; none has a place yet.
    pub fn add_ec2_service(&mut self, cluster: &str, name: &str, cpu: i64, memory: i64, desired: i64) {
        self.register(&json!({
            "family": name, "networkMode": "bridge", "cpu": cpu.to_string(), "memory": memory.to_string(),
            "containerDefinitions": [{"name": name, "image": "public.ecr.aws/tides/web:1", "essential": true}],
        }));
        let deployment = json!({
            "id": format!("ecs-svc/{name}"), "status": "PRIMARY", "taskDefinition": self.newest(name),
            "rolloutState": "COMPLETED", "createdAt": 1_794_000_000.0, "desiredCount": desired, "runningCount": 0,
            "pendingCount": 0,
        });
        self.add_service_with(
            cluster,
            name,
            name,
            &[],
            &json!({
                "launchType": "EC2", "schedulingStrategy": "REPLICA", "desiredCount": desired, "runningCount": 0,
                "pendingCount": 0, "deployments": [deployment],
            }),
        );
    }

    /// Somebody wants another number of tasks.
    pub fn scale_service(&mut self, service: &str, desired: i64) {
        let service = self.service(service);
        service["desiredCount"] = json!(desired);
        service["deployments"][0]["desiredCount"] = json!(desired);
    }

    /// A task that somebody runs by itself, on this instance.
    pub fn run_task(&mut self, cluster: &str, ec2_id: &str, cpu: i64, memory: i64) {
        let arn = self.instance_arn(cluster, ec2_id);
        let task = self.task(cluster, "migrate", "family:migrate", cpu, memory, &arn);
        self.tasks.entry(format!("{cluster}/")).or_default().push(task);
    }

    /// A task of `web` on this instance is to stop, and still at its last work.
    pub fn stopping_task(&mut self, cluster: &str, ec2_id: &str, cpu: i64, memory: i64) {
        let arn = self.instance_arn(cluster, ec2_id);
        let mut task = self.task(cluster, "web", "service:web", cpu, memory, &arn);
        task["desiredStatus"] = json!("STOPPED");
        task["lastStatus"] = json!("STOPPING");
        self.tasks.entry(format!("{cluster}/")).or_default().push(task);
    }

    /// It has stopped.
    pub fn stopped(&mut self, ec2_id: &str) {
        for task in self.tasks.values_mut().flatten().filter(|task| is_on(task, ec2_id)) {
            if task["desiredStatus"] == "STOPPED" {
                task["lastStatus"] = json!("STOPPED");
            }
        }
    }

    /// The scheduler works until there is nothing more to do: tasks on draining instances stop, unless they protect
    /// themselves, and what lacks is placed where there is room. Service tasks that find none are told of.
    pub fn schedule(&mut self, cluster: &str) {
        let prefix = format!("{cluster}/");
        let services: Vec<String> = self.services.keys().filter(|id| id.starts_with(&prefix)).cloned().collect();
        for service in &services {
            let draining = self.draining(cluster);
            let protected = self.protected.clone();
            let tasks = self.tasks.entry(service.clone()).or_default();
            tasks.retain(|task| {
                let stays = protected.contains(task["taskArn"].as_str().unwrap());
                stays || !draining.iter().any(|id| is_on(task, id))
            });
            self.place_tasks(cluster, service);
        }
    }

    fn draining(&self, cluster: &str) -> Vec<String> {
        let instances = self.container_instances.get(cluster).into_iter().flatten();
        let draining = instances.filter(|instance| instance["status"] == "DRAINING");
        draining.map(|instance| instance["ec2InstanceId"].as_str().unwrap().to_owned()).collect()
    }

    fn place_tasks(&mut self, cluster: &str, service: &str) {
        let wanted = self.services[service]["desiredCount"].as_i64().unwrap();
        let name = service.split_once('/').unwrap().1.to_owned();
        let definition = &self.revision(&self.newest(&name)).unwrap()["taskDefinition"];
        let number = |of: &str| definition[of].as_str().unwrap().parse::<i64>().unwrap();
        let (cpu, memory) = (number("cpu"), number("memory"));
        let mut running = self.tasks[service].iter().filter(|task| holds(task)).count() as i64;
        let before = running;
        while running > wanted {
            self.tasks.get_mut(service).unwrap().pop();
            running -= 1;
        }
        while running < wanted {
            let Some(arn) = self.place(cluster, cpu, memory) else { break };
            let task = self.task(cluster, &name, &format!("service:{name}"), cpu, memory, &arn);
            self.tasks.get_mut(service).unwrap().push(task);
            running += 1;
        }
        let shown = self.service(service);
        shown["runningCount"] = json!(running);
        shown["deployments"][0]["runningCount"] = json!(running);
        if before < running {
            self.add_event(service, &format!("(service {name}) has started {} tasks.", running - before));
        }
        if running < wanted {
            let why = "was unable to place a task because no container instance met all of its requirements.";
            self.add_event(service, &format!("(service {name}) {why}"));
        }
    }

    /// The instance with the most free CPU, if the task fits there.
    fn place(&self, cluster: &str, cpu: i64, memory: i64) -> Option<Value> {
        let active = self.container_instances.get(cluster)?.iter().filter(|instance| instance["status"] == "ACTIVE");
        let free = active.map(|instance| (instance, self.remaining(instance))).map(|(instance, free)| {
            let of = |at: usize| free[at]["integerValue"].as_i64().unwrap();
            (of(0), of(1), instance)
        });
        let fitting = free.filter(|(free_cpu, free_memory, _)| *free_cpu >= cpu && *free_memory >= memory);
        fitting.max_by_key(|(free_cpu, ..)| *free_cpu).map(|(.., instance)| instance["containerInstanceArn"].clone())
    }

    fn task(&mut self, cluster: &str, family: &str, group: &str, cpu: i64, memory: i64, instance: &Value) -> Value {
        self.deployments += 1;
        let id = format!("{:032x}", self.deployments);
        json!({
            "taskArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{id}"), "group": group,
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{cluster}"), "launchType": "EC2",
            "taskDefinitionArn": self.newest(family), "containerInstanceArn": instance, "desiredStatus": "RUNNING",
            "lastStatus": "RUNNING", "cpu": cpu.to_string(), "memory": memory.to_string(), "containers": [],
        })
    }

    /// What runs where, as `<instance>: <tasks>`.
    pub fn placed(&self, cluster: &str) -> Vec<String> {
        let all = self.container_instances.get(cluster).into_iter().flatten();
        let shown = all.map(|instance| {
            let id = last_part(&instance["containerInstanceArn"]);
            let tasks = self.tasks_on(&id).len();
            format!("{id} {} {tasks}", instance["status"].as_str().unwrap())
        });
        shown.collect()
    }
}
