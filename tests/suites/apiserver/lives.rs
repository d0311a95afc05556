//! A whole stack, reconciled by the operator's own functions: what it leaves behind, what it finds,
//! and what is refused to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Secret, Service};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::stack::stage;
use crate::stage::Stage;

async fn owners(stage: &Stage) -> Result<BTreeSet<String>> {
    let owners = stage.children().await?.into_iter().flat_map(|child| child.owner_references().to_vec());
    Ok(owners.filter(|owner| owner.kind == "OdooAiStack").map(|owner| owner.uid).collect())
}

/// `kubectl replace --force`: the garbage collector comes while the new stack is reconciled.
#[tokio::test]
async fn a_stack_that_was_deleted_and_made_anew_keeps_its_data() -> Result<()> {
    let (stage, _) = stage("anew", |_| {}).await?;
    stage.run_to_the_end().await?;
    let secrets = |secrets: Vec<Secret>| -> Vec<_> {
        let kept = secrets.into_iter().filter(|secret| secret.owner_references().is_empty());
        kept.map(|secret| (secret.name_any(), secret.uid(), secret.data)).collect()
    };
    let before = secrets(stage.ours().await?);
    assert_eq!(before.len(), 5);
    let asked = stage.asked.load(Ordering::Relaxed);
    assert_ne!(asked, 0, "the rules of a new database are off");
    let again = stage.replace().await?;
    assert!(stage.reconcile().await.is_err());
    let ready = stage.condition("Ready").await?;
    assert!(ready.contains("of a deleted stack of this name is still being removed"), "{ready}");
    assert!(stage.condition("Stalled").await?.starts_with("False"), "it goes by itself");
    stage.collect_garbage().await?;
    stage.run_to_the_end().await?;
    assert_eq!(stage.collect_garbage().await?, Vec::<String>::new(), "nothing hangs on the old stack");
    assert_eq!(owners(&stage).await?, BTreeSet::from([again.uid().context("a UID")?]));
    assert_eq!(stage.asked.load(Ordering::Relaxed), asked, "what people made of the rules stays");
    assert_eq!(secrets(stage.ours().await?), before);
    assert_eq!(stage.ours::<PersistentVolumeClaim>().await?.len(), 2);
    assert_eq!(stage.ours::<Deployment>().await?.len(), 3);
    assert_eq!(stage.ours::<ControllerRevision>().await?.len(), 3);
    Ok(())
}

/// The predecessor's Job says of another time that the database was empty and its rules seeded.
#[tokio::test]
async fn the_job_of_a_deleted_predecessor_is_not_believed() -> Result<()> {
    let (stage, _) = stage("belief", |_| {}).await?;
    stage.run_to_the_end().await?;
    stage.replace().await?;
    for _ in 0..3 {
        // What the predecessor left is waited for.
        let _ = stage.reconcile().await;
    }
    let status = stage.stack().await?.status.unwrap_or_default();
    let entry = status.history.first().context("an entry")?;
    assert_eq!(entry.schema_heads, Vec::<String>::new(), "no Job of this stack has run yet");
    assert!(status.rules.is_none_or(|rules| !rules.seeded_disabled), "the rules of a database with data were changed");
    Ok(())
}

/// What is left, by kind, when a stack is gone and the garbage collector was there.
async fn left(stage: &Stage) -> Result<Vec<String>> {
    stage.delete().await?;
    stage.collect_garbage().await?;
    let children = stage.children().await?;
    // The protection of claims waits for a controller that isn't there.
    let left = children.iter().filter(|child| child.metadata.deletion_timestamp.is_none());
    let kinds = left.filter_map(|child| Some(child.types.as_ref()?.kind.clone()));
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort();
    Ok(kinds)
}

const DATA: [&str; 7] =
    ["PersistentVolumeClaim", "PersistentVolumeClaim", "Secret", "Secret", "Secret", "Secret", "Secret"];

#[tokio::test]
async fn data_and_keys_outlive_the_stack_and_nothing_else_does() -> Result<()> {
    let (stage, _) = stage("outlive", |_| {}).await?;
    stage.run_to_the_end().await?;
    assert_eq!(left(&stage).await?, DATA);
    Ok(())
}

