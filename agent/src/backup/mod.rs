//! `agent backup`: lock → whose → room → snapshot → dump beside counts → read back → manifest → retention → copy → report.
//!
//! The manifest is the success, and it is written last. Until then nothing that was good is touched.

mod care;
pub(crate) mod retention;
mod settings;

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;

use crate::backup::care::Rules;
use crate::backup::settings::Settings;
use crate::catalogue::id::Id;
use crate::catalogue::manifest::{self, Manifest};
use crate::catalogue::owner::Owner;
use crate::catalogue::place::Place;
use crate::catalogue::summary::Summary;
use crate::config::{Database, Env};
use crate::dump::census::Snapshot;
use crate::dump::error::BackupError;
use crate::dump::tool::{APPLICATION_NAME, Tools};
use crate::job::{self, Success};
use crate::migrate::blockers;
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
    let settings = Settings::from_env(env, redactor)?;
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
    let id = Id::new(Timestamp::now());
    let (made, mut blockers) =
        blockers::watched(&lock, &reader.database, APPLICATION_NAME, Box::pin(run.make(&id))).await;
    let manifest = match made {
        Ok(manifest) => manifest,
        Err(error) => {
            // It may be what fills the volume.
            if let Err(left) = run.place.remove(&id).await {
                tracing::warn!(%id, error = %left, "what the run left can't be removed; the next one does it");
            }
            blockers::name_tables(&run.session, &mut blockers).await;
            return Err(error.held_by(&blockers));
        }
    };
    // It is a success, whatever becomes of the old ones and of the copy.
    facts.backup = Some(BackupReport::of(&manifest, 0, None));
    let mut message = format!("backup {id}: {} tables, {} bytes, read back", manifest.tables.len(), manifest.bytes);
    let removed = match care::prune(&run.place, run.rules()).await {
        Ok((removed, left)) => {
            let summary = Summary::of(&run.place, &left, &settings.policy).await;
            facts.catalogue = summary.inspect_err(|error| tracing::warn!(%error, "the catalogue can't be told")).ok();
            removed
        }
        Err(error) => {
            let _never_fails = write!(message, "; but what is too many could not be removed: {error}");
            0
        }
    };
    let offsite = run.offsite().await.map(|copied| {
        if let Err(error) = &copied {
            let _never_fails = write!(message, "; but it could not be copied to the bucket: {error}");
        }
        copied.is_ok()
    });
    facts.backup = Some(BackupReport::of(&manifest, removed, offsite));
    lock.release().await;
    Ok(("BackupSucceeded", message))
}

/// A run that may begin: the database and the place for its backup are what they should be.
struct Run<'a> {
    tools: Tools<'a>,
    login: &'a Login,
    lock: &'a Lock,
    settings: &'a Settings,
    place: Place,
    session: Session,
    incarnation: String,
    server_version: i32,
    dump_version: String,
    database_bytes: i64,
    owner: Owner,
    /// Bytes of the dump, about.
    estimate: u64,
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
        let place = settings.storage.open().map_err(BackupError::storage("open the catalogue"))?;
        let owner = Owner::of(&incarnation, &reader.database);
        let mut run = Self {
            tools,
            login: reader,
            lock,
            settings,
            place,
            session,
            incarnation,
            server_version,
            dump_version,
            database_bytes,
            owner,
            estimate: 0,
        };
        care::claim(&run.place, run.rules()).await?;
        run.estimate = run.room(care::sweep(&run.place).await?.last())?;
        Ok(run)
    }

    fn rules(&self) -> Rules<'_> {
        let Settings { adopt, policy, retention, .. } = self.settings;
        Rules { owner: &self.owner, adopt: adopt.as_deref(), policy, retention: *retention }
    }

    /// Copies to the bucket what it lacks, if there is one beside the volume.
    async fn offsite(&self) -> Option<Result<usize, BackupError>> {
        let place = match self.settings.storage.open_copy().map_err(BackupError::storage("open the bucket")) {
            Ok(place) => place?,
            Err(error) => return Some(Err(error)),
        };
        Some(care::copy(&self.place, &place, self.rules()).await)
    }

    /// A volume that is nearly full is told before the run, not after. Returns how large the dump will be, about.
    fn room(&self, newest: Option<&Manifest>) -> Result<u64, BackupError> {
        let last = newest.map(|manifest| (manifest.bytes, manifest.database_bytes));
        let estimate = estimate(last, self.database_bytes);
        let needed = estimate.saturating_add(estimate / 2);
        let free = self.place.free().map_err(BackupError::storage("look for room"))?;
        let Some(free) = free.filter(|free| *free < needed) else { return Ok(estimate) };
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
        let sink = || self.place.sink(id, self.estimate).map_err(BackupError::storage("begin the dump"));
        let dumping = async {
            let (stored, compression) = self.tools.dump(&snapshot.name, self.server_version / 10_000, sink).await?;
            let source = self.place.source(id).map_err(BackupError::storage("open the dump"))?;
            let read = self.tools.read_back(source, compression).await?;
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
        self.place.commit(&manifest).await.map_err(BackupError::storage("write the manifest"))?;
        Ok(manifest)
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
