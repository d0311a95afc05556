//! What a plan says, to programs and to people.

use std::collections::{BTreeMap, BTreeSet};

use crate::migrate::decide::{Found, Image};
use crate::migrate::offline::Rendered;
use crate::plan::report::{PendingRevision, PlanReport};
use crate::sql;

/// Whether a revision is additive.
pub(super) fn revision(rendered: Rendered) -> PendingRevision {
    let verdict = match rendered.sql {
        Ok(text) => sql::verdict(&sql::read(&text)),
        Err(why) => Err(format!("unreadable: {why}")),
    };
    PendingRevision { revision: rendered.revision, additive: verdict.is_ok(), why: verdict.err() }
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

/// Revisions are pending.
pub(super) fn pending(image: &Image, from: &BTreeSet<String>, plan: &PlanReport) -> String {
    let from = plan.stamp.clone().map_or_else(|| list(from), |stamp| format!("{stamp}, as its tables show,"));
    let (count, head) = (plan.pending.len(), image.heads.join(", "));
    let revisions = if count == 1 { "revision is" } else { "revisions are" };
    let verdict = match plan.pending.iter().find(|revision| !revision.additive) {
        None if count == 0 => String::new(),
        None => ", all additive".to_owned(),
        Some(first) => {
            let others = plan.pending.iter().filter(|revision| !revision.additive).count();
            format!(", {others} not additive (first {}: {})", first.revision, first.why.as_deref().unwrap_or_default())
        }
    };
    format!("the database is at {from} and the image's head is {head}: {count} {revisions} pending{verdict}")
}

/// Labels are missing.
pub(super) fn labels(missing: &BTreeMap<String, Vec<String>>) -> String {
    let types: Vec<_> = missing.iter().map(|(name, labels)| format!("{name} {}", labels.join(", "))).collect();
    format!("enum labels that the code needs and cannot use yet: {}", types.join("; "))
}

fn list(revisions: &BTreeSet<String>) -> String {
    if revisions.is_empty() {
        return "no recorded revision".to_owned();
    }
    revisions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
