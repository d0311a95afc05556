//! Rows that the image's code can't read: its `SQLAlchemy` fails a whole query at a label that
//! its models don't have. A newer release may have written some.

use std::cmp::Reverse;
use std::time::Duration;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Row;

use crate::migrate::error::{MigrateError, Step as _};
use crate::migrate::labels::Models;
use crate::plan::report::Unreadable;
use crate::postgres::{Session, bounded};

/// Looking at the catalogue.
const LIMIT: Duration = Duration::from_secs(30);

/// Reading one whole table.
const COUNT: Duration = Duration::from_mins(5);

/// Entries that are told.
const MOST: usize = 8;

/// Labels and the rows that hold them, those of most rows first and at most eight.
///
/// # Errors
/// What the server said.
pub(crate) async fn find(session: &Session, models: &Models) -> Result<Vec<Unreadable>, MigrateError> {
    let mut found = Vec::new();
    for column in columns(session, models).await? {
        found.extend(column.count(session).await?);
    }
    found.sort_by_key(|entry| Reverse(entry.rows));
    found.truncate(MOST);
    Ok(found)
}

/// A column of the database that may hold what the code can't read.
#[derive(Debug)]
struct Column {
    /// For SQL.
    relation: String,
    /// For people.
    table: String,
    name: String,
    is_array: bool,
    readable: Vec<String>,
}

/// All columns of the types that the models know, and those that the models read as one: in a
/// migrated database they may be texts.
async fn columns(session: &Session, models: &Models) -> Result<Vec<Column>, MigrateError> {
    const COLUMNS: &str = "
        SELECT n.nspname::text, c.relname::text, a.attname::text, pg_table_is_visible(c.oid),
               t.typcategory = 'A', e.typname::text,
               (SELECT array_agg(l.enumlabel::text) FROM pg_enum l WHERE l.enumtypid = e.oid)
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid
        JOIN pg_type e ON e.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
        WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
          AND e.typcategory IN ('E', 'S')
        ORDER BY 1, 2, a.attnum";
    let rows = bounded(LIMIT, session.query(COLUMNS, &[])).await.step("look for columns with enum labels")?;
    Ok(rows.iter().filter_map(|row| column(row, models)).collect())
}

/// `None` where the code can read whatever the column may hold.
fn column(row: &Row, models: &Models) -> Option<Column> {
    let (schema, table, name): (&str, &str, String) = (row.get(0), row.get(1), row.get(2));
    let (is_visible, type_name, labels): (bool, &str, Option<Vec<String>>) = (row.get(3), row.get(5), row.get(6));
    let of_models = models.columns.iter().find(|known| is_visible && known.table == table && known.column == name);
    let of_type = || models.labels.get(type_name).filter(|_| labels.is_some());
    let readable = of_models.map(|known| &known.labels).or_else(of_type)?;
    if labels.is_some_and(|labels| labels.iter().all(|label| readable.contains(label))) {
        return None;
    }
    Some(Column {
        relation: format!("{}.{}", escape_identifier(schema), escape_identifier(table)),
        table: if is_visible { table.to_owned() } else { format!("{schema}.{table}") },
        name,
        is_array: row.get(4),
        readable: readable.clone(),
    })
}

impl Column {
    async fn count(&self, session: &Session) -> Result<Vec<Unreadable>, MigrateError> {
        let (relation, column) = (&self.relation, escape_identifier(&self.name));
        let values = if self.is_array {
            format!("{relation} AS r CROSS JOIN LATERAL (SELECT DISTINCT unnest(r.{column})::text AS label) AS l")
        } else {
            format!("(SELECT {column}::text AS label FROM {relation}) AS l")
        };
        let count = format!(
            "SELECT l.label, count(*) FROM {values} WHERE l.label <> ALL ($1)
             GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MOST}"
        );
        let rows = bounded(COUNT, session.query(&count, &[&self.readable]))
            .await
            .step("count rows with labels that the code can't read")?;
        let entry = |row: &Row| Unreadable {
            table: self.table.clone(),
            column: self.name.clone(),
            label: row.get(0),
            rows: row.get(1),
        };
        Ok(rows.iter().map(entry).collect())
    }
}
