//! Asking a Backup for an artifact, before a migration or a restore in place. The request stands in the status of who asks
//! before it is made; what the Backup says to it is read here.

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::{ArtifactStatus, Backup, RunResult};
use odoo_ai_crds::conditions::{annotations, types};
use serde_json::json;

use crate::cluster::FIELD_MANAGER;
use crate::context::Context;
use crate::rollout::jobs;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The value of `backup-requested-at`.
    pub id: &'a str,
    /// How often, from 1.
    pub attempt: i32,
}

/// What a Backup says to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<'a> {
    /// There is an artifact that answers it.
    Made(&'a ArtifactStatus),
    /// The attempt failed a while ago: it is to be asked for anew.
    Again,
    /// It is being made, or will be.
    Waits(String),
    /// It can't be made, or not now.
    Failed(String),
}

/// Reads what the Backup says. `what` is wanted, for people: `the backup before the migration`.
#[must_use]
pub fn answer<'a>(backup: &'a Backup, request: &Request<'_>, what: &str, now: Timestamp) -> Answer<'a> {
    let (name, status) = (backup.name_any(), backup.status.as_ref());
    let ours = |id: Option<&String>| id.is_some_and(|id| id == request.id);
    let artifacts = status.into_iter().flat_map(|status| status.last_success.iter().chain(&status.artifacts));
    if let Some(artifact) = artifacts.into_iter().find(|artifact| ours(artifact.request_id.as_ref())) {
        return Answer::Made(artifact);
    }
    let attempt = status.and_then(|status| status.last_attempt.as_ref()).filter(|it| ours(it.request_id.as_ref()));
    match attempt {
        Some(run) if run.result == RunResult::Failed => {
            let ended = run.completed_at.as_ref().map_or(now, |time| time.0);
            if ended + jobs::pause(request.attempt.unsigned_abs()) <= now {
                return Answer::Again;
            }
            let why = run.message.as_deref().unwrap_or("it left no message");
            Answer::Failed(format!("Job {} of Backup {name} failed and is tried again: {why}", run.job))
        }
        Some(run) => Answer::Waits(format!("Job {} of Backup {name} makes a backup", run.job)),
        None => match condition(backup, types::STALLED, "True") {
            Some(why) => Answer::Failed(format!("Backup {name} can't make {what}: {why}")),
            None if !is_missing(backup, request.id) && requested(backup) != Some(request.id) => {
                let other = requested(backup).unwrap_or_default();
                Answer::Waits(format!("Backup {name} has another request waiting ({other}); {what} comes after it"))
            }
            None => {
                // Why it isn't Ready, where that is for sure: it may keep the request from being answered.
                let says = condition(backup, types::READY, "False");
                let says = says.map(|why| format!(", and says: {why}")).unwrap_or_default();
                Answer::Waits(format!("Backup {name} was asked for a backup ({}){says}", request.id))
            }
        },
    }
}

/// The request must be on the Backup and isn't. One of somebody else that waits there comes first.
#[must_use]
pub fn is_missing(backup: &Backup, request: &str) -> bool {
    let (present, handled) = (requested(backup), handled(backup));
    let waits = present.is_some() && present != handled;
    ![present, handled].contains(&Some(request)) && !waits
}

/// Puts a request on a Backup. Somebody else's annotations stay as they are.
///
/// # Errors
/// The client's error.
pub async fn put(ctx: &Context, namespace: &str, backup: &str, request: &str) -> kube::Result<()> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    let annotation = json!({"metadata": {"annotations": {annotations::BACKUP_REQUESTED_AT: request}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_metadata(backup, &params, &Patch::Merge(annotation)).await?;
    ctx.metrics.writes.inc();
    Ok(())
}

fn condition<'a>(backup: &'a Backup, kind: &str, status: &str) -> Option<&'a str> {
    let conditions = &backup.status.as_ref()?.conditions;
    Some(&conditions.iter().find(|it| it.type_ == kind && it.status == status)?.message)
}

fn requested(backup: &Backup) -> Option<&str> {
    backup.annotations().get(annotations::BACKUP_REQUESTED_AT).map(String::as_str)
}

fn handled(backup: &Backup) -> Option<&str> {
    backup.status.as_ref()?.last_handled.as_ref()?.backup_requested_at.as_deref()
}
