//! Commands of Alembic that change the schema, run by the image's own Python and proven by the
//! database.
//!
//! Alembic puts a whole way into one transaction, so a failure leaves nothing. The
//! exit code alone proves neither: what `alembic_version` holds afterwards counts.

use std::collections::BTreeSet;

use crate::migrate::alembic::{self, Failure};
use crate::migrate::backup::revisions;
use crate::migrate::blockers::{self, Blocker};
use crate::migrate::child::{APPLICATION_NAME, Finished, Python};
use crate::migrate::error::MigrateError;
use crate::migrate::inspect;
use crate::migrate::lock::Lock;
use crate::postgres::Session;
use crate::report::Outcome;

/// What such a command needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tools<'a> {
    /// As the application, in its database.
    pub(crate) session: &'a Session,
    /// Held meanwhile.
    pub(crate) lock: &'a Lock,
    /// The image's.
    pub(crate) python: &'a Python<'a>,
    /// The application's database.
    pub(crate) database: &'a str,
}

impl Tools<'_> {
    /// Brings the schema to the image's heads.
    ///
    /// # Errors
    /// `MigrationFailed`, `MigrationBlocked` or `MigrationIncomplete`.
    pub(crate) async fn upgrade(&self, heads: &[String]) -> Result<(), MigrateError> {
        self.run("alembic upgrade", &["upgrade", "head"], heads.iter().cloned().collect()).await
    }

    /// Takes the schema back to an earlier revision.
    ///
    /// # Errors
    /// As [`Tools::upgrade`].
    pub(crate) async fn downgrade(&self, revision: &str) -> Result<(), MigrateError> {
        self.run("alembic downgrade", &["downgrade", revision], [revision.to_owned()].into()).await
    }

    /// Records a revision without running it.
    ///
    /// # Errors
    /// As [`Tools::upgrade`].
    pub(crate) async fn stamp(&self, revision: &str) -> Result<(), MigrateError> {
        self.run("alembic stamp", &["stamp", revision], [revision.to_owned()].into()).await
    }

    async fn run(&self, step: &str, arguments: &[&str], wanted: BTreeSet<String>) -> Result<(), MigrateError> {
        let before = inspect::current(self.session).await?;
        let work = alembic::run(self.python, step, arguments);
        let (finished, mut blockers) = blockers::watched(self.lock, self.database, APPLICATION_NAME, work).await;
        let finished = finished?;
        let after = inspect::current(self.session).await?;
        if after == wanted {
            if !finished.status.success() {
                let status = finished.status_text();
                tracing::warn!(status, "the database is where {step} should bring it, whatever that ended with");
            }
            return self.lock.still_held().await;
        }
        if finished.status.success() {
            return Err(incomplete(step, &after, &wanted));
        }
        let changed = if after == before {
            "nothing was changed".to_owned()
        } else {
            format!("the database is at {} now", revisions(&after))
        };
        blockers::name_tables(self.session, &mut blockers).await;
        Err(failure(step, &finished, &blockers, &changed))
    }
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
    // The cause first: the end of a traceback may be nothing but SQL.
    let text = match (why.text.as_str(), finished.tail.as_str()) {
        ("", tail) => tail.to_owned(),
        (text, "") => text.to_owned(),
        (text, tail) => format!("{text}; its last lines: {tail}"),
    };
    let passing = why.is_passing() || finished.status.code().is_none();
    MigrateError::Decided {
        outcome: if passing { Outcome::Failed } else { Outcome::Refused },
        reason: "MigrationFailed",
        message: format!("{step} failed ({}), {changed}: {text}", finished.status_text()),
    }
}

/// A lock did not become free in time.
pub(crate) fn blocked(step: &str, blockers: &[Blocker], changed: &str) -> MigrateError {
    MigrateError::Decided {
        outcome: Outcome::Failed,
        reason: "MigrationBlocked",
        message: format!("{step} waited 5 s for a lock: {}; {changed}", blockers::named(blockers)),
    }
}
