//! Versions that misbehave.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use odoo_ai_crds::stack::{FailureOutcome, OdooAiStack, OdooAiStackStatus, RevisionResult};
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use crate::faults::names;
use crate::migrations::look::served;
use crate::poller::Poller;
use crate::room::{COMPONENT, Room, STACK, sample};

const READY: u64 = 180;
const BACK: u64 = 240;
const VERSIONS: [&str; 4] = ["1.2.0-crash", "1.2.0-unhealthy", "1.2.0-failing-migration", "2.0.0"];
/// Nobody listens there.
const NO_IMAGE: &str = "127.0.0.1:1/odoo-ai-platform/ai-service:9.9.9";

pub(super) fn image(version: &str) -> String {
    format!("odoo-ai-platform/ai-service:{version}")
}

pub(super) async fn status(room: &Room) -> Result<OdooAiStackStatus> {
    room.stack().await?.status.context("no status")
}

pub(super) async fn current(room: &Room) -> Result<String> {
    status(room).await?.current_revision.context("no current revision")
}

pub(super) async fn installs(room: &Room, cluster: &Cluster, deadline: i32) -> Result<String> {
    if cluster.container().is_ok() {
        cluster.load_images(&VERSIONS.map(image)).await?;
    }
    room.apply(&sample("local.yaml")?).await?;
    // Long enough for a crash every ten seconds to be seen; failures come sooner than by default.
    let check = json!({"durationSeconds": 15, "periodSeconds": 1});
    room.change(json!({"rollout": {"progressDeadlineSeconds": deadline, "healthCheck": check}})).await?;
    room.wait_ready(READY).await?;
    Ok(String::new())
}

/// What every component's process is started with, and the image that it runs.
pub(super) async fn resolved(room: &Room) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for component in ["ai-service", "worker", "beat", "dashboard"] {
        let env = room.run(component, &["env"]).await?;
        let lines: BTreeSet<_> = env.lines().filter(|line| !line.starts_with("HOSTNAME=")).collect();
        ensure!(lines.len() > 5, "{component} has no environment: {env}");
        all.push(format!("{component}: {}", lines.into_iter().collect::<Vec<_>>().join("\n")));
    }
    for part in status(room).await?.components {
        all.push(format!("{} {:?} {:?}", part.name, part.image_id, part.revision));
    }
    Ok(all)
}

/// The revision before runs again, everywhere; what the user reads.
pub(super) async fn rolled_back(room: &Room, old: &str, parts: &[&str]) -> Result<Condition> {
    let stalled = room.wait("Stalled", "True", "RolledBack", BACK).await?;
    room.wait("Ready", "False", "RolledBack", 5).await?;
    room.wait("Available", "True", "", 5).await?;
    names(&stalled, parts)?;
    names(&stalled, &["retry-requested-at", &format!("revision {old} runs again")])?;
    let status = status(room).await?;
    ensure!(status.current_revision.as_deref() == Some(old), "currentRevision moved");
    let others: Vec<_> =
        status.components.iter().filter(|part| part.revision.as_ref().is_some_and(|it| it != old)).collect();
    ensure!(others.is_empty(), "these run something else: {others:?}");
    let failure = status.failure.context("no failure in the status")?;
    ensure!(failure.outcome == FailureOutcome::RolledBack, "{failure:?}");
    let entry = status.history.iter().find(|entry| entry.revision == failure.revision);
    ensure!(entry.is_some_and(|it| it.result == Some(RevisionResult::RolledBack)), "the history says {entry:?}");
    Ok(stalled)
}

/// Another spec, which works.
pub(super) async fn settle(room: &Room, spec: Value) -> Result<()> {
    room.change(spec).await?;
    room.wait_ready(READY).await.map(drop)
}

