//! `agent restore discard`: lock → whose → drop → report. What this restore has made and nobody took yet goes, or what it
//! has set aside when that is asked for; nothing else.

use std::process::ExitCode;
use std::str::FromStr;

use crate::config::{Database, Env};
use crate::dump::error::BackupError;
use crate::job::{self, PATIENCE, Success};
use crate::migrate::logins::Logins;
use crate::redact::Redactor;
use crate::restore::new;
use crate::restore::note::{self, Found, State};
use crate::restore::settings::Target;

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// What was made and took no place.
    Begun,
    /// What was set aside.
    Replaced,
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Begun" => Ok(Self::Begun),
            "Replaced" => Ok(Self::Replaced),
            _ => Err("it must be one of Begun, Replaced"),
        }
    }
}

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
    let which = env.parsed("ODOOAI_RESTORE_DISCARD", Which::Begun)?;
    let live = Database::from_env(env)?;
    let Target { owner, database, .. } = target;
    if *database == live.name {
        return Err(refused(database, "is the live database"));
    }
    let lock = Logins::read(env, &live, redactor)?.lock_of(database, Some(PATIENCE)).await?;
    let Some(found) = note::find(lock.session(), database).await? else {
        return Ok(("Discarded", format!("there was no database {database}")));
    };
    if let Some(why) = kept(which, &found, owner) {
        return Err(refused(database, why));
    }
    new::drop(lock.session(), database).await?;
    lock.release().await;
    Ok(("Discarded", format!("the database {database} was dropped")))
}

/// Why it is not this restore's to drop; `None`: it is.
pub(crate) fn kept(which: Which, found: &Found, owner: &str) -> Option<&'static str> {
    let Some(note) = &found.note else {
        let begun = which == Which::Begun && found.begun == Some(note::mark(owner));
        return (!begun).then_some("was not made by this restore");
    };
    if note.owner != *owner {
        return Some("is of another restore");
    }
    match (which, note.state) {
        (Which::Begun, State::Loading | State::Loaded | State::Copied) | (Which::Replaced, State::Replaced) => None,
        (_, State::Live) => Some("took the place of the live database"),
        (Which::Begun, State::Replaced) => Some("was the live database"),
        (Which::Replaced, State::Loading | State::Loaded | State::Copied) => Some("was never the live database"),
    }
}

fn refused(database: &str, why: &str) -> BackupError {
    BackupError::refused("DiscardRefused", format!("{database} {why}; nothing was dropped"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::note::Note;

    #[test]
    fn each_goes_by_its_own_word() {
        let noted = |owner, state| Found { note: Some(Note::new(owner, "a", state)), begun: None };
        let begun = |owner| Found { note: None, begun: Some(note::mark(owner)) };
        for (found, goes) in [
            (noted("uid-1", State::Loading), [true, false]),
            (noted("uid-1", State::Loaded), [true, false]),
            (noted("uid-1", State::Copied), [true, false]),
            (noted("uid-1", State::Live), [false, false]),
            (noted("uid-1", State::Replaced), [false, true]),
            (noted("uid-2", State::Loaded), [false, false]),
            (noted("uid-2", State::Replaced), [false, false]),
            (begun("uid-1"), [true, false]),
            (begun("uid-2"), [false, false]),
            (Found { note: None, begun: None }, [false, false]),
        ] {
            let told = [Which::Begun, Which::Replaced].map(|which| kept(which, &found, "uid-1").is_none());
            assert_eq!(told, goes, "{found:?}");
        }
    }
}
