//! What is applied in any case, whatever a rollout does, and what each component runs.

use std::collections::BTreeMap;

use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::OdooAiStackStatus;

use super::model::Stack;
use super::observe::Observed;
use super::restoring;
use crate::cluster::children::Children;
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::rollout::credentials::{self as spent, Standing as Credentials};
use crate::rollout::gates::{self, Volume};
use crate::rollout::revision;
use crate::routes::standing::{Standing, settle, signed};

/// What is applied in any case: data servers, Services, volumes, and what each component runs.
#[derive(Clone, Debug)]
pub struct Base {
    /// The accepted spec.
    pub stack: Stack,
    /// What each application component runs now.
    pub runs: BTreeMap<Component, Runs>,
    /// The credentials of database and Redis.
    pub credentials: Credentials,
    /// A new database is being seeded.
    pub seeding: bool,
    /// Components that must not run.
    pub stopped: Vec<Component>,
    /// What is to be written on the volume about the rules gate.
    pub rules_gate: Option<String>,
    /// What is made of the routes.
    pub routes: Standing,
}

/// What a component runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// The revision.
    pub revision: String,
    /// Generation of the credentials; `None` for a component that has none.
    pub credentials: Option<i64>,
}

/// The database's volume, from the caches. Of an External one the identity stands for its UID, and
/// beat's volume remembers. A restore in place makes another database of it.
#[must_use]
pub fn volume(stack: &Stack, children: &Children, status: &OdooAiStackStatus) -> Volume {
    let identity = stack.connection.identity.as_ref();
    let holder = if identity.is_some() { Component::Beat } else { Component::Database };
    let meta = children.meta(&stack.key("PersistentVolumeClaim", holder.name()));
    let annotation = |name| meta?.annotations.as_ref()?.get(name).cloned();
    let of_this_one = identity == annotation(annotations::DATABASE_IDENTITY).as_ref();
    let claim = meta.and_then(|meta| meta.uid.clone());
    let uid = identity.cloned().or_else(|| claim.clone());
    let restore = status.database.as_ref().and_then(|database| database.restore.as_ref());
    Volume {
        claim,
        uid: uid.map(|uid| restore.map_or(uid.clone(), |restore| format!("{uid}.{restore}"))),
        rules_gate: annotation(annotations::RULES_GATE).filter(|_| of_this_one),
    }
}

/// What runs: `reached` components the target, the others what they have.
#[must_use]
pub fn base(
    stack: Stack,
    seen: &Observed,
    credentials: Credentials,
    status: &OdooAiStackStatus,
    volume: &Volume,
    mut reached: BTreeMap<Component, String>,
) -> Base {
    let has = |component| present(&stack, seen, component);
    let moves = |component| reached.get(&component).is_some_and(|target| has(component).as_ref() != Some(target));
    // What becomes live only now is taken up when it was seen to be live.
    let live = seen.live.as_ref().map_or(1, |live| live.generation).min(credentials.generation());
    let generations = spent::generations(&stack, &seen.children, moves, live);
    for component in APPLICATION {
        if !reached.contains_key(&component) {
            reached.extend(has(component).map(|revision| (component, revision)));
        }
    }
    let runs =
        |(component, revision)| (component, Runs { revision, credentials: generations.get(&component).copied() });
    Base {
        runs: reached.into_iter().map(runs).collect(),
        credentials,
        seeding: gates::seeding(&stack, status, volume),
        stopped: restoring::stopped(seen, &stack),
        routes: settle(stack.routes.as_ref(), &seen.around, signed(&seen.object.spec, &seen.data)),
        rules_gate: match (gates::seeds_disabled(status), gates::seeded(status)) {
            (true, _) => Some(gates::PASSED.to_owned()),
            (false, true) => Some(gates::PENDING.to_owned()),
            (false, false) => volume.rules_gate.clone(),
        },
        stack,
    }
}

/// The revision that a component runs: as its workload says, or said when it was last seen.
fn present(stack: &Stack, seen: &Observed, component: Component) -> Option<String> {
    let label = seen.children.meta(&stack.key(component.kind(), component.name())).and_then(revision::label);
    let status = seen.object.status.as_ref();
    let last = || status?.components.iter().find(|it| it.name == component)?.revision.clone();
    label.map(str::to_owned).or_else(last)
}
