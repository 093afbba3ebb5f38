//! One pass over services: observe, decide, act, and look again where somebody else was faster.
//!
//! It is safe to repeat, to reorder, to run twice at once, and to kill between any two calls:
//!
//! * the intention is written before the effect, under a lease that expires and a generation that fences: a handler
//!   that was outrun notices when it writes, and looks again;
//! * what ECR says is asked for after the history was read, so that no older image can win (see [`images`]);
//! * whoever finds the effect of a handler that died writes down what it could not.
//!
//! [`images`]: super::images

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all, try_join};

use super::Deployer;
use super::decide::{Observed, Plan, Skip, Verdict, decide, followed};
use super::images::{Images, Moment, Selection};
use super::preflight::{self, Preflight};
use super::records::{abandoned, is_done_unwritten, is_recorded_already, was_stopped};
use super::watch::Watch;
use crate::alarms::AlarmStates;
use crate::decision::{Action, Decision, Handled};
use crate::ecs::Service;
use crate::error::Error;
use crate::events::{ImageAction, ServiceRef};
use crate::image::EcrRepository;
use crate::lease::Start;
use crate::record::store::{Guarding, Written};
use crate::record::{self, History, LEASE, Origin, Record, ServiceItem, State, millis};
use crate::revisions::Revisions;
use crate::tags::ServiceTags;
use crate::task_definition::TaskDefinition;

pub(super) const ADOPTED: &str =
    "the deployment was started by an invocation that could not write so; it is written down";

/// One invocation's look at services, and what they share.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) deployer: &'a Deployer,
    /// What made us look.
    pub(super) origin: Origin,
    /// Who, where it was a person.
    pub(super) actor: Option<&'a str>,
    /// The push, if it was one.
    pub(super) push: Option<&'a ImageAction>,
    /// Whether only to say what would be done.
    pub(super) explain: bool,
    /// When the invocation ends.
    pub(super) deadline: DateTime<Utc>,
    pub(super) images: Images<'a>,
    pub(super) revisions: Revisions<'a>,
    pub(super) preflight: Preflight<'a>,
}

/// A service and its history, since when they are known, and the alarms that watch it.
#[derive(Debug)]
struct View {
    service: Service,
    history: History,
    read: Moment,
    watch: Arc<Watch>,
}

/// What was read of a service, in an order that makes it safe to act on.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) repository: EcrRepository,
    pub(super) service: Service,
    pub(super) history: History,
    pub(super) selection: Arc<Selection>,
    pub(super) base: Option<TaskDefinition>,
    alarms: AlarmStates,
}

