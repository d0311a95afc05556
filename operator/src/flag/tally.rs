//! How many of a stack's rules are declared, for the stack's status.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::flag::FeatureFlag;

use super::matching;
use super::observe::Observed;
use crate::context::Context;
use crate::rules::Rule;

/// The application's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Those that a flag declares.
    pub declared: i32,
    /// Those that none does.
    pub undeclared: i32,
}

/// Counts. Plain.
#[must_use]
pub fn count(rules: &[Rule], flags: &[Arc<FeatureFlag>]) -> Tally {
    let is_declared = |rule: &&Rule| {
        flags.iter().any(|flag| {
            let id = flag.status.as_ref().and_then(|status| status.rule_id);
            matching::is_of(rule, &flag.spec.rule, id)
        })
    };
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let declared = rules.iter().filter(is_declared).count();
    Tally { declared: count(declared), undeclared: count(rules.len() - declared) }
}

/// Of the rules as they were listed last; `None`: they weren't yet. Without a flag nobody lists them.
#[must_use]
pub fn of(ctx: &Context, namespace: &str, stack: &str) -> Option<Tally> {
    let of_stack = |flag: &FeatureFlag| {
        flag.namespace().as_deref() == Some(namespace)
            && flag.spec.stack_ref.name == stack
            && flag.metadata.deletion_timestamp.is_none()
    };
    if !ctx.flags.is_filled() {
        return None;
    }
    let flags = ctx.flags.state_filter(of_stack);
    if flags.is_empty() {
        return Some(Tally { declared: 0, undeclared: 0 });
    }
    let rules = ctx.rules.last(&(namespace.to_owned(), stack.to_owned()))?;
    Some(count(&rules, &flags))
}

/// Wakes the stack where its status says something else.
pub fn tell(ctx: &Context, flag: &Observed) {
    let (namespace, name) = (flag.object.namespace().unwrap_or_default(), &flag.object.spec.stack_ref.name);
    let told = flag.stack.as_ref().and_then(|stack| stack.status.as_ref()?.rules.as_ref());
    let told = told.map_or((0, 0), |rules| (rules.declared, rules.undeclared));
    if of(ctx, &namespace, name).is_some_and(|now| (now.declared, now.undeclared) != told) {
        ctx.stacks.wake(&ObjectRef::new(name).within(&namespace));
    }
}

/// A flag is gone.
pub fn gone(ctx: &Context, flag: &FeatureFlag) {
    ctx.stacks.wake(&ObjectRef::new(&flag.spec.stack_ref.name).within(&flag.namespace().unwrap_or_default()));
}
