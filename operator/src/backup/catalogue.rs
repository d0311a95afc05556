//! The catalogue in the status: what an agent told of it, and when it must be read again. Plain.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::backup::{
    ArtifactStatus, BackupReason, BackupStatus, CatalogueStatus, RunResult, RunTask, VerificationStatus,
};
use odoo_ai_crds::stack::OdooAiStack;

use super::model::Policy;
use crate::cluster::intent::hash;
use crate::rollout::jobs::{CatalogueReport, VerifiedReport};

/// A Job that the controller of `CronJob`s made is in the caches by then.
const MOMENT: SignedDuration = SignedDuration::from_mins(1);

/// Digest of where a policy's backups are, for the Jobs that tell of it.
#[must_use]
pub fn digest(policy: &Policy) -> String {
    hash(&serde_json::json!([policy.storage.location(), policy.namespace, policy.stack.name]))[..16].to_owned()
}

/// Something may be there that the status doesn't tell.
pub fn mark_stale(status: &mut BackupStatus, since: Timestamp) {
    let catalogue = status.catalogue.get_or_insert_default();
    catalogue.stale_since.get_or_insert(Time(since));
}

/// What is known is of this place; of another one nothing is.
pub fn settle(status: &mut BackupStatus, location: &str, now: Timestamp) {
    if status.catalogue.as_ref().is_some_and(|known| known.location == location) {
        return;
    }
    (status.last_success, status.last_verified) = (None, None);
    status.artifacts.clear();
    let (location, stale_since) = (location.to_owned(), Some(Time(now)));
    status.catalogue = Some(CatalogueStatus { location, stale_since, ..CatalogueStatus::default() });
}

/// A run was started by its schedule and left nothing here: the operator was away for so long that its Job is gone.
pub fn look_for_unseen(status: &mut BackupStatus, scheduled: Option<Timestamp>, now: Timestamp) {
    let Some(scheduled) = scheduled.filter(|scheduled| scheduled.duration_until(now) > MOMENT) else { return };
    let read = status.catalogue.as_ref().and_then(|it| it.read_at.as_ref()).map(|time| time.0);
    let is_after = |time: Option<&Time>| time.is_some_and(|time| time.0 >= scheduled);
    let seen = status.runs.iter().any(|run| run.task == RunTask::Backup && is_after(run.started_at.as_ref()));
    if !seen && read.is_some_and(|read| read < scheduled) {
        mark_stale(status, now);
    }
}

/// A database that began with a backup may have taken the catalogue over since it was read.
pub fn look_for_another_owner(status: &mut BackupStatus, stack: Option<&OdooAiStack>) {
    let database = stack.and_then(|stack| stack.status.as_ref()?.database.as_ref());
    let begun = database.and_then(|it| it.bootstrap.as_ref()).filter(|it| it.restored);
    let Some(begun) = begun.and_then(|it| it.completed_at.as_ref()).map(|time| time.0) else { return };
    let read = status.catalogue.as_ref().and_then(|it| it.read_at.as_ref()).map(|time| time.0);
    if read.is_some_and(|read| read < begun) {
        mark_stale(status, begun);
    }
}

/// Takes what an agent that ended at `at` told: it is all there is.
pub fn take(status: &mut BackupStatus, told: &CatalogueReport, at: Timestamp) {
    let catalogue = status.catalogue.get_or_insert_default();
    if catalogue.read_at.as_ref().is_some_and(|read| read.0 > at) {
        return;
    }
    catalogue.owner.clone_from(&told.owner);
    (catalogue.total, catalogue.bytes, catalogue.damaged) = (told.total, told.bytes, told.damaged);
    catalogue.read_at = Some(Time(at));
    if catalogue.stale_since.as_ref().is_some_and(|since| since.0 <= at) {
        catalogue.stale_since = None;
    }
    let answered: BTreeMap<_, _> =
        status.artifacts.drain(..).filter_map(|known| Some((known.id, known.request_id?))).collect();
    status.artifacts = told.artifacts.iter().map(|it| artifact(it, told, &answered)).collect();
    status.last_success = status.artifacts.first().cloned();
    status.last_verified = told.verified.as_ref().map(verification);
    settle_runs(status);
}

/// A run that left no word, and a manifest, was none that failed.
fn settle_runs(status: &mut BackupStatus) {
    let artifacts = &status.artifacts;
    let mut found = false;
    for run in &mut status.runs {
        let is_its = |artifact: &&ArtifactStatus| match (&run.request_id, &artifact.request_id) {
            (Some(wanted), Some(answered)) => wanted == answered,
            (None, None) => {
                run.started_at <= artifact.completed_at
                    && artifact.completed_at <= run.completed_at
                    && artifact.reason == run.reason
            }
            _ => false,
        };
        let unclear = run.task == RunTask::Backup && run.result == RunResult::Failed && !run.refused;
        let made = artifacts.iter().find(is_its).filter(|_| unclear).map(|it| it.id.clone());
        if let Some(id) = made {
            run.result = RunResult::Succeeded;
            run.failure = None;
            run.message = Some(format!("backup {id}; its Job did not tell, the catalogue has it"));
            found = true;
        }
    }
    if found {
        let failed = status.runs.iter().filter(|run| run.task == RunTask::Backup);
        let failed = failed.take_while(|run| run.result != RunResult::Succeeded);
        status.consecutive_failures = failed.filter(|run| run.result == RunResult::Failed).map(|_| 1).sum();
    }
}

fn artifact(
    told: &(String, char, i64, i64, u8, usize, usize),
    catalogue: &CatalogueReport,
    answered: &BTreeMap<String, String>,
) -> ArtifactStatus {
    let (id, letter, completed, bytes, verified, schema, incarnation) = told;
    ArtifactStatus {
        id: id.clone(),
        request_id: catalogue.requests.get(id).or_else(|| answered.get(id)).cloned(),
        reason: match letter {
            'R' => BackupReason::Requested,
            'M' => BackupReason::PreMigration,
            'P' => BackupReason::PreRestore,
            _ => BackupReason::Scheduled,
        },
        completed_at: Timestamp::from_second(*completed).ok().map(Time),
        incarnation: catalogue.incarnations.get(*incarnation).cloned(),
        alembic_revision: catalogue.schemas.get(*schema).cloned(),
        bytes: Some(*bytes),
        size: Some(size(*bytes)),
        verified: *verified == 1,
    }
}

fn verification(told: &VerifiedReport) -> VerificationStatus {
    VerificationStatus {
        id: told.id.clone(),
        completed_at: told.completed_at.map(Time),
        restore_seconds: Some(told.restore_seconds),
    }
}

/// Bytes for people: `1.2GiB`.
#[must_use]
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let tenths = i128::from(bytes) * 10;
    let unit = (1..UNITS.len()).take_while(|unit| tenths >> (10 * unit) >= 10).count();
    let tenths = tenths >> (10 * unit);
    if unit == 0 { format!("{bytes}B") } else { format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0B")]
    #[case(1023, "1023B")]
    #[case(1536, "1.5KiB")]
    #[case(1_288_490_189, "1.2GiB")]
    #[case(i64::MAX, "8388607.9TiB")]
    fn sizes(#[case] bytes: i64, #[case] text: &str) {
        assert_eq!(size(bytes), text);
    }
}
