//! The one function that writes children.
//!
//! A steady stack costs no request at all: when the intent's hash and the child's version equal
//! what was applied last, nothing is sent. When memory is missing (a restart) or the version moved
//! (somebody else wrote), one GET decides whether our fields still stand; only a real difference is
//! written.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use super::covers::covers;
use super::intent::{self, Intent, Key, Mode};
use crate::labels::{self, APPLIED_HASH};

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something with this name exists and isn't ours.
    #[error("{0} exists and does not belong to this stack; rename or remove one of the two")]
    Foreign(Key),
    /// It belongs to a stack of the same name that was deleted, and waits for the garbage collector.
    #[error("{0} of a deleted stack of this name is still being removed")]
    Leftover(Key),
    /// The API server refused or could not be reached.
    #[error("{key}: {}", words(source))]
    Api {
        /// The object that was written or read.
        key: Key,
        /// The client's error.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// What the API server said where it lets nobody do that, for example in a namespace that is going.
    #[must_use]
    pub fn forbidden(&self) -> Option<String> {
        let Self::Api { source, .. } = self else { return None };
        matches!(&**source, kube::Error::Api(status) if status.code == 403).then(|| words(source))
    }
}

/// What became of an intent.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing was sent, or only read.
    Unchanged,
    /// The object was written; this is the API server's answer.
    Written(Box<DynamicObject>),
}

#[derive(Clone, Debug)]
struct Remembered {
    stack: String,
    digest: String,
    uid: String,
    generation: Option<i64>,
    resource_version: Option<String>,
}

impl Remembered {
    fn new(intent: &Intent, meta: &ObjectMeta) -> Self {
        Self {
            stack: intent.stack().unwrap_or_default().to_owned(),
            digest: intent.digest.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            resource_version: meta.resource_version.clone(),
        }
    }

    /// True when the cached metadata show nothing newer than our own last write.
    fn still_stands(&self, seen: &ObjectMeta, intent: &Intent) -> bool {
        if seen.uid.as_deref() != Some(&self.uid) || !metadata_stands(seen, intent) {
            return false;
        }
        match (self.generation, seen.generation) {
            // A cache that lags behind our own write shows an older generation.
            (Some(applied), Some(seen)) => seen <= applied,
            _ => self.resource_version == seen.resource_version,
        }
    }
}

/// Applies intents and remembers what it applied.
pub struct Applier {
    client: Client,
    memory: Mutex<HashMap<Key, Remembered>>,
}

