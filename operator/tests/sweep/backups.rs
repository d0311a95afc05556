//! The agent's side of Backups: what is kept in each of their volumes, and what a Job makes of it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::annotations;
use serde_json::{Value, json};

use crate::kubelet;
use crate::operator::today;
use crate::world::{BACKUP, BACKUPS, Ending, STACK, World};

/// Label of the Jobs of a Backup.
pub(crate) const OF_BACKUP: &str = "/metadata/labels/odoo-ai.atmatasolutions.com~1backup";
const OWNER: &str = "7/odoo_ai";

/// What one volume keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volume {
    /// Oldest first.
    pub(crate) artifacts: Vec<Artifact>,
    verified: Option<(String, Timestamp)>,
}

/// One good backup.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) id: String,
    letter: char,
    pub(crate) request: Option<String>,
    completed: i64,
}

impl Volume {
    fn listing(&self) -> Value {
        let is_verified = |id: &str| self.verified.as_ref().is_some_and(|(verified, _)| verified == id);
        let newest = self.artifacts.iter().rev();
        let artifacts = newest
            .clone()
            .map(|it| json!([it.id, it.letter, it.completed, 2048, i32::from(is_verified(&it.id)), 0, 0]));
        let requests: BTreeMap<_, _> = newest.filter_map(|it| Some((it.id.as_str(), it.request.as_ref()?))).collect();
        json!({
            "owner": OWNER, "total": self.artifacts.len(), "bytes": 2048 * self.artifacts.len(), "damaged": 0,
            "schemas": ["002"], "incarnations": ["1/2"], "artifacts": artifacts.collect::<Vec<_>>(), "requests": requests,
            "verified": self.verified.as_ref().map(verification),
        })
    }
}

fn verification((id, completed): &(String, Timestamp)) -> Value {
    json!({"id": id, "completedAt": completed.to_string(), "restoreSeconds": 3})
}

/// When a Job began, and everything that it does.
fn began(job: &Value) -> Timestamp {
    job["metadata"]["creationTimestamp"].as_str().and_then(|it| it.parse().ok()).expect("a time")
}

impl World {
    /// Somebody creates the Backup.
    pub(crate) fn create_backup(&mut self, spec: &Value) {
        let mut whole = json!({"stackRef": {"name": STACK}, "storage": {"persistentVolumeClaim": {"size": "1Gi"}}});
        crate::fields::merge(&mut whole, spec);
        let backup = json!({
            "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "Backup",
            "metadata": {"name": BACKUP, "namespace": "odoo-ai"}, "spec": whole,
        });
        self.store.create(BACKUPS, "somebody", backup).expect("a new Backup");
    }

    /// Somebody asks by annotation.
    pub(crate) fn ask_backup(&mut self, annotation: &str, value: &str) {
        self.store.edit(BACKUPS, BACKUP, |backup| backup["metadata"]["annotations"][annotation] = json!(value));
    }

    /// The Backup's status; null where there is none, or no Backup.
    pub(crate) fn backup(&self) -> &Value {
        static NOTHING: Value = Value::Null;
        self.store.get(BACKUPS, BACKUP).map_or(&NOTHING, |backup| &backup["status"])
    }

