//! The steps of a restore in place after the new database is there: it is migrated, the application stops, the two
//! databases change names, the application starts. The way back is the same with the databases exchanged.
//!
//! Which of the two is live afterwards is not concluded from how a Job ended: a Job of the stack looks.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::restore::{RestoreFailure, RestoreStatus, RestoreStep};
use odoo_ai_crds::stack::{FailureOutcome, OdooAiStackStatus, Step};

use super::build::Task;
use super::ended;
use super::observe::Observed;
use super::steps::{Says, Scene, progress};
use crate::backup::build::Task as BackupTask;
use crate::backup::catalogue::size;
use crate::cluster::children::Children;
use crate::cluster::status::{Tri, Verdict};
use crate::component::{Component, ComponentExt};
use crate::rollout::jobs::{self, Progress, Report};
use crate::rollout::{migration, revision, workload};
use crate::stack::restoring::{self, WRITERS, is_gone, is_told_to_stop};

/// So long the application stays stopped while no Job can be made.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// What is said then.
const OVERDUE: &str = "no Job could be made, or none told what it did, for 5 minutes: see the operator's log, quotas and admission policies of the namespace";

/// The database that is to be live is migrated, and nothing is in the way of stopping the application.
pub fn migrate(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let Some(current) = &scene.seen.around.current else {
        return Says::wait(reasons::WAITING_FOR_ROLLOUT, "no revision of the stack runs yet");
    };
    if let Some(why) = another_is_live(scene, status) {
        return Says::stalled(reasons::CONFIRMATION_MISMATCH, why);
    }
    let about = |job: &Job| revision::label(&job.metadata) == Some(&current.revision);
    let told = progress(scene, Task::Migrate, "prepares the schema", about, |report| !report.schema.heads.is_empty());
    let unknown = |reason, message: String| Verdict::new(Tri::Unknown, reason, message);
    match told {
        Progress::Start { attempt, failure } => {
            let message = match failure {
                None => format!("a Job with the image of revision {} prepares the schema", current.revision),
                Some(failure) => format!("it is tried again: {failure}"),
            };
            Says::Start(Task::Migrate, attempt, unknown(reasons::MIGRATING, message))
        }
        Progress::Running { trouble, message, .. } => Says::wait(trouble.unwrap_or(reasons::MIGRATING), message),
        Progress::Pause { failure } => Says::wait(reasons::MIGRATION_FAILED, format!("{failure}; it is tried again")),
        // It was live with this very image before.
        Progress::Refused { reason, .. }
            if status.undo
                && reason == reasons::SCHEMA_NEWER_THAN_IMAGE
                && status.revision.as_ref() == Some(&current.revision) =>
        {
            ready(scene, status)
        }
        Progress::Refused { reason, message } => Says::stalled(&reason, message),
        Progress::Succeeded(report) if !is_the_one(status, &report) => {
            let message = "the database that is to be live again is gone: there is another one under its name";
            Says::stalled(reasons::CONFIRMATION_MISMATCH, message)
        }
        Progress::Succeeded(report) => {
            status.revision = Some(current.revision.clone());
            if !status.undo {
                status.incarnation = report.incarnation;
                status.alembic_revision = Some(report.schema.current.join(",")).filter(|it| !it.is_empty());
            }
            ready(scene, status)
        }
    }
}

/// In an undo it must be the database that was replaced.
fn is_the_one(status: &RestoreStatus, report: &Report) -> bool {
    !status.undo || report.incarnation == status.replaced_incarnation
}

/// It may go on, once nothing is in the way.
fn ready(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    if let Some((reason, message)) = in_the_way(scene) {
        return Says::wait(reason, message);
    }
    (status.stopped_at, status.drained_at, status.swapped_at) = (None, None, None);
    (status.downtime_seconds, status.swap_seconds, status.failure) = (None, None, None);
    Says::Done
}

/// Why it is not what was meant to be replaced that is live now.
fn another_is_live(scene: &Scene<'_>, status: &RestoreStatus) -> Option<String> {
    let live = scene.seen.live()?;
    let meant = if status.undo { &status.incarnation } else { &status.replaced_incarnation };
    let meant = meant.as_ref().filter(|meant| *meant != live)?;
    Some(format!(
        "the live database is {live} now, and {meant} was to be replaced: another restore came in between. Delete this one; nothing of it is live"
    ))
}

/// What must end before the application is stopped.
fn in_the_way(scene: &Scene<'_>) -> Option<(&'static str, String)> {
    let seen = scene.seen;
    let name = &scene.plan.stack.name;
    if seen.stack.as_ref().is_some_and(|stack| stack.spec.suspend) {
        let message = format!("the OdooAiStack {name} is suspended, so nobody would stop the application");
        return Some((reasons::SUSPENDED, message));
    }
    if let Some(other) = seen.around.others.iter().find(|other| other.interrupts || other.older) {
        return Some((reasons::WAITING_FOR_RESTORE, other.is_waited_for()));
    }
    let stack = stack_status(seen)?;
    if let Some(why) = stays(stack) {
        return Some((reasons::WAITING_FOR_ROLLOUT, why));
    }
    let rollout = stack.rollout.as_ref().filter(|rollout| rollout.step.is_some_and(|step| step > Step::Approval));
    if let Some(rollout) = rollout {
        let target = rollout.revision.as_deref().unwrap_or_default();
        return Some((
            reasons::WAITING_FOR_ROLLOUT,
            format!("the end of the rollout of revision {target} is waited for"),
        ));
    }
    at_work(&seen.around.children)
}

