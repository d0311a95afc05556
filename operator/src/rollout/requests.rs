//! What people ask for by annotation: tokens, each counted once.

use std::collections::BTreeMap;

use kube::Resource;
use odoo_ai_crds::conditions::annotations;

/// Characters of a token that count.
const LONGEST: usize = 253;

/// An annotation that says something.
pub(super) fn value<'a>(annotations: Option<&'a BTreeMap<String, String>>, name: &str) -> Option<&'a str> {
    annotations.and_then(|all| all.get(name)).map(String::as_str).filter(|it| !it.is_empty())
}

/// A request of any kind of ours: what it says, as far as it counts.
#[must_use]
pub fn token<K: Resource>(object: &K, name: &str) -> Option<String> {
    value(object.meta().annotations.as_ref(), name).map(|it| bounded(it).to_owned())
}

/// Annotations may be long, and what is counted stands in the status, whose texts are bounded.
fn bounded(token: &str) -> &str {
    token.char_indices().nth(LONGEST).map_or(token, |(end, _)| &token[..end])
}

/// The annotations of a stack that ask for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests<'a> {
    /// `retry-requested-at`.
    pub retry: Option<&'a str>,
    /// `rollback-requested-at`.
    pub rollback: Option<&'a str>,
    /// `rollback-to`.
    pub rollback_to: Option<&'a str>,
}

impl<'a> Requests<'a> {
    /// Reads them.
    #[must_use]
    pub fn of(annotations: Option<&'a BTreeMap<String, String>>) -> Self {
        let value = |name| value(annotations, name).map(bounded);
        Self {
            retry: value(annotations::RETRY_REQUESTED_AT),
            rollback: value(annotations::ROLLBACK_REQUESTED_AT),
            rollback_to: value(annotations::ROLLBACK_TO),
        }
    }
}
