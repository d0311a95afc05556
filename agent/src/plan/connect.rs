//! A way to the application's database that can write nothing and takes no lock.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::logins::{Logins, login};
use crate::migrate::pooler;
use crate::postgres::{self, DatabaseError, Login, Session, bounded};

const LIMIT: Duration = Duration::from_secs(30);

/// What makes a session unable to write, as libpq's `PGOPTIONS`.
pub(super) const READ_ONLY: &str = "-c default_transaction_read_only=on";

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

/// Logs in, and makes nothing of what is not there.
///
/// # Errors
/// When `migrate` would not get in either.
pub(super) async fn connect(logins: &Logins) -> Result<Place, MigrateError> {
    let place = match &logins.admin {
        Some(admin) => managed(logins, admin).await?,
        None => external(logins).await?,
    };
    if let Place::Database { session, .. } = &place {
        // As an option of the login a pooler might swallow it.
        bounded(LIMIT, session.batch_execute("SET default_transaction_read_only = on"))
            .await
            .step("make the session read-only")?;
    }
    Ok(place)
}

async fn external(Logins { application, locker, .. }: &Logins) -> Result<Place, MigrateError> {
    let session = login(application, "log in as the application").await?;
    pooler::check(&session, application).await?;
    if locker.database != application.database {
        pooler::check(&login(locker, "log in for the lock").await?, locker).await?;
    }
    let incarnation = postgres::incarnation(&session).await.step("read the incarnation")?;
    Ok(Place::Database { session, incarnation })
}

async fn managed(Logins { application, locker, .. }: &Logins, admin: &Login) -> Result<Place, MigrateError> {
    let session = login(locker, "log in as superuser").await?;
    let there = bounded(
        LIMIT,
        session.query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)
                AND EXISTS (SELECT 1 FROM pg_database WHERE datname = $2)",
            &[&application.user, &application.database],
        ),
    )
    .await
    .step("look role and database up")?;
    if !there.get::<_, bool>(0) {
        return Ok(Place::Absent);
    }
    let superuser = login(admin, "log in as superuser").await?;
    let incarnation = postgres::incarnation(&superuser).await.step("read the incarnation")?;
    let session = match login(application, "log in as the application").await {
        // `migrate` gives the role its password.
        Err(MigrateError::Database { source: DatabaseError::Rejected(why), .. }) => {
            tracing::info!(why, "reading as superuser with the application's rights");
            let role = format!("SET ROLE {}", escape_identifier(&application.user));
            bounded(LIMIT, superuser.batch_execute(&role)).await.step("take the application's rights")?;
            superuser
        }
        other => other?,
    };
    Ok(Place::Database { session, incarnation })
}
