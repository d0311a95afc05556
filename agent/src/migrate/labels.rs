//! Enum labels that the code needs and the database lacks.
//!
//! The code stores an enum's names (`MONTH_END`), the application's migrations add its
//! values (`month_end`), and `create_all` adds nothing to a type that exists. So after an
//! upgrade the new types can't be written, and a row with a lower-case label makes every
//! list of rows fail. A type that the database doesn't have is left alone: migrated
//! databases have texts in such columns.

use std::collections::BTreeMap;
use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::Deserialize;

use crate::migrate::error::{MigrateError, Step};
use crate::postgres::{DatabaseError, Session, bounded};

/// Looking at the catalogue.
const LIMIT: Duration = Duration::from_secs(30);

/// Rows of every table with such a column may have to be written.
const REPAIR: Duration = Duration::from_mins(10);

/// Labels by type name, in the code's order.
pub(crate) type Labels = BTreeMap<String, Vec<String>>;

/// What the application's models say about enums.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(crate) struct Models {
    /// Labels of each type of PostgreSQL.
    pub(crate) labels: Labels,
    /// Every column that holds one label or an array of them, also where it is no type of PostgreSQL.
    pub(crate) columns: Vec<EnumColumn>,
}

/// A column of the models.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct EnumColumn {
    /// Its table, without a schema.
    pub(crate) table: String,
    /// Its name.
    pub(crate) column: String,
    /// What the code can read in it.
    pub(crate) labels: Vec<String>,
}

/// One label that the code needs and can't use yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Name of the type.
    pub(crate) type_name: String,
    /// The label as the code writes it.
    pub(crate) label: String,
    /// What makes it usable.
    pub(crate) change: Change,
    /// SQL for it.
    statements: Vec<String>,
}

/// What makes a label usable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The type gets it.
    Add,
    /// The type has it in this spelling, which no code reads.
    Rename(String),
    /// The type has both spellings; rows with this one get the other.
    Merge(String),
}

impl Repair {
    /// Whether rows are written, which needs a backup first.
    pub(crate) fn writes_rows(&self) -> bool {
        matches!(self.change, Change::Merge(_))
    }
}

/// What the database lacks of what the models need.
///
/// # Errors
/// What the server said.
pub(crate) async fn missing(session: &Session, needed: &Labels) -> Result<Vec<Repair>, MigrateError> {
    let mut repairs = Vec::new();
    for (type_name, labels) in needed {
        let Some(found) = bounded(LIMIT, find(session, type_name)).await.step("read the enum labels")? else {
            continue;
        };
        for (label, change) in changes(labels, &found.labels) {
            let (sql_type, literal) = (&found.sql, escape_literal(label));
            let statements = match &change {
                Change::Add => vec![format!("ALTER TYPE {sql_type} ADD VALUE IF NOT EXISTS {literal}")],
                Change::Rename(from) => {
                    vec![format!("ALTER TYPE {sql_type} RENAME VALUE {} TO {literal}", escape_literal(from))]
                }
                Change::Merge(from) => {
                    bounded(LIMIT, updates(session, &found, from, label)).await.step("look for rows with old labels")?
                }
            };
            if !statements.is_empty() {
                repairs.push(Repair { type_name: type_name.clone(), label: label.to_owned(), change, statements });
            }
        }
    }
    Ok(repairs)
}

/// Makes the labels usable, all or none.
///
/// # Errors
/// What the server said.
pub(crate) async fn repair(session: &Session, repairs: &[Repair]) -> Result<(), DatabaseError> {
    // A statement that waits for a lock would make the application wait behind it.
    let begin = ["BEGIN", "SET LOCAL lock_timeout = '5s'"];
    let statements = repairs.iter().flat_map(|repair| repair.statements.iter().map(String::as_str));
    let sql = begin.into_iter().chain(statements).chain(["COMMIT"]).collect::<Vec<_>>().join(";");
    let done = bounded(REPAIR, session.batch_execute(&sql)).await;
    if done.is_err() {
        // Its failure is the session's end, which does the same.
        let _ended = bounded(LIMIT, session.batch_execute("ROLLBACK")).await;
    }
    done
}

