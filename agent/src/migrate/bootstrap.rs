//! An empty database gets its schema, and a killed attempt is finished by the next.
//!
//! `create_all` and `alembic stamp` are two transactions of two processes. Between
//! them the database has tables and no revision, like a database that somebody else
//! made. The table `odooai.bootstrap`, which only this file writes and which is gone
//! at the end, tells the two apart. It stands in a schema of its own, which `alembic
//! check` and the application never look at.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::migrate::alembic;
use crate::migrate::change::Tools;
use crate::migrate::decide::Image;
use crate::migrate::error::{MigrateError, Step};
use crate::migrate::inspect;
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_secs(30);

const INIT_DB: &str = "from app.models.audit import init_db; init_db()";

/// Makes the schema and proves it.
///
/// # Errors
/// When a process fails, the lock is lost, or the database doesn't show the result.
pub(crate) async fn run(tools: Tools<'_>, image: &Image) -> Result<(), MigrateError> {
    let Tools { session, lock, python, .. } = tools;
    begin(session, &image.heads).await?;
    python.run("init_db", &["-c", INIT_DB]).await?.success("init_db")?;
    lock.still_held().await?;
    let made = inspect::found(session).await?;
    if made.tables == 0 {
        return Err(MigrateError::NoEvidence(
            "init_db ended without an error, but the database has no tables".to_owned(),
        ));
    }
    alembic::run(python, "alembic stamp head", &["stamp", "head"]).await?.success("alembic stamp head")?;
    lock.still_held().await?;
    let heads: BTreeSet<_> = image.heads.iter().cloned().collect();
    let stamped = inspect::found(session).await?;
    if stamped.current != heads {
        return Err(MigrateError::NoEvidence(format!(
            "alembic stamp ended without an error, but the database is at {:?} instead of {heads:?}",
            stamped.current
        )));
    }
    end(session).await
}

/// Says that the tables to come are ours.
async fn begin(session: &Session, heads: &[String]) -> Result<(), MigrateError> {
    bounded(LIMIT, async {
        session
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS odooai;
                 CREATE TABLE IF NOT EXISTS odooai.bootstrap
                   (heads text[] NOT NULL, started_at timestamptz NOT NULL DEFAULT now());
                 DELETE FROM odooai.bootstrap",
            )
            .await?;
        session.execute("INSERT INTO odooai.bootstrap (heads) VALUES ($1)", &[&heads]).await
    })
    .await
    .step("mark the beginning")?;
    Ok(())
}

/// Removes the mark; also of an attempt that was killed after its stamp.
///
/// # Errors
/// What the server said.
pub(crate) async fn end(session: &Session) -> Result<(), MigrateError> {
    bounded(LIMIT, session.batch_execute("DROP TABLE IF EXISTS odooai.bootstrap")).await.step("remove the mark")?;
    // Later features may keep something in the schema, then it stays.
    let dropped = bounded(LIMIT, session.batch_execute("DROP SCHEMA IF EXISTS odooai")).await;
    match dropped {
        Err(error) if error.code() != Some("2BP01") => Err(error).step("remove the mark's schema"),
        _ => Ok(()),
    }
}
