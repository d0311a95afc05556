//! What a restore is to do.

use std::str::FromStr;
use std::time::Duration;

use crate::catalogue::bucket::SettingsError;
use crate::catalogue::choose;
use crate::catalogue::entry::Entry;
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::place::Storage;
use crate::config::{ConfigError, Env};
use crate::dump::error::BackupError;
use crate::redact::Redactor;

const ID: &str = "ODOOAI_RESTORE_ID";
const SELECTOR: &str = "ODOOAI_RESTORE_SELECTOR";
const FILE: &str = "ODOOAI_RESTORE_FILE";
const RESERVE_BYTES: &str = "ODOOAI_RESTORE_RESERVE_BYTES";
/// What PostgreSQL cuts a name to, silently.
pub(crate) const LONGEST_NAME: usize = 63;
/// Of a key in a bucket.
const LONGEST_PATH: usize = 1024;

/// Whose restore it is, and which databases it is about.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// UID of the Restore: what it made is known by it.
    pub(crate) owner: String,
    /// Name of the database that is restored into.
    pub(crate) database: String,
    /// For the whole run.
    pub(crate) limit: Duration,
}

impl Target {
    /// Reads `ODOOAI_RESTORE_{OWNER,DATABASE}` and `ODOOAI_RESTORE_TIMEOUT_SECONDS`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            owner: env.required("ODOOAI_RESTORE_OWNER")?.to_owned(),
            database: name(env, "ODOOAI_RESTORE_DATABASE")?,
            limit: Duration::from_secs(env.parsed("ODOOAI_RESTORE_TIMEOUT_SECONDS", 3600)?),
        })
    }

    /// The limit is over.
    pub(crate) fn late(&self) -> BackupError {
        BackupError::failed("TimedOut", format!("not restored within {} s", self.limit.as_secs()))
    }
}

/// What is brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A backup of the catalogue.
    Artifact(Choice),
    /// What `pg_dump` wrote as SQL.
    File(FilePath),
}

/// Which backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Id(Id),
    /// The newest good one of any policy.
    Latest,
    /// The newest of those that a verification restored completely.
    LatestVerified,
}

/// Where a file is below the root of the storage, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(String);

