//! Parses the custom resource once, defaults included. What the schema can't see is refused here.

use kube::{Resource, ResourceExt};
use odoo_ai_crds::backup::{Backup, BackupJob};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::OdooAiStack;

use super::model::{Made, Policy, Storage, Volume};
use super::observe::Observed;
use super::remove::goes_with_it;
use super::schedule::Schedule;
use crate::stack::build::pod;
use crate::stack::model::{Database, Operator};
use crate::stack::references::Data;
use crate::stack::resolve::credential;
use crate::stack::validate::{Problem, resources, stack};

/// Name suffix of the claim that the operator makes.
pub const CLAIM: &str = "backups";
/// The official images' user, whose files those on a volume are.
pub const USER: i64 = 999;
/// Nothing goes while a Restore reads: it may be what is read.
const KEEP_ALL: i32 = 1_000_000;
/// Two weeks.
const MAX_AGE: i32 = 14 * 24 * 3600;

/// The parsed policy.
///
/// # Errors
/// A [`Problem`] with the sentence that the user reads.
pub fn policy(seen: &Observed, operator: &Operator) -> Result<Policy, Problem> {
    let (object, spec) = (&seen.object, &seen.object.spec);
    let zone = spec.time_zone.as_deref().unwrap_or("Etc/UTC");
    let read = |field: &str, text: Option<&String>, default: &str| {
        Schedule::parse(text.map_or(default, String::as_str), zone)
            .map_err(|why| Problem::refused(reasons::INVALID_SPEC, format!("{field}: {why}")))
    };
    let schedule = read("spec.schedule", spec.schedule.as_ref(), "0 3 * * *")?;
    let verification = read("spec.verification.schedule", spec.verification.schedule.as_ref(), "0 4 * * 0")?;
    let owner = object
        .controller_owner_ref(&())
        .ok_or_else(|| Problem::missing(reasons::NOT_OBSERVED, "the Backup has no UID yet"))?;
    let stack = of_stack(seen.stack.as_ref(), &spec.stack_ref.name, operator, "a Backup")?;
    let (image, user) = image(&spec.job, &stack.database)?;
    let user_id = spec.job.security.run_as_user.unwrap_or(user);
    Ok(Policy {
        name: object.name_any(),
        namespace: object.namespace().unwrap_or_default(),
        owner,
        schedule,
        verification,
        suspended: spec.suspend,
        paused: seen.paused,
        storage: storage(seen)?,
        keep_last: if seen.restoring { KEEP_ALL } else { spec.retention.keep_last.unwrap_or(30) },
        keep_pre_migration: if seen.restoring { KEEP_ALL } else { spec.retention.keep_pre_migration.unwrap_or(5) },
        verification_max_age: spec.verification.max_age_seconds.unwrap_or(MAX_AGE),
        image,
        resources: resources(&spec.job.resources, pod::resources("50m", "64Mi", "512Mi")),
        user_id,
        group_id: spec.job.security.fs_group.unwrap_or(user_id),
        timeout: spec.timeout_seconds.unwrap_or(3600),
        adopt: spec.adopt.clone(),
        delete_artifacts: goes_with_it(object),
        stack,
    })
}

/// The stack that an object of ours is for; `what` that is, for a message.
///
/// # Errors
/// There is none, or it is refused.
pub fn of_stack(
    object: Option<&OdooAiStack>,
    name: &str,
    operator: &Operator,
    what: &str,
) -> Result<crate::stack::model::Stack, Problem> {
    let Some(object) = object else {
        let message =
            format!("there is no OdooAiStack {name} in this namespace; create it, or make {what} for another");
        return Err(Problem::missing(reasons::STACK_NOT_FOUND, message));
    };
    stack(object, operator).map_err(|problem| {
        let message = format!("the OdooAiStack {name} is refused ({}): {}", problem.reason, problem.message);
        Problem::missing(reasons::STACK_INVALID, message)
    })
}

/// The image of the Jobs, and its user.
///
/// # Errors
/// Nobody says which one.
pub fn image(job: &BackupJob, database: &Database) -> Result<(String, i64), Problem> {
    match (&job.image, database) {
        (image, Database::Managed(server)) => {
            Ok((image.clone().unwrap_or_else(|| server.image.clone()), server.user_id))
        }
        (Some(image), Database::External) => Ok((image.clone(), USER)),
        (None, Database::External) => Err(Problem::refused(
            reasons::INVALID_SPEC,
            "spec.job.image must be given: the database is External, and nothing says which major version its server has; use postgres:<its major version>",
        )),
    }
}

/// Where backups are kept, whether it is there or not.
#[must_use]
pub fn places(object: &Backup) -> Storage {
    let spec = &object.spec.storage;
    let volume = spec.persistent_volume_claim.as_ref().map(|volume| match &volume.claim_name {
        Some(claim) => Volume { claim: claim.clone(), made: None },
        None => Volume {
            claim: format!("{}-{CLAIM}", object.name_any()),
            made: Some(Made {
                size: volume.size.clone().unwrap_or_default(),
                class: volume.storage_class_name.clone(),
            }),
        },
    });
    Storage { volume, bucket: spec.s3.clone() }
}

fn storage(seen: &Observed) -> Result<Storage, Problem> {
    let storage = places(&seen.object);
    if let Some(Volume { claim, made: None }) = &storage.volume
        && !seen.claim_exists
    {
        let message = format!(
            "there is no PersistentVolumeClaim {claim} in this namespace; create it, or give a size instead of claimName"
        );
        return Err(Problem::missing(reasons::VOLUME_MISSING, message));
    }
    bucket_is_known(&storage, &seen.data)?;
    Ok(storage)
}

/// The bucket's credentials are there.
///
/// # Errors
/// What is missing.
pub fn bucket_is_known(storage: &Storage, data: &Data) -> Result<(), Problem> {
    let Some(bucket) = &storage.bucket else { return Ok(()) };
    for key in ["accessKeyId", "secretAccessKey"] {
        credential(data, &bucket.credentials_secret_ref.name, key)?;
    }
    Ok(())
}
