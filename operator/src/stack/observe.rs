//! Everything that a reconcile looks at, read once at its beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::{ArtifactStatus, Backup};
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::{LastBackup, OdooAiStack, OdooAiStackStatus};

use super::agents::Agents;
use super::build::application::copy_name;
use super::build::credentials::keys;
use super::build::data;
use super::credentials::Live;
use super::error::Error;
use super::keys::Export;
use super::references::{self, Data};
use super::restoring;
use crate::cluster::children::Children;
use crate::cluster::nodes::Images;
use crate::cluster::pending;
use crate::context::Context;
use crate::flag::tally::{self, Tally};
use crate::restore::source::Source;
use crate::rollout::bootstrap;
use crate::rollout::revision::{self, Stored};
use crate::routes::probe::Look;
use crate::routes::standing::Surroundings;

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
    pub revision_key: Option<RevisionKey>,
    /// What the current revision's pods consume of Secrets, where another key named it: only so can it be
    /// known again.
    pub current_copies: Option<BTreeMap<String, String>>,
    /// The live credentials of database and Redis.
    pub live: Option<Live>,
    /// Stored templates by name.
    pub stored: BTreeMap<String, Arc<Stored>>,
    /// What the agents said.
    pub agents: Agents,
    /// The Backup that the spec names.
    pub backup: Option<Arc<Backup>>,
    /// The newest good backup of all its Backups.
    pub last_backup: Option<LastBackup>,
    /// The application's rules that FeatureFlags declare, and those that none does; `None`: nobody looked yet.
    pub rules: Option<Tally>,
    /// Images on the nodes.
    pub node_images: Arc<Images>,
    /// What the cluster has that routes depend on.
    pub around: Surroundings,
    /// What was seen of the routes last.
    pub looks: Vec<Look>,
    /// Whether the generated keys are saved elsewhere.
    pub export: Export,
    /// The Restore that is under way in place.
    pub restore: Option<Restore>,
    /// Where an empty database gets its first data from, while somebody has to look into it.
    pub source: Option<Box<Source>>,
    /// Since when this operator acts.
    pub leading_since: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Key of the HMAC that names revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionKey {
    /// UID of its Secret.
    pub uid: String,
    /// The key.
    pub key: Vec<u8>,
}

impl RevisionKey {
    /// The key in a Secret, if it is there.
    #[must_use]
    pub fn of(secret: Secret) -> Option<Self> {
        Some(Self { uid: secret.metadata.uid?, key: secret.data?.remove("key")?.0 })
    }
}

impl Observed {
    /// The current revision, where a key named it that is not the present one.
    #[must_use]
    pub fn misnamed(&self) -> Option<&str> {
        let current = self.object.status.as_ref()?.current_revision.as_deref()?;
        let stored = self.stored.get(&revision::name(&self.object.name_any(), current))?;
        (stored.named_by.as_ref() != Some(&self.revision_key.as_ref()?.uid)).then_some(current)
    }

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

/// A Backup from the cache, or live where it has none: what is applied together comes in any order, and that
/// it doesn't exist is told as a fault.
pub(crate) async fn backup(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Arc<Backup>>, Error> {
    if let Some(cached) = ctx.caches.backup(namespace, name) {
        return Ok(Some(cached));
    }
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    Ok(api.get_opt(name).await?.map(Arc::new))
}

fn last_backup(ctx: &Context, namespace: &str, stack: &str) -> Option<LastBackup> {
    let newest = ctx.caches.backups_of(namespace, stack).into_iter().filter_map(|backup| {
        let ArtifactStatus { id, completed_at, .. } = backup.status.as_ref()?.last_success.clone()?;
        // A status of ours keeps whole seconds: another time would be written again and again.
        let completed_at = completed_at.and_then(|time| Timestamp::from_second(time.0.as_second()).ok()).map(Time);
        Some(LastBackup { id: Some(id), backup: Some(backup.name_any()), completed_at })
    });
    newest.max_by(|one, other| one.completed_at.cmp(&other.completed_at).then_with(|| one.backup.cmp(&other.backup)))
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
    // Whoever doesn't know yet which Restores there are would start what one has stopped. Nobody fills it in some tests.
    ctx.restores.filled().await;
    let mut children = ctx.caches.children(namespace, name);
    children.compare(namespace, |key| ctx.applier.applied_generation(key));
    let wanted = references::of(&object.spec, name);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let key = format!("{}-{}", object.name_any(), data::REVISION_KEY.suffix);
    let live = format!("{}-{}", object.name_any(), keys::LIVE);
    let now = (ctx.clock)();
    let listed = object.spec.ingress.as_ref().is_some_and(|it| !it.ip_allow_list.is_empty());
    let hidden = Box::pin(async { if listed { ctx.entrance.hides_clients(&ctx.client).await } else { None } });
    let (data, key, live, stored, agents, pending, node_images, hides_clients, export) = tokio::join!(
        references::read(&ctx.client, namespace, wanted),
        secrets.get_opt(&key),
        secrets.get_opt(&live),
        ctx.revisions.load(&ctx.client, namespace, &children),
        Agents::ask(&ctx.http, &ctx.agents, &children),
        pending::read(&ctx.client, namespace, &children, now),
        ctx.nodes.images(&ctx.client),
        hidden,
        Box::pin(ctx.keys.look(&ctx.client, &object, namespace, &children)),
    );
    let revision_key = key?.and_then(RevisionKey::of);
    let (data, live, stored, export) = (data?, live?.map(Live::from), stored?, export?);
    children.pending = pending?;
    let backup = match &object.spec.migrations.backup_ref {
        Some(reference) => backup(ctx, namespace, &reference.name).await?,
        None => None,
    };
    let source = match &object.spec.database.managed.bootstrap {
        Some(it) if bootstrap::is_awaited(object.status.as_ref(), children.volume(namespace, name)) => {
            Some(Box::new(Box::pin(Source::read(ctx, namespace, name, &it.restore_from)).await?))
        }
        _ => None,
    };
    let rivals = ctx.stacks.rivals(&object, ctx.leading_since, now);
    let around = Surroundings { traefik: ctx.caches.traefik(), rivals, hides_clients };
    let (current_copies, leading_since) = (None, ctx.leading_since);
    let mut seen = Observed {
        object,
        children,
        data,
        revision_key,
        current_copies,
        live,
        stored,
        agents,
        backup,
        last_backup: last_backup(ctx, namespace, name),
        rules: tally::of(ctx, namespace, name),
        node_images,
        around,
        looks: ctx.routes.looks(&(namespace.to_owned(), name.to_owned())),
        export,
        restore: restoring::of(ctx, namespace, name),
        source,
        leading_since,
        now,
    };
    if let Some(current) = seen.misnamed() {
        let copies = secrets.get_opt(&copy_name(name, current)).await?;
        seen.current_copies = copies.map(|copies| references::contents_of(copies).text);
    }
    Ok(Some(Box::new(seen)))
}