/// What serves is only what is left of a revision that failed: stopped, it would not come back.
#[must_use]
pub fn stays(stack: &OdooAiStackStatus) -> Option<String> {
    let failure = stack.failure.as_ref()?;
    let left = matches!(failure.outcome, FailureOutcome::Left | FailureOutcome::RollbackFailed);
    left.then(|| {
        format!(
            "revision {} failed and nothing was put back, so the application might not start again: roll back or change the spec first, as the stack says",
            failure.revision
        )
    })
}

/// A Job that holds the database, and would let the application wait for it.
fn at_work(children: &Children) -> Option<(&'static str, String)> {
    let backup = jobs::unfinished(children, BackupTask::Backup.component()).map(|it| (reasons::WAITING_FOR_BACKUP, it));
    let migrate = migration::unfinished(children).map(|it| (reasons::WAITING_FOR_ROLLOUT, it));
    let (reason, (job, _)) = backup.chain(migrate).next()?;
    Some((reason, format!("Job {job} works on the database; its end is waited for")))
}

/// Nobody writes any more. The stack's controller stops the application as long as this is the step.
pub fn drain(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let children = &scene.seen.around.children;
    let stack = &scene.plan.stack;
    if status.stopped_at.is_none() && is_told_to_stop(children, stack, Component::AiService) {
        status.stopped_at = Some(Time(scene.seen.now));
    }
    if let Some(component) = WRITERS.into_iter().find(|component| !is_gone(children, stack, *component)) {
        let pods: Vec<_> =
            restoring::pods_left(children, component).filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let who = if pods.is_empty() { String::new() } else { format!(": {}", pods.join(", ")) };
        return Says::wait(reasons::DRAINING, format!("the end of {}'s pods is waited for{who}", component.name()));
    }
    if let Some((reason, message)) = at_work(children) {
        return Says::wait(reason, message);
    }
    status.stopped_at.get_or_insert(Time(scene.seen.now));
    status.drained_at = Some(Time(scene.seen.now));
    Says::Done
}

/// The databases change names, or it is known why they don't.
pub fn swap(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let does = "lets the two databases change names";
    while_stopped(
        scene,
        status,
        (Task::Swap, reasons::SWAPPING, does),
        |report| report.swap.is_some(),
        |status, report| {
            let bytes = report.swap.and_then(|swap| swap.bytes);
            (status.replaced_bytes, status.replaced_size) = (bytes, bytes.map(size));
        },
    )
}

