//! What must hold at every single request of the operator, whatever happened before. Each is a
//! sentence of the design.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::backups::OF_BACKUP;
use crate::compare::OF_RESTORE;
use crate::request::{Call, Verb};
use crate::world::{BACKUP, BACKUPS, STACKS, World};

/// The Secret with the live credentials.
const LIVE: &str = "odoo-ai-credentials";
const COMPONENT: &str = "/metadata/labels/app.kubernetes.io~1component";
const VOLUME: &str = "/metadata/labels/odoo-ai.atmatasolutions.com~1volume";
const REVISION: &str = "/metadata/labels/odoo-ai.atmatasolutions.com~1revision";

/// What was seen so far, and what was broken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    migrated: BTreeSet<String>,
    proven: BTreeSet<String>,
    /// One sentence for each request that broke one.
    pub(crate) broken: Vec<String>,
}

impl Promises {
    /// A Job ended well; `candidate` is the Secret with its own name.
    pub(crate) fn succeeded(&mut self, job: &Value, candidate: Option<&Value>) {
        match candidate {
            Some(secret) => drop(self.proven.insert(secret["data"].to_string())),
            None if job.pointer(COMPONENT) == Some(&Value::from("migrate")) => self.migrated.extend(image(job)),
            None => {}
        }
    }
}

/// Looks at a request that is about to be granted.
pub(crate) fn check(world: &World, call: &Call) -> Vec<String> {
    let rules: [fn(&World, &Call) -> Option<String>; 10] = [
        nothing_of_value_is_deleted,
        secrets_are_kept,
        one_job_at_a_time,
        backup_comes_first,
        data_come_first,
        schema_comes_first,
        rules_come_first,
        no_success_without_a_backup,
        backups_go_only_with_their_owner,
        nobody_is_called_for_nothing,
    ];
    rules.iter().filter_map(|rule| rule(world, call)).map(|why| format!("{call}: {why}")).collect()
}

/// Volumes and data Secrets outlive everything, and what is deleted is what was seen.
fn nothing_of_value_is_deleted(world: &World, call: &Call) -> Option<String> {
    if call.verb != Verb::Delete {
        return None;
    }
    let live = world.store.get(&call.plural, &call.name);
    let copy = call.plural == "secrets" && live.is_some_and(|secret| secret["immutable"] == true);
    if ["persistentvolumeclaims", "secrets"].contains(&call.plural.as_str()) && !copy {
        return Some("data are deleted".to_owned());
    }
    call.body["preconditions"]["uid"].is_null().then(|| "a deletion without the UID of what was seen".to_owned())
}

/// What is in a Secret stays: a generated password is never overwritten. Only what is live of them changes.
fn secrets_are_kept(world: &World, call: &Call) -> Option<String> {
    if call.name == LIVE {
        return proven_first(world, call);
    }
    let live = world.store.get(&call.plural, &call.name).filter(|_| call.plural == "secrets")?;
    let data = call.body["data"].as_object()?;
    data.iter().any(|(key, value)| live["data"][key] != *value).then(|| "another value in a Secret".to_owned())
}

/// What pods mount was proven by a Job's login, unless there are no pods yet.
fn proven_first(world: &World, call: &Call) -> Option<String> {
    let live = world.store.get(&call.plural, LIVE);
    let same = live.is_some_and(|live| live["data"] == call.body["data"]);
    let installed = world.store.all("deployments").next().is_some();
    let proven = world.promises.proven.contains(&call.body["data"].to_string());
    (installed && !same && !proven).then(|| "credentials that nobody tried become live".to_owned())
}

/// A second Job of the same kind: one runs, or has done it. Jobs of two revisions may meet where the
/// caches lag: the lock in the database keeps them apart.
fn one_job_at_a_time(world: &World, call: &Call) -> Option<String> {
    // A Backup has one for each request: its own agent looks whether that was answered.
    if call.verb != Verb::Create || call.plural != "jobs" || call.body.pointer(OF_BACKUP).is_some() {
        return None;
    }
    let same = |job: &Value, label| job.pointer(label) == call.body.pointer(label);
    let kind = [COMPONENT, REVISION, VOLUME, OF_RESTORE];
    let others = world.store.all("jobs").filter(|(_, job)| kind.iter().all(|label| same(job, label)));
    // One that is undone goes the same way again, and counts.
    let work = |name: &str| name.rsplit_once('-').map(|(work, _)| work.to_owned());
    let again = call.body.pointer(OF_RESTORE).is_some();
    let others = others.filter(|(name, _)| !again || work(name) == work(&call.name));
    let mut others = others.map(|(name, job)| (name, job["status"]["conditions"].as_array()));
    others.find_map(|(name, conditions)| match conditions {
        None => Some(format!("Job {name} still runs")),
        Some(all) => all.iter().any(|it| it["type"] == "Complete").then(|| format!("Job {name} has done it")),
    })
}