#[tokio::test]
async fn data_and_keys_go_with_the_stack_only_as_long_as_it_says_so() -> Result<()> {
    let deletion = |policy: &str| json!({"database": {"managed": {"deletionPolicy": policy}}});
    let (first, _) =
        stage("delete", |stack| stack["spec"]["database"]["managed"]["deletionPolicy"] = json!("Delete")).await?;
    first.run_to_the_end().await?;
    // Changing one's mind is a change of owners, also for Secrets that were created once.
    first.edit(&deletion("Retain")).await?;
    first.run_to_the_end().await?;
    assert_eq!(left(&first).await?, DATA);
    let (second, _) = stage("retain", |_| {}).await?;
    second.run_to_the_end().await?;
    second.edit(&deletion("Delete")).await?;
    second.run_to_the_end().await?;
    assert_eq!(left(&second).await?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_quota_that_refuses_is_named_and_waited_for() -> Result<()> {
    let (stage, _) = stage("quota", |_| {}).await?;
    let hard = json!({"count/statefulsets.apps": "1"});
    let quota = json!({"metadata": {"name": "small"}, "spec": {"hard": hard}});
    let quotas = stage.api::<ResourceQuota>();
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    let status = Patch::Merge(json!({"status": {"hard": hard, "used": {"count/statefulsets.apps": "0"}}}));
    quotas.patch_status("small", &PatchParams::default(), &status).await?;
    let mut last = Ok(());
    for _ in 0..4 {
        last = stage.reconcile().await;
    }
    assert!(last.is_err());
    let ready = stage.condition("Ready").await?;
    assert!(ready.starts_with("False Forbidden StatefulSet quota/odoo-ai-redis"), "{ready}");
    assert!(ready.contains("exceeded quota: small"), "{ready}");
    assert!(stage.condition("Stalled").await?.starts_with("False"), "it may go away");
    quotas.delete("small", &DeleteParams::default()).await?;
    stage.run_to_the_end().await
}

#[tokio::test]
async fn a_foreign_object_stalls_the_stack_and_says_which() -> Result<()> {
    let (stage, _) = stage("taken", |_| {}).await?;
    let service = json!({"metadata": {"name": "odoo-ai-redis"}, "spec": {"ports": [{"port": 1}]}});
    let services = stage.api::<Service>();
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let mut last = Ok(());
    for _ in 0..4 {
        last = stage.reconcile().await;
    }
    assert!(last.is_err());
    let stalled = stage.condition("Stalled").await?;
    assert!(stalled.starts_with("True NameConflict Service taken/odoo-ai-redis exists"), "{stalled}");
    services.delete("odoo-ai-redis", &DeleteParams::default()).await?;
    stage.run_to_the_end().await?;
    assert!(stage.condition("Stalled").await?.starts_with("False"));
    assert_eq!(stage.api::<Secret>().list(&ListParams::default()).await?.items.len(), 9);
    Ok(())
}

/// Within the bounds of the schema, and yet more than the API server keeps in one object, or Linux
/// passes to a process.
#[tokio::test]
async fn inputs_that_are_too_large_are_named_before_anything_is_done() -> Result<()> {
    let (stage, _) = stage("large", |stack| {
        let env = (0..64).map(|number| json!({"name": format!("LARGE_{number}"), "value": "x".repeat(8192)}));
        stack["spec"]["env"] = env.collect();
    })
    .await?;
    let stalled = stalled(&stage).await?;
    assert!(stalled.starts_with("True InvalidSpec env and envFrom make pod templates of "), "{stalled}");
    assert_eq!(stage.ours::<Job>().await?.len(), 0);

    for secret in ["one", "two"] {
        let values = (0..7).map(|number| (format!("{secret}_{number}"), "x".repeat(100_000)));
        let data: BTreeMap<_, _> = values.collect();
        let secret = json!({"metadata": {"name": secret}, "stringData": data});
        stage.api::<Secret>().create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
    }
    let sources = json!([{"secretRef": {"name": "one"}}, {"secretRef": {"name": "two"}}]);
    stage.edit(&json!({"env": null, "envFrom": sources})).await?;
    let stalled = self::stalled(&stage).await?;
    assert!(stalled.contains("from Secrets and envFrom have 14"), "{stalled}");

    stage.edit(&json!({"envFrom": [{"secretRef": {"name": "one"}}]})).await?;
    let long = json!({"stringData": {"one_3": "x".repeat(200_000)}});
    stage.api::<Secret>().patch("one", &PatchParams::default(), &Patch::Merge(long)).await?;
    let stalled = self::stalled(&stage).await?;
    assert!(stalled.contains("variable one_3 has 200005 bytes and Linux passes at most"), "{stalled}");
    assert_eq!(stage.ours::<Job>().await?.len(), 0);

    stage.edit(&json!({"envFrom": null})).await?;
    stage.run_to_the_end().await
}

async fn stalled(stage: &Stage) -> Result<String> {
    for _ in 0..4 {
        stage.reconcile().await?;
        stage.perform().await?;
    }
    stage.condition("Stalled").await
}
