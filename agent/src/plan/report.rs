//! What a plan tells the operator.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::redact::Redactor;

/// Characters of a reason in a report that would be too long otherwise.
const SHORT: usize = 60;

/// What `migrate` would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanReport {
    /// Whether it would do anything.
    pub(crate) needed: bool,
    /// Whether it would make the schema, so nothing is there that could be lost.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bootstrap: bool,
    /// The revision that a database without one is taken to be at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<String>,
    /// The revisions to come, in their order. Empty together with
    /// [`crate::report::Report::truncated`] when they don't fit.
    pub(crate) pending: Vec<PendingRevision>,
    /// Labels that the code needs and can't use yet, by enum type.
    pub(crate) missing_labels: BTreeMap<String, Vec<String>>,
    /// Of a newer schema: what rows hold and the code can't read; most rows first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) unreadable: Vec<Unreadable>,
    /// Of a newer schema: why [`PlanReport::unreadable`] couldn't be found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels_unknown: Option<String>,
}

/// Rows with an enum label that the image's code doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unreadable {
    /// Their table, with its schema where SQL needs one.
    pub(crate) table: String,
    /// The column with the label.
    pub(crate) column: String,
    /// The label.
    pub(crate) label: String,
    /// How many there are.
    pub(crate) rows: i64,
}

/// A revision to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PendingRevision {
    /// Its name.
    pub(crate) revision: String,
    /// Whether older releases go on working with the schema that it makes.
    pub(crate) additive: bool,
    /// Why that isn't sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl PlanReport {
    /// Cuts the reasons.
    pub(crate) fn shorten(&mut self) {
        for why in self.reasons().filter(|why| why.chars().count() > SHORT) {
            *why = why.chars().take(SHORT - 1).chain(['…']).collect();
        }
    }

    /// Leaves the verdicts without their reasons.
    pub(crate) fn leave_reasons_out(&mut self) {
        self.pending.iter_mut().for_each(|revision| revision.why = None);
    }

    /// Leaves out which revisions are pending, and all labels but one that show that rows can't be read.
    pub(crate) fn leave_lists_out(&mut self) {
        self.pending.clear();
        self.unreadable.truncate(1);
    }

    /// SQL may quote what a variable holds.
    pub(crate) fn redact(&mut self, redactor: &Redactor) {
        self.reasons().for_each(|why| *why = redactor.redact(why));
    }

    fn reasons(&mut self) -> impl Iterator<Item = &mut String> {
        self.pending.iter_mut().filter_map(|revision| revision.why.as_mut()).chain(&mut self.labels_unknown)
    }
}
