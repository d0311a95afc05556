//! The steps of a restore as tables, each step with the function that says how far it is. A step is noted in the status
//! before anything of it is done, so whoever comes next knows what may have begun.

use k8s_openapi::api::batch::v1::Job;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::{RestoreStatus, RestoreStep};

use super::build::{Task, is_of};
use super::model::Plan;
use super::observe::Observed;
use super::{before, live, load, tables};
use crate::cluster::status::{Tri, Verdict};
use crate::rollout::jobs::{self, Progress, Report, Work};

/// What a step says.
#[derive(Clone, Debug)]
pub enum Says {
    /// The next one may begin.
    Done,
    /// It goes on.
    Wait(Verdict),
    /// A Job is to be created, with this number.
    Start(Task, u32, Verdict),
    /// A Backup is to be asked: its name, and the request.
    Ask(String, String, Verdict),
    /// Only a person can change it.
    Stalled(Verdict),
    /// What came of it.
    Ended(Verdict),
}

impl Says {
    /// It goes on.
    pub fn wait(reason: &str, message: impl Into<String>) -> Self {
        Self::Wait(Verdict::new(Tri::Unknown, reason, message))
    }

    /// Only a person can change it.
    pub fn stalled(reason: &str, message: impl Into<String>) -> Self {
        Self::Stalled(Verdict::new(false, reason, message))
    }
}

/// What a step looks at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What was observed.
    pub seen: &'a Observed,
    /// The accepted restore.
    pub plan: &'a Plan,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The step.
    pub step: RestoreStep,
    /// Reason of `Complete` while it goes on.
    pub reason: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// How far it is. Notes in the status what came of it.
    pub says: fn(&Scene<'_>, &mut RestoreStatus) -> Says,
}

const BEFORE: Row = Row {
    step: RestoreStep::PreRestoreBackup,
    reason: reasons::BACKING_UP,
    does: "the live database is backed up",
    says: before::step,
};
const LOAD: Row = Row {
    step: RestoreStep::Load,
    reason: reasons::RESTORING,
    does: "a Job restores the backup into a new database",
    says: load::step,
};
const MIGRATE: Row = Row {
    step: RestoreStep::Migrate,
    reason: reasons::MIGRATING,
    does: "a Job brings the schema to what the application needs",
    says: live::migrate,
};
const DRAIN: Row = Row {
    step: RestoreStep::Drain,
    reason: reasons::DRAINING,
    does: "beat and worker finish, then ai-service",
    says: live::drain,
};
const SWAP: Row = Row {
    step: RestoreStep::Swap,
    reason: reasons::SWAPPING,
    does: "a Job lets the two databases change names",
    says: live::swap,
};
const START: Row =
    Row { step: RestoreStep::Start, reason: reasons::STARTING, does: "the application starts", says: live::start };

/// Beside the live database.
pub const BESIDE: [Row; 1] = [LOAD];
/// In its place.
pub const IN_PLACE: [Row; 6] = [BEFORE, LOAD, MIGRATE, DRAIN, SWAP, START];
/// Some tables of it.
pub const TABLES: [Row; 7] = [
    BEFORE,
    LOAD,
    MIGRATE,
    DRAIN,
    Row {
        step: RestoreStep::CopyTables,
        reason: reasons::RESTORING,
        does: "a Job brings the tables back",
        says: tables::copy,
    },
    Row { says: tables::start, ..START },
    Row {
        step: RestoreStep::Discard,
        reason: reasons::RESTORING,
        does: "a Job drops what was loaded",
        says: tables::discard,
    },
];
/// Back again.
pub const UNDO: [Row; 4] = [MIGRATE, DRAIN, SWAP, START];

/// The table that a restore goes by.
#[must_use]
pub fn table(plan: &Plan, status: &RestoreStatus) -> &'static [Row] {
    match (&plan.replaced, status.undo) {
        (None, _) => &BESIDE,
        (Some(_), _) if !plan.tables.is_empty() => &TABLES,
        (Some(_), false) => &IN_PLACE,
        (Some(_), true) => &UNDO,
    }
}

/// Puts the number of the step in front, where there are several.
#[must_use]
pub fn numbered(table: &[Row], step: RestoreStep, message: &str) -> String {
    let at = table.iter().position(|row| row.step == step).map_or(1, |index| index + 1);
    if table.len() == 1 { message.to_owned() } else { format!("step {at} of {} ({step}): {message}", table.len()) }
}

/// Where the Jobs of a task stand. `about`: the Job is of what is wanted now.
pub fn progress(
    scene: &Scene<'_>,
    task: Task,
    does: &'static str,
    about: impl Fn(&Job) -> bool,
    complete: impl Fn(&Report) -> bool,
) -> Progress {
    let Scene { seen, plan } = *scene;
    let prefix = task.prefix(&plan.name, seen.status().round);
    let work = Work { prefix: &prefix, component: task.component(), does, limit: "timeoutSeconds" };
    // One of a Restore that had the name before says nothing of this one.
    let ours = |job: &Job| is_of(job, &plan.uid) && about(job);
    jobs::progress(work, &seen.children, ours, complete, |_| true, seen.now)
}
