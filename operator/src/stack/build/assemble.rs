//! All objects that a decision asks for, in the order in which they are written: volumes and
//! Services, the data servers, the revision's copies, its Job, its stored templates, its workloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::application::Rendering;
use super::workloads::{Overlay, workload};
use super::{data, job, postgresql, redis};
use crate::cluster::intent::Intent;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::rollout::revision::{self, Stored};
use crate::stack::decide::Roll;
use crate::stack::model::Stack;
use crate::stack::observe::Observed;

/// The objects of a rollout, or of the steady state.
#[must_use]
pub fn assemble(roll: &Roll, seen: &Observed) -> Vec<Intent> {
    let stack = &roll.stack;
    let mut intents = data::claims(stack);
    intents.extend(data::ownership(stack, &seen.children));
    intents.extend(data::services(stack));
    intents.extend(server(roll, seen, Component::Database, &postgresql::inputs(stack), || postgresql::template(stack)));
    intents.extend(server(roll, seen, Component::Redis, &redis::inputs(stack), || redis::template(stack)));
    intents.extend(application(roll, seen));
    intents
}

/// A data server with its stored template; a new one only where the inputs changed.
fn server(
    roll: &Roll,
    seen: &Observed,
    component: Component,
    inputs: &Value,
    render: impl FnOnce() -> PodTemplateSpec,
) -> Vec<Intent> {
    let stack = &roll.stack;
    let suffix = revision::server_suffix(component.name(), inputs);
    let name = stack.child(&suffix);
    let stored = seen.stored.get(&name).filter(|stored| stored.templates.contains_key(component.name()));
    let (stored, new) = if let Some(stored) = stored {
        (Arc::clone(stored), None)
    } else {
        let templates = BTreeMap::from([(component.name().to_owned(), render())]);
        let stored = Stored::new(inputs.clone(), templates);
        let number = revision::next_number(seen.stored.len());
        (Arc::new(stored.clone()), Some(revision::intent(stack, component.name(), &suffix, number, &stored)))
    };
    let template = stored.templates.get(component.name()).expect("a server's stored set holds its template");
    let overlay = Overlay { replicas: 1, credentials_generation: roll.credentials_generation };
    new.into_iter().chain([workload(stack, component, template, overlay)]).collect()
}

/// The application: copies, Job, stored templates, and each workload at the revision it runs.
fn application(roll: &Roll, seen: &Observed) -> Vec<Intent> {
    let stack = &roll.stack;
    let stored_name = revision::name(&stack.name, &roll.target);
    let schema = roll.schema.clone().unwrap_or_default();
    let rendering = Rendering { stack, revision: &roll.target, inputs: &roll.inputs, schema: &schema };
    let owner = revision::owner(&seen.children, &stack.namespace, &stored_name);
    let mut intents = vec![data::copies(&rendering, owner)];
    intents.extend(roll.migrate_attempt.map(|attempt| job::migrate(&rendering, attempt)));
    let target = match (seen.stored.get(&stored_name), &roll.schema) {
        (Some(stored), _) => Some(Arc::clone(stored)),
        (None, Some(_)) => {
            let stored = Stored::new(roll.inputs.spec.clone(), rendering.templates());
            let number = revision::next_number(seen.stored.len());
            intents.push(revision::intent(stack, revision::APPLICATION, &roll.target, number, &stored));
            Some(Arc::new(stored))
        }
        (None, None) => None,
    };
    intents.extend(APPLICATION.into_iter().filter_map(|component| {
        let runs = roll.runs.get(&component)?;
        let stored = if *runs == roll.target {
            target.clone()?
        } else {
            // An old revision whose templates are gone is left as it is: nothing is known to apply.
            Arc::clone(seen.stored.get(&revision::name(&stack.name, runs))?)
        };
        let template = stored.templates.get(component.name())?;
        let overlay =
            Overlay { replicas: replicas(stack, component), credentials_generation: roll.credentials_generation };
        Some(workload(stack, component, template, overlay))
    }));
    intents
}

/// Wanted pods: live, never part of a revision. Beat is always one.
fn replicas(stack: &Stack, component: Component) -> i32 {
    match component {
        Component::AiService => stack.components.ai_service.replicas,
        Component::Worker => stack.components.worker.replicas,
        Component::Dashboard => stack.components.dashboard.replicas,
        Component::Database | Component::Redis | Component::Beat => 1,
    }
}
