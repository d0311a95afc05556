//! Everything outside of the operator: the store, the application's rules, and what the cluster makes
//! of the objects. A copy is a moment to come back to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::ByteString;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::backups::{OF_BACKUP, Volume};
use crate::compare::{self, OF_RESTORE};
use crate::kubelet;
use crate::operator::today;
use crate::promises::Promises;
use crate::store::Store;

/// Plural of our kind.
pub(crate) const STACKS: &str = "odooaistacks";
/// Plural and name of the Backup that a stack may name.
pub(crate) const BACKUPS: &str = "backups";
pub(crate) const BACKUP: &str = "nightly";
/// Plural of the Restores.
pub(crate) const RESTORES: &str = "restores";
/// Plural of the flags.
pub(crate) const FLAGS: &str = "featureflags";
/// Pod of a version that ends at once.
const CRASHING: &str = "crashing";
/// Name of the stack.
pub(crate) const STACK: &str = "odoo-ai";

/// How a Job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it should.
    Succeeds,
    /// With a report of a failure, an hour ago: nobody waits for the next try.
    Fails,
    /// Not for now.
    Runs,
}

/// The application's rules, as its REST API has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Each with all its fields.
    pub(crate) rows: Vec<Value>,
    /// Those that nobody has written since they were seeded.
    pub(crate) untouched: BTreeSet<i64>,
    /// Requests that are refused from now on.
    pub(crate) refusals: usize,
}

/// The world.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) rules: Rules,
    /// How the next Jobs end; those after them succeed.
    pub(crate) endings: VecDeque<Ending>,
    /// What is kept in volumes for backups, by claim.
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// Databases that a Restore made, and which.
    pub(crate) databases: BTreeMap<String, String>,
    /// The first one was empty, and a backup is in it.
    pub(crate) brought: bool,
    /// Which database is live, once a Restore has replaced the first one.
    pub(crate) live: Option<String>,
    /// What must hold at each request.
    pub(crate) promises: Promises,
}

impl World {
    /// The local sample with its Secrets, and the shortest watch that there is.
    pub(crate) fn sample() -> Self {
        let mut world = Self::default();
        let (mut stack, secrets) = kubelet::sample();
        for mut secret in secrets {
            for value in secret["data"].as_object_mut().expect("data").values_mut() {
                *value = encoded(value.as_str().expect("text"));
            }
            world.store.create("secrets", "somebody", secret).expect("a new Secret");
        }
        stack["spec"]["rollout"] = json!({"healthCheck": {"durationSeconds": 1, "periodSeconds": 1}});
        world.store.create(STACKS, "somebody", stack).expect("a new stack");
        world
    }

    /// This moment, for another run: whoever looks at it anew needs no past.
    pub(crate) fn moment(&self) -> Self {
        Self {
            store: self.store.moment(),
            rules: self.rules.clone(),
            endings: self.endings.clone(),
            volumes: self.volumes.clone(),
            databases: self.databases.clone(),
            brought: self.brought,
            live: self.live.clone(),
            promises: self.promises.clone(),
        }
    }

    pub(crate) fn stack(&self) -> &Value {
        self.store.get(STACKS, STACK).expect("the stack")
    }

    /// All that there is in the end, as it can be compared; Events come and go.
    pub(crate) fn end(&self) -> BTreeMap<String, Value> {
        // How often the catalogue was read is no difference.
        let reads = |object: &Value| object["metadata"]["labels"]["app.kubernetes.io/component"] == "catalogue";
        let objects = self.store.everything().filter(|(id, object)| id.0 != "events" && !reads(object));
        let objects: Vec<_> = objects.map(|(id, object)| (id.0.clone(), object.clone())).collect();
        let mut all = compare::end(&objects, &self.stack()["status"]["history"]);
        let mut rows = self.rules.rows.clone();
        rows.sort_by_key(|row| row["id"].as_i64());
        all.insert("rules of the application".to_owned(), json!(rows));
        let kept = self.volumes.iter().map(|(claim, volume)| (claim, volume.artifacts.len()));
        all.insert("backups".to_owned(), json!(kept.collect::<BTreeMap<_, _>>()));
        all.insert("restored databases".to_owned(), json!(self.databases.len()));
        all.insert("live database".to_owned(), json!(self.live()));
        all
    }

