//! Carries a decision out: writes what differs, in order, and stops at the first error.

use kube::ResourceExt;

use super::build;
use super::decide::Decision;
use super::observe::Observed;
use crate::context::Context;
use crate::stack::error::Error;

/// Carries out `decision`. Returns how many objects were written.
///
/// # Errors
/// The first object that could not be written.
pub async fn apply(ctx: &Context, seen: &Observed, decision: &Decision) -> Result<usize, Error> {
    let Ok(policy) = &decision.policy else { return Ok(0) };
    let uid = seen.object.uid().unwrap_or_default();
    let mut intents = build::lasting(policy);
    intents.extend(decision.start.iter().map(|start| build::run_now(policy, start)));
    Ok(ctx.write(&intents, &seen.children, &uid).await?)
}