impl Applier {
    /// An applier with an empty memory.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, memory: Mutex::default() }
    }

    /// The generation that our last write of `key` produced; a cached object below it is out of date.
    #[must_use]
    pub fn applied_generation(&self, key: &Key) -> Option<i64> {
        self.memory().get(key).and_then(|remembered| remembered.generation)
    }

    /// Brings one object to its intent. `seen` is its metadata from a cache, `stack_uid` the UID of
    /// the stack that it is for.
    ///
    /// # Errors
    /// [`Error::Foreign`] when the name is taken by an object that isn't ours, [`Error::Leftover`]
    /// when by one of a predecessor that is going, else [`Error::Api`].
    pub async fn apply(&self, intent: &Intent, seen: Option<&ObjectMeta>, stack_uid: &str) -> Result<Outcome, Error> {
        let key = intent.key();
        if let Some(seen) = seen {
            let remembered = self.memory().get(&key).cloned();
            let known = remembered.is_some_and(|r| r.digest == intent.digest && r.still_stands(seen, intent));
            if known || (intent.mode == Mode::CreateOnly && ownership(seen, intent, stack_uid) == Ownership::Ours) {
                return Ok(Outcome::Unchanged);
            }
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &intent.namespace, &intent.resource);
        let failed = |source| Error::Api { key: key.clone(), source: Box::new(source) };
        let live = api.get_opt(&intent.name).await.map_err(failed)?;
        match live.as_ref().map(|live| ownership(&live.metadata, intent, stack_uid)) {
            Some(Ownership::Foreign) => return Err(Error::Foreign(key)),
            Some(Ownership::Leftover) => return Err(Error::Leftover(key)),
            Some(Ownership::Ours) | None => {}
        }
        let written = match (&live, intent.mode) {
            (Some(_), Mode::CreateOnly) => return Ok(Outcome::Unchanged),
            (Some(live), Mode::Apply | Mode::Adopt) if stands(live, intent) => {
                self.remember(key, Remembered::new(intent, &live.metadata));
                return Ok(Outcome::Unchanged);
            }
            (_, Mode::Apply | Mode::Adopt) => {
                // Without force where nothing was found: what somebody made since is a conflict, not ours.
                let params = PatchParams { force: live.is_some(), ..PatchParams::apply(FIELD_MANAGER) };
                match api.patch(&intent.name, &params, &Patch::Apply(&intent.object)).await {
                    Err(kube::Error::Api(status)) if status.code == 422 && live.is_some() => {
                        take_back(&api, intent, status).await
                    }
                    answer => answer,
                }
            }
            (None, Mode::CreateOnly) => {
                let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let object: DynamicObject =
                    serde_json::from_value(intent.object.clone()).expect("an intent is an object");
                api.create(&params, &object).await
            }
        }
        .map_err(|source| Error::Api { key: key.clone(), source: Box::new(source) })?;
        tracing::info!(object = %key, "applied");
        self.remember(key, Remembered::new(intent, &written.metadata));
        Ok(Outcome::Written(Box::new(written)))
    }

    /// Forgets the children of a stack that is gone.
    pub fn forget(&self, namespace: &str, stack: &str) {
        self.memory().retain(|key, remembered| key.namespace != namespace || remembered.stack != stack);
    }

    /// Forgets an object that was deleted.
    pub fn forget_child(&self, key: &Key) {
        self.memory().remove(key);
    }

    fn remember(&self, key: Key, remembered: Remembered) {
        self.memory().insert(key, remembered);
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Remembered>> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Somebody renumbered a port of our Service: ports are merged by number, so ours would come beside
/// theirs, under the same name. The whole list is put back, then applied again to own it.
async fn take_back(
    api: &Api<DynamicObject>,
    intent: &Intent,
    refusal: Box<kube::core::Status>,
) -> kube::Result<DynamicObject> {
    if intent.resource.kind != "Service" {
        return Err(kube::Error::Api(refusal));
    }
    let ports = json!({"spec": {"ports": intent.object["spec"]["ports"]}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&intent.name, &params, &Patch::Merge(&ports)).await?;
    let params = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&intent.name, &params, &Patch::Apply(&intent.object)).await
}

fn stands(live: &DynamicObject, intent: &Intent) -> bool {
    let annotations = live.metadata.annotations.as_ref();
    let same_hash = annotations.and_then(|a| a.get(APPLIED_HASH)) == Some(&intent.hash);
    same_hash && serde_json::to_value(live).is_ok_and(|live: Value| covers(&live, &intent.object))
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ownership {
    Ours,
    Leftover,
    Foreign,
}

/// Ours is what our stack or the intent's own owner controls, and what has our labels and no
/// controller: volumes and keys outlive their stack. With our labels but under the UID of another
/// stack it is a leftover that the garbage collector has not reached yet.
fn ownership(meta: &ObjectMeta, intent: &Intent, stack_uid: &str) -> Ownership {
    let controller = intent::controller(meta);
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let labelled = label(labels::MANAGED_BY) == Some(labels::OPERATOR) && label(labels::STACK) == intent.stack();
    match controller {
        Some(owner) if owner.uid == stack_uid || Some(owner.uid.as_str()) == intent.controller() => Ownership::Ours,
        Some(owner) if labelled && labels::OWNER_KINDS.contains(&owner.kind.as_str()) => Ownership::Leftover,
        None if labelled || intent.mode == Mode::Adopt => Ownership::Ours,
        _ => Ownership::Foreign,
    }
}

/// Labels and controller, which no generation counts.
fn metadata_stands(seen: &ObjectMeta, intent: &Intent) -> bool {
    let wanted = intent.object["metadata"]["labels"].as_object();
    let label = |name: &String| seen.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let labels = wanted.into_iter().flatten().all(|(name, value)| label(name) == value.as_str());
    labels && intent::controller(seen).map(|owner| owner.uid.as_str()) == intent.controller()
}

/// What the API server said, without the rest of its answer.
#[must_use]
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
