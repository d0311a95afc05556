//! The image's own revisions, asked of its own Alembic.

use serde::Deserialize;

use crate::migrate::alembic::script;
use crate::migrate::child::Python;
use crate::migrate::decide::Image;
use crate::migrate::error::MigrateError;

/// Reads the scripts' folder only: `env.py`, which needs a database, is not run.
const READ_REVISIONS: &str = script!(
    r#"
scripts = alembic.script.ScriptDirectory.from_config(alembic.config.Config("alembic.ini"))
way = list(scripts.walk_revisions())[::-1]
before = [None, *(script.revision for script in way)]
linear = all(script._all_down_revisions == ((last,) if last else ()) for script, last in zip(way, before))
result({"heads": list(scripts.get_heads()), "known": before[1:], "linear": linear})
"#
);

#[derive(Debug, Deserialize)]
struct Revisions {
    heads: Vec<String>,
    known: Vec<String>,
    linear: bool,
}

/// Heads and known revisions, oldest first.
///
/// # Errors
/// [`MigrateError::Image`] when the image's Alembic says no; a child that was
/// killed (memory) is [`MigrateError::Child`], since another try may work.
pub(crate) async fn revisions(python: &Python<'_>) -> Result<Image, MigrateError> {
    let finished = python.run("read revisions", &["-c", READ_REVISIONS]).await.map_err(|error| match error {
        MigrateError::Spawn { program, source } if source.kind() == std::io::ErrorKind::NotFound => {
            MigrateError::Image(format!("the image has no {program}"))
        }
        other => other,
    })?;
    if finished.status.code().is_none() {
        finished.success("read revisions")?;
        unreachable!("a process without an exit code has not succeeded");
    }
    if !finished.status.success() {
        return Err(MigrateError::Image(finished.tail));
    }
    let revisions =
        finished.result.as_deref().ok_or_else(|| MigrateError::Image("no result was printed".to_owned())).and_then(
            |json| serde_json::from_str::<Revisions>(json).map_err(|error| MigrateError::Image(error.to_string())),
        )?;
    Ok(Image { heads: revisions.heads, known: revisions.known, linear: revisions.linear })
}
