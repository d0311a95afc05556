//! Role and database, made or corrected by the superuser of a Managed database.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;

use crate::config;
use crate::migrate::error::{MigrateError, Step};
use crate::postgres::{DatabaseError, Session, bounded};
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
    // Best effort: even the verifier need not be in the server's log.
    let _quiet = bounded(LIMIT, admin.batch_execute("SET log_statement = 'none'")).await;
    if admin_user != database.user {
        role(admin, &database.user, password).await?;
    }
    own_database(admin, &database.name, &database.user).await
}

async fn role(admin: &Session, user: &str, password: &Secret) -> Result<(), MigrateError> {
    let known = bounded(LIMIT, admin.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&user]))
        .await
        .step("look the role up")?;
    if known.is_none() {
        match bounded(LIMIT, admin.batch_execute(&role_statement("CREATE", user, password))).await {
            Ok(()) => {
                tracing::info!(role = user, "role created");
                return Ok(());
            }
            Err(error) if exists(&error) => {}
            Err(error) => return Err(error).step("create the role"),
        }
    }
    bounded(LIMIT, admin.batch_execute(&role_statement("ALTER", user, password))).await.step("set the role's password")
}

/// The server gets the SCRAM verifier, never the password.
fn role_statement(verb: &str, user: &str, password: &Secret) -> String {
    format!(
        "{verb} ROLE {} WITH LOGIN PASSWORD {}",
        escape_identifier(user),
        escape_literal(&scram_sha_256(password.expose().as_bytes()))
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_has_no_password_and_quotes_the_name() {
        let statement = role_statement("ALTER", "a\"b", &Secret::new("it's a secret"));
        assert!(statement.starts_with("ALTER ROLE \"a\"\"b\" WITH LOGIN PASSWORD 'SCRAM-SHA-256$"));
        assert!(!statement.contains("secret"));
    }
}
