//! `agent restore load`: lock → what is there → choose → versions → room → new database → restore → compare with the
//! manifest → what else the live one has → note → report.
//!
//! The live database is only looked at. What was begun and not ended is begun anew.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::catalogue::choose;
use crate::catalogue::manifest::{Compression, Manifest};
use crate::catalogue::place::{Place, Storage};
use crate::config::{Database, Env};
use crate::dump::archive::{self, Stored};
use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::Tools;
use crate::job::{self, ATTEMPT, PATIENCE, Success};
use crate::migrate::inspect;
use crate::migrate::logins::{Logins, login};
use crate::postgres::{self, Login, Session, bounded};
use crate::redact::Redactor;
use crate::report::{Facts, RestoreReport};
use crate::restore::before::{Before, before};
use crate::restore::like::make_alike;
use crate::restore::new::{self, New};
use crate::restore::note::{self, Note, State};
use crate::restore::room;
use crate::restore::settings::Settings;
use crate::verify::compare::{Restored, differences, told};

const LIMIT: Duration = Duration::from_mins(1);
/// Nobody else is in the new database.
const LOCK_SECONDS: u64 = 1;

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("restore load", load(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn load(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let settings = Settings::from_env(env, redactor)?;
    let live = Database::from_env(env)?;
    let logins = Logins::read(env, &live, redactor)?;
    let database = settings.target.database.as_str();
    if database == live.name {
        return Err(BackupError::refused("DatabaseExists", format!("{database} is the live database")));
    }
    let lock = logins.lock_of(database, Some(PATIENCE)).await?;
    let maker = lock.session();
    let (found, noted) = (note::find(maker, database).await?, note::all(maker, &settings.target.owner).await?);
    match before(&settings.target, &settings.wanted, &live.name, found.as_ref(), &noted)? {
        Before::Done(note) => {
            let place = if note.state == State::Live { &live.name } else { database };
            let manifest = manifest_of(&settings.storage, &note.artifact).await;
            let id = note.artifact.clone();
            facts.restore =
                Some(report(maker, place, RestoreReport { id, ..RestoreReport::of(manifest.as_ref()) }).await);
            return Ok(("Restored", format!("backup {} was loaded already, and is in {place}", note.artifact)));
        }
        Before::Begun => new::drop(maker, database).await?,
        Before::Nothing => {}
    }

    let place = settings.storage.open().map_err(BackupError::storage("open the catalogue"))?;
    let entries = place.list().await.map_err(BackupError::storage("read the catalogue"))?;
    let manifest = settings.wanted.choose(&entries)?;
    let application = logins.application.to(database);
    let tools = Tools::new(&application, LOCK_SECONDS, redactor);
    versions(&tools, &manifest, maker).await?;
    if logins.admin.is_some() {
        room::before(maker, &manifest, settings.reserve).await?;
    }
    let note = |state| Note::new(&settings.target.owner, &manifest.id, state);
    New { maker, owner: &live.user, live: &live.name, database }.create(&note(State::Loading)).await?;
    let began = Instant::now();
    let watcher = match &logins.admin {
        Some(admin) => Some(login(&admin.to(&logins.locker.database), "log in to look for room").await?),
        None => None,
    };
    let restored = async {
        restore(&place, &manifest, &tools, &application, settings.jobs).await?;
        lock.still_held().await?;
        make_alike(maker, &live.name, database).await
    };
    let restored = tokio::select! {
        result = restored => result,
        error = room::runs_out(watcher.as_ref(), settings.reserve) => Err(error),
        () = tokio::time::sleep(settings.target.limit) => {
            let seconds = settings.target.limit.as_secs();
            Err(BackupError::failed("TimedOut", format!("not restored within {seconds} s")))
        }
    };
    let left = match restored {
        Ok(left) => left,
        Err(error) => {
            // It fills the disk that the live one needs.
            if let Err(left) = new::drop(maker, database).await {
                tracing::warn!(error = %left, "what was restored can't be dropped; the next attempt does it");
            }
            return Err(error);
        }
    };
    note::set(maker, database, &note(State::Loaded)).await?;
    let seconds = began.elapsed().as_secs();
    let all = RestoreReport { seconds: Some(seconds), ..RestoreReport::of(Some(&manifest)) };
    facts.restore = Some(report(maker, database, all).await);
    let (id, tables) = (&manifest.id, manifest.tables.len());
    let mut message = format!("backup {id} is in the database {database}: {tables} tables, {seconds} s");
    if !left.is_empty() {
        let _never_fails = write!(message, "; not copied: {}", left.join(", "));
    }
    lock.release().await;
    Ok(("Restored", message))
}

/// Adds where it is and how large it is; that it can't be measured is no failure.
async fn report(session: &Session, database: &str, report: RestoreReport) -> RestoreReport {
    let bytes = bounded(LIMIT, session.query_one("SELECT pg_database_size($1::name)", &[&database])).await;
    let bytes = bytes.inspect_err(|error| tracing::warn!(%error, "the database can't be measured"));
    RestoreReport { database: database.to_owned(), bytes: bytes.ok().map(|row| row.get(0)), ..report }
}

/// What is still known of a backup that was loaded already; that its catalogue is away is no failure.
async fn manifest_of(storage: &Storage, artifact: &str) -> Option<Manifest> {
    let listed = match storage.open() {
        Ok(place) => place.list().await,
        Err(error) => Err(error),
    };
    let entries = listed.inspect_err(|error| tracing::warn!(%error, "the catalogue can't be read")).ok()?;
    choose::by_id(&entries, &artifact.parse().ok()?).ok()
}

/// An artifact of an older or equal major version is restored, a newer one isn't.
async fn versions(tools: &Tools<'_>, manifest: &Manifest, session: &Session) -> Result<(), BackupError> {
    let (server, wanted) = (inspect::server_version(session).await? / 10_000, manifest.server_version / 10_000);
    let (program, major) = tools.version().await?;
    // Newer programs tell an older server what it doesn't know.
    if (wanted..=server).contains(&major) {
        return Ok(());
    }
    let message = format!(
        "backup {} is of PostgreSQL {wanted}; the server is {server} and the programs are {program}: restore it into a server of that version or a newer one",
        manifest.id
    );
    Err(BackupError::refused("PostgresVersionMismatch", message))
}

async fn restore(
    place: &Place,
    manifest: &Manifest,
    tools: &Tools<'_>,
    application: &Login,
    jobs: u32,
) -> Result<(), BackupError> {
    if !read(place, manifest, tools, jobs).await?.is_of(manifest) {
        let message = format!("the dump of backup {} isn't the one of its manifest", manifest.id);
        return Err(BackupError::refused("ArtifactDamaged", message));
    }
    let session = async || postgres::connect(application, ATTEMPT).await.step("log in to the new database");
    let restored = Restored::count(session().await?, &session().await?, LOCK_SECONDS).await?;
    let differences = differences(manifest, &restored);
    if differences.is_empty() {
        // A restore brings no statistics, and all load comes at once.
        return session().await?.batch_execute("ANALYZE").await.step("gather statistics");
    }
    let message = format!("backup {} restores to something else: {}", manifest.id, told(&differences));
    Err(BackupError::refused("VerificationFailed", message))
}

/// Lets the dump be read into the database, by several sessions where it is a file that nothing must be undone of: then
/// its hash is known before, and another one isn't read in. What the dump was.
async fn read(place: &Place, manifest: &Manifest, tools: &Tools<'_>, jobs: u32) -> Result<Stored, BackupError> {
    let mut source = place.source(&manifest.id).map_err(BackupError::storage("open the dump"))?;
    let path = place.path(&manifest.id).filter(|_| jobs > 1 && manifest.compression == Compression::Archive);
    let Some(path) = path else {
        return tools.restore(source, manifest.compression).await.map_err(BackupError::while_restoring);
    };
    let measured = archive::in_thread(move || archive::measure(&mut source)).await;
    let measured = measured.map_err(BackupError::storage("read the dump"))?;
    if measured.is_of(manifest) {
        tools.restore_file(&path, jobs).await.map_err(BackupError::while_restoring)?;
    }
    Ok(measured)
}
