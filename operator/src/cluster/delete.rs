//! The one function that deletes: the very object that was seen, or nothing.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DeleteParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client};

use super::apply::Error;
use super::intent::Key;

/// An object that should not be there any more, as it was when that was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Doomed {
    /// Group, version, kind and plural.
    pub resource: ApiResource,
    /// Kind, namespace and name.
    pub key: Key,
    /// Never one that took the name since.
    pub uid: String,
    /// Never one that somebody changed since, whose it may be now; `None` where that doesn't matter.
    pub resource_version: Option<String>,
}

impl Doomed {
    /// The object with these metadata; `None` where it is going already.
    #[must_use]
    pub fn new(resource: ApiResource, meta: &ObjectMeta) -> Option<Self> {
        if meta.deletion_timestamp.is_some() {
            return None;
        }
        let key = Key { kind: resource.kind.clone(), namespace: meta.namespace.clone()?, name: meta.name.clone()? };
        Some(Self { resource, key, uid: meta.uid.clone()?, resource_version: meta.resource_version.clone() })
    }

    /// The same of a Job.
    #[must_use]
    pub fn job(job: &Job) -> Option<Self> {
        Self::new(ApiResource::erase::<Job>(&()), &job.metadata)
    }
}

/// Deletes it, its dependents in the background; a Job stays until its pods are gone, since it may still work until
/// then. False when it is gone, or is not what was seen any
/// more: then the next decision counts.
///
/// # Errors
/// [`Error::Api`] when the API server refuses or can't be reached.
pub async fn delete(client: &Client, doomed: &Doomed) -> Result<bool, Error> {
    let Doomed { resource, key, uid, resource_version } = doomed;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, resource);
    let only = Preconditions { uid: Some(uid.clone()), resource_version: resource_version.clone() };
    let order = if resource.kind == "Job" { DeleteParams::foreground() } else { DeleteParams::background() };
    let params = DeleteParams { preconditions: Some(only), ..order };
    match api.delete(&key.name, &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        Err(source) => Err(Error::Api { key: key.clone(), source: Box::new(source) }),
    }
}
