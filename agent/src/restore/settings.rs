//! What a restore is to do.

use std::time::Duration;

use crate::catalogue::bucket::SettingsError;
use crate::catalogue::id::Id;
use crate::catalogue::place::Storage;
use crate::config::{ConfigError, Env};
use crate::redact::Redactor;

const ID: &str = "ODOOAI_RESTORE_ID";
/// What PostgreSQL cuts a name to, silently.
const LONGEST_NAME: usize = 63;

/// Whose restore it is, and which databases it is about.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// UID of the Restore: what it made is known by it.
    pub(crate) owner: String,
    /// Name of the database that is restored into.
    pub(crate) database: String,
    /// For the whole run.
    pub(crate) limit: Duration,
}

impl Target {
    /// Reads `ODOOAI_RESTORE_{OWNER,DATABASE}` and `ODOOAI_RESTORE_TIMEOUT_SECONDS`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            owner: env.required("ODOOAI_RESTORE_OWNER")?.to_owned(),
            database: name(env, "ODOOAI_RESTORE_DATABASE")?,
            limit: Duration::from_secs(env.parsed("ODOOAI_RESTORE_TIMEOUT_SECONDS", 3600)?),
        })
    }
}

/// Of `load`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to.
    pub(crate) target: Target,
    /// The backup.
    pub(crate) id: Id,
    /// Where it is.
    pub(crate) storage: Storage,
}

impl Settings {
    /// Reads `ODOOAI_RESTORE_*`, `ODOOAI_BACKUP_*` and `ODOOAI_S3_*`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Self, SettingsError> {
        let id = env.required(ID)?.parse().map_err(|reason| ConfigError::Invalid { name: ID, reason })?;
        Ok(Self { target: Target::from_env(env)?, id, storage: Storage::from_env(env, redactor)? })
    }
}

/// The name of a database.
///
/// # Errors
/// It is missing, or longer than PostgreSQL keeps.
pub(crate) fn name(env: &Env, variable: &'static str) -> Result<String, ConfigError> {
    let name = env.required(variable)?;
    if name.len() > LONGEST_NAME {
        let reason = format!("it has more than {LONGEST_NAME} bytes");
        return Err(ConfigError::Invalid { name: variable, reason });
    }
    Ok(name.to_owned())
}
