//! Children that the spec wants no more. A plain function says which; only what the stack itself
//! controls, of kinds that hold no data, and never a workload just because nothing was built for it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ApiResource;

use super::build::meta;
use super::model::Stack;
use crate::cluster::children::Children;
use crate::cluster::delete::Doomed;
use crate::cluster::intent::{Intent, Key};
use crate::cluster::traefik::{IngressRoute, Middleware};
use crate::component::{ALL, Component, ComponentExt};

/// Kinds that are applied and can be made again from the spec alone. Jobs go by their own time,
/// stored revisions and their copies are trimmed apart; volumes and other Secrets are never deleted.
fn kinds() -> [ApiResource; 9] {
    [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        // A route goes before the Middleware that it names.
        ApiResource::erase::<IngressRoute>(&()),
        ApiResource::erase::<Middleware>(&()),
        ApiResource::erase::<Ingress>(&()),
    ]
}

/// It is a route, or a part of one.
#[must_use]
pub fn is_of_a_route(doomed: &Doomed) -> bool {
    ["IngressRoute", "Middleware", "Ingress"].contains(&doomed.key.kind.as_str())
}

/// What to delete after everything in `built` was written. `built` must be complete: all that the
/// spec wants, but for workloads that no step has reached, or whose stored templates are gone.
/// `settled`: nothing uses a server any more that the spec wants no more.
#[must_use]
pub fn plan(stack: &Stack, children: &Children, built: &[Intent], settled: bool) -> Vec<Doomed> {
    let mut wanted: BTreeSet<Key> = built.iter().map(Intent::key).collect();
    let kinds = kinds();
    let key = |kind: &str, component: Component| stack.key(kind, component.name());
    for component in ALL {
        let given_up = component == Component::Redis && stack.redis.managed().is_none();
        if !given_up {
            wanted.insert(key(component.kind(), component));
        } else if !settled {
            wanted.extend(kinds.iter().map(|resource| key(&resource.kind, component)));
        }
    }
    let ours = |kind| children.of_kind(kind).filter(|meta| meta::is_child(stack, meta));
    let existing = kinds.iter().flat_map(|kind| ours(&kind.kind).filter_map(|meta| Doomed::new(kind.clone(), meta)));
    let mut doomed: Vec<_> = existing.filter(|it| !wanted.contains(&it.key)).collect();
    doomed.sort_by(|a, b| a.key.cmp(&b.key));
    doomed
}
