//! What stumbles around a revision while it is watched.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use odoo_ai_tests::{Cluster, docker, wait_for};
use serde_json::json;

use crate::operator::{self, End};
use crate::room::{Room, condition, sample, summary};

pub(super) async fn installs(room: &Room) -> Result<String> {
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(180).await?;
    Ok(String::new())
}

/// A long watch, with bad samples counted every second.
pub(super) async fn is_watched(room: &Room) -> Result<String> {
    let check = json!({"durationSeconds": 60, "periodSeconds": 1, "failureThreshold": 3});
    room.change(json!({"logLevel": "Debug", "rollout": {"healthCheck": check}})).await?;
    room.wait("Ready", "False", "Watching", 180).await?;
    Ok(String::new())
}

/// Nothing has failed, and the new revision is still the one that runs.
pub(super) async fn holds(room: &Room) -> Result<()> {
    let stack = room.stack().await?;
    let status = stack.status.as_ref().context("no status")?;
    ensure!(status.failure.is_none(), "{:?}; {}", status.failure, summary(&stack));
    ensure!(condition(&stack, "Stalled").is_some_and(|it| it.status == "False"), "{}", summary(&stack));
    Ok(())
}

pub(super) async fn watched_again(room: &Room) -> Result<()> {
    wait_for("the watch to go on", Duration::from_mins(3), || async {
        holds(room).await?;
        let ready = condition(&room.stack().await?, "Ready").context("no Ready")?;
        Ok(["Watching", "Settled"].contains(&ready.reason.as_str()).then_some(()))
    })
    .await
}

pub(super) async fn servers_restart(room: &Room) -> Result<String> {
    for component in ["postgresql", "redis"] {
        let pod = room.pod_of(component).await?.name_any();
        room.api::<Pod>().delete(&pod, &DeleteParams::default()).await?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        watched_again(room).await.with_context(|| component.to_owned())?;
    }
    Ok(String::new())
}

pub(super) async fn sidecar_killed(room: &Room) -> Result<String> {
    let pod = room.pod_of("ai-service").await?;
    let statuses = pod.status.iter().flat_map(|status| status.init_container_statuses.iter().flatten());
    let agent = statuses.into_iter().find(|it| it.name == "agent").context("no sidecar")?;
    let id = agent.container_id.as_deref().and_then(|it| it.split("://").nth(1)).context("no id")?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("no node")?;
    ensure!(!node.is_empty(), "not placed");
    let cluster = operator::cluster().await?.container()?;
    docker(["exec", &cluster, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]).await?;
    tokio::time::sleep(Duration::from_secs(8)).await;
    watched_again(room).await?;
    Ok(String::new())
}

pub(super) async fn odoo_fails(room: &Room) -> Result<String> {
    for mode in ["refuse", "hang", "normal"] {
        crate::full::set_mode(room, mode).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        holds(room).await.with_context(|| mode.to_owned())?;
    }
    Ok(String::new())
}

pub(super) async fn operator_killed(room: &Room, cluster: &Cluster) -> Result<String> {
    operator::replace(cluster, &room.client, End::Crashed).await?;
    holds(room).await?;
    Ok(String::new())
}

pub(super) async fn passes(room: &Room) -> Result<String> {
    room.wait_ready(180).await?;
    holds(room).await?;
    Ok(String::new())
}
