//! What a restore notes on the databases that it made or moved, as their comment: whose they are, and how far they are.
//! Nobody else's database is ever written into, renamed or dropped.

use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};

const LIMIT: Duration = Duration::from_mins(1);

/// How far a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// It is being loaded, or was when somebody was killed.
    Loading,
    /// It is what the manifest says.
    Loaded,
    /// It took the place of the live one.
    Live,
    /// It was the live one.
    Replaced,
    /// Tables of it were brought back to the live one.
    Copied,
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Note {
    /// UID of the Restore.
    pub(crate) owner: String,
    /// Id of the backup, or the path of the file.
    pub(crate) artifact: String,
    /// How far it is.
    pub(crate) state: State,
    /// It was the live database before this restore: what is in it is not the backup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) original: bool,
    /// Number of the swap that brought it where it is; 0: none did, or one of an agent that didn't count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) sequence: u64,
    /// The tables that were brought back from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tables: Vec<String>,
    /// Its catalogue was adopted: not a second time, another host may have taken it over since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) adopted: bool,
}

impl Note {
    /// Of a database that a restore makes.
    pub(crate) fn new(owner: &str, artifact: &str, state: State) -> Self {
        Self {
            owner: owner.to_owned(),
            artifact: artifact.to_owned(),
            state,
            original: false,
            sequence: 0,
            tables: Vec::new(),
            adopted: false,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Comment {
    odooai_restore: Note,
}

/// A database of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What a restore noted on it.
    pub(crate) note: Option<Note>,
    /// Nothing was noted on it by anybody, nobody may log in, and this is how many might: a restore makes one so.
    pub(crate) begun: Option<i32>,
}

/// `CONNECTION LIMIT` of a database that a restore has just made, and hasn't noted anything on yet.
pub(crate) fn mark(owner: &str) -> i32 {
    let digest = Sha256::digest(owner);
    let head = digest.first_chunk::<4>().expect("a SHA-256 has 32 bytes, so it has 4");
    // Neither 0 nor what people choose.
    1_000_000 + (i32::from_be_bytes(*head) & 0x00ff_ffff)
}

/// The note in a comment; `None`: it is somebody else's.
pub(crate) fn parse(comment: &str) -> Option<Note> {
    serde_json::from_str::<Comment>(comment).ok().map(|it| it.odooai_restore)
}

/// Names of all databases that this restore noted something on, and what.
///
/// # Errors
/// What the server said.
pub(crate) async fn all(session: &Session, owner: &str) -> Result<Vec<(String, Note)>, BackupError> {
    const QUESTION: &str = "
        SELECT datname::text, shobj_description(oid, 'pg_database') FROM pg_database
        WHERE shobj_description(oid, 'pg_database') LIKE '{\"odooaiRestore\"%' ORDER BY 1";
    let rows = bounded(LIMIT, session.query(QUESTION, &[])).await.step("look for databases of this restore")?;
    // It may be gone between the two questions.
    let noted = rows.iter().filter_map(|row| Some((row.get(0), parse(row.get::<_, Option<&str>>(1)?)?)));
    Ok(noted.filter(|(_, note): &(String, Note)| note.owner == owner).collect())
}

/// Looks a database up.
///
/// # Errors
/// What the server said.
pub(crate) async fn find(session: &Session, database: &str) -> Result<Option<Found>, BackupError> {
    const QUESTION: &str =
        "SELECT shobj_description(oid, 'pg_database'), datallowconn, datconnlimit FROM pg_database WHERE datname = $1";
    let row = bounded(LIMIT, session.query_opt(QUESTION, &[&database])).await.step("look the database up")?;
    Ok(row.map(|row| {
        let comment: Option<String> = row.get(0);
        let begun = (comment.is_none() && !row.get::<_, bool>(1)).then(|| row.get(2));
        Found { note: comment.as_deref().and_then(parse), begun }
    }))
}

/// The statement that notes it.
pub(crate) fn statement(database: &str, note: &Note) -> String {
    let text = serde_json::to_string(&Comment { odooai_restore: note.clone() }).expect("text always serializes");
    format!("COMMENT ON DATABASE {} IS {}", escape_identifier(database), escape_literal(&text))
}

/// Notes it.
///
/// # Errors
/// What the server said.
pub(crate) async fn set(session: &Session, database: &str, note: &Note) -> Result<(), BackupError> {
    bounded(LIMIT, session.batch_execute(&statement(database, note))).await.step("note it on the database")?;
    // Of a database that is gone the server only warns.
    if find(session, database).await?.and_then(|found| found.note).as_ref() == Some(note) {
        return Ok(());
    }
    Err(BackupError::failed("RestoreFailed", format!("the database {database} is gone, or somebody else notes on it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_without_what_came_later_is_read_and_written_as_it_was() {
        let old = r#"{"odooaiRestore":{"owner":"uid-1","artifact":"20260101t000000z-aaaaaa","state":"Live"}}"#;
        let note = parse(old).expect("a note");
        assert_eq!((note.state, note.original, note.sequence), (State::Live, false, 0));
        assert!(statement("d", &note).contains(old));
        let new = Note { original: true, sequence: 2, ..note };
        assert!(statement("d", &new).contains(r#""state":"Live","original":true,"sequence":2}}"#));
        let copied = Note { state: State::Copied, tables: vec!["a\"b".to_owned()], ..parse(old).expect("a note") };
        assert!(statement("d", &copied).contains(r#""state":"Copied","tables":["a\\"b"]}}"#));
        assert_eq!(parse("somebody's own"), None);
    }
}