/// Environment and images of before, byte for byte, while the API serves on.
pub(super) async fn restores_everything(room: &Room) -> Result<String> {
    let (old, before) = (current(room).await?, resolved(room).await?);
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    let key = json!({"stringData": {"apiKey": "sk-ant-wrong"}});
    let kept = room.secret("anthropic", "apiKey").await?;
    room.api::<Secret>().patch("anthropic", &PatchParams::default(), &Patch::Merge(key)).await?;
    let began = Instant::now();
    let env = json!([{"name": "SOMETHING", "value": "bad"}]);
    room.change(json!({"images": {"aiService": image("1.2.0-crash")}, "env": env})).await?;
    let stalled = rolled_back(room, &old, &["ai-service"]).await?;
    let took = began.elapsed();
    let answers = poller.never_failed(&count).await?;
    let now = resolved(room).await?;
    let changed: Vec<_> = now.iter().filter(|it| !before.contains(it)).collect();
    ensure!(changed.is_empty(), "not as before: {changed:?}");
    // The same spec once more, as GitOps sends it, changes nothing.
    let version = room.stack().await?.resource_version();
    room.change(json!({"logLevel": null})).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(room.stack().await?.resource_version() == version, "the same spec was tried again");
    let key = json!({"stringData": {"apiKey": kept}});
    room.api::<Secret>().patch("anthropic", &PatchParams::default(), &Patch::Merge(key)).await?;
    settle(room, json!({"images": {"aiService": image("1.0.0")}, "env": null})).await?;
    ensure!(current(room).await? == old, "it is another revision");
    Ok(format!("back after {:.0} s, {answers}: {}", took.as_secs_f64(), stalled.message))
}

/// `/health` says 200 with `db_connected: false`: its pods never become ready, and the old ones serve.
pub(super) async fn gets_no_request(room: &Room) -> Result<String> {
    let old = current(room).await?;
    let poller = Poller::start(room).await?;
    let count = poller.count().await?;
    room.change(json!({"images": {"aiService": image("1.2.0-unhealthy")}})).await?;
    let ready = Mutex::new(Vec::new());
    let stalled = wait_for("the deadline", Duration::from_secs(BACK), || async {
        for pod in room.api::<Pod>().list(&ListParams::default().labels(&format!("{COMPONENT}=ai-service"))).await? {
            let new = pod.labels().get("odoo-ai.atmatasolutions.com/revision").is_some_and(|it| *it != old);
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            // Kept: what fails in here is only tried again.
            if new && statuses.into_iter().any(|it| it.name == "ai-service" && it.ready) {
                ready.lock().unwrap_or_else(PoisonError::into_inner).push(pod.name_any());
            }
        }
        let stack = room.stack().await?;
        let stalled = crate::room::condition(&stack, "Stalled").filter(|it| it.reason == "RolledBack");
        Ok(stalled)
    })
    .await?;
    let ready = ready.into_inner().unwrap_or_else(PoisonError::into_inner);
    ensure!(ready.is_empty(), "these were ready: {ready:?}");
    names(&stalled, &["/api/rules with 500"])?;
    rolled_back(room, &old, &["ProgressDeadlineExceeded", "within 45 s"]).await?;
    let answers = poller.never_failed(&count).await?;
    settle(room, json!({"images": {"aiService": image("1.0.0")}})).await?;
    Ok(format!("{answers}: {}", stalled.message))
}

/// Told by its plan Job, before anything moved.
pub(super) async fn can_not_be_pulled(room: &Room) -> Result<String> {
    let old = current(room).await?;
    let began = Instant::now();
    room.change(json!({"images": {"aiService": NO_IMAGE}})).await?;
    let stalled = rolled_back(room, &old, &["ImagePullFailed", "9.9.9"]).await?;
    let took = began.elapsed();
    ensure!(took > Duration::from_mins(1), "told after {took:?}");
    settle(room, json!({"images": {"aiService": image("1.0.0")}})).await?;
    Ok(format!("after {:.0} s: {}", took.as_secs_f64(), stalled.message))
}

pub(super) async fn migration_failed(room: &Room) -> Result<String> {
    let (old, pods) = (current(room).await?, served(room).await?);
    room.change(json!({"images": {"aiService": image("1.2.0-failing-migration")}})).await?;
    let stalled = rolled_back(room, &old, &["(Migration)", "MigrationFailed", "no_such_table"]).await?;
    let now = served(room).await?;
    ensure!(pods == now, "pods were {pods:?}, now {now:?}");
    settle(room, json!({"images": {"aiService": image("1.0.0")}})).await?;
    Ok(stalled.message)
}

