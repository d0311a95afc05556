//! Reports: the intent before anything is done, the outcome after. Written only when something
//! changed, with the resource version that the decision was made on.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::{BootstrapStatus, FailureOutcome, LastMigration, OdooAiStack, OdooAiStackStatus, Step};

use super::apply::Applied;
use super::decide::Decision;
use super::error::Error;
use super::observe::Observed;
use super::restoring;
use super::run::DEBOUNCE;
use super::{status as stack_status, telling};
use crate::cluster::status::Verdict;
use crate::context::{Context, Name};
use crate::metrics::Object;
use crate::rollout::failure;
use crate::rollout::steps::ordinal;

/// Something is waited for that only Events of others tell.
const EVENTS: Duration = Duration::from_secs(5);
/// A settled stack is looked at again this often, whatever happens: watches and agents tell of what does.
const RESYNC: Duration = Duration::from_mins(5);
/// Up to so much later, each stack by its own measure: after a start they would all come at once.
const SPREAD: u64 = 60;
/// What keeps a stack from going on is looked at again this often.
const AGAIN: Duration = Duration::from_mins(1);
/// Something is waited for; events usually come first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Writes the intent of a rollout into the status before anything is done.
///
/// # Errors
/// The client's error; a conflict means that the decision is out of date.
pub async fn intent(ctx: &Context, mut seen: Box<Observed>, decision: &Decision) -> Result<Box<Observed>, Error> {
    if let Some(intent) = decision.intent() {
        let before = seen.status();
        let mut wanted = intent.clone();
        wanted.conditions.clone_from(&before.conditions);
        if wanted != before {
            let step = |status: &OdooAiStackStatus| status.rollout.as_ref().and_then(|rollout| rollout.step);
            let started = step(&wanted).filter(|now| step(&before) != Some(*now));
            let migration = |status: &OdooAiStackStatus| status.database.as_ref()?.last_migration.clone();
            let migrated = migration(&wanted).filter(|now| migration(&before).as_ref() != Some(now));
            let bootstrap = |status: &OdooAiStackStatus| status.database.as_ref()?.bootstrap.clone();
            let begun = bootstrap(&wanted).filter(|now| bootstrap(&before).as_ref() != Some(now));
            let refusal = |status: &OdooAiStackStatus| status.last_handled.as_ref()?.rollback_refused.clone();
            let refused = refusal(&wanted).filter(|now| refusal(&before).as_ref() != Some(now));
            let failed = wanted.failure.is_some() && wanted.failure != before.failure;
            seen.object = write(ctx, seen.object, wanted).await?;
            if failed {
                ctx.metrics.rolled_out("failed");
            }
            if let Some(why) = refused {
                ctx.events.publish(&seen.object, true, "Rollback", "RollbackRefused", &why).await;
            }
            if let Some(begun) = begun {
                tell_of_begin(ctx, &seen.object, begun).await;
            }
            if let Some(LastMigration { reason, message, .. }) = migrated {
                ctx.events.publish(&seen.object, false, &Step::Migration.to_string(), &reason, &message).await;
            }
            if let Some(step) = started {
                let rollout = seen.status().rollout.unwrap_or_default();
                let way = if rollout.rollback { "back to revision" } else { "revision" };
                let target = rollout.revision.unwrap_or_default();
                let message = format!("{way} {target}: step {} ({step})", ordinal(step));
                ctx.events.publish(&seen.object, false, &step.to_string(), "StepStarted", &message).await;
            }
        }
    }
    Ok(seen)
}

/// Tells what the database begins with, and those that waited for it.
async fn tell_of_begin(ctx: &Context, stack: &OdooAiStack, begun: BootstrapStatus) {
    let BootstrapStatus { restored, message, .. } = begun;
    let reason = if restored { reasons::RESTORED } else { reasons::DATABASE_NOT_EMPTY };
    ctx.events.publish(stack, false, &Step::Bootstrap.to_string(), reason, &message).await;
    for backup in ctx.caches.backups_of(&stack.namespace().unwrap_or_default(), &stack.name_any()) {
        ctx.backup_bell.ring_for(&ObjectRef::from_obj(&*backup));
    }
}

