//! One moment of the database: the snapshot that the dump is made from, and what is in it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalogue::manifest::Objects;
use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::APPLICATION_NAME;
use crate::postgres::{self, Session, bounded};

const LIMIT: Duration = Duration::from_mins(1);
/// Tables of one question. Their locks are given back after it: the server has room for few thousand.
const AT_ONCE: usize = 100;

/// A snapshot that others can use as long as this lives.
#[derive(Debug)]
pub(crate) struct Snapshot {
    session: Session,
    lock_seconds: u64,
    /// Its name in the server.
    pub(crate) name: String,
}

/// Prepares a session for long work: no time-out that somebody set for the application ends it, the server ends it soon
/// after its client, and it takes one process, not the application's.
async fn prepare(session: &Session, lock_seconds: u64) -> Result<(), BackupError> {
    const SETTINGS: &str = "
        SELECT set_config(name, value, false) FROM (VALUES
            ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'),
            ('row_security', 'off'), ('client_connection_check_interval', '2s'),
            ('max_parallel_workers_per_gather', '0'), ('application_name', $1)) AS wanted (name, value)
        WHERE EXISTS (SELECT 1 FROM pg_settings WHERE pg_settings.name = wanted.name)";
    bounded(LIMIT, session.query(SETTINGS, &[&APPLICATION_NAME])).await.step("prepare the session")?;
    let lock = format!("SET lock_timeout = '{lock_seconds}s'");
    bounded(LIMIT, session.batch_execute(&lock)).await.step("prepare the session")
}

impl Snapshot {
    /// Takes one. `lock_seconds`: how long a table may be locked by somebody else.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn export(session: Session, lock_seconds: u64) -> Result<Self, BackupError> {
        prepare(&session, lock_seconds).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        bounded(LIMIT, session.batch_execute(begin)).await.step("begin a snapshot")?;
        let row = bounded(LIMIT, session.query_one("SELECT pg_export_snapshot()", &[])).await.step("export it")?;
        Ok(Self { name: row.get(0), lock_seconds, session })
    }

    /// Alembic's revisions in it.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn alembic(&self) -> Result<Vec<String>, BackupError> {
        let found = bounded(LIMIT, postgres::alembic_versions(&self.session)).await.step("read the revision")?;
        Ok(found.into_iter().collect())
    }

    /// How the database encodes text.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn encoding(&self) -> Result<String, BackupError> {
        let row = bounded(LIMIT, self.session.query_one("SELECT current_setting('server_encoding')", &[])).await;
        Ok(row.step("read the encoding")?.get(0))
    }

    /// Counts what there is besides rows.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn objects(&self) -> Result<Objects, BackupError> {
        const OBJECTS: &str = "
            WITH people AS (SELECT oid FROM pg_namespace
                            WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'),
                 members AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e')
            SELECT
              (SELECT count(*) FROM pg_class c WHERE relnamespace IN (SELECT oid FROM people) AND relkind = 'S'
                 AND NOT EXISTS (SELECT 1 FROM members WHERE classid = 'pg_class'::regclass AND objid = c.oid)),
              (SELECT count(*) FROM pg_class c WHERE relnamespace IN (SELECT oid FROM people) AND relkind IN ('i', 'I')),
              (SELECT count(*) FROM pg_constraint WHERE connamespace IN (SELECT oid FROM people) AND contype <> 'n'),
              (SELECT count(*) FROM pg_class c WHERE relnamespace IN (SELECT oid FROM people) AND relkind IN ('v', 'm')
                 AND NOT EXISTS (SELECT 1 FROM members WHERE classid = 'pg_class'::regclass AND objid = c.oid)),
              (SELECT count(*) FROM pg_proc p WHERE pronamespace IN (SELECT oid FROM people)
                 AND NOT EXISTS (SELECT 1 FROM members WHERE classid = 'pg_proc'::regclass AND objid = p.oid)),
              (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal),
              (SELECT count(*) FROM pg_type t WHERE typnamespace IN (SELECT oid FROM people)
                 AND typtype IN ('e', 'd', 'r')
                 AND NOT EXISTS (SELECT 1 FROM members WHERE classid = 'pg_type'::regclass AND objid = t.oid)),
              (SELECT count(*) FROM pg_largeobject_metadata)";
        let row = bounded(LIMIT, self.session.query_one(OBJECTS, &[])).await.step("count objects")?;
        Ok(Objects {
            sequences: row.get(0),
            indexes: row.get(1),
            constraints: row.get(2),
            views: row.get(3),
            functions: row.get(4),
            triggers: row.get(5),
            types: row.get(6),
            large: row.get(7),
        })
    }

    /// Names of all tables with rows of their own, as SQL quotes them: not those of extensions, nor foreign ones.
    async fn tables(&self) -> Result<Vec<String>, BackupError> {
        const TABLES: &str = "
            SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND c.relpersistence <> 't'
              AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                              AND d.objid = c.oid AND d.deptype = 'e')
            ORDER BY 1";
        let rows = bounded(LIMIT, self.session.query(TABLES, &[])).await.step("list tables")?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Counts the rows of every table, by another session: this one would keep the locks.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn rows(&self, counter: &Session) -> Result<BTreeMap<String, i64>, BackupError> {
        prepare(counter, self.lock_seconds).await?;
        let tables = self.tables().await?;
        let mut counts = BTreeMap::new();
        for tables in tables.chunks(AT_ONCE) {
            counts.extend(self.count(counter, tables).await?);
        }
        Ok(counts)
    }

    async fn count(&self, counter: &Session, tables: &[String]) -> Result<Vec<(String, i64)>, BackupError> {
        const STEP: &str = "count rows";
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{}'",
            self.name.replace('\'', "''")
        );
        bounded(LIMIT, counter.batch_execute(&begin)).await.step("use the snapshot")?;
        let each = tables.iter().enumerate().map(|(at, name)| format!("SELECT {at}, count(*) FROM ONLY {name}"));
        let question = each.collect::<Vec<_>>().join(" UNION ALL ");
        // As long as it takes: the run as a whole has a limit.
        let rows = counter.query(&question, &[]).await.step(STEP)?;
        bounded(LIMIT, counter.batch_execute("COMMIT")).await.step(STEP)?;
        let name = |at: i32| usize::try_from(at).ok().and_then(|at| tables.get(at)).cloned().unwrap_or_default();
        Ok(rows.iter().map(|row| (name(row.get(0)), row.get(1))).collect())
    }
}
