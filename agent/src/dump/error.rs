//! Why a backup was not made, and whether trying again may help.

use std::io;

use thiserror::Error;

use crate::catalogue::bucket::SettingsError;
use crate::config::ConfigError;
use crate::job::Failure;
use crate::migrate::blockers::{self, Blocker};
use crate::migrate::error::MigrateError;
use crate::postgres::DatabaseError;
use crate::report::Outcome;

/// PostgreSQL's `lock_not_available`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Somebody held a table for too long.
pub(crate) const TABLE_LOCKED: &str = "TableLocked";

/// A failed step.
#[derive(Debug, Error)]
pub(crate) enum BackupError {
    /// The Job's environment is incomplete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no way to the storage.
    #[error(transparent)]
    Place(#[from] SettingsError),
    /// Logins and the lock, which migrations share.
    #[error(transparent)]
    Shared(#[from] MigrateError),
    /// A statement failed.
    #[error("{step}: {source}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// What the server said.
        source: DatabaseError,
    },
    /// The storage could not be read or written.
    #[error("{step}: {source}")]
    Storage {
        /// What was being done.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program could not be run at all.
    #[error("{program}: {source}; the image needs PostgreSQL's client programs")]
    Spawn {
        /// What was started.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {tail}")]
    Tool {
        /// What was run.
        program: &'static str,
        /// Exit code or signal.
        status: String,
        /// Its last lines, redacted.
        tail: String,
    },
    /// Something that was decided or found out, told in its own words.
    #[error("{message}")]
    Decided {
        /// Whether the Job may try again.
        outcome: Outcome,
        /// One word for programs.
        reason: &'static str,
        /// One sentence for people.
        message: String,
    },
}

impl BackupError {
    /// Trying again changes nothing.
    pub(crate) fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Decided { outcome: Outcome::Refused, reason, message: message.into() }
    }

    /// Trying again may help.
    pub(crate) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Decided { outcome: Outcome::Failed, reason, message: message.into() }
    }

    /// Names who held a table, where that was the cause.
    pub(crate) fn held_by(self, blockers: &[Blocker]) -> Self {
        if self.reason() == TABLE_LOCKED && !blockers.is_empty() {
            return Self::failed(TABLE_LOCKED, format!("waited too long for {}", blockers::named(blockers)));
        }
        self
    }

    /// The same of a restore: what failed was no dump.
    pub(crate) fn while_restoring(self) -> Self {
        match &self {
            Self::Tool { .. } => Self::failed("RestoreFailed", self.to_string()),
            _ => self,
        }
    }

    /// Names the step in which the storage failed.
    pub(crate) fn storage(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Storage { step, source }
    }
}

impl Failure for BackupError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Database { source, .. } if source.is_transient())
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::Place(SettingsError::Config(_)) => "ConfigInvalid",
            Self::Place(_) => "StorageCredentialsMissing",
            Self::Shared(error) => error.reason(),
            Self::Database { source, .. } if source.code() == Some(LOCK_NOT_AVAILABLE) => TABLE_LOCKED,
            Self::Database { source: DatabaseError::DiskFull(_), .. } => "StorageFull",
            Self::Database { source, .. } => source.reason(),
            Self::Storage { source, .. } if source.kind() == io::ErrorKind::StorageFull => "StorageFull",
            Self::Storage { source, .. } if source.kind() == io::ErrorKind::QuotaExceeded => "StorageFull",
            Self::Storage { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => "StorageRefused",
            Self::Storage { .. } => "StorageUnavailable",
            Self::Spawn { .. } => "ProcessNotStarted",
            // Its statements have no other limit than that of `--lock-wait-timeout`.
            Self::Tool { tail, .. } if tail.contains("statement timeout") => TABLE_LOCKED,
            Self::Tool { .. } => "DumpFailed",
            Self::Decided { reason, .. } => reason,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Config(_) | Self::Place(_) => Outcome::Refused,
            Self::Shared(error) => error.outcome(),
            Self::Decided { outcome, .. } => *outcome,
            Self::Database { .. } | Self::Storage { .. } | Self::Spawn { .. } | Self::Tool { .. } => Outcome::Failed,
        }
    }
}

/// Names the step in which a database call failed.
pub(crate) trait Step<T> {
    /// # Errors
    /// The call's own, with the step's name.
    fn step(self, step: &'static str) -> Result<T, BackupError>;
}

impl<T, E: Into<DatabaseError>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, BackupError> {
        self.map_err(|error| BackupError::Database { step, source: error.into() })
    }
}