/// Where a backup must come first, the Job is told of one that is there.
fn backup_comes_first(world: &World, call: &Call) -> Option<String> {
    let migrates = call.plural == "jobs" && call.body.pointer(COMPONENT) == Some(&Value::from("migrate"));
    let required = world.stack()["spec"]["migrations"]["backup"] == "Required";
    // Of one that was just restored, or is live again, the Job only looks: its agent refuses to change it without.
    if call.verb != Verb::Create || !migrates || !required || world.live.is_some() {
        return None;
    }
    let told = &call.body["metadata"]["annotations"]["odoo-ai.atmatasolutions.com/migration-backup"];
    let made = world.store.get(BACKUPS, BACKUP).map(|backup| &backup["status"]["lastSuccess"]["id"]);
    (made != Some(told)).then(|| format!("a migration under {told}, and the backup is {made:?}"))
}

/// Where a new database begins with a backup, nobody makes an empty schema in it.
fn data_come_first(world: &World, call: &Call) -> Option<String> {
    let migrates = call.plural == "jobs" && call.body.pointer(COMPONENT) == Some(&Value::from("migrate"));
    let begins = world.stack()["spec"]["database"]["managed"]["bootstrap"].is_object() && !world.brought;
    (call.verb == Verb::Create && migrates && begins).then(|| "a schema is made before the backup is there".to_owned())
}

/// No process of an image whose schema was not prepared.
fn schema_comes_first(world: &World, call: &Call) -> Option<String> {
    let component = call.body.pointer(COMPONENT)?.as_str()?;
    let of_image = call.is_workload() && ["ai-service", "worker", "beat"].contains(&component);
    let image = image(&call.body).filter(|_| of_image)?;
    (!world.promises.migrated.contains(&image)).then(|| format!("{image} starts before its schema is there"))
}

/// Nothing acts on rules that the application seeded by itself.
fn rules_come_first(world: &World, call: &Call) -> Option<String> {
    let component = call.body.pointer(COMPONENT)?.as_str()?;
    let acts = call.is_workload() && ["worker", "beat"].contains(&component);
    let wanted = world.stack()["spec"]["rules"]["unmanaged"] != "Ignore";
    (acts && wanted && !world.rules.untouched.is_empty()).then(|| "seeded rules are still on".to_owned())
}

/// What a Backup says that it has is there.
fn no_success_without_a_backup(world: &World, call: &Call) -> Option<String> {
    if call.verb != Verb::UpdateStatus || call.plural != BACKUPS || is_going(world) {
        return None;
    }
    let told = call.body["status"]["lastSuccess"]["id"].as_str()?;
    let is_there = world.volumes.values().flat_map(|volume| &volume.artifacts).any(|artifact| artifact.id == told);
    (!is_there).then(|| format!("{told} is told as a success, and isn't there"))
}

/// Artifacts go only with a Backup that says so, when nothing runs any more; then it goes, and not before.
fn backups_go_only_with_their_owner(world: &World, call: &Call) -> Option<String> {
    let purge = call.verb == Verb::Create && call.body.pointer(COMPONENT) == Some(&Value::from("purge"));
    let wanted = world.store.get(BACKUPS, BACKUP).is_some_and(|it| it["spec"]["deletionPolicy"] == "Delete");
    let unfinished = |job: &Value| job.pointer(OF_BACKUP).is_some() && job["status"]["conditions"].as_array().is_none();
    if purge && !(is_going(world) && wanted) {
        return Some("backups are removed that nobody gave up".to_owned());
    }
    if purge && world.store.all("jobs").any(|(_, job)| unfinished(job)) {
        return Some("backups are removed while a Job may make one".to_owned());
    }
    let lets_go = call.verb == Verb::Merge && call.plural == BACKUPS && is_going(world);
    let kept = world.volumes.values().any(|volume| !volume.artifacts.is_empty());
    (lets_go && wanted && kept).then(|| "the Backup goes, and its backups stay".to_owned())
}

fn is_going(world: &World) -> bool {
    world.store.get(BACKUPS, BACKUP).is_some_and(|it| !it["metadata"]["deletionTimestamp"].is_null())
}

/// Nothing in a scenario needs a person, and what serves goes on serving: old caches are no reason to
/// say something else.
fn nobody_is_called_for_nothing(world: &World, call: &Call) -> Option<String> {
    if call.verb != Verb::UpdateStatus || call.plural != STACKS {
        return None;
    }
    let of = |stack: &Value, kind: &str| {
        let conditions = stack["status"]["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|it| it["type"] == kind);
        found.map(|it| it["status"].as_str().unwrap_or_default().to_owned())
    };
    let is = |stack: &Value, kind: &str, status: &str| of(stack, kind).as_deref() == Some(status);
    let restoring =
        call.body["status"]["conditions"].as_array().into_iter().flatten().any(|it| it["reason"] == "Restoring");
    let gone = is(world.stack(), "Available", "True") && is(&call.body, "Available", "False") && !restoring;
    // What is written before anything is done still has the conditions of before.
    let told = is(world.stack(), "Stalled", "True") || call.body["status"]["failure"]["outcome"] == "RolledBack";
    if is(&call.body, "Stalled", "True") && !told {
        Some(format!("Stalled: {}", call.body["status"]["conditions"]))
    } else {
        gone.then(|| "what serves is said not to".to_owned())
    }
}

fn image(object: &Value) -> Option<String> {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array()?;
    containers.first()?["image"].as_str().map(str::to_owned)
}
