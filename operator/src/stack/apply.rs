//! Carries a decision out: writes what differs, in order, and stops at the first error.

use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ApiResource, ListParams};
use odoo_ai_crds::flag::FeatureFlag;
use rand::Rng;
use rand::distr::Alphanumeric;

use super::base::Base;
use super::build::{assemble, data, routes};
use super::decide::Decision;
use super::error::Error;
use super::health;
use super::observe::Observed;
use super::prune;
use super::roll::Roll;
use crate::backup::ask;
use crate::cluster::delete::{self, Doomed};
use crate::cluster::intent::Intent;
use crate::context::Context;
use crate::flag::matching;
use crate::rollout::trim;
use crate::rules::Rules;

/// Characters of a generated secret: letters and digits, which need no encoding anywhere. 190 bits.
const SECRET_LENGTH: usize = 32;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Applied {
    /// Objects that were written or deleted.
    pub written: usize,
    /// The seeded rules were disabled, with how many there were.
    pub rules_disabled: Option<usize>,
}

/// Carries out `decision`.
///
/// # Errors
/// The first object that could not be written, or the rules API.
pub async fn apply(ctx: &Context, seen: &Observed, decision: &Decision) -> Result<Applied, Error> {
    let applied = act(ctx, seen, decision).await?;
    if let Some(base) = decision.base() {
        let ready = |component| health::counts(seen, component).available > 0;
        let questions = routes::questions(&base.stack, &base.routes, ready);
        ctx.ask_for_routes(&(base.stack.namespace.clone(), base.stack.name.clone()), questions);
    }
    Ok(applied)
}

async fn act(ctx: &Context, seen: &Observed, decision: &Decision) -> Result<Applied, Error> {
    match decision {
        Decision::Suspended | Decision::Problem(_) => Ok(Applied::default()),
        Decision::Hold(hold) => write(ctx, seen, assemble::hold(&hold.base, seen)).await,
        Decision::Generate(stack, missing) => {
            let secrets = missing.iter().map(|which| data::generated_secret(stack, *which, random)).collect();
            write(ctx, seen, secrets).await
        }
        Decision::Roll(roll) => {
            delete_all(ctx, obsolete(roll)).await?;
            let intents = assemble::assemble(roll, seen);
            let unwanted = unwanted(roll, seen, &intents);
            let mut applied = write(ctx, seen, intents).await?;
            if let Some((backup, request)) = &roll.backup_request {
                ask::put(ctx, &roll.base.stack.namespace, backup, request).await?;
                applied.written += 1;
            }
            if roll.disable_rules {
                applied.rules_disabled = Some(disable_rules(ctx, roll).await?);
            }
            applied.written += delete_all(ctx, unwanted).await?;
            Ok(applied)
        }
    }
}

/// Unfinished Jobs that nobody waits for any more, in whatever state they are by now.
fn obsolete(roll: &Roll) -> Vec<Doomed> {
    let resource = ApiResource::erase::<Job>(&());
    let jobs = roll.obsolete.iter().cloned();
    jobs.map(|(key, uid)| Doomed { resource: resource.clone(), key, uid, resource_version: None }).collect()
}

/// What goes once all of `intents` is written: children that the spec wants no more, and what is
/// stored beyond the limit.
#[must_use]
pub fn unwanted(roll: &Roll, seen: &Observed, intents: &[Intent]) -> Vec<Doomed> {
    let Base { stack, runs, .. } = &roll.base;
    let runs = runs.values().map(|runs| runs.revision.as_str());
    let mut unwanted = prune::plan(stack, &seen.children, intents, roll.settled());
    if roll.base.routes.unknown {
        unwanted.retain(|it| !prune::is_of_a_route(it));
    }
    unwanted.extend(trim::plan(stack, &roll.status, runs, roll.settled(), &seen.children, &seen.stored));
    unwanted
}

async fn delete_all(ctx: &Context, doomed: Vec<Doomed>) -> Result<usize, Error> {
    let mut deleted = 0;
    for object in doomed {
        if delete::delete(&ctx.client, &object).await? {
            tracing::info!(object = %object.key, "deleted: it is not wanted any more");
            ctx.applier.forget_child(&object.key);
            ctx.revisions.forget(&object.uid);
            ctx.metrics.writes.inc();
            deleted += 1;
        }
    }
    Ok(deleted)
}

async fn write(ctx: &Context, seen: &Observed, intents: Vec<Intent>) -> Result<Applied, Error> {
    let uid = seen.object.metadata.uid.as_deref().unwrap_or_default();
    Ok(Applied { written: ctx.write(&intents, &seen.children, uid).await?, ..Applied::default() })
}

/// The first-install gate: rules that the application seeded are off before worker and beat exist.
async fn disable_rules(ctx: &Context, roll: &Roll) -> Result<usize, Error> {
    let stack = &roll.base.stack;
    let api: Api<FeatureFlag> = Api::namespaced(ctx.client.clone(), &stack.namespace);
    let of_stack = ListParams::default().fields(&format!("spec.stackRef.name={}", stack.name));
    let flags = api.list(&of_stack).await?.items;
    let key = roll.inputs.value("AI_SECRET_KEY").unwrap_or_default();
    // No flag writes meanwhile.
    let _alone = ctx.rules.open(&(stack.namespace.clone(), stack.name.clone()), "").await;
    let rules = Rules::new(&ctx.http, &stack.namespace, &stack.name, key).counted(&ctx.metrics);
    let disabled = rules.disable_all(|rule| matching::is_declared_enabled(&flags, rule)).await?;
    tracing::info!(stack = %stack.name, namespace = %stack.namespace, disabled, "seeded rules disabled");
    Ok(disabled)
}

fn random() -> String {
    rand::rng().sample_iter(Alphanumeric).take(SECRET_LENGTH).map(char::from).collect()
}
