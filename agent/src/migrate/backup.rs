//! Is there a backup of exactly what is about to be changed?

use std::collections::BTreeSet;

use crate::config::{ConfigError, Env};
use crate::migrate::error::MigrateError;
use crate::report::Outcome;

/// The backup that the operator made before this command, by what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backup {
    required: bool,
    incarnation: Option<String>,
    schema: BTreeSet<String>,
}

impl Backup {
    /// Reads `ODOOAI_BACKUP_*`.
    ///
    /// # Errors
    /// When `ODOOAI_BACKUP_REQUIRED` is neither `true` nor `false`.
    pub(crate) fn from_env(env: &Env) -> Result<Self, ConfigError> {
        Ok(Self {
            required: env.parsed("ODOOAI_BACKUP_REQUIRED", false)?,
            incarnation: env.get("ODOOAI_BACKUP_INCARNATION").map(str::to_owned),
            schema: env.list("ODOOAI_BACKUP_SCHEMA"),
        })
    }

    /// Asked under the lock, before an existing schema is changed.
    ///
    /// # Errors
    /// `BackupMissing` when one is required and none of this database at these revisions was named.
    pub(crate) fn covers(&self, incarnation: &str, current: &BTreeSet<String>) -> Result<(), MigrateError> {
        if self.is_of(incarnation) && (!self.required || self.schema == *current) {
            return Ok(());
        }
        Err(self.missing(incarnation, current))
    }

    /// Asked before rows of a schema at the image's head are changed. A backup from before
    /// the upgrade will do: the attempt that upgraded may have been killed before the rows.
    ///
    /// # Errors
    /// `BackupMissing` when one is required and none of this database was named that this
    /// image could restore.
    pub(crate) fn covers_rows(
        &self,
        incarnation: &str,
        current: &BTreeSet<String>,
        known: &[String],
    ) -> Result<(), MigrateError> {
        if self.is_of(incarnation) && (!self.required || self.schema.iter().all(|revision| known.contains(revision))) {
            return Ok(());
        }
        Err(self.missing(incarnation, current))
    }

    fn is_of(&self, incarnation: &str) -> bool {
        !self.required || self.incarnation.as_deref() == Some(incarnation)
    }

    fn missing(&self, incarnation: &str, current: &BTreeSet<String>) -> MigrateError {
        let found = match &self.incarnation {
            None => "there is none".to_owned(),
            Some(other) => format!("the one there is holds database {other} at {}", revisions(&self.schema)),
        };
        MigrateError::Decided {
            outcome: Outcome::Refused,
            reason: "BackupMissing",
            message: format!(
                "a backup of database {incarnation} at {} is required before it is changed; {found}",
                revisions(current)
            ),
        }
    }
}

/// Revisions for people.
pub(crate) fn revisions(revisions: &BTreeSet<String>) -> String {
    if revisions.is_empty() {
        return "no recorded revision".to_owned();
    }
    revisions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::not_required("false", "", "", true)]
    #[case::exact("true", "1/5", "b, a", true)]
    #[case::none("true", "", "a,b", false)]
    #[case::another_incarnation("true", "1/6", "a,b", false)]
    #[case::an_older_schema("true", "1/5", "a", false)]
    #[case::no_schema("true", "1/5", "", false)]
    fn table(#[case] required: &str, #[case] incarnation: &str, #[case] schema: &str, #[case] good: bool) {
        let env = [
            ("ODOOAI_BACKUP_REQUIRED", required),
            ("ODOOAI_BACKUP_INCARNATION", incarnation),
            ("ODOOAI_BACKUP_SCHEMA", schema),
        ];
        let backup = Backup::from_env(&env.into_iter().collect()).expect("valid");
        let current = ["a", "b"].map(str::to_owned).into();
        assert_eq!(backup.covers("1/5", &current).is_ok(), good);
    }

    #[test]
    fn a_schema_without_revisions_is_covered_by_a_backup_of_one() {
        let env = [("ODOOAI_BACKUP_REQUIRED", "true"), ("ODOOAI_BACKUP_INCARNATION", "1/5")];
        let backup = Backup::from_env(&env.into_iter().collect()).expect("valid");
        assert!(backup.covers("1/5", &BTreeSet::new()).is_ok());
        assert!(backup.covers_rows("1/5", &["a".to_owned()].into(), &[]).is_ok());
        assert!(Backup::from_env(&[("ODOOAI_BACKUP_REQUIRED", "yes")].into_iter().collect()).is_err());
    }
}
