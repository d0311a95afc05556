//! One advisory lock per application database over dump, migration, load and swap.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::migrate::error::{MigrateError, Step};
use crate::postgres::{Session, bounded};
use crate::report::Outcome;

const LIMIT: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_secs(30);

/// The lock, held as long as its session lives.
#[derive(Debug)]
pub(crate) struct Lock {
    session: Session,
    key: i64,
}

/// The key of a database's lock: the first eight bytes, big-endian, of the
/// SHA-256 of `odooai:<name>`. All agents of all versions must agree on it.
pub(crate) fn key(database: &str) -> i64 {
    let digest = Sha256::digest(format!("odooai:{database}"));
    let head = digest.first_chunk::<8>().expect("a SHA-256 has 32 bytes, so it has 8");
    i64::from_be_bytes(*head)
}

/// Who holds the lock, for people.
async fn holder(session: &Session, key: i64) -> String {
    const HOLDER: &str = "
        SELECT format('pid %s (%s, role %s)', a.pid, to_json(coalesce(a.application_name, '')), a.usename)
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
          AND l.database = a.datid AND (l.classid::int8 << 32) | l.objid::int8 = $1";
    match bounded(LIMIT, session.query_opt(HOLDER, &[&key])).await {
        Ok(Some(row)) => row.get(0),
        _ => "a session that is gone".to_owned(),
    }
}

impl Lock {
    /// Polls until the lock is ours. A waiter that blocks inside the server would pin a snapshot.
    /// Without `patience` there is no limit: a Job has a deadline.
    ///
    /// # Errors
    /// When the session breaks; `LockHeld`, after `patience`.
    pub(crate) async fn acquire(
        session: Session,
        database: &str,
        patience: Option<Duration>,
    ) -> Result<Self, MigrateError> {
        let (key, began) = (key(database), Instant::now());
        // The default; a server that ends idle sessions would end the lock with it.
        bounded(LIMIT, session.batch_execute("SET idle_session_timeout = 0"))
            .await
            .or_else(|error| error.code().map(|_| ()).ok_or(error))
            .step("lock session")?;
        let mut announced: Option<Instant> = None;
        loop {
            let row = bounded(LIMIT, session.query_one("SELECT pg_try_advisory_lock($1)", &[&key]))
                .await
                .step("take the lock")?;
            if row.get(0) {
                return Ok(Self { session, key });
            }
            if patience.is_some_and(|patience| began.elapsed() >= patience) {
                return Err(MigrateError::Decided {
                    outcome: Outcome::Failed,
                    reason: "LockHeld",
                    message: format!(
                        "another Job works on this database; the lock is held by {}: try again later",
                        holder(&session, key).await
                    ),
                });
            }
            if announced.is_none_or(|at| at.elapsed() >= REPEAT) {
                let holder = holder(&session, key).await;
                tracing::info!(key, holder, "waiting: another Job works on this database");
                announced = Some(Instant::now());
            }
            tokio::time::sleep(Duration::from_secs_f64(0.7 + 0.6 * fastrand::f64())).await;
        }
    }

    /// Free to ask the server something; it may be connected to another database.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Proves that the session, and with it the lock, is still there.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) async fn still_held(&self) -> Result<(), MigrateError> {
        bounded(LIMIT, self.session.simple_query("SELECT 1")).await.step("the lock was lost")?;
        Ok(())
    }

    /// Lets go. Failing to is no failure: the session's end does the same.
    pub(crate) async fn release(self) {
        let released = bounded(LIMIT, self.session.query_one("SELECT pg_advisory_unlock($1)", &[&self.key])).await;
        if let Err(error) = released {
            tracing::warn!(%error, "lock not released, its session ends now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_never_changes() {
        // printf 'odooai:odooai' | sha256sum | head -c 16
        let expected = i64::from_be_bytes(EXPECTED.to_be_bytes());
        assert_eq!(key("odooai"), expected);
        assert_ne!(key("odooai"), key("odooai2"));
    }

    const EXPECTED: u64 = 0x6fce_0a52_18b1_8270;
}
