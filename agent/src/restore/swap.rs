//! `agent restore swap`: lock → whose → both renames in one transaction → report. To undo it is the same, with the
//! database that was replaced.
//!
//! Who is logged in is logged out; who wants to log in waits, because the rename holds the database. So nothing has to be
//! closed before and opened again afterwards, and somebody who is killed leaves all of it done or nothing.

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postgres_protocol::escape::escape_identifier;

use crate::config::{Database, Env};
use crate::dump::error::{BackupError, Step as _};
use crate::job::{self, PATIENCE, Success};
use crate::migrate::lock::Lock;
use crate::migrate::logins::Logins;
use crate::postgres::{DatabaseError, Session, bounded};
use crate::redact::Redactor;
use crate::report::{Facts, SwapReport};
use crate::restore::note;
use crate::restore::places::{Names, Notes, There, Verdict, judge};
use crate::restore::settings::{Target, name};

/// For both renames: the server itself waits 5 s for others to leave, for each.
const LIMIT: Duration = Duration::from_secs(30);
/// How often those that are logged in are logged out.
const AGAIN: Duration = Duration::from_millis(100);
/// PostgreSQL's `object_in_use`: somebody is in the database and stays there.
const IN_USE: &str = "55006";
/// PostgreSQL's `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("restore swap", within(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn within(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let target = Target::from_env(env)?;
    let limit = target.limit;
    tokio::time::timeout(limit, swap(env, redactor, target, facts))
        .await
        .unwrap_or_else(|_| Err(BackupError::failed("TimedOut", format!("not swapped within {} s", limit.as_secs()))))
}

async fn swap(env: &Env, redactor: &Redactor, target: Target, facts: &mut Facts) -> Result<Success, BackupError> {
    let database = Database::from_env(env)?;
    let logins = Logins::read(env, &database, redactor)?;
    let sequence = env.parsed("ODOOAI_RESTORE_SEQUENCE", NonZeroU64::MIN)?;
    let names =
        Names { restored: target.database, live: database.name, replaced: name(env, "ODOOAI_RESTORE_REPLACED")? };
    can_rename(&logins, &names.live)?;
    // Nobody migrates the one, and nobody dumps the other.
    let held = logins.lock_of(&names.restored, Some(PATIENCE)).await?;
    let lock = logins.lock_of(&names.live, Some(PATIENCE)).await?;
    let message = |swapped| {
        let Names { restored, live, replaced } = &names;
        let told = format!("{restored} is {live} now, and what was {live} is kept as {replaced}");
        if swapped { told } else { format!("{told}; it was so already") }
    };
    let report = async |millis| {
        let (replaced, bytes) = (names.replaced.clone(), size(held.session(), &names.replaced).await);
        SwapReport { replaced, millis, bytes }
    };
    let millis = change_places(&held, &lock, &names, &target.owner, sequence).await?;
    facts.swap = Some(report(millis).await);
    lock.release().await;
    held.release().await;
    Ok(("Swapped", message(millis.is_some())))
}

/// Whether the session of the lock is where it can rename the live one from.
///
/// # Errors
/// `RenameNotPossible`.
pub(crate) fn can_rename(logins: &Logins, live: &str) -> Result<(), BackupError> {
    if logins.locker.database != live {
        return Ok(());
    }
    let message = "a database can't be renamed by who is logged in to it: give a lock database that is another one";
    Err(BackupError::refused("RenameNotPossible", message))
}

