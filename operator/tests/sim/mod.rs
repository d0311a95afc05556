//! A cluster that exists only in memory: intents become objects, and objects become ready when the
//! test says so. It drives the operator's own decide → assemble → status functions, so what it shows
//! holds for the real controller; what the API server, the kubelet and the application add is shown
//! by the suites on a real cluster.

#![allow(dead_code, reason = "each test binary uses its part")]

mod kubelet;
pub(crate) mod revisions;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::{OdooAiStack, OdooAiStackStatus};
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::intent::{Intent, Key, Mode};
use odoo_ai_operator::cluster::nodes::Images;
use odoo_ai_operator::cluster::pending::Claim;
use odoo_ai_operator::restore::source::Source;
use odoo_ai_operator::rollout::revision::Stored;
use odoo_ai_operator::routes::probe::Look;
use odoo_ai_operator::routes::rivals::Rivals;
use odoo_ai_operator::routes::standing::Surroundings;
use odoo_ai_operator::stack::agents::Agents;
use odoo_ai_operator::stack::apply::{self, Applied};
use odoo_ai_operator::stack::build::{assemble, data};
use odoo_ai_operator::stack::decide::{Decision, decide};
use odoo_ai_operator::stack::model::{Network, Operator};
use odoo_ai_operator::stack::observe::{Observed, RevisionKey};
use odoo_ai_operator::stack::references::{self, Data, Reference};
use odoo_ai_operator::stack::{status, telling};
use serde_json::{Value, json};

use self::kubelet::NAMESPACE;
pub(crate) use self::kubelet::{BROUGHT, MIGRATED, PLANNED};

/// Name of the stack in all tests.
pub(crate) const STACK: &str = "odoo-ai";

fn operator() -> Operator {
    let network = Network { operator_namespace: "odoo-ai-system".to_owned(), metrics_namespaces: Vec::new() };
    Operator {
        image: "operator:test".to_owned(),
        network: Some(network),
        approvers_verified: true,
        template_annotation: None,
    }
}

/// What the login Job reports.
pub(crate) const ACCEPTED: &str =
    r#"{"version":1,"result":"Succeeded","reason":"CredentialsAccepted","message":"done"}"#;

/// The cluster.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// The custom resource.
    pub(crate) stack: OdooAiStack,
    /// All other objects, as they were applied.
    pub(crate) objects: BTreeMap<Key, Value>,
    /// Every write, in order, statuses included (as `Status`).
    pub(crate) writes: Vec<String>,
    /// Rules that are enabled in the application.
    pub(crate) enabled_rules: usize,
    /// How often the rules gate ran.
    pub(crate) gate_runs: usize,
    /// What a plan Job reports.
    pub(crate) plan: String,
    /// What a migrate Job reports.
    pub(crate) report: String,
    /// What a bootstrap Job reports.
    pub(crate) bootstrap: String,
    /// What a login Job reports.
    pub(crate) login: String,
    /// What the operator says of itself.
    pub(crate) operator: Operator,
    /// What the agents said.
    pub(crate) agents: Agents,
    /// The Backup that the stack names.
    pub(crate) backup: Option<Backup>,
    /// Where an empty database gets its first data from.
    pub(crate) source: Option<Source>,
    /// Images on the node.
    pub(crate) node_images: Arc<Images>,
    /// What the cluster has that routes depend on.
    pub(crate) around: Surroundings,
    /// What the routes answered.
    pub(crate) looks: Vec<Look>,
    /// What the caches don't know yet.
    pub(crate) hidden: BTreeSet<Key>,
    /// Claims of pods without a node.
    pub(crate) claims: BTreeMap<String, Claim>,
    /// Events about the stack, as `Condition Reason`.
    pub(crate) events: Vec<String>,
    /// Writes after which the operator dies, once.
    pub(crate) crash_after: Option<usize>,
    /// Since when the operator acts.
    pub(crate) leading_since: Timestamp,
    pub(crate) now: Timestamp,
    uids: usize,
}

/// The operator died.
#[derive(Debug)]
pub(crate) struct Crash;

impl World {
    /// A cluster with the local sample and its Secrets, and nothing else.
    pub(crate) fn new() -> Self {
        let (stack, secrets) = kubelet::sample();
        let secrets = secrets.into_iter().map(|mut secret| {
            secret["data"] = encoded(&secret["data"].take());
            let name = secret["metadata"]["name"].as_str().expect("a name").to_owned();
            (key("Secret", &name), secret)
        });
        let objects = secrets.collect();
        let mut stack: OdooAiStack = serde_json::from_value(stack).expect("the sample fits the types");
        stack.metadata.uid = Some("uid-of-stack".to_owned());
        stack.metadata.generation = Some(1);
        Self {
            stack,
            objects,
            writes: Vec::new(),
            enabled_rules: 0,
            gate_runs: 0,
            plan: PLANNED.to_owned(),
            report: MIGRATED.to_owned(),
            bootstrap: BROUGHT.to_owned(),
            login: ACCEPTED.to_owned(),
            operator: operator(),
            agents: Agents::default(),
            backup: None,
            source: None,
            node_images: Arc::default(),
            looks: Vec::new(),
            around: Surroundings { traefik: Some(true), rivals: Some(Rivals::new()), hides_clients: None },
            hidden: BTreeSet::new(),
            claims: BTreeMap::new(),
            events: Vec::new(),
            crash_after: None,
            leading_since: Timestamp::UNIX_EPOCH,
            now: Timestamp::from_second(1_790_000_000).expect("a valid time"),
            uids: 0,
        }
    }

