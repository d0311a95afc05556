//! Everything that a reconcile looks at, read once at its beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use odoo_ai_crds::stack::{OdooAiStack, OdooAiStackStatus};

use super::agents::Agents;
use super::build::data;
use super::error::Error;
use super::model::AppSecrets;
use super::references::{self, Data};
use super::validate;
use crate::cluster::cache::Children;
use crate::cluster::pending;
use crate::context::Context;
use crate::rollout::revision::Stored;

/// One moment of a stack.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The custom resource, read live.
    pub object: OdooAiStack,
    /// Its children, from the caches.
    pub children: Children,
    /// Data of the user's Secrets and `ConfigMap`s.
    pub data: Data,
    /// Key of the HMAC that names revisions; `None` until it is generated.
    pub revision_key: Option<Vec<u8>>,
    /// Stored templates by name.
    pub stored: BTreeMap<String, Arc<Stored>>,
    /// What the agents said.
    pub agents: Agents,
    /// Now.
    pub now: Timestamp,
}

impl Observed {
    /// The status, or an empty one.
    #[must_use]
    pub fn status(&self) -> OdooAiStackStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// Name of a child, also where the spec was not accepted.
    #[must_use]
    pub fn child(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.object.name_any())
    }

    /// The generation of the spec.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }
}

/// Reads the stack live and its surroundings; `None` when it is gone or going.
///
/// # Errors
/// [`Error::Api`] when the API server can't be asked.
pub async fn observe(ctx: &Context, name: &str, namespace: &str) -> Result<Option<Box<Observed>>, Error> {
    let api: Api<OdooAiStack> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await? else { return Ok(None) };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let mut children = ctx.caches.children(namespace, name);
    children.compare(namespace, |key| ctx.applier.applied_generation(key));
    let (AppSecrets::Referenced(app) | AppSecrets::Generated(app)) = validate::app_secrets(&object.spec, name);
    let wanted = references::of(&object.spec, &app);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let key = format!("{}-{}", object.name_any(), data::REVISION_KEY.suffix);
    let now = Timestamp::now();
    let (data, key, stored, agents, pending) = tokio::join!(
        references::read(&ctx.client, namespace, wanted),
        secrets.get_opt(&key),
        ctx.revisions.load(&ctx.client, namespace, &children),
        Agents::ask(&ctx.http, &ctx.agents, &children),
        pending::read(&ctx.client, namespace, &children, now),
    );
    let revision_key = key?.and_then(|secret| Some(secret.data?.remove("key")?.0));
    let (data, stored) = (data?, stored?);
    children.pending = pending?;
    Ok(Some(Box::new(Observed { object, children, data, revision_key, stored, agents, now })))
}
