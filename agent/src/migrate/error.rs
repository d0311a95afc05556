//! Why `agent migrate` did not succeed, and whether trying again may help.

use thiserror::Error;

use crate::config::ConfigError;
use crate::job::Failure;
use crate::postgres::DatabaseError;
use crate::report::Outcome;
use crate::secret::SecretError;

/// A failed step.
#[derive(Debug, Error)]
pub(crate) enum MigrateError {
    /// The Job's environment is incomplete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A password file could not be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The role's password is needed to create the role.
    #[error("the file with the application's database password is absent or empty")]
    NoPassword,
    /// A login or statement failed.
    #[error("{step}: {source}")]
    Database {
        /// What was being done.
        step: &'static str,
        /// What the server said.
        source: DatabaseError,
    },
    /// The image can't tell its revisions.
    #[error("the image's Alembic revisions cannot be read: {0}")]
    Image(String),
    /// A child process could not be run at all.
    #[error("{program}: {source}")]
    Spawn {
        /// What was started.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A child process failed.
    #[error("{step} failed ({status}): {tail}")]
    Child {
        /// What was being done.
        step: &'static str,
        /// Exit code or signal.
        status: String,
        /// Its last lines, redacted.
        tail: String,
    },
    /// The processes ended well and the database shows no effect.
    #[error("{0}")]
    NoEvidence(String),
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

impl Failure for MigrateError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Database { source, .. } if source.is_transient())
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "ConfigInvalid",
            Self::Secret(_) | Self::NoPassword => "PasswordUnreadable",
            Self::Database { source, .. } => source.reason(),
            Self::Image(_) => "ImageInvalid",
            Self::Spawn { .. } => "ProcessNotStarted",
            Self::Child { .. } => "BootstrapFailed",
            Self::NoEvidence(_) => "BootstrapIncomplete",
            Self::Decided { reason, .. } => reason,
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Decided { outcome, .. } => *outcome,
            Self::Config(_)
            | Self::Image(_)
            | Self::NoEvidence(_)
            | Self::Database {
                source: DatabaseError::Rejected(_) | DatabaseError::Missing(_) | DatabaseError::Tls(_),
                ..
            } => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}

/// Names the step in which a database call failed.
pub(crate) trait Step<T> {
    /// # Errors
    /// The call's own, with the step's name.
    fn step(self, step: &'static str) -> Result<T, MigrateError>;
}

impl<T, E: Into<DatabaseError>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, MigrateError> {
        self.map_err(|error| MigrateError::Database { step, source: error.into() })
    }
}
