//! Finalizers of ours; those of others stay.

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::FIELD_MANAGER;

/// The object has the finalizer `name`.
#[must_use]
pub fn is_held<K: ResourceExt>(object: &K, name: &str) -> bool {
    object.finalizers().iter().any(|it| it == name)
}

/// Sets or takes the finalizer `name`, where the object is still as it was read. Returns it as it is then.
///
/// # Errors
/// The client's error; 409 when somebody else wrote since.
pub async fn set<K>(api: &Api<K>, object: &K, name: &str, wanted: bool) -> kube::Result<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let others = object.finalizers().iter().filter(|it| *it != name).cloned();
    let names: Vec<_> = others.chain(wanted.then(|| name.to_owned())).collect();
    let metadata = json!({"finalizers": names, "resourceVersion": object.resource_version()});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&object.name_any(), &params, &Patch::Merge(json!({"metadata": metadata}))).await
}
