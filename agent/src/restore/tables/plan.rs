//! May these tables be brought back, and what has to be done for it? Plain.

use std::fmt::Write as _;

use crate::dump::error::BackupError;
use crate::restore::note::{Found, Note, State};
use crate::restore::tables::look::{Column, Key, Relation, Seen, Table, Trigger};
use crate::restore::tables::names::TableName;

/// An ordinary table, and one that has its rows in partitions.
const ORDINARY: &str = "r";
const PARTITIONED: &str = "p";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of their names.
    pub(crate) tables: Vec<Planned>,
    /// They and their partitions in the live database.
    pub(crate) relations: Vec<Relation>,
    /// Dropped and added again.
    pub(crate) keys: Vec<Key>,
    /// Disabled and enabled again.
    pub(crate) triggers: Vec<Trigger>,
}

/// A table that is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) name: TableName,
    pub(crate) partitioned: bool,
    /// Those that are copied.
    pub(crate) columns: Vec<String>,
    /// Its rows come with those of a table that it is a partition of.
    pub(crate) covered: bool,
}

/// How far the loaded database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands {
    /// The tables can be brought back from it.
    Loaded(Note),
    /// They were.
    Copied(Note),
}

/// Decides by the note of the loaded database.
///
/// # Errors
/// `DatabaseNotLoaded`.
pub(crate) fn stands(
    database: &str,
    found: Option<&Found>,
    owner: &str,
    tables: &[TableName],
) -> Result<Stands, BackupError> {
    let refused = |why: &str| Err(BackupError::refused("DatabaseNotLoaded", format!("{why}; nothing was changed")));
    let own = found.and_then(|found| found.note.clone()).filter(|note| note.owner == owner);
    match own {
        Some(note) if note.state == State::Loaded => Ok(Stands::Loaded(note)),
        Some(note) if note.state == State::Copied && note.tables == told(tables) => Ok(Stands::Copied(note)),
        Some(note) if note.state == State::Copied => {
            refused(&format!("other tables were brought back from {database} already: {}", note.tables.join(", ")))
        }
        _ => refused(&format!("{database} isn't a database that this restore has loaded completely")),
    }
}

/// Names as notes have them.
pub(crate) fn told(tables: &[TableName]) -> Vec<String> {
    tables.iter().map(TableName::to_string).collect()
}

/// Which of the names no restore may touch.
///
/// # Errors
/// `TableRefused`.
pub(crate) fn allowed(tables: &[TableName]) -> Result<(), BackupError> {
    let why = |table: &TableName| match table.schema.as_str() {
        _ if table.name == "alembic_version" => Some("says which schema the live database has, and stays as it is"),
        "information_schema" => Some("is PostgreSQL's own"),
        schema if schema.starts_with("pg_") => Some("is PostgreSQL's own"),
        _ => None,
    };
    match tables.iter().find_map(|table| Some((table, why(table)?))) {
        Some((table, why)) => Err(BackupError::refused("TableRefused", format!("{table} {why}; nothing was changed"))),
        None => Ok(()),
    }
}

/// What of all this is not the role's, for people.
pub(crate) fn withheld(live: &Seen, loaded: &Seen) -> Option<String> {
    let of = |seen: &Seen, place: &str| {
        let relations = seen.relations.iter().filter(|it| it.withheld).map(|it| it.name.to_string());
        let mut names: Vec<_> =
            relations.chain(seen.keys.iter().filter(|it| it.withheld).map(|it| it.from.to_string())).collect();
        names.sort();
        names.dedup();
        (!names.is_empty()).then(|| format!("{} in {place}", names.join(", ")))
    };
    let both: Vec<_> = [of(live, "the live database"), of(loaded, "the loaded one")].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

/// Decides by what both databases say.
///
/// # Errors
/// `TableMissing`, `TableDiffers`, `ForeignKeyUnfit`.
pub(crate) fn plan(wanted: &[TableName], live: &Seen, loaded: &Seen) -> Result<Plan, BackupError> {
    let chosen: Vec<u32> = live.tables.iter().flatten().map(|table| table.oid).collect();
    let mut tables = Vec::new();
    for (at, name) in wanted.iter().enumerate() {
        let there = table(name, live.tables.get(at), "the live database")?;
        let backup = table(name, loaded.tables.get(at), "the backup")?;
        if let Some(difference) = difference(&there.columns, &backup.columns) {
            let message = format!("the table {name} isn't the same in the backup: {difference}; nothing was changed");
            return Err(BackupError::refused("TableDiffers", message));
        }
        let copied = there.columns.iter().filter(|column| !column.generated);
        tables.push(Planned {
            name: name.clone(),
            partitioned: there.kind == PARTITIONED,
            columns: copied.map(|column| column.name.clone()).collect(),
            covered: there.above.iter().any(|oid| chosen.contains(oid)),
        });
    }
    let own = |it: &&Relation| ![ORDINARY, PARTITIONED].contains(&it.kind.as_str());
    if let Some(partition) = live.relations.iter().find(own) {
        let message = format!("the partition {} is no table of this server; nothing was changed", partition.name);
        return Err(BackupError::refused("TableMissing", message));
    }
    if let Some(Key { name, from, .. }) = live.keys.iter().find(|key| key.tampered) {
        let message = format!(
            "the foreign key {name} of {from} is disabled by DISABLE TRIGGER ALL, and couldn't be made so again; nothing was changed: enable its triggers"
        );
        return Err(BackupError::refused("ForeignKeyUnfit", message));
    }
    let Seen { relations, keys, triggers, .. } = live.clone();
    Ok(Plan { tables, relations, keys, triggers })
}

fn table<'a>(name: &TableName, seen: Option<&'a Option<Table>>, place: &str) -> Result<&'a Table, BackupError> {
    let missing = |why: &str| Err(BackupError::refused("TableMissing", format!("{why}; nothing was changed")));
    let Some(Some(table)) = seen else { return missing(&format!("there is no table {name} in {place}")) };
    let what = match table.kind.as_str() {
        ORDINARY | PARTITIONED => return Ok(table),
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        _ => "something else",
    };
    missing(&format!("{name} is {what} in {place}, not a table"))
}

