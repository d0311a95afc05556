//! The application's database as `serve` sees it: one connection, kept while it works.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::config;
use crate::postgres::{self, DatabaseError, Login, Session, bounded};
use crate::redact::Redactor;
use crate::restore::note::{self, Note};
use crate::secret::Secret;
use crate::serve::fresh::Fresh;

/// Time for one question.
const LIMIT: Duration = Duration::from_secs(3);
/// Time for an old connection to prove itself before a new one is tried; with the
/// next it makes the 3 s of a check.
const OLD_CONNECTION: Duration = Duration::from_secs(1);
const NEW_CONNECTION: Duration = Duration::from_secs(2);
/// Counting may read a whole table; this often at most, and for so long at most.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// To measure a database the server looks at each of its files.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const STATEMENT_LIMIT: &str = "SET statement_timeout = '2s'";

/// The connection and how to get another.
#[derive(Debug)]
pub(crate) struct Database {
    config: config::Database,
    redactor: Arc<Redactor>,
    session: Mutex<Option<Arc<Session>>>,
    unprocessed: Fresh<Option<i64>>,
    restores: Fresh<Vec<Restored>>,
}

/// A database of the server that a restore made or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Its name.
    pub(crate) database: String,
    /// What is noted on it.
    pub(crate) note: Note,
    /// Its size, where the role may know it.
    pub(crate) bytes: Option<i64>,
}

/// What is in the database, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Content {
    /// Rows of `alembic_version`.
    pub(crate) schema: Vec<String>,
    /// Webhooks that were received and not processed.
    pub(crate) unprocessed: Option<i64>,
    /// Databases of restores, by name.
    pub(crate) restores: Vec<Restored>,
    /// Why something could not be read.
    pub(crate) message: String,
}

impl Database {
    /// Connects later.
    pub(crate) fn new(config: config::Database, redactor: Arc<Redactor>) -> Self {
        Self {
            config,
            redactor,
            session: Mutex::new(None),
            unprocessed: Fresh::new(COUNT_EVERY),
            restores: Fresh::new(LOOK_EVERY),
        }
    }

    /// `SELECT 1`, over a new connection if the kept one fails.
    ///
    /// # Errors
    /// One line for a person, within 3 s.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let mut slot = self.session.lock().await;
        if let Some(session) = slot.take()
            && bounded(OLD_CONNECTION, session.simple_query("SELECT 1")).await.is_ok()
        {
            *slot = Some(session);
            return Ok(());
        }
        let session = tokio::time::timeout(NEW_CONNECTION, self.connect(NEW_CONNECTION))
            .await
            .map_err(|_| DatabaseError::TimedOut(NEW_CONNECTION).to_string())??;
        *slot = Some(Arc::new(session));
        Ok(())
    }

    async fn connect(&self, limit: Duration) -> Result<Session, String> {
        let password =
            Secret::read_known(&self.config.password_file, &self.redactor).map_err(|error| error.to_string())?;
        let login = Login::application(&self.config, password);
        let session = postgres::connect(&login, limit).await.map_err(|error| error.to_string())?;
        let setting = format!("{STATEMENT_LIMIT}; SELECT 1");
        bounded(limit, session.simple_query(&setting)).await.map_err(|error| error.to_string())?;
        Ok(session)
    }

    /// Reads what is in it over the connection that [`Database::check`] keeps.
    pub(crate) async fn content(&self) -> Content {
        let Some(session) = self.session.lock().await.clone() else {
            return Content::default();
        };
        let mut content = Content::default();
        match bounded(LIMIT, postgres::alembic_versions(&session)).await {
            Ok(rows) => content.schema = rows.into_iter().collect(),
            Err(error) => content.message = error.to_string(),
        }
        content.unprocessed = self
            .unprocessed
            .get(|_| async {
                match bounded(LIMIT, count_unprocessed(&session)).await {
                    Ok(count) => count,
                    Err(error) => {
                        tracing::debug!(%error, "webhooks not counted");
                        None
                    }
                }
            })
            .await;
        content.restores = self
            .restores
            .get(|_| async {
                bounded(LIMIT, restores(&session)).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "databases of restores not looked for");
                    Vec::new()
                })
            })
            .await;
        content
    }
}

async fn restores(session: &Session) -> Result<Vec<Restored>, tokio_postgres::Error> {
    const QUESTION: &str = "
        SELECT datname::text, shobj_description(oid, 'pg_database'),
               CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
                    THEN pg_database_size(oid) END
        FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE '{\"odooaiRestore\"%' ORDER BY 1";
    let rows = session.query(QUESTION, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let note = note::parse(row.get::<_, Option<&str>>(1)?)?;
        Some(Restored { database: row.get(0), note, bytes: row.get(2) })
    };
    Ok(rows.iter().filter_map(read).collect())
}

async fn count_unprocessed(session: &Session) -> Result<Option<i64>, tokio_postgres::Error> {
    if !postgres::has_table(session, "webhook_events").await? {
        return Ok(None);
    }
    let row = session.query_one("SELECT count(*) FROM webhook_events WHERE processed IS NOT TRUE", &[]).await?;
    Ok(Some(row.get(0)))
}
