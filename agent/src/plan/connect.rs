//! A way to the application's database that can write nothing and takes no lock.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use crate::config::{Admin, Database, Env};
use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::{login, pooler};
use crate::postgres::{self, DatabaseError, Login, Session, bounded};
use crate::redact::Redactor;
use crate::secret::Secret;

const LIMIT: Duration = Duration::from_secs(30);

/// What makes a session unable to write, as libpq's `PGOPTIONS`.
pub(super) const READ_ONLY: &str = "-c default_transaction_read_only=on";

/// The logins that `migrate` would use.
#[derive(Debug)]
pub(super) struct Logins {
    /// The application's role in its database.
    application: Login,
    /// The superuser of a Managed server.
    admin: Option<Login>,
    /// Where the lock would be taken.
    lock_database: String,
}

/// What is there.
#[derive(Debug)]
pub(super) enum Place {
    /// Role or database of a Managed server are still to be made.
    Absent,
    /// The database, read-only.
    Database {
        /// With the rights of the application.
        session: Session,
        /// `<system identifier>/<database oid>`.
        incarnation: String,
    },
}

impl Logins {
    /// # Errors
    /// When a password can't be read, or is missing where a role would have to be made.
    pub(super) fn read(env: &Env, database: &Database, redactor: &Redactor) -> Result<Self, MigrateError> {
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
        let lock_database = env.get("ODOOAI_LOCK_DATABASE").unwrap_or(own).to_owned();
        Ok(Self { application, admin, lock_database })
    }

    /// The application's password.
    pub(super) fn password(&self) -> Option<&Secret> {
        self.application.password.as_ref()
    }

    /// Logs in, and makes nothing of what is not there.
    ///
    /// # Errors
    /// When `migrate` would not get in either.
    pub(super) async fn connect(&self) -> Result<Place, MigrateError> {
        let place = match &self.admin {
            Some(admin) => self.managed(admin).await?,
            None => self.external().await?,
        };
        if let Place::Database { session, .. } = &place {
            // As an option of the login a pooler might swallow it.
            bounded(LIMIT, session.batch_execute("SET default_transaction_read_only = on"))
                .await
                .step("make the session read-only")?;
        }
        Ok(place)
    }

    async fn external(&self) -> Result<Place, MigrateError> {
        let session = login(&self.application, "log in as the application").await?;
        pooler::check(&session, &self.application).await?;
        let locker = self.application.to(&self.lock_database);
        if locker.database != self.application.database {
            pooler::check(&login(&locker, "log in for the lock").await?, &locker).await?;
        }
        let incarnation = postgres::incarnation(&session).await.step("read the incarnation")?;
        Ok(Place::Database { session, incarnation })
    }

    async fn managed(&self, admin: &Login) -> Result<Place, MigrateError> {
        let session = login(&admin.to(&self.lock_database), "log in as superuser").await?;
        let there = bounded(
            LIMIT,
            session.query_one(
                "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)
                    AND EXISTS (SELECT 1 FROM pg_database WHERE datname = $2)",
                &[&self.application.user, &self.application.database],
            ),
        )
        .await
        .step("look role and database up")?;
        if !there.get::<_, bool>(0) {
            return Ok(Place::Absent);
        }
        let superuser = login(admin, "log in as superuser").await?;
        let incarnation = postgres::incarnation(&superuser).await.step("read the incarnation")?;
        let session = match login(&self.application, "log in as the application").await {
            // `migrate` gives the role its password.
            Err(MigrateError::Database { source: DatabaseError::Rejected(why), .. }) => {
                tracing::info!(why, "reading as superuser with the application's rights");
                let role = format!("SET ROLE {}", escape_identifier(&self.application.user));
                bounded(LIMIT, superuser.batch_execute(&role)).await.step("take the application's rights")?;
                superuser
            }
            other => other?,
        };
        Ok(Place::Database { session, incarnation })
    }
}
