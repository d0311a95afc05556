//! Is there a pooler in between that gives every transaction another session?
//!
//! The lock is a session's. Behind PgBouncer in transaction mode it would stay behind on
//! some connection of the pool, held for good or by nobody. The pooler's own console is
//! another database with users of its own, so it is not asked. Instead two connections
//! compare the server processes that answer them: a session keeps its own, and no two
//! share one. While one of them holds a transaction open the other is asked again, so a
//! pooler shows itself whether it takes the connection that was used last or longest ago,
//! with or without other clients.

use std::time::Duration;

use crate::migrate::error::{MigrateError, Step};
use crate::migrate::logins;
use crate::postgres::{self, DatabaseError, Login, Session, bounded};
use crate::report::Outcome;

const LIMIT: Duration = Duration::from_secs(10);

/// Proves that a login is a session of its own, with the settings that it asks for.
/// `session` was made with `login`. Leaves nothing behind.
///
/// # Errors
/// `PoolerUnfit` when it is not; what the server said when it couldn't be found out.
pub(crate) async fn check(session: &Session, login: &Login) -> Result<(), MigrateError> {
    const STEP: &str = "look for a pooler";
    let options = Login { options: postgres::LOCK_TIMEOUT, ..login.clone() };
    let other = match logins::connect(&options).await {
        Err(DatabaseError::Unreachable(text)) if text.contains("startup parameter") => {
            return Err(unfit(
                "the pooler in front of PostgreSQL refuses the option lock_timeout: connect to PostgreSQL directly, \
                 or set ignore_startup_parameters = options in PgBouncer",
            ));
        }
        other => other.step(STEP)?,
    };
    let mut pids = Pids::default();
    for _ in 0..3 {
        pids.first.push(pid(session).await.step(STEP)?);
    }
    if !pids.are_shared() {
        match bounded(LIMIT, other.simple_query("BEGIN")).await {
            // Statement mode has no transactions.
            Err(DatabaseError::Unreachable(text)) if text.contains("pooling mode") => {
                return Err(unfit(TRANSACTION_MODE));
            }
            began => began.step(STEP)?,
        };
        pids.second.push(pid(&other).await.step(STEP)?);
    }
    if !pids.are_shared() {
        pids.first.push(pid(session).await.step(STEP)?);
        bounded(LIMIT, other.simple_query("ROLLBACK")).await.step(STEP)?;
        pids.second.push(pid(&other).await.step(STEP)?);
    }
    if pids.are_shared() { Err(unfit(TRANSACTION_MODE)) } else { Ok(()) }
}

const TRANSACTION_MODE: &str = "a pooler in front of PostgreSQL gives each transaction another session, so no lock \
                                holds (PgBouncer in transaction mode): connect to PostgreSQL directly or use session \
                                mode";

fn unfit(message: &str) -> MigrateError {
    MigrateError::Decided { outcome: Outcome::Refused, reason: "PoolerUnfit", message: message.to_owned() }
}

/// The simple protocol, because named statements get lost behind such a pooler.
async fn pid(session: &Session) -> Result<String, DatabaseError> {
    let rows = bounded(LIMIT, session.simple_query("SELECT pg_backend_pid()")).await?;
    Ok(rows
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default())
}

/// Who answered two connections that are open at the same time.
#[derive(Debug, Default)]
struct Pids {
    first: Vec<String>,
    second: Vec<String>,
}

impl Pids {
    fn are_shared(&self) -> bool {
        let changes = |pids: &[String]| pids.windows(2).any(|pair| pair[0] != pair[1]);
        changes(&self.first) || changes(&self.second) || self.first.iter().any(|pid| self.second.contains(pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::sessions(&["1", "1", "1", "1"], &["2", "2"], false)]
    #[case::nothing_seen_yet(&["1", "1", "1"], &[], false)]
    #[case::round_robin(&["1", "2", "1"], &[], true)]
    #[case::last_used_first(&["1", "1", "1"], &["1"], true)]
    #[case::driven_out(&["1", "1", "1", "3"], &["2"], true)]
    #[case::the_other_moves(&["1", "1", "1", "1"], &["2", "3"], true)]
    fn table(#[case] first: &[&str], #[case] second: &[&str], #[case] shared: bool) {
        let own = |pids: &[&str]| pids.iter().map(|&pid| pid.to_owned()).collect();
        assert_eq!(Pids { first: own(first), second: own(second) }.are_shared(), shared);
    }
}
