//! The decision: what the status says now, and which Job is started. A plain function of what was observed.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::restore::{RestoreStatus, RestoreStep};
use odoo_ai_crds::source::Artifact;
use odoo_ai_crds::stack::OdooAiStack;

use super::build::Task;
use super::model::{Plan, Wanted};
use super::observe::Observed;
use super::validate;
use crate::backup::catalogue::size;
use crate::cluster::status::{Tri, Verdict};
use crate::rollout::jobs::{self, Progress, Report, Work};
use crate::stack::model::Operator;

/// What to do now.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The status, but for its conditions.
    pub status: RestoreStatus,
    /// What the condition `Complete` says.
    pub complete: Verdict,
    /// Only a person can change it.
    pub stalled: bool,
    /// The restore, unless it ended or its spec is refused.
    pub plan: Option<Box<Plan>>,
    /// The Job to create, and its number.
    pub start: Option<(Task, u32)>,
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed, operator: &Operator) -> Decision {
    let mut status = seen.status();
    if let Some(complete) = ended(&status) {
        // It runs once: nothing is said anew of what came of it.
        return Decision { status, complete, stalled: false, plan: None, start: None };
    }
    status.observed_generation = Some(seen.generation());
    let said = |status, complete, stalled| Decision { status, complete, stalled, plan: None, start: None };
    let plan = match validate::plan(seen, operator) {
        Ok(plan) => Box::new(plan),
        Err(problem) => {
            let complete =
                Verdict::new(if problem.stalled { Tri::False } else { Tri::Unknown }, problem.reason, problem.message);
            return said(status, complete, problem.stalled);
        }
    };
    if let Some(waits) = gate(seen, &status) {
        return Decision { plan: Some(plan), ..said(status, waits, false) };
    }
    load(seen, plan, status)
}

/// What came of it, once it has.
fn ended(status: &RestoreStatus) -> Option<Verdict> {
    status.completed_at.as_ref()?;
    let complete = status.conditions.iter().find(|it| it.type_ == types::COMPLETE)?;
    Some(Verdict::new(complete.status == "True", &complete.reason, complete.message.clone()))
}

/// What must be so before it begins.
fn gate(seen: &Observed, status: &RestoreStatus) -> Option<Verdict> {
    if status.started_at.is_some() {
        return None;
    }
    if let Some(job) = &seen.backing_up {
        let message = format!("Job {job} makes a backup, and may remove an old one; its end is waited for");
        return Some(Verdict::new(Tri::Unknown, reasons::WAITING_FOR_BACKUP, message));
    }
    let (ready, why) = database(seen.stack.as_ref());
    (!ready).then(|| {
        let message =
            format!("the database of the OdooAiStack {} is waited for: {why}", seen.object.spec.stack_ref.name);
        Verdict::new(Tri::Unknown, reasons::DATABASE_NOT_READY, message)
    })
}

/// The stack's database lets the application in, and what is said of it.
fn database(stack: Option<&OdooAiStack>) -> (bool, &str) {
    let conditions = stack.and_then(|stack| stack.status.as_ref()).map(|it| it.conditions.as_slice());
    let found = conditions.unwrap_or_default().iter().find(|it| it.type_ == types::DATABASE_READY);
    found.map_or((false, "nothing is known of it yet"), |it| (it.status == "True", &it.message))
}

fn load(seen: &Observed, plan: Box<Plan>, mut status: RestoreStatus) -> Decision {
    status.database = Some(plan.database.clone());
    if let Wanted::Artifact(Artifact { id: Some(id), .. }) = &plan.wanted {
        status.artifact_id = Some(id.clone());
    }
    status.step = Some(RestoreStep::Load);
    let begins = status.started_at.is_none();
    status.started_at.get_or_insert(Time(seen.now));
    let message = format!("a Job restores the backup into the database {}", plan.database);
    let restoring = Verdict::new(Tri::Unknown, reasons::RESTORING, message);
    if begins {
        // Said before there is a Job: from now on there is something to be dropped, whatever is seen of it.
        return Decision { status, complete: restoring, stalled: false, plan: Some(plan), start: None };
    }
    let prefix = Task::Load.prefix(&plan.name);
    let component = Task::Load.component();
    let work = Work { prefix: &prefix, component, does: "restores the backup", limit: "timeoutSeconds" };
    // One of a Restore that had the name before says nothing of this one.
    let about = |job: &Job| jobs::is_of(job, &plan.uid);
    let complete = |report: &Report| report.restore.is_some();
    let unknown = |reason, message: String| Verdict::new(Tri::Unknown, reason, message);
    let (complete, stalled, start) = match jobs::progress(work, &seen.children, about, complete, |_| true, seen.now) {
        Progress::Start { attempt, failure } => {
            let again = |failure| unknown(reasons::RESTORING, format!("it is tried again: {failure}"));
            (failure.map_or(restoring, again), false, Some((Task::Load, attempt)))
        }
        Progress::Running { trouble: Some(reason), message, .. } => (unknown(reason, message), false, None),
        Progress::Running { message, .. } => {
            grown(&mut status, seen.bytes);
            let so_far = status.size.as_ref().map(|size| format!(", {size} so far")).unwrap_or_default();
            (unknown(reasons::RESTORING, format!("{message} into the database {}{so_far}", plan.database)), false, None)
        }
        Progress::Pause { failure } => {
            (unknown(reasons::RESTORE_FAILED, format!("{failure}; it is tried again")), false, None)
        }
        Progress::Refused { reason, message } => (Verdict::new(false, &reason, message), true, None),
        Progress::Succeeded(report) => (done(&mut status, &plan, &report, seen), false, None),
    };
    Decision { status, complete, stalled, plan: Some(plan), start }
}

fn grown(status: &mut RestoreStatus, bytes: Option<i64>) {
    if let Some(bytes) = bytes {
        (status.bytes, status.size) = (Some(bytes), Some(size(bytes)));
    }
}

/// Writes down what was restored, and says it.
fn done(status: &mut RestoreStatus, plan: &Plan, report: &Report, seen: &Observed) -> Verdict {
    let restored = report.restore.clone().unwrap_or_default();
    status.step = None;
    status.completed_at = Some(Time(seen.now));
    (status.tables, status.rows) = (restored.tables, restored.rows);
    status.load_seconds = restored.seconds;
    status.alembic_revision = Some(restored.alembic.join(",")).filter(|it| !it.is_empty());
    grown(status, restored.bytes);
    let counted = restored.tables.zip(restored.rows);
    let told = [
        counted.map(|(tables, rows)| format!(": {tables} tables, {rows} rows")),
        status.size.as_ref().map(|size| format!(", {size}")),
        restored.seconds.map(|seconds| format!(", loaded in {seconds} s")),
        // What the live database has and this one hasn't.
        report.message.find("; not copied: ").map(|at| report.message[at..].to_owned()),
    ];
    let told: String = told.into_iter().flatten().collect();
    let (id, database) = (&restored.id, &restored.database);
    let what = match plan.wanted {
        Wanted::Artifact(_) => {
            status.artifact_id = Some(id.clone());
            "backup"
        }
        Wanted::File(_) => "dump",
    };
    let message = format!("{what} {id} is in the database {database}{told}; the live database is as it was");
    Verdict::new(true, reasons::RESTORED, message)
}
