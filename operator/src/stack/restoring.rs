//! What a Restore in place asks of its stack: that the application stops while the databases change names, and that
//! nothing is believed of the database afterwards that was known of the one before. Plain.

use k8s_openapi::api::core::v1::Pod;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::{Restore, RestoreFailure, RestoreStep};
use odoo_ai_crds::stack::OdooAiStackStatus;
use serde_json::json;

use super::model::Stack;
use super::observe::Observed;
use crate::cluster::children::Children;
use crate::cluster::intent::hash;
use crate::component::{Component, ComponentExt};
use crate::context::Context;
use crate::restore::{is_active, is_in_place};
use crate::rollout::{pods, workload};

/// Who has the database open, in the order in which they stop.
pub const WRITERS: [Component; 3] = [Component::Beat, Component::Worker, Component::AiService];

/// The Restore that is under way in place, the one first that stops the application.
#[must_use]
pub fn of(ctx: &Context, namespace: &str, stack: &str) -> Option<Restore> {
    let ours = |restore: &Restore| {
        let here = restore.metadata.namespace.as_deref() == Some(namespace) && restore.spec.stack_ref.name == stack;
        here && is_in_place(restore) && is_active(restore)
    };
    let mut all = ctx.restores.state_filter(ours);
    all.sort_by_key(|restore| (!stops(restore), !may_be_another(restore), restore.metadata.uid.clone()));
    all.first().map(|restore| Restore::clone(restore))
}

/// The application is to be stopped. One that is deleted before the databases changed names lets it run again.
#[must_use]
pub fn stops(restore: &Restore) -> bool {
    match restore.status.as_ref().and_then(|status| status.step) {
        Some(RestoreStep::Drain) => restore.metadata.deletion_timestamp.is_none(),
        Some(RestoreStep::Swap | RestoreStep::CopyTables) => true,
        _ => false,
    }
}

/// It stops the application, or waits for it to run again.
#[must_use]
pub fn interrupts(restore: &Restore) -> bool {
    restore.status.as_ref().is_some_and(|status| status.step >= Some(RestoreStep::Drain))
}

/// The components that must not run: beat and worker first, which may take long to finish, and ai-service once they are
/// gone.
#[must_use]
pub fn stopped(seen: &Observed, stack: &Stack) -> Vec<Component> {
    if !seen.restore.as_ref().is_some_and(stops) {
        return Vec::new();
    }
    let finished = [Component::Beat, Component::Worker].into_iter().all(|it| is_gone(&seen.children, stack, it));
    WRITERS.into_iter().filter(|component| finished || *component != Component::AiService).collect()
}

/// The component's workload wants no pod, and its controller knows.
#[must_use]
pub fn is_told_to_stop(children: &Children, stack: &Stack, component: Component) -> bool {
    let key = stack.key(component.kind(), component.name());
    let workload = workload::observed(children, component, &stack.child(component.name()));
    let told = workload.is_none_or(|it| it.counts.wanted == 0 && it.counts.observed);
    told && !children.behind.contains(&key)
}

/// No pod of the component runs, and none will. One that was evicted stays, and runs no more.
#[must_use]
pub fn is_gone(children: &Children, stack: &Stack, component: Component) -> bool {
    is_told_to_stop(children, stack, component) && pods_left(children, component).next().is_none()
}

/// Its pods that may still write.
pub fn pods_left(children: &Children, component: Component) -> impl Iterator<Item = &Pod> {
    children.pods_of(component.name()).filter(|pod| !pods::has_ended(pod))
}

/// What the stack's status says of a Restore whose databases were made to change places.
#[must_use]
pub fn noted_as(restore: &Restore) -> Option<String> {
    let round = restore.status.as_ref()?.round?;
    Some(format!("{}-{round}", &hash(&json!(restore.metadata.uid))[..8]))
}

/// The live database may be another one since. Not where chosen tables came back into the same one, nor where the agent
/// has said that it changed nothing.
#[must_use]
pub fn may_be_another(restore: &Restore) -> bool {
    let Some(status) = restore.status.as_ref().filter(|_| restore.spec.tables.is_empty()) else { return false };
    status.step == Some(RestoreStep::Start) && status.failure.as_ref().is_none_or(is_unclear)
}

/// Nobody has said whether the databases changed places.
#[must_use]
pub fn is_unclear(failure: &RestoreFailure) -> bool {
    failure.reason == reasons::RESTORE_FAILED
}

/// Notes that it may be another database now.
pub fn note(status: &mut OdooAiStackStatus, restore: Option<&Restore>) {
    if let Some(noted) = restore.filter(|it| may_be_another(it)).and_then(noted_as) {
        status.database.get_or_insert_default().restore = Some(noted);
    }
}

/// Why the stack does nothing else.
#[must_use]
pub fn told(restore: &Restore) -> String {
    let name = restore.metadata.name.as_deref().unwrap_or_default();
    let step = restore.status.as_ref().and_then(|status| status.step);
    let step = step.map(|step| format!(" (step {step})")).unwrap_or_default();
    format!("Restore {name} replaces the database{step}: the application is stopped, and no rollout goes on")
}
