//! Two stacks that claim one host: the older keeps it. Known among the watched namespaces only.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use odoo_ai_crds::stack::OdooAiStack;

/// Another namespace's stacks are waited for this long after a start: of two stacks with one host the newer must not
/// be the first to get its route. One that can't be listed keeps nobody from their routes for longer.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// All stacks of all watched namespaces.
#[derive(Clone, Default)]
pub struct Stacks(Vec<Store<OdooAiStack>>);

impl Stacks {
    /// Those in these stores.
    #[must_use]
    pub fn new(stores: Vec<Store<OdooAiStack>>) -> Self {
        Self(stores)
    }

    /// Hosts of `stack` that belong to others; `None`: not known yet.
    #[must_use]
    pub fn rivals(&self, stack: &OdooAiStack, leading_since: Timestamp, now: Timestamp) -> Option<Rivals> {
        let listed = self.0.iter().all(|store| store.wait_until_ready().now_or_never().is_some());
        let known = listed || leading_since.duration_until(now) > PATIENCE;
        known.then(|| of(stack, self.0.iter().flat_map(Store::state)))
    }
}

/// Hosts of a stack that an older one claims, with that one's namespace and name.
pub type Rivals = BTreeMap<String, String>;

/// Those of `stack` among all.
#[must_use]
pub fn of(stack: &OdooAiStack, all: impl IntoIterator<Item = Arc<OdooAiStack>>) -> Rivals {
    let ours: Vec<_> = hosts(stack).collect();
    if ours.is_empty() {
        return Rivals::new();
    }
    let mut older: Vec<_> = all.into_iter().filter(|other| age(other) < age(stack)).collect();
    older.sort_by_key(|other| Reverse(age(other)));
    let claims = older.iter().flat_map(|other| hosts(other).map(move |host| (host, other)));
    let contested = claims.filter(|(host, _)| ours.contains(host));
    contested
        .map(|(host, other)| {
            (host.to_owned(), format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()))
        })
        .collect()
}

fn hosts(stack: &OdooAiStack) -> impl Iterator<Item = &str> {
    let ingress = stack.spec.ingress.as_ref().filter(|_| stack.metadata.deletion_timestamp.is_none());
    let api = ingress.and_then(|it| it.api.as_ref()).map(|it| it.host.as_str());
    let dashboard = ingress.and_then(|it| it.dashboard.as_ref()).map(|it| it.host.as_str());
    api.into_iter().chain(dashboard)
}

/// Who was there first; of two of the same second, by their names.
fn age(stack: &OdooAiStack) -> impl Ord + use<> {
    (stack.creation_timestamp().map(|at| at.0), stack.namespace(), stack.name_any())
}
