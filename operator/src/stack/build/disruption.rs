//! `PodDisruptionBudgets`: a drain takes one pod of a component at a time. Only above one replica, and
//! counted as pods that may be away: one that is there too long still lets the only pod go.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta;
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::rollout::gates::replicas;
use crate::stack::model::Stack;

/// The budgets of the components that have more than one pod now.
#[must_use]
pub fn budgets(stack: &Stack, seeding: bool) -> Vec<Intent> {
    [Component::AiService, Component::Worker, Component::Dashboard]
        .into_iter()
        .filter(|component| replicas(stack, *component, seeding) > 1)
        .map(|component| budget(stack, component))
        .collect()
}

fn budget(stack: &Stack, component: Component) -> Intent {
    Intent::apply(&PodDisruptionBudget {
        metadata: meta::owned(stack, component.name(), component.name()),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            min_available: None,
            selector: Some(meta::selector(stack, component.name())),
            // A pod that serves nobody is no reason to stop a drain.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    })
}
