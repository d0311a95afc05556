//! `agent restore swap`: lock → whose → both renames in one transaction → report. To undo it is the same, with the
//! database that was replaced.
//!
//! Who is logged in is logged out; who wants to log in waits, because the rename holds the database. So nothing has to be
//! closed before and opened again afterwards, and somebody who is killed leaves all of it done or nothing.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use postgres_protocol::escape::escape_identifier;

use crate::config::{Database, Env};
use crate::dump::error::{BackupError, Step as _};
use crate::job::{self, PATIENCE, Success};
use crate::migrate::lock::Lock;
use crate::migrate::logins::{Logins, login};
use crate::migrate::pooler;
use crate::postgres::{DatabaseError, Session, bounded};
use crate::redact::Redactor;
use crate::report::{Facts, SwapReport};
use crate::restore::note::{self, Note, State};
use crate::restore::settings::{Target, name};

/// For both renames: the server itself waits 5 s for others to leave, for each.
const LIMIT: Duration = Duration::from_secs(30);
/// How often those that are logged in are logged out.
const AGAIN: Duration = Duration::from_millis(100);
/// PostgreSQL's `object_in_use`: somebody is in the database and stays there.
const IN_USE: &str = "55006";
/// PostgreSQL's `insufficient_privilege`.
const NOT_ALLOWED: &str = "42501";

/// The names.
struct Names {
    /// What takes the place.
    restored: String,
    /// The place.
    live: String,
    /// How the one that was there is called from then on.
    replaced: String,
}

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
    let names =
        Names { restored: target.database, live: database.name, replaced: name(env, "ODOOAI_RESTORE_REPLACED")? };
    if logins.locker.database == names.live {
        let message = "a database can't be renamed by who is logged in to it: give a lock database that is another one";
        return Err(BackupError::refused("RenameNotPossible", message));
    }
    let lock = async |name: &str| {
        let session = login(&logins.locker, "log in for the lock").await?;
        pooler::check(&session, &logins.locker).await?;
        Lock::acquire(session, name, Some(PATIENCE)).await
    };
    // Nobody migrates the one, and nobody dumps the other.
    let held = lock(&names.restored).await?;
    let lock = lock(&names.live).await?;
    let message = |millis| {
        let Names { restored, live, replaced } = &names;
        let told = format!("{restored} is {live} now, and what was {live} is kept as {replaced}");
        if millis { told } else { format!("{told}; it was so already") }
    };
    let report = |millis| SwapReport { replaced: names.replaced.clone(), millis };
    let Some(artifact) = ready(lock.session(), &names, &target.owner).await? else {
        facts.swap = Some(report(None));
        return Ok(("Swapped", message(false)));
    };
    let began = Instant::now();
    let note = |state| Note { owner: target.owner.clone(), artifact: artifact.clone(), state };
    let (replaced, live) = (note(State::Replaced), note(State::Live));
    let done = tokio::select! {
        // By the session of the lock: as long as the server works on it, nobody else does.
        done = rename(lock.session(), &names, &replaced, &live) => done,
        never = log_out(held.session(), &names) => never,
    };
    if let Err(source) = done {
        // The answer may have been lost, not the renames.
        if !matches!(ready(held.session(), &names, &target.owner).await, Ok(None)) {
            return Err(why(source, held.session(), &names).await);
        }
    }
    let millis = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    facts.swap = Some(report(Some(millis)));
    lock.release().await;
    held.release().await;
    Ok(("Swapped", message(true)))
}

/// Both databases are as they must be: the id of the backup; `None`: they were swapped already.
async fn ready(session: &Session, names: &Names, owner: &str) -> Result<Option<String>, BackupError> {
    let Names { restored, live, replaced } = names;
    let find = async |name: &str| note::find(session, name).await;
    let (new, place, old) = (find(restored).await?, find(live).await?, find(replaced).await?);
    let ours = |found: &Option<note::Found>, states: &[State]| {
        let note = found.as_ref()?.note.as_ref()?;
        (note.owner == owner && states.contains(&note.state)).then(|| note.artifact.clone())
    };
    if new.is_none() && ours(&place, &[State::Live]).is_some() && ours(&old, &[State::Replaced]).is_some() {
        return Ok(None);
    }
    if place.is_none() {
        return Err(BackupError::refused("DatabaseMissing", format!("there is no database {live} to be replaced")));
    }
    if old.is_some() {
        let message = format!("there is a database {replaced} already: the replaced one can't be kept under that name");
        return Err(BackupError::refused("DatabaseExists", message));
    }
    // What was replaced, and what replaced it, may change places again.
    let artifact = ours(&new, &[State::Loaded, State::Replaced, State::Live]);
    artifact.map(Some).ok_or_else(|| {
        let message = format!("{restored} isn't a database that this restore has loaded completely");
        BackupError::refused("DatabaseNotLoaded", message)
    })
}

async fn rename(session: &Session, names: &Names, replaced: &Note, live: &Note) -> Result<(), DatabaseError> {
    let [restored_name, live_name, replaced_name] =
        [&names.restored, &names.live, &names.replaced].map(|name| escape_identifier(name));
    let all = format!(
        "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '15s';
         ALTER DATABASE {live_name} RENAME TO {replaced_name}; ALTER DATABASE {restored_name} RENAME TO {live_name};
         {}; {}; COMMIT",
        note::statement(&names.replaced, replaced),
        note::statement(&names.live, live),
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
            BackupError::failed("DatabaseInUse", message)
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
