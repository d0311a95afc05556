//! The step Load: a Job makes a new database of the backup, compares it with its manifest, and tells.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::RestoreStatus;

use super::build::Task;
use super::model::{Plan, Wanted};
use super::steps::{Says, Scene, progress};
use crate::backup::catalogue::size;
use crate::cluster::status::{Tri, Verdict};
use crate::rollout::jobs::{Progress, Report};

/// How far it is.
pub fn step(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let Scene { seen, plan } = *scene;
    let unknown = |reason, message: String| Verdict::new(Tri::Unknown, reason, message);
    match progress(scene, Task::Load, "restores the backup", |_| true, |report| report.restore.is_some()) {
        Progress::Start { attempt, failure } => {
            let message = match failure {
                None => format!("a Job restores the backup into the database {}", plan.database),
                Some(failure) => format!("it is tried again: {failure}"),
            };
            Says::Start(Task::Load, attempt, unknown(reasons::RESTORING, message))
        }
        Progress::Running { trouble: Some(reason), message, .. } => Says::Wait(unknown(reason, message)),
        Progress::Running { message, .. } => {
            grown(status, seen.bytes);
            let so_far = status.size.as_ref().map(|size| format!(", {size} so far")).unwrap_or_default();
            Says::wait(reasons::RESTORING, format!("{message} into the database {}{so_far}", plan.database))
        }
        Progress::Pause { failure } => Says::wait(reasons::RESTORE_FAILED, format!("{failure}; it is tried again")),
        Progress::Refused { reason, message } => Says::stalled(&reason, message),
        Progress::Succeeded(report) => {
            let told = note(status, plan, &report);
            if plan.replaced.is_some() {
                return Says::Done;
            }
            (status.step, status.completed_at) = (None, Some(Time(seen.now)));
            let message = format!("{told}; the live database is as it was");
            Says::Ended(Verdict::new(true, reasons::RESTORED, message))
        }
    }
}

fn grown(status: &mut RestoreStatus, bytes: Option<i64>) {
    if let Some(bytes) = bytes {
        (status.bytes, status.size) = (Some(bytes), Some(size(bytes)));
    }
}

/// Writes down what was restored, and says it.
fn note(status: &mut RestoreStatus, plan: &Plan, report: &Report) -> String {
    let restored = report.restore.clone().unwrap_or_default();
    (status.tables, status.rows) = (restored.tables, restored.rows);
    status.load_seconds = restored.seconds;
    status.alembic_revision = Some(restored.alembic.join(",")).filter(|it| !it.is_empty());
    grown(status, restored.bytes);
    if matches!(plan.wanted, Wanted::Artifact(_)) {
        status.artifact_id = Some(restored.id.clone());
    }
    // What the live database has and this one hasn't.
    let not_copied = report.message.find("; not copied: ").map(|at| &report.message[at..]).unwrap_or_default();
    let (what, id, database) = (plan.wanted.word(), &restored.id, &restored.database);
    format!("{what} {id} is in the database {database}{}{not_copied}", counted(status))
}

/// How much was restored, for people.
#[must_use]
pub fn counted(status: &RestoreStatus) -> String {
    let counted = status.tables.zip(status.rows);
    let told = [
        counted.map(|(tables, rows)| format!(": {tables} tables, {rows} rows")),
        status.size.as_ref().map(|size| format!(", {size}")),
        status.load_seconds.map(|seconds| format!(", loaded in {seconds} s")),
    ];
    told.into_iter().flatten().collect()
}
