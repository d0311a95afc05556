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
        return Err(MigrateError::Decided {
            outcome: Outcome::Refused,
            reason: "MigrationIncomplete",
            message: format!(
                "alembic upgrade ended without an error, but the database is at {} instead of {}",
                revisions(&after),
                revisions(&heads)
            ),
        });
    }
    Err(failure(&finished, &blockers, &changed))
}

fn failure(finished: &Finished, blockers: &[Blocker], changed: &str) -> MigrateError {
    let why = Failure::of(finished);
    if why.sqlstate.as_deref() == Some(alembic::LOCK_TIMEOUT) {
        return blocked("alembic upgrade", blockers, changed);
    }
    let passing = why.is_passing() || finished.status.code().is_none();
    MigrateError::Decided {
        outcome: if passing { Outcome::Failed } else { Outcome::Refused },
        reason: "MigrationFailed",
        message: format!("alembic upgrade failed ({}), {changed}: {}", finished.status_text(), finished.tail),
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
