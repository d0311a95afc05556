//! What a plan says, to programs and to people.

use std::collections::{BTreeMap, BTreeSet};

use crate::migrate::decide::{Found, Image};
use crate::migrate::offline::Rendered;
use crate::plan::report::{PendingRevision, PlanReport, Unreadable};
use crate::sql;

/// Characters of a reason that comes from elsewhere.
const LONGEST_LINE: usize = 200;

/// Whether a revision is additive.
pub(super) fn revision(rendered: Rendered) -> PendingRevision {
    let verdict = match rendered.sql {
        Ok(text) => sql::verdict(&sql::read(&text)),
        Err(why) => Err(format!("unreadable: {why}")),
    };
    PendingRevision { revision: rendered.revision, additive: verdict.is_ok(), why: verdict.err() }
}

/// All that may be pending, where Alembic doesn't say what is.
pub(super) fn unprinted(image: &Image, from: &BTreeSet<String>, why: &str) -> Vec<PendingRevision> {
    let why = last_line(why);
    let after = image.known.iter().rposition(|revision| from.contains(revision)).map_or(0, |at| at + 1);
    let rendered = |revision: &String| Rendered { revision: revision.clone(), sql: Err(why.clone()) };
    image.known[after..].iter().map(rendered).map(revision).collect()
}

/// The database is at a revision that the image doesn't know.
pub(super) fn newer(image: &Image, found: &Found) -> String {
    format!(
        "the database is at {}, which this image (head {}) does not know",
        list(&found.current),
        image.heads.join(", ")
    )
}

/// The schema is still to be made.
pub(super) fn bootstrap(image: &Image, resumed: bool) -> String {
    let what = if resumed { "a schema that was begun and not finished" } else { "no schema yet" };
    format!("the database has {what}, the application makes it as of {}", image.heads.join(", "))
}

/// Revisions are pending, or to be recorded as done.
pub(super) fn pending(image: &Image, from: &BTreeSet<String>, plan: &PlanReport) -> String {
    let recorded = list(from);
    let at = match &plan.stamp {
        None => format!("the database is at {recorded}"),
        Some(stamp) => format!("the database has the tables of {stamp} and {recorded}, so {stamp} would be recorded"),
    };
    let head = image.heads.join(", ");
    let count = match plan.pending.len() {
        0 => return format!("{at}, the image's head"),
        1 => "1 revision is".to_owned(),
        count => format!("{count} revisions are"),
    };
    let mut others = plan.pending.iter().filter(|revision| !revision.additive);
    let verdict = match (others.next(), others.count() + 1) {
        (None, _) => "additive".to_owned(),
        (Some(first), count) => {
            let why = first.why.as_deref().unwrap_or_default();
            format!("{count} not additive (first {}: {why})", first.revision)
        }
    };
    format!("{at}; the image's head is {head}: {count} pending, {verdict}")
}

/// Of a traceback the end says what it was.
pub(super) fn last_line(why: &str) -> String {
    why.lines().last().unwrap_or_default().chars().take(LONGEST_LINE).collect()
}

/// Labels are missing.
pub(super) fn labels(missing: &BTreeMap<String, Vec<String>>) -> String {
    let types: Vec<_> = missing.iter().map(|(name, labels)| format!("{name} {}", labels.join(", "))).collect();
    format!("enum labels that the code needs and cannot use yet: {}", types.join("; "))
}

/// Rows hold labels that the code doesn't have.
pub(super) fn unreadable(found: &[Unreadable]) -> String {
    let entry = |entry: &Unreadable| {
        let rows = if entry.rows == 1 { "row" } else { "rows" };
        format!("{}.{} '{}' ({} {rows})", entry.table, entry.column, entry.label, entry.rows)
    };
    format!("rows that this image can't read: {}", found.iter().map(entry).collect::<Vec<_>>().join(", "))
}

fn list(revisions: &BTreeSet<String>) -> String {
    if revisions.is_empty() {
        return "no recorded revision".to_owned();
    }
    revisions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const AT_2: &str = "the database is at r2";
    const LIKE_2: &str = "the database has the tables of r2 and no recorded revision, so r2 would be recorded";

    #[rstest]
    #[case::one(Some("r2"), None, &[None], &format!("{AT_2}; the image's head is r4: 1 revision is pending, additive"))]
    #[case::one_of_two(Some("r2"), None, &[None, Some("DROP")],
        &format!("{AT_2}; the image's head is r4: 2 revisions are pending, 1 not additive (first r4: DROP)"))]
    #[case::both(Some("r2"), None, &[Some("DROP"), Some("ADD")],
        &format!("{AT_2}; the image's head is r4: 2 revisions are pending, 2 not additive (first r3: DROP)"))]
    #[case::stamp_first(None, Some("r2"), &[None, None],
        &format!("{LIKE_2}; the image's head is r4: 2 revisions are pending, additive"))]
    #[case::stamp_alone(None, Some("r2"), &[], &format!("{LIKE_2}, the image's head"))]
    fn messages(
        #[case] recorded: Option<&str>,
        #[case] stamp: Option<&str>,
        #[case] whys: &[Option<&str>],
        #[case] message: &str,
    ) {
        let revision = |(at, why): (usize, Option<&str>)| PendingRevision {
            revision: format!("r{}", at + 3),
            additive: why.is_none(),
            why: why.map(str::to_owned),
        };
        let plan = PlanReport {
            stamp: stamp.map(str::to_owned),
            pending: whys.iter().copied().enumerate().map(revision).collect(),
            ..PlanReport::default()
        };
        let image = Image { heads: vec!["r4".to_owned()], ..Image::default() };
        let from = recorded.into_iter().map(str::to_owned).collect();
        assert_eq!(pending(&image, &from, &plan), message);
    }
}
