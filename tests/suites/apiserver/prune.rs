//! What the operator deletes on a real API server, and what it leaves alone.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use odoo_ai_operator::cluster::delete::{Doomed, delete};
use odoo_ai_operator::labels;
use serde_json::json;

use crate::leftovers::leave_behind;
use crate::room::{Room, UID};
use crate::stack::{costs_nothing, stage};
use crate::stage::Stage;

fn names<K: ResourceExt>(objects: &[K]) -> BTreeSet<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn policies_name_who_may_talk_to_whom() -> Result<()> {
    let (stage, requests) = stage("policies", |_| {}).await?;
    // Pods start behind them.
    stage.reconcile().await?;
    stage.reconcile().await?;
    let found = stage.ours::<NetworkPolicy>().await?;
    let wanted = ["ai-service", "beat", "dashboard", "pods", "postgresql", "redis"].map(|of| format!("odoo-ai-{of}"));
    assert_eq!(names(&found), BTreeSet::from(wanted));
    assert_eq!(stage.ours::<Deployment>().await?.len(), 0);
    // Somebody opens the database to everybody: that is drift, although all of ours is still there.
    stage.run_to_the_end().await?;
    let api = stage.api::<NetworkPolicy>();
    let open = json!([
        {"op": "add", "path": "/spec/ingress/0/ports/-", "value": {"port": 22, "protocol": "TCP"}},
        {"op": "add", "path": "/spec/ingress/0/from/-", "value": {"namespaceSelector": {}}},
    ]);
    let open = Patch::Json::<()>(serde_json::from_value(open)?);
    let before = api.get("odoo-ai-postgresql").await?.spec;
    let opened = api.patch("odoo-ai-postgresql", &PatchParams::default(), &open).await?;
    assert_ne!(opened.spec, before);
    requests.take();
    stage.reconcile().await?;
    let writes: Vec<_> = requests.writes().into_iter().filter(|line| line.contains("networkpolicies")).collect();
    assert_eq!(writes, ["patch networkpolicies odoo-ai-postgresql"]);
    assert_eq!(api.get("odoo-ai-postgresql").await?.spec, before);
    Ok(())
}

#[tokio::test]
async fn a_budget_comes_and_goes_with_the_second_pod() -> Result<()> {
    let (mut stage, requests) = stage("budget", |_| {}).await?;
    stage.run_to_the_end().await?;
    for (replicas, wanted) in [(2, vec!["odoo-ai-worker"]), (1, vec![]), (3, vec!["odoo-ai-worker"]), (1, vec![])] {
        stage.edit(&json!({"worker": {"replicas": replicas}})).await?;
        stage.run_to_the_end().await?;
        stage.reconcile().await?;
        let found = stage.ours::<PodDisruptionBudget>().await?;
        assert_eq!(names(&found), wanted.into_iter().map(str::to_owned).collect(), "{replicas} replicas");
    }
    let sent = requests.writes();
    let deleted: Vec<_> = sent.iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete poddisruptionbudgets odoo-ai-worker"; 2]);
    costs_nothing(&mut stage, &requests).await
}

fn another(owner: &OwnerReference) -> OwnerReference {
    OwnerReference { uid: "00000000-0000-4000-8000-00000000000f".to_owned(), ..owner.clone() }
}

#[tokio::test]
async fn only_what_the_stack_itself_owns_is_pruned() -> Result<()> {
    let (mut stage, requests) = stage("pruned", |_| {}).await?;
    stage.run_to_the_end().await?;
    let ours = stage.stack().await?.controller_owner_ref(&()).context("a UID")?;
    let no_controller = OwnerReference { controller: None, ..ours.clone() };
    let all = leave_behind(&stage, "ours", &ours).await?;
    leave_behind(&stage, "theirs", &another(&ours)).await?;
    leave_behind(&stage, "dependent", &no_controller).await?;
    requests.take();
    stage.reconcile().await?;
    let deleted: Vec<_> = requests.writes().into_iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(deleted.len(), all, "{deleted:?}");
    assert!(deleted.iter().all(|line| line.ends_with(" ours")), "{deleted:?}");
    let left = names(&stage.children().await?);
    assert!(!left.contains("ours") && left.contains("theirs") && left.contains("dependent"), "{left:?}");
    stage.reconcile().await?;
    costs_nothing(&mut stage, &requests).await
}

/// While it can't be known what the spec wants, nothing is deleted.
#[tokio::test]
async fn nothing_is_pruned_while_something_is_missing() -> Result<()> {
    let (stage, requests) = stage("missing", |_| {}).await?;
    stage.run_to_the_end().await?;
    let ours = stage.stack().await?.controller_owner_ref(&()).context("a UID")?;
    for (spec, back) in [
        (
            json!({"ai": {"apiKeySecretRef": {"name": "absent"}}}),
            json!({"ai": {"apiKeySecretRef": {"name": "anthropic"}}}),
        ),
        (json!({"suspend": true}), json!({"suspend": false})),
    ] {
        stage.edit(&spec).await?;
        leave_behind(&stage, "ours", &ours).await?;
        requests.take();
        for _ in 0..3 {
            stage.reconcile().await?;
        }
        let deleted: Vec<_> = requests.writes().into_iter().filter(|line| line.starts_with("delete")).collect();
        assert_eq!(deleted, Vec::<String>::new(), "{spec}");
        stage.edit(&back).await?;
        stage.run_to_the_end().await?;
        stage.reconcile().await?;
        assert!(!names(&stage.children().await?).contains("ours"), "{spec}");
    }
    Ok(())
}

