//! What is stored of a revision: its pod templates, in a `ControllerRevision`. Applied as they were
//! stored, so that a rollback is byte for byte the same set, also after an operator upgrade.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cluster::children::Children;
use crate::cluster::intent::{Intent, Key, controller, hash};
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::stack::build::meta;
use crate::stack::model::Stack;

/// Version of the stored format; readers accept every older one.
const FORMAT: u32 = 1;
/// Characters of the hash in the name of a server's stored template.
const HASH_LENGTH: usize = 10;
/// Stored revisions that are kept in memory; a stack has three of them, and each is tens of kilobytes.
const SHELF: usize = 60;

/// Stored pod templates by component name, and what they were made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Version of this format.
    pub format_version: u32,
    /// The inputs, secret values excluded.
    pub inputs: Value,
    /// UID of the Secret with the key that named the revision; a data server's set has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_by: Option<String>,
    /// Keyed digests of the values from Secrets, by name; absent in what older operators stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<BTreeMap<String, String>>,
    /// Pod templates.
    pub templates: BTreeMap<String, PodTemplateSpec>,
    /// Number of its `ControllerRevision`; no part of what is stored.
    #[serde(skip)]
    pub number: i64,
}

impl Stored {
    /// Templates made now.
    #[must_use]
    pub fn new(inputs: Value, templates: BTreeMap<String, PodTemplateSpec>) -> Self {
        Self { format_version: FORMAT, inputs, named_by: None, digests: None, templates, number: 0 }
    }
}

/// Name of the `ControllerRevision` of an application revision.
#[must_use]
pub fn name(stack: &str, revision: &str) -> String {
    format!("{stack}-{revision}")
}

/// Name suffix of a data server's stored template.
#[must_use]
pub fn suffix_of_server(component: Component, inputs: &Value) -> String {
    format!("{}-{}", component.name(), of_server(inputs))
}

/// Name of a data server's template, by the hash of what the user wrote.
#[must_use]
pub fn of_server(inputs: &Value) -> String {
    let mut hash = hash(inputs);
    hash.truncate(HASH_LENGTH);
    hash
}

/// The intent to keep `stored` under `<stack>-<suffix>`.
#[must_use]
pub fn intent(stack: &Stack, component: &str, suffix: &str, number: i64, stored: &Stored) -> Intent {
    let mut metadata = meta::owned(stack, component, suffix);
    if component == APPLICATION {
        metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), suffix.to_owned());
    }
    let data = serde_json::to_value(stored).expect("templates serialise to JSON");
    Intent::create_only(&ControllerRevision { metadata, revision: number, data: Some(RawExtension(data)) })
}

/// Component label of an application revision.
pub const APPLICATION: &str = "application";
/// Component label of a data server's stored template: not the server's own, by which its
/// `StatefulSet` would take it for one of its revisions.
pub const SERVER: &str = "server-template";

/// The stored revision that owns the copy of this name. Earlier operators made it the owner; now
/// copies belong to the stack from the beginning, and an owner is never changed.
#[must_use]
pub fn owner_of_copy(children: &Children, namespace: &str, copy: &str) -> Option<OwnerReference> {
    let copy = Key { kind: "Secret".to_owned(), namespace: namespace.to_owned(), name: copy.to_owned() };
    let owner = controller(children.meta(&copy)?)?;
    let stored = children.meta(&key(namespace, &owner.name))?;
    (owner.kind == "ControllerRevision" && stored.uid.as_ref() == Some(&owner.uid)).then(|| owner.clone())
}

/// A `StatefulSet` makes revisions of its own, which carry its labels.
fn is_stored(key: &Key, meta: &ObjectMeta) -> bool {
    let mut owners = meta.owner_references.iter().flatten();
    key.kind == "ControllerRevision" && owners.any(|owner| owner.kind == "OdooAiStack")
}

fn key(namespace: &str, name: &str) -> Key {
    Key { kind: "ControllerRevision".to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Reads stored revisions. They are immutable: one is read again only after many others were.
#[derive(Debug, Default)]
pub struct Library {
    read: Mutex<Shelf>,
}

/// What was read, with the turn in which it was last wanted, by UID.
#[derive(Debug, Default)]
struct Shelf {
    turn: u64,
    read: HashMap<String, (u64, Arc<Stored>)>,
}

impl Shelf {
    fn take(&mut self, uid: &str) -> Option<Arc<Stored>> {
        self.turn += 1;
        let (turn, stored) = self.read.get_mut(uid)?;
        *turn = self.turn;
        Some(Arc::clone(stored))
    }

    fn put(&mut self, uid: String, stored: Arc<Stored>) {
        self.read.insert(uid, (self.turn, stored));
        if self.read.len() > SHELF {
            let oldest = self.read.iter().min_by_key(|(_, (turn, _))| *turn).map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| self.read.remove(&uid));
        }
    }
}

impl Library {
    /// All stored revisions of the stack whose children are given, by name.
    ///
    /// # Errors
    /// The client's error; what can't be understood is logged and left out.
    pub async fn load(
        &self,
        client: &Client,
        namespace: &str,
        children: &Children,
    ) -> kube::Result<BTreeMap<String, Arc<Stored>>> {
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
        let (api, wanted) = (&api, children.metadata.iter().filter(|(key, meta)| is_stored(key, meta)));
        let reads = wanted.map(|(key, meta)| async move {
            let Some(uid) = meta.uid.clone() else { return Ok(None) };
            let known = self.lock().take(&uid);
            let stored = match known {
                Some(stored) => Some(stored),
                None => api.get_opt(&key.name).await?.and_then(|object| self.understand(uid, object)),
            };
            Ok::<_, kube::Error>(stored.map(|stored| (key.name.clone(), stored)))
        });
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    /// Forgets a revision that was deleted.
    pub fn forget(&self, uid: &str) {
        self.lock().read.remove(uid);
    }

    fn understand(&self, uid: String, object: ControllerRevision) -> Option<Arc<Stored>> {
        let name = object.metadata.name.unwrap_or_default();
        let stored: Result<Stored, _> = serde_json::from_value(object.data?.0);
        match stored {
            Ok(stored) if stored.format_version <= FORMAT => {
                let stored = Arc::new(Stored { number: object.revision, ..stored });
                self.lock().put(uid, Arc::clone(&stored));
                Some(stored)
            }
            Ok(stored) => {
                tracing::warn!(name, version = stored.format_version, "stored revision of a newer operator left out");
                None
            }
            Err(error) => {
                tracing::warn!(name, %error, "stored revision can't be read");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The next `revision` number, for the order in which `kubectl` lists them.
#[must_use]
pub fn next_number(stored: &BTreeMap<String, Arc<Stored>>) -> i64 {
    stored.values().map(|stored| stored.number).max().unwrap_or_default() + 1
}

/// Revision label of a child.
#[must_use]
pub fn label(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(labels::REVISION).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_last_stays_in_memory() {
        let mut shelf = Shelf::default();
        for number in 0..SHELF {
            assert!(shelf.take(&number.to_string()).is_none());
            shelf.put(number.to_string(), Arc::default());
        }
        assert!(shelf.take("0").is_some());
        shelf.put("new".to_owned(), Arc::default());
        assert_eq!(shelf.read.len(), SHELF);
        assert!(shelf.take("0").is_some() && shelf.take("new").is_some() && shelf.take("1").is_none());
    }
}
