//! The status before anything is done: the intent to bring in a revision, what its Job reported, and
//! the history of revisions.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{
    DatabaseStatus, EnumLabels, HistoryImage, LastMigration, MigrationPlan, OdooAiStackStatus, PendingMigration,
    RevisionHistory, RevisionResult, RolloutStatus, Step, UnreadableRows,
};

use super::gates::{Gate, Volume};
use super::jobs::{Report, UnreadableReport};
use super::steps::Position;
use super::{bootstrap, steps, watch};
use crate::component::Component;
use crate::stack::model::Stack;

/// The status with the intent to bring in `target`, which is that of the spec; `None` while something else is
/// put back.
#[must_use]
pub fn intend(
    mut status: OdooAiStackStatus,
    stack: &Stack,
    wanted: &str,
    target: Option<&String>,
    now: Timestamp,
) -> OdooAiStackStatus {
    status.update_revision = Some(wanted.to_owned());
    let Some(target) = target.map(String::as_str) else { return status };
    for entry in &mut status.history {
        if entry.result == Some(RevisionResult::InProgress) && entry.revision != target {
            entry.result = Some(RevisionResult::Superseded);
            entry.completed_at = Some(Time(now));
        }
    }
    let rolling = status.rollout.as_ref().and_then(|rollout| rollout.revision.as_deref()) == Some(target);
    if status.current_revision.as_deref() == Some(target) {
        status.rollout = None;
    } else if !rolling {
        status.rollout = Some(RolloutStatus {
            revision: Some(target.to_owned()),
            started_at: Some(Time(now)),
            ..RolloutStatus::default()
        });
        begin(&mut status, stack, target, now);
    }
    trim(&mut status, usize::try_from(stack.rollout.history_limit).unwrap_or(1));
    status
}

/// Where the rollout stands now, and until when its step may take. The watch goes on while a component of it
/// stumbles: those are its bad samples.
pub fn advance(status: &mut OdooAiStackStatus, position: &Position, stack: &Stack, now: Timestamp) {
    // The rules gate is for the first install: whatever let it pass, it never comes again.
    if position.step.is_none_or(|step| step > Step::RulesGate) {
        status.rules.get_or_insert_default().seeded_disabled = true;
    }
    // A rollout that is done goes with the next write.
    let (Some(rollout), Some(_)) = (&mut status.rollout, position.step) else { return };
    let stumbles = rollout.step == Some(Step::Watch) && position.step.is_some_and(watch::is_watched);
    let step = if stumbles { Some(Step::Watch) } else { position.step };
    if step != rollout.step {
        rollout.step = step;
        rollout.samples = 0;
        rollout.failed_samples = 0;
        rollout.bad_sample = None;
        rollout.last_sample_at = None;
        rollout.interrupted_at = None;
        let limit = SignedDuration::from_secs(i64::from(stack.rollout.progress_deadline));
        rollout.deadline = step.filter(|step| steps::has_deadline(*step)).map(|_| Time(now + limit));
    }
    let pulling = matches!(&position.gate, Gate::Wait { reason, .. } if reason == reasons::IMAGE_PULL_FAILED);
    match (&rollout.pull_failing_since, pulling) {
        (None, true) => rollout.pull_failing_since = Some(Time(now)),
        (Some(_), false) => rollout.pull_failing_since = None,
        _ => {}
    }
}

/// The target's entry moves to the front, anew where it has none.
fn begin(status: &mut OdooAiStackStatus, stack: &Stack, target: &str, now: Timestamp) {
    let known = status.history.iter().position(|entry| entry.revision == target);
    let mut entry = match known {
        Some(index) => status.history.remove(index),
        None => entry(stack, target, &status.history),
    };
    entry.result = Some(RevisionResult::InProgress);
    entry.started_at = Some(Time(now));
    entry.completed_at = None;
    status.history.insert(0, entry);
}

/// A new history entry. An image that was seen before needs no Job to tell its schema.
fn entry(stack: &Stack, target: &str, history: &[RevisionHistory]) -> RevisionHistory {
    let images = [(Component::AiService, &stack.images.ai_service), (Component::Dashboard, &stack.images.dashboard)];
    let image = |old: &RevisionHistory| {
        old.images.iter().any(|it| it.name == Component::AiService && it.image == stack.images.ai_service)
    };
    let same_image = history.iter().find(|old| !old.schema_heads.is_empty() && image(old));
    RevisionHistory {
        revision: target.to_owned(),
        images: images
            .into_iter()
            .map(|(name, image)| HistoryImage { name, image: image.clone(), ..HistoryImage::default() })
            .collect(),
        schema_heads: same_image.map(|old| old.schema_heads.clone()).unwrap_or_default(),
        known_revisions: same_image.map(|old| old.known_revisions.clone()).unwrap_or_default(),
        additive: same_image.map(|old| old.additive.clone()).unwrap_or_default(),
        enum_labels: same_image.map(|old| old.enum_labels.clone()).unwrap_or_default(),
        ..RevisionHistory::default()
    }
}

/// Beyond the limit, but never the current, the new, the failed revision or one that a component runs.
fn trim(status: &mut OdooAiStackStatus, limit: usize) {
    let kept: Vec<String> = [&status.current_revision, &status.update_revision, &status.failed_revision]
        .into_iter()
        .flatten()
        .chain(status.components.iter().filter_map(|component| component.revision.as_ref()))
        .cloned()
        .collect();
    let mut count = 0;
    status.history.retain(|entry| {
        count += 1;
        count <= limit || kept.contains(&entry.revision)
    });
}

