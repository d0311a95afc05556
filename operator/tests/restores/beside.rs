//! A Restore beside the live database.

use std::time::Instant;

use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_crds::source::{Artifact, ArtifactSelector, S3, SourceStorage};
use odoo_ai_crds::stack::DatabaseType;
use odoo_ai_operator::cluster::children::Children;
use odoo_ai_operator::restore::build::{self, Task};
use odoo_ai_operator::restore::decide::decide;
use odoo_ai_operator::restore::is_active;
use odoo_ai_operator::restore::remove::{self, Step};
use odoo_ai_operator::stack::agents::{Answer, Directory};
use serde_json::json;

use crate::{World, env, restored};

#[test]
fn it_is_begun_before_there_is_a_job_runs_once_and_says_what_came_of_it() {
    let mut world = World::new();
    let decision = world.step();
    assert!(decision.start.is_none() && decision.plan.is_some(), "first it is said");
    assert!(is_active(&world.seen.object));
    world.expect("Unknown", "Restoring");
    assert_eq!(world.step().start, Some((Task::Load, 1)));
    assert_eq!(world.step().start, None, "it runs");
    assert_eq!((world.says("Reconciling").0.as_str(), world.seen.status().step), ("True", Some(RestoreStep::Load)));
    world.seen.bytes = Some(2048);
    world.step();
    assert!(world.says("Complete").2.ends_with(", 2.0KiB so far"), "{}", world.says("Complete").2);
    world.later(9);
    let database = world.seen.status().database.expect("a name");
    world.end("look-load-1", "Complete", &restored(&database));
    world.step();
    world.expect("True", "Restored");
    let status = world.seen.status();
    let counted = (status.tables, status.rows, status.bytes, status.load_seconds, status.size.as_deref());
    assert_eq!(counted, (Some(14), Some(1234), Some(1_288_490_189), Some(7), Some("1.2GiB")));
    assert_eq!(status.artifact_id.as_deref(), Some("20260101t030000z-aaaaaa"));
    assert!(status.step.is_none() && status.completed_at.is_some() && !is_active(&world.seen.object));
    assert_eq!((world.says("Stalled").0.as_str(), world.says("Reconciling").0.as_str()), ("False", "False"));
    // Whatever happens afterwards.
    world.seen.children = Children::default();
    (world.seen.stack, world.seen.source.backup) = (None, None);
    world.later(3600);
    world.seen.object.metadata.generation = Some(2);
    let decision = world.step();
    assert!(decision.plan.is_none() && world.seen.status() == status, "nothing is said or done any more");
}

#[test]
fn what_failed_is_tried_again_and_what_is_refused_stalls() {
    let mut world = World::running();
    world.end("look-load-1", "Failed", &json!({"result": "Failed", "reason": "StorageFull", "message": "no room"}));
    assert_eq!(world.step().start, None, "after a pause");
    world.expect("Unknown", "RestoreFailed");
    assert_eq!(world.says("Complete").2, "no room (Job look-load-1); it is tried again");
    world.later(31);
    assert_eq!(world.step().start, Some((Task::Load, 2)));
    world.end(
        "look-load-2",
        "Failed",
        &json!({"result": "Refused", "reason": "ArtifactMissing", "message": "there is no backup"}),
    );
    assert_eq!(world.step().start, None);
    world.expect("False", "ArtifactMissing");
    assert_eq!(world.says("Stalled").0, "True");
    assert!(world.says("Complete").2.ends_with("delete Job look-load-2"));
}

#[test]
fn it_waits_for_a_backup_that_is_made_and_for_the_database() {
    let mut world = World::new();
    world.seen.backing_up = Some("nightly-backup-1".to_owned());
    world.step();
    world.expect("Unknown", "WaitingForBackup");
    world.seen.backing_up = None;
    world.seen.stack.as_mut().expect("a stack").status = None;
    world.step();
    world.expect("Unknown", "DatabaseNotReady");
    assert!(!is_active(&world.seen.object), "nothing has begun");
    // What has begun goes on: its Job waits for the database by itself.
    let mut world = World::running();
    world.seen.stack.as_mut().expect("a stack").status = None;
    world.seen.backing_up = Some("nightly-backup-2".to_owned());
    world.step();
    world.expect("Unknown", "Restoring");
}

