//! What a Restore waits for, what it refuses, what its Jobs are told, and what its end says.

mod beside;
mod in_place;
mod played;
mod tables;
mod trouble;
mod undo;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::restore::build;
use odoo_ai_operator::restore::decide::{Decision, decide};
use odoo_ai_operator::restore::observe::Observed;
use odoo_ai_operator::restore::report;
use odoo_ai_operator::restore::source::Source;
use odoo_ai_operator::restore::surroundings::Surroundings;
use odoo_ai_operator::stack::model::{Network, Operator};
use odoo_ai_operator::stack::references::Data;
use serde_json::{Value, json};

/// A Restore of the sample, its Jobs, and the time.
struct World {
    seen: Observed,
    operator: Operator,
}

impl World {
    fn new() -> Self {
        let read = |name: &str, wanted: &str| {
            let path = format!("{}/../manifests/samples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            let all = std::fs::read_to_string(path).expect("a sample");
            all.split("\n---").find(|text| text.contains(wanted)).expect("the document").to_owned()
        };
        let mut object: Restore = serde_saphyr::from_str(&read("restore", "name: look")).expect("a Restore");
        (object.metadata.uid, object.metadata.generation) = (Some("of-look".to_owned()), Some(1));
        let mut backup: Backup = serde_saphyr::from_str(&read("backup", "kind: Backup")).expect("a Backup");
        backup.spec.storage.s3 = None;
        let mut stack: OdooAiStack = serde_saphyr::from_str(&read("local", "kind: OdooAiStack")).expect("a stack");
        stack.metadata.uid = Some("of-the-stack".to_owned());
        let ready = json!({"conditions": [{
            "type": "DatabaseReady", "status": "True", "reason": "Serving", "message": "it serves",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]});
        stack.status = Some(serde_json::from_value(ready).expect("a status"));
        let operator =
            Operator { image: "operator:1".to_owned(), network: Some(Network::default()), ..Operator::default() };
        let seen = Observed {
            object,
            stack: Some(stack),
            source: Source { backup: Some(backup), data: Data::new(), claim_exists: true, kept: Vec::new() },
            children: Children::default(),
            backing_up: None,
            bytes: None,
            around: Surroundings::default(),
            now: "2026-01-01T12:00:00Z".parse().expect("a time"),
        };
        Self { seen, operator }
    }

    /// Decides, and keeps what a status would; a Job that is to be started is there then.
    fn step(&mut self) -> Decision {
        let decision = decide(&self.seen, &self.operator);
        self.seen.object.status = Some(report::status(&self.seen, &decision, None));
        if let (Some(plan), Some((task, attempt))) = (&decision.plan, decision.start) {
            let mut job = build::job(plan, &self.seen, task, attempt).object;
            job["metadata"]["uid"] = job["metadata"]["name"].clone();
            self.put(&job);
        }
        decision
    }

    fn put(&mut self, job: &Value) {
        let job: Job = serde_json::from_value(job.clone()).expect("a Job");
        self.seen.children.jobs.insert(job.metadata.name.clone().expect("a name"), Arc::new(job));
    }

    /// The Job ends now; its pod's last word is `report`.
    fn end(&mut self, name: &str, how: &str, report: &Value) {
        let mut job = serde_json::to_value(&*self.seen.children.jobs[name]).expect("JSON");
        let condition = json!({"type": how, "status": "True", "lastTransitionTime": self.seen.now});
        job["status"] = json!({"conditions": [condition]});
        self.put(&job);
        let component = &job["metadata"]["labels"]["app.kubernetes.io/component"];
        let state = json!({"terminated": {"exitCode": 0, "finishedAt": self.seen.now, "message": report.to_string()}});
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": job["metadata"]["labels"],
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": name}]},
            "status": {"containerStatuses": [{"name": component, "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }))
        .expect("a pod");
        self.seen.children.pods.insert(name.to_owned(), Arc::new(pod));
    }

    fn later(&mut self, seconds: i64) {
        self.seen.now += SignedDuration::from_secs(seconds);
    }

    fn says(&self, kind: &str) -> (String, String, String) {
        let conditions = self.seen.status().conditions;
        let found = conditions.into_iter().find(|it| it.type_ == kind).expect("a condition");
        (found.status, found.reason, found.message)
    }

    #[track_caller]
    fn expect(&self, status: &str, reason: &str) {
        let said = self.says("Complete");
        assert_eq!((said.0.as_str(), said.1.as_str()), (status, reason), "{}", said.2);
    }

    /// It has begun, and its first Job runs.
    fn running() -> Self {
        let mut world = Self::new();
        world.step();
        world.step();
        world
    }
}

fn restored(database: &str) -> Value {
    json!({"result": "Succeeded", "restore": {
        "id": "20260101t030000z-aaaaaa", "database": database, "tables": 14, "rows": 1234, "bytes": 1_288_490_189,
        "seconds": 7, "alembic": ["003"],
    }})
}

/// Environment of the first container.
fn env(job: &Value) -> BTreeMap<String, String> {
    let all = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables");
    let pair = |it: &Value| Some((it["name"].as_str()?.to_owned(), it["value"].as_str()?.to_owned()));
    all.iter().filter_map(pair).collect()
}
