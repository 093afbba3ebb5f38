//! Events of every function, as EventBridge, SNS, SQS, CloudWatch and people send them.

use shared::events::{Event, is_question, read};

use crate::{json, with_novelties};

/// An event, bare or wrapped in a question, up to what the handlers take from it. Fields that nobody knows change nothing
/// of what is read.
pub fn event(data: &[u8]) {
    let Some(event) = json(data) else { return };
    let _seen = is_question(&event);
    let read_as = read(&event);
    if let Ok(Event::Explain(asked)) = &read_as {
        look(read(asked));
        return;
    }
    let mut novel = with_novelties(&event);
    if let Some(detail) = novel.get_mut("detail") {
        *detail = with_novelties(detail);
    }
    // An event that is no object stays none, and a message's body is text.
    if event.is_object() {
        assert_eq!(
            format!("{:?}", read(&novel)),
            format!("{read_as:?}"),
            "a field that nobody knows changes what is read"
        );
    }
    look(read_as);
}

/// What the handlers look at.
fn look(read: Result<Event, shared::error::Error>) {
    match read {
        Ok(Event::Image(push)) => {
            let _seen = (push.why_not_deployable(), push.repository.to_string());
            let _seen = push.repository.serves(&push.digest);
        }
        Ok(Event::Deployment(change)) => {
            let _seen = (change.service.home(), change.service.to_string(), change.service.has_cluster());
        }
        Ok(Event::Tagged(service)) => {
            assert!(service.has_cluster(), "a service without a cluster can't be looked at");
            let _seen = service.home();
        }
        Ok(Event::Stopped(task)) => {
            let _seen = (task.service.to_string(), task.service.home());
        }
        Ok(Event::Alarm(alarm)) => {
            let _seen = alarm.dimension("QueueName").chain(alarm.dimension("ClusterName")).count();
            assert!(!alarm.name.is_empty(), "an alarm without a name watches nobody");
        }
        Ok(Event::Rollback(asked)) => {
            let _seen = (asked.service.to_string(), asked.service.home());
        }
        Ok(Event::Release(asked)) => {
            let _seen = (asked.service.to_string(), asked.service.home());
        }
        Ok(Event::Cluster(change)) => {
            let _seen = change.tells_nothing();
        }
        Ok(Event::Report(asked)) => assert!(asked.days > 0, "a report of no days"),
        Ok(_) => {}
        Err(error) => {
            assert!(!error.is_transient(), "what can't be read can't be read the next time either: {error}");
            let _seen = error.to_string();
        }
    }
}
