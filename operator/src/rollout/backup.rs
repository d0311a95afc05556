//! The step Backup: before a migration changes anything, the Backup that the spec names is asked for an
//! artifact of this very database. The request is in the status before it is made, and what answers it
//! is kept there; the migrate Job checks it once more under its lock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use odoo_ai_crds::backup::{ArtifactStatus, Backup};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::PreMigrationBackup;

use super::gates::{Gate, View};
use super::jobs::{self, Progress};
use super::migration;
use crate::backup::ask::{self, Answer, Request};
use crate::stack::build::job::SchemaJob;

/// A migration that starts later than this after its backup gets a new one: what was written since would be
/// lost with it.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// What `agent migrate` says where the backup it was told of is not of what it would change.
const MISSING: &str = "BackupMissing";

/// Where the backup before the migration stands.
#[derive(Clone, Debug, PartialEq)]
enum Standing<'a> {
    /// None is needed, or there is a good one.
    Open,
    /// There is nothing that could be asked.
    Unusable(String),
    /// It must be asked for, for the `attempt`th time.
    Ask { backup: &'a Backup, attempt: i32 },
    /// It was asked for.
    Asked(String),
    /// There is an artifact that answers the request.
    Answered(&'a ArtifactStatus),
    /// It can't be made, or not now.
    Failed(String),
}

/// A good backup is there, or none is needed.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    match standing(view) {
        Standing::Open => Gate::Open,
        Standing::Unusable(message) => Gate::blocked(reasons::BACKUP_NOT_CONFIGURED, message),
        Standing::Ask { backup, .. } => {
            Gate::wait(reasons::BACKING_UP, format!("Backup {} is asked for a backup", backup.name_any()))
        }
        Standing::Answered(_) => Gate::wait(reasons::BACKING_UP, "the backup is recorded"),
        Standing::Asked(message) => Gate::wait(reasons::BACKING_UP, message),
        Standing::Failed(message) => Gate::blocked(reasons::BACKUP_FAILED, message),
    }
}

/// What a migration of the target would need and can't have; told before anybody is asked to approve.
#[must_use]
pub fn unusable(view: &View<'_>) -> Option<String> {
    match standing(view) {
        Standing::Unusable(message) => Some(message),
        _ => None,
    }
}

/// What is to be noted in the status: a request before it is made, or the artifact that answers one.
#[must_use]
pub fn settle(view: &View<'_>) -> Option<PreMigrationBackup> {
    match (standing(view), record(view)) {
        (Standing::Ask { backup, attempt }, _) => Some(PreMigrationBackup {
            revision: view.target.to_owned(),
            backup: backup.name_any(),
            request_id: format!("{}-{}-{attempt}", view.target, view.now.strftime("%Y%m%dT%H%M%SZ")),
            attempt,
            requested_at: Some(Time(view.now)),
            ..PreMigrationBackup::default()
        }),
        (Standing::Answered(artifact), Some(asked)) => Some(PreMigrationBackup {
            id: Some(artifact.id.clone()),
            incarnation: artifact.incarnation.clone(),
            alembic_revision: artifact.alembic_revision.clone(),
            completed_at: artifact.completed_at.clone().or(Some(Time(view.now))),
            ..asked.clone()
        }),
        _ => None,
    }
}

/// The request that must be on the Backup and isn't: its name and the value of `backup-requested-at`. A request
/// of somebody else that waits there comes first.
#[must_use]
pub fn request(view: &View<'_>) -> Option<(String, String)> {
    let asked = record(view).filter(|asked| asked.id.is_none())?;
    let backup = view.backup.filter(|backup| backup.name_any() == asked.backup)?;
    ask::is_missing(backup, &asked.request_id).then(|| (asked.backup.clone(), asked.request_id.clone()))
}

