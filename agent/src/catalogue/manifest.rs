//! What is known of a good backup. Its format is a contract: older operators and people read it, and restores prove
//! themselves against it.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalogue::id::Id;

/// Of the format.
pub(crate) const VERSION: u32 = 1;

/// Why a backup was made; the CRD has the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// Its time had come.
    Scheduled,
    /// Somebody asked for it.
    Requested,
    /// A migration was about to start.
    PreMigration,
    /// A restore in place was about to start.
    PreRestore,
}

impl FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(serde_json::Value::String(text.to_owned()))
            .map_err(|_| "it must be one of Scheduled, Requested, PreMigration, PreRestore".to_owned())
    }
}

/// What must be undone before `pg_restore` can read the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Compression {
    /// Nothing: `pg_dump` compressed inside its archive.
    Archive,
    /// The archive as a whole is compressed by zstd; `pg_dump` before 16 can't.
    Zstd,
}

/// How many there are of what a restore must bring back besides rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Objects {
    /// Sequences.
    pub(crate) sequences: i64,
    /// Indexes.
    pub(crate) indexes: i64,
    /// Constraints.
    pub(crate) constraints: i64,
    /// Views, materialized ones included.
    pub(crate) views: i64,
    /// Functions and procedures.
    pub(crate) functions: i64,
    /// Triggers.
    pub(crate) triggers: i64,
    /// Types of people.
    pub(crate) types: i64,
    /// Large objects.
    #[serde(rename = "largeObjects")]
    pub(crate) large: i64,
}

/// A good backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    /// Of the format.
    pub(crate) version: u32,
    /// Its name.
    pub(crate) id: Id,
    /// The Backup that it was made for.
    pub(crate) policy: String,
    /// Why it was made.
    pub(crate) reason: Reason,
    /// The request that it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<String>,
    /// When the run began.
    pub(crate) started_at: Timestamp,
    /// When the dump was stored and read back.
    pub(crate) completed_at: Timestamp,
    /// Size of the dump.
    pub(crate) bytes: u64,
    /// SHA-256 of the dump, in hexadecimal.
    pub(crate) sha256: String,
    /// What must be undone before `pg_restore` can read it.
    pub(crate) compression: Compression,
    /// `server_version_num` of the server.
    pub(crate) server_version: i32,
    /// What `pg_dump --version` says.
    pub(crate) dump_version: String,
    /// Of the agent.
    pub(crate) agent_version: String,
    /// Name of the database.
    pub(crate) database: String,
    /// `<system identifier>/<database OID>`.
    pub(crate) incarnation: String,
    /// Alembic's revisions, one in a sane database.
    pub(crate) alembic: Vec<String>,
    /// Size of the database on its disk.
    pub(crate) database_bytes: i64,
    /// Rows of every table, by its name as SQL quotes it.
    pub(crate) tables: BTreeMap<String, i64>,
    /// What else there is.
    pub(crate) objects: Objects,
    /// How the database encodes text.
    pub(crate) encoding: String,
}

impl Manifest {
    /// Parses one.
    ///
    /// # Errors
    /// It isn't JSON, lacks something, or is of a format that this agent doesn't know.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.version == VERSION {
            return Ok(manifest);
        }
        Err(format!("it is of format {}, and this agent knows {VERSION}", manifest.version))
    }

    /// Its text.
    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a manifest has only text keys")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of the policy `nightly`, of this day.
    pub(crate) fn manifest(day: usize) -> Manifest {
        let at: Timestamp = format!("2026-01-{day:02}T03:00:00Z").parse().expect("a day of January");
        Manifest {
            version: VERSION,
            id: Id::new(at),
            policy: "nightly".to_owned(),
            reason: Reason::Scheduled,
            request: None,
            started_at: at,
            completed_at: at,
            bytes: 4,
            sha256: "00".repeat(32),
            compression: Compression::Archive,
            server_version: 170_002,
            dump_version: "pg_dump (PostgreSQL) 17.2".to_owned(),
            agent_version: "0.1.0".to_owned(),
            database: "odooai".to_owned(),
            incarnation: "7/5".to_owned(),
            alembic: vec!["003".to_owned()],
            database_bytes: 8,
            tables: BTreeMap::from([("\"public\".\"Ä\"".to_owned(), 0)]),
            objects: Objects::default(),
            encoding: "UTF8".to_owned(),
        }
    }

    #[test]
    fn it_can_be_read_again() {
        let one = manifest(1);
        assert_eq!(Manifest::parse(&one.json()), Ok(one.clone()));
        assert!(Manifest::parse(&Manifest { version: 2, ..one.clone() }.json()).is_err());
        let text = one.json();
        assert!(Manifest::parse(&text[..text.len() - 2]).is_err(), "cut");
        assert!(Manifest::parse(b"{}").is_err());
    }
}
