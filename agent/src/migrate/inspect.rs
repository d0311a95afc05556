//! What the database itself says, before and after.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Row;

use crate::migrate::decide::Found;
use crate::migrate::error::{MigrateError, Step};
use crate::migrate::history::Object;
use crate::postgres::{self, Session, bounded};

const LIMIT: Duration = Duration::from_secs(30);

/// Tables of people, not of the system, an extension, Alembic or this agent.
const COUNT_TABLES: &str = "
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f')
      AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'odooai')
      AND c.relname <> 'alembic_version'
      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')";

/// Reads what [`crate::migrate::decide::decide`] needs.
///
/// # Errors
/// What the server said.
pub(crate) async fn found(session: &Session) -> Result<Found, MigrateError> {
    bounded(LIMIT, async {
        let tables = session.query_one(COUNT_TABLES, &[]).await?.get(0);
        let current = postgres::alembic_versions(session).await?;
        let unfinished = if postgres::has_table(session, "odooai.bootstrap").await? {
            session
                .query_opt("SELECT heads FROM odooai.bootstrap LIMIT 1", &[])
                .await?
                .map(|row| row.get::<_, Vec<String>>(0).into_iter().collect())
        } else {
            None
        };
        Ok(Found { tables, current, unfinished })
    })
    .await
    .step("read the database's state")
}

/// All tables, columns, indexes and types of people, by the names that SQL without a schema
/// has for them, others with their schema.
///
/// # Errors
/// What the server said.
pub(crate) async fn objects(session: &Session) -> Result<BTreeSet<Object>, MigrateError> {
    const OBJECTS: &str = "
        WITH relations AS (
            SELECT c.oid, c.relkind,
                   (CASE WHEN pg_table_is_visible(c.oid) OR n.nspname = 'public' THEN c.relname
                         ELSE n.nspname || '.' || c.relname END)::text AS name
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')
        SELECT 'table', name, '' FROM relations WHERE relkind IN ('r', 'p', 'f')
        UNION ALL
        SELECT 'index', name, '' FROM relations WHERE relkind IN ('i', 'I')
        UNION ALL
        SELECT 'column', r.name, a.attname::text FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE r.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT 'type', (CASE WHEN pg_type_is_visible(t.oid) OR n.nspname = 'public' THEN t.typname
                             ELSE n.nspname || '.' || t.typname END)::text, ''
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')";
    let rows = bounded(LIMIT, session.query(OBJECTS, &[])).await.step("read what is there")?;
    let object = |row: &Row| match row.get(0) {
        "table" => Object::Table(row.get(1)),
        "index" => Object::Index(row.get(1)),
        "column" => Object::Column(row.get(1), row.get(2)),
        _ => Object::Type(row.get(1)),
    };
    Ok(rows.iter().map(object).collect())
}

/// Rows of `alembic_version`.
///
/// # Errors
/// What the server said.
pub(crate) async fn current(session: &Session) -> Result<BTreeSet<String>, MigrateError> {
    bounded(LIMIT, postgres::alembic_versions(session)).await.step("read the revision")
}

/// The server's version as a number: 150004 is 15.4.
///
/// # Errors
/// What the server said.
pub(crate) async fn server_version(session: &Session) -> Result<i32, MigrateError> {
    const VERSION: &str = "SELECT current_setting('server_version_num')::int4";
    let row = bounded(LIMIT, session.query_one(VERSION, &[])).await.step("read the server's version")?;
    Ok(row.get(0))
}

/// Whether the rules table is absent or empty.
///
/// # Errors
/// What the server said.
pub(crate) async fn rules_empty(session: &Session) -> Result<bool, MigrateError> {
    bounded(LIMIT, async {
        if !postgres::has_table(session, "automation_rules").await? {
            return Ok(true);
        }
        let row = session.query_one("SELECT NOT EXISTS (SELECT 1 FROM automation_rules)", &[]).await?;
        Ok(row.get(0))
    })
    .await
    .step("look for rules")
}

/// Size of the connected database in bytes.
///
/// # Errors
/// What the server said.
pub(crate) async fn bytes(session: &Session) -> Result<i64, MigrateError> {
    let row = bounded(LIMIT, session.query_one("SELECT pg_database_size(current_database())", &[]))
        .await
        .step("measure the database")?;
    Ok(row.get(0))
}