fn standing<'a>(view: &View<'a>) -> Standing<'a> {
    if !view.stack.backup_required || view.back || migration::migrated(view) {
        return Standing::Open;
    }
    let progress = view.progress(SchemaJob::Migrate);
    let refused = match &progress {
        // It was let go under a backup, and checks it itself.
        Progress::Running { .. } | Progress::Succeeded(_) => return Standing::Open,
        Progress::Refused { reason, message } if reason == MISSING => Some(message),
        _ => None,
    };
    let planned = view.plan().is_some_and(|plan| plan.needed && !plan.bootstrap);
    let asked = record(view);
    if let Some(made) = made(view) {
        let completed = made.completed_at.as_ref().map_or(view.now, |time| time.0);
        return match refused {
            Some(why) if view.now < completed + jobs::pause(made.attempt.unsigned_abs()) => {
                Standing::Failed(format!("backup {} is not of what is to be migrated: {why}", id(made)))
            }
            None if completed + FRESH > view.now || !matches!(progress, Progress::Start { .. }) => Standing::Open,
            _ => ask(view, made.attempt + 1),
        };
    }
    match asked {
        Some(asked) => answer(view, asked),
        None if planned || refused.is_some() => ask(view, 1),
        None => Standing::Open,
    }
}

fn ask<'a>(view: &View<'a>, attempt: i32) -> Standing<'a> {
    usable(view).map_or_else(Standing::Unusable, |backup| Standing::Ask { backup, attempt })
}

/// What the Backup says to a request.
fn answer<'a>(view: &View<'a>, asked: &PreMigrationBackup) -> Standing<'a> {
    let backup = match usable(view) {
        Ok(backup) if backup.name_any() == asked.backup => backup,
        // The spec names another one now.
        Ok(backup) => return Standing::Ask { backup, attempt: asked.attempt + 1 },
        Err(message) => return Standing::Unusable(message),
    };
    match ask::answer(backup, &request_of(asked), "the backup before the migration", view.now) {
        Answer::Made(artifact) => Standing::Answered(artifact),
        Answer::Again => Standing::Ask { backup, attempt: asked.attempt + 1 },
        Answer::Waits(message) => Standing::Asked(message),
        Answer::Failed(message) => Standing::Failed(message),
    }
}

fn request_of(asked: &PreMigrationBackup) -> Request<'_> {
    Request { id: &asked.request_id, attempt: asked.attempt }
}

/// The Backup that can be asked.
fn usable<'a>(view: &View<'a>) -> Result<&'a Backup, String> {
    let what = "a backup must come before this migration (migrations.backup is Required)";
    let Some(name) = &view.stack.backup_ref else {
        return Err(format!(
            "{what} and migrations.backupRef names no Backup: make one with stackRef {} and name it, or set \
             migrations.backup to Never",
            view.stack.name
        ));
    };
    let Some(backup) = view.backup else {
        return Err(format!("{what} and the Backup {name} that migrations.backupRef names doesn't exist"));
    };
    if backup.spec.stack_ref.name != view.stack.name {
        let other = &backup.spec.stack_ref.name;
        return Err(format!("{what} and the Backup {name} that migrations.backupRef names is of the stack {other}"));
    }
    if backup.metadata.deletion_timestamp.is_some() {
        return Err(format!("{what} and the Backup {name} that migrations.backupRef names is being deleted"));
    }
    Ok(backup)
}

/// What was asked for the target, and answered.
#[must_use]
pub fn made<'a>(view: &View<'a>) -> Option<&'a PreMigrationBackup> {
    record(view).filter(|asked| asked.id.is_some())
}

/// What was asked for the target.
fn record<'a>(view: &View<'a>) -> Option<&'a PreMigrationBackup> {
    let asked = view.status.database.as_ref()?.pre_migration_backup.as_ref()?;
    (asked.revision == view.target).then_some(asked)
}

fn id(made: &PreMigrationBackup) -> &str {
    made.id.as_deref().unwrap_or_default()
}
