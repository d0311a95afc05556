//! What should be in the cluster: one object, how it is written and who owns it.

use std::fmt::{Display, Formatter, Write};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::ApiResource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::labels::{APPLIED_HASH, STACK};

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Server-side apply; our fields are put back when they drift.
    Apply,
    /// Created once and never written again: Jobs, `ControllerRevision`s, generated Secrets.
    CreateOnly,
    /// Server-side apply on an object that may have been made by a person, like a restored Secret.
    Adopt,
}

/// One object that should exist.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Group, version, kind and plural of the object.
    pub resource: ApiResource,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is written.
    pub mode: Mode,
    /// The whole object as JSON, `apiVersion` and `kind` included.
    pub object: Value,
    /// SHA-256 of the canonical JSON of `object`, hexadecimal. A Secret's data are left out: the hash
    /// is kept in an annotation, and a plain hash of a weak secret could be guessed.
    pub hash: String,
    /// The same over all of it, for our memory only.
    pub digest: String,
}

/// Kind and name of a child, unique within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind, like `Deployment`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Display for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Intent {
    /// Intent to apply `object`, which must carry a name and a namespace.
    #[must_use]
    pub fn apply<K>(object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self::new(object, Mode::Apply)
    }

    /// Intent to create `object` once.
    #[must_use]
    pub fn create_only<K>(object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self::new(object, Mode::CreateOnly)
    }

    /// Intent to apply `object` to what may have been made by a person.
    #[must_use]
    pub fn adopt<K>(object: &K) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        Self::new(object, Mode::Adopt)
    }

    fn new<K>(object: &K, mode: Mode) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let meta: &ObjectMeta = object.meta();
        let mut json = serde_json::to_value(object).expect("Kubernetes objects serialise to JSON");
        let digest = hash(&json);
        let hash = if K::kind(&()) == "Secret" {
            let mut told = json.clone();
            told["data"].take();
            hash(&told)
        } else {
            digest.clone()
        };
        json["metadata"]["annotations"][APPLIED_HASH] = Value::String(hash.clone());
        Self {
            resource: ApiResource::erase::<K>(&()),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            mode,
            object: json,
            hash,
            digest,
        }
    }

    /// UID of the controller that the object names.
    #[must_use]
    pub fn controller(&self) -> Option<&str> {
        let owners = self.object["metadata"]["ownerReferences"].as_array()?;
        owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
    }

    /// The stack that the object belongs to, by its label.
    #[must_use]
    pub fn stack(&self) -> Option<&str> {
        self.object["metadata"]["labels"][STACK].as_str()
    }

    /// Kind, namespace and name.
    #[must_use]
    pub fn key(&self) -> Key {
        Key { kind: self.resource.kind.clone(), namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

/// The one owner that cares for an object, if it has one.
#[must_use]
pub fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// SHA-256 of the canonical JSON of `value`, hexadecimal.
#[must_use]
pub fn hash(value: &Value) -> String {
    hex(&Sha256::digest(canonical(value)))
}

/// JSON with sorted keys and without spaces, whatever map type `serde_json` was built with.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut sorted = value.clone();
    sorted.sort_all_objects();
    sorted.to_string()
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_json_does_not_depend_on_the_order_of_keys() {
        assert_eq!(canonical(&json!({"b": [1, "x\""], "a": null})), r#"{"a":null,"b":[1,"x\""]}"#);
    }
}