pub(super) fn env(name: &str, value: &str) -> Value {
    json!({"env": [{"name": name, "value": value}]})
}

/// ai-service had moved already, and comes back too.
pub(super) async fn worker_crashes(room: &Room) -> Result<String> {
    let old = current(room).await?;
    room.change(env("SAMPLE_BREAK_WORKER", "1")).await?;
    let stalled = rolled_back(room, &old, &["(Worker)", "CrashLoop", "worker"]).await?;
    Ok(stalled.message)
}

/// A retry is tried, fails again, and is not tried a second time by the same token.
pub(super) async fn is_tried_again(room: &Room) -> Result<String> {
    let (old, failed) = (current(room).await?, status(room).await?.failure.and_then(|it| it.failed_at));
    annotate(room, json!({"odoo-ai.atmatasolutions.com/retry-requested-at": "once more"})).await?;
    room.wait("Stalled", "False", "", 60).await?;
    rolled_back(room, &old, &["(Worker)", "CrashLoop"]).await?;
    ensure!(status(room).await?.failure.and_then(|it| it.failed_at) != failed, "it was not tried");
    settle(room, json!({"env": null})).await?;
    Ok(String::new())
}

pub(super) async fn annotate(room: &Room, annotations: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    room.api::<OdooAiStack>().patch(STACK, &PatchParams::default(), &patch).await?;
    Ok(())
}

pub(super) async fn out_of_memory(room: &Room) -> Result<String> {
    let old = current(room).await?;
    room.change(env("SAMPLE_MEMORY_MIB", "2048")).await?;
    let stalled = rolled_back(room, &old, &["ai-service"]).await?;
    ensure!(
        stalled.message.contains("OutOfMemory") || stalled.message.contains("CrashLoop"),
        "the cause is {}",
        stalled.message
    );
    settle(room, json!({"env": null})).await?;
    Ok(stalled.message)
}

/// It starts well, and ends a while after the last step.
pub(super) async fn crashes_in_the_watch(room: &Room) -> Result<String> {
    let old = current(room).await?;
    room.change(json!({
        "rollout": {"healthCheck": {"durationSeconds": 90}},
        "env": [{"name": "SAMPLE_CRASH_AFTER_SECONDS", "value": "45"}, {"name": "SAMPLE_PROCESSES", "value": "worker"}],
    }))
    .await?;
    let stalled = rolled_back(room, &old, &["(Watch)", "HealthCheckFailed", "3 samples"]).await?;
    settle(room, json!({"env": null, "rollout": {"healthCheck": {"durationSeconds": 15}}})).await?;
    Ok(stalled.message)
}

pub(super) async fn on_request(room: &Room) -> Result<String> {
    let old = current(room).await?;
    settle(room, json!({"logLevel": "Debug"})).await?;
    ensure!(current(room).await? != old, "no new revision");
    let to = json!({
        "odoo-ai.atmatasolutions.com/rollback-to": old, "odoo-ai.atmatasolutions.com/rollback-requested-at": "now",
    });
    annotate(room, to).await?;
    let stalled = rolled_back(room, &old, &["was taken back", &old]).await?;
    settle(room, json!({"logLevel": null})).await?;
    Ok(stalled.message)
}

/// 2.0.0's migration is not additive, and then its worker can't start.
pub(super) async fn blocked_by_schema(room: &Room) -> Result<String> {
    let old = current(room).await?;
    let mut spec = env("SAMPLE_BREAK_WORKER", "1");
    spec["images"] = json!({"aiService": image("2.0.0")});
    room.change(spec).await?;
    let stalled = room.wait("Stalled", "True", "RollbackBlockedBySchema", BACK).await?;
    names(&stalled, &["005_breaking", "(Worker)", "CrashLoop", "backwardCompatible"])?;
    room.wait("Available", "True", "", 5).await?;
    ensure!(current(room).await? == old, "currentRevision moved");
    // The mended version goes on from there.
    settle(room, json!({"env": null})).await?;
    Ok(stalled.message)
}
