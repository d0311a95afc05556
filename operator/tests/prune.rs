//! What is deleted, and above all what isn't: tables over the two plans, and a stack that goes
//! through many revisions.

mod sim;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use odoo_ai_crds::stack::{ComponentStatus, OdooAiStackStatus, RevisionHistory};
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::cluster::delete::Doomed;
use odoo_ai_operator::component::{ALL, Component, ComponentExt};
use odoo_ai_operator::labels::{self, REVISION};
use odoo_ai_operator::rollout::revision::{self, Stored};
use odoo_ai_operator::rollout::trim;
use odoo_ai_operator::stack::build::application::copy_name;
use odoo_ai_operator::stack::decide::Decision;
use odoo_ai_operator::stack::model::Stack;
use odoo_ai_operator::stack::prune;
use rstest::rstest;
use serde_json::{Value, json};
use sim::{STACK, World, key};

/// The accepted local sample, with a history of three.
fn stack() -> Stack {
    static ACCEPTED: LazyLock<Stack> = LazyLock::new(accepted);
    ACCEPTED.clone()
}

fn accepted() -> Stack {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.revision_history_limit = Some(3));
    world.run_to_the_end();
    let Ok(Decision::Roll(roll)) = world.reconcile(false) else { panic!("a settled stack rolls") };
    roll.base.stack
}

/// A child of [`stack`], changed by `metadata` (a merge).
fn child(name: &str, component: &str, metadata: &Value) -> Value {
    let mut object = json!({"metadata": {
        "name": format!("odoo-ai-{name}"), "namespace": "odoo-ai", "uid": format!("uid of {name}"), "resourceVersion": "7",
        "labels": labels::child("odoo-ai", component),
        "ownerReferences": [owner("OdooAiStack", "uid-of-stack")],
    }});
    merge(&mut object["metadata"], metadata);
    object
}

fn owner(kind: &str, uid: &str) -> Value {
    json!({"apiVersion": "x/v1", "kind": kind, "name": "odoo-ai", "uid": uid, "controller": true})
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        if value.is_object() && into[key].is_object() {
            merge(&mut into[key], value);
        } else {
            into[key] = value.clone();
        }
    }
}

fn add(children: &mut Children, kind: &str, object: &Value) {
    fn typed<K: serde::de::DeserializeOwned>(object: &Value) -> Arc<K> {
        Arc::new(serde_json::from_value(object.clone()).expect("an object of its kind"))
    }
    let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
    match kind {
        "Deployment" => drop(children.deployments.insert(name, typed::<Deployment>(object))),
        "StatefulSet" => drop(children.stateful_sets.insert(name, typed::<StatefulSet>(object))),
        "Job" => drop(children.jobs.insert(name, typed::<Job>(object))),
        "Pod" => drop(children.pods.insert(name, typed::<Pod>(object))),
        _ => {
            let meta = serde_json::from_value(object["metadata"].clone()).expect("metadata");
            children.metadata.insert(key(kind, &name), meta);
        }
    }
}

fn names(doomed: Vec<Doomed>) -> Vec<String> {
    doomed.into_iter().map(|it| format!("{} {}", it.key.kind, it.key.name.trim_start_matches("odoo-ai-"))).collect()
}

#[rstest]
#[case::deployment("Deployment", json!({}), true)]
#[case::stateful_set("StatefulSet", json!({}), true)]
#[case::service("Service", json!({}), true)]
#[case::account("ServiceAccount", json!({}), true)]
#[case::policy("NetworkPolicy", json!({}), true)]
#[case::budget("PodDisruptionBudget", json!({}), true)]
#[case::volume("PersistentVolumeClaim", json!({}), false)]
#[case::secret("Secret", json!({}), false)]
#[case::config("ConfigMap", json!({}), false)]
#[case::job("Job", json!({}), false)]
#[case::revision("ControllerRevision", json!({}), false)]
#[case::another_owner("Service", json!({"ownerReferences": [owner("OdooAiStack", "another")]}), false)]
#[case::no_owner("Service", json!({"ownerReferences": null}), false)]
#[case::no_controller("Service", json!({"ownerReferences": [{"apiVersion": "x/v1", "kind": "OdooAiStack", "name": "odoo-ai", "uid": "uid-of-stack"}]}), false)]
#[case::second_owner("Service", json!({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}, owner("OdooAiStack", "uid-of-stack")]}), true)]
#[case::another_stack("Service", json!({"labels": {"odoo-ai.atmatasolutions.com/stack": "another"}}), false)]
#[case::going("Service", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), false)]
fn only_what_is_ours_and_holds_no_data_is_pruned(#[case] kind: &str, #[case] metadata: Value, #[case] goes: bool) {
    let (stack, mut children) = (stack(), Children::default());
    add(&mut children, kind, &child("old", "old", &metadata));
    let doomed = prune::plan(&stack, &children, &[], true);
    if let Some(doomed) = doomed.first() {
        assert_eq!((doomed.uid.as_str(), doomed.resource_version.as_deref()), ("uid of old", Some("7")));
    }
    assert_eq!(names(doomed), if goes { vec![format!("{kind} old")] } else { vec![] });
}

