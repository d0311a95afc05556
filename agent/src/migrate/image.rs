//! What the image's own code says: its revisions and the enum labels of its models, asked once,
//! because every start of Python takes longer than the question.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::migrate::alembic::script;
use crate::migrate::child::{Finished, Python};
use crate::migrate::decide::Image;
use crate::migrate::error::MigrateError;
use crate::migrate::labels::Models;

/// Reads code only: `env.py`, which needs a database, is not run, and nothing is connected to.
/// Models that can't be imported come last, because the revisions are known without them.
const READ: &str = script!(
    r#"
scripts = alembic.script.ScriptDirectory.from_config(alembic.config.Config("alembic.ini"))
way = list(scripts.walk_revisions())[::-1]
before = [None, *(script.revision for script in way)]
linear = all(script._all_down_revisions == ((last,) if last else ()) for script, last in zip(way, before))
result({"heads": list(scripts.get_heads()), "known": before[1:], "linear": linear})

from sqlalchemy import Enum
from app.models.audit import Base
labels, columns = {}, []
for table in Base.metadata.tables.values():
    for column in table.columns:
        kind = getattr(column.type, "item_type", column.type)
        if not isinstance(kind, Enum):
            continue
        columns.append({"table": table.name, "column": column.name, "labels": list(kind.enums)})
        if kind.native_enum and kind.name:
            labels.setdefault(kind.name, list(kind.enums))
result({"labels": labels, "columns": columns})
"#
);

#[derive(Debug, Deserialize)]
struct Revisions {
    heads: Vec<String>,
    known: Vec<String>,
    linear: bool,
}

/// Revisions, oldest first, and models or why they can't be read, which is no reason to stop.
///
/// # Errors
/// [`MigrateError::Image`] when the image's Alembic says no; a child that was
/// killed (memory) is [`MigrateError::Child`], since another try may work.
pub(crate) async fn read(python: &Python<'_>) -> Result<(Image, Result<Models, String>), MigrateError> {
    let finished = python.run("read the image", &["-c", READ]).await.map_err(|error| match error {
        MigrateError::Spawn { program, source } if source.kind() == std::io::ErrorKind::NotFound => {
            MigrateError::Image(format!("the image has no {program}"))
        }
        other => other,
    })?;
    let Some(Revisions { heads, known, linear }) = result(&finished) else {
        let killed = finished.status.code().is_none();
        let (status, tail) = (finished.status_text(), finished.tail);
        return Err(match (killed, tail.is_empty()) {
            (true, _) => MigrateError::Child { step: "read the image", status, tail },
            (false, true) => MigrateError::Image("no result was printed".to_owned()),
            (false, false) => MigrateError::Image(tail),
        });
    };
    let models = result(&finished).ok_or_else(|| {
        let (status, tail) = (finished.status_text(), &finished.tail);
        format!("the application's models cannot be read: {status}: {tail}")
    });
    Ok((Image { heads, known, linear }, models))
}

/// The first result of its kind; the image's own code may print such lines too.
fn result<T: DeserializeOwned>(finished: &Finished) -> Option<T> {
    finished.results.iter().find_map(|json| serde_json::from_str(json).ok())
}
