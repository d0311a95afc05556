//! What a database says of the tables: the tables themselves, what belongs to them, and what stands in the way.

use std::time::Duration;

use tokio_postgres::Row;

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};
use crate::restore::tables::names::TableName;

const LIMIT: Duration = Duration::from_mins(1);
const STEP: &str = "look at the tables";

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// One for each name, if there is one.
    pub(crate) tables: Vec<Option<Table>>,
    /// They and their partitions.
    pub(crate) relations: Vec<Relation>,
    /// Every foreign key from or to one of these.
    pub(crate) keys: Vec<Key>,
    /// Triggers of people on these that would fire.
    pub(crate) triggers: Vec<Trigger>,
}

/// A table, or what has the name of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) oid: u32,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    pub(crate) columns: Vec<Column>,
    /// Tables that it is a partition of.
    pub(crate) above: Vec<u32>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its type, as SQL has it.
    pub(crate) kind: String,
    /// The server computes it.
    pub(crate) generated: bool,
}

/// A table or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) name: TableName,
    /// `pg_class.relkind`.
    pub(crate) kind: String,
    /// Not this role's to change, or not all of its rows are shown to it.
    pub(crate) withheld: bool,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) from: TableName,
    pub(crate) to: TableName,
    /// As `ADD CONSTRAINT` wants it.
    pub(crate) definition: String,
    pub(crate) comment: Option<String>,
    /// The table that it is on isn't this role's.
    pub(crate) withheld: bool,
    /// A superuser has changed when it is checked.
    pub(crate) tampered: bool,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) table: TableName,
    pub(crate) name: String,
    /// It fires in whatever role a session replicates.
    pub(crate) always: bool,
}

/// Looks. All names are qualified where the search path is empty.
///
/// # Errors
/// What the server said.
pub(crate) async fn look(session: &Session, wanted: &[TableName]) -> Result<Seen, BackupError> {
    let mut tables = tables(session, wanted).await?;
    let oids: Vec<u32> = tables.iter().flatten().map(|table| table.oid).collect();
    for (oid, column) in columns(session, &oids).await? {
        if let Some(table) = tables.iter_mut().flatten().find(|table| table.oid == oid) {
            table.columns.push(column);
        }
    }
    let relations = relations(session, &oids).await?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let (keys, triggers) = (keys(session, &oids).await?, triggers(session, &oids).await?);
    Ok(Seen { tables, relations, keys, triggers })
}

async fn tables(session: &Session, wanted: &[TableName]) -> Result<Vec<Option<Table>>, BackupError> {
    const TABLES: &str = "
        SELECT c.oid, c.relkind::text,
               ARRAY(SELECT a.relid::oid FROM pg_partition_ancestors(c.oid) a WHERE a.relid <> c.oid)
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w (schema, name, place)
        LEFT JOIN pg_namespace n ON n.nspname = w.schema
        LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
        ORDER BY w.place";
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        wanted.iter().map(|it| (it.schema.as_str(), it.name.as_str())).unzip();
    let rows = bounded(LIMIT, session.query(TABLES, &[&schemas, &names])).await.step(STEP)?;
    let read = |row: &Row| {
        let (oid, kind) = (row.get::<_, Option<u32>>(0)?, row.get(1));
        Some(Table { oid, kind, columns: Vec::new(), above: row.get(2) })
    };
    Ok(rows.iter().map(read).collect())
}

async fn columns(session: &Session, tables: &[u32]) -> Result<Vec<(u32, Column)>, BackupError> {
    const COLUMNS: &str = "
        SELECT attrelid, attname::text, format_type(atttypid, atttypmod), attgenerated::text <> ''
        FROM pg_attribute WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped
        ORDER BY attrelid, attnum";
    let rows = bounded(LIMIT, session.query(COLUMNS, &[&tables])).await.step(STEP)?;
    let read = |row: &Row| (row.get(0), Column { name: row.get(1), kind: row.get(2), generated: row.get(3) });
    Ok(rows.iter().map(read).collect())
}

async fn relations(session: &Session, tables: &[u32]) -> Result<Vec<Relation>, BackupError> {
    const RELATIONS: &str = "
        SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
               NOT pg_has_role(c.relowner, 'USAGE') OR c.relrowsecurity AND c.relforcerowsecurity
                   AND NOT (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY ($1)
           OR c.oid IN (SELECT p.relid FROM unnest($1) AS t (oid), pg_partition_tree(t.oid) p)
        ORDER BY 2, 3";
    let rows = bounded(LIMIT, session.query(RELATIONS, &[&tables])).await.step(STEP)?;
    let read = |row: &Row| Relation { oid: row.get(0), name: name(row, 1), kind: row.get(3), withheld: row.get(4) };
    Ok(rows.iter().map(read).collect())
}

async fn keys(session: &Session, relations: &[u32]) -> Result<Vec<Key>, BackupError> {
    // What a partition has of its table's key goes and comes with that one.
    const KEYS: &str = "
        WITH RECURSIVE near AS (
            SELECT oid, conparentid FROM pg_constraint
            WHERE contype = 'f' AND (conrelid = ANY ($1) OR confrelid = ANY ($1))
            UNION SELECT p.oid, p.conparentid FROM pg_constraint p JOIN near ON near.conparentid = p.oid)
        SELECT k.conname::text, fn.nspname::text, f.relname::text, tn.nspname::text, t.relname::text,
               pg_get_constraintdef(k.oid), obj_description(k.oid, 'pg_constraint'),
               NOT pg_has_role(f.relowner, 'USAGE'),
               EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O')
        FROM near JOIN pg_constraint k ON k.oid = near.oid AND k.conparentid = 0
        JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
        JOIN pg_class t ON t.oid = k.confrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        ORDER BY 2, 3, 1";
    let rows = bounded(LIMIT, session.query(KEYS, &[&relations])).await.step(STEP)?;
    let read = |row: &Row| Key {
        name: row.get(0),
        from: name(row, 1),
        to: name(row, 3),
        definition: row.get(5),
        comment: row.get(6),
        withheld: row.get(7),
        tampered: row.get(8),
    };
    Ok(rows.iter().map(read).collect())
}

async fn triggers(session: &Session, relations: &[u32]) -> Result<Vec<Trigger>, BackupError> {
    const TRIGGERS: &str = "
        SELECT n.nspname::text, c.relname::text, g.tgname::text, g.tgenabled = 'A'
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE g.tgrelid = ANY ($1) AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') ORDER BY 1, 2, 3";
    let rows = bounded(LIMIT, session.query(TRIGGERS, &[&relations])).await.step(STEP)?;
    let read = |row: &Row| Trigger { table: name(row, 0), name: row.get(2), always: row.get(3) };
    Ok(rows.iter().map(read).collect())
}

/// A schema and what is in it.
fn name(row: &Row, at: usize) -> TableName {
    TableName { schema: row.get(at), name: row.get(at + 1) }
}
