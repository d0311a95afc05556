//! What a verification is to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::catalogue::bucket::SettingsError;
use crate::catalogue::id::Id;
use crate::catalogue::place::Storage;
use crate::config::{ConfigError, Env};
use crate::redact::Redactor;

const RESERVE_BYTES: &str = "ODOOAI_VERIFY_RESERVE_BYTES";

/// Defaults are those of the CRD.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The policy whose newest backup is verified.
    pub(crate) policy: String,
    /// This one instead.
    pub(crate) id: Option<Id>,
    /// Where backups are kept.
    pub(crate) storage: Storage,
    /// For the throw-away server: a folder of our own, emptied before and after.
    pub(crate) scratch: PathBuf,
    /// Bytes of the scratch volume that are left alone; `None`: a tenth, and five gigabytes at least.
    pub(crate) reserve: Option<u64>,
    /// For the whole run.
    pub(crate) limit: Duration,
}

impl Settings {
    /// Reads `ODOOAI_BACKUP_*` and `ODOOAI_VERIFY_*`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Self, SettingsError> {
        let id = env.get("ODOOAI_VERIFY_ID").map(str::parse).transpose();
        Ok(Self {
            policy: env.required("ODOOAI_BACKUP_POLICY")?.to_owned(),
            id: id.map_err(|reason| ConfigError::Invalid { name: "ODOOAI_VERIFY_ID", reason })?,
            storage: Storage::from_env(env, redactor)?,
            scratch: PathBuf::from(env.required("ODOOAI_VERIFY_SCRATCH")?).join("odooai-verify"),
            reserve: env.get(RESERVE_BYTES).map(|_| env.parsed(RESERVE_BYTES, 0)).transpose()?,
            limit: Duration::from_secs(env.parsed("ODOOAI_BACKUP_TIMEOUT_SECONDS", 3600)?),
        })
    }
}
