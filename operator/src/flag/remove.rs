//! A flag whose rule is disabled or deleted with it: a finalizer keeps it until that is done. It lets go at once where there
//! is no stack any more, and after a while in any case, and says what stays then.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;
use kube::runtime::controller::Action;
use odoo_ai_crds::conditions::{annotations, reasons, types};
use odoo_ai_crds::flag::{FeatureFlag, FlagDeletionPolicy};
use serde_json::{Map, Value};

use super::decide::PATIENCE;
use super::matching;
use super::observe::{self, Observed, Seen, Unseen};
use crate::cluster::finalizer;
use crate::cluster::status::{self, Tri, Verdict};
use crate::context::Context;
use crate::rules::Rules;
use crate::rules::board::Open;
use crate::stack::error::Error;

/// Whoever deletes a flag waits no longer than this for its rule.
const LIMIT: SignedDuration = SignedDuration::from_mins(2);
const AGAIN: Duration = Duration::from_secs(5);
/// What was written is read back.
const SOON: Duration = Duration::from_secs(1);

/// What to do about a flag that is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Disable the rule.
    Disable(i64, Map<String, Value>),
    /// Delete it.
    Delete(i64),
    /// Try again soon: why not now.
    Wait(String),
    /// Let go; what is told.
    Release(Option<String>),
}

/// Decides. Plain.
#[must_use]
pub fn step(flag: &Observed, rules: &Result<Seen, Unseen>) -> Step {
    let policy = flag.object.spec.deletion_policy.unwrap_or(FlagDeletionPolicy::Disable);
    let status = flag.status();
    let had_one = status.rule_id.is_some() || status.creation_requested_at.is_some();
    if policy == FlagDeletionPolicy::Orphan || flag.rival.is_some() || flag.stack.is_none() || !had_one {
        return Step::Release(None);
    }
    let seen = match rules {
        Ok(seen) => seen,
        Err(unseen) => {
            let why = unseen.verdict().message;
            return if is_late(flag) { Step::Release(Some(kept(&why))) } else { Step::Wait(why) };
        }
    };
    let asked = status.creation_requested_at.as_ref().is_some_and(|time| time.0.duration_until(flag.now) < PATIENCE);
    match matching::of(&seen.rules, &flag.object.spec.rule, status.rule_id)[..] {
        [] if asked => Step::Wait("a rule that was asked for may still come".to_owned()),
        [rule] if is_late(flag) && rule.enabled && seen.wrote.is_some() => {
            Step::Release(Some(kept(&format!("rule {} is still enabled after it was written", rule.id))))
        }
        // The application seeds an empty table again, everything enabled.
        [rule] if policy == FlagDeletionPolicy::Delete && seen.rules.len() > 1 => Step::Delete(rule.id),
        [rule] if rule.enabled => Step::Disable(rule.id, rule.disabled()),
        [] | [_] => Step::Release(None),
        [..] => Step::Release(Some("the application has the rule more than once: they stay as they are".to_owned())),
    }
}

/// Nobody waits any longer.
fn is_late(flag: &Observed) -> bool {
    let began = flag.object.metadata.deletion_timestamp.as_ref().map_or(flag.now, |time| time.0);
    began + LIMIT < flag.now
}

fn kept(why: &str) -> String {
    format!("the rule stays as it is: {why}")
}

/// Carries out one step.
///
/// # Errors
/// The client's error.
pub async fn remove(ctx: &Context, flag: &Observed, board: &mut Open) -> Result<Action, Error> {
    // What is done about the last one depends on how many there are.
    let seen = observe::rules(ctx, flag, board, Duration::ZERO).await;
    let done = match (step(flag, &seen), &flag.stack) {
        (Step::Release(told), _) => return release(ctx, flag, told).await,
        (Step::Wait(why), _) => Err(why),
        (Step::Disable(id, body), Some(stack)) => {
            board.writes(&body);
            let done = async { Rules::of(ctx, stack).await?.replace(id, &body).await };
            done.await.map_err(|error| error.to_string())
        }
        (Step::Delete(id), Some(stack)) => {
            board.writes(&Map::new());
            let done = async { Rules::of(ctx, stack).await?.delete(id).await };
            done.await.map_err(|error| error.to_string())
        }
        (_, None) => return release(ctx, flag, None).await,
    };
    match done {
        Ok(()) => Ok(Action::requeue(SOON)),
        Err(why) if is_late(flag) => release(ctx, flag, Some(kept(&why))).await,
        Err(why) => {
            say(ctx, flag, &why).await?;
            Ok(Action::requeue(AGAIN))
        }
    }
}

async fn say(ctx: &Context, flag: &Observed, why: &str) -> Result<(), Error> {
    let mut object = flag.object.clone();
    let verdict = Verdict::new(Tri::Unknown, reasons::DELETING, format!("it goes when its rule is dealt with: {why}"));
    let status = object.status.get_or_insert_default();
    status::set(&mut status.conditions, types::READY, &verdict, flag.generation(), flag.now);
    if object.status != flag.object.status {
        ctx.write_status(&mut object).await?;
    }
    Ok(())
}

async fn release(ctx: &Context, flag: &Observed, told: Option<String>) -> Result<Action, Error> {
    if let Some(why) = told {
        ctx.events.publish(&flag.object, true, "Delete", "RuleKept", &why).await;
    }
    ctx.hold(&flag.object, annotations::RULE_FINALIZER, false).await?;
    Ok(Action::await_change())
}

/// The finalizer is there exactly where something is to be done about the rule.
///
/// # Errors
/// The client's error.
pub async fn hold(ctx: &Context, mut flag: Observed) -> Result<Observed, Error> {
    let wanted = flag.object.spec.deletion_policy != Some(FlagDeletionPolicy::Orphan);
    if wanted != is_held(&flag.object) {
        let status = flag.object.status.take();
        flag.object = ctx.hold(&flag.object, annotations::RULE_FINALIZER, wanted).await?;
        flag.object.status = status;
    }
    Ok(flag)
}

/// It has our finalizer.
#[must_use]
pub fn is_held(object: &FeatureFlag) -> bool {
    finalizer::is_held(object, annotations::RULE_FINALIZER)
}
