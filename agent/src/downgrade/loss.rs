//! What undoing revisions removes, read from their SQL.

use std::collections::BTreeSet;

use crate::migrate::history::Object;
use crate::migrate::offline::Rendered;
use crate::sql::{self, Effect};

/// What is gone afterwards, by the names that it has before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Losses {
    /// Tables, and columns of tables that stay.
    pub(super) objects: BTreeSet<Object>,
    /// Statements of which nobody here can tell whether rows are lost or changed.
    pub(super) unjudged: Vec<String>,
}

impl Losses {
    /// Reads them in the order in which they run.
    pub(super) fn read(undone: &[Rendered]) -> Self {
        let mut losses = Self::default();
        let mut renames = Renames::default();
        for one in undone {
            let statements = match &one.sql {
                Ok(text) => sql::read(text),
                Err(why) => {
                    losses.unjudged.push(format!("{}: unreadable: {why}", one.revision));
                    continue;
                }
            };
            for statement in statements {
                match statement.effect {
                    Effect::DropTable { name } => {
                        losses.objects.insert(Object::Table(renames.table_before(&name)));
                    }
                    Effect::DropColumn { table, column } => {
                        losses.objects.insert(renames.column_before(&table, &column));
                    }
                    Effect::RenameTable { from, to } => renames.0.push(Rename::Table { from, to }),
                    Effect::RenameColumn { table, from, to } => renames.0.push(Rename::Column { table, from, to }),
                    // What is additive loses no row.
                    Effect::Other | Effect::Unreadable if statement.additive.is_err() => {
                        losses.unjudged.push(format!("{}: {}", one.revision, statement.text));
                    }
                    _ => {}
                }
            }
        }
        let all = losses.objects.clone();
        losses.objects.retain(|object| match object {
            Object::Column(table, _) => !all.contains(&Object::Table(table.clone())),
            _ => true,
        });
        losses
    }
}

/// Renames so far, first one first.
#[derive(Debug, Default)]
struct Renames(Vec<Rename>);

#[derive(Debug)]
enum Rename {
    Table { from: String, to: String },
    Column { table: String, from: String, to: String },
}

impl Renames {
    fn table_before(&self, name: &str) -> String {
        match self.column_before(name, "") {
            Object::Column(table, _) => table,
            _ => unreachable!("a column"),
        }
    }

    fn column_before(&self, table: &str, column: &str) -> Object {
        let (mut table, mut column) = (table, column);
        for rename in self.0.iter().rev() {
            match rename {
                Rename::Table { from, to } if to == table => table = from,
                Rename::Column { table: of, from, to } if of == table && to == column => column = from,
                _ => {}
            }
        }
        Object::Column(table.to_owned(), column.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(
        "DROP INDEX i; ALTER TABLE t RENAME a TO b; ALTER TABLE t DROP CONSTRAINT c; DROP TYPE kind", &[], &[]
    )]
    #[case::rules_of_columns("ALTER TABLE t ALTER a SET NOT NULL, ALTER b DROP DEFAULT, ADD CHECK (a > 0)", &[], &[])]
    #[case::table("DROP TABLE t", &["table t"], &[])]
    #[case::column("ALTER TABLE t DROP COLUMN a, DROP COLUMN b", &["column t.a", "column t.b"], &[])]
    #[case::column_of_a_lost_table("ALTER TABLE t DROP COLUMN a; DROP TABLE t", &["table t"], &[])]
    #[case::under_its_name_of_before(
        "ALTER TABLE t RENAME a TO b; ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN b;
         ALTER TABLE u RENAME TO v; DROP TABLE v",
        &["table t"], &[]
    )]
    #[case::column_under_its_name_of_before(
        "ALTER TABLE t RENAME a TO b; ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME b TO c;
         ALTER TABLE u DROP COLUMN c",
        &["column t.a"], &[]
    )]
    #[case::rows("DELETE FROM t WHERE a = 'x'", &[], &["r: DELETE FROM t WHERE a = '…'"])]
    #[case::type_of_a_column("ALTER TABLE t ALTER a TYPE int", &[], &["r: ALTER TABLE t ALTER a TYPE int"])]
    #[case::type_with_its_columns("DROP TYPE kind CASCADE", &[], &["r: DROP TYPE kind CASCADE"])]
    #[case::schema("DROP SCHEMA s", &[], &["r: DROP SCHEMA s"])]
    #[case::block("DO $$ BEGIN x; END $$", &[], &["r: DO $$…$$"])]
    fn table(#[case] sql: &str, #[case] objects: &[&str], #[case] unjudged: &[&str]) {
        let found = Losses::read(&[Rendered { revision: "r".to_owned(), sql: Ok(sql.to_owned()) }]);
        assert_eq!(found.objects.iter().map(Object::to_string).collect::<Vec<_>>(), objects);
        assert_eq!(found.unjudged, unjudged);
    }

    #[test]
    fn a_revision_without_sql_is_not_judged() {
        let found = Losses::read(&[Rendered { revision: "r".to_owned(), sql: Err("KeyError: 'x'".to_owned()) }]);
        assert_eq!(found.unjudged, ["r: unreadable: KeyError: 'x'"]);
    }
}
