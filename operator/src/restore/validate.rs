//! Parses the custom resource once, defaults included. What the schema can't see is refused here.

use kube::{Resource as _, ResourceExt};
use odoo_ai_crds::backup::BackupJob;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_crds::source::Artifact;

use super::is_in_place;
use super::model::{Plan, Wanted};
use super::observe::Observed;
use crate::backup::model::Storage;
use crate::backup::validate::{USER, image, of_stack};
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
    let job =
        seen.source.backup.as_ref().filter(|_| spec.job == BackupJob::default()).map_or(&spec.job, |it| &it.spec.job);
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
    let catalogue = seen.source.catalogue(&spec.source, &namespace, &stack.name);
    let storage = || seen.source.storage(&spec.source, "source");
    Ok(Plan {
        name: object.name_any(),
        namespace,
        owner,
        storage: if is_loaded { Storage::default() } else { storage()? },
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
        adopts: false,
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
    let now = || artifact.selector.and_then(|selector| seen.source.selected(selector));
    match seen.status().artifact_id.or_else(now) {
        Some(id) => Ok(Wanted::Artifact(Artifact { id: Some(id), selector: None })),
        None if seen.source.backup.is_none() => {
            seen.source.storage(source, "source").map(|_| Wanted::File(String::new()))
        }
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
