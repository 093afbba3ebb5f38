//! Execution environments: a function with its clients and whatever it remembers from one invocation to the next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use aws_smithy_async::time::TimeSource;
use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::decision::Handled;
use shared::deploy::Deployer;
use shared::lambda::Function;
use shared::notify::Notifier;
use shared::rollback::Rollbacker;
use shared::scale::cluster::ClusterScaler;
use shared::scale::service::ServiceScaler;
use tokio::sync::Notify;

use super::World;

/// The execution environment of a function. It takes one invocation at a time.
struct Instance {
    /// Its own view of the world: a fate kills the instance that made the call, and no other.
    world: World,
    function: Function,
    handler: Handler,
}

enum Handler {
    Deploy(Box<Deployer>),
    Notify(Box<Notifier>),
    Rollback(Box<Rollbacker>),
    ScaleService(Box<ServiceScaler>),
    ScaleCluster(Box<ClusterScaler>),
}

impl Handler {
    fn of(function: &Function, name: &str) -> Self {
        match name {
            "deploy" => Self::Deploy(function.deployer().into()),
            "notify" => Self::Notify(function.notifier().into()),
            "rollback" => Self::Rollback(function.rollbacker().into()),
            "scale-service" => Self::ScaleService(function.service_scaler().into()),
            "scale-cluster" => Self::ScaleCluster(function.cluster_scaler().into()),
            other => panic!("there is no function {other}"),
        }
    }

    async fn handle(&self, event: &Value, deadline: DateTime<Utc>) -> Handled {
        match self {
            Self::Deploy(handler) => handler.handle(event, deadline).await,
            Self::Notify(handler) => handler.handle(event, deadline).await,
            Self::Rollback(handler) => handler.handle(event, deadline).await,
            Self::ScaleService(handler) => handler.handle(event, deadline).await,
            Self::ScaleCluster(handler) => handler.handle(event, deadline).await,
        }
    }
}

/// Instances that have nothing to do, and wait for the next invocation, as Lambda keeps them; clones share them.
///
/// They are not kept in the world: each has the world in its clients, and neither would ever be dropped.
#[derive(Clone, Default)]
pub struct WarmInstances(Rc<RefCell<BTreeMap<&'static str, Vec<Instance>>>>);

impl World {
    fn instance(&self, name: &'static str) -> Instance {
        let world = Self { killed: Arc::new(Notify::new()), by: name, ..self.clone() };
        let function = world.function(name);
        Instance { handler: Handler::of(&function, name), world, function }
    }

    /// Invokes a new instance of a function once; `None` if it was killed, by a fate or for taking too long. The error is
    /// what the platform would see.
    pub async fn invoke(&self, name: &'static str, event: &Value) -> Option<Result<Value, String>> {
        self.instance(name).run(event).await
    }

    /// As [`Self::invoke`], on an instance that waits for work, where there is one.
    pub async fn invoke_warm(
        &self,
        name: &'static str,
        event: &Value,
        instances: &WarmInstances,
    ) -> Option<Result<Value, String>> {
        let waiting = instances.0.borrow_mut().get_mut(name).and_then(Vec::pop);
        let instance = waiting.unwrap_or_else(|| self.instance(name));
        // What is killed is gone, what fails is not.
        let result = instance.run(event).await?;
        instances.0.borrow_mut().entry(name).or_default().push(instance);
        Some(result)
    }
}

impl Instance {
    async fn run(&self, event: &Value) -> Option<Result<Value, String>> {
        let (world, function) = (&self.world, &self.function);
        let time_out = world.state().time_out;
        let invocation = async {
            let deadline = (world.now() + time_out).into();
            let handled = self.handler.handle(event, deadline).await;
            function.conclude(handled, event, "request-1").await.map_err(|error| error.error_message)
        };
        tokio::select! {
            biased;
            () = world.killed.notified() => None,
            () = tokio::time::sleep(time_out) => {
                world.state().timed_out += 1;
                None
            }
            result = Box::pin(invocation) => Some(result),
        }
    }
}
