//! Reports what came of it: status, Events. Written only when something changed, with the resource version that the
//! decision was made on.

use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::flag::{DisableState, FeatureFlag, FeatureFlagStatus};

use super::apply::{self, Done};
use super::decide::{Decision, UNANSWERED, Write};
use super::observe::Observed;
use super::{conditions, disable};
use crate::cluster::status::{self, Tri, Verdict};
use crate::context::Context;
use crate::stack::error::Error;

/// Seconds between two looks at a rule.
const RESYNC: i32 = 300;
/// What is waited for is looked at again this often; an application that fails is left alone for longer.
const AGAIN: Duration = Duration::from_secs(15);
/// What was written is read back; a Job that disables a rule is looked at.
const SOON: Duration = Duration::from_secs(1);

/// Writes the status, tells of what is new, and says when to look again.
///
/// # Errors
/// The client's error; that of the application, after it was told.
pub async fn outcome(ctx: &Context, done: Done, decision: Decision) -> Result<Action, Error> {
    let Done { flag, failed } = done;
    let before = flag.status();
    let wanted = status(&flag, &decision, failed.as_ref().map(|error| apply::verdict(error, decision.write.as_ref())));
    let (synced, wrote) = (decision.synced.status, decision.write.is_some() && failed.is_none());
    let reason = decision.synced.reason.as_str();
    let passing = [reasons::STACK_NOT_FOUND, reasons::REJECTED].contains(&reason) || UNANSWERED.contains(&reason);
    let waits = passing || (synced == Tri::Unknown && decision.synced.reason != reasons::SUSPENDED);
    let is_synced = synced == Tri::True && failed.is_none();
    ctx.metrics.flag(&(flag.object.namespace().unwrap_or_default(), flag.object.name_any()), Some(is_synced));
    let works = wanted.disable_request.as_ref().is_some_and(|it| it.state == DisableState::Running)
        || disable::unfinished(&flag).next().is_some();
    let after = match (wrote || works, waits) {
        (true, _) => SOON,
        (false, true) => AGAIN,
        (false, false) => resync(&flag.object),
    };
    if wanted != before {
        let mut object = flag.object;
        object.status = Some(wanted);
        let written = ctx.write_status(&mut object).await?;
        tell(ctx, &written, &before, &decision, failed.is_none()).await;
    }
    failed.map_or(Ok(Action::requeue(after)), |error| Err(error.into()))
}

/// How old the rules may be that this flag looks at.
#[must_use]
pub fn resync(object: &FeatureFlag) -> Duration {
    let seconds = object.spec.resync_seconds.unwrap_or(RESYNC);
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

/// The status with its conditions.
#[must_use]
pub fn status(flag: &Observed, decision: &Decision, failed: Option<Verdict>) -> FeatureFlagStatus {
    let mut status = decision.status.clone();
    for (kind, verdict) in conditions::all(flag, decision, failed) {
        if let Some(verdict) = verdict {
            status::set(&mut status.conditions, kind, &verdict, flag.generation(), flag.now);
        }
    }
    if flag.object.spec.error_rate.is_none() {
        status::unset(&mut status.conditions, types::WITHIN_ERROR_RATE);
    }
    // As the API server keeps times.
    serde_json::to_value(&status).and_then(serde_json::from_value).unwrap_or(status)
}

/// An Event for what was written, and for what `Ready` says of a problem.
async fn tell(ctx: &Context, object: &FeatureFlag, before: &FeatureFlagStatus, decision: &Decision, well: bool) {
    if let (Some(write), true) = (&decision.write, well) {
        let (reason, what) = match write {
            Write::Create(_) => ("RuleCreated", decision.synced.message.clone()),
            Write::Replace(..) if decision.drifted => ("DriftReverted", decision.synced.message.clone()),
            Write::Replace(..) => ("RuleWritten", decision.synced.message.clone()),
        };
        ctx.events.publish(object, false, "Sync", reason, &what).await;
    }
    let answered = |status: &FeatureFlagStatus| status.disable_request.clone().filter(|it| it.completed_at.is_some());
    if let Some(request) = object.status.as_ref().and_then(answered)
        && answered(before).as_ref() != Some(&request)
    {
        let (warning, reason) =
            if request.state == DisableState::Succeeded { (false, "RuleDisabled") } else { (true, "DisableRefused") };
        ctx.events.publish(object, warning, "Disable", reason, &request.message).await;
    }
    let ready = |status: &FeatureFlagStatus| status.conditions.iter().find(|it| it.type_ == types::READY).cloned();
    let Some(now) = object.status.as_ref().and_then(ready) else { return };
    let same = ready(before).is_some_and(|it| (it.status, it.reason) == (now.status.clone(), now.reason.clone()));
    let first = [reasons::PROGRESSING, reasons::APPLICATION_UNAVAILABLE].contains(&now.reason.as_str());
    if !same && !first {
        let warning = now.status != "True" && now.reason != reasons::SUSPENDED;
        ctx.events.publish(object, warning, types::READY, &now.reason, &now.message).await;
    }
}
