//! Going back by a deployment of our own: a release that is proven good is deployed again.

use chrono::{DateTime, Utc};
use futures_util::future::join;

use super::decide::{Hold, Plan};
use super::fitness::{Fit, Fitness};
use super::records::{aimed, aimed_at, changed, ended, guard, held, intended, leased, marked, recovery};
use super::target::{Passed, candidates, name};
use super::{Cause, Rollbacker, Seen, act};
use crate::decision::{Action, Decision};
use crate::ecs::Service;
use crate::error::Error;
use crate::lease::Start;
use crate::record::store::{Guarding, Written};
use crate::record::{Guard, History, LEASE, Record, Recovery, Remedy, ServiceItem, State, millis};
use crate::revisions::Revisions;

/// How often what came of it is written anew because somebody else has written at the same moment.
const ATTEMPTS_MAX: usize = 5;

/// What one rollback has in hand.
#[derive(Debug)]
struct Work {
    guard: Guard,
    /// The record of the deployment that brings a release back.
    intended: Record,
    /// Until when it is ours.
    until: DateTime<Utc>,
    /// The record of what is taken back, as it was written.
    bad: Record,
    rule: &'static str,
}

impl Rollbacker {
    /// Brings the first candidate back, or the next one where that can't be. `None` where another handler was faster.
    pub(super) async fn go_back(&self, seen: &Seen, plan: &Plan, cause: Cause<'_>) -> Result<Option<Decision>, Error> {
        let Some((target, others)) = plan.candidates.split_first() else { return Ok(None) };
        let now = self.platform.now();
        let intended = intended(&self.environment, seen, plan, target, cause, now);
        let recovery =
            Recovery { record: Some(intended.id.clone()), ..recovery(Remedy::Deploy, plan, target, cause, now) };
        let guard = guard(seen, &plan.bad, &recovery.why, Some(target), cause, now);
        let bad = marked(&plan.bad, recovery);
        let item = leased(seen, &intended, now);
        // A deployment that a dead handler has left must not stay open beside it.
        let left = seen.history.left_behind(&intended);
        let records: Vec<&Record> = [&intended, &bad].into_iter().chain(&left).collect();
        // The release is looked at beside: mostly it can be brought back.
        let write = self.store.write(&seen.history, &item, &records, Guarding::Becomes(&guard));
        let (written, fitness) = join(Box::pin(write), Box::pin(self.fitness(&seen.service, &guard, target))).await;
        if written? == Written::Outrun {
            return Ok(None);
        }
        let work = Work { guard, intended, until: now + LEASE, bad, rule: plan.fault.rule() };
        Box::pin(self.bring_back(seen, work, target.clone(), fitness?, others)).await
    }

    /// Goes on with what a dead handler has begun.
    pub(super) async fn resume(&self, seen: &Seen, left: &Record) -> Result<Option<Decision>, Error> {
        let (Some(primary), Some(bad)) = (seen.service.primary(), seen.history.recovered_by(left)) else {
            return self.give_up(seen, left, State::Failed, "what it takes back is not known any more").await;
        };
        if bad.ecs_deployment_id.as_ref() != Some(&primary.id) {
            // That the service's item knows it is no record: whoever comes by notes there what is PRIMARY.
            let is_recorded = seen.history.of_deployment(&primary.id).is_some();
            let is_ours = !is_recorded && self.runs(&primary.task_definition, left).await?;
            if is_ours {
                let Some((intended, _)) = self.take_over(seen, left).await? else { return Ok(None) };
                let work = (intended, bad.clone());
                return Box::pin(self.settle(seen, work, &seen.service, &primary.task_definition)).await;
            }
            let why = format!("the newer deployment {} took its place", primary.id);
            return self.give_up(seen, left, State::Superseded, &why).await;
        }
        let wanted = bad.recovery.as_ref().and_then(|recovery| recovery.to.as_deref());
        let target = match wanted.map(|wanted| (wanted, seen.history.record(wanted))) {
            Some((wanted, None)) => self.store.record(&seen.service.id, wanted).await?,
            known => known.and_then(|(_, known)| known).cloned(),
        };
        let Some(target) = target else {
            return self.give_up(seen, left, State::Failed, "the good release is not known any more").await;
        };
        let (good, _) = candidates(&seen.history, bad, None);
        let others: Vec<Record> = good.into_iter().filter(|other| other.id < target.id).collect();
        let guard = seen.history.guard.clone();
        let fitness = Box::pin(self.fitness(&seen.service, &guard, &target));
        let (intended, fitness) = join(Box::pin(self.take_over(seen, left)), fitness).await;
        let Some((intended, until)) = intended? else { return Ok(None) };
        let work = Work { guard, intended, until, bad: bad.clone(), rule: "resume" };
        Box::pin(self.bring_back(seen, work, target, fitness?, &others)).await
    }