    /// Changes the spec as `kubectl apply` would.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut OdooAiStack)) {
        change(&mut self.stack);
        self.stack.metadata.generation = self.stack.metadata.generation.map(|generation| generation + 1);
    }

    /// `kubectl delete` without the children, and `kubectl apply` again: a new UID and no status.
    pub(crate) fn recreate(&mut self) {
        self.uids += 1;
        self.stack.metadata.uid = Some(format!("uid-of-stack-{}", self.uids));
        self.stack.metadata.generation = Some(1);
        self.stack.status = None;
        let children = self.objects.values_mut();
        children.filter_map(|it| it["metadata"].as_object_mut()).for_each(|it| drop(it.remove("ownerReferences")));
    }

    /// One reconcile; `sample`: a sample of the watch is due.
    pub(crate) fn reconcile(&mut self, sample: bool) -> Result<Decision, Crash> {
        self.now += SignedDuration::from_secs(1);
        let mut seen = self.observe();
        let decision = decide(&seen, &self.operator);
        if let Some(intent) = decision.intent() {
            let mut intent = intent.clone();
            intent.conditions = seen.status().conditions;
            self.write_status(intent)?;
            seen.object = self.stack.clone();
        }
        let mut applied = Applied::default();
        match &decision {
            Decision::Generate(stack, missing) => {
                for which in missing {
                    // The same text in every run, so that two runs can be compared.
                    let text = format!("random-{}", which.suffix);
                    self.write(&data::generated_secret(stack, *which, || text.clone()))?;
                }
            }
            Decision::Roll(roll) => {
                for (key, _) in &roll.obsolete {
                    self.count(format!("delete {key}"))?;
                    self.objects.remove(key);
                }
                let intents = assemble::assemble(roll, &seen);
                let unwanted = apply::unwanted(roll, &seen, &intents);
                for intent in intents {
                    self.write(&intent)?;
                }
                if let Some((name, request)) = &roll.backup_request {
                    self.count(format!("Backup {name}"))?;
                    let backup = self.backup.as_mut().expect("it was seen");
                    let annotations = backup.metadata.annotations.get_or_insert_default();
                    annotations.insert(annotations::BACKUP_REQUESTED_AT.to_owned(), request.clone());
                }
                if roll.disable_rules {
                    self.enabled_rules = 0;
                    self.gate_runs += 1;
                    applied.rules_disabled = Some(45);
                }
                for doomed in unwanted {
                    self.count(format!("delete {}", doomed.key))?;
                    self.objects.remove(&doomed.key);
                }
            }
            Decision::Hold(hold) => {
                for intent in assemble::hold(&hold.base, &seen) {
                    self.write(&intent)?;
                }
            }
            Decision::Suspended | Decision::Problem(_) => {}
        }
        let (status, transitions) = status::after(&seen, &decision, &Ok(applied), sample);
        self.write_status(status.clone())?;
        let told = telling::told(&transitions, &seen.status(), &status).into_iter();
        self.events.extend(told.map(|it| format!("{} {}", it.kind, it.verdict.reason)));
        Ok(decision)
    }

    /// Reconciles until nothing is written any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            let before = self.writes.len();
            let _ = self.reconcile(false);
            if self.writes.len() == before {
                return;
            }
        }
        panic!("twenty reconciles without an end: {:?}", self.writes);
    }

    /// Reconciles and lets everything that exists become ready, until the stack is settled.
    pub(crate) fn run_to_the_end(&mut self) {
        for _ in 0..60 {
            let _ = self.reconcile(true);
            self.everything_becomes_ready();
            let observed = self.stack.status.as_ref().and_then(|status| status.observed_generation);
            if observed == self.stack.metadata.generation && self.condition("Ready") == Some("True") {
                self.settle();
                return;
            }
        }
        panic!("never Ready: {:?}", self.words("Ready"));
    }

    /// All workloads and Jobs that exist do what they should.
    pub(crate) fn everything_becomes_ready(&mut self) {
        let names: Vec<_> = self.objects.keys().cloned().collect();
        for key in names {
            self.becomes_ready(&key);
        }
    }

    /// One workload or Job does what it should.
    pub(crate) fn becomes_ready(&mut self, key: &Key) {
        let proven = self.objects.contains_key(&self::key("Secret", &key.name));
        let Some(object) = self.objects.get_mut(key) else { return };
        match key.kind.as_str() {
            "Deployment" | "StatefulSet" => {
                object["status"] = kubelet::ready(object);
                if key.name.ends_with("ai-service") && object["seeded"].is_null() && self.gate_runs == 0 {
                    object["seeded"] = json!(true);
                    self.enabled_rules = 45;
                }
            }
            // A kubelet starts no pod whose Secrets aren't there.
            "Job" if key.name.contains("-login-") && !proven => {}
            "Job" if key.name.contains("-check-") => self.check_ends(key),
            "Job" => {
                let report = match key.name.as_str() {
                    name if name.contains("-login-") => self.login.clone(),
                    name if name.contains("-plan-") => self.plan.clone(),
                    name if name.contains("-bootstrap-") => self.bootstrap.clone(),
                    _ => self.report.clone(),
                };
                let how = if report.contains("Refused") { "Failed" } else { "Complete" };
                object["status"] = kubelet::ended(how, &self.now.to_string());
                let pod = job_pod(key, object, &report);
                self.objects.insert(self::key("Pod", &format!("{}-pod", key.name)), pod);
            }
            _ => {}
        }
    }

    /// The image says how a check ends: `slow` doesn't, `bad` fails.
    fn check_ends(&mut self, key: &Key) {
        let now = self.now.to_string();
        let Some(job) = self.objects.get_mut(key).filter(|job| job["status"].is_null()) else { return };
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap_or_default().to_owned();
        let (how, code, says) = match &image {
            image if image.contains("slow") => return,
            image if image.contains("bad") => ("Failed", 1, "the login page\n answered 502"),
            _ => ("Complete", 0, "12 pages are well"),
        };
        job["status"] = kubelet::ended(how, &now);
        let mut pod = job_pod(key, job, says);
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] = json!(code);
        self.objects.insert(self::key("Pod", &format!("{}-pod", key.name)), pod);
    }

    /// The Job with the highest name.
    pub(crate) fn newest_job(&self) -> Key {
        self.objects.keys().filter(|key| key.kind == "Job").max().cloned().unwrap_or_else(|| key("Job", ""))
    }

    /// Status of a condition.
    pub(crate) fn condition(&self, kind: &str) -> Option<&str> {
        let conditions = &self.stack.status.as_ref()?.conditions;
        conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
    }

    /// Reason and message of a condition.
    pub(crate) fn words(&self, kind: &str) -> (String, String) {
        let conditions = self.stack.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .map(|condition| (condition.reason.clone(), condition.message.clone()))
            .unwrap_or_default()
    }

    /// True when the object exists.
    pub(crate) fn has(&self, kind: &str, suffix: &str) -> bool {
        self.objects.contains_key(&key(kind, &format!("{STACK}-{suffix}")))
    }

    /// Revision label of a workload.
    pub(crate) fn revision(&self, kind: &str, suffix: &str) -> Option<&str> {
        let object = self.objects.get(&key(kind, &format!("{STACK}-{suffix}")))?;
        object["metadata"]["labels"]["odoo-ai.atmatasolutions.com/revision"].as_str()
    }

    fn write(&mut self, intent: &Intent) -> Result<(), Crash> {
        let key = intent.key();
        let old = self.objects.get(&key);
        let same = old.is_some_and(|old| {
            intent.mode == Mode::CreateOnly || odoo_ai_operator::cluster::covers::covers(old, &intent.object)
        });
        if same {
            return Ok(());
        }
        self.count(key.to_string())?;
        let mut object = intent.object.clone();
        let old = self.objects.get(&key).cloned().unwrap_or_default();
        self.uids += usize::from(old.is_null());
        object["metadata"]["uid"] =
            if old.is_null() { json!(format!("uid-{}", self.uids)) } else { old["metadata"]["uid"].clone() };
        if key.kind == "Job" && key.name.contains("-check-") {
            object["metadata"]["creationTimestamp"] = json!(self.now.to_string());
        }
        object["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        for kept in ["status", "seeded", "data"] {
            if object.get(kept).is_none() && old.get(kept).is_some() {
                object[kept] = old[kept].clone();
            }
        }
        self.objects.insert(key, object);
        Ok(())
    }

    fn write_status(&mut self, status: OdooAiStackStatus) -> Result<(), Crash> {
        if self.stack.status.as_ref() == Some(&status) {
            return Ok(());
        }
        self.count("Status".to_owned())?;
        self.stack.status = Some(status);
        Ok(())
    }

    /// The operator may die just before the write that the test chose.
    fn count(&mut self, what: String) -> Result<(), Crash> {
        if self.crash_after == Some(self.writes.len()) {
            self.crash_after = None;
            return Err(Crash);
        }
        self.writes.push(what);
        Ok(())
    }
}

/// Values as a Secret's `data` has them.
fn encoded(values: &Value) -> Value {
    let values = values.as_object().expect("a map of texts");
    let encode = |value: &Value| ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec());
    values.iter().map(|(key, value)| (key.clone(), json!(encode(value)))).collect()
}

/// Key of an object of the test's namespace.
pub(crate) fn key(kind: &str, name: &str) -> Key {
    Key { kind: kind.to_owned(), namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

/// A finished pod of a Job with its termination message.
pub(crate) fn job_pod(key: &Key, job: &Value, message: &str) -> Value {
    kubelet::job_pod(&key.name, job, message)
}

fn typed<K: serde::de::DeserializeOwned>(value: &Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value.clone()).expect("an object of its kind"))
}
