//! What happened, in order: every version of the objects of a namespace, from watches that began
//! before. Order comes from resource versions: one counter of the store for all kinds.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::wait_for;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::room::{COMPONENT, Room};

/// A watch may tell a little later than another request does.
const LATE: Duration = Duration::from_secs(10);
const KINDS: usize = 6;

/// One version of an object.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    pub(crate) at: Duration,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) deleted: bool,
    pub(crate) object: Value,
}

impl Seen {
    pub(crate) fn is(&self, kind: &str, component: &str) -> bool {
        self.kind == kind && self.label(COMPONENT) == component
    }

    pub(crate) fn label(&self, name: &str) -> &str {
        self.object["metadata"]["labels"][name].as_str().unwrap_or_default()
    }

    pub(crate) fn revision(&self) -> &str {
        self.label("odoo-ai.atmatasolutions.com/revision")
    }

    /// A condition of the object has this status.
    pub(crate) fn has(&self, kind: &str, status: &str) -> bool {
        let conditions = self.object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == status))
    }

    /// At least one pod of the workload serves long enough.
    pub(crate) fn available(&self) -> bool {
        self.object["status"]["availableReplicas"].as_i64() >= Some(1)
    }

    /// The workload's one pod is of the newest template and serves, and no other is left.
    pub(crate) fn settled(&self) -> bool {
        let status = &self.object["status"];
        let current = status["observedGeneration"] == self.object["metadata"]["generation"];
        let one = |field: &str| status[field] == 1;
        let updated = if self.kind == "StatefulSet" {
            status["currentRevision"] == status["updateRevision"]
        } else {
            one("updatedReplicas")
        };
        current && updated && one("availableReplicas") && one("replicas")
    }

    pub(crate) fn ends(&self) -> bool {
        self.deleted || self.object["metadata"]["deletionTimestamp"].is_string()
    }

    pub(crate) fn uid(&self) -> &str {
        self.object["metadata"]["uid"].as_str().unwrap_or_default()
    }
}

/// The watches; they end with this.
pub(crate) struct Recorder {
    started: Instant,
    seen: Arc<Mutex<Vec<Seen>>>,
    _watches: JoinSet<()>,
}

impl Recorder {
    /// Starts to watch; what is there already is recorded first.
    pub(crate) async fn start(room: &Room) -> Result<Self> {
        let (sender, mut listed) = mpsc::channel(KINDS);
        let started = Instant::now();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut watches = JoinSet::new();
        watches.spawn(follow::<Pod>(room.clone(), started, Arc::clone(&seen), sender.clone()));
        watches.spawn(follow::<Service>(room.clone(), started, Arc::clone(&seen), sender.clone()));
        watches.spawn(follow::<Job>(room.clone(), started, Arc::clone(&seen), sender.clone()));
        watches.spawn(follow::<Deployment>(room.clone(), started, Arc::clone(&seen), sender.clone()));
        watches.spawn(follow::<StatefulSet>(room.clone(), started, Arc::clone(&seen), sender.clone()));
        watches.spawn(follow::<OdooAiStack>(room.clone(), started, Arc::clone(&seen), sender));
        for _ in 0..KINDS {
            tokio::time::timeout(LATE, listed.recv()).await.context("a watch does not start")?;
        }
        Ok(Self { started, seen, _watches: watches })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// All versions for which `wanted` holds, the oldest first.
    pub(crate) fn all(&self, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Seen> = seen.iter().filter(|seen| wanted(seen)).cloned().collect();
        found.sort_by_key(|seen| seen.version);
        found
    }

    /// The first version for which `wanted` holds; it is waited for.
    pub(crate) async fn first(&self, what: &str, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let wanted = &wanted;
        wait_for(what, limit, || async move { Ok(self.all(wanted).into_iter().next()) }).await
    }

    /// Like [`Recorder::first`], for what must have happened by now.
    pub(crate) async fn past(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        self.first(what, LATE, wanted).await
    }
}

/// Steps that must have happened one after the other.
#[derive(Default)]
pub(crate) struct Order(Vec<(&'static str, Seen)>);

impl Order {
    pub(crate) fn then(&mut self, what: &'static str, seen: Seen) {
        self.0.push((what, seen));
    }

    /// # Errors
    /// When one came before the one before it.
    pub(crate) fn check(&self, since: Duration) -> Result<String> {
        let second = |seen: &Seen| seen.at.saturating_sub(since).as_secs_f64();
        for pair in self.0.windows(2) {
            let [(before, first), (after, second)] = pair else { continue };
            ensure!(
                first.version < second.version,
                "“{after}” (version {}) came before “{before}” (version {})",
                second.version,
                first.version
            );
        }
        Ok(self.0.iter().map(|(what, seen)| format!("{what} {:.1} s", second(seen))).collect::<Vec<_>>().join(", "))
    }
}

async fn follow<K>(room: Room, started: Instant, seen: Arc<Mutex<Vec<Seen>>>, listed: mpsc::Sender<()>)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + 'static,
{
    let mut events = watcher(room.api::<K>(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let (object, deleted) = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => (object, false),
            Ok(Event::Delete(object)) => (object, true),
            Ok(Event::InitDone) => {
                let _ = listed.try_send(());
                continue;
            }
            // It starts again by itself; while the node reboots there is nobody to watch.
            Ok(Event::Init) | Err(_) => continue,
        };
        let version = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default();
        let (name, kind) = (object.name_any(), K::kind(&()).into_owned());
        let Ok(object) = serde_json::to_value(&object) else { continue };
        let entry = Seen { version, at: started.elapsed(), kind, name, deleted, object };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}
