//! All objects that a decision asks for, in the order in which they are written: volumes and
//! Services, the data servers, the revision's copies, its Job, its stored templates, its workloads.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::application::Rendering;
use super::workloads::{Overlay, workload};
use super::{bootstrap, check, credentials, data, disruption, job, network, postgresql, redis, routes};
use crate::cluster::intent::Intent;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::rollout::carry;
use crate::rollout::changes;
use crate::rollout::gates::replicas;
use crate::rollout::revision::{self, Stored};
use crate::stack::base::Base;
use crate::stack::model::{Database, Redis, Stack};
use crate::stack::observe::Observed;
use crate::stack::roll::Roll;

/// The objects of a rollout, or of the steady state.
#[must_use]
pub fn assemble(roll: &Roll, seen: &Observed) -> Vec<Intent> {
    let mut stack = roll.base.stack.clone();
    if let (true, Some(image)) = (roll.back, roll.inputs.spec["images"]["aiService"].as_str()) {
        // Its Job looks at the schema with the image that is put back.
        image.clone_into(&mut stack.images.ai_service);
    }
    let stack = &stack;
    let stored_name = revision::name(&stack.name, &roll.target);
    let schema = roll.schema.clone().unwrap_or_default();
    let holds_out = !roll.first_install();
    let rendering = Rendering { stack, revision: &roll.target, inputs: &roll.inputs, schema: &schema, holds_out };
    let owner = revision::owner_of_copy(&seen.children, &stack.namespace, &rendering.copy());
    let mut intents = foundation(&roll.base, seen);
    if !roll.back {
        intents.push(data::copies(&rendering, owner));
    }
    if let Some(candidate) = &roll.login {
        let name = &candidate.name;
        intents.push(match &candidate.job {
            None => credentials::login(stack, name),
            Some(uid) => credentials::candidate(stack, name, uid, &candidate.values),
        });
    }
    intents.extend(roll.bootstrap.iter().flat_map(bootstrap::bootstrap));
    intents.extend(roll.schema_job.as_ref().map(|wanted| job::schema(&rendering, wanted)));
    let target = match (seen.stored.get(&stored_name), &roll.schema) {
        (Some(stored), _) => Some(Arc::clone(stored)),
        (None, Some(_)) => {
            let key = seen.revision_key.as_ref();
            let named_by = key.map(|key| key.uid.clone());
            let digests = key.map(|key| changes::digests(&roll.inputs, &key.key));
            let current = roll.status.current_revision.as_deref().map(|current| revision::name(&stack.name, current));
            let current = current.and_then(|name| seen.stored.get(&name));
            let templates =
                carry::templates(&rendering, digests.as_ref(), named_by.as_ref(), current.map(AsRef::as_ref));
            let stored = Stored { named_by, digests, ..Stored::new(roll.inputs.stored(), templates) };
            let number = revision::next_number(&seen.stored);
            intents.push(revision::intent(stack, revision::APPLICATION, &roll.target, number, &stored));
            Some(Arc::new(stored))
        }
        (None, None) => None,
    };
    intents.extend(roll.check.as_ref().map(|run| check::job(stack, &roll.target, run)));
    intents.extend(workloads(&roll.base, seen, target.as_deref().map(|stored| (roll.target.as_str(), stored))));
    intents
}

/// What is kept while no revision can be named.
#[must_use]
pub fn hold(base: &Base, seen: &Observed) -> Vec<Intent> {
    let mut intents = foundation(base, seen);
    intents.extend(workloads(base, seen, None));
    intents
}

/// Volumes, owners of Secrets, the account, Services, policies and data servers.
fn foundation(base: &Base, seen: &Observed) -> Vec<Intent> {
    let stack = &base.stack;
    let mut intents = data::claims(stack, base.rules_gate.as_deref());
    intents.extend(data::ownership(stack, &seen.children));
    intents.push(data::service_account(stack));
    intents.extend(data::services(stack));
    intents.extend(network::policies(stack, base.routes.closes_a_port()));
    if let (Some(wanted), Some(made)) = (&stack.routes, &base.routes.made) {
        intents.extend(routes::routes(stack, wanted, made));
    }
    intents.extend(disruption::budgets(stack, base.seeding));
    intents.extend(base.credentials.live.as_ref().map(|live| credentials::live(stack, &live.values, live.generation)));
    if let Database::Managed(database) = &stack.database {
        let render = || postgresql::template(stack, database);
        intents.extend(server(stack, seen, Component::Database, &database.inputs, render));
    }
    if let Redis::Managed(redis) = &stack.redis {
        let render = || redis::template(stack, redis);
        intents.extend(server(stack, seen, Component::Redis, &redis.inputs, render));
    }
    intents
}

/// A data server with its stored template; a new one only where the user's inputs changed.
fn server(
    stack: &Stack,
    seen: &Observed,
    component: Component,
    inputs: &Value,
    render: impl FnOnce() -> PodTemplateSpec,
) -> Vec<Intent> {
    let revision = revision::of_server(inputs);
    let suffix = revision::suffix_of_server(component, inputs);
    let stored = seen.stored.get(&stack.child(&suffix)).filter(|it| it.templates.contains_key(component.name()));
    let (stored, new) = if let Some(stored) = stored {
        (Arc::clone(stored), None)
    } else {
        let templates = BTreeMap::from([(component.name().to_owned(), render())]);
        let stored = Stored::new(inputs.clone(), templates);
        let number = revision::next_number(&seen.stored);
        (Arc::new(stored.clone()), Some(revision::intent(stack, revision::SERVER, &suffix, number, &stored)))
    };
    let template = stored.templates.get(component.name()).expect("a server's stored set holds its template");
    let overlay = Overlay { replicas: replicas(stack, component, false), credentials: None };
    let workload = workload(stack, component, &revision, template, overlay);
    new.into_iter().chain([workload]).collect()
}

/// Each application component at the revision that it runs. `target`: a set that may not be in the
/// caches yet.
fn workloads(base: &Base, seen: &Observed, target: Option<(&str, &Stored)>) -> Vec<Intent> {
    let stack = &base.stack;
    let of = |component: Component| {
        let runs = base.runs.get(&component)?;
        let stored = match target {
            Some((revision, stored)) if revision == runs.revision => stored,
            // A revision whose templates are gone is left as it is: nothing is known to apply.
            _ => seen.stored.get(&revision::name(&stack.name, &runs.revision))?.as_ref(),
        };
        let template = stored.templates.get(component.name())?;
        let replicas = if base.stopped.contains(&component) { 0 } else { replicas(stack, component, base.seeding) };
        let overlay = Overlay { replicas, credentials: runs.credentials };
        Some(workload(stack, component, &runs.revision, template, overlay))
    };
    APPLICATION.into_iter().filter_map(of).collect()
}
