//! `agent restore load`: lock → what is there → choose, or check a file → versions → room → new database → restore → compare
//! with the manifest, or the file → what else the live one has → note → report.
//!
//! The live database is only looked at. What was begun and not ended is begun anew.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::catalogue::id::Id;
use crate::config::{Database, Env};
use crate::dump::error::BackupError;
use crate::dump::tool::Tools;
use crate::job::{self, PATIENCE, Success};
use crate::migrate::lock::Lock;
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
use crate::restore::rights;
use crate::restore::room;
use crate::restore::settings::Settings;
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
            let loaded = Loaded::before(Some(&settings), &note).await;
            facts.restore = Some(loaded.report(maker, place).await);
            return Ok(("Restored", loaded.message(place)));
        }
        Before::Begun => new::drop(maker, database).await?,
        Before::Nothing => {}
    }
    let until = tokio::time::Instant::now() + settings.target.limit;
    let loaded = Load { settings: &settings, live: &live, logins: &logins, lock: &lock, redactor }.run(until).await?;
    facts.restore = Some(loaded.report(maker, database).await);
    let message = loaded.message(database);
    lock.release().await;
    Ok(("Restored", message))
}

/// A load into a database that isn't there, under its lock.
pub(crate) struct Load<'a> {
    /// What is loaded, and where to.
    pub(crate) settings: &'a Settings,
    /// The live database.
    pub(crate) live: &'a Database,
    /// Who loads.
    pub(crate) logins: &'a Logins,
    /// The lock of the new database.
    pub(crate) lock: &'a Lock,
    pub(crate) redactor: &'a Redactor,
}

impl Load<'_> {
    /// Loads all of it; what fails is dropped.
    ///
    /// # Errors
    /// Why it isn't loaded.
    pub(crate) async fn run(&self, until: tokio::time::Instant) -> Result<Loaded, BackupError> {
        let Self { settings, live, logins, lock, redactor } = self;
        let (database, maker) = (settings.target.database.as_str(), lock.session());
        let late = || settings.target.late();
        if logins.admin.is_none() {
            rights::look(maker, &live.name, settings.renames).await?;
        }
        let source = tokio::time::timeout_at(until, Source::find(settings)).await.unwrap_or_else(|_| Err(late()))?;
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
        let (report, left) = match restored {
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
        let report = RestoreReport { seconds: Some(began.elapsed().as_secs()), ..report };
        Ok(Loaded { told: source.told(), report, left })
    }
}

/// What is loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its name, for a message.
    told: String,
    report: RestoreReport,
    /// What the live one has, and this one couldn't be given.
    left: Vec<String>,
}

impl Loaded {
    /// What was loaded before, as far as it is still known.
    pub(crate) async fn before(settings: Option<&Settings>, note: &Note) -> Self {
        let manifest = match settings {
            Some(settings) => manifest_of(&settings.storage, &note.artifact).await,
            None => None,
        };
        let id = note.artifact.clone();
        let what = if id.parse::<Id>().is_ok() { "backup" } else { "the dump" };
        let told = format!("{what} {id}");
        Self { told, report: RestoreReport { id, ..RestoreReport::of(manifest.as_ref()) }, left: Vec::new() }
    }

    /// Id of the backup, or the path of the file.
    pub(crate) fn artifact(&self) -> &str {
        &self.report.id
    }

    /// One sentence for people; `place`: the database that it is in.
    pub(crate) fn message(&self, place: &str) -> String {
        let Self { told, report, left } = self;
        let Some(seconds) = report.seconds else { return format!("{told} was loaded already, and is in {place}") };
        let tables = report.tables.unwrap_or_default();
        let left = if left.is_empty() { String::new() } else { format!("; not copied: {}", left.join(", ")) };
        format!("{told} is in the database {place}: {tables} tables, {seconds} s{left}")
    }

    /// Adds where it is and how large it is; that it can't be measured is no failure.
    pub(crate) async fn report(&self, session: &Session, place: &str) -> RestoreReport {
        let bytes = bounded(LIMIT, session.query_one("SELECT pg_database_size($1::name)", &[&place])).await;
        let bytes = bytes.inspect_err(|error| tracing::warn!(%error, "the database can't be measured"));
        let bytes = bytes.ok().map(|row| row.get(0));
        RestoreReport { database: place.to_owned(), bytes, ..self.report.clone() }
    }
}
