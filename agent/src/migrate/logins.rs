//! As whom a command works on the application's database, and where its lock is.

use std::time::{Duration, Instant};

use crate::config::{Admin, Database, Env};
use crate::job::{ATTEMPT, PATIENCE, patiently};
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::lock::Lock;
use crate::migrate::pooler;
use crate::postgres::{self, DatabaseError, Login, Session};
use crate::redact::Redactor;
use crate::secret::Secret;

/// A swap takes less.
const ONCE_MORE: Duration = Duration::from_secs(1);

/// The logins of one command.
#[derive(Debug)]
pub(crate) struct Logins {
    /// The application's role in its database.
    pub(crate) application: Login,
    /// The superuser of a Managed server, in the application's database.
    pub(crate) admin: Option<Login>,
    /// Who takes the lock, in the database where it is taken.
    pub(crate) locker: Login,
}

impl Logins {
    /// # Errors
    /// When a password can't be read, or is missing where a role would have to be made.
    pub(crate) fn read(env: &Env, database: &Database, redactor: &Redactor) -> Result<Self, MigrateError> {
        let password = Secret::read_known(&database.password_file, redactor)?;
        let application = Login::application(database, password);
        let admin = Admin::from_env(env)?
            .map(|admin| {
                let password = Secret::read_known(&admin.password_file, redactor)?;
                Ok::<_, MigrateError>(Login { user: admin.user, password, ..application.clone() })
            })
            .transpose()?;
        if admin.is_some() && application.password.is_none() {
            return Err(MigrateError::NoPassword);
        }
        let own = if admin.is_some() { "postgres" } else { database.name.as_str() };
        let lock_database = env.get("ODOOAI_LOCK_DATABASE").unwrap_or(own);
        let locker = admin.as_ref().unwrap_or(&application).to(lock_database);
        Ok(Self { application, admin, locker })
    }

    /// The application's password.
    pub(crate) fn password(&self) -> Option<&Secret> {
        self.application.password.as_ref()
    }

    /// Waits for the lock, after all that nobody will correct meanwhile; without `patience` for ever.
    ///
    /// # Errors
    /// What the server said; `PoolerUnfit`; `LockHeld`.
    pub(crate) async fn lock(&self, patience: Option<Duration>) -> Result<Lock, MigrateError> {
        if self.admin.is_none() {
            let session = login(&self.application, "log in as the application").await?;
            // A pooler's mode is a database's own.
            if self.application.database != self.locker.database {
                pooler::check(&session, &self.application).await?;
            }
        }
        self.lock_of(&self.application.database, patience).await
    }

    /// The same for any database of the server, into which nobody needs to get.
    ///
    /// # Errors
    /// As [`Logins::lock`].
    pub(crate) async fn lock_of(&self, database: &str, patience: Option<Duration>) -> Result<Lock, MigrateError> {
        let locking = login(&self.locker, "log in for the lock").await?;
        pooler::check(&locking, &self.locker).await?;
        Lock::acquire(locking, database, patience).await
    }
}

/// Logs in, waiting a while for a server that is away.
///
/// # Errors
/// What the server said.
pub(crate) async fn login(login: &Login, step: &'static str) -> Result<Session, MigrateError> {
    patiently(Instant::now() + PATIENCE, async || connect(login).await.step(step)).await
}

/// Tries once. Whoever comes in the moment in which two databases change places is told that there is none of this
/// name, though there is one before and after: it is looked for once more.
///
/// # Errors
/// What the server said.
pub(crate) async fn connect(login: &Login) -> Result<Session, DatabaseError> {
    match postgres::connect(login, ATTEMPT).await {
        Err(DatabaseError::Missing(why)) => {
            tracing::info!(why, "looking for the database once more");
            tokio::time::sleep(ONCE_MORE).await;
            postgres::connect(login, ATTEMPT).await
        }
        other => other,
    }
}
