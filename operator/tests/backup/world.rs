//! A Backup without a cluster: its Jobs and catalogue are played, and each decision is taken as the operator would.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::backup::{Backup, BackupStatus};
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::backup::build::{self, Start};
use odoo_ai_operator::backup::conditions;
use odoo_ai_operator::backup::decide::{Decision, decide};
use odoo_ai_operator::backup::model::Pause;
use odoo_ai_operator::backup::observe::Observed;
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::status;
use odoo_ai_operator::stack::model::{Network, Operator};
use serde_json::{Value, json};

/// A Backup, its Jobs, and the time.
pub(crate) struct World {
    pub(crate) seen: Observed,
    pub(crate) operator: Operator,
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub(crate) const ID: &str = "20260101t030000z-aaaaaa";

impl World {
    /// Of the sample, on a volume only, at noon.
    pub(crate) fn new() -> Self {
        let read = |name: &str| {
            let path = format!("{}/../manifests/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).expect("a sample")
        };
        let mut object: Backup = serde_saphyr::from_str(&read("backup")).expect("a Backup");
        (object.metadata.uid, object.metadata.generation) = (Some("backup-uid".to_owned()), Some(1));
        object.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
        object.spec.storage.s3 = None;
        object.spec.time_zone = None;
        let local = read("local");
        let text = local.split("\n---").find(|text| text.contains("kind: OdooAiStack")).expect("a stack");
        let mut stack: OdooAiStack = serde_saphyr::from_str(text).expect("a stack");
        stack.metadata.uid = Some("stack-uid".to_owned());
        object.spec.stack_ref.name = stack.metadata.name.clone().expect("a name");
        let seen = Observed {
            object,
            stack: Some(stack),
            children: Children::default(),
            data: BTreeMap::new(),
            claim_exists: true,
            restoring: false,
            asks: None,
            paused: Pause::Nothing,
            now: at("2026-01-01T12:00:00Z"),
        };
        let operator =
            Operator { image: "operator:1".to_owned(), network: Some(Network::default()), ..Operator::default() };
        Self { seen, operator }
    }

    /// One that knows of an empty catalogue.
    pub(crate) fn settled() -> Self {
        let mut world = Self::new();
        world.step();
        world.later(MINUTE);
        world.finish_catalogue(&[]);
        world.step();
        world
    }

    /// Decides, and keeps what a status would; what is decided again must say the same.
    pub(crate) fn step(&mut self) -> Decision {
        let decision = self.decide();
        let mut status = decision.status.clone();
        let handled = status.last_handled.get_or_insert_default();
        for (name, request) in &decision.handled {
            let place = match *name {
                annotations::BACKUP_REQUESTED_AT => &mut handled.backup_requested_at,
                _ => &mut handled.verify_requested_at,
            };
            *place = Some(request.clone());
        }
        for (kind, verdict) in conditions::all(&self.seen, &decision, None) {
            match verdict {
                Some(verdict) => _ = status::set(&mut status.conditions, kind, &verdict, 1, self.seen.now),
                None => status::unset(&mut status.conditions, kind),
            }
        }
        let json = serde_json::to_value(&status).expect("JSON");
        self.seen.object.status = Some(serde_json::from_value(json).expect("a status"));
        let again = self.decide().status;
        assert_eq!(again, BackupStatus { conditions: again.conditions.clone(), ..self.status() }, "once is enough");
        for start in &decision.start {
            self.create(start);
        }
        decision
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.seen, &self.operator)
    }

    pub(crate) fn status(&self) -> BackupStatus {
        self.seen.status()
    }

    pub(crate) fn says(&self, kind: &str) -> (String, String, String) {
        let found =
            self.status().conditions.into_iter().find(|it| it.type_ == kind).unwrap_or_else(|| panic!("{kind}"));
        let Condition { status, reason, message, .. } = found;
        (status, reason, message)
    }

    #[track_caller]
    pub(crate) fn expect(&self, kind: &str, status: &str, reason: &str) {
        let said = self.says(kind);
        assert_eq!((said.0.as_str(), said.1.as_str()), (status, reason), "{}", said.2);
    }

    /// As the API server would keep it.
    pub(crate) fn create(&mut self, start: &Start) {
        let policy = self.decide().policy.expect("accepted");
        let intent = build::run_now(&policy, start);
        let mut job = intent.object.clone();
        job["metadata"]["uid"] = json!(intent.name);
        job["metadata"]["creationTimestamp"] = json!(self.seen.now);
        job["status"] = json!({"startTime": self.seen.now});
        self.put(&job);
    }

