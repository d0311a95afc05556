//! Two stacks that claim one host: the older keeps it. Known among the watched namespaces only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use odoo_ai_crds::stack::OdooAiStack;

use crate::cluster::cache::Scope;
use crate::cluster::cached::Cached;

/// Another namespace's stacks are waited for this long after a start: of two stacks with one host the newer must not
/// be the first to get its route. One that can't be listed keeps nobody from their routes for longer.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// All stacks of all watched namespaces, and who looks at them again.
#[derive(Clone, Default)]
pub struct Stacks {
    stores: Vec<Cached<OdooAiStack>>,
    listeners: Arc<Mutex<Vec<Listener>>>,
}

type Listener = (Scope, UnboundedSender<ObjectRef<OdooAiStack>>);

impl Stacks {
    /// Those in these stores.
    #[must_use]
    pub fn new(stores: Vec<Cached<OdooAiStack>>) -> Self {
        Self { stores, listeners: Arc::default() }
    }

    /// `wake` gets each stack of `scope` whose hosts another one may have taken or given up.
    pub fn listen(&self, scope: Scope, wake: UnboundedSender<ObjectRef<OdooAiStack>>) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push((scope, wake));
    }

    /// A stack appeared (`before` is `None`), changed or is gone (`after` is `None`).
    pub fn changed(&self, before: Option<&OdooAiStack>, after: Option<&OdooAiStack>) {
        let contested = contested(before, after);
        if contested.is_empty() {
            return;
        }
        let all = self.stores.iter().flat_map(|store| store.state());
        let others = all.filter(|other| hosts(other).any(|host| contested.contains(host)));
        others.for_each(|other| self.wake(&ObjectRef::from_obj(&*other)));
    }

    /// Something that a stack doesn't watch concerns it: it is looked at again.
    pub fn wake(&self, stack: &ObjectRef<OdooAiStack>) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let concerned = listeners.iter().filter(|(scope, _)| match scope {
            Scope::Cluster => true,
            Scope::Namespace(namespace) => stack.namespace.as_ref() == Some(namespace),
        });
        for (_, wake) in concerned {
            // Nobody listens: that controller is about to end.
            let _ = wake.unbounded_send(stack.clone());
        }
    }

    /// Hosts of `stack` that belong to others; `None`: not known yet.
    #[must_use]
    pub fn rivals(&self, stack: &OdooAiStack, leading_since: Timestamp, now: Timestamp) -> Option<Rivals> {
        let listed = self.stores.iter().all(Cached::is_filled);
        let known = listed || leading_since.duration_until(now) > PATIENCE;
        known.then(|| of(stack, self.stores.iter().flat_map(|store| store.state())))
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

/// Hosts that only one of the two claims.
fn contested(before: Option<&OdooAiStack>, after: Option<&OdooAiStack>) -> BTreeSet<String> {
    let of = |stack: Option<&OdooAiStack>| stack.map(|it| hosts(it).map(str::to_owned).collect::<BTreeSet<_>>());
    let (before, after) = (of(before).unwrap_or_default(), of(after).unwrap_or_default());
    before.symmetric_difference(&after).cloned().collect()
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
