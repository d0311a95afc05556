//! The one transaction in which the tables become what the loaded database has.

use std::pin::pin;
use std::time::Duration;

use futures::{SinkExt as _, TryStreamExt as _};
use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::dump::error::{BackupError, Step as _};
use crate::migrate::lock::Lock;
use crate::postgres::{DatabaseError, Session, bounded};
use crate::report::CopiedTable;
use crate::restore::note::{self, Note, State};
use crate::restore::tables::look::{Relation, look};
use crate::restore::tables::names::TableName;
use crate::restore::tables::plan::{Plan, Planned, Stands, plan, stands, told, violated};
use crate::restore::tables::sequences;

/// For a statement that reads no rows.
const LIMIT: Duration = Duration::from_mins(1);
/// PostgreSQL's `foreign_key_violation`.
const VIOLATED: &str = "23503";
/// PostgreSQL's `insufficient_privilege`.
pub(crate) const NOT_ALLOWED: &str = "42501";

/// Both databases, and what is meant.
pub(crate) struct Copy<'a> {
    pub(crate) live: &'a Session,
    pub(crate) loaded: &'a Session,
    /// Name of the loaded database.
    pub(crate) database: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) tables: &'a [TableName],
    /// Held while it works.
    pub(crate) locks: [&'a Lock; 2],
}

impl Copy<'_> {
    /// Brings them back, up to the commit; `None`: somebody has.
    ///
    /// # Errors
    /// Why not; the transaction is to be rolled back.
    pub(crate) async fn bring(&self) -> Result<Option<Vec<CopiedTable>>, BackupError> {
        let Self { live, loaded, tables, .. } = self;
        begin(loaded, "REPEATABLE READ READ ONLY").await?;
        begin(live, "READ COMMITTED READ WRITE").await?;
        let seen = look(live, tables).await?;
        self.run("lock the tables", &lock(&seen.relations)).await?;
        // Nobody changes them any more.
        let Stands::Loaded(note) = self.stands().await? else { return Ok(None) };
        let backup = look(loaded, tables).await?;
        let plan = plan(tables, &look(live, tables).await?, &backup)?;
        for key in &plan.keys {
            let drop = format!("ALTER TABLE {} DROP CONSTRAINT {}", key.from.sql(), escape_identifier(&key.name));
            self.run("drop a foreign key", &drop).await?;
        }
        for trigger in &plan.triggers {
            let name = escape_identifier(&trigger.name);
            let disable = format!("ALTER TABLE ONLY {} DISABLE TRIGGER {name}", trigger.table.sql());
            self.run("disable a trigger", &disable).await?;
        }
        self.run("empty the tables", &truncate(&plan.tables)).await?;
        let encoding = encoding(live).await?;
        for table in plan.tables.iter().filter(|table| !table.covered) {
            self.copy(table, &encoding).await?;
        }
        let (ours, theirs) =
            (sequences::read(live, &plan.relations).await?, sequences::read(loaded, &backup.relations).await?);
        for statement in sequences::statements(&ours, &theirs) {
            self.run("set a sequence", &statement).await?;
        }
        for trigger in &plan.triggers {
            let (how, name) = (if trigger.always { "ALWAYS " } else { "" }, escape_identifier(&trigger.name));
            let enable = format!("ALTER TABLE ONLY {} ENABLE {how}TRIGGER {name}", trigger.table.sql());
            self.run("enable a trigger", &enable).await?;
        }
        self.add_keys(&plan).await?;
        let copied = self.compare(&plan.tables).await?;
        let note = Note { state: State::Copied, tables: told(tables), ..note };
        self.run("note it on the loaded database", &note::statement(self.database, &note)).await?;
        for lock in self.locks {
            lock.still_held().await?;
        }
        Ok(Some(copied))
    }

    async fn stands(&self) -> Result<Stands, BackupError> {
        let found = note::find(self.live, self.database).await?;
        stands(self.database, found.as_ref(), self.owner, self.tables)
    }

    /// Runs a statement in the live database, however long it takes: the run as a whole has a limit.
    async fn run(&self, step: &'static str, sql: &str) -> Result<(), BackupError> {
        self.live.batch_execute(sql).await.step(step)
    }

    async fn copy(&self, table: &Planned, encoding: &str) -> Result<(), BackupError> {
        let columns = table.columns.iter().map(|it| escape_identifier(it)).collect::<Vec<_>>().join(", ");
        // As the server keeps text, and not by way of another encoding.
        let with = format!("WITH (FORMAT text, ENCODING {})", escape_literal(encoding));
        let out = format!("COPY (SELECT {columns} FROM {}) TO STDOUT {with}", only(table));
        let columns = if columns.is_empty() { columns } else { format!("({columns})") };
        let into = format!("COPY {} {columns} FROM STDIN {with}", table.name.sql());
        let reading = self.loaded.copy_out(&out).await.step("read the rows of the backup")?;
        let unfit = |error: tokio_postgres::Error| unfit(&table.name, error.into());
        let writing = self.live.copy_in(&into).await.map_err(unfit)?;
        let (mut reading, mut writing) = (pin!(reading), pin!(writing));
        while let Some(piece) = reading.try_next().await.step("read the rows of the backup")? {
            writing.feed(piece).await.map_err(unfit)?;
        }
        writing.finish().await.map_err(unfit)?;
        Ok(())
    }

    async fn add_keys(&self, plan: &Plan) -> Result<(), BackupError> {
        for key in &plan.keys {
            let (table, name) = (key.from.sql(), escape_identifier(&key.name));
            let add = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {}", key.definition);
            match self.run("add a foreign key again", &add).await {
                Err(BackupError::Database { source, .. }) if source.code() == Some(VIOLATED) => {
                    return Err(BackupError::refused("ForeignKeyViolated", violated(key, plan)));
                }
                other => other?,
            }
            if let Some(comment) = &key.comment {
                let comment = format!("COMMENT ON CONSTRAINT {name} ON {table} IS {}", escape_literal(comment));
                self.run("comment on a foreign key again", &comment).await?;
            }
        }
        Ok(())
    }

    async fn compare(&self, tables: &[Planned]) -> Result<Vec<CopiedTable>, BackupError> {
        let (here, there) = (count(self.live, tables).await?, count(self.loaded, tables).await?);
        match here.iter().zip(&there).find(|(here, there)| here != there) {
            None => Ok(here),
            Some((here, there)) => {
                let message = format!(
                    "the table {} would have {} rows instead of {}; nothing was changed",
                    here.name, here.rows, there.rows
                );
                Err(BackupError::refused("VerificationFailed", message))
            }
        }
    }
}