    /// It is time: the controller of `CronJob`s makes a Job.
    pub(crate) fn schedule(&mut self, cron_job: &str) {
        let cron = self.store.get("cronjobs", cron_job).cloned().expect("a CronJob");
        let template = &cron["spec"]["jobTemplate"];
        let mut job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": template["metadata"], "spec": template["spec"],
        });
        job["metadata"]["name"] = json!(format!("{cron_job}-29000000"));
        job["metadata"]["namespace"] = json!("odoo-ai");
        job["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "batch/v1", "kind": "CronJob", "name": cron_job, "uid": cron["metadata"]["uid"], "controller": true,
        }]);
        self.store.create("jobs", "cluster", job).expect("a new Job");
        self.store.set_status("cronjobs", cron_job, json!({"lastScheduleTime": today().to_string()}));
    }

    /// Jobs of Backups that can run do what their agent would.
    pub(crate) fn run_jobs_of_backups(&mut self) {
        let jobs = self.store.all("jobs").filter(|(_, job)| job["status"]["conditions"].is_null());
        let jobs = jobs.filter(|(_, job)| job.pointer(OF_BACKUP).is_some());
        let jobs: Vec<_> = jobs.map(|(name, job)| (name.to_owned(), job.clone())).collect();
        for (name, job) in jobs {
            let task = job["metadata"]["labels"]["app.kubernetes.io/component"].as_str().unwrap_or_default().to_owned();
            // Whoever only looks always can.
            let ending = if task == "catalogue" { None } else { self.endings.front().copied() };
            match ending {
                Some(Ending::Runs) => continue,
                Some(Ending::Fails) => {
                    // What is tried again is tried at once.
                    let ago = SignedDuration::from_hours(i64::from(task == "purge"));
                    let report = json!({"result": "Failed", "reason": "StorageFull", "message": "no room"});
                    self.end_job(&name, &job, "Failed", ago, &report);
                }
                Some(Ending::Succeeds) | None => {
                    let report = self.run_agent(&task, &job);
                    self.end_job(&name, &job, "Complete", SignedDuration::ZERO, &report);
                }
            }
            if ending.is_some() {
                self.endings.pop_front();
            }
        }
    }

    fn run_agent(&mut self, task: &str, job: &Value) -> Value {
        let spec = &job["spec"]["template"]["spec"];
        let mut volumes = spec["volumes"].as_array().into_iter().flatten();
        let claim = volumes.find_map(|it| it["persistentVolumeClaim"]["claimName"].as_str()).expect("a claim");
        let env = |name: &str| {
            let all = spec["containers"][0]["env"].as_array().into_iter().flatten();
            all.filter(|it| it["name"] == name).find_map(|it| it["value"].as_str()).map(str::to_owned)
        };
        let (request, reason) = (env("ODOOAI_BACKUP_REQUEST"), env("ODOOAI_BACKUP_REASON").unwrap_or_default());
        let volume = self.volumes.entry(claim.to_owned()).or_default();
        let number = volume.artifacts.len() + 1;
        let mut report =
            json!({"version": 1, "result": "Succeeded", "reason": "Done", "message": format!("{task}: done")});
        match task {
            "backup" => {
                if request.is_some() && volume.artifacts.iter().any(|it| it.request == request) {
                    self.promises.broken.push(format!("the request {request:?} is answered twice"));
                }
                let letter = match reason.as_str() {
                    "Requested" => 'R',
                    "PreMigration" => 'M',
                    "PreRestore" => 'P',
                    _ => 'S',
                };
                let id = format!("artifact-{number}");
                volume.artifacts.push(Artifact { id: id.clone(), letter, request, completed: began(job).as_second() });
                report["backup"] = json!({"id": id, "bytes": 2048});
            }
            "verify" => {
                volume.verified = volume.artifacts.last().map(|newest| (newest.id.clone(), began(job)));
                report["verified"] = volume.verified.as_ref().map(verification).into();
            }
            "purge" => *volume = Volume::default(),
            _ => {}
        }
        report["catalogue"] = volume.listing();
        report
    }

    /// `ago`: so long before it began.
    pub(crate) fn end_job(&mut self, name: &str, job: &Value, how: &str, ago: SignedDuration, report: &Value) {
        if self.store.get("pods", &format!("{name}-pod")).is_none() {
            let pod = kubelet::job_pod(name, job, &report.to_string());
            self.store.create("pods", "cluster", pod).expect("a new pod");
        }
        let mut status = kubelet::ended(how, &(began(job) - ago).to_string());
        status["startTime"] = json!(began(job).to_string());
        self.store.set_status("jobs", name, status);
    }
}

/// Annotations that ask for something.
pub(crate) const BACK_UP: &str = annotations::BACKUP_REQUESTED_AT;
pub(crate) const VERIFY: &str = annotations::VERIFY_REQUESTED_AT;
