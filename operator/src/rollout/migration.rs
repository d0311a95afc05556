//! The steps Plan and Migration: `agent plan` says what a migration would do, `agent migrate` does it.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::{Mode, RevisionHistory};

use super::gates::{Gate, View, Volume};
use super::jobs::{self, Progress, Report, Work};
use super::revision;
use super::{backup, guard};
use crate::cluster::children::Children;
use crate::cluster::intent::Key;
use crate::component::Component;
use crate::labels;
use crate::stack::build::job::{self, SchemaJob};
use crate::stack::model::Stack;

/// Reads the target's Jobs of this rollout for the database that its volume stands for; other databases',
/// other stacks' and earlier rollouts' results say nothing about it.
#[must_use]
pub fn progress(kind: SchemaJob, view: &View<'_>) -> Progress {
    let View { stack, children, .. } = *view;
    let volume = view.volume.uid.as_deref().unwrap_or_default();
    let prefix = stack.child(&kind.prefix(view.target));
    let does = match kind {
        SchemaJob::Plan => "looks what the migration would do",
        SchemaJob::Migrate => "prepares the schema",
    };
    let limit = format!("migrations.timeoutSeconds: {}", stack.migration_timeout);
    let work = Work { prefix: &prefix, component: kind.component(), does, limit: &limit };
    let rollout = view.rollout();
    let about = |job: &Job| is_about(job, stack, volume) && note(job, annotations::ROLLOUT_STARTED_AT) == rollout;
    let complete =
        |report: &Report| !report.schema.heads.is_empty() && (kind == SchemaJob::Migrate || report.plan.is_some());
    let told = |job: &Job| {
        kind == SchemaJob::Plan || note(job, annotations::MIGRATION_BACKUP) == job::told(stack, backup::made(view))
    };
    jobs::progress(work, children, about, complete, told, view.now)
}

/// Where the database stands, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Not known, of another volume, or behind what the target's image needs.
    Behind,
    /// At the head of the target's image.
    AtHead,
    /// At a revision that the target's image doesn't know.
    Beyond,
}

/// Where the database stands in the eyes of the target's image.
#[must_use]
pub fn schema(view: &View<'_>) -> Schema {
    let Some(entry) = view.entry().filter(|entry| !entry.schema_heads.is_empty()) else { return Schema::Behind };
    let Some(database) = view.status.database.as_ref() else { return Schema::Behind };
    let same = database.volume_uid.is_some() && database.volume_uid == view.volume.uid;
    let at = guard::revisions(database);
    let heads: BTreeSet<&str> = entry.schema_heads.iter().map(String::as_str).collect();
    let needed = view.plan().is_some_and(|plan| plan.needed);
    if !same || needed || at.is_empty() {
        Schema::Behind
    } else if at == heads {
        Schema::AtHead
    } else if at.iter().any(|it| guard::is_unknown(entry, it)) {
        Schema::Beyond
    } else {
        Schema::Behind
    }
}

/// The target's image can work with this very database: it is at the image's head or, for an older image
/// that the guard lets pass, beyond it.
#[must_use]
pub fn migrated(view: &View<'_>) -> bool {
    match schema(view) {
        Schema::AtHead => true,
        Schema::Beyond => !view.back && runs_already(view) || newer_schema(view).is_ok(),
        Schema::Behind => false,
    }
}

/// What runs has shown that its image works with the database.
fn runs_already(view: &View<'_>) -> bool {
    let image = |entry: &RevisionHistory| {
        entry.images.iter().find(|it| it.name == Component::AiService).map(|it| it.image.clone())
    };
    let current = view.status.history.iter().find(|it| Some(&it.revision) == view.status.current_revision.as_ref());
    view.is_current() || current.is_some_and(|current| image(current) == view.entry().and_then(image))
}

fn newer_schema(view: &View<'_>) -> Result<(), String> {
    let (Some(entry), Some(database)) = (view.entry(), view.status.database.as_ref()) else {
        return Err("it isn't known yet what the image needs".to_owned());
    };
    let listed = &view.stack.backward_compatible;
    guard::newer_schema(entry, database, &view.status.history, listed, view.plan())
}

