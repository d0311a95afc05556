//! The SQL of the image's revisions, as its own Alembic prints it offline.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::migrate::alembic::script;
use crate::migrate::child::{Finished, Python};
use crate::migrate::error::MigrateError;

/// `up CURRENT…` or `down CURRENT TARGET`. Prints the order first, then each revision's SQL in
/// pieces that fit a line, then how it ended. Only its own step is taken for each, so that a
/// merge's or a dependency's statements count once. A revision that hangs is ended after half a
/// minute, and one that asks a database on its own can't write there.
const RENDER: &str = script!(
    r#"
import io, signal, traceback
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory

at_connect("SET default_transaction_read_only = on")
up, revisions = sys.argv[1] == "up", sys.argv[2:]

class Hangs(BaseException):
    pass

def hangs(*_):
    raise Hangs("no SQL within 30 s")

def sql(script):
    down, buffer = script.down_revision or (), io.StringIO()
    before = ((down,) if isinstance(down, str) else tuple(down)) or "base"
    make = MigrationStep.upgrade_from_script if up else MigrationStep.downgrade_from_script
    def step(_, context):
        return [make(scripts.revision_map, script)]
    start, end = (before, script.revision) if up else (script.revision, before)
    settings = Config("alembic.ini", output_buffer=buffer)
    target = {"starting_rev": start, "destination_rev": end}
    with EnvironmentContext(settings, scripts, fn=step, as_sql=True, **target):
        scripts.run_env()
    text = buffer.getvalue()
    if f"-- Running {'up' if up else 'down'}grade" not in text:
        raise RuntimeError("Alembic printed no SQL")
    return text

scripts = ScriptDirectory.from_config(Config("alembic.ini"))
if up:
    way = list(scripts.iterate_revisions("heads", tuple(revisions), implicit_base=True))[::-1]
else:
    way = list(scripts.iterate_revisions(*revisions))
result({"revisions": [script.revision for script in way]})
signal.signal(signal.SIGALRM, hangs)
for script in way:
    error = None
    try:
        signal.alarm(30)
        text = sql(script)
        for start in range(0, len(text), 1000):
            result({"sql": text[start:start + 1000]})
    except BaseException as caught:
        error = "".join(traceback.format_exception_only(caught)).strip().splitlines()[0]
    finally:
        signal.alarm(0)
    result({"revision": script.revision, "error": error})
"#
);

/// One revision's way up or down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The revision.
    pub(crate) revision: String,
    /// Its statements with Alembic's bookkeeping, or why there are none.
    pub(crate) sql: Result<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Order { revisions: Vec<String> },
    Sql { sql: String },
    End { revision: String, error: Option<String> },
}

/// The revisions that `alembic upgrade heads` would run from `current` (none: from the
/// beginning), in its order. `env.py` and the revisions are run; `SQLAlchemy`'s sessions in them
/// are read-only.
///
/// # Errors
/// [`MigrateError::Image`] when Alembic can't say which; a revision that can't be printed is
/// none.
pub(crate) async fn upgrade(python: &Python<'_>, current: &BTreeSet<String>) -> Result<Vec<Rendered>, MigrateError> {
    let current = current.iter().map(String::as_str);
    render(python, &["up"].into_iter().chain(current).collect::<Vec<_>>()).await
}

/// The revisions that `alembic downgrade TARGET` would undo from `current`, in its order: the
/// newest first. The rest as in [`upgrade`].
///
/// # Errors
/// As [`upgrade`].
pub(crate) async fn downgrade(python: &Python<'_>, current: &str, target: &str) -> Result<Vec<Rendered>, MigrateError> {
    render(python, &["down", current, target]).await
}

async fn render(python: &Python<'_>, arguments: &[&str]) -> Result<Vec<Rendered>, MigrateError> {
    let finished = python.run("print SQL", &[&["-c", RENDER], arguments].concat()).await?;
    rendered(&finished.results, &finished.status_text()).ok_or_else(|| failed(finished))
}

fn failed(finished: Finished) -> MigrateError {
    if finished.status.code().is_some() {
        return MigrateError::Image(finished.tail);
    }
    MigrateError::Child { step: "print SQL", status: finished.status_text(), tail: finished.tail }
}

/// Puts the lines together; `None` without an order. Revisions that the process didn't end with
/// failed with `status`.
fn rendered(lines: &[String], status: &str) -> Option<Vec<Rendered>> {
    let mut all: Option<Vec<Rendered>> = None;
    let mut text = String::new();
    for line in lines {
        // The image's own code may print such a line too.
        let Ok(line) = serde_json::from_str(line) else { continue };
        match line {
            Line::Order { revisions } => {
                let unfinished = || Err(format!("Python ended before it printed the SQL: {status}"));
                all = Some(revisions.into_iter().map(|revision| Rendered { revision, sql: unfinished() }).collect());
            }
            Line::Sql { sql } => text.push_str(&sql),
            Line::End { revision, error } => {
                let text = std::mem::take(&mut text);
                let mut all = all.iter_mut().flatten();
                if let Some(ended) = all.find(|rendered| rendered.revision == revision) {
                    ended.sql = error.map_or(Ok(text), Err);
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_end_failed_and_pieces_are_put_together() {
        let lines: [&str; 9] = [
            r#"{"revisions": ["a", "b", "c", "d"]}"#,
            r#"{"sql": "CREATE "}"#,
            "nonsense",
            r#"{"sql": "TABLE"}"#,
            r#"{"revision": "a", "error": null}"#,
            r#"{"sql": "DROP"}"#,
            r#"{"revision": "b", "error": "KeyError: 'x'"}"#,
            r#"{"revision": "c", "error": null}"#,
            r#"{"sql": "DROP"}"#,
        ];
        let rendered = rendered(&lines.map(str::to_owned), "signal: 9").expect("an order");
        let sql: Vec<_> = rendered.iter().map(|one| one.sql.as_deref().map_err(String::as_str)).collect();
        let unfinished = "Python ended before it printed the SQL: signal: 9";
        assert_eq!(sql, [Ok("CREATE TABLE"), Err("KeyError: 'x'"), Ok(""), Err(unfinished)]);
    }

    #[test]
    fn no_order_is_no_result() {
        assert_eq!(rendered(&[], "exit status: 1"), None);
    }
}