/// A pod of `revision` that takes its time to end.
async fn pod_of(stage: &Stage, revision: &str) -> Result<()> {
    let mut labels = labels::child(&stage.name, "worker");
    labels.insert(labels::REVISION.to_owned(), revision.to_owned());
    let container = json!({
        "name": "a", "image": "a",
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let security = json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    let pod = json!({
        "metadata": {"name": "slow", "labels": labels, "finalizers": ["example.com/slow"]},
        "spec": {"containers": [container], "securityContext": security},
    });
    let pods = stage.api::<Pod>();
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    pods.delete("slow", &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn fifteen_revisions_leave_what_the_limit_says_and_what_a_pod_runs() -> Result<()> {
    const LIMIT: usize = 4;
    let (mut stage, requests) =
        stage("fifteen", |stack| stack["spec"]["rollout"]["revisionHistoryLimit"] = json!(LIMIT)).await?;
    stage.run_to_the_end().await?;
    let first = stage.stack().await?.status.context("a status")?.current_revision.context("a revision")?;
    pod_of(&stage, &first).await?;
    let stored = || async {
        let all = stage.ours::<ControllerRevision>().await?;
        let revisions: BTreeSet<_> = all.iter().filter_map(|it| it.labels().get(labels::REVISION).cloned()).collect();
        let all = stage.ours::<Secret>().await?;
        let copies: BTreeSet<_> = all.iter().filter_map(|it| it.labels().get(labels::REVISION).cloned()).collect();
        assert_eq!(revisions, copies);
        anyhow::Ok(revisions)
    };
    let history = || async {
        let history = stage.stack().await?.status.unwrap_or_default().history;
        anyhow::Ok(history.into_iter().map(|entry| entry.revision).collect::<BTreeSet<_>>())
    };
    for number in 1..15 {
        stage.edit(&json!({"ai": {"model": format!("model-{number}")}})).await?;
        stage.run_to_the_end().await?;
        assert!(stored().await?.contains(&first), "revision {number}: a pod runs the first one");
        assert!(stored().await?.len() <= LIMIT + 2, "revision {number}");
    }
    stage.reconcile().await?;
    let mut wanted = history().await?;
    assert_eq!(wanted.len(), LIMIT);
    assert!(wanted.insert(first.clone()), "only a pod knows the first one");
    assert_eq!(stored().await?, wanted);
    let gone = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    stage.api::<Pod>().patch("slow", &PatchParams::default(), &gone).await?;
    stage
        .api::<Pod>()
        .delete("slow", &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
        .await
        .ok();
    stage.reconcile().await?;
    wanted.remove(&first);
    assert_eq!(stored().await?, wanted);
    assert_eq!(stage.ours::<ControllerRevision>().await?.len(), LIMIT + 2, "and the templates of the servers");
    stage.reconcile().await?;
    costs_nothing(&mut stage, &requests).await
}

/// Earlier operators made the stored revision the owner of its copy; that stays, and costs nothing.
#[tokio::test]
async fn a_copy_keeps_the_owner_that_it_has() -> Result<()> {
    let (mut stage, requests) =
        stage("keeps", |stack| stack["spec"]["rollout"]["revisionHistoryLimit"] = json!(1)).await?;
    stage.run_to_the_end().await?;
    let revision = stage.stack().await?.status.context("a status")?.current_revision.context("a revision")?;
    let (secrets, name) = (stage.api::<Secret>(), format!("odoo-ai-config-{revision}"));
    let stack = stage.stack().await?.controller_owner_ref(&()).context("a UID")?;
    assert_eq!(secrets.get(&name).await?.owner_references(), [OwnerReference { block_owner_deletion: None, ..stack }]);
    let stored = stage.api::<ControllerRevision>().get(&format!("odoo-ai-{revision}")).await?;
    let old = OwnerReference { block_owner_deletion: None, ..stored.controller_owner_ref(&()).context("a UID")? };
    let mut copy = secrets.get(&name).await?;
    copy.metadata.owner_references = Some(vec![old.clone()]);
    secrets.replace(&name, &PostParams::default(), &copy).await?;
    stage.reconcile().await?;
    assert_eq!(secrets.get(&name).await?.owner_references(), std::slice::from_ref(&old));
    stage.reconcile().await?;
    costs_nothing(&mut stage, &requests).await?;
    stage.edit(&json!({"logLevel": "Debug"})).await?;
    stage.run_to_the_end().await?;
    stage.reconcile().await?;
    assert!(secrets.get_opt(&name).await?.is_none(), "it goes with its revision");
    Ok(())
}

/// Between the decision and the deletion somebody is quicker.
#[tokio::test]
async fn what_is_not_what_was_seen_survives() -> Result<()> {
    let room = Room::new("survives").await?;
    let intent = room.service();
    let applier = room.applier();
    let doomed =
        || async { Doomed::new(ApiResource::erase::<Service>(&()), &room.seen(&intent).await?).context("alive") };
    room.apply(&applier, &intent).await?;
    let made_anew = doomed().await?;
    room.api(&intent).delete(&intent.name, &DeleteParams::default()).await?;
    applier.apply(&intent, None, UID).await?;
    assert!(!delete(&room.client, &made_anew).await?);
    assert!(!delete(&room.client, &Doomed { resource_version: None, ..made_anew }).await?, "another UID is enough");
    let changed = doomed().await?;
    room.edit(&intent, &json!({"metadata": {"ownerReferences": null}})).await?;
    assert!(!delete(&room.client, &changed).await?, "it may be theirs now");
    let seen = doomed().await?;
    assert!(delete(&room.client, &seen).await?);
    assert!(!delete(&room.client, &seen).await?, "it is gone");
    assert!(room.api(&intent).get_opt(&intent.name).await?.is_none());
    Ok(())
}
