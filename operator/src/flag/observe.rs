//! Everything that a reconcile looks at, read once at its beginning; the rules come with the decision.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::flag::{FeatureFlag, FeatureFlagStatus};
use odoo_ai_crds::stack::OdooAiStack;
use serde_json::{Map, Value};

use super::disable::{self, Asked};
use super::guard::{self, Audit};
use super::remove;
use crate::cluster::children::Children;
use crate::cluster::status::{Tri, Verdict};
use crate::context::Context;
use crate::rules::board::Open;
use crate::rules::{self, Rule, Rules};
use crate::stack::error::Error;

/// Longest time for all pages of an audit log.
const LONGEST_READ: Duration = Duration::from_secs(20);

/// One moment of a flag.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The custom resource, read live.
    pub object: FeatureFlag,
    /// The stack that it is for, read live; one that is being deleted is none.
    pub stack: Option<OdooAiStack>,
    /// The older flag of the same rule.
    pub rival: Option<String>,
    /// A request to disable the rule, whatever it takes.
    pub asked: Option<Asked>,
    /// The stack's children; the Jobs of such requests are among them.
    pub children: Children,
    /// Now.
    pub now: Timestamp,
}

impl Observed {
    /// The status, or an empty one.
    #[must_use]
    pub fn status(&self) -> FeatureFlagStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// The generation of the spec.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }
}

/// Reads the flag and its stack live; `None` when it is gone, or goes without us.
///
/// # Errors
/// [`Error::Api`] when the API server can't be asked.
pub async fn observe(ctx: &Context, name: &str, namespace: &str) -> Result<Option<Observed>, Error> {
    let api: Api<FeatureFlag> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await? else { return Ok(None) };
    if object.metadata.deletion_timestamp.is_some() && !remove::is_held(&object) {
        return Ok(None);
    }
    let stacks: Api<OdooAiStack> = Api::namespaced(ctx.client.clone(), namespace);
    let stack = stacks.get_opt(&object.spec.stack_ref.name).await?;
    let stack = stack.filter(|it| it.metadata.deletion_timestamp.is_none());
    let others = ctx.flags.state();
    let rival = rival(&object, others.iter().map(AsRef::as_ref));
    let asked = disable::asked(&ctx.operator, &object, stack.as_ref());
    let children = ctx.caches.children(namespace, &object.spec.stack_ref.name);
    Ok(Some(Observed { object, stack, rival, asked, children, now: (ctx.clock)() }))
}

/// By which of two flags the older is told.
#[must_use]
pub fn age(flag: &FeatureFlag) -> (Option<Timestamp>, String) {
    (flag.metadata.creation_timestamp.as_ref().map(|time| time.0), flag.name_any())
}

/// Of two flags for one rule of one stack the older has it; of the same second, the first by name.
#[must_use]
pub fn rival<'a>(flag: &FeatureFlag, others: impl Iterator<Item = &'a FeatureFlag>) -> Option<String> {
    let rivals = others.filter(|other| {
        other.namespace() == flag.namespace()
            && other.spec.stack_ref == flag.spec.stack_ref
            && other.spec.rule == flag.spec.rule
            && age(other) < age(flag)
    });
    rivals.min_by_key(|other| age(other)).map(ResourceExt::name_any)
}

/// Rules of a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// All of them, in no order.
    pub rules: Arc<[Rule]>,
    /// What this flag wrote before they were listed, not long ago.
    pub wrote: Option<Map<String, Value>>,
}

/// Why the rules aren't known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// There is no such stack.
    NoStack(String),
    /// Its application doesn't serve.
    NotServing(String),
    /// The application was asked.
    Failed(rules::Error),
}

impl Unseen {
    /// What the condition `Synced` says of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::NoStack(name) => {
                let message = format!(
                    "there is no OdooAiStack {name} in this namespace; create it, or make a FeatureFlag for another"
                );
                Verdict::new(false, reasons::STACK_NOT_FOUND, message)
            }
            Self::NotServing(name) => {
                let message = format!("the OdooAiStack {name} is not Available; its rules are looked at when it is");
                Verdict::new(Tri::Unknown, reasons::APPLICATION_UNAVAILABLE, message)
            }
            Self::Failed(error) => {
                Verdict::new(Tri::Unknown, error.reason(), format!("the application's rules can't be read: {error}"))
            }
        }
    }
}

/// The rules of the flag's stack as they were `age` ago at most.
///
/// # Errors
/// Why they aren't known.
pub async fn rules(ctx: &Context, flag: &Observed, board: &mut Open, age: Duration) -> Result<Seen, Unseen> {
    let name = &flag.object.spec.stack_ref.name;
    let stack = flag.stack.as_ref().ok_or_else(|| Unseen::NoStack(name.clone()))?;
    if !is(stack, types::AVAILABLE) {
        return Err(Unseen::NotServing(name.clone()));
    }
    let list = async || Rules::of(ctx, stack).await?.list().await;
    let rules = board.rules(age, list).await.map_err(Unseen::Failed)?;
    Ok(Seen { rules, wrote: board.written() })
}

/// Runs of the rule's type, where the flag has a guard.
pub async fn audit(ctx: &Context, flag: &Observed) -> Audit {
    let (Some(rate), Some(stack)) = (&flag.object.spec.error_rate, &flag.stack) else { return Audit::Unwanted };
    if !guard::is_wanted(flag) {
        return Audit::Unwanted;
    }
    let Some(well) = guard::well_since(stack) else { return Audit::Frozen };
    let since = guard::since(flag, rate).max(well);
    let runs = async { Rules::of(ctx, stack).await?.runs(&flag.object.spec.rule.automation_type, since).await };
    let late = |_| Err(rules::Error::NoAnswer(format!("its pages took longer than {} s", LONGEST_READ.as_secs())));
    let runs = tokio::time::timeout(LONGEST_READ, runs).await.unwrap_or_else(late);
    runs.map_or_else(Audit::Failed, Audit::Runs)
}

/// A condition of the stack is True.
fn is(stack: &OdooAiStack, kind: &str) -> bool {
    let conditions = stack.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|it| it.type_ == kind && it.status == "True")
}
