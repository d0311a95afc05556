//! `agent restore tables`: locks → whose → who may → room → one transaction → report. Chosen tables of the live database
//! become what they are in a database that `load` has made beside it.
//!
//! The rows and the note on the loaded database are of one transaction: somebody who is killed leaves all of it done or
//! nothing, and nobody does it twice.

mod copy;
mod look;
mod names;
mod plan;
mod sequences;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::{Database, Env};
use crate::dump::error::{BackupError, Step as _};
use crate::job::{self, PATIENCE, Success};
use crate::migrate::blockers::{self, Blocker, name_tables, watched};
use crate::migrate::leftovers;
use crate::migrate::logins::{Logins, login};
use crate::migrate::pooler;
use crate::postgres::{Session, bounded};
use crate::redact::Redactor;
use crate::report::{CopiedTable, Facts, TablesReport};
use crate::restore::note::{self, Note};
use crate::restore::room;
use crate::restore::settings::{Target, reserve};
use crate::restore::tables::copy::{Copy, NOT_ALLOWED, count};
use crate::restore::tables::look::{Seen, look};
use crate::restore::tables::names::TableName;
use crate::restore::tables::plan::{Stands, allowed, plan, stands, withheld};

/// How its session in the live database shows itself to the server.
const APPLICATION_NAME: &str = "odooai-restore";
const LIMIT: Duration = Duration::from_mins(1);
/// Statistics are no part of it.
const ANALYZE: Duration = Duration::from_mins(5);
/// Tables that a message names.
const NAMED: usize = 5;
/// PostgreSQL's `lock_not_available` and `deadlock_detected`: somebody else was faster.
const IN_USE: [&str; 2] = ["55P03", "40P01"];

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("restore tables", within(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn within(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let target = Target::from_env(env)?;
    let tables = names::from_env(env)?;
    allowed(&tables)?;
    let done = tokio::time::timeout(target.limit, Box::pin(restore(env, redactor, &target, &tables)))
        .await
        .unwrap_or_else(|_| Err(target.late()))?;
    let message = told(&done);
    let Done { copied, millis, session, .. } = done;
    facts.tables = Some(TablesReport { copied, millis });
    if let Some(session) = session {
        analyze(&session, &tables).await;
    }
    Ok(("TablesRestored", message))
}

/// What was done, or had been.
struct Done {
    note: Note,
    tables: usize,
    copied: Vec<CopiedTable>,
    /// How long nobody could use the tables; `None`: it was so already.
    millis: Option<u64>,
    /// In the live database, where it was done just now.
    session: Option<Session>,
}

async fn restore(env: &Env, redactor: &Redactor, target: &Target, tables: &[TableName]) -> Result<Done, BackupError> {
    let live = Database::from_env(env)?;
    let Target { owner, database, .. } = target;
    if *database == live.name {
        let message = format!("{database} is the live database; nothing was changed");
        return Err(BackupError::refused("DatabaseNotLoaded", message));
    }
    let logins = Logins::read(env, &live, redactor)?;
    // Nobody drops the one, and nobody migrates or dumps the other.
    let held = logins.lock_of(database, Some(PATIENCE)).await?;
    let lock = logins.lock_of(&live.name, Some(PATIENCE)).await?;
    let how_it_stands = async |session| stands(database, note::find(session, database).await?.as_ref(), owner, tables);
    let note = match how_it_stands(held.session()).await? {
        Stands::Loaded(note) => note,
        Stands::Copied(note) => return Ok(already(&logins, note, database, tables).await),
    };
    let Sides { live: session, loaded, size } = Sides::open(&logins, database, tables).await?;
    if logins.admin.is_some() {
        room::before(lock.session(), size, reserve(env)?).await?;
    }
    leftovers::end(&session, APPLICATION_NAME).await?;
    let copy = Copy { live: &session, loaded: &loaded, database, owner, tables, locks: [&held, &lock] };
    let began = Instant::now();
    let (brought, blockers) = watched(&lock, &live.name, APPLICATION_NAME, copy.bring()).await;
    let copied = match brought {
        Ok(Some(copied)) => copied,
        Ok(None) => return Ok(already(&logins, note, database, tables).await),
        Err(error) => return Err(why(error, &session, blockers).await),
    };
    if let Err(error) = session.batch_execute("COMMIT").await.step("commit") {
        // The answer may have been lost, not the commit.
        if !matches!(how_it_stands(held.session()).await, Ok(Stands::Copied(_))) {
            return Err(why(error, &session, Vec::new()).await);
        }
    }
    let millis = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    lock.release().await;
    held.release().await;
    Ok(Done { note, tables: tables.len(), copied, millis: Some(millis), session: Some(session) })
}

/// Sessions in both databases, of a role that may do it.
struct Sides {
    live: Session,
    loaded: Session,
    /// Bytes of the tables in the loaded one.
    size: u64,
}

impl Sides {
    /// As the application, and as the superuser only where it has to be: functions of the tables run as who writes rows.
    async fn open(logins: &Logins, database: &str, tables: &[TableName]) -> Result<Self, BackupError> {
        let mut reason = String::new();
        for role in [Some(&logins.application), logins.admin.as_ref()].into_iter().flatten() {
            let live = login(role, "log in to the live database").await?;
            pooler::check(&live, role).await?;
            let loaded = login(&role.to(database), "log in to the loaded database").await?;
            let (here, there) = (look_at(&live, tables).await?, look_at(&loaded, tables).await?);
            plan(tables, &here, &there)?;
            match withheld(&here, &there) {
                None => return Ok(Self { size: size(&loaded, &there).await?, live, loaded }),
                Some(why) => reason = why,
            }
        }
        let message = format!(
            "this role may not restore the tables: it doesn't own, or see all rows of, {reason}; nothing was changed"
        );
        Err(BackupError::refused("RightsMissing", message))
    }
}

/// With an empty search path, so that all names are qualified.
async fn look_at(session: &Session, tables: &[TableName]) -> Result<Seen, BackupError> {
    bounded(LIMIT, session.batch_execute("SET search_path = ''")).await.step("look at the tables")?;
    look(session, tables).await
}

async fn size(session: &Session, seen: &Seen) -> Result<u64, BackupError> {
    const SIZE: &str = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM unnest($1::oid[]) AS t (oid)";
    let oids: Vec<u32> = seen.relations.iter().map(|relation| relation.oid).collect();
    let row = bounded(LIMIT, session.query_one(SIZE, &[&oids])).await.step("measure the tables")?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// What an earlier attempt did: the loaded database still has it. That it can't be counted is no failure.
async fn already(logins: &Logins, note: Note, database: &str, tables: &[TableName]) -> Done {
    let counted = tokio::time::timeout(LIMIT, Box::pin(recount(logins, database, tables))).await;
    let copied = counted.unwrap_or_else(|_late| Ok(Vec::new())).unwrap_or_else(|error| {
        tracing::warn!(%error, "the rows that were copied can't be counted");
        Vec::new()
    });
    Done { note, tables: tables.len(), copied, millis: None, session: None }
}

async fn recount(logins: &Logins, database: &str, tables: &[TableName]) -> Result<Vec<CopiedTable>, BackupError> {
    let role = logins.admin.as_ref().unwrap_or(&logins.application);
    let session = login(&role.to(database), "log in to the loaded database").await?;
    let seen = look_at(&session, tables).await?;
    count(&session, &plan(tables, &seen, &seen)?.tables).await
}

/// Gathers statistics; without them it is as well.
async fn analyze(session: &Session, tables: &[TableName]) {
    let names: Vec<_> = tables.iter().map(TableName::sql).collect();
    let analyze = format!("SET lock_timeout = '5s'; ANALYZE {}", names.join(", "));
    if let Err(error) = bounded(ANALYZE, session.batch_execute(&analyze)).await {
        tracing::warn!(%error, "statistics were not gathered");
    }
}

/// Why the transaction failed, for people.
async fn why(error: BackupError, session: &Session, mut blockers: Vec<Blocker>) -> BackupError {
    let BackupError::Database { source, .. } = &error else { return error };
    match source.code() {
        Some(code) if IN_USE.contains(&code) => {
            name_tables(session, &mut blockers).await;
            let message = format!(
                "waited too long for {}; nothing was changed: end it and try again",
                blockers::named(&blockers)
            );
            BackupError::refused("DatabaseInUse", message)
        }
        Some(NOT_ALLOWED) => BackupError::refused(
            "RightsMissing",
            format!("this role may not restore the tables ({source}); nothing was changed"),
        ),
        _ => error,
    }
}

fn told(done: &Done) -> String {
    let Done { note, tables, copied, millis, .. } = done;
    let (what, are) = if *tables == 1 { ("table", "is") } else { ("tables", "are") };
    let mut message = format!("{tables} {what} {are} as in backup {}", note.artifact);
    for (at, CopiedTable { name, rows }) in copied.iter().take(NAMED).enumerate() {
        let _never_fails = write!(
            message,
            "{} {name} ({rows} {})",
            if at == 0 { ":" } else { "," },
            if *rows == 1 { "row" } else { "rows" }
        );
    }
    if copied.len() > NAMED {
        let _never_fails = write!(message, " and {} more", copied.len() - NAMED);
    }
    if millis.is_none() {
        message.push_str("; it was so already");
    }
    message
}
