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
use serde_json::Value;

use super::FIELD_MANAGER;
use super::covers::covers;
use super::intent::{Intent, Key, Mode};
use crate::labels::{self, APPLIED_HASH};

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something with this name exists and isn't ours.
    #[error("{0} exists and is not managed by this resource; rename or delete it")]
    Foreign(Key),
    /// The API server refused or could not be reached.
    #[error("{key}: {source}")]
    Api {
        /// The object that was written or read.
        key: Key,
        /// The client's error.
        source: Box<kube::Error>,
    },
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
    hash: String,
    uid: String,
    generation: Option<i64>,
    resource_version: Option<String>,
}

impl Remembered {
    fn new(intent: &Intent, meta: &ObjectMeta) -> Self {
        Self {
            stack: intent.stack().unwrap_or_default().to_owned(),
            hash: intent.hash.clone(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            resource_version: meta.resource_version.clone(),
        }
    }

    /// True when the cached metadata show nothing newer than our own last write.
    fn still_stands(&self, seen: &ObjectMeta) -> bool {
        if seen.uid.as_deref() != Some(&self.uid) {
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

    /// Brings one object to its intent. `seen` is its metadata from a cache.
    ///
    /// # Errors
    /// [`Error::Foreign`] when the name is taken by an object that isn't ours, else [`Error::Api`].
    pub async fn apply(&self, intent: &Intent, seen: Option<&ObjectMeta>) -> Result<Outcome, Error> {
        let key = intent.key();
        if let Some(seen) = seen {
            let remembered = self.memory().get(&key).cloned();
            let known = remembered.is_some_and(|r| r.hash == intent.hash && r.still_stands(seen));
            if known || (intent.mode == Mode::CreateOnly && is_ours(seen, intent)) {
                return Ok(Outcome::Unchanged);
            }
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &intent.namespace, &intent.resource);
        let failed = |source| Error::Api { key: key.clone(), source: Box::new(source) };
        let live = api.get_opt(&intent.name).await.map_err(failed)?;
        let written = match (&live, intent.mode) {
            (Some(live), _) if !is_ours(&live.metadata, intent) => return Err(Error::Foreign(key)),
            (Some(_), Mode::CreateOnly) => return Ok(Outcome::Unchanged),
            (Some(live), Mode::Apply) if stands(live, intent) => {
                self.remember(key, Remembered::new(intent, &live.metadata));
                return Ok(Outcome::Unchanged);
            }
            (_, Mode::Apply) => {
                let params = PatchParams::apply(FIELD_MANAGER).force();
                api.patch(&intent.name, &params, &Patch::Apply(&intent.object)).await
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

    fn remember(&self, key: Key, remembered: Remembered) {
        self.memory().insert(key, remembered);
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Remembered>> {
        self.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn stands(live: &DynamicObject, intent: &Intent) -> bool {
    let annotations = live.metadata.annotations.as_ref();
    let same_hash = annotations.and_then(|a| a.get(APPLIED_HASH)) == Some(&intent.hash);
    same_hash && serde_json::to_value(live).is_ok_and(|live: Value| covers(&live, &intent.object))
}

/// Ours: our labels for this stack, and no controller but a stack or a revision. A stack that was
/// deleted and made anew takes over what the garbage collector has not reached yet.
fn is_ours(meta: &ObjectMeta, intent: &Intent) -> bool {
    let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
    let wanted = intent.stack();
    let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    label(labels::MANAGED_BY) == Some(labels::OPERATOR)
        && wanted.is_some()
        && label(labels::STACK) == wanted
        && controller.is_none_or(|owner| labels::OWNER_KINDS.contains(&owner.kind.as_str()))
}