/// Begins a transaction in which no setting of the role or the database has a say.
async fn begin(session: &Session, mode: &str) -> Result<(), BackupError> {
    const SETTINGS: &str = "
        SELECT set_config(name, value, true) FROM (VALUES
            ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'),
            ('idle_session_timeout', '0'), ('client_connection_check_interval', '2s'), ('lock_timeout', '5s'),
            ('row_security', 'off'), ('search_path', ''), ('max_parallel_workers_per_gather', '0'),
            ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'), ('lc_monetary', 'C'),
            ('extra_float_digits', '3'), ('xmloption', 'content')) AS wanted (name, value)
        WHERE EXISTS (SELECT 1 FROM pg_catalog.pg_settings s WHERE lower(s.name) = wanted.name)";
    const STEP: &str = "begin the transaction";
    // What may be put off to the end would keep a table from being altered.
    let begin = format!("BEGIN ISOLATION LEVEL {mode}; SET CONSTRAINTS ALL IMMEDIATE");
    bounded(LIMIT, session.batch_execute(&begin)).await.step(STEP)?;
    bounded(LIMIT, session.query(SETTINGS, &[])).await.step(STEP)?;
    Ok(())
}

/// How the database keeps text.
async fn encoding(session: &Session) -> Result<String, BackupError> {
    const ENCODING: &str =
        "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
    Ok(bounded(LIMIT, session.query_one(ENCODING, &[])).await.step("ask for the encoding")?.get(0))
}

fn lock(relations: &[Relation]) -> String {
    let names: Vec<_> = relations.iter().map(|relation| format!("ONLY {}", relation.name.sql())).collect();
    format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", "))
}

fn truncate(tables: &[Planned]) -> String {
    format!("TRUNCATE {}", tables.iter().map(only).collect::<Vec<_>>().join(", "))
}

/// The rows of the table itself: what inherits from it is another table, but for partitions.
fn only(table: &Planned) -> String {
    if table.partitioned { table.name.sql() } else { format!("ONLY {}", table.name.sql()) }
}

/// What the live database said of a table's rows.
fn unfit(table: &TableName, source: DatabaseError) -> BackupError {
    let why = match &source {
        DatabaseError::Statement { code, message } if code.starts_with("23") => message.clone(),
        // What the server says of a value quotes it.
        DatabaseError::Statement { code, .. }
            if code != NOT_ALLOWED && ["22", "42", "P0"].iter().any(|class| code.starts_with(class)) =>
        {
            format!("a value isn't what the table may hold ({code})")
        }
        _ => return BackupError::Database { step: "write the rows", source },
    };
    let message = format!("rows of the backup don't fit the table {table}: {why}; nothing was changed");
    BackupError::refused("RowsUnfit", message)
}

/// Counts the rows of each table.
///
/// # Errors
/// What the server said.
pub(crate) async fn count(session: &Session, tables: &[Planned]) -> Result<Vec<CopiedTable>, BackupError> {
    let mut counted = Vec::new();
    for table in tables {
        let question = format!("SELECT count(*) FROM {}", only(table));
        let row = session.query_one(&question, &[]).await.step("count rows")?;
        counted.push(CopiedTable { name: table.name.to_string(), rows: row.get(0) });
    }
    Ok(counted)
}