/// The swap of this number, under the locks of both databases: `held` is that of the restored one, `lock` that of the
/// live one. Milliseconds that it took; `None`: it was so already.
///
/// # Errors
/// Why they may not, or can't; nothing has changed.
pub(crate) async fn change_places(
    held: &Lock,
    lock: &Lock,
    names: &Names,
    owner: &str,
    sequence: NonZeroU64,
) -> Result<Option<u64>, BackupError> {
    let verdict = async |session| judge(names, &there(session, names).await?, owner, sequence.get());
    let notes = match verdict(lock.session()).await? {
        Verdict::Swap(notes) => notes,
        Verdict::Renumber(notes) => {
            let both = format!("BEGIN; {}; COMMIT", noted(names, &notes));
            bounded(LIMIT, lock.session().batch_execute(&both)).await.step("note it on the databases")?;
            return Ok(None);
        }
        Verdict::Done => return Ok(None),
    };
    let began = Instant::now();
    let done = tokio::select! {
        // By the session of the lock: as long as the server works on it, nobody else does.
        done = rename(lock.session(), names, &notes) => done,
        never = log_out(held.session(), names) => never,
    };
    if let Err(source) = done {
        // The answer may have been lost, not the renames.
        if !matches!(verdict(held.session()).await, Ok(Verdict::Done)) {
            return Err(why(source, held.session(), names).await);
        }
    }
    Ok(Some(began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)))
}

/// `None`: nobody answers, and it matters to nobody.
async fn size(session: &Session, database: &str) -> Option<i64> {
    let row = bounded(LIMIT, session.query_one("SELECT pg_database_size($1::name)", &[&database])).await.ok()?;
    row.get(0)
}

async fn there(session: &Session, names: &Names) -> Result<There, BackupError> {
    let find = async |name: &str| note::find(session, name).await;
    let Names { restored, live, replaced } = names;
    Ok(There { restored: find(restored).await?, live: find(live).await?, replaced: find(replaced).await? })
}

/// The statements that note a swap on both.
fn noted(names: &Names, notes: &Notes) -> String {
    let replaced = note::statement(&names.replaced, &notes.replaced);
    format!("{replaced}; {}", note::statement(&names.live, &notes.live))
}

async fn rename(session: &Session, names: &Names, notes: &Notes) -> Result<(), DatabaseError> {
    let [restored, live, replaced] =
        [&names.restored, &names.live, &names.replaced].map(|name| escape_identifier(name));
    let all = format!(
        "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '15s';
         ALTER DATABASE {live} RENAME TO {replaced}; ALTER DATABASE {restored} RENAME TO {live}; {}; COMMIT",
        noted(names, notes)
    );
    bounded(LIMIT, session.batch_execute(&all)).await
}

/// Logs out whoever may be logged out, again and again.
async fn log_out(session: &Session, names: &Names) -> Result<(), DatabaseError> {
    const OUT: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname IN ($1, $2) AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    loop {
        if let Err(error) = bounded(LIMIT, session.query(OUT, &[&names.live, &names.restored])).await {
            // One of them is a superuser's; the rename tells.
            tracing::debug!(%error, "not everybody can be logged out");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why the renames failed, for people.
async fn why(source: DatabaseError, session: &Session, names: &Names) -> BackupError {
    const WHO: &str = "
        SELECT format('pid %s (%s, role %s)', pid, to_json(coalesce(nullif(application_name, ''), backend_type)), usename)
        FROM pg_stat_activity WHERE datname IN ($1, $2) AND pid <> pg_backend_pid()
        UNION ALL
        SELECT format('the prepared transaction %s of %s', to_json(gid), owner)
        FROM pg_prepared_xacts WHERE database IN ($1, $2)";
    match source.code() {
        Some(IN_USE) => {
            let rows = bounded(LIMIT, session.query(WHO, &[&names.live, &names.restored])).await.unwrap_or_default();
            let who: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let who = if who.is_empty() { "somebody who is gone now".to_owned() } else { who.join(", ") };
            let message = format!(
                "the database is in use by {who}, and this role can't end it; nothing was changed: end it and try again"
            );
            BackupError::refused("DatabaseInUse", message)
        }
        Some(NOT_ALLOWED) => {
            let message = format!(
                "this role may not rename databases ({source}); nothing was changed: give it CREATEDB and ownership, or restore into a new database"
            );
            BackupError::refused("RenameNotPossible", message)
        }
        _ => Err::<(), _>(source).step("rename the databases").expect_err("an error"),
    }
}
