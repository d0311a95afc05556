//! What every reconcile shares. No decision lives here: all of it can be lost at any time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::OdooAiStack;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::cluster::apply::{self, Applier, Outcome};
use crate::cluster::bell::Bell;
use crate::cluster::cache::{Caches, Scope, Streams};
use crate::cluster::cached::{Cached, cached};
use crate::cluster::children::Children;
use crate::cluster::events::Events;
use crate::cluster::finalizer;
use crate::cluster::intent::Intent;
use crate::cluster::nodes::Nodes;
use crate::cluster::status;
use crate::metrics::{Metrics, Object};
use crate::rollout::revision::Library;
use crate::routes::directory::Directory as RouteDirectory;
use crate::routes::entrance::Entrance;
use crate::routes::probe::{Proxy, Question};
use crate::routes::rivals::Stacks;
use crate::rules::board::Boards;
use crate::stack;
use crate::stack::agents::Directory;
use crate::stack::keys::Digests;
use crate::stack::model::Operator;

/// A kind of ours.
pub trait Custom:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + std::fmt::Debug
{
}

impl<K> Custom for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
{
}

/// Namespace and name of a custom resource.
pub type Name = (String, String);

/// The shared parts.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// Client for agents and the rules API.
    pub http: reqwest::Client,
    /// Caches of the watched scope.
    pub caches: Caches,
    /// Writes children.
    pub applier: Applier,
    /// Stored revisions that were read.
    pub revisions: Library,
    /// Events.
    pub events: Events,
    /// Failures in a row by kind and object.
    pub backoff: Backoff<(&'static str, Name)>,
    /// What the agents said lately.
    pub agents: Directory,
    /// What was asked of routes lately.
    pub routes: RouteDirectory,
    /// Where routes are asked for.
    pub proxy: Proxy,
    /// When the last sample of a watch was taken.
    pub pacer: Pacer,
    /// The stacks of all scopes; nobody else's unless it is said so.
    pub stacks: Stacks,
    /// How clients come to Traefik; nobody asks unless it is said so.
    pub entrance: Arc<Entrance>,
    /// Wakes stacks; nobody hears it unless it is said so.
    pub stack_bell: Bell<OdooAiStack>,
    /// Wakes Backups; nobody hears it unless it is said so.
    pub backup_bell: Bell<Backup>,
    /// Wakes Restores; nobody hears it unless it is said so.
    pub restore_bell: Bell<Restore>,
    /// The Restores of this scope.
    pub restores: Cached<Restore>,
    /// The flags of this scope.
    pub flags: Cached<FeatureFlag>,
    /// The rules of each stack's application.
    pub rules: Boards,
    /// Digests of the generated keys.
    pub keys: Digests,
    /// Images on the nodes; nobody asks for them unless it is said so.
    pub nodes: Arc<Nodes>,
    /// What children must know of the operator.
    pub operator: Operator,
    /// Counters.
    pub metrics: Metrics,
    /// The time of day; a test has its own.
    pub clock: fn() -> Timestamp,
    /// Since when this operator acts.
    pub leading_since: Timestamp,
}

impl Context {
    /// A memory that knows nothing, for one scope; the streams fill its caches while they are polled.
    /// `instance` is who reports Events.
    #[must_use]
    pub fn new(
        client: Client,
        http: reqwest::Client,
        scope: &Scope,
        instance: &str,
        operator: Operator,
        metrics: Metrics,
    ) -> (Self, Streams) {
        let (caches, streams) = Caches::new(&client, scope);
        let ctx = Self {
            http,
            caches,
            applier: Applier::new(client.clone()),
            revisions: Library::default(),
            events: Events::new(client.clone(), instance),
            backoff: Backoff::default(),
            agents: Directory::default(),
            routes: RouteDirectory::default(),
            proxy: Proxy::default(),
            pacer: Pacer::default(),
            stacks: Stacks::default(),
            entrance: Arc::default(),
            stack_bell: Bell::default(),
            backup_bell: Bell::default(),
            restore_bell: Bell::default(),
            restores: cached().0,
            flags: cached().0,
            rules: Boards::default(),
            keys: Digests::default(),
            nodes: Arc::default(),
            operator,
            metrics,
            clock: Timestamp::now,
            leading_since: Timestamp::now(),
            client,
        };
        (ctx, streams)
    }

    /// From now on these routes of a stack are asked for.
    pub fn ask_for_routes(&self, name: &Name, questions: Vec<Question>) {
        for gone in self.routes.want(name, questions, Instant::now()) {
            self.metrics.certificate(name, &gone.host, None);
        }
    }

    /// Brings children to their intents, in order; `owner` is the UID of the object that they are for. Returns how many
    /// were written.
    ///
    /// # Errors
    /// The first one that could not be written.
    pub async fn write(&self, intents: &[Intent], children: &Children, owner: &str) -> Result<usize, apply::Error> {
        let mut written = 0;
        for intent in intents {
            let outcome = self.applier.apply(intent, children.meta(&intent.key()), owner).await?;
            if matches!(outcome, Outcome::Written(_)) {
                written += 1;
                self.metrics.writes.inc();
            }
        }
        Ok(written)
    }

    /// Writes the status of a custom resource, which must be as it was read. Returns it as it is then.
    ///
    /// # Errors
    /// The client's error; 409 when somebody else wrote since.
    pub async fn write_status<K: Custom>(&self, object: &mut K) -> kube::Result<K> {
        object.meta_mut().managed_fields = None;
        self.metrics.status_writes.inc();
        status::write(&self.api(object), object).await
    }

    /// Sets or takes a finalizer of ours on a custom resource, which must be as it was read. Returns it as it is then.
    ///
    /// # Errors
    /// The client's error; 409 when somebody else wrote since.
    pub async fn hold<K: Custom>(&self, object: &K, finalizer: &str, wanted: bool) -> kube::Result<K> {
        self.metrics.writes.inc();
        finalizer::set(&self.api(object), object, finalizer, wanted).await
    }

    fn api<K: Custom>(&self, object: &K) -> Api<K> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// Forgets a stack that is gone.
    pub fn forget(&self, name: &Name) {
        let (namespace, stack) = name;
        self.applier.forget(namespace, stack);
        self.backoff.succeeded(&(stack::KIND, name.clone()));
        self.pacer.reset(name);
        self.rules.forget(name);
        self.keys.forget(name);
        self.ask_for_routes(name, Vec::new());
        self.metrics.ready.remove(&Object { namespace: namespace.clone(), name: stack.clone() });
    }
}

/// Keeps samples of a watch apart: reconciles come more often than samples are due.
#[derive(Debug)]
pub struct Pacer {
    last: Mutex<HashMap<Name, Instant>>,
    clock: fn() -> Instant,
}

impl Default for Pacer {
    fn default() -> Self {
        Self::by(Instant::now)
    }
}

impl Pacer {
    /// A pacer that goes by `clock`: a test doesn't wait.
    #[must_use]
    pub fn by(clock: fn() -> Instant) -> Self {
        Self { last: Mutex::default(), clock }
    }

    /// True when a sample is due, at most once every `period`. After a restart the first one is
    /// due only a full period later: time without a leader doesn't count.
    pub fn due(&self, name: &Name, period: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = (self.clock)();
        let since = last.entry(name.clone()).or_insert(now);
        // Timers fire a little early or late; half a second is nothing to a watch.
        let due = now.saturating_duration_since(*since) + Duration::from_millis(500) >= period;
        if due {
            *since = now;
        }
        due
    }

    /// No watch is running.
    pub fn reset(&self, name: &Name) {
        self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(name);
    }
}
