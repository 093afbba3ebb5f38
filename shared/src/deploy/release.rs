//! A person lets a digest, or a whole service, be deployed again.

use chrono::{DateTime, Utc};

use super::{Deployer, Pass};
use crate::decision::{Action, Decision, Handled};
use crate::error::Error;
use crate::events::ReleaseAsked;
use crate::image::{short_digest, starts_like};
use crate::record::store::Written;
use crate::record::{Guard, History, Origin};

impl Deployer {
    /// Takes what was asked for out of quarantine, lifts the hold, and deploys what the policies select now.
    pub(super) async fn released(
        &self,
        asked: &ReleaseAsked,
        explain: bool,
        deadline: DateTime<Utc>,
    ) -> Result<Handled, Error> {
        let Some(service) = self.ecs.describe_service(&asked.service).await? else {
            return Err(Error::Input(format!("there is no service {}; nothing was released", asked.service)));
        };
        let released = loop {
            let history = self.store.history(&service.id).await?;
            let (guard, what) = released(&history, asked);
            let Some(what) = what else { break still_kept(asked, &guard) };
            let rule = Some("released");
            let decision =
                Decision { rule, service: Some(service.id.to_string()), ..Decision::new(Action::Record, what) };
            if explain || self.store.keep_guard(&service.id, &history, &guard).await? == Written::Yes {
                break decision;
            }
            let why = || format!("the quarantine of {} is being changed by another invocation", asked.service);
            self.platform.look_again(deadline, why).await?;
        };
        let mut handled = Handled::from(released);
        let actor = Some(asked.actor.as_str()).filter(|actor| !actor.is_empty());
        let pass = Pass { actor, ..self.pass(Origin::Release, None, explain, deadline) };
        handled.extend(Box::pin(pass.tagged(service.id)).await?);
        Ok(handled)
    }
}

/// What keeps deployments away after that, and what was released, in words; `None` where it was nothing.
fn released(history: &History, asked: &ReleaseAsked) -> (Guard, Option<String>) {
    let mut guard = history.guard.clone();
    let mut what = Vec::new();
    if let Some(held) = &guard.held {
        what.push(format!("Tidegate deploys to the service again (it had stopped: {})", held.reason));
        guard = guard.without("");
    }
    let wanted = asked.digest.as_deref().unwrap_or_default();
    let meant: Vec<String> = guard.quarantine.keys().filter(|digest| starts_like(digest, wanted)).cloned().collect();
    for digest in meant {
        what.push(format!("{} may be deployed again", short_digest(&digest)));
        guard = guard.without(&digest);
    }
    let by = if asked.actor.is_empty() { String::new() } else { format!(", released by {}", asked.actor) };
    // However much was released, it is one change.
    guard.version = history.guard.version + 1;
    (guard, (!what.is_empty()).then(|| format!("{}{by}", what.join("; "))))
}

fn still_kept(asked: &ReleaseAsked, guard: &Guard) -> Decision {
    let kept: Vec<&str> = guard.quarantine.keys().map(|digest| short_digest(digest)).collect();
    let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
    let reason = format!("there was nothing to release: Tidegate has not stopped here, and in quarantine is {kept}");
    Decision {
        service: Some(asked.service.to_string()),
        rule: Some("nothing-to-release"),
        ..Decision::new(Action::Skip, reason)
    }
}
