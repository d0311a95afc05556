//! What a cache keeps of an object: what gates and conditions read of it, and nothing else. With a
//! thousand stacks the rest is most of the operator's memory.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use odoo_ai_crds::backup::{Backup, BackupSpec};
use odoo_ai_crds::stack::OdooAiStack;

use crate::labels::APPLIED_HASH;

/// What `kubectl apply` leaves: the whole object once more, with the data of a Secret.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object that a cache keeps in part.
pub trait Slim: Resource {
    /// Drops what nobody reads.
    fn slim(&mut self) {
        slim_meta(self.meta_mut());
        self.slim_rest();
    }

    /// Drops what nobody reads besides metadata.
    fn slim_rest(&mut self);
}

fn slim_meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
        // Read live, where it is compared. An empty map takes as much as one of eleven entries.
        annotations.remove(APPLIED_HASH);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
}

impl<K: Resource<DynamicType = ()>> Slim for PartialObjectMeta<K> {
    fn slim_rest(&mut self) {
        self.types = None;
    }
}

impl Slim for Deployment {
    fn slim_rest(&mut self) {
        let Some(DeploymentSpec { replicas, template, min_ready_seconds, .. }) = self.spec.take() else { return };
        let template = of_template(template);
        self.spec = Some(DeploymentSpec { replicas, template, min_ready_seconds, ..DeploymentSpec::default() });
    }
}

impl Slim for StatefulSet {
    fn slim_rest(&mut self) {
        let Some(StatefulSetSpec { replicas, template, .. }) = self.spec.take() else { return };
        self.spec = Some(StatefulSetSpec { replicas, template: of_template(template), ..StatefulSetSpec::default() });
    }
}

impl Slim for Backup {
    fn slim_rest(&mut self) {
        // A restore from it runs in its image.
        let BackupSpec { stack_ref, storage, job, .. } = std::mem::take(&mut self.spec);
        self.spec = BackupSpec { stack_ref, storage, job, ..BackupSpec::default() };
    }
}

impl Slim for Job {
    fn slim_rest(&mut self) {
        self.spec = None;
    }
}

impl Slim for CronJob {
    fn slim_rest(&mut self) {
        self.spec = None;
    }
}

impl Slim for Pod {
    fn slim_rest(&mut self) {
        let Some(PodSpec { node_name, volumes, containers, init_containers, .. }) = self.spec.take() else { return };
        let mut slim = PodSpec { node_name, ..PodSpec::default() };
        // What a pod asks for matters while it has no place, or lost it.
        let runs = self.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        if !runs {
            slim.volumes = volumes.map(|mut volumes| {
                volumes.retain(|volume| volume.persistent_volume_claim.is_some());
                volumes
            });
            let asks = |it: Container| Container {
                name: it.name,
                restart_policy: it.restart_policy,
                resources: it.resources,
                ..Container::default()
            };
            slim.containers = containers.into_iter().map(asks).collect();
            slim.init_containers = init_containers.map(|all| all.into_iter().map(asks).collect());
        }
        self.spec = Some(slim);
    }
}

impl Slim for OdooAiStack {
    fn slim_rest(&mut self) {
        // A reconcile reads the object live; its events look at the spec only.
        self.status = None;
    }
}

/// Labels and annotations, and the images.
fn of_template(template: PodTemplateSpec) -> PodTemplateSpec {
    let images = |it: Container| Container { name: it.name, image: it.image, ..Container::default() };
    let spec = template
        .spec
        .map(|spec| PodSpec { containers: spec.containers.into_iter().map(images).collect(), ..PodSpec::default() });
    PodTemplateSpec { metadata: template.metadata, spec }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(phase: &str) -> Value {
        let container = json!({
            "name": "c", "image": "i", "env": [{"name": "A", "value": "b"}], "resources": {"requests": {"cpu": "1"}},
        });
        let pod = json!({
            "metadata": {
                "name": "p", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}],
                "annotations": {LAST_APPLIED: "secret", "kept": "yes"},
            },
            "spec": {
                "nodeName": "n", "containers": [container],
                "volumes": [{"name": "x", "emptyDir": {}}, {"name": "y", "persistentVolumeClaim": {"claimName": "z"}}],
            },
            "status": {"phase": phase},
        });
        let mut pod: Pod = serde_json::from_value(pod).expect("a pod");
        pod.slim();
        serde_json::to_value(pod).expect("JSON")
    }

    #[test]
    fn a_pod_keeps_what_it_asks_for_while_it_does_not_run() {
        let meta = json!({"name": "p", "labels": {"a": "b"}, "annotations": {"kept": "yes"}});
        let running = pod("Running");
        assert_eq!(running["metadata"], meta);
        assert_eq!(running["spec"], json!({"nodeName": "n", "containers": []}));
        let spec = json!({
            "nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "volumes": [{"name": "y", "persistentVolumeClaim": {"claimName": "z"}}],
        });
        assert_eq!(pod("Pending")["spec"], spec);
        assert_eq!(pod("Failed")["spec"], spec);
    }

    #[test]
    fn a_restore_finds_the_image_of_the_backup_that_it_reads() {
        let backup = json!({"metadata": {"name": "nightly"}, "spec": {
            "stackRef": {"name": "odoo-ai"}, "storage": {}, "job": {"image": "postgres:16"}, "schedule": "0 3 * * *",
        }});
        let mut backup: Backup = serde_json::from_value(backup).expect("a Backup");
        backup.slim();
        assert_eq!((backup.spec.job.image.as_deref(), backup.spec.schedule), (Some("postgres:16"), None));
    }
}
