//! Reports what came of it: status, Events, metrics. Written only when something changed, with the resource version that
//! the decision was made on.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::backup::{Backup, BackupStatus, RunResult, RunTask};
use odoo_ai_crds::conditions::{annotations, reasons, types};

use super::conditions;
use super::decide::Decision;
use super::observe::Observed;
use crate::cluster::status::{self, Tri, Verdict};
use crate::context::Context;
use crate::stack::error::Error;

/// A Backup at rest is looked at again this often, whatever happens.
const RESYNC: SignedDuration = SignedDuration::from_mins(5);
/// What keeps it from going on is looked at again this often.
const AGAIN: Duration = Duration::from_mins(1);
/// Something is waited for; events usually come first.
const PATIENCE: Duration = Duration::from_secs(15);
/// What was written comes through the caches by then.
const SOON: Duration = Duration::from_secs(1);
/// Told as Events when `Ready` says them; those of runs are told by the runs.
const TOLD: [&str; 3] = [reasons::BACKED_UP, reasons::SUSPENDED, reasons::BACKUP_TOO_OLD];

/// Writes the status, tells of what is new, and says when to look again.
///
/// # Errors
/// The client's error, or the failure that was reported.
pub async fn outcome(
    ctx: &Context,
    seen: Box<Observed>,
    decision: Decision,
    done: Result<usize, Error>,
) -> Result<Action, Error> {
    if done.as_ref().is_err_and(Error::is_conflict) {
        return done.map(|_| Action::await_change());
    }
    let before = seen.status();
    let wanted = status(&seen, &decision, done.as_ref().err());
    metrics(ctx, &seen.object, &wanted);
    let again = again(&decision, &wanted, seen.now);
    if wanted != before {
        let mut object = seen.object;
        object.status = Some(wanted);
        let written = ctx.write_status(&mut object).await?;
        tell(ctx, &written, &before).await;
    }
    let asked = !decision.start.is_empty();
    Ok(if done? > 0 || asked { Action::requeue(SOON) } else { again })
}

/// The status with its conditions.
fn status(seen: &Observed, decision: &Decision, failed: Option<&Error>) -> BackupStatus {
    let mut status = decision.status.clone();
    if failed.is_none() && !decision.handled.is_empty() {
        let handled = status.last_handled.get_or_insert_default();
        let answered = |name| decision.handled.get(name).cloned();
        handled.backup_requested_at = answered(annotations::BACKUP_REQUESTED_AT).or(handled.backup_requested_at.take());
        handled.verify_requested_at = answered(annotations::VERIFY_REQUESTED_AT).or(handled.verify_requested_at.take());
    }
    let failed = failed.map(|error| Verdict::new(false, error.reason(), error.to_string()));
    for (kind, verdict) in conditions::all(seen, decision, failed) {
        match verdict {
            Some(verdict) => {
                status::set(&mut status.conditions, kind, &verdict, seen.generation(), seen.now);
            }
            None => status::unset(&mut status.conditions, kind),
        }
    }
    // As the API server keeps times.
    serde_json::to_value(&status).and_then(serde_json::from_value).unwrap_or(status)
}

/// One Event for each run that ended, for times that were missed, and for what `Ready` says of its own.
async fn tell(ctx: &Context, object: &Backup, before: &BackupStatus) {
    let now = object.status.clone().unwrap_or_default();
    for run in now.runs.iter().rev().filter(|run| run.result != RunResult::Running) {
        let known = before.runs.iter().find(|known| known.job == run.job).map(|known| known.result);
        if known == Some(run.result) {
            continue;
        }
        let well = run.result == RunResult::Succeeded;
        let reason = match (run.task, well) {
            (RunTask::Backup, true) => reasons::BACKUP_SUCCEEDED,
            (RunTask::Backup, false) => reasons::BACKUP_FAILED,
            (RunTask::Verification, true) => reasons::VERIFIED,
            (RunTask::Verification, false) => reasons::VERIFICATION_FAILED,
        };
        let message = format!("Job {}: {}", run.job, run.message.as_deref().unwrap_or("it left no message"));
        ctx.events.publish(object, !well, &run.task.to_string(), reason, &message).await;
    }
    if now.missed_runs > before.missed_runs {
        let message = format!("{} scheduled backups were missed since the last good one", now.missed_runs);
        ctx.events.publish(object, true, "Schedule", "MissedRuns", &message).await;
    }
    let ready = |status: &BackupStatus| {
        let found = status.conditions.iter().find(|it| it.type_ == types::READY)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    };
    let Some((status, reason, message)) = ready(&now) else { return };
    let same = ready(before).is_some_and(|it| (it.0, &it.1) == (status.clone(), &reason));
    let of_a_run = now.runs.iter().any(|run| run.failure.as_deref() == Some(&reason))
        || [reasons::BACKUP_FAILED, reasons::VERIFICATION_FAILED].contains(&reason.as_str());
    let failing = status == Tri::False.word() && !of_a_run;
    if !same && (failing || TOLD.contains(&reason.as_str())) {
        ctx.events.publish(object, failing, types::READY, &reason, &message).await;
    }
}

fn metrics(ctx: &Context, object: &Backup, status: &BackupStatus) {
    let name = (object.namespace().unwrap_or_default(), object.name_any());
    ctx.metrics.backup(&name, status);
}

fn again(decision: &Decision, status: &BackupStatus, now: Timestamp) -> Action {
    let Ok(policy) = &decision.policy else { return Action::requeue(AGAIN) };
    let running = status.runs.iter().any(|run| run.result == RunResult::Running);
    let reading = status.catalogue.as_ref().is_some_and(|it| it.stale_since.is_some());
    if running || reading || decision.trouble.is_some() {
        return Action::requeue(PATIENCE);
    }
    let at = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let fresh = status.last_success.as_ref().and_then(|it| at(&it.completed_at));
    let next = [at(&status.next_schedule_time), fresh.and_then(|it| conditions::fresh_until(policy, it))];
    let next = next.into_iter().flatten().filter(|next| *next > now).min();
    let wait = next.map_or(RESYNC, |next| RESYNC.min(now.duration_until(next) + SignedDuration::from_secs(1)));
    Action::requeue(Duration::try_from(wait).unwrap_or(AGAIN))
}
