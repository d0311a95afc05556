//! `alembic upgrade head` by the image's own Python, proven by the database.
//!
//! Alembic puts a whole upgrade into one transaction, so a failure leaves nothing. The
//! exit code alone proves neither: what `alembic_version` holds afterwards counts.

use std::collections::BTreeSet;

use crate::migrate::alembic::{self, Failure};
use crate::migrate::backup::revisions;
use crate::migrate::blockers::{self, Blocker};
use crate::migrate::child::{Finished, Python};
use crate::migrate::decide::Image;
use crate::migrate::error::MigrateError;
use crate::migrate::inspect;
use crate::migrate::lock::Lock;
use crate::postgres::Session;
use crate::report::Outcome;

/// Brings the schema to the image's heads.
///
/// # Errors
/// `MigrationFailed`, `MigrationBlocked` or `MigrationIncomplete`.
pub(crate) async fn run(
    session: &Session,
    lock: &Lock,
    python: &Python<'_>,
    image: &Image,
    database: &str,
) -> Result<(), MigrateError> {
    let before = inspect::current(session).await?;
    let work = alembic::run(python, "alembic upgrade", &["upgrade", "head"]);
    let (finished, blockers) = blockers::watched(lock, database, work).await;
    let finished = finished?;
    let after = inspect::current(session).await?;
    let heads: BTreeSet<_> = image.heads.iter().cloned().collect();
    if after == heads {
        if !finished.status.success() {
            tracing::warn!(status = finished.status_text(), "the database is at the head, whatever Alembic ended with");
        }
        return lock.still_held().await;
    }
    let changed = if after == before {
        "nothing was changed".to_owned()
    } else {
        format!("the database is at {} now", revisions(&after))
    };
    if finished.status.success() {
        return Err(incomplete("alembic upgrade", &after, &heads));
    }
    Err(failure("alembic upgrade", &finished, &blockers, &changed))
}

/// Records a revision without running it.
///
/// # Errors
/// `MigrationFailed` or `MigrationIncomplete`.
pub(crate) async fn stamp(
    session: &Session,
    lock: &Lock,
    python: &Python<'_>,
    revision: &str,
) -> Result<(), MigrateError> {
    let finished = alembic::run(python, "alembic stamp", &["stamp", revision]).await?;
    lock.still_held().await?;
    let after = inspect::current(session).await?;
    if after == [revision.to_owned()].into() {
        return Ok(());
    }
    let changed = format!("the database is at {}", revisions(&after));
    if finished.status.success() {
        return Err(incomplete("alembic stamp", &after, &[revision.to_owned()].into()));
    }
    Err(failure("alembic stamp", &finished, &[], &changed))
}

fn incomplete(step: &str, after: &BTreeSet<String>, wanted: &BTreeSet<String>) -> MigrateError {
    MigrateError::Decided {
        outcome: Outcome::Refused,
        reason: "MigrationIncomplete",
        message: format!(
            "{step} ended without an error, but the database is at {} instead of {}",
            revisions(after),
            revisions(wanted)
        ),
    }
}

fn failure(step: &str, finished: &Finished, blockers: &[Blocker], changed: &str) -> MigrateError {
    let why = Failure::of(finished);
    if why.sqlstate.as_deref() == Some(alembic::LOCK_TIMEOUT) {
        return blocked(step, blockers, changed);
    }
    let told = finished.tail.contains(&why.text);
    let text = if told { finished.tail.clone() } else { format!("{}\n{}", why.text, finished.tail) };
    let passing = why.is_passing() || finished.status.code().is_none();
    MigrateError::Decided {
        outcome: if passing { Outcome::Failed } else { Outcome::Refused },
        reason: "MigrationFailed",
        message: format!("{step} failed ({}), {changed}: {text}", finished.status_text()),
    }
}

/// A lock did not become free in time.
pub(crate) fn blocked(step: &str, blockers: &[Blocker], changed: &str) -> MigrateError {
    let who = match blockers {
        [] => "by a session that is gone".to_owned(),
        _ => format!("by {}", blockers.iter().map(Blocker::to_string).collect::<Vec<_>>().join("; ")),
    };
    MigrateError::Decided {
        outcome: Outcome::Failed,
        reason: "MigrationBlocked",
        message: format!("{step} waited 5 s for a lock that was held {who}; {changed}"),
    }
}
