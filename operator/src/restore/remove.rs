//! A Restore that is deleted before it ended: a finalizer keeps it until what it began is gone, or, once the databases are
//! made to change places, until the application runs again. It lets go after a while in any case, and says what stays
//! then. What it has restored or replaced is the user's, and stays.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use odoo_ai_crds::conditions::{annotations, reasons, types};
use odoo_ai_crds::restore::Restore;

use super::build::{self, Task};
use super::live;
use super::model::Plan;
use super::observe::Observed;
use super::validate;
use crate::cluster::delete::{self, Doomed};
use crate::cluster::finalizer;
use crate::cluster::status::{self, Verdict};
use crate::context::Context;
use crate::rollout::jobs::{self, Progress, Work};
use crate::stack::error::Error;
use crate::stack::model::Operator;

/// Whoever deletes a Restore waits no longer than this.
const LIMIT: SignedDuration = SignedDuration::from_mins(10);
const AGAIN: Duration = Duration::from_secs(5);

/// What to do about a Restore that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// End what runs, so that nothing comes after.
    Quiet(Vec<Doomed>),
    /// Create the Job that drops what was begun, with this number.
    Discard(Box<Plan>, u32),
    /// Something is at work, or failed and is tried again: what can be said of it.
    Wait(String),
    /// Let go; `Some`: what stays, and why.
    Release(Option<String>),
}

/// Decides. Plain.
#[must_use]
pub fn step(seen: &Observed, operator: &Operator) -> Step {
    let (status, name) = (seen.status(), seen.object.name_any());
    if status.completed_at.is_some() || status.started_at.is_none() {
        return Step::Release(None);
    }
    if live::is_beyond(&status) {
        let why =
            "the databases were made to change places, and the application did not start in time; see the OdooAiStack";
        return Step::Release(Some(why.to_owned()));
    }
    let database = status.database.unwrap_or_default();
    let stays = |why: &str| Step::Release(Some(format!("the database {database} may stay, half restored: {why}")));
    let since = seen.object.metadata.deletion_timestamp.as_ref().map_or(seen.now, |time| time.0);
    if since + LIMIT < seen.now {
        return stays("it could not be dropped in time");
    }
    let plan = match validate::plan(seen, operator) {
        Ok(plan) => Box::new(plan),
        Err(problem) => return stays(&problem.message),
    };
    let tasks = [Task::Load, Task::Migrate, Task::Swap];
    let running: Vec<_> = tasks.iter().flat_map(|task| jobs::unfinished(&seen.children, task.component())).collect();
    if let Some((job, _)) = running.first() {
        let doomed: Vec<_> = running.iter().filter_map(|(_, job)| Doomed::job(job)).collect();
        return if doomed.is_empty() {
            Step::Wait(format!("the end of Job {job} is waited for"))
        } else {
            Step::Quiet(doomed)
        };
    }
    if status.undo {
        // What was restored is live, and what it replaced is nobody's but the user's.
        return Step::Release(None);
    }
    let prefix = Task::Discard.prefix(&name, status.round);
    let work = Work {
        prefix: &prefix,
        component: Task::Discard.component(),
        does: "drops what was begun",
        limit: "5 minutes",
    };
    let ours = |job: &Job| build::is_of(job, &plan.uid);
    match jobs::progress(work, &seen.children, ours, |_| true, |_| true, seen.now) {
        Progress::Start { attempt, .. } => Step::Discard(plan, attempt),
        Progress::Running { message, .. } => Step::Wait(message),
        Progress::Pause { failure } => Step::Wait(failure),
        Progress::Refused { message, .. } => stays(&message),
        Progress::Succeeded(_) => Step::Release(None),
    }
}

/// It is deleted, and goes on all the same: what it has begun with the live database is brought to its end.
#[must_use]
pub fn finishes(seen: &Observed) -> bool {
    let since = seen.object.metadata.deletion_timestamp.as_ref().map_or(seen.now, |time| time.0);
    live::is_beyond(&seen.status()) && since + LIMIT >= seen.now
}

/// Carries out one step.
///
/// # Errors
/// The client's error.
pub async fn remove(ctx: &Context, seen: &Observed) -> Result<Action, Error> {
    match step(seen, &ctx.operator) {
        Step::Quiet(running) => {
            for doomed in &running {
                delete::delete(&ctx.client, doomed).await?;
            }
            say(ctx, seen, "its Job is ended first").await?;
        }
        Step::Discard(plan, attempt) => {
            let intent = build::job(&plan, seen, Task::Discard, attempt);
            if let Err(error) = ctx.applier.apply(&intent, seen.children.meta(&intent.key()), "").await {
                // A namespace that is going takes no new Job.
                let Some(why) = error.forbidden() else { return Err(error.into()) };
                return let_go(ctx, seen, Some(why)).await;
            }
            say(ctx, seen, "a Job drops what was begun").await?;
        }
        Step::Wait(message) => say(ctx, seen, &message).await?,
        Step::Release(kept) => return let_go(ctx, seen, kept).await,
    }
    Ok(Action::requeue(AGAIN))
}

async fn say(ctx: &Context, seen: &Observed, message: &str) -> Result<(), Error> {
    let mut object = seen.object.clone();
    let conditions = &mut object.status.get_or_insert_default().conditions;
    let verdict = Verdict::new(false, reasons::DELETING, message);
    status::set(conditions, types::COMPLETE, &verdict, seen.generation(), seen.now);
    if object.status != seen.object.status {
        ctx.write_status(&mut object).await?;
    }
    Ok(())
}

async fn let_go(ctx: &Context, seen: &Observed, kept: Option<String>) -> Result<Action, Error> {
    if let Some(why) = &kept {
        ctx.events.publish(&seen.object, true, "Delete", "DatabaseKept", why).await;
    }
    release(ctx, &seen.object).await?;
    Ok(Action::await_change())
}

/// Takes the finalizer, where it is there.
///
/// # Errors
/// The client's error.
pub async fn release(ctx: &Context, object: &Restore) -> Result<(), Error> {
    if is_held(object) {
        ctx.hold(object, annotations::RESTORE_FINALIZER, false).await?;
    }
    Ok(())
}

/// The finalizer is there until it has ended.
///
/// # Errors
/// The client's error.
pub async fn hold(ctx: &Context, mut seen: Box<Observed>) -> Result<Box<Observed>, Error> {
    if seen.status().completed_at.is_none() && !is_held(&seen.object) {
        let status = seen.object.status.take();
        seen.object = ctx.hold(&seen.object, annotations::RESTORE_FINALIZER, true).await?;
        seen.object.status = status;
    }
    Ok(seen)
}

/// It has our finalizer.
#[must_use]
pub fn is_held(object: &Restore) -> bool {
    finalizer::is_held(object, annotations::RESTORE_FINALIZER)
}
