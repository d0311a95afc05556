//! A newer image on an older schema.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::ListParams;
use odoo_ai_tests::wait_for;
use serde_json::json;
use std::time::Duration;

use crate::faults::{is_stalled, names};
use crate::room::{COMPONENT, LABEL, Room, STACK};
use crate::steady::starts;

const OLD: &str = "003_phase2_tables";
const NEW: &str = "004_rule_usage";
const IMAGE: &str = "odoo-ai-platform/ai-service:1.1.0";
const READY: u64 = 180;

/// The starts of all pods but those of Jobs.
async fn served(room: &Room) -> Result<Vec<(String, (String, i32))>> {
    let of_job = |name: &str| ["-plan-", "-migrate-"].iter().any(|it| name.contains(it));
    Ok(starts(room).await?.into_iter().filter(|(name, _)| !of_job(name)).collect())
}

/// Where a backup must come first and there is none, nothing is touched.
pub(crate) async fn waits_for_a_backup(room: &Room) -> Result<String> {
    let before = served(room).await?;
    let current = room.stack().await?.status.and_then(|status| status.current_revision);
    room.change(json!({"images": {"aiService": IMAGE}, "migrations": {"backup": "Required"}})).await?;
    let stalled = room.wait("Stalled", "True", "BackupMissing", 120).await?;
    names(&stalled, &[OLD])?;
    is_stalled(room, &stalled.reason).await?;
    room.wait("Available", "True", "", 60).await?;
    let (status, _) = room.ask("GET", "/openapi.json", None, None).await?;
    ensure!(status == 200, "the old pods answered {status}");
    let after = served(room).await?;
    ensure!(before == after, "pods were {before:?}, now {after:?}");
    ensure!(room.stack().await?.status.and_then(|status| status.current_revision) == current, "currentRevision moved");
    ensure!(room.sql("SELECT version_num FROM alembic_version").await? == OLD, "the schema was touched");
    Ok(format!("{}: {}", stalled.reason, stalled.message))
}

/// The schema goes to the new image's head before any pod of it exists, and the rollout goes on.
pub(crate) async fn upgrades(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": IMAGE}, "migrations": {"backup": "Never"}})).await?;
    // Not the Ready of before.
    wait_for("the new schema", Duration::from_secs(READY), || async {
        Ok((room.sql("SELECT version_num FROM alembic_version").await? == NEW).then_some(()))
    })
    .await?;
    room.wait_ready(READY).await?;
    let status = room.stack().await?.status.context("no status")?;
    let target = status.current_revision.context("no revision")?;
    let database = status.database.context("no database")?;
    ensure!(database.schema_revision.as_deref() == Some(NEW), "the status says {:?}", database.schema_revision);
    let last = database.last_migration.context("no migration")?;
    ensure!((last.reason.as_str(), &last.revision) == ("Upgraded", &target), "the last migration is {last:?}");

    let of = |component: &str| ListParams::default().labels(&format!("{LABEL}={STACK},{COMPONENT}={component}"));
    let jobs = room.api::<Job>().list(&of("migrate")).await?;
    let job = jobs.iter().find(|job| job.name_any().contains(&target)).context("no Job of the new revision")?;
    let done =
        job.status.as_ref().and_then(|status| status.completion_time.clone()).context("the Job has not ended")?;
    for pod in room.api::<Pod>().list(&of("ai-service")).await? {
        let made = pod.creation_timestamp().context("a pod without a date")?;
        ensure!(made.0 >= done.0, "{} was made before the migration ended", pod.name_any());
    }
    let events = room.api::<Event>().list(&ListParams::default()).await?;
    let told = |event: &Event| event.reason.as_deref() == Some("Upgraded");
    ensure!(events.iter().any(told), "no Event of the upgrade");
    // Only what has an image or configuration is a new revision: going back to Required makes none.
    room.change(json!({"migrations": {"backup": "Required"}})).await?;
    room.wait_ready(READY).await?;
    let wanted = room.stack().await?.status.and_then(|status| status.update_revision);
    ensure!(wanted.as_ref() == Some(&target), "a guard is no revision, and it is {wanted:?}");
    Ok(format!("{}; drift: {}", last.message, last.drift.join("; ")))
}