/// What the migration would do is known, and nothing in it speaks against the image. On a first install
/// nobody is asked and there is nothing to go back to, so the migrate Job finds out by itself; where no new
/// revision comes too.
#[must_use]
pub fn plan(view: &View<'_>) -> Gate {
    let unasked = view.stack.migration_policy == Mode::Automatic && view.stack.backward_compatible.is_empty();
    // After a restore in place it is looked at before anything changes it.
    let database = view.status.database.as_ref();
    let unknown = database.is_some_and(|it| it.restore.is_some() && it.schema_revision.is_none());
    if migrated(view) || view.is_current() && !view.back && !unknown || view.is_first() && unasked {
        return Gate::Open;
    }
    if view.plan().is_none() {
        return schema_job(view.progress(SchemaJob::Plan), reasons::PLANNING, reasons::PLAN_FAILED);
    }
    match newer_schema(view) {
        Err(why) if schema(view) == Schema::Beyond => {
            let (back, forward) = (reasons::ROLLBACK_BLOCKED_BY_SCHEMA, reasons::SCHEMA_NEWER_THAN_IMAGE);
            let reason = if view.back { back } else { forward };
            Gate::blocked(reason, format!("{why}; to look again: {}", look_again(view)))
        }
        _ => backup::unusable(view).map_or(Gate::Open, |why| Gate::blocked(reasons::BACKUP_NOT_CONFIGURED, why)),
    }
}

fn look_again(view: &View<'_>) -> String {
    let (component, revision) = (SchemaJob::Plan.component(), view.target);
    let (by_component, by_revision) = (labels::COMPONENT, labels::REVISION);
    format!("kubectl delete job -n {} -l {by_component}={component},{by_revision}={revision}", view.stack.namespace)
}

/// The schema is what the target's image needs, as its Job found or made it.
#[must_use]
pub fn gate(view: &View<'_>) -> Gate {
    if migrated(view) {
        return Gate::Open;
    }
    schema_job(view.progress(SchemaJob::Migrate), reasons::MIGRATING, reasons::MIGRATION_FAILED)
}

fn schema_job(progress: Progress, routine: &str, failed: &str) -> Gate {
    match progress {
        Progress::Succeeded(_) => Gate::wait(routine, "the Job's result is recorded"),
        Progress::Start { failure: None, .. } => Gate::wait(routine, "the Job is started"),
        Progress::Running { trouble, message, .. } => Gate::wait(trouble.unwrap_or(routine), message),
        Progress::Start { failure: Some(message), .. } | Progress::Pause { failure: message } => {
            Gate::wait(failed, message)
        }
        Progress::Refused { reason, message } if FAILED.contains(&reason.as_str()) => Gate::Failed { reason, message },
        Progress::Refused { reason, message } => Gate::Blocked { reason, message },
    }
}

/// Refusals of the agent that are the image's own fault: another image may do better.
const FAILED: [&str; 2] = [reasons::MIGRATION_FAILED, "MigrationIncomplete"];

/// Unfinished Jobs of other revisions or volumes: they would look at the schema for what nobody wants any more, or make one
/// on a volume that they know nothing of.
#[must_use]
pub fn obsolete(stack: &Stack, children: &Children, revision: &str, volume: &Volume) -> Vec<(Key, String)> {
    let here = |job: &Job| volume.uid.as_deref().is_none_or(|uid| about(job) == Some(uid));
    let wanted = |_: &str, job: &Job| revision::label(&job.metadata) == Some(revision) && here(job);
    SchemaJob::ALL.into_iter().flat_map(|kind| jobs::obsolete(stack, children, kind.component(), wanted)).collect()
}

/// Jobs that may still change the database, those that are being deleted included.
pub fn unfinished(children: &Children) -> impl Iterator<Item = (&String, &Job)> {
    jobs::unfinished(children, SchemaJob::Migrate.component())
}

/// An annotation of a Job.
fn note<'a>(job: &'a Job, name: &str) -> &'a str {
    let annotations = job.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(name)).map(String::as_str).unwrap_or_default()
}

/// The database that a Job is about.
fn about(job: &Job) -> Option<&str> {
    job.metadata.labels.as_ref()?.get(labels::VOLUME).map(String::as_str)
}

fn is_about(job: &Job, stack: &Stack, volume: &str) -> bool {
    jobs::is_owned(job, stack) && about(job) == Some(volume)
}
