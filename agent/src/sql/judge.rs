//! What one statement does, and whether older releases go on working.

use std::collections::BTreeSet;

use sqlparser::ast::{
    AlterTypeOperation, CreateIndex, CreateTable, CreateView, Delete, FromTable, GrantObjects, ObjectName, ObjectType,
    Set, Statement, TableFactor, TableObject, TableWithJoins, UserDefinedTypeRepresentation,
};

use super::Effect;
use super::alter;
use super::expression::{may_fail, side_effect};
use super::names::{ident, object};

/// An effect, and what speaks against it.
pub(super) type Judged = (Effect, Result<(), String>);

/// Settings of the session that change no result.
const TIMEOUTS: [&str; 3] = ["lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"];

/// Tables that the revision has surely made itself: no older release knows them.
#[derive(Debug, Default)]
pub(super) struct Made(BTreeSet<String>);

impl Made {
    /// Whether the revision made this table.
    pub(super) fn has(&self, table: &str) -> bool {
        self.0.contains(table)
    }

    /// What was made has another name from here on.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if self.0.remove(from) {
            self.0.insert(to.to_owned());
        }
    }
}

/// The effects of a statement in their order; none of Alembic's own bookkeeping. `text` is the
/// statement for people.
pub(super) fn judge(statement: &Statement, text: &str, made: &mut Made) -> Vec<Judged> {
    let unknown = |effect| (effect, Err(format!("not known to be additive: {text}")));
    if is_bookkeeping(statement) {
        return Vec::new();
    }
    match statement {
        Statement::CreateTable(table) => vec![create_table(table, statement, made)],
        Statement::CreateIndex(index) => vec![create_index(index, made)],
        Statement::CreateType { name, representation } => vec![(create_type(name, representation.as_ref()), Ok(()))],
        Statement::CreateView(view) => vec![(Effect::Other, create_view(view, statement))],
        Statement::AlterType(alter) => vec![alter_type(&object(&alter.name), &alter.operation)],
        Statement::AlterTable(alter) => alter::table(alter, made),
        Statement::Drop { object_type, names, cascade, .. } => {
            names.iter().map(|name| drop_one(*object_type, &object(name), *cascade, made)).collect()
        }
        Statement::CreateDomain(_) | Statement::CreateSequence { .. } | Statement::Comment { .. } => {
            vec![(Effect::Rowless, Ok(()))]
        }
        Statement::Set(Set::SingleAssignment { variable, .. }) if TIMEOUTS.contains(&object(variable).as_str()) => {
            vec![(Effect::Rowless, Ok(()))]
        }
        _ => match targets(statement) {
            Some(tables) if !tables.is_empty() && tables.iter().all(|table| made.has(table)) => {
                let additive = side_effect(statement).map_or(Ok(()), |what| Err(format!("unknown {what}: {text}")));
                vec![(Effect::Other, additive)]
            }
            _ => vec![unknown(Effect::Other)],
        },
    }
}

/// BEGIN, COMMIT and what Alembic does to its own table.
fn is_bookkeeping(statement: &Statement) -> bool {
    let own = |table: &str| table == "alembic_version";
    match statement {
        Statement::StartTransaction { statements, .. } => statements.is_empty(),
        Statement::Commit { .. } => true,
        Statement::CreateTable(table) => own(&object(&table.name)),
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) => {
            targets(statement).is_some_and(|tables| tables.iter().all(|table| own(table)))
                && side_effect(statement).is_none()
        }
        _ => false,
    }
}

fn create_table(table: &CreateTable, statement: &Statement, made: &mut Made) -> Judged {
    let name = object(&table.name);
    if table.temporary {
        // Gone with the session, and meanwhile in front of a lasting table of its name.
        return (
            Effect::Other,
            side_effect(statement).map_or(Ok(()), |what| Err(format!("unknown {what} fills {name}"))),
        );
    }
    let parents = table.inherits.iter().flatten().chain(&table.partition_of).map(object);
    let foreign = parents.into_iter().find(|parent| !made.has(parent));
    let additive = if let Some(parent) = foreign {
        Err(format!("CREATE TABLE {name} as a part of {parent}: older releases see its rows there"))
    } else if table.or_replace {
        Err(format!("CREATE OR REPLACE TABLE {name}: older releases may use it"))
    } else if table.query.is_some() {
        side_effect(statement)
            .map_or(Ok(()), |what| Err(format!("CREATE TABLE {name} from a query with unknown {what}")))
    } else {
        Ok(())
    };
    // One that may have been there is not surely ours.
    if additive.is_ok() && !table.if_not_exists {
        made.0.insert(name.clone());
    }
    let columns = table.columns.iter().map(|column| ident(&column.name)).collect();
    (Effect::CreateTable { name, columns }, additive)
}

