//! `agent backup`: lock → whose → room → snapshot → dump beside counts → read back → manifest → retention → report.
//!
//! The manifest is the success, and it is written last. Until then nothing that was good is touched.

pub(crate) mod retention;
mod settings;

use std::process::ExitCode;

use jiff::Timestamp;

use crate::backup::settings::Settings;
use crate::catalogue::id::Id;
use crate::catalogue::manifest::{self, Manifest};
use crate::catalogue::owner::{self, Claim, Owner};
use crate::catalogue::volume::{Entry, State, Volume};
use crate::config::{Database, Env};
use crate::dump::census::Snapshot;
use crate::dump::error::BackupError;
use crate::dump::tool::Tools;
use crate::job::{self, Success};
use crate::migrate::inspect;
use crate::migrate::lock::Lock;
use crate::migrate::logins::{Logins, login};
use crate::postgres::{self, Login, Session};
use crate::redact::Redactor;
use crate::report::{BackupReport, Facts};

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("backup", within(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn within(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let settings = Settings::from_env(env)?;
    tokio::time::timeout(settings.limit, backup(env, redactor, &settings, facts)).await.unwrap_or_else(|_| {
        let seconds = settings.limit.as_secs();
        Err(BackupError::failed("TimedOut", format!("no backup within {seconds} s (timeoutSeconds)")))
    })
}

async fn backup(
    env: &Env,
    redactor: &Redactor,
    settings: &Settings,
    facts: &mut Facts,
) -> Result<Success, BackupError> {
    let database = Database::from_env(env)?;
    let logins = Logins::read(env, &database, redactor)?;
    let reader = logins.admin.as_ref().unwrap_or(&logins.application);
    let lock = logins.lock(Some(settings.limit)).await?;
    let run = Run::prepare(reader, &lock, redactor, settings, facts).await?;
    let volume = &run.volume;
    let id = Id::new(Timestamp::now());
    let manifest = match run.make(&id).await {
        Ok(manifest) => manifest,
        Err(error) => {
            // It may be what fills the volume.
            if let Err(left) = volume.remove(&id) {
                tracing::warn!(%id, error = %left, "what the run left can't be removed; the next one does it");
            }
            return Err(error);
        }
    };
    let made = format!("backup {id}: {} tables, {} bytes, read back", manifest.tables.len(), manifest.bytes);
    // It is a success, whatever becomes of the old ones.
    let (removed, message) = match run.prune() {
        Ok(removed) => (removed, made),
        Err(error) => (0, format!("{made}; but what is too many could not be removed: {error}")),
    };
    facts.backup = Some(BackupReport::of(&manifest, removed));
    lock.release().await;
    Ok(("BackupSucceeded", message))
}

/// A run that may begin: the database and the place for its backup are what they should be.
struct Run<'a> {
    tools: Tools<'a>,
    login: &'a Login,
    lock: &'a Lock,
    settings: &'a Settings,
    volume: Volume,
    session: Session,
    incarnation: String,
    server_version: i32,
    dump_version: String,
    database_bytes: i64,
}

impl<'a> Run<'a> {
    async fn prepare(
        reader: &'a Login,
        lock: &'a Lock,
        redactor: &'a Redactor,
        settings: &'a Settings,
        facts: &mut Facts,
    ) -> Result<Self, BackupError> {
        let session = login(reader, "log in for the backup").await?;
        let incarnation = postgres::incarnation(&session)
            .await
            .map_err(|source| BackupError::Database { step: "read the incarnation", source })?;
        facts.incarnation = Some(incarnation.clone());
        let database_bytes = inspect::bytes(&session).await?;
        facts.database_bytes = Some(database_bytes);
        let server_version = inspect::server_version(&session).await?;
        let tools = Tools::new(reader, settings.lock_seconds, redactor);
        let (dump_version, major) = tools.version().await?;
        if major != server_version / 10_000 {
            let message = format!(
                "the server is PostgreSQL {}, and this image has {dump_version}: set job.image to one of the server's major version",
                server_version / 10_000
            );
            return Err(BackupError::refused("PostgresVersionMismatch", message));
        }
        let volume = Volume::open(settings.folder.clone()).map_err(BackupError::storage("open the catalogue"))?;
        let run = Self {
            tools,
            login: reader,
            lock,
            settings,
            volume,
            session,
            incarnation,
            server_version,
            dump_version,
            database_bytes,
        };
        run.claim()?;
        run.room(&run.sweep()?)?;
        Ok(run)
    }

    /// The catalogue is ours, from now on at the latest.
    fn claim(&self) -> Result<(), BackupError> {
        let system = self.incarnation.split('/').next().unwrap_or_default();
        let ours = Owner { database: format!("{system}/{}", self.login.database) };
        let found = self.volume.owner().map_err(BackupError::storage("read owner.json"))?;
        match owner::claim(found.as_ref(), &ours, self.settings.adopt.as_deref()) {
            Claim::Held => Ok(()),
            Claim::Write => self.volume.claim(&ours).map_err(BackupError::storage("write owner.json")),
            Claim::Refused => {
                let theirs = found.map(|it| it.database).unwrap_or_default();
                let message = format!(
                    "the catalogue belongs to another database ({theirs}), this one is {}: nothing is added or removed; set adopt: {theirs} to take it over, or choose another place",
                    ours.database
                );
                Err(BackupError::refused("ForeignOwner", message))
            }
        }
    }

    /// Removes what killed runs left: under the lock nobody else is at work. Returns what is there.
    fn sweep(&self) -> Result<Vec<Entry>, BackupError> {
        let mut entries = self.entries()?;
        for entry in &entries {
            match &entry.state {
                State::Unfinished => {
                    tracing::info!(id = %entry.id, "removing what an unfinished run left; it has no manifest");
                    self.volume.remove(&entry.id).map_err(BackupError::storage("remove an unfinished run"))?;
                }
                State::Damaged(why) => tracing::warn!(id = %entry.id, why, "a backup is damaged; it stays as it is"),
                State::Good { .. } => {}
            }
        }
        entries.retain(|entry| matches!(entry.state, State::Good { .. }));
        Ok(entries)
    }

    /// A volume that is nearly full is told before the run, not after.
    fn room(&self, entries: &[Entry]) -> Result<(), BackupError> {
        let good = entries.iter().rev().find_map(|entry| match &entry.state {
            State::Good { manifest, .. } => Some((manifest.bytes, manifest.database_bytes)),
            State::Damaged(_) | State::Unfinished => None,
        });
        let estimate = estimate(good, self.database_bytes);
        let needed = estimate.saturating_add(estimate / 2);
        let (free, _total) = self.volume.space().map_err(BackupError::storage("look for room"))?;
        if free >= needed {
            return Ok(());
        }
        let message = format!(
            "the volume has {free} bytes left, and the backup may need {needed}: make it larger, or keep fewer backups (retention.keepLast)"
        );
        Err(BackupError::failed("StorageFull", message))
    }

    /// Everything until the manifest.
    async fn make(&self, id: &Id) -> Result<Manifest, BackupError> {
        let started_at = Timestamp::now();
        let session = login(self.login, "log in for the snapshot").await?;
        let snapshot = Snapshot::export(session, self.settings.lock_seconds).await?;
        let (alembic, objects) = (snapshot.alembic().await?, snapshot.objects().await?);
        let encoding = snapshot.encoding().await?;
        let sink = async || self.volume.begin(id).map_err(BackupError::storage("begin the dump"));
        let dumping = async {
            let (stored, compression) = self.tools.dump(&snapshot.name, self.server_version / 10_000, sink).await?;
            self.volume.keep(id).map_err(BackupError::storage("flush the dump"))?;
            let file = self.volume.dump(id).map_err(BackupError::storage("open the dump"))?;
            let read = self.tools.read_back(file, compression).await?;
            if read != stored {
                let message = format!("{} bytes were written, and other {} are read back", stored.bytes, read.bytes);
                return Err(BackupError::failed("StorageCorrupt", message));
            }
            Ok((stored, compression))
        };
        let ((stored, compression), tables) = futures::try_join!(dumping, snapshot.rows(&self.session))?;
        let manifest = Manifest {
            version: manifest::VERSION,
            id: id.clone(),
            policy: self.settings.policy.clone(),
            reason: self.settings.reason,
            request: self.settings.request.clone(),
            started_at,
            completed_at: Timestamp::now(),
            bytes: stored.bytes,
            sha256: stored.sha256,
            compression,
            server_version: self.server_version,
            dump_version: self.dump_version.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            database: self.login.database.clone(),
            incarnation: self.incarnation.clone(),
            alembic,
            database_bytes: self.database_bytes,
            tables,
            objects,
            encoding,
        };
        self.lock.still_held().await?;
        self.volume.commit(&manifest).map_err(BackupError::storage("write the manifest"))?;
        Ok(manifest)
    }

    /// Removes what is too many, now that there is a new one. Returns how many.
    fn prune(&self) -> Result<usize, BackupError> {
        let surplus = retention::surplus(&self.entries()?, &self.settings.policy, self.settings.retention);
        for id in &surplus {
            tracing::info!(%id, "removing a backup beyond the retention");
            self.volume.remove(id).map_err(BackupError::storage("remove a backup"))?;
        }
        Ok(surplus.len())
    }

    fn entries(&self) -> Result<Vec<Entry>, BackupError> {
        self.volume.list().map_err(BackupError::storage("read the catalogue"))
    }
}

/// Bytes of the next dump: as many of the database's as the last time; all of them, the first time.
fn estimate(last: Option<(u64, i64)>, database_bytes: i64) -> u64 {
    let now = u128::from(database_bytes.unsigned_abs());
    match last {
        Some((bytes, then)) if then > 0 => {
            u64::try_from(u128::from(bytes) * now / u128::from(then.unsigned_abs())).unwrap_or(u64::MAX)
        }
        _ => database_bytes.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::the_first(None, 1000, 1000)]
    #[case::as_before(Some((100, 1000)), 1000, 100)]
    #[case::it_has_grown(Some((100, 1000)), 5000, 500)]
    #[case::a_manifest_without_a_size(Some((100, 0)), 1000, 1000)]
    fn bytes_of_the_next_dump(#[case] last: Option<(u64, i64)>, #[case] database: i64, #[case] bytes: u64) {
        assert_eq!(estimate(last, database), bytes);
    }
}
