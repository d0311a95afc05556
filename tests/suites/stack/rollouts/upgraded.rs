//! Another version of the operator, whose pod templates are others.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::json;

use super::calm::holds;
use super::fails::{current, env, settle, status};
use crate::operator::{self, Metrics};
use crate::room::Room;
use crate::steady::starts;

const TEMPLATE: &str = "odoo-ai.atmatasolutions.com/template";
const COMPONENTS: [&str; 4] = ["ai-service", "worker", "beat", "dashboard"];

/// In the middle of a watch, which goes on; no pod is restarted, not one minute later either.
pub(super) async fn restarts_nothing(room: &Room, cluster: &Cluster) -> Result<String> {
    let check = json!({"durationSeconds": 45, "periodSeconds": 1});
    room.change(json!({"logLevel": "Debug", "rollout": {"healthCheck": check}})).await?;
    room.wait("Ready", "False", "Watching", 180).await?;
    let target = status(room).await?.update_revision.context("no updateRevision")?;
    let before = starts(room).await?;
    operator::upgrade(cluster, "other-templates").await?;
    room.wait_ready(180).await?;
    holds(room).await?;
    ensure!(current(room).await? == target, "another revision runs");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let looked = Metrics::read(&room.client).await?.value("reconciles_total");
    ensure!(looked > 0, "the new operator has not looked");
    let now = starts(room).await?;
    ensure!(before == now, "pods were {before:?}, now {now:?}");
    Ok(format!("{} pods untouched", now.len()))
}

/// The user's next revision has the new templates, with the new operator's agent.
pub(super) async fn next_revision_takes_it_up(room: &Room) -> Result<String> {
    let agent_of = |pod: &Pod| {
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        containers.into_iter().find_map(|it| it.image.clone())
    };
    let operator = operator::pod(&room.client).await?;
    let wanted = operator.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
    let old = agent_of(&room.pod_of("ai-service").await?);
    ensure!(old != wanted, "the agent is of {old:?} already");
    settle(room, env("SOMETHING", "upgraded")).await?;
    wait_for("the old pods to go", Duration::from_mins(1), || async {
        for component in COMPONENTS {
            let pod = room.pod_of(component).await?;
            let note = pod.annotations().get(TEMPLATE).cloned();
            ensure!(note.as_deref() == Some("other-templates"), "{component} has {note:?}");
        }
        Ok(Some(()))
    })
    .await?;
    let agent = agent_of(&room.pod_of("ai-service").await?);
    ensure!(agent == wanted, "the agent is of {agent:?}, not {wanted:?}");
    Ok(String::new())
}
