//! What a load brings: a backup of the catalogue, or what `pg_dump` wrote as SQL. Both come the same way.

use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::Tools;
use crate::job::ATTEMPT;
use crate::migrate::inspect;
use crate::postgres::{self, Login, Session};
use crate::report::RestoreReport;
use crate::restore::artifact::Artifact;
use crate::restore::plain::Plain;
use crate::restore::settings::{Settings, Wanted};

/// One that was found, and is good as far as can be known before it is loaded.
#[derive(Debug)]
pub(crate) enum Source {
    /// Of the catalogue.
    Artifact(Box<Artifact>),
    /// A file of SQL.
    Plain(Box<Plain>),
}

impl Source {
    /// Looks for it.
    ///
    /// # Errors
    /// It isn't there, or is no good.
    pub(crate) async fn find(settings: &Settings) -> Result<Self, BackupError> {
        match &settings.wanted {
            Wanted::Artifact(choice) => {
                Artifact::choose(&settings.storage, choice).await.map(Box::new).map(Self::Artifact)
            }
            Wanted::File(path) => Plain::check(&settings.storage, path).await.map(Box::new).map(Self::Plain),
        }
    }

    /// Its name, as notes and reports have it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Artifact(artifact) => artifact.manifest.id.to_string(),
            Self::Plain(plain) => plain.path().to_owned(),
        }
    }

    /// The same for a message.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Artifact(_) => format!("backup {}", self.name()),
            Self::Plain(_) => format!("the dump {}", self.name()),
        }
    }

    /// Bytes that its database may have.
    pub(crate) fn needed(&self) -> u64 {
        match self {
            Self::Artifact(artifact) => artifact.manifest.database_bytes.unsigned_abs(),
            Self::Plain(plain) => plain.bytes(),
        }
    }

    /// Whether programs and server can take it.
    ///
    /// # Errors
    /// `PostgresVersionMismatch`; of a file also `UnsupportedDump`.
    pub(crate) async fn check_version(&self, tools: &Tools<'_>, session: &Session) -> Result<(), BackupError> {
        let server = inspect::server_version(session).await? / 10_000;
        match self {
            Self::Artifact(artifact) => artifact.check_version(tools, server).await,
            Self::Plain(plain) => plain.check_version(tools, server).await,
        }
    }

    /// Brings it into the login's database, which is empty, and proves that it is all there; what to report of it.
    ///
    /// # Errors
    /// It isn't what it should be, or the server or the storage failed.
    pub(crate) async fn bring(
        &self,
        tools: &Tools<'_>,
        application: &Login,
        jobs: u32,
    ) -> Result<RestoreReport, BackupError> {
        let report = match self {
            Self::Artifact(artifact) => artifact.bring(tools, application, jobs).await,
            Self::Plain(plain) => plain.bring(tools, application).await,
        }?;
        // A restore brings no statistics, and all load comes at once.
        let session = postgres::connect(application, ATTEMPT).await.step("log in to the new database")?;
        session.batch_execute("ANALYZE").await.step("gather statistics")?;
        Ok(report)
    }
}