fn create_index(index: &CreateIndex, made: &Made) -> Judged {
    let table = object(&index.table_name);
    let name = index.name.as_ref().map(object);
    let shown = name.as_deref().unwrap_or("without a name").to_owned();
    let additive = if made.has(&table) {
        Ok(())
    } else if index.unique {
        Err(format!("CREATE UNIQUE INDEX {shown} on {table}: older releases' writes may break it"))
    } else {
        let columns = index.columns.iter().map(|column| &column.column.expr);
        columns.chain(&index.predicate).find_map(may_fail).map_or(Ok(()), |what| {
            Err(format!("CREATE INDEX {shown} on {table}: {what} may fail in older releases' writes"))
        })
    };
    (name.map_or(Effect::Other, |name| Effect::CreateIndex { name, table }), additive)
}

fn create_type(name: &ObjectName, representation: Option<&UserDefinedTypeRepresentation>) -> Effect {
    let labels = match representation {
        Some(UserDefinedTypeRepresentation::Enum { labels }) => labels.iter().map(|l| l.value.clone()).collect(),
        _ => Vec::new(),
    };
    Effect::CreateType { name: object(name), labels }
}

fn create_view(view: &CreateView, statement: &Statement) -> Result<(), String> {
    let name = object(&view.name);
    if view.or_replace {
        return Err(format!("CREATE OR REPLACE VIEW {name}: older releases may use it"));
    }
    // Only a materialised one is asked now.
    let asked = if view.materialized { side_effect(statement) } else { None };
    asked.map_or(Ok(()), |what| Err(format!("CREATE MATERIALIZED VIEW {name} with unknown {what}")))
}

fn alter_type(type_name: &str, operation: &AlterTypeOperation) -> Judged {
    let type_name = type_name.to_owned();
    match operation {
        AlterTypeOperation::AddValue(add) => (Effect::AddLabel { type_name, label: add.value.value.clone() }, Ok(())),
        AlterTypeOperation::RenameValue(rename) => {
            let (from, to) = (rename.from.value.clone(), rename.to.value.clone());
            let why = format!("RENAME VALUE {from} of type {type_name}: older releases use the old label");
            (Effect::RenameLabel { type_name, from, to }, Err(why))
        }
        AlterTypeOperation::Rename(_) => {
            (Effect::Other, Err(format!("RENAME TYPE {type_name}: older releases may use the old name")))
        }
    }
}

fn drop_one(object_type: ObjectType, name: &str, cascade: bool, made: &mut Made) -> Judged {
    let effect = match object_type {
        ObjectType::Table => Effect::DropTable { name: name.to_owned() },
        ObjectType::Index => Effect::DropIndex { name: name.to_owned() },
        // With CASCADE columns go too.
        ObjectType::Type | ObjectType::View | ObjectType::MaterializedView | ObjectType::Sequence if !cascade => {
            Effect::Rowless
        }
        _ => Effect::Other,
    };
    if object_type == ObjectType::Table && !cascade && made.0.remove(name) {
        return (effect, Ok(()));
    }
    (effect, Err(format!("DROP {object_type} {name}: older releases may use it")))
}

/// The tables that a statement writes or changes, where it is of a kind that touches no other;
/// `None` for every other kind.
fn targets(statement: &Statement) -> Option<Vec<String>> {
    match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Some(vec![object(name)]),
            _ => None,
        },
        Statement::Update(update) => Some(vec![relation(&update.table)?]),
        Statement::Delete(Delete { from: FromTable::WithFromKeyword(from), tables, .. }) if tables.is_empty() => {
            from.iter().map(relation).collect()
        }
        Statement::Truncate(truncate) if truncate.cascade.is_none() => {
            Some(truncate.table_names.iter().map(|target| object(&target.name)).collect())
        }
        Statement::CreateTrigger(trigger) if !trigger.or_replace => Some(vec![object(&trigger.table_name)]),
        Statement::CreatePolicy(policy) => Some(vec![object(&policy.table_name)]),
        Statement::Grant(grant) => match &grant.objects {
            Some(GrantObjects::Tables(tables)) => Some(tables.iter().map(object).collect()),
            _ => None,
        },
        _ => None,
    }
}

fn relation(table: &TableWithJoins) -> Option<String> {
    match &table.relation {
        TableFactor::Table { name, .. } if table.joins.is_empty() => Some(object(name)),
        _ => None,
    }
}