/// The first difference, for people. Their order is no matter.
fn difference(live: &[Column], backup: &[Column]) -> Option<String> {
    let find = |columns: &[Column], name: &str| columns.iter().find(|it| it.name == name).cloned();
    let only = |a: &[Column], b: &[Column]| a.iter().find(|it| find(b, &it.name).is_none()).map(|it| it.name.clone());
    if let Some(name) = only(live, backup) {
        return Some(format!("the column {name} is in the live database alone"));
    }
    if let Some(name) = only(backup, live) {
        return Some(format!("the column {name} is in the backup alone"));
    }
    let kind = |column: &Column| format!("{}{}", column.kind, if column.generated { ", generated" } else { "" });
    live.iter().find_map(|here| {
        let there = find(backup, &here.name).filter(|there| there != here)?;
        Some(format!("the column {} is {}, and {} in the backup", here.name, kind(here), kind(&there)))
    })
}

/// Why a foreign key can't be added again, and what to do about it.
pub(crate) fn violated(key: &Key, plan: &Plan) -> String {
    let Key { name, from, to, .. } = key;
    let is_chosen = |table: &TableName| {
        plan.tables.iter().any(|it| it.name == *table) || plan.relations.iter().any(|it| it.name == *table)
    };
    let mut message = format!("the foreign key {name} of {from} points at rows of {to} that ");
    let _never_fails = match (is_chosen(from), is_chosen(to)) {
        (true, true) => write!(message, "the backup doesn't have; nothing was changed: the backup itself breaks it"),
        (true, false) => write!(
            message,
            "the live database doesn't have any more; nothing was changed: also restore the table {to}, or leave {from} out"
        ),
        (false, _) => write!(
            message,
            "the backup doesn't have; nothing was changed: also restore the table {from}, or remove its rows that came since"
        ),
    };
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Failure as _;
    use rstest::rstest;

    fn name(name: &str) -> TableName {
        TableName { schema: "public".to_owned(), name: name.to_owned() }
    }

    #[rstest]
    #[case::loaded("uid-1", State::Loaded, &[], "Loaded")]
    #[case::copied("uid-1", State::Copied, &["a", "b"], "Copied")]
    #[case::others_were_copied("uid-1", State::Copied, &["a"], "DatabaseNotLoaded")]
    #[case::loading("uid-1", State::Loading, &[], "DatabaseNotLoaded")]
    #[case::live("uid-1", State::Live, &[], "DatabaseNotLoaded")]
    #[case::replaced("uid-1", State::Replaced, &[], "DatabaseNotLoaded")]
    #[case::of_another("uid-2", State::Loaded, &[], "DatabaseNotLoaded")]
    #[case::copied_by_another("uid-2", State::Copied, &["a", "b"], "DatabaseNotLoaded")]
    fn only_what_was_loaded(#[case] owner: &str, #[case] state: State, #[case] copied: &[&str], #[case] told: &str) {
        let tables = copied.iter().map(|&table| table.to_owned()).collect();
        let found = Found { note: Some(Note { tables, ..Note::new(owner, "a", state) }), begun: None };
        let word = |found: Option<&Found>| match stands("new", found, "uid-1", &[name("a"), name("b")]) {
            Ok(Stands::Loaded(_)) => "Loaded",
            Ok(Stands::Copied(_)) => "Copied",
            Err(error) => error.reason(),
        };
        assert_eq!(word(Some(&found)), told);
        assert_eq!(word(None), "DatabaseNotLoaded");
        assert_eq!(word(Some(&Found { note: None, begun: None })), "DatabaseNotLoaded");
    }

    #[rstest]
    #[case::alike(&["a int", "b text"], &["b text", "a int"], None)]
    #[case::only_live(&["a int", "b text"], &["a int"], Some("the column b is in the live database alone"))]
    #[case::only_backup(&["a int"], &["a int", "b text"], Some("the column b is in the backup alone"))]
    #[case::type_(&["a int"], &["a bigint"], Some("the column a is int, and bigint in the backup"))]
    #[case::generated(&["a int"], &["a int!"], Some("the column a is int, and int, generated in the backup"))]
    fn differences(#[case] live: &[&str], #[case] backup: &[&str], #[case] told: Option<&str>) {
        let column = |text: &&str| {
            let (name, kind) = text.split_once(' ').expect("two words");
            let (kind, generated) = kind.strip_suffix('!').map_or((kind, false), |kind| (kind, true));
            Column { name: name.to_owned(), kind: kind.to_owned(), generated }
        };
        let columns = |of: &[&str]| of.iter().map(column).collect::<Vec<_>>();
        assert_eq!(difference(&columns(live), &columns(backup)).as_deref(), told);
    }
}