    pub(crate) fn put(&mut self, job: &Value) {
        let job: Job = serde_json::from_value(job.clone()).expect("a Job");
        let name = job.metadata.name.clone().expect("a name");
        self.seen.children.jobs.insert(name, Arc::new(job));
    }

    /// One of a schedule, which started now.
    pub(crate) fn scheduled(&mut self, task: &str) -> String {
        let name = format!("nightly-{task}-{}", self.seen.now.as_second() / 60);
        let policy = self.decide().policy.expect("accepted");
        let lasting = build::lasting(&policy);
        let cron =
            lasting.iter().find(|it| it.resource.kind == "CronJob" && it.name.ends_with(task)).expect("a CronJob");
        let template = &cron.object["spec"]["jobTemplate"];
        let mut job = json!({"metadata": template["metadata"], "spec": template["spec"]});
        job["metadata"]["name"] = json!(name);
        job["metadata"]["namespace"] = json!("odoo-ai");
        job["metadata"]["ownerReferences"] = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": cron.name, "uid": cron.name, "controller": true}]);
        job["metadata"]["uid"] = json!(name);
        job["metadata"]["creationTimestamp"] = json!(self.seen.now);
        job["status"] = json!({"startTime": self.seen.now});
        self.put(&job);
        let mut cron = cron.object.clone();
        cron["metadata"]["uid"] = cron["metadata"]["name"].clone();
        cron["status"] = json!({"lastScheduleTime": self.seen.now});
        let cron: CronJob = serde_json::from_value(cron).expect("a CronJob");
        self.seen.children.cron_jobs.insert(format!("nightly-{task}"), Arc::new(cron));
        name
    }

    /// The Job ends now; `report` is its pod's last word.
    pub(crate) fn finish(&mut self, name: &str, well: bool, report: Option<Value>) {
        let job = Arc::clone(&self.seen.children.jobs[name]);
        let mut job = serde_json::to_value(&*job).expect("JSON");
        let condition = json!({"type": if well { "Complete" } else { "Failed" }, "status": "True", "lastTransitionTime": self.seen.now});
        job["status"]["conditions"] = json!([condition]);
        self.put(&job);
        let Some(report) = report else { return };
        let component = job["metadata"]["labels"]["app.kubernetes.io/component"].clone();
        let state = json!({"terminated": {"exitCode": i32::from(!well), "finishedAt": self.seen.now, "message": report.to_string()}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": job["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"]}]},
            "status": {"phase": "Succeeded", "containerStatuses": [{"name": component, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod");
        self.seen.children.pods.insert(name.to_owned(), Arc::new(pod));
    }

    pub(crate) fn finish_catalogue(&mut self, artifacts: &[Value]) {
        let runs = |name: &String| {
            let status = self.seen.children.jobs[name].status.as_ref();
            status.is_some_and(|status| status.conditions.is_none())
        };
        let name = self.jobs("catalogue").into_iter().find(runs).expect("a Job reads the catalogue");
        let report = json!({"result": "Succeeded", "reason": "CatalogueRead", "catalogue": listing(artifacts)});
        self.finish(&name, true, Some(report));
    }

    pub(crate) fn jobs(&self, component: &str) -> Vec<String> {
        self.seen.children.jobs.keys().filter(|name| name.contains(component)).cloned().collect()
    }

    pub(crate) fn later(&mut self, time: SignedDuration) {
        self.seen.now += time;
    }

    pub(crate) fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.seen.object.metadata.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
    }
}

pub(crate) fn artifact(id: &str, completed: &str) -> Value {
    json!([id, "S", at(completed).as_second(), 2048, 0, 0, 0])
}

pub(crate) fn listing(artifacts: &[Value]) -> Value {
    json!({"owner": "7/odoo_ai", "total": artifacts.len(), "bytes": 2048, "schemas": ["003"], "incarnations": ["7/5"], "artifacts": artifacts})
}

pub(crate) fn made(artifacts: &[Value]) -> Value {
    json!({"result": "Succeeded", "reason": "BackupSucceeded", "message": "backup: 3 tables", "backup": {"id": ID, "bytes": 2048},
        "catalogue": listing(artifacts)})
}

pub(crate) fn failed(result: &str, reason: &str) -> Value {
    json!({"result": result, "reason": reason, "message": "why it failed"})
}

pub(crate) const MINUTE: SignedDuration = SignedDuration::from_mins(1);
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);
