//! The last steps of a restore of chosen tables: they are brought back in one transaction while the application is
//! stopped, it starts, and what was loaded for them goes.

use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::RestoreStatus;

use super::build::Task;
use super::steps::{Says, Scene, progress};
use super::{ended, live};
use crate::cluster::status::{Tri, Verdict};
use crate::rollout::jobs::Progress;

/// The tables are as in the backup, or it is known why they aren't.
pub fn copy(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let what = (Task::Copy, reasons::RESTORING, "brings the tables back");
    live::while_stopped(
        scene,
        status,
        what,
        |report| report.tables.is_some(),
        |status, report| {
            let copied = report.tables.unwrap_or_default().copied;
            status.tables = i32::try_from(scene.plan.tables.len()).ok();
            status.rows = Some(copied.iter().map(|table| table.rows).sum()).filter(|_| !copied.is_empty());
        },
    )
}

/// The application runs again.
pub fn start(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    if let Some(why) = live::not_up(scene) {
        return Says::wait(reasons::STARTING, why);
    }
    if let Some(failure) = &status.failure {
        let message = format!(
            "{}; no table was changed, and the application runs. When that is cured: {}",
            failure.message,
            ended::how_to_retry(scene.plan)
        );
        return Says::stalled(&failure.reason, message);
    }
    live::measure(scene.seen, status);
    Says::Done
}

/// What was loaded is of no use any more.
pub fn discard(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    match progress(scene, Task::Drop, "drops what was loaded", |_| true, |_| true) {
        Progress::Start { attempt, failure } => {
            let message = failure.unwrap_or_else(|| "a Job drops what was loaded".to_owned());
            Says::Start(Task::Drop, attempt, Verdict::new(Tri::Unknown, reasons::RESTORING, message))
        }
        Progress::Running { message, .. } => Says::wait(reasons::RESTORING, message),
        Progress::Pause { failure } => Says::wait(reasons::RESTORE_FAILED, format!("{failure}; it is tried again")),
        Progress::Refused { message, .. } => {
            let database = status.database.take().unwrap_or_default();
            ended::conclude_tables(scene, status, &format!("; the database {database} stays: {message}"))
        }
        Progress::Succeeded(_) => {
            status.database = None;
            ended::conclude_tables(scene, status, "")
        }
    }
}