/// Writes what came of it, tells of transitions, and says when to look again.
///
/// # Errors
/// The client's error, or the failure that was reported.
pub async fn outcome(
    ctx: &Context,
    seen: Box<Observed>,
    decision: &Decision,
    done: Result<Applied, Error>,
) -> Result<Action, Error> {
    let name: Name = (seen.object.namespace().unwrap_or_default(), seen.object.name_any());
    let uid = seen.object.uid();
    if let Some(restore) = seen.restore.as_ref().filter(|restore| restoring::interrupts(restore)) {
        // It waits for what becomes of the workloads, and of the status.
        ctx.restore_bell.ring_for(&ObjectRef::from_obj(restore));
    }
    let sample = sample_due(ctx, &name, decision);
    // The decision is out of date: what would be said of it is too.
    let done = match done {
        Err(error) if error.is_conflict() => return Err(error),
        done => done,
    };
    let (wanted, transitions) = stack_status::after(&seen, decision, &done, sample);
    let ready = wanted.conditions.iter().any(|c| c.type_ == types::READY && c.status == "True");
    let object = Object { namespace: name.0.clone(), name: name.1.clone() };
    ctx.metrics.ready.get_or_create(&object).set(i64::from(ready));
    let waiting = seen.children.pending.waiting;
    let completed = seen.status().current_revision != wanted.current_revision;
    if wanted != seen.status() {
        let before = seen.status();
        let outcome = |status: &OdooAiStackStatus| status.failure.as_ref().map(|failure| failure.outcome);
        let back = outcome(&wanted) == Some(FailureOutcome::RolledBack) && outcome(&wanted) != outcome(&before);
        let written = write(ctx, seen.object, wanted).await?;
        if completed || back {
            ctx.metrics.rolled_out(if back { "rolled_back" } else { "succeeded" });
        }
        let now = written.status.clone().unwrap_or_default();
        for transition in telling::told(&transitions, &before, &now) {
            let Verdict { reason, message, .. } = &transition.verdict;
            ctx.events.publish(&written, transition.is_warning(), transition.kind, reason, message).await;
        }
    }
    let applied = done?;
    let moved = completed || applied.written > 0;
    Ok(match again(decision, uid.as_deref().unwrap_or_default()) {
        // No watch tells of it.
        _ if applied.rules_disabled.is_some() => Action::requeue(Duration::ZERO),
        _ if moved => Action::requeue(Duration::from_secs(1)),
        _ if waiting => Action::requeue(EVENTS),
        action => action,
    })
}

fn again(decision: &Decision, uid: &str) -> Action {
    match decision {
        Decision::Suspended => Action::requeue(resync(uid)),
        Decision::Problem(_) | Decision::Hold(_) => Action::requeue(AGAIN),
        Decision::Generate(..) => Action::requeue(Duration::from_secs(1)),
        // Traefik may come, and another stack give a host up, without a word.
        Decision::Roll(roll) if roll.settled() && (roll.base.routes.fault.is_some() || roll.base.routes.unknown) => {
            Action::requeue(AGAIN)
        }
        Decision::Roll(roll) if roll.settled() => Action::requeue(resync(uid)),
        Decision::Roll(roll) if roll.watching() => {
            let period = u64::from(roll.base.stack.rollout.watch_period.unsigned_abs());
            Action::requeue(Duration::from_secs(period).saturating_sub(DEBOUNCE))
        }
        Decision::Roll(roll) => {
            let due = roll.status.rollout.as_ref().and_then(failure::due);
            let left = due.and_then(|due| Duration::try_from(Timestamp::now().duration_until(due)).ok());
            Action::requeue(left.map_or(PATIENCE, |left| PATIENCE.min(left + DEBOUNCE)))
        }
    }
}

fn resync(uid: &str) -> Duration {
    let sum: u64 = uid.bytes().enumerate().map(|(place, byte)| (place as u64 + 1) * u64::from(byte)).sum();
    RESYNC + Duration::from_secs(sum % SPREAD)
}

fn sample_due(ctx: &Context, name: &Name, decision: &Decision) -> bool {
    match decision {
        // A server that is away, or a person that is waited for, is no bad sample.
        Decision::Roll(roll) if roll.watching() && roll.position.step.is_some() => {
            let period = u64::from(roll.base.stack.rollout.watch_period.unsigned_abs());
            ctx.pacer.due(name, Duration::from_secs(period))
        }
        _ => {
            ctx.pacer.reset(name);
            false
        }
    }
}

async fn write(ctx: &Context, mut object: OdooAiStack, wanted: OdooAiStackStatus) -> Result<OdooAiStack, Error> {
    object.status = Some(wanted);
    Ok(ctx.write_status(&mut object).await?)
}
