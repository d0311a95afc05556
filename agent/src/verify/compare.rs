//! Is what was restored what the manifest says? It is counted here; the comparison is plain.

use std::collections::BTreeMap;

use crate::catalogue::manifest::{Manifest, Objects};
use crate::dump::census::Snapshot;
use crate::dump::error::BackupError;
use crate::postgres::Session;

/// Differences that are named; more are counted.
const NAMED: usize = 5;

/// What there is after a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Rows of every table.
    pub(crate) tables: BTreeMap<String, i64>,
    /// What else there is.
    pub(crate) objects: Objects,
    /// Alembic's revisions.
    pub(crate) alembic: Vec<String>,
}

impl Restored {
    /// Counts what is in a database, by two sessions that are logged in to it: one keeps the moment, the other counts.
    ///
    /// # Errors
    /// What the server said.
    pub(crate) async fn count(keeper: Session, counter: &Session, lock_seconds: u64) -> Result<Self, BackupError> {
        let snapshot = Snapshot::export(keeper, lock_seconds).await?;
        let tables = snapshot.rows(counter).await?;
        Ok(Self { tables, objects: snapshot.objects().await?, alembic: snapshot.alembic().await? })
    }
}

/// What differs, for people; empty: nothing.
pub(crate) fn differences(manifest: &Manifest, restored: &Restored) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (table, rows) in &manifest.tables {
        match restored.tables.get(table) {
            None => found.push(format!("table {table} is missing")),
            Some(there) if there != rows => found.push(format!("table {table} has {there} rows instead of {rows}")),
            Some(_) => {}
        }
    }
    let more = restored.tables.keys().filter(|table| !manifest.tables.contains_key(*table));
    found.extend(more.map(|table| format!("table {table} is there and shouldn't be")));
    found.extend(objects(&manifest.objects, &restored.objects));
    if manifest.alembic != restored.alembic {
        let words = |revisions: &[String]| if revisions.is_empty() { "none".to_owned() } else { revisions.join(", ") };
        found.push(format!("the revision is {} instead of {}", words(&restored.alembic), words(&manifest.alembic)));
    }
    found
}

/// The first few, for a message.
pub(crate) fn told(differences: &[String]) -> String {
    let more = differences.len().saturating_sub(NAMED);
    let shown = differences[..differences.len() - more].join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

fn objects(wanted: &Objects, there: &Objects) -> impl Iterator<Item = String> {
    let pairs = [
        ("sequences", wanted.sequences, there.sequences),
        ("indexes", wanted.indexes, there.indexes),
        ("constraints", wanted.constraints, there.constraints),
        ("views", wanted.views, there.views),
        ("functions", wanted.functions, there.functions),
        ("triggers", wanted.triggers, there.triggers),
        ("types", wanted.types, there.types),
        ("large objects", wanted.large, there.large),
    ];
    pairs
        .into_iter()
        .filter(|(_, wanted, there)| wanted != there)
        .map(|(what, wanted, there)| format!("there are {there} {what} instead of {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::manifest::tests::manifest;

    fn both() -> (Manifest, Restored) {
        let mut manifest = manifest(1);
        manifest.tables = [("a", 1), ("b", 0)].map(|(name, rows)| (name.to_owned(), rows)).into();
        let (tables, alembic) = (manifest.tables.clone(), manifest.alembic.clone());
        let restored = Restored { tables, objects: manifest.objects.clone(), alembic };
        (manifest, restored)
    }

    #[test]
    fn nothing_differs() {
        let (manifest, restored) = both();
        assert_eq!(differences(&manifest, &restored), Vec::<String>::new());
    }

    #[test]
    fn whatever_differs_is_told() {
        let (manifest, mut restored) = both();
        restored.tables = [("a", 2), ("c", 0)].map(|(name, rows)| (name.to_owned(), rows)).into();
        restored.objects.indexes = 3;
        restored.alembic.clear();
        let wanted = [
            "table a has 2 rows instead of 1",
            "table b is missing",
            "table c is there and shouldn't be",
            "there are 3 indexes instead of 0",
            "the revision is none instead of 003",
        ];
        assert_eq!(differences(&manifest, &restored), wanted);
        let many: Vec<_> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(told(&many), "0; 1; 2; 3; 4; and 2 more");
    }
}
