//! At which revision is a database that doesn't say so, or that has more than it says?
//!
//! Tables come without a record where `create_all` made them, and beside a record where a pod
//! of a new release started before its migration. Alembic then fails on what is there already.
//! The rule:
//!
//! 1. Each pending revision is recognised by its *evidence*: the tables and columns that its
//!    SQL makes, removes or renames. Only a revision without any is recognised by the types it
//!    makes, and only one without those by its indexes: migrated and created databases of the
//!    same revision differ in indexes and in the types of columns. Labels are never evidence:
//!    `create_all` writes names where migrations write values, and adds none to an existing type.
//!    Neither is what a statement makes or removes only if it isn't or is there: it runs anyway.
//! 2. After each revision the history says of every such object whether it is there, so what a
//!    later revision removes is missed before it and not after it. What a revision touches first
//!    was there before if it is removed or renamed, and was not if it is made.
//! 3. The database is at the highest revision after which exactly that is there. Revisions
//!    without evidence right behind the last one with evidence are not taken as done: they are
//!    run, because that is loud or harmless, and leaving them out is silent.
//! 4. Where no revision fits, part of one is there: `SchemaAmbiguous`.
//! 5. Of a database with a recorded revision only later ones are asked, and none is left out
//!    that does something the catalogue doesn't show, like writing rows. Without a record such
//!    revisions count as done with the others, but not those whose SQL nobody knows.

use std::collections::BTreeSet;

use crate::migrate::history::{History, Object, State};

/// Objects that a message names.
const NAMED: usize = 8;

/// How many of the revisions have been done, oldest first. `recorded`: the database says
/// that it is right before the first. `linear`: none has two predecessors or successors.
///
/// # Errors
/// Why it can't be told, for people.
pub(crate) fn place(
    history: &History,
    there: &BTreeSet<Object>,
    recorded: bool,
    linear: bool,
) -> Result<usize, String> {
    let states = &history.states;
    let Some(highest) = (0..states.len()).rev().find(|&at| differences(&states[at], there).next().is_none()) else {
        return Err(partly(history, there));
    };
    let at = (0..=highest).rev().take_while(|&at| states[at] == states[highest]).last().unwrap_or(highest);
    let done = &history.revisions[..at];
    if recorded {
        // Alembic says itself what then goes wrong, and nothing is lost.
        return Ok(if linear && done.iter().all(|revision| !revision.opaque) { at } else { 0 });
    }
    if let Some(unknown) = done.iter().find(|revision| !revision.printed) {
        return Err(format!(
            "no revision is recorded; by its tables it is at {}, but what {} makes can't be read from its SQL",
            history.revisions[at - 1].name,
            unknown.name
        ));
    }
    if at > 0 && at < history.revisions.len() && !linear {
        let name = &history.revisions[at - 1].name;
        return Err(format!("no revision is recorded; its tables end with {name}, in a history with branches"));
    }
    Ok(at)
}

/// Objects that are missing or there too much, and whether they should be there.
fn differences<'a>(state: &'a State, there: &'a BTreeSet<Object>) -> impl Iterator<Item = (&'a Object, bool)> {
    state
        .iter()
        .filter(|(object, expected)| there.contains(object) != **expected)
        .map(|(object, there)| (object, *there))
}

