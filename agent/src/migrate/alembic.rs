//! The image's own Alembic: how it is called, and what it said when it failed.

use serde::Deserialize;

use crate::migrate::child::{Finished, Python};
use crate::migrate::error::MigrateError;

/// Begins every script. The working directory has a folder `alembic` too, which must
/// not be taken for the package. `at_connect` runs a statement in every new session of
/// `SQLAlchemy`.
macro_rules! script {
    ($body:literal) => {
        concat!(
            r#"
import json, os, sys
here = os.getcwd()
sys.path[:] = [path for path in sys.path if path not in ("", here)]
import alembic.config, alembic.script
sys.path.insert(0, here)
def result(value):
    print("ODOOAI-RESULT " + json.dumps(value), flush=True)
def at_connect(statement):
    import sqlalchemy
    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "connect")
    def connected(connection, _):
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        connection.commit()
"#,
            $body
        )
    };
}
pub(crate) use script;

/// The command line. A pooler may keep `PGOPTIONS` from the server, so the lock time-out is
/// set once more. Which error of PostgreSQL it was can't be read from a traceback
/// with certainty, so the exception is asked.
const MAIN: &str = script!(
    r#"
at_connect("SET lock_timeout = '5s'")
try:
    alembic.config.main(argv=sys.argv[1:])
except BaseException as error:
    state, text, connection, cause = None, "", False, error
    while cause is not None and state is None:
        said = getattr(cause, "orig", None) or cause
        state = getattr(said, "pgcode", None) or getattr(said, "sqlstate", None)
        # Further lines quote rows.
        if state or not text and not isinstance(said, SystemExit):
            text = next(iter(str(said).splitlines()), "")
        names = {kind.__name__ for kind in type(said).__mro__}
        connection = connection or bool(names & {"OperationalError", "InterfaceError", "ConnectionError"})
        cause = cause.__cause__ or cause.__context__
    result({"sqlstate": state, "text": text[:300], "connection": connection and state is None})
    raise
"#
);

/// What kind of failure a Python process ended with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Failure {
    /// PostgreSQL's code, five characters.
    pub(crate) sqlstate: Option<String>,
    /// One line of what was said. The traceback's end may be nothing but SQL.
    pub(crate) text: String,
    /// No code, because the connection failed.
    pub(crate) connection: bool,
}

/// SQLSTATE `lock_not_available`: a lock did not become free within `lock_timeout`.
pub(crate) const LOCK_TIMEOUT: &str = "55P03";

/// Whether the same statement may work another time: connection (08), serialization and
/// deadlock (40), resources (53), a lock that is taken (55P03), cancelled or ended by an
/// administrator or a restart (57), the system (58).
pub(crate) fn is_passing(sqlstate: &str) -> bool {
    sqlstate == LOCK_TIMEOUT || ["08", "40", "53", "57", "58"].iter().any(|class| sqlstate.starts_with(class))
}

impl Failure {
    /// Of a child; nothing is known of one that was killed.
    pub(crate) fn of(finished: &Finished) -> Self {
        finished.result.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
    }

    /// Whether another attempt may end better.
    pub(crate) fn is_passing(&self) -> bool {
        self.connection || self.sqlstate.as_deref().is_some_and(is_passing)
    }
}

/// Runs one command of Alembic to its end.
///
/// # Errors
/// When it can't be started; how it ended is no error.
pub(crate) async fn run(python: &Python<'_>, label: &str, arguments: &[&str]) -> Result<Finished, MigrateError> {
    python.run(label, &[&["-c", MAIN], arguments].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::lock_timeout("55P03", true)]
    #[case::deadlock("40P01", true)]
    #[case::disk_full("53100", true)]
    #[case::terminated("57P01", true)]
    #[case::connection_lost("08006", true)]
    #[case::object_in_use("55006", false)]
    #[case::no_such_table("42P01", false)]
    #[case::permission("42501", false)]
    #[case::duplicate_key("23505", false)]
    fn some_errors_pass(#[case] sqlstate: &str, #[case] passing: bool) {
        assert_eq!(is_passing(sqlstate), passing);
    }
}
