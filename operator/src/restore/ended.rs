//! The end of a restore in place, and what comes after it: an undo by annotation, and the kept database, which goes when
//! its time is over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::restore::{RestoreHandled, RestoreSpec, RestoreStatus, RestoreStep};

use super::build::Task;
use super::live;
use super::load::counted;
use super::model::Plan;
use super::steps::{Says, Scene, progress};
use crate::cluster::status::Verdict;
use crate::rollout::jobs::Progress;
use crate::rollout::requests::token;

/// Writes down that it ended, and says so.
pub fn conclude(plan: &Plan, status: &mut RestoreStatus, now: Timestamp) -> Says {
    let live = &plan.stack.connection.database;
    let replaced = plan.replaced.clone().unwrap_or_default();
    let (restored, kept) = if status.undo { (&plan.database, &plan.database) } else { (live, &replaced) };
    status.database = Some(restored.clone());
    status.replaced_database = Some(kept.clone());
    status.step = None;
    status.completed_at = Some(Time(now));
    Says::Ended(result(status))
}

/// The same of chosen tables; `rest` is said at the end.
pub fn conclude_tables(scene: &Scene<'_>, status: &mut RestoreStatus, rest: &str) -> Says {
    status.step = None;
    status.completed_at = Some(Time(scene.seen.now));
    let verdict = result(status);
    Says::Ended(Verdict { message: format!("{}{rest}", verdict.message), ..verdict })
}

/// What came of a restore in place, from what the status has.
#[must_use]
pub fn result(status: &RestoreStatus) -> Verdict {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let seconds = |what: &str, it: Option<i32>| it.map(|seconds| format!("{what} {seconds} s")).unwrap_or_default();
    let away = seconds("; the API was away for", status.downtime_seconds);
    let of_that = seconds(", of which the databases took", status.swap_seconds);
    let size = status.replaced_size.as_ref().map(|size| format!(" ({size})")).unwrap_or_default();
    let artifact = text(&status.artifact_id);
    if status.database.is_none() {
        let count = |number: Option<i32>| number.map_or_else(|| "all".to_owned(), |number| number.to_string());
        let rows = status.rows.map(|rows| format!(" ({rows} rows)")).unwrap_or_default();
        let tables = count(status.tables);
        let message = format!("{tables} tables are as in backup {artifact}{rows}{away}{of_that}");
        return Verdict::new(true, reasons::RESTORED, message);
    }
    let kept = status.replaced_database.as_ref();
    if status.undo {
        let kept = kept.map(|name| format!("; what was restored is kept as {name}")).unwrap_or_default();
        let message =
            format!("the database that was live before the restore of {artifact} is live again{away}{of_that}{kept}");
        return Verdict::new(true, reasons::UNDONE, message);
    }
    let (database, counted) = (text(&status.database), counted(status));
    let kept = kept.map_or("; what it replaced was dropped".to_owned(), |name| {
        format!("; what it replaced is kept as {name}{size}")
    });
    let message = format!("{artifact} is live as {database}{counted}{away}{of_that}{kept}");
    Verdict::new(true, reasons::RESTORED, message)
}

fn annotate(plan: &Plan, annotation: &str) -> String {
    format!("kubectl annotate restore -n {} {} {annotation}=$(date +%s) --overwrite", plan.namespace, plan.name)
}

/// The command that asks for an undo.
#[must_use]
pub fn how_to_undo(plan: &Plan) -> String {
    annotate(plan, annotations::UNDO_REQUESTED_AT)
}

/// The command that asks for another try.
#[must_use]
pub fn how_to_retry(plan: &Plan) -> String {
    annotate(plan, annotations::RETRY_REQUESTED_AT)
}