/// The last revision of which anything is there, and what is wrong with it.
fn partly(history: &History, there: &BTreeSet<Object>) -> String {
    let begun = |at: &usize| {
        let made = |object: &&Object| history.states[at + 1].get(object) == Some(&true) && there.contains(object);
        history.revisions[*at].evidence.iter().any(|object| made(&object))
    };
    let last = (0..history.revisions.len()).rev().find(begun).unwrap_or(0);
    let (name, state) = (&history.revisions[last].name, &history.states[last + 1]);
    let of = |expected: bool| {
        let found: Vec<_> =
            differences(state, there).filter(|found| found.1 == expected).map(|found| found.0).collect();
        // A table stands for its columns.
        let part = |object: &Object| match object {
            Object::Column(table, _) => found.contains(&&Object::Table(table.clone())),
            _ => false,
        };
        let found: Vec<_> = found.iter().filter(|object| !part(object)).map(ToString::to_string).collect();
        let more = found.len().saturating_sub(NAMED);
        let shown = found[..found.len() - more].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let mut wrong = Vec::new();
    for (objects, what) in [(of(true), "missing"), (of(false), "not expected, but there")] {
        if !objects.is_empty() {
            wrong.push(format!("{what}: {objects}"));
        }
    }
    format!("revision {name} is there only in part ({})", wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::offline::Rendered;
    use rstest::rstest;

    const LABELS: &str = "ALTER TYPE kind ADD VALUE IF NOT EXISTS 'a';";
    const TABLES: &str = "CREATE TABLE t2 (id int, a int); CREATE INDEX i2 ON t2 (a); CREATE TABLE u2 (id int);";
    const MORE: &str = "ALTER TABLE t1 ADD COLUMN b int; CREATE TABLE t3 (id int);";

    fn history(revisions: &[&str]) -> History {
        let rendered: Vec<_> = revisions
            .iter()
            .enumerate()
            .map(|(at, sql)| Rendered {
                revision: format!("r{}", at + 1),
                sql: if *sql == "?" { Err("unreadable".to_owned()) } else { Ok((*sql).to_owned()) },
            })
            .collect();
        History::read(&rendered)
    }

    /// `t`: table, `t.c`: column, `:n`: type, `#n`: index.
    fn objects(words: &str) -> BTreeSet<Object> {
        words
            .split_whitespace()
            .map(|word| match (word.split_once('.'), word.strip_prefix(':'), word.strip_prefix('#')) {
                (Some((table, column)), ..) => Object::Column(table.to_owned(), column.to_owned()),
                (_, Some(name), _) => Object::Type(name.to_owned()),
                (.., Some(name)) => Object::Index(name.to_owned()),
                _ => Object::Table(word.to_owned()),
            })
            .collect()
    }

    const SECOND: &str = "t1 t1.id t2 t2.id t2.a u2 u2.id";
    const THIRD: &str = "t1 t1.id t1.b t2 t2.id t2.a u2 u2.id t3 t3.id";

    #[rstest]
    // The application's own.
    #[case::released(&[LABELS, TABLES, MORE], "t1 t1.id", Ok(0))]
    #[case::at_002(&[LABELS, TABLES, MORE], SECOND, Ok(2))]
    #[case::created(&[LABELS, TABLES, MORE], THIRD, Ok(3))]
    #[case::created_with_the_migrations_index(&[LABELS, TABLES, MORE], &format!("{SECOND} #i2 #other"), Ok(2))]
    #[case::created_over_released(&[LABELS, TABLES, MORE], "t1 t1.id t2 t2.id t2.a u2 u2.id t3 t3.id",
        Err("revision r3 is there only in part (missing: column t1.b)"))]
    #[case::half_of_002(&[LABELS, TABLES, MORE], "t1 t1.id t2 t2.id t2.a",
        Err("revision r2 is there only in part (missing: table u2)"))]
    #[case::later_without_earlier(&[LABELS, TABLES, MORE], "t1 t1.id t1.b t3 t3.id",
        Err("revision r3 is there only in part (missing: table t2, table u2)"))]
    #[case::labels_at_the_end_are_run(&[TABLES, LABELS, LABELS], SECOND, Ok(1))]
    #[case::labels_in_between_are_done(&[TABLES, LABELS, MORE], THIRD, Ok(3))]
    #[case::nothing_to_be_seen(&[LABELS, LABELS], "t1", Ok(0))]
    // What goes again.
    #[case::before_a_drop(&[TABLES, "DROP TABLE u2; CREATE TABLE v (id int)"], SECOND, Ok(1))]
    #[case::after_a_drop(&[TABLES, "DROP TABLE u2; CREATE TABLE v (id int)"], "t2 t2.id t2.a v v.id", Ok(2))]
    #[case::half_a_drop(&[TABLES, "DROP TABLE u2; CREATE TABLE v (id int)"], "t2 t2.id t2.a v v.id u2 u2.id",
        Err("revision r2 is there only in part (not expected, but there: table u2)"))]
    #[case::before_a_drop_of_an_older_column(&["ALTER TABLE t1 DROP COLUMN old"], "t1 t1.old", Ok(0))]
    #[case::after_a_drop_of_an_older_column(&["ALTER TABLE t1 DROP COLUMN old"], "t1", Ok(1))]
    #[case::before_a_rename(&["ALTER TABLE t1 RENAME a TO b"], "t1 t1.a", Ok(0))]
    #[case::after_a_rename(&["ALTER TABLE t1 RENAME a TO b"], "t1 t1.b", Ok(1))]
    #[case::after_a_tables_rename(&[TABLES, "ALTER TABLE t2 RENAME TO x2"], "x2 x2.id x2.a u2 u2.id", Ok(2))]
    #[case::before_a_tables_rename(&[TABLES, "ALTER TABLE t2 RENAME TO x2"], SECOND, Ok(1))]
    #[case::made_anew(&[TABLES, "DROP TABLE t2; CREATE TABLE t2 (id int, z int)"], SECOND, Ok(1))]
    #[case::made_and_gone_again(&["CREATE TABLE tmp (id int)", "DROP TABLE tmp", MORE], "t1 t1.b t3 t3.id", Ok(3))]
    // Weaker evidence.
    #[case::type_and_column(&["CREATE TYPE k AS ENUM ('A'); ALTER TABLE t1 ADD COLUMN k k"], "t1 t1.k", Ok(1))]
    #[case::type_alone_there(&["CREATE TYPE k AS ENUM ('A')"], ":k", Ok(1))]
    #[case::type_alone_missing(&["CREATE TYPE k AS ENUM ('A')"], "", Ok(0))]
    #[case::indexes_alone_there(&["CREATE INDEX a ON t1 (x); CREATE INDEX b ON t1 (y)"], "#a #b", Ok(1))]
    #[case::indexes_alone_in_part(&["CREATE INDEX a ON t1 (x); CREATE INDEX b ON t1 (y)"], "#a",
        Err("revision r1 is there only in part (missing: index b)"))]
    #[case::an_index_that_went_with_its_table(
        &["CREATE TABLE t (id int)", "CREATE INDEX a ON t (id)", "DROP TABLE t"], "", Ok(3))]
    #[case::if_not_exists_shows_nothing(&["CREATE TABLE IF NOT EXISTS t (id int)"], "t t.id", Ok(0))]
    // What can't be read.
    #[case::rows_are_written(&["CREATE TABLE t (id int); INSERT INTO t VALUES (1)"], "t t.id", Ok(1))]
    #[case::unreadable_and_not_reached(&["?", TABLES], "t1", Ok(0))]
    #[case::unreadable_and_passed(&["?", TABLES], SECOND,
        Err("by its tables it is at r2, but what r1 makes can't be read"))]
    fn without_a_record(#[case] revisions: &[&str], #[case] there: &str, #[case] expected: Result<usize, &str>) {
        compare(place(&history(revisions), &objects(there), false, true), expected);
    }

    #[rstest]
    #[case::nothing_of_it(&[TABLES, MORE], "t1 t1.id", Ok(0))]
    #[case::a_pod_was_first(&[TABLES, MORE], SECOND, Ok(1))]
    #[case::a_pod_could_not_add_columns(&[MORE], "t1 t3 t3.id",
        Err("revision r1 is there only in part (missing: column t1.b)"))]
    #[case::rows_would_be_written(&["CREATE TABLE t (id int); UPDATE t1 SET a = 1"], "t t.id", Ok(0))]
    #[case::unreadable(&["?"], "anything", Ok(0))]
    fn with_a_record(#[case] revisions: &[&str], #[case] there: &str, #[case] expected: Result<usize, &str>) {
        compare(place(&history(revisions), &objects(there), true, true), expected);
    }

    #[rstest]
    #[case::at_the_end(THIRD, false, Ok(2))]
    #[case::in_between(SECOND, false, Err("in a history with branches"))]
    #[case::in_between_with_a_record(SECOND, true, Ok(0))]
    fn with_branches(#[case] there: &str, #[case] recorded: bool, #[case] expected: Result<usize, &str>) {
        compare(place(&history(&[TABLES, MORE]), &objects(there), recorded, false), expected);
    }

    fn compare(found: Result<usize, String>, expected: Result<usize, &str>) {
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}
