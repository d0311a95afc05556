//! The rollout as a table: steps in order, each with its gate. The first gate that isn't open is
//! where the rollout stands; nothing of a later step is touched before it opens.

use odoo_ai_crds::stack::Step;

use super::gates::{self, Gate, View};
use super::{approval, backup, bootstrap, checks, migration, watch};
use crate::component::{APPLICATION, Component};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The step.
    pub step: Step,
    /// The component that it brings in, if any.
    pub component: Option<Component>,
    /// It is no part of a way back.
    pub forward_only: bool,
    /// When it is done, for people.
    pub opens: &'static str,
    /// When it is done.
    pub gate: fn(&View<'_>) -> Gate,
}

/// The rollout. Routes are live and gate nothing, so they have no row. `docs/stack.md` has its table and its diagram
/// from here.
pub const TABLE: [Row; 15] = [
    Row {
        component: Some(Component::Database),
        ..row(Step::Database, "a Managed PostgreSQL is ready", |view| gates::server(view, Component::Database))
    },
    Row {
        component: Some(Component::Redis),
        ..row(Step::Redis, "a Managed Redis is ready", |view| gates::server(view, Component::Redis))
    },
    row(Step::Credentials, "changed or External logins were tried and are live", gates::credentials),
    row(
        Step::Bootstrap,
        "with `database.managed.bootstrap.restoreFrom`: the backup is in the database, or that holds something already",
        bootstrap::gate,
    ),
    row(
        Step::Plan,
        "a new ai-service image's Job has read what its migrations would do. Not on a first install, nor for an image that was seen before",
        migration::plan,
    ),
    forward(Step::Approval, "the revision is approved, or needs no approval", approval::gate),
    forward(
        Step::Backup,
        "the Backup has an artifact for the migration; only where one is pending and `migrations.backup` is Required",
        backup::gate,
    ),
    forward(
        Step::Migration,
        "the schema is what the image needs. A Job makes it in an empty database, or upgrades it; where nothing is pending there is no Job",
        migration::gate,
    ),
    Row {
        component: Some(Component::AiService),
        ..row(
            Step::AiService,
            "all pods run the revision and are ready: database and Redis answer, and the application has read rows of its database",
            |view| gates::application(view, Component::AiService),
        )
    },
    row(Step::RulesGate, "on a new database: the seeded rules are disabled", gates::rules),
    Row {
        component: Some(Component::Worker),
        ..row(Step::Worker, "the worker answers a ping through Redis", |view| {
            gates::application(view, Component::Worker)
        })
    },
    Row {
        component: Some(Component::Beat),
        ..row(Step::Beat, "it runs for ten seconds", |view| gates::application(view, Component::Beat))
    },
    Row {
        component: Some(Component::Dashboard),
        ..row(Step::Dashboard, "it answers", |view| gates::application(view, Component::Dashboard))
    },
    forward(Step::Checks, "each of `rollout.checks` has passed, one after the other", checks::gate),
    forward(Step::Watch, "all of the above held for `rollout.healthCheck.durationSeconds`", watch::gate),
];

const fn row(step: Step, opens: &'static str, gate: fn(&View<'_>) -> Gate) -> Row {
    Row { step, component: None, forward_only: false, opens, gate }
}

const fn forward(step: Step, opens: &'static str, gate: fn(&View<'_>) -> Gate) -> Row {
    Row { forward_only: true, ..row(step, opens, gate) }
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The step whose gate isn't open; `None` when all are.
    pub step: Option<Step>,
    /// What that gate said.
    pub gate: Gate,
}

impl Position {
    /// True when `step` may be acted on: it is the current one or before it.
    #[must_use]
    pub fn reached(&self, step: Step) -> bool {
        self.step.is_none_or(|current| step <= current)
    }
}

/// First match wins: the first gate that isn't open.
#[must_use]
pub fn position(view: &View<'_>) -> Position {
    let way = TABLE.iter().filter(|row| !(view.back && row.forward_only));
    way.map(|row| (row.step, (row.gate)(view)))
        .find(|(_, gate)| *gate != Gate::Open)
        .map_or(Position { step: None, gate: Gate::Open }, |(step, gate)| Position { step: Some(step), gate })
}

/// Whether the time of a step is limited: it brings in a component of the application. Waiting for a lock, a
/// person, a backup or the watch has no deadline, and PostgreSQL and Redis are of no revision.
#[must_use]
pub fn has_deadline(step: Step) -> bool {
    let row = TABLE.iter().find(|row| row.step == step);
    row.and_then(|row| row.component).is_some_and(|component| APPLICATION.contains(&component))
}

/// Number of a step for people: `3 of 15`.
#[must_use]
pub fn ordinal(step: Step) -> String {
    let index = TABLE.iter().position(|row| row.step == step).map_or(0, |index| index + 1);
    format!("{index} of {}", TABLE.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_api() {
        assert!(TABLE.windows(2).all(|pair| pair[0].step < pair[1].step));
    }
}
