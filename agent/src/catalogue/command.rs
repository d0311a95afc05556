//! `agent catalogue`: tells what is there. `agent purge`: removes it, because the owner of the policy said so.

use std::process::ExitCode;

use crate::catalogue::bucket::SettingsError;
use crate::catalogue::entry::of_policy;
use crate::catalogue::place::{Place, Storage};
use crate::catalogue::summary::Summary;
use crate::config::Env;
use crate::dump::error::BackupError;
use crate::job::{self, Success};
use crate::redact::Redactor;
use crate::report::Facts;

/// Runs `agent catalogue`.
pub(crate) fn catalogue(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("catalogue", tell(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

/// Runs `agent purge`.
pub(crate) fn purge(env: &Env, redactor: &Redactor) -> ExitCode {
    job::run("purge", remove(env, redactor)).publish(env, redactor)
}

async fn tell(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let (storage, policy) = settings(env, redactor)?;
    let place = storage.open().map_err(BackupError::storage("open the catalogue"))?;
    let summary = Summary::read(&place, &policy).await.map_err(BackupError::storage("read the catalogue"))?;
    facts.catalogue = Some(summary);
    Ok(("CatalogueRead", "the catalogue was read".to_owned()))
}

/// Only of the catalogue that is known to be ours: `ODOOAI_BACKUP_OWNER`.
async fn remove(env: &Env, redactor: &Redactor) -> Result<Success, BackupError> {
    let (storage, policy) = settings(env, redactor)?;
    let ours = env.required("ODOOAI_BACKUP_OWNER").map_err(SettingsError::from)?;
    let place = storage.open().map_err(BackupError::storage("open the catalogue"))?;
    let copy = storage.open_copy().map_err(BackupError::storage("open the bucket"))?;
    let mut removed = 0;
    for place in [Some(place), copy].into_iter().flatten() {
        removed += remove_from(&place, ours, &policy).await?;
    }
    Ok(("Purged", format!("{removed} backups were removed")))
}

async fn remove_from(place: &Place, ours: &str, policy: &str) -> Result<usize, BackupError> {
    let owner = place.owner().await.map_err(BackupError::storage("read owner.json"))?;
    if owner.as_ref().is_none_or(|owner| owner.database != ours) {
        tracing::warn!(?owner, ours, "the catalogue is somebody else's, or nobody's; nothing is removed there");
        return Ok(0);
    }
    let entries = place.list().await.map_err(BackupError::storage("read the catalogue"))?;
    let given_up = of_policy(&entries, policy);
    for (manifest, _) in given_up.iter().rev() {
        place.remove(&manifest.id).await.map_err(BackupError::storage("remove a backup"))?;
    }
    Ok(given_up.len())
}

fn settings(env: &Env, redactor: &Redactor) -> Result<(Storage, String), BackupError> {
    let policy = env.required("ODOOAI_BACKUP_POLICY").map_err(SettingsError::from)?.to_owned();
    Ok((Storage::from_env(env, redactor)?, policy))
}
