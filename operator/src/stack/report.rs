//! Reports: the intent before anything is done, the outcome after. Written only when something
//! changed, with the resource version that the decision was made on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::stack::{
    AppSecrets as Origin, ComponentStatus, EffectiveSettings, OdooAiStack, OdooAiStackStatus, RevisionResult, Step,
    Urls,
};

use super::apply::Applied;
use super::build::{API_PORT, DASHBOARD_PORT};
use super::conditions;
use super::decide::{Decision, Roll};
use super::error::Error;
use super::model::{AppSecrets, Stack};
use super::observe::Observed;
use crate::cluster::cache::Children;
use crate::cluster::status::{self, Tri, Verdict};
use crate::component::{ALL, Component, ComponentExt};
use crate::context::{Context, Name};
use crate::metrics::Object;
use crate::rollout::gates::{Counts, counts_of_deployment, counts_of_set};
use crate::rollout::revision;
use crate::rollout::steps::ordinal;

/// A settled stack is looked at again this often: what the agents say makes no event.
const RESYNC: Duration = Duration::from_mins(1);
/// Something is waited for; events usually come first.
const PATIENCE: Duration = Duration::from_secs(15);

/// Writes the intent of a rollout into the status before anything is done.
///
/// # Errors
/// The client's error; a conflict means that the decision is out of date.
pub async fn intent(ctx: &Context, mut seen: Box<Observed>, decision: &Decision) -> Result<Box<Observed>, Error> {
    if let Decision::Roll(roll) = decision {
        let before = seen.status();
        let mut wanted = roll.status.clone();
        wanted.conditions.clone_from(&before.conditions);
        if wanted != before {
            let step = |status: &OdooAiStackStatus| status.rollout.as_ref().and_then(|rollout| rollout.step);
            let started = step(&wanted).filter(|now| step(&before) != Some(*now));
            seen.object = write(ctx, seen.object, wanted).await?;
            if let Some(step) = started {
                let message = format!("revision {}: step {} ({step})", roll.target, ordinal(step));
                ctx.events.publish(&seen.object, false, &step.to_string(), "StepStarted", &message).await;
            }
        }
    }
    Ok(seen)
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
    let sample = sample_due(ctx, &name, decision);
    let failure = done.as_ref().err();
    let applied = done.as_ref().ok().copied().unwrap_or_default();
    let mut wanted = next_status(&seen, decision, applied, sample);
    let mut transitions = Vec::new();
    for (kind, verdict) in conditions::of(&seen, decision, failure) {
        match verdict {
            Some(verdict) => {
                if status::set(&mut wanted.conditions, kind, &verdict, seen.generation(), seen.now) {
                    transitions.push((kind, verdict));
                }
            }
            None => status::unset(&mut wanted.conditions, kind),
        }
    }
    let ready = wanted.conditions.iter().any(|c| c.type_ == types::READY && c.status == "True");
    let object = Object { namespace: name.0.clone(), name: name.1.clone() };
    ctx.metrics.ready.get_or_create(&object).set(i64::from(ready));
    let completed = seen.status().current_revision != wanted.current_revision;
    if wanted != seen.status() {
        let written = write(ctx, seen.object, wanted).await?;
        tell(ctx, &written, &transitions).await;
    }
    done?;
    Ok(if completed || applied.written > 0 { Action::requeue(Duration::from_secs(1)) } else { again(decision) })
}

/// One Event for each transition that a person may care for; steps have told of themselves.
async fn tell(ctx: &Context, object: &OdooAiStack, transitions: &[(&str, Verdict)]) {
    const TOLD: [&str; 2] = [types::READY, types::ODOO_REACHABLE];
    const ROUTINE: [&str; 6] = [
        reasons::INSTALLING,
        reasons::PROGRESSING,
        reasons::POD_NOT_READY,
        reasons::MIGRATING,
        reasons::WATCHING,
        reasons::UNKNOWN,
    ];
    for (kind, verdict) in transitions {
        if TOLD.contains(kind) && !ROUTINE.contains(&verdict.reason.as_str()) {
            let warning = verdict.status == Tri::False;
            ctx.events.publish(object, warning, kind, &verdict.reason, &verdict.message).await;
        }
    }
}

fn again(decision: &Decision) -> Action {
    match decision {
        Decision::Suspended => Action::requeue(RESYNC * 5),
        Decision::Problem(_) => Action::requeue(RESYNC),
        Decision::Generate(..) => Action::requeue(Duration::from_secs(1)),
        Decision::Roll(roll) if roll.settled() => Action::requeue(RESYNC),
        Decision::Roll(roll) if roll.position.step == Some(Step::Watch) => {
            Action::requeue(Duration::from_secs(u64::from(roll.stack.rollout.watch_period.unsigned_abs())))
        }
        Decision::Roll(_) => Action::requeue(PATIENCE),
    }
}

fn sample_due(ctx: &Context, name: &Name, decision: &Decision) -> bool {
    match decision {
        Decision::Roll(roll) if roll.position.step == Some(Step::Watch) => {
            let period = u64::from(roll.stack.rollout.watch_period.unsigned_abs());
            ctx.pacer.due(name, Duration::from_secs(period))
        }
        _ => {
            ctx.pacer.reset(name);
            false
        }
    }
}

