//! `agent restore discard`: lock → whose → drop → report. What this restore has made and nobody took yet goes; nothing else.

use std::process::ExitCode;

use crate::config::{Database, Env};
use crate::dump::error::BackupError;
use crate::job::{self, PATIENCE, Success};
use crate::migrate::logins::Logins;
use crate::redact::Redactor;
use crate::restore::new;
use crate::restore::note::{self, Found, State};
use crate::restore::settings::Target;

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    job::run("restore discard", within(env, redactor)).publish(env, redactor)
}

async fn within(env: &Env, redactor: &Redactor) -> Result<Success, BackupError> {
    let target = Target::from_env(env)?;
    tokio::time::timeout(target.limit, discard(env, redactor, &target)).await.unwrap_or_else(|_| {
        let seconds = target.limit.as_secs();
        Err(BackupError::failed("TimedOut", format!("not dropped within {seconds} s")))
    })
}

async fn discard(env: &Env, redactor: &Redactor, target: &Target) -> Result<Success, BackupError> {
    let live = Database::from_env(env)?;
    let Target { owner, database, .. } = target;
    if *database == live.name {
        return Err(refused(database, "is the live database"));
    }
    let lock = Logins::read(env, &live, redactor)?.lock_of(database, Some(PATIENCE)).await?;
    let Some(found) = note::find(lock.session(), database).await? else {
        return Ok(("Discarded", format!("there was no database {database}")));
    };
    if let Some(why) = kept(&found, owner) {
        return Err(refused(database, why));
    }
    new::drop(lock.session(), database).await?;
    lock.release().await;
    Ok(("Discarded", format!("the database {database} was dropped")))
}

/// Why it is not this restore's to drop; `None`: it is.
fn kept(found: &Found, owner: &str) -> Option<&'static str> {
    match &found.note {
        None if found.begun == Some(note::mark(owner)) => None,
        Some(note) if note.owner != *owner => Some("is of another restore"),
        Some(note) => match note.state {
            State::Loading | State::Loaded => None,
            State::Live => Some("took the place of the live database"),
            State::Replaced => Some("was the live database"),
        },
        None => Some("was not made by this restore"),
    }
}

fn refused(database: &str, why: &str) -> BackupError {
    BackupError::refused("DiscardRefused", format!("{database} {why}; nothing was dropped"))
}