    /// Takes an intention over that a dead handler has left, under a generation and a lease of our own, and says until when
    /// that is. `None` where another handler was faster.
    async fn take_over(&self, seen: &Seen, left: &Record) -> Result<Option<(Record, DateTime<Utc>)>, Error> {
        let now = self.platform.now();
        let intended = Record { generation: seen.history.generation() + 1, ..changed(left) };
        let item = leased(seen, &intended, now);
        let written = self.store.write(&seen.history, &item, &[&intended], Guarding::Not).await?;
        Ok((written == Written::Yes).then_some((intended, now + LEASE)))
    }

    /// Deploys the release that was chosen, or the next best if that can't be brought back.
    async fn bring_back(
        &self,
        seen: &Seen,
        mut work: Work,
        mut chosen: Record,
        mut fitness: Fitness,
        others: &[Record],
    ) -> Result<Option<Decision>, Error> {
        let mut others = others.iter();
        let mut passed = Vec::new();
        let fit = loop {
            let why = match fitness {
                Fitness::Fit(fit) => break fit,
                Fitness::Unfit(why) => why,
            };
            passed.push(Passed { name: name(&chosen), why });
            let Some(other) = others.next() else {
                return self.nothing_good(&work, &Hold::NothingGood(passed)).await;
            };
            fitness = Box::pin(self.fitness(&seen.service, &work.guard, other)).await?;
            chosen = other.clone();
        };
        if !passed.is_empty() {
            match self.choose(&work, &chosen, &passed).await? {
                Some(now) => work = now,
                None => return Ok(None),
            }
        }
        Box::pin(self.deploy(seen, &work, &fit)).await
    }

    /// Writes down that another release was chosen. `None` where another handler was faster.
    async fn choose(&self, work: &Work, target: &Record, passed: &[Passed]) -> Result<Option<Work>, Error> {
        let history = self.store.history(&work.bad.service_ref()).await?;
        let Some(bad) = of_ours(&history, work) else { return Ok(None) };
        let next = history.next_item_unseen();
        let intended = Record { generation: next.generation, ..changed(&aimed(&work.intended, bad, target)) };
        let recovery = bad.recovery.clone().map(|recovery| aimed_at(recovery, target, passed));
        let bad = Record { recovery, ..changed(bad) };
        let until = self.platform.now() + LEASE;
        let item = ServiceItem { digest: intended.digest.clone(), lease_until: millis(until), ..next };
        let written = self.store.write(&history, &item, &[&intended, &bad], Guarding::Not).await?;
        let work = Work { guard: work.guard.clone(), intended, until, bad, rule: work.rule };
        Ok((written == Written::Yes).then_some(work))
    }

    /// No release can be brought back: the service is left as it is.
    async fn nothing_good(&self, work: &Work, why: &Hold) -> Result<Option<Decision>, Error> {
        let history = self.store.history(&work.bad.service_ref()).await?;
        let Some(bad) = of_ours(&history, work) else { return Ok(None) };
        let now = self.platform.now();
        let Some(skipped) = work.intended.advanced(State::Skipped, why.to_string(), now) else { return Ok(None) };
        let recovery = bad.recovery.clone().map(|recovery| held(recovery, why));
        let why = recovery.as_ref().map_or_else(|| bad.reason.clone(), |recovery| recovery.why.clone());
        let bad = act::left_as_it_is(bad, recovery, why, now);
        // What it was to bring does not run.
        let item = ServiceItem { digest: bad.digest.clone(), ..history.next_item_unseen() };
        let written = self.store.write(&history, &item, &[&skipped, &bad], Guarding::Not).await?;
        Ok((written == Written::Yes).then(|| act::held(&bad, "nothing-good")))
    }

