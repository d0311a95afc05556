//! Approvals, the backup, and an older image on a newer schema.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use odoo_ai_tests::wait_for;
use serde_json::json;
use std::time::Duration;

use super::look::{
    FIRST, READY, SECOND, answer, answers, approve, database, image, jobs, look_again, make_mute_backup, request,
    revision, served, status, target,
};
use crate::faults::{is_stalled, names};
use crate::room::{Room, sample};

/// Under the policy Manual an empty database is looked at, and nobody is asked.
pub(super) async fn installs(room: &Room) -> Result<String> {
    let mut documents = sample("local.yaml")?;
    for document in documents.iter_mut().filter(|document| document["kind"] == "OdooAiStack") {
        document["spec"]["migrations"] = json!({"policy": "Manual", "backup": "Required"});
        document["spec"]["rollout"] = json!({"approval": "Manual"});
    }
    room.apply(&documents).await?;
    room.wait_ready(READY).await?;
    ensure!((jobs(room, "plan").await?.len(), jobs(room, "migrate").await?.len()) == (1, 1), "other Jobs");
    ensure!(revision(room).await? == FIRST, "the database is at {}", revision(room).await?);
    Ok(database(room).await?.last_migration.context("no migration")?.message)
}

/// Told at the plan, before the approval.
pub(super) async fn needs_a_backup(room: &Room) -> Result<String> {
    let before = served(room).await?;
    room.change(json!({"images": {"aiService": image("1.1.0")}, "logLevel": "Debug"})).await?;
    room.wait("Stalled", "True", "BackupNotConfigured", 120).await?;
    let stalled = is_stalled(room, "BackupNotConfigured").await?;
    names(&stalled, &["(Plan)", "migrations.backupRef", "Never"])?;
    room.wait("AwaitingApproval", "False", "", 10).await?;
    answers(room).await?;
    ensure!(before == served(room).await? && revision(room).await? == FIRST, "something was touched");
    make_mute_backup(room).await?;
    room.change(json!({"migrations": {"backupRef": {"name": "nightly"}}})).await?;
    Ok(stalled.message)
}

/// Both questions in one sentence.
pub(super) async fn is_told(room: &Room) -> Result<String> {
    let asked = room.wait("AwaitingApproval", "True", "AwaitingApproval", 60).await?;
    let target = target(room).await?;
    let image = format!("{} -> {}", image("1.0.0"), image("1.1.0"));
    let revision = format!("approved-revision={target}");
    let migration = format!("approved-migration={target}");
    names(&asked, &[&image, &revision, &migration, "settings logLevel", SECOND, "(additive)"])?;
    room.wait("Ready", "Unknown", "AwaitingApproval", 10).await?;
    // The one question is answered, the other is not.
    approve(room, &["revision"]).await?;
    let asked = room.wait("AwaitingApproval", "True", "MigrationPending", 60).await?;
    ensure!(jobs(room, "migrate").await?.len() == 1, "it was not approved");
    Ok(asked.message)
}

/// The request is in the status, on the Backup, and asks once.
pub(super) async fn asks_the_backup(room: &Room) -> Result<String> {
    approve(room, &["revision", "migration"]).await?;
    let request = request(room).await?;
    // It can't make any, and why is told where the migration waits.
    let waits = room.wait("Ready", "False", "BackingUp", 60).await?;
    names(&waits, &["(Backup)", "no PersistentVolumeClaim nowhere"])?;
    let asked = database(room).await?.pre_migration_backup.context("no request in the status")?;
    ensure!(asked.request_id == request && asked.attempt == 1 && asked.id.is_none(), "the status says {asked:?}");
    ensure!(jobs(room, "migrate").await?.len() == 1, "a migration without its backup");
    // Somebody gives it the wrong one: the Job itself finds out, and nothing is touched.
    answer(room, "wrong", &request, &json!({"alembicRevision": "001_initial"})).await?;
    let failed = wait_for("the wrong backup to be refused", Duration::from_secs(90), || async {
        let stalled = room.wait("Stalled", "True", "BackupFailed", 5).await?;
        Ok(stalled.message.contains("backup wrong is not of").then_some(stalled))
    })
    .await?;
    ensure!(revision(room).await? == FIRST, "it migrated under a wrong backup");
    let again = wait_for("the next request", Duration::from_secs(90), || async {
        let now = super::look::request(room).await?;
        Ok((now != request).then_some(now))
    })
    .await?;
    answer(room, "right", &again, &json!({})).await?;
    Ok(failed.message)
}

