//! Sequences of the tables' columns: what they give next is never what they, or those of the backup, have given.

use std::time::Duration;

use tokio_postgres::Row;

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{Session, bounded};
use crate::restore::tables::look::Relation;
use crate::restore::tables::names::TableName;

const LIMIT: Duration = Duration::from_mins(1);
const STEP: &str = "read the sequences";

/// A sequence that belongs to a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sequence {
    name: TableName,
    table: TableName,
    column: String,
    increment: i64,
    minimum: i64,
    maximum: i64,
    last: i64,
    /// Whether the last one was given.
    called: bool,
}

/// Those of these tables.
///
/// # Errors
/// What the server said.
pub(crate) async fn read(session: &Session, relations: &[Relation]) -> Result<Vec<Sequence>, BackupError> {
    const SEQUENCES: &str = "
        SELECT sn.nspname::text, s.relname::text, tn.nspname::text, t.relname::text, a.attname::text,
               q.seqincrement, q.seqmin, q.seqmax
        FROM pg_depend d
        JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
        JOIN pg_sequence q ON q.seqrelid = s.oid
        JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
          AND d.refobjid = ANY ($1)
        ORDER BY 1, 2";
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let rows = bounded(LIMIT, session.query(SEQUENCES, &[&oids])).await.step(STEP)?;
    let name = |row: &Row, at: usize| TableName { schema: row.get(at), name: row.get(at + 1) };
    let mut sequences = Vec::new();
    for row in rows {
        let sequence = name(&row, 0);
        let question = format!("SELECT last_value, is_called FROM {}", sequence.sql());
        let state = bounded(LIMIT, session.query_one(&question, &[])).await.step(STEP)?;
        sequences.push(Sequence {
            name: sequence,
            table: name(&row, 2),
            column: row.get(4),
            increment: row.get(5),
            minimum: row.get(6),
            maximum: row.get(7),
            last: state.get(0),
            called: state.get(1),
        });
    }
    Ok(sequences)
}

impl Sequence {
    fn next(&self) -> i64 {
        if self.called { self.last.saturating_add(self.increment) } else { self.last }
    }

    /// Of two values the one that comes later.
    fn later(&self, one: i64, other: i64) -> i64 {
        if self.increment < 0 { one.min(other) } else { one.max(other) }
    }

    /// What it must give next; `None`: it does.
    fn restart(&self, backup: &[Self]) -> Option<i64> {
        let of_it = backup.iter().filter(|it| it.table == self.table && it.column == self.column);
        let latest = of_it.map(Self::next).reduce(|one, other| self.later(one, other))?;
        let wanted = self.later(self.next(), latest);
        // One that has no more numbers could only be told to give its last one again: the column's key refuses that.
        (wanted != self.next()).then(|| wanted.clamp(self.minimum, self.maximum))
    }
}

/// Statements that set those of the live database. Unlike `setval` they are part of the transaction.
pub(crate) fn statements(live: &[Sequence], backup: &[Sequence]) -> Vec<String> {
    let restart =
        |it: &Sequence| Some(format!("ALTER SEQUENCE {} RESTART WITH {}", it.name.sql(), it.restart(backup)?));
    live.iter().filter_map(restart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn sequence(increment: i64, last: i64, called: bool) -> Sequence {
        let name = |name: &str| TableName { schema: "public".to_owned(), name: name.to_owned() };
        let (minimum, maximum) = if increment < 0 { (-100, -1) } else { (1, 100) };
        let (table, column) = (name("t"), "id".to_owned());
        Sequence { name: name("t_id_seq"), table, column, increment, minimum, maximum, last, called }
    }

    #[rstest]
    #[case::backup_is_ahead(1, (5, true), (9, true), Some(10))]
    #[case::live_is_ahead(1, (9, true), (5, true), None)]
    #[case::alike(1, (5, true), (5, true), None)]
    #[case::given_is_later_than_not_given(1, (5, false), (5, true), Some(6))]
    #[case::not_given_is_not_later(1, (5, true), (5, false), None)]
    #[case::never_used(1, (1, false), (7, false), Some(7))]
    #[case::steps(10, (21, true), (31, true), Some(41))]
    #[case::downwards(-1, (-3, true), (-8, true), Some(-9))]
    #[case::downwards_live_is_ahead(-1, (-8, true), (-3, true), None)]
    #[case::exhausted_in_the_backup(1, (5, true), (100, true), Some(100))]
    fn never_backwards(
        #[case] increment: i64,
        #[case] live: (i64, bool),
        #[case] backup: (i64, bool),
        #[case] restart: Option<i64>,
    ) {
        let backup = sequence(increment, backup.0, backup.1);
        let of_another = Sequence { column: "n".to_owned(), ..sequence(increment, increment.signum() * 99, true) };
        assert_eq!(sequence(increment, live.0, live.1).restart(&[backup, of_another.clone()]), restart);
        assert_eq!(sequence(increment, live.0, live.1).restart(&[of_another]), None);
    }
}
