//! A component's workload as it was observed, a Deployment or a `StatefulSet` alike.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use odoo_ai_crds::conditions::reasons;

use super::pods::Trouble;
use super::revision;
use crate::cluster::children::Children;
use crate::component::{Component, ComponentExt};

/// What is looked at of a workload.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Its metadata.
    pub meta: &'a ObjectMeta,
    /// Its pods.
    pub counts: Counts,
    /// Its pod template.
    pub template: Option<&'a PodTemplateSpec>,
    /// Why its pods may not even be created, if so.
    pub refused: Option<Trouble>,
}

impl<'a> Workload<'a> {
    /// The revision that brought in the template, and with it the label of its pods; the workload's own label
    /// is the revision that it stands for. `None` for the data servers.
    #[must_use]
    pub fn introduced(&self) -> Option<&'a str> {
        self.template?.metadata.as_ref().and_then(revision::label)
    }
}

/// The workload of `component` with this name, if it exists.
#[must_use]
pub fn observed<'a>(children: &'a Children, component: Component, name: &str) -> Option<Workload<'a>> {
    if component.stateful() {
        let set = children.stateful_sets.get(name)?;
        let template = set.spec.as_ref().map(|spec| &spec.template);
        let refused = children.pending.refused.get(name).map(|words| not_created(words));
        Some(Workload { meta: &set.metadata, counts: counts_of_set(set), template, refused })
    } else {
        let deployment = children.deployments.get(name)?;
        let (counts, refused) = (counts_of_deployment(deployment), refused(deployment));
        let template = deployment.spec.as_ref().map(|spec| &spec.template);
        Some(Workload { meta: &deployment.metadata, counts, template, refused })
    }
}

/// Pods that may not even be created: a quota, or an admission policy.
fn refused(deployment: &Deployment) -> Option<Trouble> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions.iter().find(|it| it.type_ == "ReplicaFailure" && it.status == "True")?;
    let message = failure.message.as_deref().unwrap_or_default();
    Some(not_created(message))
}

fn not_created(words: &str) -> Trouble {
    Trouble::new(reasons::FORBIDDEN, format!("pods can't be created: {words}"))
}

/// Pods of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The controller has seen the newest template.
    pub observed: bool,
    /// Wanted pods.
    pub wanted: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Pods that serve long enough, of any template.
    pub available: i32,
    /// Pods that don't terminate, of any template.
    pub total: i32,
}

impl Counts {
    /// All pods are of the newest template and serve; none of an older one is left.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.observed && self.updated >= self.wanted && self.available >= self.wanted && self.total == self.updated
    }
}

/// Pods of a Deployment.
fn counts_of_deployment(deployment: &Deployment) -> Counts {
    let status = deployment.status.clone().unwrap_or_default();
    Counts {
        observed: status.observed_generation >= deployment.metadata.generation,
        wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        updated: status.updated_replicas.unwrap_or(0),
        available: status.available_replicas.unwrap_or(0),
        total: status.replicas.unwrap_or(0),
    }
}

/// Pods of a `StatefulSet`.
fn counts_of_set(set: &StatefulSet) -> Counts {
    let status = set.status.clone().unwrap_or_default();
    Counts {
        observed: status.observed_generation >= set.metadata.generation,
        wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        // Without an update in progress both revisions are equal and updatedReplicas is not kept.
        updated: if status.current_revision == status.update_revision {
            status.replicas
        } else {
            status.updated_replicas.unwrap_or(0)
        },
        available: status.available_replicas.unwrap_or(0),
        total: status.replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn counts(wanted: i32, updated: i32, available: i32, total: i32) -> Counts {
        Counts { observed: true, wanted, updated, available, total }
    }

    #[rstest]
    #[case::all_there(counts(1, 1, 1, 1), true)]
    #[case::old_pod_serves(counts(1, 0, 1, 1), false)]
    #[case::old_pod_left(counts(1, 1, 1, 2), false)]
    #[case::new_pod_starts(counts(1, 1, 0, 1), false)]
    #[case::scaled_to_zero(counts(0, 0, 0, 0), true)]
    #[case::scaling_down(counts(1, 2, 2, 2), true)]
    fn settled(#[case] counts: Counts, #[case] expected: bool) {
        assert_eq!(counts.settled(), expected);
    }

    #[test]
    fn a_template_that_was_not_observed_opens_nothing() {
        assert!(!Counts { observed: false, ..counts(1, 1, 1, 1) }.settled());
    }
}