#[test]
fn what_it_refers_to_must_be_there() {
    let mut world = World::new();
    world.seen.source.backup = None;
    world.step();
    world.expect("Unknown", "BackupNotFound");
    let mut world = World::new();
    world.seen.stack = None;
    world.step();
    world.expect("Unknown", "StackNotFound");
    let mut world = World::new();
    world.seen.source.claim_exists = false;
    world.step();
    world.expect("Unknown", "VolumeMissing");
    let mut world = World::new();
    let bucket = json!({"bucket": "b", "credentialsSecretRef": {"name": "s3"}});
    let bucket: S3 = serde_json::from_value(bucket).expect("a bucket");
    world.seen.object.spec.source.backup_ref = None;
    world.seen.object.spec.source.storage = Some(SourceStorage { s3: Some(bucket), ..SourceStorage::default() });
    world.step();
    world.expect("Unknown", "SecretMissing");
}

#[test]
fn an_external_server_needs_an_image_that_somebody_names() {
    let mut world = World::new();
    let spec = &mut world.seen.stack.as_mut().expect("a stack").spec;
    spec.database.kind = DatabaseType::External;
    spec.database.managed = odoo_ai_crds::stack::ManagedDatabase::default();
    let external = json!({"host": "db", "database": "odoo_ai", "username": "odoo_ai", "passwordSecretRef": {"name": "db", "key": "password"}});
    spec.database.external = Some(serde_json::from_value(external).expect("a server"));
    world.step();
    world.expect("False", "InvalidSpec");
    world.seen.source.backup.as_mut().expect("a Backup").spec.job.image = Some("postgres:16".to_owned());
    world.step();
    world.expect("Unknown", "Restoring");
    let image = |world: &World| decide(&world.seen, &world.operator).plan.expect("a plan").image;
    assert_eq!(image(&world), "postgres:16", "the Backup's");
    world.seen.object.spec.job.image = Some("postgres:17".to_owned());
    assert_eq!(image(&world), "postgres:17", "its own first");
}

#[test]
fn a_job_is_told_what_and_where_and_holds_no_right() {
    let mut world = World::new();
    world.seen.object.spec.source.artifact =
        Some(Artifact { id: Some("20260101t030000z-aaaaaa".to_owned()), selector: None });
    let plan = decide(&world.seen, &world.operator).plan.expect("a plan");
    let job = build::job(&plan, &world.seen, Task::Load, 1).object;
    let told = env(&job);
    let is = |name: &str, value: &str| assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}: {told:?}");
    is("ODOOAI_RESTORE_OWNER", "of-look");
    is("ODOOAI_RESTORE_ID", "20260101t030000z-aaaaaa");
    is("ODOOAI_RESTORE_DATABASE", &plan.database);
    is("ODOOAI_BACKUP_NAMESPACE", "odoo-ai");
    is("ODOOAI_BACKUP_STACK", "odoo-ai");
    is("ODOOAI_BACKUP_VOLUME", "/backups");
    is("ODOOAI_DATABASE_NAME", "odoo_ai");
    assert!(!told.contains_key("ODOOAI_RESTORE_SELECTOR"));
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["containers"][0]["command"], json!(["/odooai/bin/agent", "restore", "load"]));
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    // Of another stack, by what it says.
    let source = &mut world.seen.object.spec.source;
    source.catalogue = Some("old/other".to_owned());
    source.artifact = Some(Artifact { id: None, selector: Some(ArtifactSelector::LatestVerified) });
    let plan = decide(&world.seen, &world.operator).plan.expect("a plan");
    let told = env(&build::job(&plan, &world.seen, Task::Load, 1).object);
    assert_eq!((told["ODOOAI_BACKUP_NAMESPACE"].as_str(), told["ODOOAI_BACKUP_STACK"].as_str()), ("old", "other"));
    assert_eq!(told["ODOOAI_RESTORE_SELECTOR"], "LatestVerified");
    // A plain dump, by its path.
    let source = &mut world.seen.object.spec.source;
    (source.artifact, source.catalogue, source.file) = (None, None, Some("old/ai_db.sql.gz".to_owned()));
    let plan = decide(&world.seen, &world.operator).plan.expect("a plan");
    let told = env(&build::job(&plan, &world.seen, Task::Load, 1).object);
    assert_eq!(told["ODOOAI_RESTORE_FILE"], "old/ai_db.sql.gz");
    assert!(!told.contains_key("ODOOAI_RESTORE_ID") && !told.contains_key("ODOOAI_RESTORE_SELECTOR"));
    // Who drops what was begun needs no storage, and outlives the Restore.
    let job = build::job(&plan, &world.seen, Task::Discard, 1).object;
    assert!(job["metadata"]["ownerReferences"].is_null() && !env(&job).contains_key("ODOOAI_BACKUP_VOLUME"));
}