/// Its templates may be gone, or no step may have reached it: nothing was built, and yet it runs.
#[test]
fn a_component_for_which_nothing_was_built_stays() {
    let (stack, mut children) = (stack(), Children::default());
    for component in ALL {
        add(&mut children, component.kind(), &child(component.name(), component.name(), &json!({})));
    }
    assert_eq!(names(prune::plan(&stack, &children, &[], true)), Vec::<String>::new());
}

const LIMIT: [&str; 4] = ["ControllerRevision r1", "ControllerRevision r2", "Secret config-r1", "Secret config-r2"];

/// Five revisions, each with its copy; the status knows the last three.
fn five() -> (OdooAiStackStatus, Children) {
    let mut children = Children::default();
    for number in 1..=5 {
        let metadata = json!({
            "labels": {REVISION: format!("r{number}")}, "creationTimestamp": format!("2026-01-0{number}T00:00:00Z"),
        });
        add(&mut children, "ControllerRevision", &child(&format!("r{number}"), "application", &metadata));
        add(&mut children, "Secret", &child(&format!("config-r{number}"), "application", &metadata));
    }
    let status = OdooAiStackStatus {
        current_revision: Some("r5".to_owned()),
        history: ["r5", "r4", "r3"].map(entry).to_vec(),
        ..OdooAiStackStatus::default()
    };
    (status, children)
}

fn entry(revision: &str) -> RevisionHistory {
    RevisionHistory { revision: revision.to_owned(), ..RevisionHistory::default() }
}

fn trimmed(status: &OdooAiStackStatus, children: &Children) -> Vec<String> {
    names(trim::plan(&stack(), status, std::iter::empty(), true, children, &stored(&[])))
}

/// What is stored of the five: each revision brings in all, but for those of which `carried` says that they
/// keep a component's template of an older one.
fn stored(carried: &[(&str, &str)]) -> BTreeMap<String, Arc<Stored>> {
    let template = |revision: &str| {
        let reference = json!({"name": copy_name(STACK, revision), "key": "shared.A"});
        let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": reference}}]);
        let spec = json!({"containers": [{"name": "main", "env": env}]});
        let template = json!({"metadata": {"labels": {REVISION: revision}}, "spec": spec});
        serde_json::from_value::<PodTemplateSpec>(template).expect("a template")
    };
    let stored = |number: i64| {
        let own = format!("r{number}");
        let older = carried.iter().filter(|(revision, _)| *revision == own);
        let mut templates = BTreeMap::from([("dashboard".to_owned(), template(&own))]);
        templates.extend(older.map(|(_, older)| ("worker".to_owned(), template(older))));
        (revision::name(STACK, &own), Arc::new(Stored::new(json!({}), templates)))
    };
    (1..=5).map(stored).collect()
}

#[test]
fn what_a_kept_revision_still_runs_of_an_older_one_stays() {
    let (status, children) = five();
    let trimmed = |stored| names(trim::plan(&stack(), &status, std::iter::empty(), true, &children, &stored));
    assert_eq!(trimmed(stored(&[("r4", "r1")])), [LIMIT[0], LIMIT[1], LIMIT[3]]);
    assert_eq!(trimmed(stored(&[("r2", "r1")])), LIMIT, "r2 goes too");
    let mut unread = stored(&[]);
    unread.remove(&revision::name(STACK, "r4"));
    assert!(trimmed(unread).is_empty(), "it isn't known what r4 refers to");
}

#[test]
fn what_history_forgot_goes_with_its_copy() {
    let (status, children) = five();
    assert_eq!(trimmed(&status, &children), LIMIT);
}

#[rstest]
#[case::current(|status: &mut OdooAiStackStatus| status.current_revision = Some("r1".to_owned()))]
#[case::update(|status: &mut OdooAiStackStatus| status.update_revision = Some("r1".to_owned()))]
#[case::failed(|status: &mut OdooAiStackStatus| status.failed_revision = Some("r1".to_owned()))]
#[case::component(|status: &mut OdooAiStackStatus| status.components = vec![ComponentStatus {
    name: Component::Beat, ready: 1, desired: 1, image: None, image_id: None, revision: Some("r1".to_owned()),
}])]
fn what_the_status_names_stays(#[case] change: fn(&mut OdooAiStackStatus)) {
    let (mut status, children) = five();
    change(&mut status);
    assert_eq!(trimmed(&status, &children), [LIMIT[1], LIMIT[3]]);
}

