//! Carries a decision out. What is to be added is noted in the status first: a crash makes no second one.

use kube::{Resource, ResourceExt};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::flag::FeatureFlagStatus;
use serde_json::Map;

use super::build;
use super::decide::{Decision, Write};
use super::disable::{self, Asked};
use super::observe::Observed;
use crate::cluster::delete;
use crate::cluster::status::Verdict;
use crate::context::Context;
use crate::rules::board::Open;
use crate::rules::{self, Rules};
use crate::stack::error::Error;

/// What came of it.
pub struct Done {
    /// The flag, as it was read or written last.
    pub flag: Observed,
    /// Why the application didn't take the write.
    pub failed: Option<rules::Error>,
}

/// Carries out `decision`.
///
/// # Errors
/// The API server's, before the application is asked.
pub async fn apply(ctx: &Context, flag: Observed, decision: &mut Decision, board: &mut Open) -> Result<Done, Error> {
    let done = write(ctx, flag, decision, board).await?;
    if done.failed.is_some() && decision.or_in_the_database {
        disable::in_the_database(&done.flag, decision);
    }
    for doomed in disable::obsolete(&done.flag, decision) {
        if delete::delete(&ctx.client, &doomed).await? {
            ctx.metrics.writes.inc();
        }
    }
    if let (Some(name), Some(Asked { stack: Ok(stack), .. })) = (&decision.disable, &done.flag.asked) {
        let object = &done.flag.object;
        if let Some(owner) = object.controller_owner_ref(&()) {
            let job = build::disable(stack, object, owner, name);
            ctx.write(&[job], &done.flag.children, &object.uid().unwrap_or_default()).await?;
        }
    }
    Ok(done)
}

async fn write(ctx: &Context, mut flag: Observed, decision: &mut Decision, board: &mut Open) -> Result<Done, Error> {
    let Some(write) = &decision.write else { return Ok(Done { flag, failed: None }) };
    if matches!(write, Write::Create(_)) {
        let mut object = flag.object.clone();
        // What the conditions say stays until it is known what came of it.
        let creation_requested_at = decision.status.creation_requested_at.clone();
        object.status = Some(FeatureFlagStatus { creation_requested_at, rule_id: None, ..flag.status() });
        flag.object = ctx.write_status(&mut object).await?;
    }
    let Some(stack) = &flag.stack else { return Ok(Done { flag, failed: None }) };
    let (Write::Create(body) | Write::Replace(_, body)) = write;
    board.writes(body);
    let written = async {
        let rules = Rules::of(ctx, stack).await?;
        match write {
            Write::Create(body) => rules.create(body).await.map(|rule| Some(rule.id)),
            Write::Replace(id, body) => rules.replace(*id, body).await.map(|()| None),
        }
    };
    let failed = match written.await {
        Ok(Some(id)) => {
            decision.status.rule_id = Some(id);
            None
        }
        Ok(None) => None,
        Err(error) => {
            // An error of its own may be about this one rule: that of a type that it doesn't know is.
            if matches!(error, rules::Error::NoAnswer(_)) {
                board.failed(&error);
            }
            if error.is_final() && matches!(write, Write::Create(_)) {
                decision.status.creation_requested_at = None;
            }
            // Nothing that was written: it is tried again, once the rules are read anew.
            board.writes(&Map::new());
            Some(error)
        }
    };
    Ok(Done { flag, failed })
}

/// What `Synced` says of a write that the application didn't take.
#[must_use]
pub fn verdict(error: &rules::Error, write: Option<&Write>) -> Verdict {
    let hint = match (error, write) {
        (rules::Error::Refused { status: 500, .. }, Some(Write::Create(_))) => {
            "; it answers so to a type that this version of it doesn't know: compare rule.automationType with docs/flags.md"
        }
        _ => "",
    };
    let reason =
        if matches!(error, rules::Error::Refused { status: 500, .. }) { reasons::REJECTED } else { error.reason() };
    Verdict::new(false, reason, format!("the rule could not be written: {error}{hint}"))
}
