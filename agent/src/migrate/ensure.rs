//! Role and database, made or corrected by the superuser of a Managed database.

use std::time::Duration;

use postgres_protocol::escape::escape_identifier;

use crate::config;
use crate::migrate::error::{MigrateError, Step};
use crate::postgres::{DatabaseError, Session, bounded};
use crate::role;
use crate::secret::Secret;

/// CREATE DATABASE copies files and waits for a checkpoint.
const LIMIT: Duration = Duration::from_mins(1);

/// SQLSTATEs of "somebody was faster": `duplicate_object`, `duplicate_database`, `unique_violation`.
const EXISTS: [&str; 3] = ["42710", "42P04", "23505"];

/// Makes sure that the role can log in with this password and owns its database.
/// Running it again, or twice at once, ends the same.
///
/// # Errors
/// What the server said.
pub(crate) async fn role_and_database(
    admin: &Session,
    admin_user: &str,
    database: &config::Database,
    password: &Secret,
) -> Result<(), MigrateError> {
    if admin_user != database.user {
        ensure_role(admin, &database.user, password).await?;
    }
    own_database(admin, &database.name, &database.user).await
}

async fn ensure_role(admin: &Session, user: &str, password: &Secret) -> Result<(), MigrateError> {
    if !role::exists(admin, user).await.step("look the role up")? {
        match role::create(admin, user, password).await {
            Ok(()) => {
                tracing::info!(role = user, "role created");
                return Ok(());
            }
            Err(error) if exists(&error) => {}
            Err(error) => return Err(error).step("create the role"),
        }
    }
    role::set_password(admin, user, password).await.step("set the role's password")
}

async fn own_database(admin: &Session, name: &str, owner: &str) -> Result<(), MigrateError> {
    let found = bounded(
        LIMIT,
        admin.query_opt("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1", &[&name]),
    )
    .await
    .step("look the database up")?;
    let (database, role) = (escape_identifier(name), escape_identifier(owner));
    let Some(row) = found else {
        // template0: template1 may have been changed, and only template0 allows an encoding.
        let created = bounded(
            LIMIT,
            admin.batch_execute(&format!("CREATE DATABASE {database} OWNER {role} TEMPLATE template0 ENCODING 'UTF8'")),
        )
        .await;
        return match created {
            Ok(()) => {
                tracing::info!(database = name, owner, "database created");
                Ok(())
            }
            Err(error) if exists(&error) => Ok(()),
            Err(error) => Err(error).step("create the database"),
        };
    };
    if row.get::<_, String>(0) == owner {
        return Ok(());
    }
    bounded(LIMIT, admin.batch_execute(&format!("ALTER DATABASE {database} OWNER TO {role}")))
        .await
        .step("give the database to the role")
}

fn exists(error: &DatabaseError) -> bool {
    error.code().is_some_and(|code| EXISTS.contains(&code))
}