#[test]
fn what_a_component_is_about_to_run_stays() {
    let (status, children) = five();
    let runs = BTreeMap::from([(Component::Worker, "r1".to_owned())]);
    assert_eq!(
        names(trim::plan(&stack(), &status, runs.values().map(String::as_str), true, &children, &stored(&[]))),
        [LIMIT[1], LIMIT[3]]
    );
}

fn ended(condition: &str) -> Value {
    json!({"conditions": [{"type": condition, "status": "True"}]})
}

#[rstest]
#[case::workload("Deployment", json!({}), json!({}), true)]
#[case::set("StatefulSet", json!({}), json!({}), true)]
#[case::pod("Pod", json!({}), json!({"phase": "Running"}), true)]
#[case::pod_that_is_new("Pod", json!({}), json!({}), true)]
#[case::pod_that_terminates("Pod", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), json!({"phase": "Running"}), true)]
#[case::pod_that_ended("Pod", json!({}), json!({"phase": "Succeeded"}), false)]
#[case::pod_that_was_evicted("Pod", json!({}), json!({"phase": "Failed"}), false)]
#[case::job("Job", json!({}), json!({"active": 1}), true)]
#[case::job_that_is_new("Job", json!({}), json!({}), true)]
#[case::job_that_ended("Job", json!({}), ended("Complete"), false)]
#[case::job_that_failed("Job", json!({}), ended("Failed"), false)]
fn what_still_runs_stays(#[case] kind: &str, #[case] metadata: Value, #[case] state: Value, #[case] stays: bool) {
    let (status, mut children) = five();
    let mut object = child("old", "ai-service", &json!({"labels": {REVISION: "r1"}}));
    merge(&mut object["metadata"], &metadata);
    object["status"] = state;
    add(&mut children, kind, &object);
    let expected = if stays { vec![LIMIT[1], LIMIT[3]] } else { LIMIT.to_vec() };
    assert_eq!(trimmed(&status, &children), expected);
}

/// A status can be lost; then the newest are kept, as many as history has room for.
#[test]
fn what_no_history_knows_is_kept_within_the_limit() {
    let (mut status, children) = five();
    status.history = vec![entry("r5")];
    assert_eq!(trimmed(&status, &children), LIMIT);
    status.history = vec![entry("r5"), entry("r4")];
    assert_eq!(trimmed(&status, &children), LIMIT);
    status.history = vec![entry("r1")];
    status.current_revision = Some("r1".to_owned());
    assert_eq!(
        trimmed(&status, &children),
        ["ControllerRevision r2", "ControllerRevision r3", "Secret config-r2", "Secret config-r3"]
    );
}

#[rstest]
// Operators made the stored revision the owner once.
#[case::owned_by_its_revision("Secret", "config-r1", json!({"ownerReferences": [owner("ControllerRevision", "uid of r1")]}), true)]
#[case::owned_by_a_revision_that_is_gone("Secret", "config-r1", json!({"ownerReferences": [owner("ControllerRevision", "uid of r0")]}), false)]
#[case::of_nobody("Secret", "config-r1", json!({"ownerReferences": null}), false)]
#[case::of_another("Secret", "config-r1", json!({"ownerReferences": [owner("ReplicaSet", "x")]}), false)]
#[case::without_a_label("Secret", "config-r1", json!({"labels": {REVISION: null}}), false)]
#[case::of_another_stack("Secret", "config-r1", json!({"labels": {labels::STACK: "another"}}), false)]
#[case::revision_of_another("ControllerRevision", "r1", json!({"ownerReferences": [owner("StatefulSet", "x")]}), false)]
#[case::revision_of_another_component("ControllerRevision", "r1", json!({"labels": {labels::COMPONENT: "beat"}}), false)]
#[case::going("ControllerRevision", "r1", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), false)]
fn only_our_own_is_trimmed(#[case] kind: &str, #[case] name: &str, #[case] metadata: Value, #[case] goes: bool) {
    let (status, mut children) = five();
    let mut object = child(name, "application", &json!({"labels": {REVISION: "r1"}}));
    merge(&mut object["metadata"], &metadata);
    if object["metadata"]["labels"][REVISION].is_null() {
        object["metadata"]["labels"].as_object_mut().expect("labels").remove(REVISION);
    }
    add(&mut children, kind, &object);
    assert_eq!(trimmed(&status, &children).contains(&format!("{kind} {name}")), goes);
}