/// Does what was asked for by annotation, once. Returns whether the databases are to change places again.
pub fn heed(scene: &Scene<'_>, status: &mut RestoreStatus) -> bool {
    let asked = |name| token(&scene.seen.object, name);
    let handled = status.last_handled.clone().unwrap_or_default();
    let mut begins = false;
    if let Some(token) =
        asked(annotations::RETRY_REQUESTED_AT).filter(|it| handled.retry_requested_at.as_ref() != Some(it))
    {
        status.last_handled.get_or_insert_default().retry_requested_at = Some(token);
        if status.step == Some(RestoreStep::Start) && status.failure.is_some() {
            begins = true;
        }
    }
    if let Some(token) =
        asked(annotations::UNDO_REQUESTED_AT).filter(|it| handled.undo_requested_at.as_ref() != Some(it))
    {
        let refused = refuse_undo(scene, status);
        begins = begins || refused.is_none();
        status.undo = status.undo || refused.is_none();
        let told = RestoreHandled {
            undo_requested_at: Some(token),
            undo_refused: refused,
            ..status.last_handled.take().unwrap_or_default()
        };
        status.last_handled = Some(told);
    }
    if begins {
        status.completed_at = None;
        status.step = Some(RestoreStep::Migrate);
        status.round = Some(status.round.unwrap_or(1) + 1);
        status.failure = None;
    }
    begins
}

/// Why an undo that is asked for now is not made.
fn refuse_undo(scene: &Scene<'_>, status: &RestoreStatus) -> Option<String> {
    let Scene { seen, plan } = *scene;
    if !plan.tables.is_empty() {
        let before = status.pre_restore_backup.as_ref().and_then(|asked| asked.id.as_deref());
        let before = before.map(|id| format!(": bring them back from {id}, which was made before")).unwrap_or_default();
        return Some(format!("tables are not kept{before}"));
    }
    let ended = status.completed_at.is_some();
    if status.undo {
        return Some("it is undone, or is being undone".to_owned());
    }
    if ended && status.replaced_database.is_none() {
        return Some("the database that was replaced is dropped".to_owned());
    }
    if ended && let Some(other) = seen.around.others.first() {
        return Some(format!("Restore {} is under way in place: wait for its end, or delete it", other.name));
    }
    if ended && seen.live().is_some_and(|live| Some(live) != status.incarnation.as_ref()) {
        return Some("what this Restore brought is not live any more: another one has replaced it".to_owned());
    }
    if drop_due(&seen.object.spec, status).is_some_and(|due| due <= seen.now) {
        return Some("the time of the database that was replaced is over, and it is being dropped".to_owned());
    }
    let starts = status.step == Some(RestoreStep::Start) && live::is_beyond(status);
    if !ended && !starts {
        return Some("the database is not replaced yet: delete the Restore to give it up".to_owned());
    }
    None
}

/// When the kept database is to be dropped.
#[must_use]
pub fn drop_due(spec: &RestoreSpec, status: &RestoreStatus) -> Option<Timestamp> {
    let seconds = spec.replaced_database_retention_seconds?;
    status.replaced_database.as_ref()?;
    Some(status.completed_at.as_ref()?.0 + SignedDuration::from_secs(i64::from(seconds)))
}

/// Drops the kept database when its time is over.
pub fn expire(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let Scene { seen, .. } = *scene;
    let result = |status: &RestoreStatus| result(status);
    if drop_due(&seen.object.spec, status).is_none_or(|due| due > seen.now) {
        return Says::Ended(result(status));
    }
    let kept = |status: &RestoreStatus, why: &str| {
        let verdict = result(status);
        Verdict { message: format!("{}, though its time is over: {why}", verdict.message), ..verdict }
    };
    match progress(scene, Task::Drop, "drops the kept database", |_| true, |_| true) {
        Progress::Start { attempt, failure } => {
            let verdict = failure.map_or_else(|| result(status), |why| kept(status, &why));
            Says::Start(Task::Drop, attempt, verdict)
        }
        Progress::Running { .. } => Says::Ended(result(status)),
        Progress::Pause { failure } => Says::Ended(kept(status, &failure)),
        Progress::Refused { message, .. } => Says::Ended(kept(status, &message)),
        Progress::Succeeded(_) => {
            (status.replaced_database, status.replaced_bytes, status.replaced_size) = (None, None, None);
            Says::Ended(result(status))
        }
    }
}