/// The labels of these repairs by type.
pub(crate) fn by_type(repairs: &[Repair]) -> Labels {
    let mut labels = Labels::new();
    for repair in repairs {
        labels.entry(repair.type_name.clone()).or_default().push(repair.label.clone());
    }
    labels
}

/// The table: a label that is there in another spelling only is renamed, one that isn't
/// there at all is added, of one that is there in both spellings the rows are looked at.
fn changes<'a>(needed: &'a [String], present: &[String]) -> Vec<(&'a str, Change)> {
    needed
        .iter()
        .filter_map(|label| {
            let other = present
                .iter()
                .find(|other| *other != label && other.eq_ignore_ascii_case(label) && !needed.contains(*other));
            let change = match (present.contains(label), other) {
                (true, None) => return None,
                (true, Some(other)) => Change::Merge(other.clone()),
                (false, Some(other)) => Change::Rename(other.clone()),
                (false, None) => Change::Add,
            };
            Some((label.as_str(), change))
        })
        .collect()
}

/// An enum type of the database.
#[derive(Debug)]
struct Found {
    oid: u32,
    sql: String,
    labels: Vec<String>,
}

async fn find(session: &Session, name: &str) -> Result<Option<Found>, tokio_postgres::Error> {
    let row = session
        .query_opt(
            "SELECT t.oid, n.nspname::text, t.typname::text,
                    (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
                     FROM pg_enum e WHERE e.enumtypid = t.oid)
             FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
             WHERE t.typname = $1 AND t.typtype = 'e' AND pg_type_is_visible(t.oid)",
            &[&name],
        )
        .await?;
    Ok(row.map(|row| Found {
        oid: row.get(0),
        sql: format!("{}.{}", escape_identifier(row.get(1)), escape_identifier(row.get(2))),
        labels: row.get::<_, Option<Vec<String>>>(3).unwrap_or_default(),
    }))
}

/// Updates of the columns that have rows with the label `from`.
async fn updates(session: &Session, found: &Found, from: &str, to: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let columns = session
        .query(
            "SELECT n.nspname::text, c.relname::text, a.attname::text
             FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE a.atttypid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
               AND c.relkind IN ('r', 'p') AND NOT c.relispartition
             ORDER BY 1, 2, a.attnum",
            &[&found.oid],
        )
        .await?;
    let mut updates = Vec::new();
    for row in columns {
        let table = format!("{}.{}", escape_identifier(row.get(0)), escape_identifier(row.get(1)));
        let column = escape_identifier(row.get(2));
        let rows = format!("{column} = {}", escape_literal(from));
        let question = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {rows})");
        if session.query_one(&question, &[]).await?.get(0) {
            updates.push(format!("UPDATE {table} SET {column} = {} WHERE {rows}", escape_literal(to)));
        }
    }
    Ok(updates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::all_there(&["A"], &["A", "Z"], &[])]
    #[case::new(&["A", "B"], &["A"], &["B Add"])]
    #[case::lower_case_only(&["A"], &["a"], &["A Rename(\"a\")"])]
    #[case::both(&["A"], &["a", "A"], &["A Merge(\"a\")"])]
    #[case::both_are_needed(&["a", "A"], &["a", "A"], &[])]
    #[case::one_of_two_spellings_that_are_needed(&["a", "A"], &["a"], &["A Add"])]
    #[case::an_empty_type(&["A"], &[], &["A Add"])]
    fn table(#[case] needed: &[&str], #[case] present: &[&str], #[case] expected: &[&str]) {
        let own = |labels: &[&str]| labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>();
        let (needed, present) = (own(needed), own(present));
        let found: Vec<_> =
            changes(&needed, &present).iter().map(|(label, change)| format!("{label} {change:?}")).collect();
        assert_eq!(found, expected);
    }
}