    /// Somebody edits the stack's spec.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        self.store.edit(STACKS, STACK, |stack| change(&mut stack["spec"]));
    }

    /// Somebody writes another value into a Secret.
    pub(crate) fn edit_secret(&mut self, name: &str, key: &str, value: &str) {
        self.store.edit("secrets", name, |secret| secret["data"][key] = encoded(value));
    }

    /// Status and reason of a condition that was said of the present spec.
    pub(crate) fn condition(&self, kind: &str) -> (String, String) {
        let stack = self.stack();
        let conditions = stack["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|it| it["type"] == kind);
        let found = found.filter(|it| it["observedGeneration"] == stack["metadata"]["generation"]);
        let text = |field: &str| found.and_then(|it| it[field].as_str()).unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// The controllers of the cluster and the kubelet do what is to be done.
    pub(crate) fn perform(&mut self) {
        for plural in ["deployments", "statefulsets"] {
            let ready =
                |(name, object): (&str, &Value)| (!crashes(object)).then(|| (name.to_owned(), kubelet::ready(object)));
            let wanted: Vec<_> = self.store.all(plural).filter_map(ready).collect();
            for (name, status) in wanted {
                self.store.set_status(plural, &name, status);
                if name.ends_with("-ai-service") && self.rules.rows.is_empty() {
                    // The application seeds its rules when it starts, all of them enabled.
                    self.rules.rows = (0..3).map(|id| rule(id, &json!({"name": format!("rule {id}")}))).collect();
                    self.rules.untouched = (0..3).collect();
                }
            }
        }
        self.crash();
        self.run_jobs_of_backups();
        self.run_jobs_of_restores();
        self.age_flags();
        let jobs = self.store.all("jobs").filter(|(_, job)| job["status"]["conditions"].is_null());
        // One of somebody else is none of ours.
        let jobs = jobs.filter(|(_, job)| !job["metadata"]["labels"].is_null());
        let others = [OF_BACKUP, OF_RESTORE];
        let jobs = jobs.filter(|(_, job)| others.iter().all(|other| job.pointer(other).is_none()));
        // A kubelet starts no pod whose Secrets aren't there.
        let jobs = jobs.filter(|(name, _)| !name.contains("-login-") || self.store.get("secrets", name).is_some());
        let jobs: Vec<_> = jobs.map(|(name, job)| (name.to_owned(), job.clone())).collect();
        for (name, job) in jobs {
            if name.contains("-plan-") {
                self.finish(&name, &job, Ending::Succeeds);
                continue;
            }
            if name.contains("-check-") {
                self.end_check(&name, &job);
                continue;
            }
            if name.contains("-flag-disable-") {
                self.disable_rule(&name, &job);
                continue;
            }
            match self.endings.front().copied().unwrap_or(Ending::Succeeds) {
                Ending::Runs => continue,
                ending => self.finish(&name, &job, ending),
            }
            self.endings.pop_front();
        }
    }

    /// A version that ends at once has a pod that was restarted three times, for as long as it is wanted.
    fn crash(&mut self) {
        let bad = self.store.all("deployments").find(|(_, object)| crashes(object));
        let pod = bad.map(|(_, object)| {
            let labels = object["spec"]["template"]["metadata"]["labels"].clone();
            let container = json!({
                "name": "ai-service", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            });
            json!({
                "metadata": {"name": CRASHING, "namespace": "odoo-ai", "labels": labels},
                "spec": {"nodeName": "n", "containers": []},
                "status": {"phase": "Running", "containerStatuses": [container]},
            })
        });
        match (pod, self.store.get("pods", CRASHING).is_some()) {
            (Some(pod), false) => drop(self.store.create("pods", "cluster", pod).expect("a new pod")),
            (None, true) => self.store.delete("pods", CRASHING, &json!({})).expect("it goes"),
            _ => {}
        }
    }

    /// Time goes by: whoever asked for a rule has waited for long enough.
    fn age_flags(&mut self) {
        let asked = |object: &Value| object["status"]["creationRequestedAt"].is_string();
        let flags: Vec<_> = self
            .store
            .all(FLAGS)
            .filter(|(_, it)| asked(it))
            .map(|(name, it)| (name.to_owned(), it["status"].clone()))
            .collect();
        for (name, mut status) in flags {
            status["creationRequestedAt"] = json!((today() - SignedDuration::from_hours(1)).to_string());
            self.store.set_status(FLAGS, &name, status);
        }
    }

    /// Somebody declares a rule.
    pub(crate) fn create_flag(&mut self, name: &str, rule: &str, spec: &Value) {
        let mut whole = json!({
            "stackRef": {"name": STACK}, "rule": {"name": rule, "automationType": "crm", "actionName": "score"},
        });
        crate::fields::merge(&mut whole, spec);
        let flag = json!({
            "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "FeatureFlag",
            "metadata": {"name": name, "namespace": "odoo-ai"}, "spec": whole,
        });
        self.store.create(FLAGS, "somebody", flag).expect("a new flag");
    }

    /// The tag says how it ends.
    fn end_check(&mut self, name: &str, job: &Value) {
        let image = job["spec"]["template"]["spec"]["containers"][0]["image"].to_string();
        let how = if image.contains(":bad") { "Failed" } else { "Complete" };
        if self.store.get("pods", &format!("{name}-pod")).is_none() {
            self.store.create("pods", "cluster", kubelet::job_pod(name, job, "said so")).expect("a new pod");
        }
        self.store.set_status("jobs", name, kubelet::ended(how, &Timestamp::now().to_string()));
    }

    /// The agent writes into the database.
    fn disable_rule(&mut self, name: &str, job: &Value) {
        let owner = job["metadata"]["ownerReferences"][0]["name"].as_str().expect("a flag's");
        let flag = self.store.get(FLAGS, owner);
        if flag.is_some_and(|flag| flag["spec"]["state"] == "Enabled") {
            self.promises.broken.push(format!("{name} disables what {owner} declares Enabled"));
        }
        if self.store.all("jobs").filter(|(name, _)| name.contains("-flag-disable-")).count() > 1 {
            self.promises.broken.push(format!("{name} is the second Job of one request"));
        }
        let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().into_iter().flatten();
        let wanted =
            env.filter(|it| it["name"] == "ODOOAI_RULE_NAME").map(|it| it["value"].clone()).collect::<Vec<_>>();
        for rule in self.rules.rows.iter_mut().filter(|rule| wanted.contains(&rule["name"])) {
            rule["enabled"] = json!(false);
        }
        if self.store.get("pods", &format!("{name}-pod")).is_none() {
            let report = r#"{"version":1,"result":"Succeeded","reason":"RuleDisabled","message":"it was disabled"}"#;
            self.store.create("pods", "cluster", kubelet::job_pod(name, job, report)).expect("a new pod");
        }
        self.store.set_status("jobs", name, kubelet::ended("Complete", &Timestamp::now().to_string()));
    }

    fn finish(&mut self, name: &str, job: &Value, ending: Ending) {
        let (how, report) = if ending == Ending::Fails {
            let report = r#"{"version":1,"result":"Failed","reason":"MigrationFailed","message":"no luck"}"#;
            ("Failed", report.to_owned())
        } else if name.contains("-bootstrap-") {
            self.brought = true;
            ("Complete", kubelet::BROUGHT.to_owned())
        } else if name.contains("-plan-") {
            ("Complete", kubelet::PLANNED.replace("1/2", self.live()))
        } else {
            // There are rules as soon as the application has run.
            let empty = format!("\"rulesEmpty\":{}", self.rules.rows.is_empty());
            self.promises.succeeded(job, self.store.get("secrets", name));
            let told = kubelet::MIGRATED.replace("1/2", self.live());
            ("Complete", told.replace("\"rulesEmpty\":true", &empty))
        };
        // A pod that is there before its Job has ended may also be the next one's, or a person's.
        if self.store.get("pods", &format!("{name}-pod")).is_none() {
            self.store.create("pods", "cluster", kubelet::job_pod(name, job, &report)).expect("a new pod");
        }
        let at = Timestamp::now() - SignedDuration::from_secs(if ending == Ending::Fails { 3600 } else { 0 });
        self.store.set_status("jobs", name, kubelet::ended(how, &at.to_string()));
    }
}

/// A rule, with what the application fills in.
pub(crate) fn rule(id: i64, body: &Value) -> Value {
    let mut whole = json!({
        "id": id, "name": "", "automation_type": "crm", "action_name": "score", "enabled": true, "config": {},
        "confidence_threshold": 0.85, "auto_approve": false, "auto_approve_threshold": 0.95,
    });
    for (field, value) in body.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    whole
}

/// The version of a workload ends at once.
pub(crate) fn crashes(object: &Value) -> bool {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    containers.into_iter().flatten().any(|it| it["image"].as_str().is_some_and(|image| image.ends_with(":crash")))
}

fn encoded(text: &str) -> Value {
    json!(ByteString(text.as_bytes().to_vec()))
}
