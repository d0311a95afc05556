//! Where a backup comes from, read and checked the same for a Restore and for `bootstrap.restoreFrom`.

use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::source::{ArtifactSelector, ArtifactSource};

use crate::backup::model::{Storage, Volume};
use crate::backup::observe::claim_exists;
use crate::backup::validate::{bucket_is_known, places as places_of_backup};
use crate::context::Context;
use crate::stack;
use crate::stack::error::Error;
use crate::stack::model::Stack;
use crate::stack::references::{self, Data, Reference};
use crate::stack::validate::Problem;

/// What is around an [`ArtifactSource`].
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The Backup that it refers to.
    pub backup: Option<Backup>,
    /// Data of the Secret with the bucket's credentials.
    pub data: Data,
    /// The claim that it names exists; true where it names none.
    pub claim_exists: bool,
    /// Where the Backups of the stack keep theirs.
    pub kept: Vec<Storage>,
}

impl Source {
    /// Reads it, for this stack.
    ///
    /// # Errors
    /// [`Error::Api`] when the API server can't be asked.
    pub async fn read(ctx: &Context, namespace: &str, stack: &str, spec: &ArtifactSource) -> Result<Self, Error> {
        let backup = match &spec.backup_ref {
            Some(reference) => {
                stack::observe::backup(ctx, namespace, &reference.name).await?.map(|it| Backup::clone(&it))
            }
            None => None,
        };
        let storage = places(spec, backup.as_ref());
        let bucket = storage.as_ref().and_then(|it| it.bucket.as_ref());
        let secrets = bucket.map(|it| Reference::Secret(it.credentials_secret_ref.name.clone())).into_iter().collect();
        let claim = storage.as_ref().and_then(|it| it.volume.as_ref()).map(|it| it.claim.as_str());
        let (data, claim_exists) =
            tokio::join!(references::read(&ctx.client, namespace, secrets), claim_exists(ctx, namespace, claim));
        let kept = ctx.caches.backups_of(namespace, stack).iter().map(|it| places_of_backup(it)).collect();
        Ok(Self { backup, data: data?, claim_exists: claim_exists?, kept })
    }

    /// Where the backup is. `field`: where the source is in the spec, for a message.
    ///
    /// # Errors
    /// What is missing.
    pub fn storage(&self, spec: &ArtifactSource, field: &str) -> Result<Storage, Problem> {
        let Some(storage) = places(spec, self.backup.as_ref()) else {
            let name = spec.backup_ref.as_ref().map_or("", |it| &it.name);
            let message = format!(
                "there is no Backup {name} in this namespace; create it, or give {field}.storage instead of {field}.backupRef"
            );
            return Err(Problem::missing(reasons::BACKUP_NOT_FOUND, message));
        };
        if let Some(Volume { claim, .. }) = storage.volume.as_ref().filter(|_| !self.claim_exists) {
            let message = format!("there is no PersistentVolumeClaim {claim} in this namespace, and backups are in it");
            return Err(Problem::missing(reasons::VOLUME_MISSING, message));
        }
        bucket_is_known(&storage, &self.data)?;
        Ok(storage)
    }

    /// Whose backups there: `<namespace>/<stack>`; those of this stack where nothing else is said.
    #[must_use]
    pub fn catalogue(&self, spec: &ArtifactSource, namespace: &str, stack: &str) -> (String, String) {
        let named = spec.catalogue.as_ref().and_then(|catalogue| catalogue.split_once('/'));
        let (namespace, stack) =
            named.unwrap_or((namespace, self.backup.as_ref().map_or(stack, |it| &it.spec.stack_ref.name)));
        (namespace.to_owned(), stack.to_owned())
    }

    /// It is the catalogue to which a Backup of this stack adds: its own, in the same place.
    #[must_use]
    pub fn is_kept_by(&self, spec: &ArtifactSource, stack: &Stack) -> bool {
        let own = (stack.namespace.clone(), stack.name.clone());
        let Some(from) = places(spec, self.backup.as_ref()) else { return false };
        let same = |kept: &Storage| {
            let claim = |it: &Storage| it.volume.as_ref().map(|volume| volume.claim.clone());
            let bucket =
                |it: &Storage| it.bucket.as_ref().map(|it| (it.endpoint.clone(), it.bucket.clone(), it.prefix.clone()));
            (claim(kept).is_some() && claim(kept) == claim(&from))
                || (bucket(kept).is_some() && bucket(kept) == bucket(&from))
        };
        spec.artifact.is_some()
            && self.catalogue(spec, &stack.namespace, &stack.name) == own
            && self.kept.iter().any(same)
    }

    /// The id of what a selector means now, as the Backup knows it.
    #[must_use]
    pub fn selected(&self, selector: ArtifactSelector) -> Option<String> {
        let status = self.backup.as_ref()?.status.as_ref()?;
        match selector {
            ArtifactSelector::Latest => Some(status.last_success.as_ref()?.id.clone()),
            ArtifactSelector::LatestVerified => Some(status.last_verified.as_ref()?.id.clone()),
        }
    }
}

/// Where the source is, whether it is there or not; `None`: its Backup isn't known.
#[must_use]
pub fn places(spec: &ArtifactSource, backup: Option<&Backup>) -> Option<Storage> {
    let Some(storage) = &spec.storage else { return backup.map(places_of_backup) };
    let volume = storage.persistent_volume_claim.as_ref();
    let volume = volume.map(|it| Volume { claim: it.claim_name.clone(), made: None });
    Some(Storage { volume, bucket: storage.s3.clone() })
}
