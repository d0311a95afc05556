//! A newer image on an older schema: the two cases of the core tier.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use odoo_ai_crds::backup::{Backup, BackupReason};
use odoo_ai_tests::wait_for;
use serde_json::json;
use std::time::Duration;

use super::look::{
    BACKUP, FIRST, READY, SECOND, answers, image, incarnation, make_backup, request, revision, schema_came_first,
    served, status,
};
use crate::faults::{is_stalled, names};
use crate::room::Room;

/// Where a backup must come first and there is none, nothing is touched.
pub(crate) async fn waits_for_a_backup(room: &Room) -> Result<String> {
    let before = served(room).await?;
    let current = status(room).await?.current_revision;
    room.change(json!({"images": {"aiService": image("1.1.0")}, "migrations": {"backup": "Required"}})).await?;
    let stalled = room.wait("Stalled", "True", "BackupNotConfigured", 120).await?;
    names(&stalled, &["migrations.backupRef names no Backup"])?;
    is_stalled(room, &stalled.reason).await?;
    room.wait("Available", "True", "", 60).await?;
    answers(room).await?;
    let after = served(room).await?;
    ensure!(before == after, "pods were {before:?}, now {after:?}");
    ensure!(status(room).await?.current_revision == current, "currentRevision moved");
    ensure!(revision(room).await? == FIRST, "the schema was touched");
    Ok(format!("{}: {}", stalled.reason, stalled.message))
}

/// The schema goes to the new image's head under a backup, before any pod of it exists, and the rollout
/// goes on.
pub(crate) async fn upgrades(room: &Room) -> Result<String> {
    make_backup(room).await?;
    let migrations = json!({"backup": "Required", "backupRef": {"name": "nightly"}});
    room.change(json!({"images": {"aiService": image("1.1.0")}, "migrations": migrations})).await?;
    let request = request(room).await?;
    // Not the Ready of before.
    wait_for("the new schema", Duration::from_secs(READY), || async {
        Ok((revision(room).await? == SECOND).then_some(()))
    })
    .await?;
    room.wait_ready(READY).await?;
    let status = status(room).await?;
    let target = status.current_revision.context("no revision")?;
    let database = status.database.context("no database")?;
    ensure!(database.schema_revision.as_deref() == Some(SECOND), "the status says {:?}", database.schema_revision);
    let last = database.last_migration.context("no migration")?;
    ensure!((last.reason.as_str(), &last.revision) == ("Upgraded", &target), "the last migration is {last:?}");
    let made = room.api::<Backup>().get(BACKUP).await?.status.and_then(|status| status.last_success);
    let made = made.context("no backup was made")?;
    ensure!(last.backup.as_ref() == Some(&made.id), "it went by the backup {:?} and not by {made:?}", last.backup);
    let answers = made.reason == BackupReason::PreMigration && made.request_id.as_ref() == Some(&request);
    ensure!(answers && made.alembic_revision.as_deref() == Some(FIRST), "the backup is {made:?}");
    ensure!(made.incarnation == Some(incarnation(room).await?), "the backup is of {:?}", made.incarnation);
    schema_came_first(room).await?;
    let events = room.api::<Event>().list(&ListParams::default()).await?;
    let told = |event: &Event| event.reason.as_deref() == Some("Upgraded");
    ensure!(events.iter().any(told), "no Event of the upgrade");
    Ok(format!("{}; drift: {}", last.message, last.drift.join("; ")))
}