impl FilePath {
    /// As it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = |part: &str| !["", ".", ".."].contains(&part) && !part.chars().any(char::is_control);
        if text.len() > LONGEST_PATH {
            return Err(format!("it has more than {LONGEST_PATH} bytes"));
        }
        if !text.split('/').all(is_good) {
            return Err("it must be the path of a file relative to the root of the storage".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl Wanted {
    /// Reads `ODOOAI_RESTORE_ID`, `ODOOAI_RESTORE_SELECTOR` or `ODOOAI_RESTORE_FILE`.
    ///
    /// # Errors
    /// None is there, or more than one, or it can't be understood.
    fn from_env(env: &Env) -> Result<Self, ConfigError> {
        let invalid = |name, reason| ConfigError::Invalid { name, reason };
        match (env.get(ID), env.get(SELECTOR), env.get(FILE)) {
            (Some(id), None, None) => {
                id.parse().map(|id| Self::Artifact(Choice::Id(id))).map_err(|reason| invalid(ID, reason))
            }
            (None, Some("Latest"), None) => Ok(Self::Artifact(Choice::Latest)),
            (None, Some("LatestVerified"), None) => Ok(Self::Artifact(Choice::LatestVerified)),
            (None, Some(_), None) => Err(invalid(SELECTOR, "it must be one of Latest, LatestVerified".to_owned())),
            (None, None, Some(path)) => path.parse().map(Self::File).map_err(|reason| invalid(FILE, reason)),
            (None, None, None) => Err(ConfigError::Missing(ID)),
            (id, ..) => {
                let (name, other) = (if id.is_some() { ID } else { SELECTOR }, "another source of the restore");
                Err(invalid(name, format!("{other} is set too, and only one of {ID}, {SELECTOR} and {FILE} may be")))
            }
        }
    }

    /// Whether this is of the catalogue, and what is meant.
    pub(crate) fn is_of_catalogue(&self, artifact: &str) -> bool {
        matches!(self, Self::Artifact(_)) && artifact.parse::<Id>().is_ok() && self.allows(artifact)
    }

    /// Whether what was brought before may be what is meant: a selector would choose another one every day.
    pub(crate) fn allows(&self, artifact: &str) -> bool {
        match self {
            Self::Artifact(Choice::Id(id)) => id.to_string() == artifact,
            Self::Artifact(Choice::Latest | Choice::LatestVerified) => true,
            Self::File(path) => path.as_str() == artifact,
        }
    }
}

impl Choice {
    /// Chooses.
    ///
    /// # Errors
    /// `ArtifactMissing`; `ArtifactDamaged`.
    pub(crate) fn choose(&self, entries: &[Entry]) -> Result<Manifest, BackupError> {
        let (found, what) = match self {
            Self::Id(id) => return choose::by_id(entries, id),
            Self::Latest => (choose::newest(entries, |_, _| true), "no good backup"),
            Self::LatestVerified => {
                (choose::newest(entries, |_, verified| verified), "no good backup that is verified")
            }
        };
        found.ok_or_else(|| BackupError::refused("ArtifactMissing", format!("there is {what} in this catalogue")))
    }
}

/// Of `load`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where to.
    pub(crate) target: Target,
    /// The backup, or the file.
    pub(crate) wanted: Wanted,
    /// Where it is.
    pub(crate) storage: Storage,
    /// Bytes of the server's disk that are left alone; `None`: as [`crate::restore::room`] says.
    pub(crate) reserve: Option<u64>,
    /// Sessions at once, where the dump lets more than one read it.
    pub(crate) jobs: u32,
    /// It is to take the place of the live database, which gets another name then.
    pub(crate) renames: bool,
}

impl Settings {
    /// Reads `ODOOAI_RESTORE_*`, `ODOOAI_BACKUP_*` and `ODOOAI_S3_*`.
    ///
    /// # Errors
    /// What is missing or can't be understood.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Self, SettingsError> {
        Ok(Self {
            target: Target::from_env(env)?,
            wanted: Wanted::from_env(env)?,
            storage: Storage::from_env(env, redactor)?,
            reserve: reserve(env)?,
            jobs: env.parsed("ODOOAI_RESTORE_JOBS", 1)?,
            renames: env.get("ODOOAI_RESTORE_REPLACED").is_some(),
        })
    }
}

/// Bytes of the server's disk that are left alone, where somebody says so.
///
/// # Errors
/// It is no number.
pub(crate) fn reserve(env: &Env) -> Result<Option<u64>, ConfigError> {
    env.get(RESERVE_BYTES).map(|_| env.parsed(RESERVE_BYTES, 0)).transpose()
}

/// The name of a database.
///
/// # Errors
/// It is missing, or longer than PostgreSQL keeps.
pub(crate) fn name(env: &Env, variable: &'static str) -> Result<String, ConfigError> {
    let name = env.required(variable)?;
    if name.len() > LONGEST_NAME {
        let reason = format!("it has more than {LONGEST_NAME} bytes");
        return Err(ConfigError::Invalid { name: variable, reason });
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::entry::State;
    use crate::catalogue::manifest::tests::manifest;
    use rstest::rstest;

    const SOME_ID: &str = "20260101t000000z-aaaaaa";

    #[rstest]
    #[case::an_id(Some(SOME_ID), None, None, true)]
    #[case::a_selector(None, Some("LatestVerified"), None, true)]
    #[case::a_file(None, None, Some("old/ai_db.sql.gz"), true)]
    #[case::none(None, None, None, false)]
    #[case::id_and_selector(Some(SOME_ID), Some("Latest"), None, false)]
    #[case::id_and_file(Some(SOME_ID), None, Some("f.sql"), false)]
    #[case::selector_and_file(None, Some("Latest"), Some("f.sql"), false)]
    #[case::no_id(Some("latest"), None, None, false)]
    #[case::no_selector(None, Some("latest"), None, false)]
    #[case::no_file(None, None, Some("/etc/passwd"), false)]
    fn exactly_one(
        #[case] id: Option<&str>,
        #[case] selector: Option<&str>,
        #[case] file: Option<&str>,
        #[case] good: bool,
    ) {
        let env: Env = [(ID, id), (SELECTOR, selector), (FILE, file)]
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .into_iter()
            .collect();
        assert_eq!(Wanted::from_env(&env).is_ok(), good);
    }

    #[test]
    fn a_path_stays_below_the_root() {
        for good in ["a.sql", "old/ä b+%41.sql.gz", "..a/b..", "a/.hidden"] {
            assert_eq!(good.parse::<FilePath>().as_ref().map(FilePath::as_str), Ok(good));
        }
        let long = "a".repeat(LONGEST_PATH + 1);
        for wrong in ["", "/a", "a/", "a//b", "..", "../a", "a/../../b", "a/..", ".", "./a", "a\n", &long] {
            assert!(wrong.parse::<FilePath>().is_err(), "{wrong}");
        }
    }

    /// Days of January; upper case is verified, `o` of another policy, `d` damaged, `u` unfinished.
    fn entries(letters: &str) -> Vec<Entry> {
        let entry = |(day, letter): (usize, char)| {
            let mut manifest = manifest(day + 1);
            if letter.eq_ignore_ascii_case(&'o') {
                manifest.policy = "other".to_owned();
            }
            let id = manifest.id.clone();
            let state = match letter {
                'd' => State::Damaged(String::new()),
                'u' => State::Unfinished,
                _ => State::Good { manifest: Box::new(manifest), verified: letter.is_ascii_uppercase() },
            };
            Entry { id, state }
        };
        letters.chars().enumerate().map(entry).collect()
    }

    #[rstest]
    #[case::none("", None, None)]
    #[case::the_newest("SssS", Some(3), Some(3))]
    #[case::of_any_policy("sSo", Some(2), Some(1))]
    #[case::verified_of_any_policy("sOs", Some(2), Some(1))]
    #[case::good_ones_alone("Ssdu", Some(1), Some(0))]
    #[case::nothing_verified("sdu", Some(0), None)]
    fn the_newest_good_one(#[case] letters: &str, #[case] latest: Option<usize>, #[case] verified: Option<usize>) {
        let entries = entries(letters);
        for (wanted, at) in [(Choice::Latest, latest), (Choice::LatestVerified, verified)] {
            let chosen = wanted.choose(&entries).map(|manifest| manifest.id).ok();
            assert_eq!(chosen, at.map(|at| entries[at].id.clone()), "{wanted:?}");
        }
    }

    #[test]
    fn of_one_moment_the_id_decides() {
        let mut entries = entries("ss");
        let moment = manifest(9).completed_at;
        for entry in &mut entries {
            let State::Good { manifest, .. } = &mut entry.state else { panic!("good") };
            manifest.completed_at = moment;
        }
        entries.reverse();
        let chosen = Choice::Latest.choose(&entries).expect("there");
        assert_eq!(chosen.id, entries[0].id);
    }
}
