//! `agent verify`: choose → room → throw-away server → restore → compare with the manifest → note → report.
//!
//! Compared is with the manifest, never with the live database, which is another one by now.

pub(crate) mod compare;
mod server;
mod settings;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::catalogue::choose;
use crate::catalogue::entry::{Entry, Verified};
use crate::catalogue::manifest::Manifest;
use crate::catalogue::place::Place;
use crate::catalogue::summary::Summary;
use crate::catalogue::volume;
use crate::config::Env;
use crate::dump::archive;
use crate::dump::error::BackupError;
use crate::dump::tool::{Source, Tools};
use crate::job::{self, Success};
use crate::redact::Redactor;
use crate::report::{Facts, VerifiedReport};
use crate::verify::compare::{Restored, differences, told};
use crate::verify::server::Server;
use crate::verify::settings::Settings;

/// How often it is looked whether the host's disk gets too full.
const LOOK: Duration = Duration::from_secs(1);
/// Nobody else is in the throw-away server.
const LOCK_SECONDS: u64 = 1;
/// The smallest reserve: one host has one disk, and the application lives on it.
const RESERVE: u64 = 5 << 30;
/// Name of the restored database.
const DATABASE: &str = "restored";

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("verify", within(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn within(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let settings = Settings::from_env(env, redactor)?;
    let result = tokio::time::timeout(settings.limit, verify(redactor, &settings, facts)).await;
    if let Err(error) = remove(&settings.scratch) {
        tracing::warn!(%error, "the scratch folder can't be removed");
    }
    result.unwrap_or_else(|_| {
        let seconds = settings.limit.as_secs();
        Err(BackupError::failed("TimedOut", format!("not verified within {seconds} s (timeoutSeconds)")))
    })
}

async fn verify(redactor: &Redactor, settings: &Settings, facts: &mut Facts) -> Result<Success, BackupError> {
    let place = settings.storage.open().map_err(BackupError::storage("open the catalogue"))?;
    let manifest = choose(&place.list().await.map_err(BackupError::storage("read the catalogue"))?, settings)?;
    // What a run left that was killed.
    remove(&settings.scratch)
        .and_then(|()| std::fs::create_dir_all(&settings.scratch))
        .map_err(BackupError::storage("make the scratch folder"))?;
    room(&manifest, settings)?;
    let restoring = restore(&place, &manifest, redactor, settings);
    let (restored, seconds) = tokio::select! {
        result = restoring => result?,
        error = too_full(settings) => return Err(error),
    };
    let differences = differences(&manifest, &restored);
    if !differences.is_empty() {
        let message = format!("backup {} restores to something else: {}", manifest.id, told(&differences));
        return Err(BackupError::refused("VerificationFailed", message));
    }
    let verified =
        Verified { completed_at: Timestamp::now(), restore_seconds: seconds, sha256: manifest.sha256.clone() };
    place.verified(&manifest.id, &verified).await.map_err(BackupError::storage("note the verification"))?;
    facts.verified = Some(VerifiedReport::of(&manifest.id, &verified));
    let summary = Summary::read(&place, &settings.policy).await;
    facts.catalogue = summary.inspect_err(|error| tracing::warn!(%error, "the catalogue can't be told")).ok();
    let tables = manifest.tables.len();
    Ok(("Verified", format!("backup {} was restored completely in {seconds} s: {tables} tables", manifest.id)))
}

/// The one that is asked for, or the newest good one of the policy.
fn choose(entries: &[Entry], settings: &Settings) -> Result<Manifest, BackupError> {
    let Settings { id, policy, .. } = settings;
    if let Some(id) = id {
        return choose::by_id(entries, id);
    }
    choose::newest(entries, |manifest, _| manifest.policy == *policy).ok_or_else(|| {
        BackupError::failed("ArtifactMissing", format!("there is no good backup of the policy {policy} yet"))
    })
}

/// The host has one disk, and a verification must not fill it.
fn room(manifest: &Manifest, settings: &Settings) -> Result<(), BackupError> {
    let needed = manifest.bytes.saturating_add(manifest.bytes / 2).max(manifest.database_bytes.unsigned_abs());
    let (free, reserve) = space(settings)?;
    if free >= needed.saturating_add(reserve) {
        return Ok(());
    }
    let message = format!(
        "the scratch volume has {free} bytes left; the restore may need {needed}, and {reserve} are left alone: make room, or give the Job's scratch volume another place"
    );
    Err(BackupError::failed("StorageFull", message))
}

/// Resolves when the reserve is touched.
async fn too_full(settings: &Settings) -> BackupError {
    loop {
        tokio::time::sleep(LOOK).await;
        match space(settings) {
            Ok((free, reserve)) if free < reserve => {
                let message =
                    format!("given up: the scratch volume has only {free} bytes left, and {reserve} are left alone");
                return BackupError::failed("StorageFull", message);
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Bytes that are left, and bytes that must be.
fn space(settings: &Settings) -> Result<(u64, u64), BackupError> {
    let (free, total) = volume::space(&settings.scratch).map_err(BackupError::storage("look for room"))?;
    Ok((free, settings.reserve.unwrap_or_else(|| RESERVE.max(total / 10))))
}

/// What a restore brings, and the seconds that it took.
async fn restore(
    place: &Place,
    manifest: &Manifest,
    redactor: &Redactor,
    settings: &Settings,
) -> Result<(Restored, u64), BackupError> {
    let mut file = open(place, manifest)?;
    let measured =
        archive::in_thread(move || archive::measure(&mut file)).await.map_err(BackupError::storage("read the dump"))?;
    if !measured.is_of(manifest) {
        let message =
            format!("the dump of backup {} isn't the one of its manifest: its SHA-256 is another", manifest.id);
        return Err(BackupError::refused("ArtifactDamaged", message));
    }
    let server = Server::start(&settings.scratch, redactor).await?;
    server.create(DATABASE, &manifest.encoding).await?;
    let began = Instant::now();
    let tools = Tools::new(&server.login(DATABASE), LOCK_SECONDS, redactor);
    // By one: nobody waits for it, and the application runs beside it.
    tools.restore(open(place, manifest)?, manifest, 1).await?;
    // Rounded up: it is a promise.
    let seconds = began.elapsed().as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
    let session = async || server.session(DATABASE).await;
    let restored = Restored::count(session().await?, &session().await?, LOCK_SECONDS).await?;
    Ok((restored, seconds))
}

fn open(place: &Place, manifest: &Manifest) -> Result<Source, BackupError> {
    place.source(&manifest.id).map_err(BackupError::storage("open the dump"))
}

/// A server whose agent was killed may still write there for a moment.
fn remove(folder: &Path) -> std::io::Result<()> {
    for _ in 0..50 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(Duration::from_millis(100));
            }
            other => return other,
        }
    }
    std::fs::remove_dir_all(folder)
}
