//! A rule that must be off at once, also while the application's API can't be asked: on request by annotation a Job
//! disables it in the database. Plain, but for the reading.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use odoo_ai_crds::conditions::{annotations, reasons, types};
use odoo_ai_crds::flag::{DisableRequest, DisableState, FeatureFlag, FeatureFlagStatus};
use odoo_ai_crds::stack::OdooAiStack;
use serde_json::{Value, json};

use super::build::COMPONENT;
use super::decide::{Decision, Write, is_enabled};
use super::observe::{Observed, Seen, Unseen};
use crate::cluster::delete::Doomed;
use crate::cluster::intent::hash;
use crate::cluster::status::{Tri, Verdict};
use crate::context::Context;
use crate::rollout::jobs::{self, Progress, Work};
use crate::rollout::requests;
use crate::stack::error::Error;
use crate::stack::model::{Operator, Stack};
use crate::stack::validate;

/// A request that was not answered yet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The annotation's value.
    pub id: String,
    /// The stack as its spec says, or why it says nothing.
    pub stack: Result<Box<Stack>, String>,
}

/// The request that is to be answered.
#[must_use]
pub fn pending(object: &FeatureFlag) -> Option<String> {
    let id = requests::token(object, annotations::DISABLE_REQUESTED_AT)?;
    let last = object.status.as_ref().and_then(|status| status.disable_request.as_ref());
    (!last.is_some_and(|it| it.id == id && is_final(it.state))).then_some(id)
}

/// The status with a request that it doesn't know yet; `None` where there is none. The Jobs' names come of it, so it is
/// written before there is one.
#[must_use]
pub fn noted(object: &FeatureFlag, now: Timestamp) -> Option<FeatureFlagStatus> {
    let id = pending(object)?;
    let status = object.status.clone().unwrap_or_default();
    let is_known = status.disable_request.as_ref().is_some_and(|it| it.id == id);
    let requested_at = Timestamp::from_second(now.as_second()).ok().map(Time);
    let request = DisableRequest { id, requested_at, ..DisableRequest::default() };
    (!is_known).then_some(FeatureFlagStatus { disable_request: Some(request), ..status })
}

/// Notes a request that the status doesn't know yet.
///
/// # Errors
/// The client's error.
pub async fn note(ctx: &Context, mut flag: Observed) -> Result<Observed, Error> {
    if let Some(status) = noted(&flag.object, flag.now) {
        flag.object.status = Some(status);
        flag.object = ctx.write_status(&mut flag.object).await?;
    }
    Ok(flag)
}

/// The same, and what that takes.
#[must_use]
pub fn asked(operator: &Operator, object: &FeatureFlag, stack: Option<&OdooAiStack>) -> Option<Asked> {
    let id = pending(object)?;
    let name = &object.spec.stack_ref.name;
    let stack = stack.ok_or_else(|| format!("there is no OdooAiStack {name}")).and_then(|stack| {
        validate::stack(stack, operator)
            .map(Box::new)
            .map_err(|problem| format!("the OdooAiStack {name} is refused ({}): {}", problem.reason, problem.message))
    });
    Some(Asked { id, stack })
}

fn is_final(state: DisableState) -> bool {
    matches!(state, DisableState::Succeeded | DisableState::Refused)
}

/// Name prefix of the Jobs of the request that the status knows; the number of the attempt follows. Those of an earlier
/// request with the same id have another one.
fn prefix(stack: &Stack, object: &FeatureFlag) -> String {
    let request = object.status.as_ref().and_then(|status| status.disable_request.as_ref());
    let request = request.map(|it| (&it.id, &it.requested_at));
    stack.child(&format!("{COMPONENT}-{}-", &hash(&json!([object.uid(), request]))[..8]))
}

/// The flag's Jobs that run, or will; those that are being deleted included.
pub fn unfinished(flag: &Observed) -> impl Iterator<Item = (&String, &Job)> {
    let uid = flag.object.uid();
    let uid = uid.unwrap_or_default();
    jobs::unfinished(&flag.children, COMPONENT).filter(move |(_, job)| jobs::is_of(job, &uid))
}

/// The flag's Jobs that nobody waits for any more: they would disable what may be declared Enabled by then.
#[must_use]
pub fn obsolete(flag: &Observed, decision: &Decision) -> Vec<Doomed> {
    let wanted = |name: &str| decision.jobs.as_ref().is_some_and(|prefix| name.starts_with(prefix.as_str()));
    let unwanted = unfinished(flag).filter(|(name, _)| !wanted(name));
    unwanted.filter_map(|(_, job)| Doomed::job(job)).collect()
}

