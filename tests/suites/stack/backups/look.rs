//! What the tests of backups look at.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ListParams, Patch, PatchParams};
use odoo_ai_crds::backup::{Attempt, Backup, BackupStatus, RunResult};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::room::Room;

pub(crate) use crate::migrations::look::BACKUP;

/// A run of the small database, its pod's start included.
pub(crate) const RUN: Duration = Duration::from_mins(2);

pub(crate) async fn backup(room: &Room) -> Result<Backup> {
    Ok(room.api::<Backup>().get(BACKUP).await?)
}

pub(crate) async fn status(room: &Room) -> Result<BackupStatus> {
    backup(room).await?.status.context("no status")
}

pub(crate) fn summary(status: &BackupStatus) -> String {
    let said = status.conditions.iter().map(|c| format!("{}={} {} ({})", c.type_, c.status, c.reason, c.message));
    said.collect::<Vec<_>>().join("; ")
}

/// Waits until a condition says so of the newest spec.
pub(crate) async fn wait(room: &Room, kind: &str, state: &str, reason: &str, limit: Duration) -> Result<Condition> {
    wait_for(&format!("the Backup's {kind}={state} {reason}"), limit, || async {
        let backup = backup(room).await?;
        let status = backup.status.context("no status")?;
        let found = status.conditions.iter().find(|it| it.type_ == kind).cloned();
        let found = found.with_context(|| format!("there is no {kind}"))?;
        let current = found.observed_generation == backup.metadata.generation;
        let says = current && found.status == state && (reason.is_empty() || found.reason == reason);
        ensure!(says, "the conditions are {}", summary(&status));
        Ok(Some(found))
    })
    .await
}

/// A merge patch of the Backup's spec.
pub(crate) async fn change(room: &Room, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    room.api::<Backup>().patch(BACKUP, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Asks for a backup or a verification, as `kubectl annotate` does; the request.
pub(crate) async fn ask(room: &Room, what: &str) -> Result<String> {
    let request = k8s_openapi::jiff::Timestamp::now().to_string();
    let annotation = format!("odoo-ai.atmatasolutions.com/{what}-requested-at");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: request}}}));
    room.api::<Backup>().patch(BACKUP, &PatchParams::default(), &patch).await?;
    Ok(request)
}

/// The run that answers a request, once it has ended.
pub(crate) async fn ended(room: &Room, request: &str, limit: Duration) -> Result<Attempt> {
    wait_for("the run to end", limit, || async {
        let status = status(room).await?;
        let run = status.runs.iter().find(|run| run.request_id.as_deref() == Some(request));
        let run = run.with_context(|| format!("the runs are {:?}", status.runs))?;
        ensure!(run.result != RunResult::Running, "it runs; the conditions are {}", summary(&status));
        Ok(Some(run.clone()))
    })
    .await
}

/// A good backup that was asked for; its id.
pub(crate) async fn make(room: &Room) -> Result<String> {
    let request = ask(room, "backup").await?;
    let run = ended(room, &request, RUN).await?;
    ensure!(run.result == RunResult::Succeeded, "the run is {run:?}");
    let status = status(room).await?;
    let made = status.artifacts.iter().find(|it| it.request_id.as_ref() == Some(&request));
    Ok(made.with_context(|| format!("nothing answers {request}: {:?}", status.artifacts))?.id.clone())
}

/// Ids of the good ones, as the status has them.
pub(crate) async fn ids(room: &Room) -> Result<Vec<String>> {
    Ok(status(room).await?.artifacts.into_iter().map(|it| it.id).collect())
}

/// An Event of this reason about the Backup.
pub(crate) async fn told(room: &Room, reason: &str) -> Result<()> {
    let events = room.api::<Event>().list(&ListParams::default()).await?.items;
    let about = |event: &Event| {
        event.reason.as_deref() == Some(reason) && event.involved_object.kind.as_deref() == Some("Backup")
    };
    ensure!(events.iter().any(about), "no Event {reason}");
    Ok(())
}
