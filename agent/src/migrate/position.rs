//! Which of the pending revisions are done, whatever the database says of itself.

use std::collections::BTreeSet;

use crate::migrate::decide::Image;
use crate::migrate::error::MigrateError;
use crate::migrate::history::History;
use crate::migrate::offline::{self, Rendered};
use crate::migrate::place::place;
use crate::migrate::{child::Python, inspect};
use crate::postgres::Session;
use crate::report::Outcome;

/// What stands between a database and the image's head.
#[derive(Debug)]
pub(crate) struct Position {
    /// The revision that the database is to be taken to be at, where it doesn't say so.
    pub(crate) stamp: Option<String>,
    /// The revisions to come, oldest first.
    pub(crate) pending: Vec<Rendered>,
}

/// Looks from the recorded revisions on; none: from the beginning.
///
/// # Errors
/// `SchemaAmbiguous`; what Python or the server said.
pub(crate) async fn find(
    session: &Session,
    python: &Python<'_>,
    image: &Image,
    from: &BTreeSet<String>,
) -> Result<Position, MigrateError> {
    let mut pending = offline::upgrade(python, from).await?;
    let there = inspect::objects(session).await?;
    let done = place(&History::read(&pending), &there, !from.is_empty(), image.linear).map_err(|why| {
        let recorded = if from.is_empty() { "without a recorded revision" } else { "beside the recorded revision" };
        MigrateError::Decided {
            outcome: Outcome::Refused,
            reason: "SchemaAmbiguous",
            message: format!(
                "the database has tables {recorded}, and {why}: put that right, or record by hand where the schema is \
                 (alembic stamp)"
            ),
        }
    })?;
    let rest = pending.split_off(done);
    Ok(Position { stamp: pending.pop().map(|last| last.revision), pending: rest })
}
