//! Reports what came of it: status, Events. Written only when something changed, with the resource version that the
//! decision was made on.

use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::restore::{Restore, RestoreStatus};

use super::conditions;
use super::decide::Decision;
use super::observe::Observed;
use super::{ended, is_in_place, remove};
use crate::cluster::status::{self, Tri, Verdict};
use crate::context::Context;
use crate::stack::error::Error;

/// What only a person can change is looked at again this often.
const LATER: Duration = Duration::from_mins(1);
/// It may stand in Git for years, and its spec tells when somebody means it.
const SELDOM: Duration = Duration::from_mins(5);
/// What is waited for is looked at again this often; events usually come first.
const AGAIN: Duration = Duration::from_secs(15);
/// How far a Job is comes from the agents this often.
const PROGRESS: Duration = Duration::from_secs(5);
/// A step was entered: nothing is waited for.
const AT_ONCE: Duration = Duration::from_millis(50);
/// What was written comes through the caches by then.
const SOON: Duration = Duration::from_secs(1);

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
    let ended = wanted.completed_at.is_some();
    let steps = (before.step, before.round) != (wanted.step, wanted.round);
    let moves =
        decision.start.is_some() || decision.ask.is_some() || before.pre_restore_backup != wanted.pre_restore_backup;
    let expires = ended::drop_due(&seen.object.spec, &wanted);
    let now = seen.now;
    let name = (seen.object.namespace().unwrap_or_default(), seen.object.name_any());
    ctx.metrics.restore(&name, Some(decision.complete.status == Tri::True));
    let mut object = seen.object;
    if wanted != before {
        object.status = Some(wanted);
        object = ctx.write_status(&mut object).await?;
        tell(ctx, &object, &before).await;
    }
    let written = done?;
    if ended {
        // What came of it is known: nothing is to be cleaned up any more.
        remove::release(ctx, &object).await?;
        return Ok(match expires {
            None => Action::await_change(),
            Some(_) if moves => Action::requeue(AGAIN),
            Some(due) => Action::requeue(Duration::try_from(due - now).unwrap_or(AGAIN).max(AGAIN)),
        });
    }
    if steps {
        return Ok(Action::requeue(AT_ONCE));
    }
    Ok(Action::requeue(match (written > 0 || moves, decision.stalled) {
        (true, _) => SOON,
        (false, true) => LATER,
        (false, false) if before.started_at.is_some() => PROGRESS,
        (false, false) if conditions::asks(&decision.complete) => SELDOM,
        (false, false) => AGAIN,
    }))
}

/// The status with its conditions.
#[must_use]
pub fn status(seen: &Observed, decision: &Decision, failed: Option<&Error>) -> RestoreStatus {
    let mut status = decision.status.clone();
    let over = status.completed_at.is_some() && seen.status().completed_at.is_some() && !is_in_place(&seen.object);
    if !over {
        let failed = failed.map(|error| Verdict::new(Tri::Unknown, error.reason(), error.to_string()));
        for (kind, verdict) in conditions::all(decision, failed) {
            status::set(&mut status.conditions, kind, &verdict, seen.generation(), seen.now);
        }
    }
    // As the API server keeps times.
    serde_json::to_value(&status).and_then(serde_json::from_value).unwrap_or(status)
}

/// An Event when `Complete` says something else.
async fn tell(ctx: &Context, object: &Restore, before: &RestoreStatus) {
    let complete = |status: &RestoreStatus| status.conditions.iter().find(|it| it.type_ == types::COMPLETE).cloned();
    let Some(now) = object.status.as_ref().and_then(complete) else { return };
    let known = complete(before).is_some_and(|it| (&it.status, &it.reason) == (&now.status, &now.reason));
    if !known {
        let warning = object.status.as_ref().is_some_and(|it| is_bad(it, &now.reason));
        ctx.events.publish(object, warning, "Restore", &now.reason, &now.message).await;
    }
}

fn is_bad(status: &RestoreStatus, reason: &str) -> bool {
    let stalled = status.conditions.iter().any(|it| it.type_ == types::STALLED && it.status == "True");
    stalled || reason == reasons::RESTORE_FAILED
}
