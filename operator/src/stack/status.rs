//! The status that follows from what was seen, decided and done. Plain functions.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::stack::{
    AppSecrets as Origin, ComponentStatus, EffectiveSettings, MigrationBackup, OdooAiStackStatus, RevisionResult, Urls,
};

use super::apply::Applied;
use super::base::Base;
use super::build::{API_PORT, DASHBOARD_PORT};
use super::conditions;
use super::decide::Decision;
use super::error::Error;
use super::model::{AppSecrets, Stack};
use super::observe::Observed;
use super::roll::Roll;
use super::telling::Transition;
use crate::cluster::children::Children;
use crate::cluster::status;
use crate::component::{ALL, APPLICATION, Component, ComponentExt};
use crate::flag::tally::Tally;
use crate::rollout::workload::{self, Counts, Workload};
use crate::rollout::{course, revision};
use crate::routes::model::Routes;

/// The whole status, and which conditions changed. `sample`: the watch takes one now.
#[must_use]
pub fn after(
    seen: &Observed,
    decision: &Decision,
    done: &Result<Applied, Error>,
    sample: bool,
) -> (OdooAiStackStatus, Vec<Transition>) {
    let applied = done.as_ref().ok().copied().unwrap_or_default();
    let mut wanted = next(seen, decision, applied, sample);
    let mut transitions = Vec::new();
    for (kind, verdict) in conditions::of(seen, decision, done.as_ref().err()) {
        match verdict {
            Some(verdict) => {
                let before = wanted.conditions.iter().find(|it| it.type_ == kind).map(|it| it.reason.clone());
                if status::set(&mut wanted.conditions, kind, &verdict, seen.generation(), seen.now) {
                    transitions.push(Transition { kind, verdict, before });
                }
            }
            None => status::unset(&mut wanted.conditions, kind),
        }
    }
    (wanted, transitions)
}

/// The status apart from its conditions. Plain: what was seen and decided goes in.
fn next(seen: &Observed, decision: &Decision, applied: Applied, sample: bool) -> OdooAiStackStatus {
    let mut wanted = seen.status();
    wanted.observed_generation = Some(seen.generation());
    wanted.last_backup.clone_from(&seen.last_backup);
    for image in wanted.history.iter_mut().flat_map(|entry| &mut entry.images) {
        image.on_node = seen.node_images.has(&image.image);
    }
    if let Some(Tally { declared, undeclared }) = seen.rules
        && (wanted.rules.is_some() || declared + undeclared > 0)
    {
        let rules = wanted.rules.get_or_insert_default();
        (rules.declared, rules.undeclared) = (declared, undeclared);
    }
    match decision {
        Decision::Suspended => pause(&mut wanted),
        Decision::Problem(_) => {}
        Decision::Hold(hold) => {
            wanted.effective = Some(effective(&hold.base.stack, seen));
            wanted.components = components(&hold.base.stack, &seen.children);
            if !hold.base.stopped.is_empty() {
                pause(&mut wanted);
            }
        }
        Decision::Generate(stack, _) => {
            wanted.effective = Some(effective(stack, seen));
        }
        Decision::Roll(roll) => {
            wanted.effective = Some(effective(&roll.base.stack, seen));
            wanted.components = components(&roll.base.stack, &seen.children);
            wanted.urls = Some(urls(&roll.base));
            let generation = roll.base.credentials.live.as_ref().map(|live| live.generation);
            wanted.database.get_or_insert_default().credentials_generation = generation;
            if applied.rules_disabled.is_some() {
                wanted.rules.get_or_insert_default().seeded_disabled = true;
            }
            if let Some(rollout) = wanted.rollout.as_mut().filter(|it| sample && it.interrupted_at.is_none()) {
                rollout.last_sample_at = Some(Time(seen.now));
                if roll.fault.is_some() {
                    rollout.samples = 0;
                    rollout.failed_samples += 1;
                    rollout.bad_sample.clone_from(&roll.fault);
                } else {
                    rollout.samples += 1;
                    rollout.failed_samples = 0;
                }
            }
            if roll.settled() {
                complete(&mut wanted, roll, seen);
            }
        }
    }
    wanted
}

/// The time of a step doesn't run while nothing may be done.
fn pause(status: &mut OdooAiStackStatus) {
    if let Some(rollout) = &mut status.rollout {
        rollout.step = None;
        rollout.deadline = None;
    }
}

/// The target passed its watch: it is what a rollback goes back to.
fn complete(wanted: &mut OdooAiStackStatus, roll: &Roll, seen: &Observed) {
    wanted.current_revision = Some(roll.target.clone());
    wanted.rollout = None;
    if roll.back {
        course::done(wanted, seen.now);
    }
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
        rollback: Some(rollout.rollback),
        progress_deadline_seconds: Some(rollout.progress_deadline),
        health_check_duration_seconds: Some(rollout.watch_duration),
        health_check_period_seconds: Some(rollout.watch_period),
        health_check_failure_threshold: Some(rollout.failure_threshold),
        revision_history_limit: Some(rollout.history_limit),
        migration_policy: Some(stack.migration_policy),
        migration_backup: Some(if stack.backup_required { MigrationBackup::Required } else { MigrationBackup::Never }),
        migration_timeout_seconds: Some(stack.migration_timeout),
        app_secrets: Some(match stack.app_secrets {
            AppSecrets::Generated(_) => Origin::Generated,
            AppSecrets::Referenced(_) => Origin::Referenced,
        }),
        log_level: Some(seen.object.spec.log_level.unwrap_or_default()),
        queues: stack.components.queues.clone(),
        database_image: stack.database.managed().map(|server| server.image.clone()),
        database_storage_size: stack.database.managed().map(|server| server.storage_size.clone()),
        redis_image: stack.redis.managed().map(|server| server.image.clone()),
        unmanaged_rules: Some(stack.unmanaged_rules),
    }
}

/// The routes that are made, or the Services inside the cluster.
fn urls(base: &Base) -> Urls {
    let stack = &base.stack;
    let scheme = stack.routes.as_ref().map_or("http", Routes::scheme);
    let url = |host: Option<&String>, component: Component, port: i32| {
        let service = || format!("http://{}.{}.svc:{port}", stack.child(component.name()), stack.namespace);
        Some(host.map_or_else(service, |host| format!("{scheme}://{host}")))
    };
    let made = base.routes.made.as_ref();
    Urls {
        api: url(made.and_then(|made| made.api.as_ref()), Component::AiService, API_PORT),
        dashboard: url(made.and_then(|made| made.dashboard.as_ref()), Component::Dashboard, DASHBOARD_PORT),
    }
}

fn components(stack: &Stack, children: &Children) -> Vec<ComponentStatus> {
    ALL.into_iter().filter_map(|component| component_status(stack, children, component)).collect()
}

fn component_status(stack: &Stack, children: &Children, component: Component) -> Option<ComponentStatus> {
    let workload = workload::observed(children, component, &stack.child(component.name()))?;
    let of_pods = workload.introduced();
    let Workload { meta, counts, template, .. } = workload;
    let Counts { available, wanted, .. } = counts;
    let containers = template.and_then(|template| template.spec.as_ref()).map(|spec| spec.containers.as_slice());
    let image = containers.and_then(|all| all.iter().find(|c| c.name == component.name())?.image.clone());
    Some(ComponentStatus {
        name: component,
        ready: available,
        desired: wanted,
        image_id: children.pods_of(component.name()).find_map(|pod| image_id(pod, component, of_pods)),
        image,
        revision: revision::label(meta).filter(|_| APPLICATION.contains(&component)).map(str::to_owned),
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
