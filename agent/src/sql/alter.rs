//! ALTER TABLE, operation by operation.

use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, DataType, RenameTableNameKind,
};

use super::Effect;
use super::expression::{mentions_null, unsteady};
use super::judge::{Judged, Made};
use super::names::{ident, object};
use super::split::told;

/// Types that are a sequence's default in disguise.
const SERIALS: [&str; 6] = ["serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"];

/// The effects of a whole ALTER TABLE.
pub(super) fn table(alter: &AlterTable, made: &mut Made) -> Vec<Judged> {
    let mut table = object(&alter.name);
    let mut judged = Vec::new();
    for operation in &alter.operations {
        let (effect, additive) = judge(&table, operation);
        let additive = if made.has(&table) { on_made(operation, &table, made) } else { additive };
        if let Effect::RenameTable { from, to } = &effect {
            made.rename(from, to);
            table.clone_from(to);
        }
        judged.push((effect, additive));
    }
    judged
}

/// A table of this revision may be changed at will, but for what makes other tables part of it.
fn on_made(operation: &AlterTableOperation, table: &str, made: &Made) -> Result<(), String> {
    let other = match operation {
        AlterTableOperation::AttachPartitionOf { partition, .. } => object(partition),
        AlterTableOperation::Inherit { parent } => object(parent),
        AlterTableOperation::SwapWith { table_name } => object(table_name),
        _ => return Ok(()),
    };
    if made.has(&other) {
        Ok(())
    } else {
        Err(format!("ALTER TABLE {table}: changes {other}, which older releases may use"))
    }
}

/// On a table that was there before.
fn judge(table: &str, operation: &AlterTableOperation) -> Judged {
    let owned = table.to_owned();
    match operation {
        AlterTableOperation::AddColumn { column_def, .. } => {
            let column = ident(&column_def.name);
            let additive =
                new_column(column_def).map_or(Ok(()), |why| Err(format!("ADD COLUMN {table}.{column}: {why}")));
            (Effect::AddColumn { table: owned, column }, additive)
        }
        AlterTableOperation::DropColumn { column_names, .. } => {
            let column = column_names.first().map(ident).unwrap_or_default();
            let why = format!("DROP COLUMN {table}.{column}: older releases may use it");
            (Effect::DropColumn { table: owned, column }, Err(why))
        }
        AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
            let (from, to) = (ident(old_column_name), ident(new_column_name));
            let why = format!("RENAME COLUMN {table}.{from}: older releases use the old name");
            (Effect::RenameColumn { table: owned, from, to }, Err(why))
        }
        AlterTableOperation::RenameTable { table_name: RenameTableNameKind::To(to) | RenameTableNameKind::As(to) } => {
            let why = format!("RENAME TABLE {table}: older releases use the old name");
            (Effect::RenameTable { from: owned, to: object(to) }, Err(why))
        }
        AlterTableOperation::AddConstraint { constraint, .. } => {
            let why = format!("ADD CONSTRAINT on {table}: older releases' writes may break it: {}", told(constraint));
            (Effect::Rowless, Err(why))
        }
        AlterTableOperation::DropConstraint { .. } | AlterTableOperation::RenameConstraint { .. } => {
            (Effect::Rowless, Err(format!("ALTER TABLE {table} {}: not known to be additive", told(operation))))
        }
        AlterTableOperation::AlterColumn { column_name, op } => {
            let column = format!("{table}.{}", ident(column_name));
            let effect = if changes_rows(op) { Effect::Other } else { Effect::Rowless };
            (effect, altered_column(op).map_or(Ok(()), |why| Err(format!("ALTER COLUMN {column} {why}"))))
        }
        other => (Effect::Other, Err(format!("ALTER TABLE {table} {}: not known to be additive", told(other)))),
    }
}

/// What speaks against a new column on a table with rows that older releases write.
fn new_column(column: &ColumnDef) -> Option<String> {
    if let DataType::Custom(name, _) = &column.data_type
        && SERIALS.contains(&object(name).as_str())
    {
        return Some("its sequence rewrites all rows".to_owned());
    }
    let mut default = None;
    let mut not_null = false;
    for option in &column.options {
        match &option.option {
            ColumnOption::Default(value) => default = Some(value),
            ColumnOption::NotNull => not_null = true,
            ColumnOption::Null | ColumnOption::Collation(_) => {}
            other => return Some(format!("older releases' writes may break its {}", told(other))),
        }
    }
    if let Some(what) = default.and_then(unsteady) {
        return Some(format!("its default ({what}) rewrites all rows"));
    }
    let has_value = default.is_some_and(|value| !mentions_null(value));
    (not_null && !has_value).then(|| "NOT NULL without a default, so older releases' inserts fail".to_owned())
}

/// Whether a change of a column may write rows; values may be lost then.
fn changes_rows(operation: &AlterColumnOperation) -> bool {
    !matches!(
        operation,
        AlterColumnOperation::SetNotNull
            | AlterColumnOperation::DropNotNull
            | AlterColumnOperation::SetDefault { .. }
            | AlterColumnOperation::DropDefault
    )
}

/// What speaks against changing a column of an older table. The SQL doesn't tell what type or
/// default it had, so no change of a type is surely a harmless one.
fn altered_column(operation: &AlterColumnOperation) -> Option<String> {
    match operation {
        AlterColumnOperation::DropNotNull | AlterColumnOperation::SetDefault { .. } => None,
        AlterColumnOperation::SetNotNull => Some("SET NOT NULL: older releases may write NULL".to_owned()),
        AlterColumnOperation::DropDefault => Some("DROP DEFAULT: older releases may count on it".to_owned()),
        AlterColumnOperation::SetDataType { data_type, .. } => {
            Some(format!("TYPE {}: rows may be rewritten or values no longer fit", told(data_type)))
        }
        other => Some(format!("{}: not known to be additive", told(other))),
    }
}
