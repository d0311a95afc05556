//! What a run is to do.

use std::time::Duration;

use crate::backup::retention::Retention;
use crate::catalogue::bucket::SettingsError;
use crate::catalogue::manifest::Reason;
use crate::catalogue::place::Storage;
use crate::config::Env;
use crate::redact::Redactor;

/// Defaults are those of the CRD.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Name of the Backup.
    pub(crate) policy: String,
    /// Why the run was started.
    pub(crate) reason: Reason,
    /// The request that it answers.
    pub(crate) request: Option<String>,
    /// Where backups are kept.
    pub(crate) storage: Storage,
    /// How many are kept.
    pub(crate) retention: Retention,
    /// The owner whose catalogue is taken over.
    pub(crate) adopt: Option<String>,
    /// For a table that somebody has locked: whoever waits longer lets everybody behind it wait too.
    pub(crate) lock_seconds: u64,
    /// For the whole run.
    pub(crate) limit: Duration,
}

impl Settings {
    /// Reads `ODOOAI_BACKUP_*`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Self, SettingsError> {
        Ok(Self {
            policy: env.required("ODOOAI_BACKUP_POLICY")?.to_owned(),
            reason: env.parsed("ODOOAI_BACKUP_REASON", Reason::Scheduled)?,
            request: env.get("ODOOAI_BACKUP_REQUEST").map(str::to_owned),
            storage: Storage::from_env(env, redactor)?,
            retention: Retention {
                keep_last: env.parsed("ODOOAI_BACKUP_KEEP_LAST", 30)?,
                keep_pre_migration: env.parsed("ODOOAI_BACKUP_KEEP_PRE_MIGRATION", 5)?,
            },
            adopt: env.get("ODOOAI_BACKUP_ADOPT").map(str::to_owned),
            lock_seconds: env.parsed("ODOOAI_BACKUP_LOCK_SECONDS", 30)?,
            limit: Duration::from_secs(env.parsed("ODOOAI_BACKUP_TIMEOUT_SECONDS", 3600)?),
        })
    }
}
