//! What a restore in place looks at besides: the stack's workloads and pods, the revision that runs, the Backup that is
//! asked before, and other Restores of the same stack.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::restore::{Restore, RestoreSpec, RestoreStep};
use odoo_ai_crds::stack::{OdooAiStack, OdooAiStackStatus};

use super::{is_active, is_in_place};
use crate::cluster::children::Children;
use crate::component::Component;
use crate::context::Context;
use crate::rollout::inputs::Inputs;
use crate::rollout::revision;
use crate::stack;
use crate::stack::error::Error;

/// One moment of what is around a restore in place.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// All children of the stack.
    pub children: Children,
    /// The revision that runs.
    pub current: Option<Current>,
    /// The Backup that is asked before the database is replaced.
    pub before: Option<Arc<Backup>>,
    /// Restores of the same stack that are under way in place.
    pub others: Vec<Other>,
}

/// The stack's current revision.
#[derive(Clone, Debug)]
pub struct Current {
    /// Its name.
    pub revision: String,
    /// Its ai-service image.
    pub image: String,
    /// Its inputs; the values of Secrets are in its own copy.
    pub inputs: Inputs,
}

/// Another Restore that is under way in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// It stops the application, or lets it start again.
    pub interrupts: bool,
    /// Created before this one.
    pub older: bool,
}

impl Surroundings {
    /// Reads them; `step` is where the Restore is.
    ///
    /// # Errors
    /// [`Error::Api`] when the API server can't be asked.
    pub async fn read(
        ctx: &Context,
        object: &Restore,
        stack: Option<&OdooAiStack>,
        backup: Option<&Backup>,
        step: Option<RestoreStep>,
    ) -> Result<Self, Error> {
        let (namespace, spec) = (object.namespace().unwrap_or_default(), &object.spec);
        let name = &spec.stack_ref.name;
        let mut children = ctx.caches.children(&namespace, name);
        children.compare(&namespace, |key| ctx.applier.applied_generation(key));
        let stored = ctx.revisions.load(&ctx.client, &namespace, &children).await?;
        let current = stack.and_then(|it| it.status.as_ref()).and_then(|status| {
            let (revision, image) = running(status)?;
            let stored = stored.get(&revision::name(name, revision))?;
            let inputs = Inputs::from_stored(&stored.inputs);
            Some(Current { revision: revision.to_owned(), image: image.to_owned(), inputs })
        });
        let before = match asked(spec, backup, stack) {
            Some(asked) => stack::observe::backup(ctx, &namespace, &asked).await?,
            None => None,
        };
        let others = if step == Some(RestoreStep::Migrate) {
            // Who goes on to stop the application must know of all.
            let api: Api<Restore> = Api::namespaced(ctx.client.clone(), &namespace);
            let of_stack = ListParams::default().fields(&format!("spec.stackRef.name={name}"));
            api.list(&of_stack).await?.items.iter().filter_map(|it| Other::of(it, object)).collect()
        } else {
            ctx.restores.state().iter().filter_map(|it| Other::of(it, object)).collect()
        };
        Ok(Self { children, current, before, others })
    }
}

/// Name and image of the revision that runs.
fn running(status: &OdooAiStackStatus) -> Option<(&str, &str)> {
    let revision = status.current_revision.as_deref()?;
    let entry = status.history.iter().find(|entry| entry.revision == revision)?;
    let image = entry.images.iter().find(|it| it.name == Component::AiService)?;
    Some((revision, &image.image))
}

/// The Backup to ask: the source's where it is of this stack, or that of the stack's migrations.
fn asked(spec: &RestoreSpec, backup: Option<&Backup>, stack: Option<&OdooAiStack>) -> Option<String> {
    let source =
        backup.filter(|backup| backup.spec.stack_ref == spec.stack_ref && backup.metadata.deletion_timestamp.is_none());
    let of_migrations = || Some(stack?.spec.migrations.backup_ref.as_ref()?.name.clone());
    source.map(ResourceExt::name_any).or_else(of_migrations)
}

impl Other {
    /// Why this one doesn't go on.
    #[must_use]
    pub fn is_waited_for(&self) -> String {
        format!("Restore {} is under way in place; its end is waited for, or that it is deleted", self.name)
    }

    fn of(other: &Restore, ours: &Restore) -> Option<Self> {
        let same = other.namespace() == ours.namespace() && other.spec.stack_ref == ours.spec.stack_ref;
        if !same || other.metadata.uid == ours.metadata.uid || !is_in_place(other) || !is_active(other) {
            return None;
        }
        let born = |it: &Restore| {
            let at = it.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
            (at, it.metadata.uid.clone())
        };
        let status = other.status.as_ref()?;
        let interrupts = status.step >= Some(RestoreStep::Drain) && status.failure.is_none();
        Some(Self { name: other.name_any(), interrupts, older: born(other) < born(ours) })
    }
}
