//! What an attempt that was killed left in the server: a statement goes on when its client
//! is gone, with its locks.

use std::time::Duration;

use crate::migrate::error::{MigrateError, Step};
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_secs(30);

/// Ends it. Under our lock nobody else does the same to this database, so whoever has the name
/// that such sessions go by is a leftover; from here on this session has it too.
///
/// # Errors
/// What the server said.
pub(crate) async fn end(session: &Session, application_name: &'static str) -> Result<(), MigrateError> {
    const END: &str = "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND application_name = $1
          AND pid <> pg_backend_pid()";
    let name = format!("SET application_name = '{application_name}'");
    bounded(LIMIT, session.batch_execute(&name)).await.step("name the session")?;
    for _ in 0..50 {
        let ended = bounded(LIMIT, session.query(END, &[&application_name])).await.step("end earlier attempts")?;
        if ended.is_empty() {
            break;
        }
        tracing::info!(sessions = ended.len(), "an earlier attempt still runs in the server and is ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
