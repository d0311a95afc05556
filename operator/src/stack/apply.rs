//! Carries a decision out: writes what differs, in order, and stops at the first error.

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use rand::Rng;
use rand::distr::Alphanumeric;

use super::build::{API_PORT, assemble, data};
use super::decide::{Decision, Roll};
use super::error::Error;
use super::observe::Observed;
use crate::cluster::apply::Outcome;
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::context::Context;
use crate::rules::Rules;

/// Characters of a generated secret: letters and digits, which need no encoding anywhere. 190 bits.
const SECRET_LENGTH: usize = 32;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Objects that were written.
    pub written: usize,
    /// The seeded rules were disabled, with how many there were.
    pub rules_disabled: Option<usize>,
}

/// Carries out `decision`.
///
/// # Errors
/// The first object that could not be written, or the rules API.
pub async fn apply(ctx: &Context, seen: &Observed, decision: &Decision) -> Result<Applied, Error> {
    match decision {
        Decision::Suspended | Decision::Problem(_) => Ok(Applied::default()),
        Decision::Hold(hold) => write(ctx, seen, assemble::hold(&hold.base, seen)).await,
        Decision::Generate(stack, missing) => {
            let secrets = missing.iter().map(|which| data::generated_secret(stack, *which, random)).collect();
            write(ctx, seen, secrets).await
        }
        Decision::Roll(roll) => {
            remove(ctx, roll).await?;
            let mut applied = write(ctx, seen, assemble::assemble(roll, seen)).await?;
            if roll.disable_rules {
                applied.rules_disabled = Some(disable_rules(ctx, roll).await?);
            }
            Ok(applied)
        }
    }
}

/// Deletes what nobody waits for any more, by UID: never what took the name since.
async fn remove(ctx: &Context, roll: &Roll) -> Result<(), Error> {
    let jobs: Api<Job> = Api::namespaced(ctx.client.clone(), &roll.base.stack.namespace);
    for (key, uid) in &roll.obsolete {
        let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
        match jobs.delete(&key.name, &params).await {
            Ok(_) => tracing::info!(object = %key, "deleted: nobody waits for it any more"),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn write(ctx: &Context, seen: &Observed, intents: Vec<Intent>) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    let uid = seen.object.metadata.uid.as_deref().unwrap_or_default();
    for intent in &intents {
        let outcome = ctx.applier.apply(intent, seen.children.meta(&intent.key()), uid).await?;
        if matches!(outcome, Outcome::Written(_)) {
            applied.written += 1;
            ctx.metrics.writes.inc();
        }
    }
    Ok(applied)
}

/// The first-install gate: rules that the application seeded are off before worker and beat exist.
async fn disable_rules(ctx: &Context, roll: &Roll) -> Result<usize, Error> {
    let stack = &roll.base.stack;
    let host = format!("{}.{}.svc", stack.child(Component::AiService.name()), stack.namespace);
    let key = roll.inputs.value("AI_SECRET_KEY").unwrap_or_default();
    let rules = Rules { http: &ctx.http, base: format!("http://{host}:{API_PORT}"), key };
    let disabled = rules.disable_all().await?;
    tracing::info!(stack = %stack.name, namespace = %stack.namespace, disabled, "seeded rules disabled");
    Ok(disabled)
}

fn random() -> String {
    rand::rng().sample_iter(Alphanumeric).take(SECRET_LENGTH).map(char::from).collect()
}
