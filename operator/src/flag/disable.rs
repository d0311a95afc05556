//! A rule that must be off at once, also while the application's API can't be asked: on request by annotation a Job
//! disables it in the database. Plain, but for the reading.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use odoo_ai_crds::conditions::{annotations, types};
use odoo_ai_crds::flag::{DisableRequest, DisableState, FeatureFlag, FeatureFlagStatus};
use odoo_ai_crds::stack::OdooAiStack;
use serde_json::json;

use super::build::COMPONENT;
use super::decide::{Decision, Write, is_enabled};
use super::observe::{Observed, Seen, Unseen};
use crate::cluster::children::Children;
use crate::cluster::intent::hash;
use crate::cluster::status::Tri;
use crate::context::Context;
use crate::rollout::jobs::{self, Progress, Work};
use crate::rollout::requests;
use crate::stack::model::Stack;
use crate::stack::validate;

/// A request that was not answered yet.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The annotation's value.
    pub id: String,
    /// The stack as its spec says, or why it says nothing.
    pub stack: Result<Box<Stack>, String>,
    /// The stack's children, the Jobs of this request among them.
    pub children: Children,
}

/// The request that is to be answered.
#[must_use]
pub fn pending(object: &FeatureFlag) -> Option<String> {
    let id = requests::token(object, annotations::DISABLE_REQUESTED_AT)?;
    let last = object.status.as_ref().and_then(|status| status.disable_request.as_ref());
    (!last.is_some_and(|it| it.id == id && is_final(it.state))).then_some(id)
}

/// The same, and what that takes.
#[must_use]
pub fn asked(ctx: &Context, object: &FeatureFlag, stack: Option<&OdooAiStack>) -> Option<Asked> {
    let id = pending(object)?;
    let name = &object.spec.stack_ref.name;
    let stack = stack.ok_or_else(|| format!("there is no OdooAiStack {name}")).and_then(|stack| {
        validate::stack(stack, &ctx.operator)
            .map(Box::new)
            .map_err(|problem| format!("the OdooAiStack {name} is refused ({}): {}", problem.reason, problem.message))
    });
    let children = ctx.caches.children(&object.namespace().unwrap_or_default(), name);
    Some(Asked { id, stack, children })
}

fn is_final(state: DisableState) -> bool {
    matches!(state, DisableState::Succeeded | DisableState::Refused)
}

/// Name prefix of the Jobs of a request; the number of the attempt follows.
#[must_use]
pub fn prefix(stack: &Stack, object: &FeatureFlag, id: &str) -> String {
    stack.child(&format!("{COMPONENT}-{}-", &hash(&json!([object.uid(), id]))[..8]))
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
    let prefix = prefix(stack, &flag.object, &asked.id);
    let work =
        Work { prefix: &prefix, component: COMPONENT, does: "disables the rule in the database", limit: "5 minutes" };
    let (state, message) = match jobs::progress(work, &asked.children, |_| true, |_| true, |_| true, flag.now) {
        Progress::Start { attempt, failure } => {
            decision.disable = Some(format!("{prefix}{attempt}"));
            (DisableState::Running, failure.unwrap_or_else(|| "a Job disables the rule in the database".to_owned()))
        }
        Progress::Running { message, .. } => (DisableState::Running, message),
        Progress::Pause { failure } => (DisableState::Waiting, format!("{failure}; it is tried again")),
        Progress::Refused { message, .. } => (DisableState::Refused, message),
        Progress::Succeeded(report) => (DisableState::Succeeded, report.message),
    };
    decision.status.disable_request = Some(answered(asked, flag, state, message));
}

fn answered(asked: &Asked, flag: &Observed, state: DisableState, message: String) -> DisableRequest {
    let completed_at = is_final(state).then_some(Time(flag.now));
    DisableRequest { id: asked.id.clone(), state, message, completed_at }
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