impl Pass<'_> {
    /// Brings services of one cluster, as many as `DescribeServices` takes at once, to the images that their policies
    /// select from the repositories that `of` names.
    pub(super) async fn page(
        &self,
        ids: &[ServiceRef],
        of: &(dyn Fn(&ServiceTags) -> Vec<EcrRepository> + Sync),
    ) -> Handled {
        let mut handled = Handled::default();
        let (described, histories) =
            join(self.describe(ids), join_all(ids.iter().map(|id| self.deployer.store.history(id)))).await;
        let mut services = match described {
            Ok(services) => services,
            Err(error) => {
                ids.iter().for_each(|id| handled.fail(id, error.clone()));
                return handled;
            }
        };
        let read = self.images.now();
        let watch = Arc::new(Watch::of(services.values()));
        let work = ids.iter().zip(histories).map(|(id, history)| {
            let (service, watch) = (services.remove(&id.service), Arc::clone(&watch));
            async move {
                let result = match (service, history) {
                    (None, _) => Ok(vec![self.gone(id)]),
                    (Some(service), Ok(history)) => {
                        Box::pin(self.services_turn(View { service, history, read, watch }, of)).await
                    }
                    (Some(_), Err(error)) => Err(error),
                };
                (id, result)
            }
        });
        for (id, result) in join_all(work).await {
            match result {
                Ok(decisions) => handled.decisions.extend(decisions),
                Err(error) => handled.fail(id, error),
            }
        }
        handled
    }

    pub(super) async fn describe(&self, ids: &[ServiceRef]) -> Result<BTreeMap<String, Service>, Error> {
        let Some(first) = ids.first() else { return Ok(BTreeMap::new()) };
        let names: Vec<String> = ids.iter().map(|id| id.service.clone()).collect();
        let services = self.deployer.ecs.describe_services(&first.cluster, &names).await?;
        Ok(services.into_iter().map(|service| (service.id.service.clone(), service)).collect())
    }

    /// Every repository of one service, one after the other, for each deployment is the base of the next.
    async fn services_turn(
        &self,
        view: View,
        of: &(dyn Fn(&ServiceTags) -> Vec<EcrRepository> + Sync),
    ) -> Result<Vec<Decision>, Error> {
        let id = view.service.id.clone();
        let tags = ServiceTags::read(&view.service.tags);
        let repositories = of(&tags);
        if repositories.is_empty() {
            return Ok(vec![follows_nothing(&id, tags)]);
        }
        let mut view = Some(view);
        let mut decisions = Vec::with_capacity(repositories.len());
        for repository in &repositories {
            let present = match view.take() {
                Some(present) => Some(present),
                None => self.view(&id).await?,
            };
            match present {
                Some(present) => decisions.push(Box::pin(self.converge(present, repository)).await?),
                None => decisions.push(self.gone(&id)),
            }
        }
        Ok(decisions)
    }

    /// A service and its history as they are now; `None` where the service is gone.
    async fn view(&self, id: &ServiceRef) -> Result<Option<View>, Error> {
        let (service, history) =
            try_join(self.deployer.ecs.describe_service(id), self.deployer.store.history(id)).await?;
        let read = self.images.now();
        Ok(service.map(|service| View { watch: Arc::new(Watch::of([&service])), service, history, read }))
    }

    /// Brings one service to the image that its policy selects from one repository.
    async fn converge(&self, mut view: View, repository: &EcrRepository) -> Result<Decision, Error> {
        let id = view.service.id.clone();
        loop {
            let Some(seen) = self.observe(view, repository).await? else {
                return Ok(self.gone(&id));
            };
            let verdict = decide(&Observed {
                origin: self.origin,
                repository,
                service: &seen.service,
                selection: &seen.selection,
                base: seen.base.as_ref(),
                alarms: &seen.alarms,
                history: &seen.history,
                now: self.deployer.platform.now(),
            });
            let acted = match verdict {
                _ if self.explain => Box::pin(self.explained(&seen, verdict)).await?,
                Verdict::Skip(_) if is_done_unwritten(&seen) => self.adopt(&seen).await?,
                Verdict::Skip(skip) => self.skip(&seen, &skip).await?,
                Verdict::Wait => None,
                Verdict::Adopt { .. } => self.adopt(&seen).await?,
                Verdict::Deploy(plan) => Box::pin(self.deploy(&seen, &plan)).await?,
            };
            if let Some(decision) = acted {
                return Ok(decision);
            }
            let why = || format!("another invocation is at work on {id}");
            self.deployer.platform.look_again(self.deadline, why).await?;
            match self.view(&id).await? {
                Some(now) => view = now,
                None => return Ok(self.gone(&id)),
            }
        }
    }

    /// Reads what the decision needs beside the service and its history. `None` where the service is gone since.
    ///
    /// Nobody can write an intention after this history was read without ours being refused. But one that was settled
    /// between ECS's view and the history is not in that view: then ECS is asked again.
    async fn observe(&self, view: View, repository: &EcrRepository) -> Result<Option<Seen>, Error> {
        let View { service, history, read, watch } = view;
        let newest = history.current().and_then(|record| record.ecs_deployment_id.as_deref());
        let Some(service) = self.deployer.ecs.showing(service, newest).await? else { return Ok(None) };
        let mut seen = Seen {
            repository: repository.clone(),
            service,
            history,
            selection: Arc::new(Selection::NONE),
            base: None,
            alarms: AlarmStates::default(),
        };
        let Ok((_, policy)) = followed(&seen.service, repository) else {
            return Ok(Some(seen));
        };
        let truth = try_join(self.images.selected(repository, &policy, read), self.base_of(&seen.service));
        let states = self.preflight.alarms(watch.states(&self.deployer.alarms, &seen.service));
        let (truth, states) = join(truth, Box::pin(states)).await;
        (seen.selection, seen.base) = truth?;
        seen.alarms = states;
        Ok(Some(seen))
    }

    async fn base_of(&self, service: &Service) -> Result<Option<TaskDefinition>, Error> {
        match service.primary() {
            Some(primary) => self.revisions.revision(&primary.task_definition).await,
            None => Ok(None),
        }
    }

    /// Deploys: intention, checks, revision, `UpdateService`, and what came of it. `None` where another handler was
    /// faster.
    async fn deploy(&self, seen: &Seen, plan: &Plan) -> Result<Option<Decision>, Error> {
        let Some(base) = &seen.base else { return Ok(None) };
        let checks = || self.preflight.check(&self.images, &seen.repository, &plan.digest, base);
        if was_stopped(seen, &plan.digest)
            && let Err(skip) = preflight::judge(base, &checks().await)
        {
            return self.skip(seen, &skip).await;
        }
        let changed_by_others = self.changed_by_others(seen, base).await?;
        let now = self.deployer.platform.now();
        let mut record = Record { changed_by_others, ..self.intention(seen, plan, now) };
        let (written, findings) = join(Box::pin(self.intend(seen, &record, now)), Box::pin(checks())).await;
        if written? == Written::Outrun {
            return Ok(None);
        }
        let notes = match preflight::judge(base, &findings) {
            Ok(notes) => notes,
            Err(skip) => return self.give_up(&record, &skip).await,
        };
        let effect = async {
            let revision = self.revisions.register(&base.arn, &plan.draft).await?;
            let start =
                Start { service: &seen.service, revision: &revision, intention: &mut record, until: now + LEASE };
            let Deployer { ecs, store, platform, .. } = self.deployer;
            let started = Box::pin(start.call(ecs, store, platform)).await?;
            Ok(started.map(|updated| (revision, updated)))
        };
        match effect.await {
            Ok(None) => Ok(None),
            Ok(Some((revision, updated))) => {
                let notes = plan.notes.iter().cloned().chain(notes).collect();
                let rolling = self.settle(seen, &record, &updated, Some(revision), notes).await?;
                Ok(rolling.map(|rolling| made(Action::Deploy, "deploy", &rolling)))
            }
            // The platform will try again, and whoever comes then finds the intention and its expired lease.
            Err(error) if Error::is_transient(&error) => Err(error),
            Err(error) => {
                if let Some(failed) = record.advanced(State::Failed, error.to_string(), self.deployer.platform.now()) {
                    self.deployer.store.settle(&record, &failed).await?;
                }
                Err(error)
            }
        }
    }

    /// Writes the intention, and with it what it leaves behind.
    async fn intend(&self, seen: &Seen, record: &Record, now: DateTime<Utc>) -> Result<Written, Error> {
        let item = ServiceItem {
            record: record.id.clone(),
            digest: record.digest.clone(),
            lease_until: millis(now + LEASE),
            watch: Some(record::Watch::Watch),
            ..seen.history.next_item(&seen.service)
        };
        let others = [seen.history.left_behind(record), self.external(seen, now)];
        let records: Vec<&Record> = std::iter::once(record).chain(others.iter().flatten()).collect();
        self.deployer.store.write(&seen.history, &item, &records, Guarding::RefusesDigest(&record.digest)).await
    }

    /// The checks have found that this intention must not become a deployment.
    async fn give_up(&self, record: &Record, skip: &Skip) -> Result<Option<Decision>, Error> {
        let Some(skipped) = record.advanced(State::Skipped, skip.to_string(), self.deployer.platform.now()) else {
            return Ok(None);
        };
        Ok(match self.deployer.store.settle(record, &skipped).await? {
            Written::Yes => Some(made(Action::Skip, skip.rule(), &skipped)),
            Written::Outrun => None,
        })
    }

    /// Decides not to deploy, and writes that down where it is news, together with a deployment of somebody else's that
    /// was found. `None` where another handler was faster.
    pub(super) async fn skip(&self, seen: &Seen, skip: &Skip) -> Result<Option<Decision>, Error> {
        let now = self.deployer.platform.now();
        let decision = self.skip_decision(seen, skip);
        // While a handler is at work on the service its item is not ours to change; the sweep comes later.
        if seen.history.is_leased(now) {
            return Ok(Some(decision));
        }
        let left = abandoned(seen, skip, now);
        let digest = decision.digest.as_deref().unwrap_or_default();
        let is_news = skip.is_recorded() && !is_recorded_already(seen, skip, digest);
        let skipped = is_news.then(|| self.skipped(seen, skip, now));
        let (external, mut item) = match self.external(seen, now) {
            // What somebody else has deployed is for others to write down; until then the item must not know of it.
            Some(_) if self.origin == Origin::Push => (None, seen.history.next_item_unseen()),
            Some(external) => (Some(self.with_changes(seen, external).await?), seen.history.next_item(&seen.service)),
            None => (None, seen.history.next_item(&seen.service)),
        };
        // The sweep must not take for what runs here what was given up, or gone back from.
        if left.is_some() || item.digest == digest {
            item.digest.clear();
        }
        if let Some(external) = &external {
            (item.record, item.digest) = (external.id.clone(), external.digest.clone());
            item.watch = Some(record::Watch::Watch);
        }
        let records: Vec<&Record> = skipped.iter().chain(&external).chain(&left).collect();
        if self.explain {
            let found = external.filter(|_| skipped.is_none());
            let found = found.map(|found| Decision { record: None, ..made(Action::Record, "external", &found) });
            return Ok(Some(found.unwrap_or(decision)));
        }
        if records.is_empty() {
            return Ok(Some(decision));
        }
        if self.deployer.store.write(&seen.history, &item, &records, Guarding::Not).await? == Written::Outrun {
            return Ok(None);
        }
        Ok(Some(match (skipped, external) {
            (Some(skipped), _) => {
                Decision { record: Some(skipped.id), state: Some(State::Skipped.as_str()), ..decision }
            }
            (None, Some(external)) => made(Action::Record, "external", &external),
            (None, None) => decision,
        }))
    }

    /// Writes down the deployment that a handler started and could not write down.
    async fn adopt(&self, seen: &Seen) -> Result<Option<Decision>, Error> {
        let Seen { service, history, .. } = seen;
        let revision = service.primary().map(|primary| primary.task_definition.clone());
        let Some(record) = history.current() else { return Ok(None) };
        let rolling = self.settle(seen, record, service, revision, record.notes.clone()).await?;
        Ok(rolling.map(|rolling| Decision { reason: ADOPTED.into(), ..made(Action::Record, "adopt", &rolling) }))
    }

    async fn settle(
        &self,
        seen: &Seen,
        record: &Record,
        service: &Service,
        revision: Option<String>,
        notes: Vec<String>,
    ) -> Result<Option<Record>, Error> {
        let now = self.deployer.platform.now();
        let started = record.started(service, revision.as_deref(), &seen.service.tags, now)?;
        let Some(rolling) = started.map(|rolling| Record { notes, ..rolling }) else { return Ok(None) };
        Ok(match self.deployer.store.settle(record, &rolling).await? {
            Written::Yes => Some(rolling),
            Written::Outrun => None,
        })
    }

    async fn with_changes(&self, seen: &Seen, external: Record) -> Result<Record, Error> {
        let changed_by_others = match &seen.base {
            Some(base) => self.changed_by_others(seen, base).await?,
            None => Vec::new(),
        };
        Ok(Record { changed_by_others, ..external })
    }

    /// What somebody else has changed in the task definition since our last deployment that stayed.
    async fn changed_by_others(&self, seen: &Seen, base: &TaskDefinition) -> Result<Vec<String>, Error> {
        let Some(ours) = seen.history.our_last_revision().filter(|ours| *ours != base.arn) else {
            return Ok(Vec::new());
        };
        let ours = self.revisions.revision(ours).await?;
        Ok(ours.map(|ours| base.differences_from(&ours)).unwrap_or_default())
    }

    /// A decision about what was seen.
    pub(super) fn decision(
        &self,
        seen: &Seen,
        action: Action,
        rule: &'static str,
        reason: impl Into<String>,
    ) -> Decision {
        let (digest, tag) = self.candidate(seen);
        Decision {
            service: Some(seen.service.id.to_string()),
            rule: Some(rule),
            repository: Some(seen.repository.name.clone()),
            tag: Some(tag).filter(|tag| !tag.is_empty()),
            digest: Some(digest).filter(|digest| !digest.is_empty()),
            ..Decision::new(action, reason)
        }
    }

    pub(super) fn skip_decision(&self, seen: &Seen, skip: &Skip) -> Decision {
        self.decision(seen, Action::Skip, skip.rule(), skip.to_string())
    }

    /// A follower that the tagging API still knows and ECS does not.
    fn gone(&self, id: &ServiceRef) -> Decision {
        let gone = Decision::new(Action::Skip, "the service no longer exists");
        Decision { service: Some(id.to_string()), rule: Some("gone"), ..gone }
    }
}

/// A decision that made, or changed, a record.
fn made(action: Action, rule: &'static str, record: &Record) -> Decision {
    Decision { rule: Some(rule), ..Decision::about(action, record) }
}

/// A service whose tags name no repository.
fn follows_nothing(id: &ServiceRef, tags: ServiceTags) -> Decision {
    let (rule, reason) = match tags.problems.is_empty() {
        true => (Skip::NotFollowing.rule(), "the service follows no repository".to_owned()),
        false => {
            let skip = Skip::Tags(tags.problems.into_iter().collect());
            (skip.rule(), skip.to_string())
        }
    };
    Decision { service: Some(id.to_string()), rule: Some(rule), ..Decision::new(Action::Skip, reason) }
}
