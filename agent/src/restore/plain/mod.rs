//! What `pg_dump` wrote as SQL, compressed by gzip or not: read once to be known as whole and harmless, and once more into
//! the new database. Nothing describes it but itself.

mod lexer;
mod names;
mod read;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;

use postgres_protocol::escape::escape_identifier;

use crate::catalogue::place::Storage;
use crate::dump::archive::Stored;
use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::{Source, Tools};
use crate::job::ATTEMPT;
use crate::postgres::{self, Login, Session};
use crate::report::RestoreReport;
use crate::restore::LOCK_SECONDS;
use crate::restore::plain::names::Table;
use crate::restore::plain::read::{Failure, Passed, pass};
use crate::restore::plain::scan::{Fault, Scanned};
use crate::restore::settings::FilePath;
use crate::verify::compare::{Restored, told};

const OPEN: &str = "open the dump";
const READ: &str = "read the dump";
const DAMAGED: &str = "ArtifactDamaged";
const UNSUPPORTED: &str = "UnsupportedDump";
/// What to do about a dump that isn't loaded.
const ADVICE: &str = "dump one database by pg_dump without --create, as SQL (pg_dump database | gzip)";

/// A file that was read once.
#[derive(Debug)]
pub(crate) struct Plain {
    storage: Storage,
    path: FilePath,
    text: Stored,
    found: Scanned,
}

impl Plain {
    /// Reads it to its end: nothing is touched before.
    ///
    /// # Errors
    /// `ArtifactMissing`, `ArtifactDamaged`, `UnsupportedDump`, or the storage failed.
    pub(crate) async fn check(storage: &Storage, path: &FilePath) -> Result<Self, BackupError> {
        let source = open(storage, path)?;
        let passed = tokio::task::spawn_blocking(move || pass(source, &mut io::sink())).await;
        let passed = passed.map_err(io::Error::other).map_err(BackupError::storage(READ))?;
        let Passed { text, found } = passed.map_err(|failure| refused(path, failure))?;
        Ok(Self { storage: storage.clone(), path: path.clone(), text, found })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Length of its text.
    pub(crate) fn bytes(&self) -> u64 {
        self.text.bytes
    }

    /// A dump of an older or equal major version is loaded, a newer one isn't.
    ///
    /// # Errors
    /// `PostgresVersionMismatch`. `UnsupportedDump`: this psql can't be kept from running what it may take for commands.
    pub(crate) async fn check_version(&self, tools: &Tools<'_>, server: i32) -> Result<(), BackupError> {
        let path = self.path();
        if let Some(wanted) = self.found.major.filter(|wanted| *wanted > server) {
            let message = format!(
                "the dump {path} is of PostgreSQL {wanted}, and the server is {server}: load it into a server of that version or a newer one"
            );
            return Err(BackupError::refused("PostgresVersionMismatch", message));
        }
        if let Some(line) = self.found.doubt
            && !tools.can_restrict().await?
        {
            let message = format!(
                "line {line} of {path} has a string that ends with a backslash, and the image's psql is too old to read that without risk: use an image of PostgreSQL with \\restrict (since August of 2025), or dump rows by COPY"
            );
            return Err(BackupError::refused(UNSUPPORTED, message));
        }
        Ok(())
    }

    /// Brings it into the login's database, and compares that with the rows of the file.
    ///
    /// # Errors
    /// It isn't what it was any more, or the server or the storage failed.
    pub(crate) async fn bring(&self, tools: &Tools<'_>, application: &Login) -> Result<RestoreReport, BackupError> {
        let source = open(&self.storage, &self.path)?;
        // Nobody who wrote the file can know it.
        let key: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
        let key = tools.can_restrict().await?.then_some(key);
        let (again, ended) = tools.run_sql(key.as_deref(), move |sink| pass(source, sink)).await?;
        match again {
            // Why it takes no more it says itself.
            Err(Failure::Closed(error)) => {
                return Err(ended.err().map_or_else(|| BackupError::storage("hand the dump on")(error), explained));
            }
            Err(failure) => return Err(refused(&self.path, failure)),
            Ok(again) if again.text != self.text => {
                let message = format!("the dump {} was another one when it was read again", self.path());
                return Err(BackupError::refused(DAMAGED, message));
            }
            Ok(_) => ended.map_err(explained)?,
        }
        let session = async || postgres::connect(application, ATTEMPT).await.step("log in to the new database");
        let restored = Restored::count(session().await?, &session().await?, LOCK_SECONDS).await?;
        let differences = differences(&session().await?, &self.found.tables, &restored).await?;
        if !differences.is_empty() {
            let message = format!("the dump {} becomes something else: {}", self.path(), told(&differences));
            return Err(BackupError::refused("VerificationFailed", message));
        }
        Ok(RestoreReport {
            id: self.path().to_owned(),
            tables: Some(restored.tables.len()),
            rows: Some(restored.tables.values().sum()),
            alembic: Some(restored.alembic),
            ..RestoreReport::default()
        })
    }
}

fn open(storage: &Storage, path: &FilePath) -> Result<Source, BackupError> {
    storage.file(path.as_str()).map_err(|error| refused(path, Failure::Storage(error)))
}

/// What is wrong with a file, and what to do about it.
fn refused(path: &FilePath, failure: Failure) -> BackupError {
    let path = path.as_str();
    let (reason, message) = match failure {
        Failure::Storage(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                ("ArtifactMissing", format!("there is no {path} in the storage"))
            }
            io::ErrorKind::InvalidInput => {
                ("ConfigInvalid", format!("{path} is not below the root of the storage: {error}"))
            }
            io::ErrorKind::IsADirectory => (UNSUPPORTED, format!("{path} is a folder: {ADVICE}")),
            io::ErrorKind::Unsupported => (UNSUPPORTED, format!("{path} is no file: {ADVICE}")),
            _ => {
                return BackupError::storage(if error.kind() == io::ErrorKind::PermissionDenied { OPEN } else { READ })(
                    error,
                );
            }
        },
        Failure::Closed(error) => return BackupError::storage("hand the dump on")(error),
        Failure::Other(what) => (UNSUPPORTED, format!("{path} {what}: {ADVICE}")),
        Failure::Cut(bytes) => (DAMAGED, format!("{path} is cut off after {bytes} bytes")),
        Failure::Damaged(bytes, what) => (DAMAGED, format!("{path} is damaged within its first {bytes} bytes: {what}")),
        Failure::Fault(Fault::NoDump) => (DAMAGED, format!("{path} is no dump of pg_dump as SQL: {ADVICE}")),
        Failure::Fault(Fault::Cut) => (DAMAGED, format!("{path} is cut off")),
        Failure::Fault(Fault::Binary(line)) => (DAMAGED, format!("line {line} of {path} is no text")),
        Failure::Fault(Fault::Unsupported(line, what)) => {
            (UNSUPPORTED, format!("line {line} of {path} {what}: {ADVICE}"))
        }
    };
    BackupError::refused(reason, message)
}

