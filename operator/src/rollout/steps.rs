//! The rollout as a table: steps in order, each with its gate. The first gate that isn't open is
//! where the rollout stands; nothing of a later step is touched before it opens.

use odoo_ai_crds::stack::Step;

use super::gates::{self, Gate, View};
use super::{approval, backup, migration, watch};
use crate::component::Component;

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Row {
    /// The step.
    pub step: Step,
    /// The component that it brings in, if any.
    pub component: Option<Component>,
    /// When it is done.
    pub gate: fn(&View<'_>) -> Gate,
}

/// The rollout. Routes and Checks get their rows with their features.
pub const TABLE: [Row; 13] = [
    row(Step::Database, Some(Component::Database), |view| gates::server(view, Component::Database)),
    row(Step::Redis, Some(Component::Redis), |view| gates::server(view, Component::Redis)),
    row(Step::Credentials, None, gates::credentials),
    row(Step::Plan, None, migration::plan),
    row(Step::Approval, None, approval::gate),
    row(Step::Backup, None, backup::gate),
    row(Step::Migration, None, migration::gate),
    row(Step::AiService, Some(Component::AiService), |view| gates::application(view, Component::AiService)),
    row(Step::RulesGate, None, gates::rules),
    row(Step::Worker, Some(Component::Worker), |view| gates::application(view, Component::Worker)),
    row(Step::Beat, Some(Component::Beat), |view| gates::application(view, Component::Beat)),
    row(Step::Dashboard, Some(Component::Dashboard), |view| gates::application(view, Component::Dashboard)),
    row(Step::Watch, None, watch::gate),
];

const fn row(step: Step, component: Option<Component>, gate: fn(&View<'_>) -> Gate) -> Row {
    Row { step, component, gate }
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
    TABLE
        .iter()
        .map(|row| (row.step, (row.gate)(view)))
        .find(|(_, gate)| *gate != Gate::Open)
        .map_or(Position { step: None, gate: Gate::Open }, |(step, gate)| Position { step: Some(step), gate })
}

/// Number of a step for people: `3 of 13`.
#[must_use]
pub fn ordinal(step: Step) -> String {
    let index = TABLE.iter().position(|row| row.step == step).map_or(0, |index| index + 1);
    format!("{index} of {}", TABLE.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_steps_are_the_real_ones() {
        let page = include_str!("../../../docs/stack.md");
        let rows: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect();
        let wanted = TABLE.iter().enumerate().map(|(index, row)| format!("{} {}", index + 1, row.step));
        let missing: Vec<_> = wanted.filter(|step| !rows.contains(&step.as_str())).collect();
        assert!(missing.is_empty(), "not in docs/stack.md: {missing:?}");
    }

    #[test]
    fn the_table_is_in_the_order_of_the_api() {
        assert!(TABLE.windows(2).all(|pair| pair[0].step < pair[1].step));
    }
}
