//! The application's role on a Managed server, as the superuser makes and corrects it.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;

use crate::postgres::{DatabaseError, Session, bounded};
use crate::secret::Secret;

const LIMIT: Duration = Duration::from_mins(1);

/// Whether the role exists.
///
/// # Errors
/// What the server said.
pub(crate) async fn exists(admin: &Session, user: &str) -> Result<bool, DatabaseError> {
    let row = bounded(LIMIT, admin.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&user])).await?;
    Ok(row.is_some())
}

/// Makes the role, able to log in with this password.
///
/// # Errors
/// What the server said.
pub(crate) async fn create(admin: &Session, user: &str, password: &Secret) -> Result<(), DatabaseError> {
    execute(admin, &statement("CREATE", user, password)).await
}

/// Lets the role log in with this password, whatever held before.
///
/// # Errors
/// What the server said.
pub(crate) async fn set_password(admin: &Session, user: &str, password: &Secret) -> Result<(), DatabaseError> {
    execute(admin, &statement("ALTER", user, password)).await
}

async fn execute(admin: &Session, statement: &str) -> Result<(), DatabaseError> {
    // Best effort: even the verifier need not be in the server's log.
    let _quiet = bounded(LIMIT, admin.batch_execute("SET log_statement = 'none'")).await;
    bounded(LIMIT, admin.batch_execute(statement)).await
}

/// The server gets the SCRAM verifier, never the password.
fn statement(verb: &str, user: &str, password: &Secret) -> String {
    format!(
        "{verb} ROLE {} WITH LOGIN PASSWORD {}",
        escape_identifier(user),
        escape_literal(&scram_sha_256(password.expose().as_bytes()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_has_no_password_and_quotes_the_name() {
        let statement = statement("ALTER", "a\"b", &Secret::new("it's a secret"));
        assert!(statement.starts_with("ALTER ROLE \"a\"\"b\" WITH LOGIN PASSWORD 'SCRAM-SHA-256$"));
        assert!(!statement.contains("secret"));
    }
}