/// What is known of a database goes with its volume.
pub fn notice_volume(status: &mut OdooAiStackStatus, stack: &Stack, volume: &Volume) {
    let known = status.database.as_ref().and_then(|database| database.volume_uid.as_ref());
    let replaced = matches!((known, &volume.uid), (Some(known), Some(uid)) if known != uid);
    if replaced {
        let on_it = |known: &String| volume.claim.as_ref().is_some_and(|claim| bootstrap::is_on(known, claim));
        let same = known.is_some_and(on_it) || stack.database.managed().is_none();
        let old = status.database.take().unwrap_or_default();
        status.database = Some(DatabaseStatus {
            credentials_generation: old.credentials_generation,
            // What was restored in place, or at first, was on the other volume.
            restore: old.restore.filter(|_| same),
            bootstrap: old.bootstrap.or_else(|| bootstrap::replaced(stack, volume)).filter(|_| same),
            ..DatabaseStatus::default()
        });
        for entry in &mut status.history {
            entry.rules_empty = None;
        }
        if let Some(rollout) = &mut status.rollout {
            // It was of the other database.
            rollout.plan = None;
        }
        status.rules.get_or_insert_default().seeded_disabled = false;
    }
}

/// What the plan Job of `target` reported about the database on `volume`.
pub fn planned(status: &mut OdooAiStackStatus, target: &str, report: Report, volume: &Volume) {
    let plan = report.plan.unwrap_or_default();
    let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == target) else { return };
    entry.schema_heads = report.schema.heads;
    entry.known_revisions = report.schema.known;
    entry.enum_labels = labels(report.enum_labels);
    entry.additive = plan.pending.iter().filter(|it| it.additive).map(|it| it.revision.clone()).collect();
    let pending = plan.pending.into_iter().map(|it| PendingMigration {
        revision: it.revision,
        additive: it.additive,
        reason: it.why.chars().take(500).collect(),
    });
    if let Some(rollout) = status.rollout.as_mut().filter(|rollout| rollout.revision.as_deref() == Some(target)) {
        rollout.plan = Some(MigrationPlan {
            needed: plan.needed,
            stamp: plan.stamp,
            pending: pending.collect(),
            missing_labels: labels(plan.missing_labels),
            bootstrap: plan.bootstrap,
            unreadable: plan.unreadable.into_iter().take(8).map(unreadable).collect(),
            labels_unknown: plan.labels_unknown.map(|why| why.chars().take(500).collect()),
        });
    }
    let old = status.database.take().unwrap_or_default();
    status.database = Some(DatabaseStatus {
        schema_revision: Some(report.schema.current.join(",")),
        incarnation: report.incarnation.or(old.incarnation),
        volume_uid: volume.uid.clone(),
        size_bytes: report.database_bytes.or(old.size_bytes),
        ..old
    });
}

/// The head that the image of `target` needs, where a Job has told it.
pub fn note_head(status: &mut OdooAiStackStatus, target: &str) {
    let entry = status.history.iter().find(|entry| entry.revision == target);
    let heads = entry.map(|entry| entry.schema_heads.join(",")).filter(|heads| !heads.is_empty());
    if let Some(database) = &mut status.database {
        database.schema_head = heads;
    }
}

fn unreadable(it: UnreadableReport) -> UnreadableRows {
    UnreadableRows { table: it.table, column: it.column, label: it.label, rows: it.rows }
}

fn labels(by_type: BTreeMap<String, Vec<String>>) -> Vec<EnumLabels> {
    by_type.into_iter().map(|(name, labels)| EnumLabels { kind: name, labels }).collect()
}

/// What the migrate Job of `target` reported about the database on `volume`.
pub fn record(status: &mut OdooAiStackStatus, target: &str, report: Report, volume: &Volume, now: Timestamp) {
    let Some(entry) = status.history.iter_mut().find(|entry| entry.revision == target) else { return };
    entry.schema_heads = report.schema.heads;
    entry.known_revisions = report.schema.known;
    if !report.enum_labels.is_empty() {
        entry.enum_labels = labels(report.enum_labels);
    }
    entry.rules_empty = Some(report.rules_empty);
    if let Some(plan) = status.rollout.as_mut().and_then(|rollout| rollout.plan.as_mut()) {
        plan.needed = false;
    }
    let old = status.database.take().unwrap_or_default();
    let last = LastMigration {
        revision: target.to_owned(),
        reason: report.reason,
        message: report.message,
        completed_at: Some(Time(now)),
        backup: old.pre_migration_backup.filter(|made| made.revision == target).and_then(|made| made.id),
        drift: report.drift.iter().take(16).map(|line| line.chars().take(500).collect()).collect(),
    };
    status.database = Some(DatabaseStatus {
        last_migration: Some(last),
        schema_revision: Some(report.schema.current.join(",")),
        incarnation: report.incarnation.or(old.incarnation),
        volume_uid: volume.uid.clone(),
        size_bytes: report.database_bytes.or(old.size_bytes),
        credentials_generation: old.credentials_generation,
        restore: old.restore,
        bootstrap: old.bootstrap,
        ..DatabaseStatus::default()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_never_grows_beyond_its_limit_and_keeps_what_runs() {
        let entry = |revision: &str| RevisionHistory { revision: revision.to_owned(), ..RevisionHistory::default() };
        let mut status = OdooAiStackStatus {
            current_revision: Some("r9".to_owned()),
            history: (0..100).map(|number| entry(&format!("r{number}"))).collect(),
            ..OdooAiStackStatus::default()
        };
        trim(&mut status, 3);
        let left: Vec<_> = status.history.iter().map(|entry| entry.revision.as_str()).collect();
        assert_eq!(left, ["r0", "r1", "r2", "r9"]);
    }
}