/// What enables the rule waits until no Job can disable it any more.
pub fn hold_back(flag: &Observed, decision: &mut Decision) {
    let Some(Write::Create(body) | Write::Replace(_, body)) = &decision.write else { return };
    if body.get("enabled") != Some(&Value::Bool(true)) {
        return;
    }
    if let Some((name, _)) = unfinished(flag).next() {
        let message = format!("Job {name}, which would disable the rule, is ended first");
        decision.synced = Verdict::new(Tri::Unknown, reasons::PROGRESSING, message);
        decision.write = None;
        decision.drifted = false;
        // What isn't written isn't asked for.
        decision.status.creation_requested_at = flag.status().creation_requested_at;
    }
}

/// Answers a request: through the API where that can be asked.
pub fn answer(flag: &Observed, rules: &Result<Seen, Unseen>, decision: &mut Decision) {
    let Some(asked) = &flag.asked else { return };
    let synced = &decision.synced;
    let comes = matches!(decision.write, Some(Write::Create(_))) || decision.status.creation_requested_at.is_some();
    let replaced = matches!(decision.write, Some(Write::Replace(..)));
    let waits = if is_enabled(flag, &decision.status) {
        Some("spec.state is Enabled: set it to Disabled, or the rule would be enabled again".to_owned())
    } else if flag.object.spec.suspend {
        Some("spec.suspend is true: the rule is left alone".to_owned())
    } else if comes {
        Some("the rule is added, and comes disabled".to_owned())
    } else if replaced {
        decision.or_in_the_database = true;
        Some("the application is asked first".to_owned())
    } else {
        (decision.stalled == Some(true)).then(|| synced.message.clone())
    };
    let request = if let Some(why) = waits {
        answered(asked, flag, DisableState::Waiting, why)
    } else if rules.is_ok() && synced.status == Tri::True {
        answered(asked, flag, DisableState::Succeeded, synced.message.clone())
    } else {
        return in_the_database(flag, decision);
    };
    decision.status.disable_request = Some(request);
}

/// Answers a request where the application can't be asked.
pub fn in_the_database(flag: &Observed, decision: &mut Decision) {
    let Some(asked) = &flag.asked else { return };
    let stack = match &asked.stack {
        Ok(stack) => stack,
        Err(why) => {
            decision.status.disable_request = Some(answered(asked, flag, DisableState::Waiting, why.clone()));
            return;
        }
    };
    let prefix = prefix(stack, &flag.object);
    let work =
        Work { prefix: &prefix, component: COMPONENT, does: "disables the rule in the database", limit: "5 minutes" };
    let (state, message) = match jobs::progress(work, &flag.children, |_| true, |_| true, |_| true, flag.now) {
        Progress::Start { attempt, failure } => {
            decision.disable = Some(format!("{prefix}{attempt}"));
            (DisableState::Running, failure.unwrap_or_else(|| "a Job disables the rule in the database".to_owned()))
        }
        Progress::Running { message, .. } => (DisableState::Running, message),
        Progress::Pause { failure } => (DisableState::Waiting, format!("{failure}; it is tried again")),
        Progress::Refused { message, .. } => (DisableState::Refused, message),
        Progress::Succeeded(report) => (DisableState::Succeeded, report.message),
    };
    decision.jobs = Some(prefix);
    decision.status.disable_request = Some(answered(asked, flag, state, message));
}

fn answered(asked: &Asked, flag: &Observed, state: DisableState, message: String) -> DisableRequest {
    let completed_at = is_final(state).then_some(Time(flag.now));
    let requested_at = flag.status().disable_request.and_then(|it| it.requested_at);
    DisableRequest { id: asked.id.clone(), state, message, requested_at, completed_at }
}

/// What `Ready` adds while the application can't be asked: the rule is off all the same.
#[must_use]
pub fn meanwhile(flag: &Observed, status: &FeatureFlagStatus) -> Option<String> {
    let request = status.disable_request.as_ref().filter(|it| it.state == DisableState::Succeeded)?;
    let before = flag.status();
    let synced = before.conditions.iter().find(|it| it.type_ == types::SYNCED)?;
    let unknown_since = (synced.status == "Unknown").then_some(synced.last_transition_time.0)?;
    let at = request.completed_at.as_ref()?.0;
    (at >= unknown_since && !is_enabled(flag, status)).then(|| request.message.clone())
}