pub(super) async fn migrates(room: &Room) -> Result<String> {
    room.wait_ready(READY).await?;
    ensure!(revision(room).await? == SECOND, "the database is at {}", revision(room).await?);
    let last = database(room).await?.last_migration.context("no migration")?;
    ensure!(last.backup.as_deref() == Some("right"), "it went by {:?}", last.backup);
    let entry = status(room).await?.history.remove(0);
    let by = entry.approved_by.context("nobody approved")?;
    ensure!(by != "unverified", "the approval is unverified");
    ensure!(entry.additive == [SECOND], "additive: {:?}", entry.additive);
    let events = room.api::<Event>().list(&ListParams::default()).await?;
    for reason in ["Upgraded", "BackupFailed", "MigrationPending"] {
        let told = |event: &Event| event.reason.as_deref() == Some(reason);
        ensure!(events.iter().any(told), "no Event {reason}");
    }
    Ok(format!("{}, approved by {by}", last.message))
}

pub(super) async fn settings_run_no_job(room: &Room) -> Result<String> {
    let before = (jobs(room, "plan").await?, jobs(room, "migrate").await?);
    room.change(json!({"logLevel": "Warning"})).await?;
    let asked = room.wait("AwaitingApproval", "True", "AwaitingApproval", 60).await?;
    names(&asked, &["It changes settings logLevel; nothing in the schema"])?;
    approve(room, &["revision"]).await?;
    room.wait_ready(READY).await?;
    ensure!(before == (jobs(room, "plan").await?, jobs(room, "migrate").await?), "a Job ran");
    Ok(asked.message)
}

/// 1.0.0 runs on the schema of 1.1.0: it looks at the rows, and migrates nothing.
pub(super) async fn steps_back(room: &Room) -> Result<String> {
    let migrations = jobs(room, "migrate").await?;
    room.change(json!({"images": {"aiService": image("1.0.0")}})).await?;
    let asked = room.wait("AwaitingApproval", "True", "AwaitingApproval", 90).await?;
    names(&asked, &["nothing in the schema"])?;
    approve(room, &["revision"]).await?;
    room.wait_ready(READY).await?;
    ensure!(revision(room).await? == SECOND && jobs(room, "migrate").await? == migrations, "it migrated");
    ensure!(!room.rules().await?.is_empty(), "the older image has no rules");
    Ok(asked.message)
}

/// A row that no code can read keeps an older image away, until it is gone and somebody looks again.
pub(super) async fn counts_rows(room: &Room) -> Result<String> {
    room.change(json!({"images": {"aiService": image("1.1.0")}})).await?;
    room.wait("AwaitingApproval", "True", "AwaitingApproval", 90).await?;
    approve(room, &["revision"]).await?;
    room.wait_ready(READY).await?;
    room.sql("ALTER TYPE automationtype ADD VALUE 'FORECAST'").await?;
    let row = "INSERT INTO automation_rules (name, automation_type, action_name, enabled)";
    room.sql(&format!("{row} VALUES ('of tomorrow', 'FORECAST', 'nothing', false)")).await?;
    room.change(json!({"images": {"aiService": image("1.0.0")}})).await?;
    let stalled = room.wait("Stalled", "True", "SchemaNewerThanImage", 90).await?;
    names(&stalled, &["automation_rules.automation_type 'FORECAST' (1 row)", "kubectl delete job"])?;
    answers(room).await?;
    room.sql("DELETE FROM automation_rules WHERE automation_type = 'FORECAST'").await?;
    look_again(room).await?;
    room.wait("AwaitingApproval", "True", "AwaitingApproval", 90).await?;
    approve(room, &["revision"]).await?;
    room.wait_ready(READY).await?;
    Ok(stalled.message)
}
