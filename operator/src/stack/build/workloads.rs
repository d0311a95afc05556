//! Deployments and `StatefulSet`s: a stored template plus exactly two live values, the number of
//! replicas and the generation of the credentials.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment, StatefulSet, StatefulSetSpec,
    StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta;
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::stack::model::Stack;

/// What is laid over a stored template, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Wanted pods.
    pub replicas: i32,
    /// Generation of the credentials, where the component has some; a step restarts the pods.
    pub credentials: Option<i64>,
}

/// The workload of `component` with `template`, which is of `revision`, and the overlay.
#[must_use]
pub fn workload(
    stack: &Stack,
    component: Component,
    revision: &str,
    template: &PodTemplateSpec,
    overlay: Overlay,
) -> Intent {
    let mut template = template.clone();
    if let Some(generation) = overlay.credentials {
        let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
        annotations.insert(labels::CREDENTIALS_GENERATION.to_owned(), generation.to_string());
    }
    let mut metadata = meta::owned(stack, component.name(), component.name());
    metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), revision.to_owned());
    let selector = meta::selector(stack, component.name());
    if component.stateful() {
        let spec = StatefulSetSpec {
            replicas: Some(overlay.replicas),
            selector,
            service_name: Some(stack.child(component.name())),
            template,
            // An ordered set can't leave a pod that never becomes ready.
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: None,
            }),
            // Beat counts as started after ten seconds without a restart; it has nothing to probe.
            min_ready_seconds: (component == Component::Beat).then_some(10),
            revision_history_limit: Some(2),
            ..StatefulSetSpec::default()
        };
        Intent::apply(&StatefulSet { metadata, spec: Some(spec), status: None })
    } else {
        let spec = DeploymentSpec {
            replicas: Some(overlay.replicas),
            selector,
            template,
            // Old pods go only when a new one is ready, operator or not; one surge at a time on a small host.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            revision_history_limit: Some(2),
            ..DeploymentSpec::default()
        };
        Intent::apply(&Deployment { metadata, spec: Some(spec), status: None })
    }
}
