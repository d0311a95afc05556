//! Everything that a reconcile looks at, read once at its beginning.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use odoo_ai_crds::backup::{Backup, BackupStatus};
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::OdooAiStack;

use super::model::Pause;
use super::remove;
use crate::cluster::children::Children;
use crate::cluster::pending;
use crate::context::Context;
use crate::restore;
use crate::rollout::{bootstrap, requests};
use crate::stack::error::Error;
use crate::stack::references::{self, Data, Reference};
use crate::stack::restoring;

/// One moment of a Backup.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The custom resource, read live.
    pub object: Backup,
    /// The stack that it is for, read live.
    pub stack: Option<OdooAiStack>,
    /// Its `CronJob`s, Jobs and pods, and other children of the stack, from the caches.
    pub children: Children,
    /// Data of the Secret with the bucket's credentials.
    pub data: Data,
    /// The claim that the spec names exists; true where it names none.
    pub claim_exists: bool,
    /// A Restore reads from here.
    pub restoring: bool,
    /// The Restore whose request waits here.
    pub asks: Option<Restore>,
    /// What is not started for now.
    pub paused: Pause,
    /// Now.
    pub now: Timestamp,
}

impl Observed {
    /// The status, or an empty one.
    #[must_use]
    pub fn status(&self) -> BackupStatus {
        self.object.status.clone().unwrap_or_default()
    }

    /// The generation of the spec.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.object.metadata.generation.unwrap_or_default()
    }
}

/// Reads the Backup live and its surroundings; `None` when it is gone, or goes without us.
///
/// # Errors
/// [`Error::Api`] when the API server can't be asked.
pub async fn observe(ctx: &Context, name: &str, namespace: &str) -> Result<Option<Box<Observed>>, Error> {
    let api: Api<Backup> = Api::namespaced(ctx.client.clone(), namespace);
    let Some(object) = api.get_opt(name).await? else { return Ok(None) };
    if object.metadata.deletion_timestamp.is_some() && !remove::is_held(&object) {
        return Ok(None);
    }
    let (spec, now) = (&object.spec, (ctx.clock)());
    let mut children = ctx.caches.children_of_backup(namespace, &spec.stack_ref.name, name);
    let stacks: Api<OdooAiStack> = Api::namespaced(ctx.client.clone(), namespace);
    let secrets = spec.storage.s3.iter().map(|it| Reference::Secret(it.credentials_secret_ref.name.clone())).collect();
    let claim = spec.storage.persistent_volume_claim.as_ref().and_then(|volume| volume.claim_name.as_deref());
    let (stack, data, pending, claim_exists) = tokio::join!(
        stacks.get_opt(&spec.stack_ref.name),
        references::read(&ctx.client, namespace, secrets),
        pending::read(&ctx.client, namespace, &children, now),
        claim_exists(ctx, namespace, claim),
    );
    children.pending = pending?;
    let (stack, data, claim_exists) = (stack?, data?, claim_exists?);
    let stack = stack.filter(|it| it.metadata.deletion_timestamp.is_none());
    let restoring =
        !ctx.restores.state_filter(|it| restore::reads(it) && restore::run::is_from(it, &object)).is_empty();
    let request = requests::token(&object, annotations::BACKUP_REQUESTED_AT);
    let asks = match request.as_deref().and_then(restore::before::of_request) {
        Some(name) => Api::<Restore>::namespaced(ctx.client.clone(), namespace).get_opt(name).await?,
        None => None,
    };
    let replaced = restoring::of(ctx, namespace, &spec.stack_ref.name).is_some_and(|it| restoring::stops(&it));
    // A backup of the empty database would be the newest one, which it may be about to begin with.
    let volume = children.volume(namespace, &spec.stack_ref.name);
    let begins = |it: &OdooAiStack| {
        it.spec.database.managed.bootstrap.is_some() && bootstrap::is_awaited(it.status.as_ref(), volume)
    };
    let paused = match (replaced, stack.as_ref().is_some_and(begins)) {
        (true, _) => Pause::All,
        (false, true) => Pause::Schedules,
        (false, false) => Pause::Nothing,
    };
    Ok(Some(Box::new(Observed { object, stack, children, data, claim_exists, restoring, asks, paused, now })))
}

/// Whether a claim exists; true where none is named.
///
/// # Errors
/// [`Error::Api`] when the API server can't be asked.
pub async fn claim_exists(ctx: &Context, namespace: &str, claim: Option<&str>) -> Result<bool, Error> {
    let Some(claim) = claim else { return Ok(true) };
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    Ok(api.get_metadata_opt(claim).await?.is_some())
}