/// A Job does something to the live database while the application is stopped; where it doesn't, that is noted, because
/// the application waits for no other try. `what`: the task, the reason of the condition, and what the Job does.
pub fn while_stopped(
    scene: &Scene<'_>,
    status: &mut RestoreStatus,
    (task, reason, does): (Task, &str, &'static str),
    complete: impl Fn(&Report) -> bool,
    note: impl FnOnce(&mut RestoreStatus, Report),
) -> Says {
    match progress(scene, task, does, |_| true, complete) {
        Progress::Start { failure: None, .. } if is_overdue(scene, status) => {
            fail(status, reasons::RESTORE_FAILED, OVERDUE);
        }
        Progress::Start { attempt, failure: None } => {
            return Says::Start(task, attempt, Verdict::new(Tri::Unknown, reason, format!("a Job {does}")));
        }
        Progress::Running { trouble, message, .. } => return Says::wait(trouble.unwrap_or(reason), message),
        Progress::Start { failure: Some(message), .. } | Progress::Pause { failure: message } => {
            fail(status, reasons::RESTORE_FAILED, &message);
        }
        Progress::Refused { reason, message } => fail(status, &reason, jobs::refusal(&message)),
        Progress::Succeeded(report) => {
            note(status, *report);
            status.swapped_at = Some(Time(scene.seen.now));
        }
    }
    Says::Done
}

/// The application doesn't wait for ever for a Job that nobody can make.
fn is_overdue(scene: &Scene<'_>, status: &RestoreStatus) -> bool {
    let drained = status.drained_at.as_ref().map(|time| time.0);
    drained.is_some_and(|at| at + PATIENCE < scene.seen.now)
}

/// Notes why the live database is as it was.
fn fail(status: &mut RestoreStatus, reason: &str, message: &str) {
    let message = message.chars().take(2000).collect();
    status.failure = Some(RestoreFailure { reason: reason.to_owned(), message });
}

/// The application runs again, and a Job of the stack has looked which database is live.
pub fn start(scene: &Scene<'_>, status: &mut RestoreStatus) -> Says {
    let Scene { seen, plan } = *scene;
    if let Some(failure) = status.failure.clone().filter(|failure| !restoring::is_unclear(failure)) {
        return as_it_was(scene, &failure);
    }
    let database = stack_status(seen).and_then(|it| it.database.as_ref());
    let noted = database.and_then(|it| it.restore.as_deref());
    let says = says(seen).map(|says| format!(": {says}")).unwrap_or_default();
    if noted != restoring::noted_as(&seen.object).as_deref() {
        return Says::wait(reasons::STARTING, format!("the OdooAiStack {} takes note of it{says}", plan.stack.name));
    }
    let live = database.and_then(|it| it.incarnation.as_ref());
    let (restored, replaced) = (status.incarnation.clone(), status.replaced_incarnation.clone());
    let (wanted, other) = if status.undo { (replaced, restored) } else { (restored, replaced) };
    if live.is_some() && live == wanted.as_ref() {
        // Whatever its Job said, or didn't.
        status.failure = None;
    }
    if let Some(why) = not_up(scene) {
        let message = match &status.failure {
            None if status.undo => why,
            None => format!("{why}. If it can't start with this database: {}", ended::how_to_undo(plan)),
            Some(failure) => format!("{why}; whether the databases changed places is not known: {}", failure.message),
        };
        return Says::wait(reasons::STARTING, message);
    }
    let Some(live) = live else {
        return Says::wait(reasons::STARTING, format!("a Job of the stack looks which database is live{says}"));
    };
    if Some(live) == wanted.as_ref() {
        measure(seen, status);
        return ended::conclude(plan, status, seen.now);
    }
    let none = RestoreFailure {
        reason: reasons::RESTORE_FAILED.to_owned(),
        message: "the databases did not change places".to_owned(),
    };
    let failure = status.failure.get_or_insert(none).clone();
    if Some(live) != other.as_ref() {
        let message = format!(
            "the live database is {live}, which is neither the restored nor the replaced one: {}",
            failure.message
        );
        return Says::stalled(reasons::CONFIRMATION_MISMATCH, message);
    }
    as_it_was(scene, &failure)
}

fn as_it_was(scene: &Scene<'_>, failure: &RestoreFailure) -> Says {
    if let Some(why) = not_up(scene) {
        let message = format!("{why}; the databases did not change places: {}", failure.message);
        return Says::wait(reasons::STARTING, message);
    }
    let message = format!(
        "{}; the live database is as it was, and the application runs. When that is cured: {}",
        failure.message,
        ended::how_to_retry(scene.plan)
    );
    Says::stalled(&failure.reason, message)
}

/// How long the API was away, and how much of that the databases took.
pub fn measure(seen: &Observed, status: &mut RestoreStatus) {
    let at = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let seconds = |from: Timestamp, to: Timestamp| i32::try_from((to - from).get_seconds().max(0)).unwrap_or(i32::MAX);
    let pods = seen.around.children.pods_of(Component::AiService.name());
    let ready = pods.filter_map(ready_since).min();
    let (stopped, drained) = (at(&status.stopped_at), at(&status.drained_at));
    status.downtime_seconds = stopped.zip(ready).map(|(from, to)| seconds(from, to));
    status.swap_seconds = drained.zip(at(&status.swapped_at)).map(|(from, to)| seconds(from, to));
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|it| it.type_ == "Ready" && it.status == "True")?;
    Some(ready.last_transition_time.as_ref()?.0)
}

/// What of the application doesn't run yet, and why.
#[must_use]
pub fn not_up(scene: &Scene<'_>) -> Option<String> {
    let (stack, children) = (&scene.plan.stack, &scene.seen.around.children);
    let least = |component| match component {
        Component::Worker => stack.components.worker.replicas,
        _ => 1,
    };
    let missing = |component: &Component| {
        let key = stack.key(component.kind(), component.name());
        let workload = workload::observed(children, *component, &stack.child(component.name()));
        let up = workload.is_some_and(|it| it.counts.observed && it.counts.available >= least(*component));
        !up || children.behind.contains(&key)
    };
    let component = WRITERS.into_iter().rev().find(missing)?;
    let why = says(scene.seen).map(|says| format!(": {says}")).unwrap_or_default();
    Some(format!("{} is not ready yet{why}", component.name()))
}

/// Why the stack isn't Ready.
fn says(seen: &Observed) -> Option<&str> {
    let not_ready = |it: &&Condition| it.type_ == types::READY && it.status != "True";
    Some(&stack_status(seen)?.conditions.iter().find(not_ready)?.message)
}

fn stack_status(seen: &Observed) -> Option<&OdooAiStackStatus> {
    seen.stack.as_ref()?.status.as_ref()
}

/// It is after the databases were made to change places: it is to be brought to its end, whatever comes.
#[must_use]
pub fn is_beyond(status: &RestoreStatus) -> bool {
    status.step >= Some(RestoreStep::Swap) && status.failure.is_none()
}
