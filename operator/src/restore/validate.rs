//! Parses the custom resource once, defaults included. What the schema can't see is refused here.

use kube::{Resource as _, ResourceExt};
use odoo_ai_crds::backup::{Backup, BackupJob};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::{RestoreSpec, RestoreStep};
use odoo_ai_crds::source::{Artifact, ArtifactSelector};

use super::is_in_place;
use super::model::{Plan, Wanted};
use super::observe::Observed;
use crate::backup::model::{Storage, Volume};
use crate::backup::validate::{USER, bucket_is_known, image, of_stack, places as places_of_backup};
use crate::cluster::intent::hash;
use crate::stack::build::pod;
use crate::stack::model::Operator;
use crate::stack::validate::{Problem, resources};

/// PostgreSQL's names have 63 bytes; the rest is added.
const LONGEST: usize = 44;

/// The parsed restore.
///
/// # Errors
/// A [`Problem`] with the sentence that the user reads.
pub fn plan(seen: &Observed, operator: &Operator) -> Result<Plan, Problem> {
    let (object, spec) = (&seen.object, &seen.object.spec);
    let status = seen.status();
    let in_place = is_in_place(object);
    let owner = object
        .controller_owner_ref(&())
        .ok_or_else(|| Problem::missing(reasons::NOT_OBSERVED, "the Restore has no UID yet"))?;
    let stack = of_stack(seen.stack.as_ref(), &spec.stack_ref.name, operator, "a Restore")?;
    // A Backup's own image knows the server's version too.
    let job = seen.backup.as_ref().filter(|_| spec.job == BackupJob::default()).map_or(&spec.job, |it| &it.spec.job);
    let (lock, live) = (&stack.connection.lock_database, &stack.connection.database);
    if in_place && spec.tables.is_empty() && lock == live {
        let message = format!(
            "the database {live} is also that in which the agents lock, and a database can't be renamed by who is logged in to it: set database.external.lockDatabase of the OdooAiStack {} to another one, for example postgres",
            stack.name
        );
        return Err(Problem::refused(reasons::RENAME_NOT_POSSIBLE, message));
    }
    // It was read: what happens to its Backup now must not keep the application from coming back.
    let is_loaded = status.step >= Some(RestoreStep::Migrate) || status.completed_at.is_some();
    let (image, user) = match image(job, &stack.database) {
        // What is left to do needs none of PostgreSQL's programs.
        Err(_) if is_loaded => (stack.operator_image.clone(), USER),
        image => image?,
    };
    let user_id = job.security.run_as_user.unwrap_or(user);
    let (namespace, uid) = (object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
    let catalogue = match &spec.source.catalogue {
        Some(catalogue) => catalogue.split_once('/').map_or_else(
            || (namespace.clone(), catalogue.clone()),
            |(namespace, stack)| (namespace.to_owned(), stack.to_owned()),
        ),
        None => (namespace.clone(), seen.backup.as_ref().map_or(&stack.name, |it| &it.spec.stack_ref.name).clone()),
    };
    Ok(Plan {
        name: object.name_any(),
        namespace,
        owner,
        storage: if is_loaded { Storage::default() } else { storage(seen)? },
        catalogue,
        wanted: wanted(seen)?,
        database: database(&stack.connection.database, "restored", &uid),
        tables: spec.tables.clone(),
        replaced: in_place.then(|| database(&stack.connection.database, "replaced", &uid)),
        image,
        resources: resources(&job.resources, pod::resources("50m", "64Mi", "512Mi")),
        user_id,
        group_id: job.security.fs_group.unwrap_or(user_id),
        timeout: spec.timeout_seconds.unwrap_or(3600),
        uid,
        stack,
    })
}

/// What is restored. What is to replace the database has a name before anything is done, and keeps it.
fn wanted(seen: &Observed) -> Result<Wanted, Problem> {
    let source = &seen.object.spec.source;
    let Some(artifact) = &source.artifact else {
        return Ok(Wanted::File(source.file.clone().unwrap_or_default()));
    };
    if !is_in_place(&seen.object) || artifact.id.is_some() {
        return Ok(Wanted::Artifact(artifact.clone()));
    }
    let status = seen.backup.as_ref().and_then(|backup| backup.status.as_ref());
    let now = || match artifact.selector? {
        ArtifactSelector::Latest => Some(status?.last_success.as_ref()?.id.clone()),
        ArtifactSelector::LatestVerified => Some(status?.last_verified.as_ref()?.id.clone()),
    };
    match seen.status().artifact_id.or_else(now) {
        Some(id) => Ok(Wanted::Artifact(Artifact { id: Some(id), selector: None })),
        None if seen.backup.is_none() => storage(seen).map(|_| Wanted::File(String::new())),
        None => Err(Problem::missing(
            reasons::NOT_OBSERVED,
            "the Backup has no good backup yet, or none that was verified; see its status",
        )),
    }
}

/// Name of a database: no two Restores have the same, also of those of one name.
#[must_use]
pub fn database(live: &str, what: &str, uid: &str) -> String {
    let head = &live[..live.floor_char_boundary(LONGEST)];
    format!("{head}_{what}_{}", &hash(&serde_json::json!(uid))[..8])
}

/// Where the source is, whether it is there or not; `None`: its Backup isn't known.
#[must_use]
pub fn places(spec: &RestoreSpec, backup: Option<&Backup>) -> Option<Storage> {
    let Some(storage) = &spec.source.storage else { return backup.map(places_of_backup) };
    let volume = storage.persistent_volume_claim.as_ref();
    let volume = volume.map(|it| Volume { claim: it.claim_name.clone(), made: None });
    Some(Storage { volume, bucket: storage.s3.clone() })
}

fn storage(seen: &Observed) -> Result<Storage, Problem> {
    let spec = &seen.object.spec;
    let Some(storage) = places(spec, seen.backup.as_ref()) else {
        let name = spec.source.backup_ref.as_ref().map_or("", |it| &it.name);
        let message = format!(
            "there is no Backup {name} in this namespace; create it, or give source.storage instead of source.backupRef"
        );
        return Err(Problem::missing(reasons::BACKUP_NOT_FOUND, message));
    };
    if let Some(Volume { claim, .. }) = storage.volume.as_ref().filter(|_| !seen.claim_exists) {
        let message = format!("there is no PersistentVolumeClaim {claim} in this namespace, and backups are in it");
        return Err(Problem::missing(reasons::VOLUME_MISSING, message));
    }
    bucket_is_known(&storage, &seen.data)?;
    Ok(storage)
}