async fn write(ctx: &Context, mut object: OdooAiStack, wanted: OdooAiStackStatus) -> Result<OdooAiStack, Error> {
    let namespace = object.namespace().unwrap_or_default();
    object.status = Some(wanted);
    object.metadata.managed_fields = None;
    ctx.metrics.status_writes.inc();
    Ok(status::write(&Api::namespaced(ctx.client.clone(), &namespace), &object).await?)
}

/// The status apart from its conditions. Plain: what was seen and decided goes in.
fn next_status(seen: &Observed, decision: &Decision, applied: Applied, sample: bool) -> OdooAiStackStatus {
    let mut wanted = seen.status();
    wanted.observed_generation = Some(seen.generation());
    match decision {
        Decision::Suspended | Decision::Problem(_) => {}
        Decision::Generate(stack, _) => {
            wanted.effective = Some(effective(stack, seen));
        }
        Decision::Roll(roll) => {
            wanted.effective = Some(effective(&roll.stack, seen));
            wanted.components = components(&roll.stack, &seen.children);
            wanted.urls = Some(urls(&roll.stack));
            if applied.rules_disabled.is_some() {
                wanted.rules.get_or_insert_default().seeded_disabled = true;
            }
            if let Some(rollout) = wanted.rollout.as_mut().filter(|_| sample) {
                rollout.samples += 1;
            }
            if roll.settled() {
                complete(&mut wanted, roll, seen);
            }
        }
    }
    wanted
}

/// The target passed its watch: it is what a rollback goes back to.
fn complete(wanted: &mut OdooAiStackStatus, roll: &Roll, seen: &Observed) {
    wanted.current_revision = Some(roll.target.clone());
    wanted.rollout = None;
    let ids: Vec<_> = wanted.components.iter().map(|part| (part.name, part.image_id.clone())).collect();
    let Some(entry) = wanted.history.iter_mut().find(|entry| entry.revision == roll.target) else { return };
    for image in &mut entry.images {
        let id = ids.iter().find(|(name, _)| *name == image.name).and_then(|(_, id)| id.clone());
        image.image_id = id.or(image.image_id.take());
    }
    if entry.result != Some(RevisionResult::Succeeded) {
        entry.result = Some(RevisionResult::Succeeded);
        entry.completed_at = Some(Time(seen.now));
    }
}

fn effective(stack: &Stack, seen: &Observed) -> EffectiveSettings {
    let rollout = stack.rollout;
    EffectiveSettings {
        environment: Some(stack.environment),
        approval: Some(rollout.approval),
        health_check_duration_seconds: Some(rollout.watch_duration),
        health_check_period_seconds: Some(rollout.watch_period),
        health_check_failure_threshold: Some(rollout.failure_threshold),
        revision_history_limit: Some(rollout.history_limit),
        app_secrets: Some(match stack.app_secrets {
            AppSecrets::Generated(_) => Origin::Generated,
            AppSecrets::Referenced(_) => Origin::Referenced,
        }),
        log_level: Some(seen.object.spec.log_level.unwrap_or_default()),
        queues: stack.components.queues.clone(),
        database_image: Some(stack.database.image.clone()),
        database_storage_size: Some(stack.database.storage_size.clone()),
        redis_image: Some(stack.redis.image.clone()),
        unmanaged_rules: Some(stack.unmanaged_rules),
        ..EffectiveSettings::default()
    }
}

fn urls(stack: &Stack) -> Urls {
    let url = |component: Component, port: i32| {
        Some(format!("http://{}.{}.svc:{port}", stack.child(component.name()), stack.namespace))
    };
    Urls { api: url(Component::AiService, API_PORT), dashboard: url(Component::Dashboard, DASHBOARD_PORT) }
}

fn components(stack: &Stack, children: &Children) -> Vec<ComponentStatus> {
    ALL.into_iter().filter_map(|component| component_status(stack, children, component)).collect()
}

fn component_status(stack: &Stack, children: &Children, component: Component) -> Option<ComponentStatus> {
    let name = stack.child(component.name());
    let (meta, counts, template) = if component.stateful() {
        let set = children.stateful_sets.get(&name)?;
        (&set.metadata, counts_of_set(set), set.spec.as_ref().map(|spec| &spec.template))
    } else {
        let deployment = children.deployments.get(&name)?;
        (&deployment.metadata, counts_of_deployment(deployment), deployment.spec.as_ref().map(|spec| &spec.template))
    };
    let Counts { available, wanted, .. } = counts;
    let containers = template.and_then(|template| template.spec.as_ref()).map(|spec| spec.containers.as_slice());
    let image = containers.and_then(|all| all.iter().find(|c| c.name == component.name())?.image.clone());
    Some(ComponentStatus {
        name: component,
        ready: available,
        desired: wanted,
        image_id: children.pods_of(component.name()).find_map(|pod| image_id(pod, component, revision::label(meta))),
        image,
        revision: revision::label(meta).map(str::to_owned),
    })
}

fn image_id(pod: &Pod, component: Component, wanted: Option<&str>) -> Option<String> {
    if revision::label(&pod.metadata) != wanted || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == component.name())?;
    Some(status.image_id.clone()).filter(|id| !id.is_empty())
}
