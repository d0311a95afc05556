//! Carries a decision out: writes what differs, in order, and stops at the first error.

use super::build;
use super::decide::Decision;
use super::observe::Observed;
use crate::backup::ask;
use crate::context::Context;
use crate::stack::error::Error;

/// Carries out `decision`. Returns how many objects were written.
///
/// # Errors
/// The first object that could not be written.
pub async fn apply(ctx: &Context, seen: &Observed, decision: &Decision) -> Result<usize, Error> {
    let Some(plan) = &decision.plan else { return Ok(0) };
    let mut intents: Vec<_> = build::lasting(plan).into_iter().collect();
    intents.extend(decision.start.map(|(task, attempt)| build::job(plan, seen, task, attempt)));
    let mut written = ctx.write(&intents, &seen.children, &plan.uid).await?;
    if let Some((backup, request)) = &decision.ask {
        ask::put(ctx, &plan.namespace, backup, request).await?;
        written += 1;
    }
    Ok(written)
}
