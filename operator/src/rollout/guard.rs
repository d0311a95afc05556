//! May an image run on a schema that is newer than its own? Asked for a hotfix from an older branch
//! and for every way back.

use std::collections::BTreeSet;

use odoo_ai_crds::stack::{DatabaseStatus, MigrationPlan, RevisionHistory};

/// The Alembic revisions that the database is at.
#[must_use]
pub fn revisions(database: &DatabaseStatus) -> BTreeSet<&str> {
    let at = database.schema_revision.iter().flat_map(|all| all.split(','));
    at.filter(|revision| !revision.is_empty()).collect()
}

/// The image of `entry` doesn't know the Alembic revision `it`. One with too many revisions reports none:
/// nothing is taken to be unknown to it.
#[must_use]
pub fn is_unknown(entry: &RevisionHistory, it: &str) -> bool {
    !entry.known_revisions.is_empty() && !entry.known_revisions.iter().any(|known| known == it)
}

/// Whether the image of `entry` works on the newer schema: every Alembic revision above its head was
/// recorded as additive or is `listed`, and no row has an enum label that its code lacks, as its plan saw.
///
/// # Errors
/// What speaks against it, and what to do.
pub fn newer_schema(
    entry: &RevisionHistory,
    database: &DatabaseStatus,
    history: &[RevisionHistory],
    listed: &[String],
    plan: Option<&MigrationPlan>,
) -> Result<(), String> {
    let at = revisions(database);
    let place = at.iter().copied().collect::<Vec<_>>().join(", ");
    let head = entry.schema_heads.join(", ");
    let newer = format!("the database is at {place}, newer than the image (head {head})");
    let additive = |it: &str| history.iter().any(|old| old.additive.iter().any(|revision| revision == it));
    let open: Vec<_> = above(entry, &at, history)
        .into_iter()
        .filter(|it| !additive(it) && !listed.iter().any(|revision| revision == it))
        .collect();
    if !open.is_empty() {
        return Err(format!(
            "{newer}, and {} not known to leave older images working: use an image that knows {place}, or, where you \
             know that this one works, list {} in migrations.backwardCompatible",
            are(&open),
            if open.len() == 1 { "it" } else { "them" },
        ));
    }
    let Some(plan) = plan else { return Err(format!("{newer}; whether it can read all rows isn't known yet")) };
    if let Some(why) = &plan.labels_unknown {
        return Err(format!("{newer}, and which labels its code can read can't be found out: {why}"));
    }
    if plan.unreadable.is_empty() {
        return Ok(());
    }
    let rows = plan.unreadable.iter().map(|it| {
        let rows = if it.rows == 1 { "1 row".to_owned() } else { format!("{} rows", it.rows) };
        format!("{}.{} '{}' ({rows})", it.table, it.column, it.label)
    });
    Err(format!(
        "{newer}, and its code can't read {}: change or remove those rows",
        rows.collect::<Vec<_>>().join(", ")
    ))
}

/// Alembic revisions between the image's and the database's, as an image that knows the latter told; those
/// of the database itself where none did.
fn above<'a>(entry: &RevisionHistory, at: &BTreeSet<&'a str>, history: &'a [RevisionHistory]) -> BTreeSet<&'a str> {
    let mut above = BTreeSet::new();
    for it in at.iter().copied().filter(|it| is_unknown(entry, it)) {
        above.insert(it);
        // Oldest first: what comes after was never run.
        let knows = history.iter().find_map(|old| {
            let end = old.known_revisions.iter().position(|known| known == it)?;
            Some(&old.known_revisions[..end])
        });
        above.extend(knows.into_iter().flatten().map(String::as_str).filter(|older| is_unknown(entry, older)));
    }
    above
}

fn are(revisions: &[&str]) -> String {
    let verb = if revisions.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", revisions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use odoo_ai_crds::stack::UnreadableRows;
    use rstest::rstest;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&it| it.to_owned()).collect()
    }

    fn image(known: &[&str], additive: &[&str]) -> RevisionHistory {
        RevisionHistory {
            schema_heads: texts(&known[known.len() - 1..]),
            known_revisions: texts(known),
            additive: texts(additive),
            ..RevisionHistory::default()
        }
    }

    #[rstest]
    #[case::additive("c", &["b", "c"], &[], "")]
    #[case::one_of_two_is_not("c", &["c"], &[], "b is not known")]
    #[case::neither("c", &[], &[], "b, c are not known")]
    #[case::listed("c", &["c"], &["b"], "")]
    #[case::what_was_never_run_does_not_count("b", &["b"], &[], "")]
    #[case::nobody_knows_where_it_is("z", &["b", "c"], &[], "z is not known")]
    #[case::nobody_knows_it_and_it_is_listed("z", &[], &["z"], "")]
    fn table(#[case] at: &str, #[case] additive: &[&str], #[case] listed: &[&str], #[case] refusal: &str) {
        let old = image(&["a"], &[]);
        let history = [image(&["a", "b", "c"], additive), old.clone()];
        let database = DatabaseStatus { schema_revision: Some(at.to_owned()), ..DatabaseStatus::default() };
        let plan = MigrationPlan::default();
        let verdict = newer_schema(&old, &database, &history, &texts(listed), Some(&plan));
        match verdict {
            Ok(()) => assert_eq!(refusal, ""),
            Err(why) => assert!(!refusal.is_empty() && why.contains(refusal), "{why}"),
        }
    }

    #[test]
    fn rows_that_it_can_not_read_are_named() {
        let old = image(&["a"], &[]);
        let history = [image(&["a", "b"], &["b"]), old.clone()];
        let database = DatabaseStatus { schema_revision: Some("b".to_owned()), ..DatabaseStatus::default() };
        let verdict = |plan: Option<&MigrationPlan>| newer_schema(&old, &database, &history, &[], plan);
        assert!(verdict(None).is_err_and(|why| why.contains("isn't known yet")));
        let unknown = MigrationPlan { labels_unknown: Some("no models".to_owned()), ..MigrationPlan::default() };
        assert!(verdict(Some(&unknown)).is_err_and(|why| why.contains("no models")));
        let rows = UnreadableRows {
            table: "automation_rules".to_owned(),
            column: "automation_type".to_owned(),
            label: "FORECAST".to_owned(),
            rows: 3,
        };
        let unreadable = MigrationPlan { unreadable: vec![rows], ..MigrationPlan::default() };
        assert!(
            verdict(Some(&unreadable))
                .is_err_and(|why| why.contains("automation_rules.automation_type 'FORECAST' (3 rows)"))
        );
    }
}