    async fn deploy(&self, seen: &Seen, work: &Work, fit: &Fit) -> Result<Option<Decision>, Error> {
        let mut intended = work.intended.clone();
        let effect = async {
            let revision = match &fit.draft {
                // A handler that died may have registered it.
                Some(draft) => Revisions::new(&self.ecs).register(&fit.revision.arn, draft).await?,
                None => fit.revision.arn.clone(),
            };
            let start =
                Start { service: &seen.service, revision: &revision, intention: &mut intended, until: work.until };
            let started = Box::pin(start.call(&self.ecs, &self.store, &self.platform)).await?;
            Ok(started.map(|updated| (revision, updated)))
        };
        match effect.await {
            Ok(None) => Ok(None),
            Ok(Some((revision, updated))) => {
                let notes = intended.notes.iter().chain(&fit.notes).cloned().collect();
                let intended = Record { notes, ..intended };
                let settled = Box::pin(self.settle(seen, (intended, work.bad.clone()), &updated, &revision)).await?;
                Ok(settled.map(|it| Decision { rule: Some(work.rule), ..it }))
            }
            // The platform will try again, and whoever comes then finds the intention and its expired lease.
            Err(error) if Error::is_transient(&error) => Err(error),
            Err(error) => {
                self.give_up(seen, &intended, State::Failed, &error.to_string()).await?;
                Err(error)
            }
        }
    }

    /// Writes down that ECS has accepted the deployment that brings a release back, and that the bad one is over.
    async fn settle(
        &self,
        seen: &Seen,
        (mut intended, mut bad): (Record, Record),
        updated: &Service,
        revision: &str,
    ) -> Result<Option<Decision>, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let now = self.platform.now();
            let started = intended.started(updated, Some(revision), &seen.service.tags, now)?;
            let Some(rolling) = started else { return Ok(None) };
            let over = ended(&bad, &seen.service, now);
            if self.store.settle_both(&intended, &rolling, (&bad, &over)).await? == Written::Yes {
                let notes = over.recovery.iter().map(|recovery| recovery.reason.clone());
                let notes = notes.chain(rolling.notes.iter().cloned()).collect();
                return Ok(Some(Decision {
                    rule: Some("resume"),
                    notes,
                    ..Decision::about(Action::Rollback, &rolling)
                }));
            }
            // The notify function has written what ECS says of the bad deployment, or another handler was faster.
            let history = self.store.history(&seen.service.id).await?;
            let is_left = |record: &&Record| record.id == intended.id && record.state == State::Intended;
            let left = history.current().filter(is_left).filter(|left| left.generation == history.generation());
            let (Some(left), Some(now)) = (left, history.recovered_by(&intended)) else { return Ok(None) };
            let notes = intended.notes;
            (intended, bad) = (Record { notes, ..left.clone() }, now.clone());
        }
        Err(Error::Busy(format!("the records of {} change too often to be written", seen.service.id)))
    }

    /// Ends an intention that comes to nothing. If a newer deployment took its place, it took that of the bad one too.
    async fn give_up(&self, seen: &Seen, left: &Record, state: State, why: &str) -> Result<Option<Decision>, Error> {
        let history = self.store.history(&seen.service.id).await?;
        let now = self.platform.now();
        let left = history.records.iter().find(|record| record.id == left.id).unwrap_or(left);
        let Some(ended) = left.advanced(state, why, now) else { return Ok(None) };
        let bad = history.recovered_by(left).filter(|_| state == State::Superseded);
        let bad = bad.and_then(|bad| bad.advanced(State::Superseded, why, now));
        // The sweep must not take the digest for one that runs.
        let item = ServiceItem { digest: String::new(), ..history.next_item_unseen() };
        let records: Vec<&Record> = std::iter::once(&ended).chain(&bad).collect();
        let written = self.store.write(&history, &item, &records, Guarding::Not).await?;
        let decision = || Decision { rule: Some("given-up"), ..Decision::about(Action::Record, &ended) };
        Ok((written == Written::Yes).then(decision))
    }

    /// Whether this revision runs the image that `left` brings back.
    async fn runs(&self, revision: &str, left: &Record) -> Result<bool, Error> {
        if left.revision_to.as_deref() == Some(revision) {
            return Ok(true);
        }
        let described = self.ecs.describe_task_definition(revision).await?;
        Ok(described.is_some_and(|described| !left.digest.is_empty() && described.names_digest(&left.digest)))
    }
}

/// The bad record as it is now, if the work is still ours.
fn of_ours<'a>(history: &'a History, work: &Work) -> Option<&'a Record> {
    let is_ours = history.generation() == work.intended.generation;
    history.recovered_by(&work.intended).filter(|_| is_ours)
}
