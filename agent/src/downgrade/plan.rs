//! What a way down does, told to people, and whether they permitted it.

use crate::downgrade::survey::{Lost, StayingLabels};
use crate::migrate::error::MigrateError;
use crate::migrate::history::Object;
use crate::report::Outcome;

/// Permits everything.
const ALL: &str = "all";

/// All that is known of a way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where it ends.
    pub(super) target: String,
    /// Revisions that are undone, the newest first.
    pub(super) revisions: Vec<String>,
    /// What would be gone.
    pub(super) lost: Vec<Lost>,
    /// Statements of which it isn't known.
    pub(super) unjudged: Vec<String>,
    /// What can't be undone.
    pub(super) labels: StayingLabels,
    /// Other sessions, by name.
    pub(super) clients: Vec<(String, i64)>,
}

impl Plan {
    /// The plan for people, line by line.
    pub(super) fn lines(&self, database: &str) -> Vec<String> {
        let mut lines = vec![format!("To bring the database {database} down to {}, these are undone:", self.target)];
        lines.extend(self.revisions.iter().map(|revision| format!("  {revision}")));
        let mut section = |title: &str, entries: Vec<String>| {
            if !entries.is_empty() {
                lines.push(title.to_owned());
                lines.extend(entries.into_iter().map(|entry| format!("  {entry}")));
            }
        };
        section("These disappear:", self.lost.iter().map(told).collect());
        section("Whether these lose or change rows can't be told:", self.unjudged.clone());
        let labels = self.labels.types.iter().map(|(name, labels)| format!("{name}: {}", labels.join(", ")));
        section("These enum labels stay, PostgreSQL can't remove one:", labels.collect());
        let users = self.labels.rows.iter().filter(|row| !self.loses(&row.table, &row.column));
        let users = users.map(|row| format!("{}.{} '{}' ({})", row.table, row.column, row.label, rows(row.rows)));
        section("Rows that use one, which an older release may not be able to read:", users.collect());
        let clients = self.clients.iter().map(|(name, count)| format!("{count} x {name:?}"));
        section("Warning: these sessions are connected; scale what they belong to down first:", clients.collect());
        lines
    }

    /// What to add to do it.
    pub(super) fn how(&self, permitted: &[String]) -> String {
        let missing = self.missing(permitted);
        let mut names: Vec<_> = permitted.to_vec();
        names.extend(missing.iter().map(|lost| name(&lost.object)));
        if self.lacks_all(permitted) {
            names = vec![ALL.to_owned()];
        }
        let rows = if names.is_empty() { String::new() } else { format!(" --drop-rows {}", names.join(",")) };
        format!("Nothing was changed. To do it, make a backup and add --confirm{rows}")
    }

    /// # Errors
    /// `RowsWouldBeLost` with everything that wasn't permitted.
    pub(super) fn permitted(&self, permitted: &[String]) -> Result<(), MigrateError> {
        let mut refused: Vec<_> = self.missing(permitted).into_iter().map(told).collect();
        if self.lacks_all(permitted) {
            refused.extend(self.unjudged.iter().cloned());
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(MigrateError::Decided {
            outcome: Outcome::Refused,
            reason: "RowsWouldBeLost",
            message: format!("this would lose {}. {}", refused.join("; "), self.how(permitted)),
        })
    }

    /// What holds rows and may not go.
    fn missing(&self, permitted: &[String]) -> Vec<&Lost> {
        let may_go = |object: &Object| {
            let table = match object {
                Object::Table(table) | Object::Column(table, _) => table,
                Object::Type(other) | Object::Index(other) => other,
            };
            permitted.iter().any(|item| item == ALL || item == table || *item == name(object))
        };
        self.lost.iter().filter(|lost| lost.rows > 0 && !may_go(&lost.object)).collect()
    }

    fn lacks_all(&self, permitted: &[String]) -> bool {
        !self.unjudged.is_empty() && !permitted.iter().any(|item| item == ALL)
    }

    fn loses(&self, table: &str, column: &str) -> bool {
        self.lost.iter().any(|lost| match &lost.object {
            Object::Table(name) => name == table,
            Object::Column(of, name) => of == table && name == column,
            Object::Type(_) | Object::Index(_) => false,
        })
    }
}

/// As `--drop-rows` has it.
fn name(object: &Object) -> String {
    match object {
        Object::Column(table, column) => format!("{table}.{column}"),
        Object::Table(name) | Object::Type(name) | Object::Index(name) => name.clone(),
    }
}

fn told(lost: &Lost) -> String {
    let filled = if matches!(lost.object, Object::Column(..)) { " with a value" } else { "" };
    format!("{} ({}{filled})", lost.object, rows(lost.rows))
}

fn rows(count: i64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::report::Unreadable;
    use rstest::rstest;

    fn plan(unjudged: &[&str]) -> Plan {
        let column = |name: &str| Object::Column("t".to_owned(), name.to_owned());
        let lost = [(Object::Table("u".to_owned()), 2), (column("a"), 1), (column("empty"), 0)];
        Plan {
            target: "r1".to_owned(),
            revisions: vec!["r2".to_owned()],
            lost: lost.map(|(object, rows)| Lost { object, rows }).to_vec(),
            unjudged: unjudged.iter().map(|&text| text.to_owned()).collect(),
            labels: StayingLabels::default(),
            clients: Vec::new(),
        }
    }

    #[rstest]
    #[case::nothing(&[], &[], Some("lose table u (2 rows); column t.a (1 row with a value). "), "u,t.a")]
    #[case::one(&["u"], &[], Some("lose column t.a (1 row with a value). "), "u,t.a")]
    #[case::both(&["u", "t.a"], &[], None, "u,t.a")]
    #[case::whole_tables(&["t", "u"], &[], None, "t,u")]
    #[case::another_column(&["u", "t.b"], &[], Some("lose column t.a"), "u,t.b,t.a")]
    #[case::all(&["all"], &["r2: DO"], None, "all")]
    #[case::what_cannot_be_judged(&["u", "t"], &["r2: DO"], Some("lose r2: DO. "), "all")]
    fn permission(
        #[case] permitted: &[&str],
        #[case] unjudged: &[&str],
        #[case] refused: Option<&str>,
        #[case] proposed: &str,
    ) {
        let (plan, permitted) = (plan(unjudged), permitted.iter().map(|&item| item.to_owned()).collect::<Vec<_>>());
        assert!(
            plan.how(&permitted).ends_with(&format!("--confirm --drop-rows {proposed}")),
            "{}",
            plan.how(&permitted)
        );
        match (plan.permitted(&permitted), refused) {
            (Ok(()), None) => {}
            (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn rows_that_go_need_no_reader() {
        let row = |table: &str, column: &str| Unreadable {
            table: table.to_owned(),
            column: column.to_owned(),
            label: "X".to_owned(),
            rows: 1,
        };
        let mut plan = plan(&[]);
        plan.labels.rows = vec![row("u", "k"), row("t", "a"), row("t", "k")];
        let lines = plan.lines("d");
        let users: Vec<_> = lines.iter().filter(|line| line.contains("'X'")).collect();
        assert_eq!(users, ["  t.k 'X' (1 row)"]);
    }
}