/// psql's error, and what to do where it is about roles.
fn explained(error: BackupError) -> BackupError {
    let text = error.to_string();
    let is_role = ["role \"", "be member of role", "be able to SET ROLE"].iter().any(|words| text.contains(words));
    match error.while_restoring() {
        BackupError::Decided { outcome, reason, message } if is_role => {
            let message = format!("{message}; dump it with --no-owner and --no-privileges");
            BackupError::Decided { outcome, reason, message }
        }
        other => other,
    }
}

/// Tables that have other rows than the file; empty: none.
async fn differences(
    session: &Session,
    tables: &BTreeMap<Table, i64>,
    restored: &Restored,
) -> Result<Vec<String>, BackupError> {
    let there: BTreeMap<_, _> =
        restored.tables.iter().filter_map(|(name, rows)| Some((Table::parse(name)?, *rows))).collect();
    let mut found = Vec::new();
    for (table, rows) in tables {
        let has = |there: i64| format!("table {table} has {there} rows instead of {rows}");
        match there.get(table) {
            Some(there) if there == rows => {}
            Some(there) => found.push(has(*there)),
            None => match uncounted(session, table).await? {
                // Its rows may have come into its partitions by themselves too; those of extensions aren't ours alone.
                Some(there) if there >= *rows => {}
                Some(there) => found.push(has(there)),
                None => found.push(format!("table {table} is missing")),
            },
        }
    }
    Ok(found)
}

/// Rows of a table that no census counts: a partitioned one, or of an extension.
async fn uncounted(session: &Session, table: &Table) -> Result<Option<i64>, BackupError> {
    const STEP: &str = "count rows";
    const KNOWN: &str = "
        SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";
    if session.query_opt(KNOWN, &[&table.schema, &table.name]).await.step(STEP)?.is_none() {
        return Ok(None);
    }
    let name = format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name));
    let row = session.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.step(STEP)?;
    Ok(Some(row.get(0)))
}
