//! The spec changes, or the stack goes, while a revision comes in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use odoo_ai_crds::stack::{OdooAiStack, RevisionResult, Step};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::fails::{current, image, settle, status};
use crate::credentials::{generation, taken_up};
use crate::migrations::look::approve;
use crate::room::{LABEL, Room, STACK, sample};

pub(super) async fn installs(room: &Room, cluster: &Cluster) -> Result<String> {
    if cluster.container().is_ok() {
        cluster.load_images(&["1.2.0-hung-start"].map(image)).await?;
    }
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(180).await?;
    Ok(String::new())
}

fn env(value: &str) -> Value {
    json!({"env": [{"name": "SOMETHING", "value": value}]})
}

pub(super) async fn at(room: &Room, step: Step) -> Result<String> {
    wait_for(&format!("step {step}"), Duration::from_secs(90), || async {
        let status = status(room).await?;
        let here = status.rollout.is_some_and(|rollout| rollout.step == Some(step));
        Ok(status.update_revision.filter(|_| here))
    })
    .await
}

/// No pod of `revision` is left, and its history says `result`.
async fn is_gone(room: &Room, revision: &str, result: RevisionResult) -> Result<()> {
    wait_for("the pods of the other revision to go", Duration::from_mins(1), || async {
        let pods = room.list::<Pod>().await?;
        let of = |pod: &Pod| pod.labels().get("odoo-ai.atmatasolutions.com/revision").is_some_and(|it| it == revision);
        Ok(pods.iter().all(|pod| !of(pod) || pod.labels().contains_key("batch.kubernetes.io/job-name")).then_some(()))
    })
    .await?;
    let history = status(room).await?.history;
    let entry = history.iter().find(|entry| entry.revision == revision).context("not in the history")?;
    ensure!(entry.result == Some(result), "the history says {entry:?}");
    Ok(())
}

/// One that never starts is superseded by one that does.
pub(super) async fn is_superseded(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": image("1.2.0-hung-start")}})).await?;
    let hung = at(room, Step::AiService).await?;
    let mut spec = env("1");
    spec["images"] = json!({"aiService": image("1.0.0")});
    // 1.2.0's schema is newer and additive.
    settle(room, spec).await?;
    is_gone(room, &hung, RevisionResult::Superseded).await?;
    Ok(String::new())
}

pub(super) async fn two_in_a_second(room: &Room) -> Result<String> {
    let old = current(room).await?;
    room.change(env("2")).await?;
    settle(room, env("3")).await?;
    let now = current(room).await?;
    ensure!(now != old, "no new revision");
    let runs = room.run("ai-service", &["printenv", "SOMETHING"]).await?;
    ensure!(runs.trim() == "3", "ai-service has {runs}");
    Ok(String::new())
}

pub(super) async fn back_to_what_runs(room: &Room) -> Result<String> {
    let (old, pod) = (current(room).await?, room.pod_of("worker").await?.uid());
    room.change(json!({"images": {"aiService": image("1.2.0-hung-start")}})).await?;
    let hung = at(room, Step::AiService).await?;
    settle(room, json!({"images": {"aiService": image("1.0.0")}})).await?;
    ensure!(current(room).await? == old, "it is another revision");
    ensure!(room.pod_of("worker").await?.uid() == pod, "the worker was replaced");
    is_gone(room, &hung, RevisionResult::Superseded).await?;
    Ok(String::new())
}

/// A revision that waits for its approval is no reason to leave anything else.
pub(super) async fn waits_while_others_change(room: &Room) -> Result<String> {
    let old = current(room).await?;
    settle(room, json!({"rollout": {"approval": "Manual"}})).await?;
    room.change(env("4")).await?;
    room.wait("AwaitingApproval", "True", "", 30).await?;
    let wanted = status(room).await?.update_revision.context("no updateRevision")?;
    room.change(json!({"dashboard": {"replicas": 2}})).await?;
    wait_for("two dashboards", Duration::from_mins(1), || async {
        let dashboard = room.api::<Deployment>().get(&format!("{STACK}-dashboard")).await?;
        Ok((dashboard.status.and_then(|it| it.ready_replicas) == Some(2)).then_some(()))
    })
    .await?;
    let before = generation(room).await?;
    let password = Patch::Merge(json!({"stringData": {"password": "an0ther-one"}}));
    room.api::<Secret>().patch(&format!("{STACK}-redis-credentials"), &PatchParams::default(), &password).await?;
    taken_up(room, before).await?;
    room.wait("AwaitingApproval", "True", "", 30).await?;
    ensure!(current(room).await? == old, "it came in without an approval");
    approve(room, &["revision"]).await?;
    room.wait_ready(180).await?;
    ensure!(current(room).await? == wanted, "something else came in");
    settle(room, json!({"rollout": {"approval": null}, "dashboard": {"replicas": null}})).await?;
    Ok(String::new())
}

/// Nothing is written while it is suspended; then the same rollout goes on.
pub(super) async fn is_suspended(room: &Room) -> Result<String> {
    room.change(env("5")).await?;
    let target = at(room, Step::AiService).await?;
    room.change(json!({"suspend": true})).await?;
    room.wait("Ready", "Unknown", "Suspended", 30).await?;
    let versions = || async {
        let mut all: Vec<_> =
            room.list::<Deployment>().await?.iter().map(|it| (it.name_any(), it.metadata.generation)).collect();
        all.extend(room.list::<StatefulSet>().await?.iter().map(|it| (it.name_any(), it.metadata.generation)));
        anyhow::Ok(all)
    };
    let before = versions().await?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    ensure!(versions().await? == before, "something was written");
    settle(room, json!({"suspend": null})).await?;
    ensure!(current(room).await? == target, "another revision came in");
    Ok(String::new())
}

/// Everything goes but the data, and nothing comes again.
pub(super) async fn is_deleted(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": image("1.2.0-hung-start")}})).await?;
    at(room, Step::AiService).await?;
    room.api::<OdooAiStack>().delete(STACK, &DeleteParams::default()).await?;
    let ours = |labels: &std::collections::BTreeMap<String, String>| labels.contains_key(LABEL);
    wait_for("all of it to go", Duration::from_secs(90), || async {
        let pods = room.list::<Pod>().await?.iter().filter(|it| ours(it.labels())).count();
        let sets = room.list::<StatefulSet>().await?.iter().filter(|it| ours(it.labels())).count();
        let deployments = room.list::<Deployment>().await?.iter().filter(|it| ours(it.labels())).count();
        ensure!(pods + sets + deployments == 0, "{pods} pods and {} workloads are left", sets + deployments);
        Ok(Some(()))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pods = room.list::<Pod>().await?.iter().filter(|it| ours(it.labels())).count();
    ensure!(pods == 0, "{pods} pods came again");
    let claims = room.list::<PersistentVolumeClaim>().await?.len();
    ensure!(claims >= 2, "{claims} volumes are left");
    Ok(String::new())
}
