//! A stack that runs beside a Restore in place, and what is played of it.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use odoo_ai_crds::restore::{RestoreStep, RestoreTarget};
use odoo_ai_crds::source::Artifact;
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::decide::Decision;
use odoo_ai_operator::restore::surroundings::Current;
use odoo_ai_operator::rollout::inputs::Inputs;
use odoo_ai_operator::stack::restoring;
use serde_json::{Value, json};

use crate::{World, restored};

pub(crate) const ARTIFACT: &str = "20260101t030000z-aaaaaa";
pub(crate) const OLD: &str = "7412345678901234567/16401";
pub(crate) const NEW: &str = "7412345678901234567/16999";

impl World {
    /// A stack that runs, and a confirmed Restore in place.
    pub(crate) fn in_place() -> Self {
        let mut world = Self::new();
        let spec = &mut world.seen.object.spec;
        spec.target = Some(RestoreTarget::InPlace);
        spec.source.artifact = Some(Artifact { id: Some(ARTIFACT.to_owned()), selector: None });
        spec.confirm = Some(format!("odoo-ai/{ARTIFACT}/{OLD}"));
        world.stack(|status| {
            status["database"] = json!({"incarnation": OLD});
            status["currentRevision"] = json!("r1");
        });
        let inputs = Inputs::from_stored(&json!({}));
        let current = Current { revision: "r1".to_owned(), image: "ai:1".to_owned(), inputs };
        world.seen.around.current = Some(current);
        let migrations = &mut world.seen.stack.as_mut().expect("a stack").spec.migrations;
        migrations.backup = Some(odoo_ai_crds::stack::MigrationBackup::Required);
        let mut backup = world.seen.source.backup.clone().expect("a Backup");
        backup.metadata.name = Some("nightly".to_owned());
        world.seen.around.before = Some(Arc::new(backup));
        world.workloads(1);
        world
    }

    pub(crate) fn stack(&mut self, change: impl FnOnce(&mut Value)) {
        let stack = self.seen.stack.as_mut().expect("a stack");
        let mut status = serde_json::to_value(&stack.status).expect("JSON");
        change(&mut status);
        stack.status = Some(serde_json::from_value(status).expect("a status"));
    }

    /// The application's workloads want so many pods, and have them.
    pub(crate) fn workloads(&mut self, replicas: i32) {
        let children = &mut self.seen.around.children;
        children.pods.clear();
        for component in ["ai-service", "worker", "beat"] {
            let name = format!("odoo-ai-{component}");
            let wanted = if component == "worker" { replicas * 2 } else { replicas };
            let object = json!({
                "metadata": {"name": name, "generation": 1},
                "spec": {"replicas": wanted, "selector": {}, "template": {}, "serviceName": "x"},
                "status": {"observedGeneration": 1, "replicas": wanted, "availableReplicas": wanted,
                    "readyReplicas": wanted, "updatedReplicas": wanted},
            });
            if component == "beat" {
                let set: StatefulSet = serde_json::from_value(object).expect("a set");
                children.stateful_sets.insert(name.clone(), Arc::new(set));
            } else {
                let deployment: Deployment = serde_json::from_value(object).expect("a Deployment");
                children.deployments.insert(name.clone(), Arc::new(deployment));
            }
            if replicas > 0 {
                let pod: Pod = serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
                    "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.seen.now}]},
                }))
                .expect("a pod");
                children.pods.insert(name, Arc::new(pod));
            }
        }
    }

    pub(crate) fn at(&self) -> Option<RestoreStep> {
        self.seen.status().step
    }

    /// Steps until something is waited for or to be done.
    pub(crate) fn settle(&mut self) -> Decision {
        for _ in 0..10 {
            let before = (self.at(), self.seen.status().pre_restore_backup);
            let decision = self.step();
            if decision.start.is_some() || decision.ask.is_some() {
                return decision;
            }
            if before == (self.at(), self.seen.status().pre_restore_backup) {
                return decision;
            }
        }
        panic!("it goes on and on: {:?}", self.seen.status());
    }

    /// The backup before it is there.
    pub(crate) fn backed_up(&mut self) {
        let request = self.seen.status().pre_restore_backup.expect("a request").request_id;
        let backup = Arc::make_mut(self.seen.around.before.as_mut().expect("a Backup"));
        let artifact = json!({"id": "before-1", "reason": "PreRestore", "requestId": request});
        backup.status = Some(serde_json::from_value(json!({"artifacts": [artifact]})).expect("a status"));
    }

    pub(crate) fn migrated(&mut self, name: &str) {
        self.migrated_as(name, NEW);
    }

    pub(crate) fn migrated_as(&mut self, name: &str, incarnation: &str) {
        let report = json!({"result": "Succeeded", "reason": "AtHead", "incarnation": incarnation,
            "schema": {"heads": ["003"], "known": ["003"], "current": ["003"]}});
        self.end(name, "Complete", &report);
    }

    pub(crate) fn ask(&mut self, annotation: &str, token: &str) {
        let all = self.seen.object.metadata.annotations.get_or_insert_default();
        all.insert(annotation.to_owned(), token.to_owned());
    }

    /// The stack has looked which database is live.
    pub(crate) fn noted(&mut self, live: &str) {
        let noted = restoring::noted_as(&self.seen.object);
        self.stack(|status| status["database"] = json!({"incarnation": live, "restore": noted}));
    }

    /// It is backed up and loaded, and its migration begins.
    pub(crate) fn loads(&mut self) {
        self.settle();
        self.backed_up();
        self.settle();
        let database = self.seen.status().database.expect("a name");
        self.end("look-load-1", "Complete", &restored(&database));
        self.settle();
    }

    /// Up to the step Drain.
    pub(crate) fn prepared() -> Self {
        let mut world = Self::in_place();
        assert!(world.settle().ask.is_some(), "a backup is asked for");
        world.backed_up();
        assert_eq!(world.settle().start, Some((Task::Load, 1)));
        let database = world.seen.status().database.expect("a name");
        world.end("look-load-1", "Complete", &restored(&database));
        assert_eq!(world.settle().start, Some((Task::Migrate, 1)));
        world.migrated("look-migrate-1-1");
        world.settle();
        assert_eq!(world.at(), Some(RestoreStep::Drain), "{}", world.says("Complete").2);
        world
    }

    /// Up to the Job that swaps.
    pub(crate) fn swapping() -> Self {
        let mut world = Self::prepared();
        world.workloads(0);
        assert_eq!(world.settle().start, Some((Task::Swap, 1)));
        world
    }

    pub(crate) fn swapped() -> Self {
        let mut world = Self::swapping();
        world.later(3);
        world.end("look-swap-1-1", "Complete", &json!({"result": "Succeeded", "swap": {"millis": 4, "bytes": 2048}}));
        world.settle();
        world
    }

    pub(crate) fn restored_in_place() -> Self {
        let mut world = Self::swapped();
        world.later(4);
        world.workloads(1);
        world.noted(NEW);
        world.settle();
        world
    }

    pub(crate) fn run_beside(&mut self, component: &str) {
        let job = json!({"metadata": {"name": component, "labels": {"app.kubernetes.io/component": component}}});
        let job = serde_json::from_value(job).expect("a Job");
        self.seen.around.children.jobs.insert(component.to_owned(), Arc::new(job));
    }
}