#[test]
fn the_names_of_databases_are_short_and_nobody_elses() {
    use odoo_ai_operator::restore::validate::database;
    let long = "ä".repeat(40);
    let names =
        [database("odoo_ai", "restored", "a"), database("odoo_ai", "restored", "b"), database(&long, "restored", "a")];
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    assert_ne!(names[0], names[1]);
    assert!(names[0].starts_with("odoo_ai_restored_"));
}

#[test]
fn deleted_before_its_end_it_drops_what_it_began() {
    let mut world = World::new();
    let going = |world: &mut World| {
        world.seen.object.metadata.deletion_timestamp = serde_json::from_value(json!(world.seen.now)).expect("a time");
    };
    going(&mut world);
    assert_eq!(remove::step(&world.seen, &world.operator), Step::Release(None), "nothing was begun");
    let mut world = World::running();
    going(&mut world);
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Quiet(jobs) if jobs.len() == 1));
    world.seen.children.jobs.clear();
    let Step::Discard(plan, 1) = remove::step(&world.seen, &world.operator) else { panic!("a Job drops it") };
    let mut job = build::job(&plan, &world.seen, Task::Discard, 1).object;
    job["metadata"]["uid"] = job["metadata"]["name"].clone();
    world.put(&job);
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Wait(_)));
    world.end("look-discard-1", "Complete", &json!({"result": "Succeeded"}));
    assert_eq!(remove::step(&world.seen, &world.operator), Step::Release(None));
    // Nobody waits for ever, and what stays is said.
    let mut world = World::running();
    going(&mut world);
    world.later(601);
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Release(Some(why)) if why.contains("may stay")));
    let mut world = World::running();
    going(&mut world);
    world.seen.stack = None;
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Release(Some(_))), "the stack is gone");
}

#[test]
fn a_job_of_one_that_had_the_name_before_says_nothing() {
    let mut world = World::running();
    let database = world.seen.status().database.expect("a name");
    world.end("look-load-1", "Complete", &restored(&database));
    world.seen.object.metadata.uid = Some("of-another".to_owned());
    world.seen.object.status = None;
    world.step();
    assert_eq!(world.step().start, Some((Task::Load, 2)));
    assert_ne!(world.seen.status().database, Some(database));
}

#[test]
fn how_large_it_is_comes_from_an_agent_and_wakes_nobody() {
    let directory = Directory::default();
    let answer = |bytes: i64| -> Answer {
        let restores = json!([{"owner": "a", "database": "x", "bytes": bytes}, {"owner": "b", "bytes": null}]);
        serde_json::from_value(json!({"version": 1, "restores": restores})).expect("an answer")
    };
    let now = Instant::now();
    directory.note("pod", Some(answer(4)), now);
    directory.note("pod", Some(answer(5)), now);
    assert!(!directory.note("pod", Some(answer(6)), now), "no fact of the stack's changed");
    assert_eq!(["a", "b", "c"].map(|owner| directory.restored(owner)), [Some(6), None, None]);
}