/// With `deletionPolicy: Delete` the stack owns them, too.
#[test]
fn generated_secrets_are_never_trimmed() {
    let (status, mut children) = five();
    for name in ["revision-key", "database-credentials", "config-other"] {
        add(&mut children, "Secret", &child(name, "stack", &json!({"labels": {REVISION: "r1"}})));
    }
    assert_eq!(trimmed(&status, &children), LIMIT);
}

#[rstest]
#[case::settled(true, &["ControllerRevision postgresql-0000000000"])]
#[case::rolling(false, &[])]
fn templates_of_servers_go_when_all_pods_run_the_new_one(#[case] settled: bool, #[case] expected: &[&str]) {
    let mut world = World::new();
    world.run_to_the_end();
    let Ok(Decision::Roll(roll)) = world.reconcile(false) else { panic!("a settled stack rolls") };
    let mut children = Children::default();
    for (key, object) in world.objects.iter().filter(|(key, _)| key.kind == "ControllerRevision") {
        add(&mut children, &key.kind, object);
    }
    assert_eq!(children.metadata.len(), 3);
    add(&mut children, "ControllerRevision", &child("postgresql-0000000000", "server-template", &json!({})));
    let runs = roll.base.runs.values().map(|runs| runs.revision.as_str());
    let doomed = trim::plan(&roll.base.stack, &roll.status, runs, settled, &children, &world.observe().stored);
    assert_eq!(names(doomed), expected);
}

#[test]
fn many_revisions_leave_as_many_as_the_limit_says() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.revision_history_limit = Some(3));
    world.run_to_the_end();
    for number in 0..6 {
        world.edit(|stack| stack.spec.ai.model = Some(format!("model-{number}")));
        world.run_to_the_end();
        let of = |kind: &str, part: &str| {
            let named = |name: &str| name.starts_with(part);
            world.objects.keys().filter(|key| key.kind == kind && named(&key.name)).count()
        };
        let wanted = (number + 2).min(3);
        assert_eq!(of("Secret", "odoo-ai-config-"), wanted, "copies after {number}");
        assert_eq!(of("ControllerRevision", ""), wanted + 2, "revisions after {number}");
        assert_eq!(world.stack.status.as_ref().map(|status| status.history.len()), Some(wanted));
    }
    let mut numbers: Vec<_> = world.objects.iter().filter(|(key, _)| key.kind == "ControllerRevision").collect();
    numbers.sort_by_key(|(_, object)| object["revision"].as_i64());
    let numbers: Vec<_> = numbers.into_iter().filter_map(|(_, object)| object["revision"].as_i64()).collect();
    assert_eq!(numbers, [1, 1, 6, 7, 8], "each is newer than all that there are");
}

#[test]
fn a_budget_comes_and_goes_with_the_second_pod() {
    let mut world = World::new();
    world.run_to_the_end();
    assert!(!world.has("PodDisruptionBudget", "worker"));
    world.edit(|stack| stack.spec.worker.replicas = Some(2));
    world.run_to_the_end();
    assert!(world.has("PodDisruptionBudget", "worker") && !world.has("PodDisruptionBudget", "ai-service"));
    world.edit(|stack| stack.spec.worker.replicas = Some(1));
    world.run_to_the_end();
    assert!(!world.has("PodDisruptionBudget", "worker"));
    assert!(world.has("Deployment", "worker") && world.has("NetworkPolicy", "pods"));
}

/// Wherever the operator dies, the next one finds the rest: nothing is left and nothing is missing.
#[test]
fn a_crash_at_any_write_or_deletion_leaves_the_same() {
    let mut before = World::new();
    before.edit(|stack| {
        stack.spec.rollout.revision_history_limit = Some(1);
        stack.spec.worker.replicas = Some(2);
    });
    before.run_to_the_end();
    let end = |crash: Option<usize>| {
        let mut world = before.clone();
        world.edit(|stack| {
            stack.spec.ai.model = Some("other".to_owned());
            stack.spec.worker.replicas = Some(1);
        });
        world.crash_after = crash.map(|writes| world.writes.len() + writes);
        world.run_to_the_end();
        // A reconcile that dies before its only write looks like a settled one.
        world.settle();
        let deleted = world.writes.iter().filter(|line| line.starts_with("delete")).count();
        (world.objects.keys().cloned().collect::<Vec<_>>(), deleted, world.crash_after.is_some())
    };
    let (wanted, deleted, _) = end(None);
    assert_eq!(deleted, 3, "a budget, a revision and its copy");
    let survived =
        (0..).map(|crash| end(Some(crash))).take_while(|(_, _, unused)| !unused).inspect(|(objects, deletions, _)| {
            assert_eq!((objects, *deletions), (&wanted, deleted));
        });
    assert!(survived.count() > 10);
}
