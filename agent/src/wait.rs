//! Waiting for what a process needs, without a limit.

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::config::{self, Schema};
use crate::postgres::{self, DatabaseError, Login, bounded};
use crate::redact::Redactor;
use crate::redis::{self, RedisError};
use crate::schema::{self, Verdict};
use crate::secret::{Secret, SecretError};

/// Time for one attempt at one need.
const ATTEMPT: Duration = Duration::from_secs(5);

/// An unchanged state is repeated in the log this often.
const REPEAT: Duration = Duration::from_secs(30);

/// Something that a process must not be started without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// A login and `SELECT 1`.
    Database,
    /// AUTH and PING.
    Redis,
    /// A schema that this image can run on; a login too.
    Schema,
}

/// What the needs are checked against.
#[derive(Debug)]
pub(crate) struct Targets {
    /// Set when database or schema are needed.
    pub(crate) database: Option<config::Database>,
    /// Set when the schema is needed.
    pub(crate) schema: Option<Schema>,
    /// Set when Redis is needed.
    pub(crate) redis: Option<config::Redis>,
}

/// A need that is not met: `state` is one of a few words, so that a change of it
/// is worth a line; the message may vary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unmet {
    state: &'static str,
    message: String,
}

impl From<DatabaseError> for Unmet {
    fn from(error: DatabaseError) -> Self {
        let state = match error {
            DatabaseError::Unreachable(_) | DatabaseError::DiskFull(_) | DatabaseError::TimedOut(_) => {
                "DatabaseUnreachable"
            }
            DatabaseError::Rejected(_) => "DatabaseLoginRejected",
            DatabaseError::Missing(_) => "DatabaseMissing",
            DatabaseError::Tls(_) => "DatabaseTlsFailed",
            DatabaseError::Statement { .. } => "DatabaseError",
        };
        Self { state, message: error.to_string() }
    }
}

impl From<RedisError> for Unmet {
    fn from(error: RedisError) -> Self {
        let state = match error {
            RedisError::Unreachable(_) | RedisError::TimedOut(_) => "RedisUnreachable",
            RedisError::Rejected(_) => "RedisLoginRejected",
            RedisError::Url(_) => "RedisUrlInvalid",
            RedisError::Tls(_) => "RedisTlsFailed",
            RedisError::Command(_) => "RedisError",
        };
        Self { state, message: error.to_string() }
    }
}

impl From<SecretError> for Unmet {
    fn from(error: SecretError) -> Self {
        Self { state: "PasswordUnreadable", message: error.to_string() }
    }
}

/// Returns when all needs are met in one round of checks.
pub(crate) async fn until_met(targets: &Targets, redactor: &Redactor) {
    let mut announcer = Announcer::default();
    let started = Instant::now();
    loop {
        let unmet = check(targets, redactor).await;
        if unmet.is_empty() {
            let waited = started.elapsed().as_secs();
            tracing::info!(waited_seconds = waited, "everything needed is there");
            return;
        }
        if announcer.wants(&unmet, Instant::now()) {
            let states: Vec<_> = unmet.iter().map(|need| need.state).collect();
            let messages: Vec<_> = unmet.iter().map(|need| need.message.as_str()).collect();
            tracing::info!(
                waiting_for = states.join(","),
                waited_seconds = started.elapsed().as_secs(),
                "waiting: {}",
                messages.join("; ")
            );
        }
        tokio::time::sleep(pause(started.elapsed(), fastrand::f64())).await;
    }
}

async fn check(targets: &Targets, redactor: &Redactor) -> Vec<Unmet> {
    let database = async {
        match &targets.database {
            Some(config) => check_database(config, targets.schema.as_ref(), redactor).await,
            None => Ok(()),
        }
    };
    let redis = async {
        match &targets.redis {
            Some(config) => redis::connect(config, redactor, ATTEMPT).await.map(drop).map_err(Unmet::from),
            None => Ok(()),
        }
    };
    let (database, redis) = futures::join!(database, redis);
    [database, redis].into_iter().filter_map(Result::err).collect()
}

async fn check_database(config: &config::Database, schema: Option<&Schema>, redactor: &Redactor) -> Result<(), Unmet> {
    let password = Secret::read_known(&config.password_file, redactor)?;
    let login = Login::application(config, password);
    let session = postgres::connect(&login, ATTEMPT).await?;
    bounded(ATTEMPT, session.simple_query("SELECT 1")).await?;
    let Some(image) = schema else { return Ok(()) };
    let rows = bounded(ATTEMPT, postgres::alembic_versions(&session)).await?;
    match schema::judge(image, &rows) {
        Verdict::AtHeads | Verdict::Newer => Ok(()),
        Verdict::Absent => Err(Unmet { state: "SchemaAbsent", message: "the database has no schema yet".to_owned() }),
        Verdict::Behind => Err(Unmet {
            state: "SchemaBehind",
            message: format!("the schema is at {rows:?}, this image needs {:?}", image.heads),
        }),
    }
}

/// Time until the next round: half a second at first, two seconds after a
/// minute, ± 30 % by `random` (0 to 1) so that the pods of a node don't march in step.
fn pause(waited: Duration, random: f64) -> Duration {
    let base = if waited < Duration::from_mins(1) { 0.5 } else { 2.0 };
    Duration::from_secs_f64(base * (0.7 + 0.6 * random))
}

/// Decides which rounds are worth a log line.
#[derive(Debug, Default)]
struct Announcer {
    last: Option<(Vec<&'static str>, Instant)>,
}

impl Announcer {
    fn wants(&mut self, unmet: &[Unmet], now: Instant) -> bool {
        let states: Vec<_> = unmet.iter().map(|need| need.state).collect();
        let known = self.last.as_ref().is_some_and(|(last, at)| *last == states && now.duration_since(*at) < REPEAT);
        if !known {
            self.last = Some((states, now));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet(state: &'static str, message: &str) -> Unmet {
        Unmet { state, message: message.to_owned() }
    }

    #[test]
    fn a_line_per_change_and_one_per_thirty_seconds() {
        let mut announcer = Announcer::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(announcer.wants(&[unmet("A", "1")], at(0)));
        assert!(!announcer.wants(&[unmet("A", "2")], at(1)));
        assert!(!announcer.wants(&[unmet("A", "3")], at(29)));
        assert!(announcer.wants(&[unmet("A", "4")], at(30)));
        assert!(announcer.wants(&[unmet("B", "5")], at(31)));
        assert!(announcer.wants(&[unmet("A", "6"), unmet("B", "6")], at(32)));
        assert!(!announcer.wants(&[unmet("A", "7"), unmet("B", "7")], at(40)));
    }

    #[test]
    fn polling_is_short_at_first() {
        assert!(pause(Duration::ZERO, 1.0) <= Duration::from_secs(1));
        assert!(pause(Duration::ZERO, 0.0) >= Duration::from_millis(300));
        assert!(pause(Duration::from_hours(1), 1.0) <= Duration::from_secs(3));
    }
}
