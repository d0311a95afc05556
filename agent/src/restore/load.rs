//! `agent restore load`: lock → what is there → choose, or check a file → versions → room → new database → restore → compare
//! with the manifest, or the file → what else the live one has → note → report.
//!
//! The live database is only looked at. What was begun and not ended is begun anew.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::{Database, Env};
use crate::dump::error::BackupError;
use crate::dump::tool::Tools;
use crate::job::{self, PATIENCE, Success};
use crate::migrate::logins::{Logins, login};
use crate::postgres::{Session, bounded};
use crate::redact::Redactor;
use crate::report::{Facts, RestoreReport};
use crate::restore::LOCK_SECONDS;
use crate::restore::artifact::manifest_of;
use crate::restore::before::{Before, before};
use crate::restore::like::make_alike;
use crate::restore::new::{self, New};
use crate::restore::note::{self, Note, State};
use crate::restore::room;
use crate::restore::settings::{Settings, Wanted};
use crate::restore::source::Source;

const LIMIT: Duration = Duration::from_mins(1);

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
            let what = if matches!(settings.wanted, Wanted::File(_)) { "the dump" } else { "backup" };
            return Ok(("Restored", format!("{what} {} was loaded already, and is in {place}", note.artifact)));
        }
        Before::Begun => new::drop(maker, database).await?,
        Before::Nothing => {}
    }

    let limit = settings.target.limit;
    let until = tokio::time::Instant::now() + limit;
    let late = || BackupError::failed("TimedOut", format!("not restored within {} s", limit.as_secs()));
    let source = tokio::time::timeout_at(until, Source::find(&settings)).await.unwrap_or_else(|_| Err(late()))?;
    let application = logins.application.to(database);
    let tools = Tools::new(&application, LOCK_SECONDS, redactor);
    source.check_version(&tools, maker).await?;
    if logins.admin.is_some() {
        room::before(maker, source.needed(), settings.reserve).await?;
    }
    let note = |state| Note::new(&settings.target.owner, &source.name(), state);
    New { maker, owner: &live.user, live: &live.name, database }.create(&note(State::Loading)).await?;
    let began = Instant::now();
    let watcher = match &logins.admin {
        Some(admin) => Some(login(&admin.to(&logins.locker.database), "log in to look for room").await?),
        None => None,
    };
    let restored = async {
        let told = source.bring(&tools, &application, settings.jobs).await?;
        lock.still_held().await?;
        Ok((told, make_alike(maker, &live.name, database).await?))
    };
    let restored = tokio::select! {
        result = restored => result,
        error = room::runs_out(watcher.as_ref(), settings.reserve) => Err(error),
        () = tokio::time::sleep_until(until) => Err(late()),
    };
    let (told, left) = match restored {
        Ok(done) => done,
        Err(error) => {
            // It fills the disk that the live one needs.
            if let Err(left) = new::drop(maker, database).await {
                tracing::warn!(error = %left, "what was restored can't be dropped; the next attempt does it");
            }
            return Err(error);
        }
    };
    note::set(maker, database, &note(State::Loaded)).await?;
    let (seconds, tables) = (began.elapsed().as_secs(), told.tables.unwrap_or_default());
    facts.restore = Some(report(maker, database, RestoreReport { seconds: Some(seconds), ..told }).await);
    let mut message = format!("{} is in the database {database}: {tables} tables, {seconds} s", source.told());
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
