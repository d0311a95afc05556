//! Versions that misbehave on a first install: there is nothing to go back to, so it says why and goes on trying.

use std::time::Duration;

use anyhow::{Result, ensure};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::fails::{image, status};
use crate::faults::names;
use crate::room::{Room, condition, sample, summary};

const VERSIONS: [&str; 5] = ["1.1.0", "1.2.0-crash", "1.2.0-oom", "1.2.0-unhealthy", "1.2.0-hung-start"];
/// Nobody listens there.
const NO_IMAGE: &str = "127.0.0.1:1/odoo-ai-platform/ai-service:9.9.9";

pub(super) async fn begins(room: &Room, cluster: &Cluster) -> Result<String> {
    if cluster.container().is_ok() {
        cluster.load_images(&VERSIONS.map(image)).await?;
    }
    let mut documents = sample("local.yaml")?;
    for document in documents.iter_mut().filter(|it| it["kind"] == "OdooAiStack") {
        document["spec"]["images"]["aiService"] = json!(NO_IMAGE);
    }
    room.apply(&documents).await?;
    // Longer than a version that crashes every ten seconds is ever ready.
    let check = json!({"durationSeconds": 15, "periodSeconds": 1});
    room.change(json!({"rollout": {"progressDeadlineSeconds": 30, "healthCheck": check}})).await?;
    says(room, "ImagePullFailed", &["9.9.9"]).await
}

/// In progress with its cause, and never failed.
async fn says(room: &Room, reason: &str, parts: &[&str]) -> Result<String> {
    let ready = wait_for(reason, Duration::from_mins(3), || async {
        let ready = room.wait("Ready", "False", reason, 60).await?;
        names(&ready, parts).map(|()| Some(ready))
    })
    .await?;
    let stack = room.stack().await?;
    let is = |kind: &str, wanted: &str| condition(&stack, kind).is_some_and(|it| it.status == wanted);
    ensure!(is("Reconciling", "True") && is("Stalled", "False"), "{}", summary(&stack));
    let status = status(room).await?;
    ensure!(status.failure.is_none() && status.current_revision.is_none(), "{status:?}");
    Ok(ready.message)
}

pub(super) async fn version(room: &Room, version: &str, reason: &str, parts: &[&str]) -> Result<String> {
    room.change(json!({"images": {"aiService": image(version)}})).await?;
    says(room, reason, parts).await
}

fn checks(script: &str) -> Value {
    json!([{"name": "smoke", "image": image("1.1.0"), "command": ["python3", "-c", script]}])
}

pub(super) async fn check(room: &Room) -> Result<String> {
    let bad = checks("raise SystemExit(4)");
    room.change(json!({"images": {"aiService": image("1.1.0")}, "rollout": {"checks": bad}})).await?;
    says(room, "CheckFailed", &["check smoke", "exit code 4", "run again"]).await
}

/// With what was wrong mended, the same install goes on to its end.
pub(super) async fn ends_well(room: &Room) -> Result<String> {
    room.change(json!({"rollout": {"checks": checks("pass"), "progressDeadlineSeconds": null}})).await?;
    room.wait_ready(240).await?;
    Ok(String::new())
}
