//! The agent's side of Restores: the databases that its Jobs make and drop.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use crate::compare::OF_RESTORE;
use crate::kubelet;
use crate::world::{BACKUP, Ending, RESTORES, STACK, World};

/// The database that a stack makes, and the one that is restored.
const FIRST: &str = "1/2";
const RESTORED: &str = "1/3";

/// Which one has this name while it isn't live.
fn of(database: &str) -> &'static str {
    if database.contains("_restored_") { RESTORED } else { FIRST }
}

impl World {
    /// Somebody creates a Restore of the newest backup.
    pub(crate) fn create_restore(&mut self, name: &str) {
        let restore = json!({
            "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "Restore",
            "metadata": {"name": name, "namespace": "odoo-ai"},
            "spec": {
                "stackRef": {"name": STACK},
                "source": {"backupRef": {"name": BACKUP}, "artifact": {"selector": "Latest"}},
            },
        });
        self.store.create(RESTORES, "somebody", restore).expect("a new Restore");
    }

    /// Somebody has the first backup take the place of the live database, and means it.
    pub(crate) fn replace_database(&mut self, name: &str) {
        self.create_restore(name);
        self.store.edit(RESTORES, name, |restore| {
            restore["spec"]["target"] = json!("InPlace");
            restore["spec"]["source"]["artifact"] = json!({"id": "artifact-1"});
            restore["spec"]["confirm"] = json!(format!("{STACK}/artifact-1/{FIRST}"));
        });
    }

    /// Which database is live.
    pub(crate) fn live(&self) -> &str {
        self.live.as_deref().unwrap_or(FIRST)
    }

    /// What a Restore says of its end.
    pub(crate) fn restored(&self, name: &str) -> &str {
        let restore = self.store.get(RESTORES, name).expect("the Restore");
        let mut conditions = restore["status"]["conditions"].as_array().into_iter().flatten();
        conditions.find(|it| it["type"] == "Complete").and_then(|it| it["reason"].as_str()).unwrap_or_default()
    }

    /// Jobs of Restores that can run do what their agent would.
    pub(crate) fn run_jobs_of_restores(&mut self) {
        let jobs = self.store.all("jobs").filter(|(_, job)| job["status"]["conditions"].is_null());
        let jobs = jobs.filter(|(_, job)| job.pointer(OF_RESTORE).is_some());
        let jobs: Vec<_> = jobs.map(|(name, job)| (name.to_owned(), job.clone())).collect();
        for (name, job) in jobs {
            match self.endings.front() {
                Some(Ending::Runs) => continue,
                Some(Ending::Fails) => {
                    let report = json!({"result": "Failed", "reason": "StorageFull", "message": "no room"});
                    self.end_job(&name, &job, "Failed", SignedDuration::from_hours(1), &report);
                }
                Some(Ending::Succeeds) | None => {
                    let report = self.run_restore(&name, &job);
                    self.end_job(&name, &job, "Complete", SignedDuration::ZERO, &report);
                }
            }
            self.endings.pop_front();
        }
    }

    fn run_restore(&mut self, name: &str, job: &Value) -> Value {
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let env = |name: &str| {
            let all = container["env"].as_array().into_iter().flatten();
            all.filter(|it| it["name"] == name).find_map(|it| it["value"].as_str()).expect("a variable").to_owned()
        };
        let mut report = json!({"version": 1, "result": "Succeeded", "reason": "Done", "message": "done"});
        if container["command"][1] == "migrate" {
            let told = kubelet::MIGRATED.replace(FIRST, of(&env("ODOOAI_DATABASE_NAME")));
            return serde_json::from_str(&told).expect("JSON");
        }
        let (owner, database) = (env("ODOOAI_RESTORE_OWNER"), env("ODOOAI_RESTORE_DATABASE"));
        match container["command"][2].as_str() {
            Some("discard") if self.databases.get(&database) == Some(&owner) => drop(self.databases.remove(&database)),
            Some("discard") => {}
            Some("swap") => {
                let writers = ["ai-service", "worker", "beat"].map(|component| format!("odoo-ai-{component}"));
                let all = self.store.all("deployments").chain(self.store.all("statefulsets"));
                let mut running = all.filter(|(_, it)| it["spec"]["replicas"] != 0).map(|(name, _)| name);
                if let Some(writer) = running.find(|name| writers.iter().any(|writer| writer == name)) {
                    self.promises.broken.push(format!("{name} swaps while {writer} runs"));
                }
                // Again: it was so already.
                if self.databases.remove(&database).is_some() {
                    self.databases.insert(env("ODOOAI_RESTORE_REPLACED"), owner);
                    self.live = Some(of(&database).to_owned());
                }
                report["swap"] = json!({"bytes": 4096});
            }
            _ => {
                self.databases.insert(database.clone(), owner);
                report["restore"] = json!({
                    "id": "artifact-1", "database": database, "tables": 2, "rows": 3, "bytes": 2048, "seconds": 1,
                });
            }
        }
        report
    }
}
