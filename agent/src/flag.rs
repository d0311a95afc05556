//! `agent flag disable`: one rule is switched off in the database itself, for when the application's API can't be asked.
//!
//! Only the column `enabled` is written. The application reads it anew for each webhook and task.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::{self, ConfigError, Env};
use crate::encode;
use crate::job::{self, ATTEMPT, Failure, PATIENCE, Success, patiently};
use crate::postgres::{self, DatabaseError, Login, Session, bounded};
use crate::redact::Redactor;
use crate::report::Outcome;
use crate::secret::{Secret, SecretError};

/// Longest time for one statement; a lock is waited for a shorter time.
const LIMIT: Duration = Duration::from_secs(20);
/// Somebody holds a row or the table for long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Of the rules that are meant: same type and action, and the name, or the id that it had when it was seen last. Types
/// are stored as the names of the code's enum, as its values, or as text, as the schema has come about.
const MEANT: &str = "lower(automation_type::text) = lower($2) AND action_name = $3 AND (name = $1 OR id::int8 = $4)";

/// Which rule.
#[derive(Debug)]
struct Identity {
    name: String,
    automation_type: String,
    action_name: String,
    id: Option<i64>,
}

#[derive(Debug, Error)]
enum FlagError {
    /// The Job's environment is incomplete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The password's file could not be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is no table yet.
    #[error("the database {0} has no table automation_rules: the application was never installed there")]
    NoTable(String),
    /// There is no such rule.
    #[error(
        "there is no rule {name:?} of type {automation_type} and action {action_name}: compare spec.rule with the application's rules",
        name = .0.name, automation_type = .0.automation_type, action_name = .0.action_name
    )]
    NoRule(Identity),
    /// Somebody else holds it.
    #[error("the rule is locked by another session for longer than 5 s; it is tried again")]
    Locked,
    /// PostgreSQL.
    #[error("PostgreSQL at {address}, user {user}: {source}")]
    Database { address: String, user: String, source: DatabaseError },
}

impl Failure for FlagError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "ConfigInvalid",
            Self::Secret(_) => "PasswordUnreadable",
            Self::NoTable(_) | Self::NoRule(_) => "RuleNotFound",
            Self::Locked => "TableLocked",
            Self::Database { source, .. } => source.reason(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self.reason() {
            "ConfigInvalid" | "RuleNotFound" => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Locked => true,
            Self::Database { source, .. } => source.is_transient(),
            _ => false,
        }
    }
}

/// Runs `agent flag disable`.
pub(crate) fn disable(env: &Env, redactor: &Redactor) -> ExitCode {
    job::run("flag disable", run(env, redactor)).publish(env, redactor)
}

async fn run(env: &Env, redactor: &Redactor) -> Result<Success, FlagError> {
    let rule = Identity {
        name: env.required("ODOOAI_RULE_NAME")?.to_owned(),
        automation_type: env.required("ODOOAI_RULE_TYPE")?.to_owned(),
        action_name: env.required("ODOOAI_RULE_ACTION")?.to_owned(),
        id: env.get("ODOOAI_RULE_ID").map(|_| env.parsed("ODOOAI_RULE_ID", 0)).transpose()?,
    };
    let config = config::Database::from_env(env)?;
    let password = Secret::read_known(&config.password_file, redactor)?;
    let login = Login::application(&config, password);
    let failed = |source: DatabaseError| match source.code() {
        Some(LOCK_NOT_AVAILABLE) => FlagError::Locked,
        _ => FlagError::Database {
            address: format!("{}:{}", encode::url_host(&login.host), login.port),
            user: login.user.clone(),
            source,
        },
    };
    let attempt = async || {
        let session = postgres::connect(&login, ATTEMPT).await.map_err(failed)?;
        if !bounded(LIMIT, postgres::has_table(&session, "automation_rules")).await.map_err(failed)? {
            return Err(FlagError::NoTable(login.database.clone()));
        }
        write(&session, &rule).await.map_err(failed)
    };
    let (meant, changed) = patiently(Instant::now() + PATIENCE, attempt).await?;
    if meant.is_empty() {
        return Err(FlagError::NoRule(rule));
    }
    let ids = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    Ok(if changed.is_empty() {
        ("RuleDisabled", format!("rule {} was disabled already", ids(&meant)))
    } else {
        ("RuleDisabled", format!("rule {} was disabled in the database", ids(&changed)))
    })
}

/// Ids of the rules that are meant, and of those that were on.
async fn write(session: &Session, rule: &Identity) -> Result<(Vec<i64>, Vec<i64>), DatabaseError> {
    bounded(LIMIT, session.batch_execute("SET lock_timeout = '5s'")).await?;
    let Identity { name, automation_type, action_name, id } = rule;
    let ids = async |statement: &str| {
        let rows = bounded(LIMIT, session.query(statement, &[name, automation_type, action_name, id])).await?;
        Ok::<_, DatabaseError>(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>())
    };
    let off = format!(
        "UPDATE automation_rules SET enabled = false WHERE enabled IS DISTINCT FROM false AND ({MEANT}) RETURNING id::int8"
    );
    let changed = ids(&off).await?;
    let meant = ids(&format!("SELECT id::int8 FROM automation_rules WHERE {MEANT} ORDER BY id")).await?;
    Ok((meant, changed))
}
