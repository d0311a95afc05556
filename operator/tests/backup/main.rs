//! What a Backup's Jobs, catalogue and schedule make of its status, and what is started when.

mod world;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::backup::{BackupReason, RunResult};
use odoo_ai_crds::common::DeletionPolicy;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::PreMigrationBackup;
use odoo_ai_operator::backup::build;
use odoo_ai_operator::backup::catalogue;
use odoo_ai_operator::backup::model::Pause;
use odoo_ai_operator::backup::remove::{self, Step};
use odoo_ai_operator::stack::references::{Contents, Reference};
use serde_json::{Value, json};
use world::{DAY, ID, MINUTE, World, artifact, at, failed, listing, made};

#[test]
fn the_catalogue_is_read_before_anything_else_and_a_status_is_made_of_it_alone() {
    let mut world = World::new();
    let decision = world.step();
    assert_eq!(decision.start.len(), 1, "{:?}", decision.start);
    world.expect("Ready", "Unknown", "ReadingCatalogue");
    // Another one is not asked for while it runs.
    assert_eq!(world.step().start, []);
    world.later(MINUTE);
    let mut listed = listing(&[artifact(ID, "2026-01-01T03:00:05Z")]);
    listed["verified"] = json!({"id": ID, "completedAt": "2026-01-01T04:00:00Z", "restoreSeconds": 7});
    listed["requests"] = json!({ID: "r-1"});
    let name = world.jobs("catalogue").pop().expect("a Job");
    world.finish(&name, true, Some(json!({"result": "Succeeded", "catalogue": listed})));
    world.step();
    let status = world.status();
    let success = status.last_success.clone().expect("one");
    assert_eq!((success.id.as_str(), success.request_id.as_deref()), (ID, Some("r-1")));
    assert_eq!((success.size.as_deref(), success.alembic_revision.as_deref()), (Some("2.0KiB"), Some("003")));
    assert_eq!(success.incarnation.as_deref(), Some("7/5"));
    assert_eq!(status.last_verified.clone().and_then(|it| it.restore_seconds), Some(7));
    world.expect("Ready", "True", "BackedUp");
    world.expect("Verified", "True", "Verified");
    world.expect("LastBackupSucceeded", "True", "BackupSucceeded");
    assert!(world.says("Ready").2.contains("does not survive it"), "{}", world.says("Ready").2);
    assert!(world.status().conditions.iter().all(|it| it.type_ != "OffsiteCopied"), "there is no bucket");
}

#[test]
fn a_catalogue_that_cant_be_read_is_told_and_read_again() {
    let mut world = World::new();
    world.step();
    let name = world.jobs("catalogue").pop().expect("a Job");
    world.finish(&name, false, Some(failed("Failed", "StorageUnavailable")));
    world.step();
    world.expect("Ready", "False", "CatalogueUnreadable");
    assert!(world.says("Ready").2.contains("why it failed"));
    world.later(MINUTE);
    assert_eq!(world.step().start.len(), 1, "after a pause");
}

#[test]
fn an_empty_catalogue_is_no_backup() {
    let world = World::settled();
    world.expect("Ready", "Unknown", "NoBackupYet");
    world.expect("Fresh", "False", "NoBackupYet");
    world.expect("Verified", "Unknown", "NotVerifiedYet");
    world.expect("Stalled", "False", "Progressing");
    assert!(world.says("Ready").2.contains("2026-01-02T03:00:00Z"), "{}", world.says("Ready").2);
}

#[test]
fn a_run_of_the_schedule_is_taken_once() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-02T03:00:00Z");
    let name = world.scheduled("backup");
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Running);
    world.later(MINUTE);
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-02T03:00:30Z")])));
    world.step();
    let status = world.status();
    assert_eq!(status.last_attempt.expect("one").result, RunResult::Succeeded);
    assert_eq!((status.artifacts.len(), status.missed_runs, status.consecutive_failures), (1, 0, 0));
    assert_eq!(status.next_schedule_time.map(|time| time.0), Some(at("2026-01-03T03:00:00Z")));
    world.expect("Ready", "True", "BackedUp");
    // The Job goes by its time, and what it said stays.
    world.seen.children.jobs.remove(&name);
    world.step();
    world.expect("Ready", "True", "BackedUp");
    // Until the next one must have come.
    world.seen.now = at("2026-01-03T04:09:59Z");
    world.step();
    world.expect("Fresh", "True", "UpToDate");
    world.later(MINUTE);
    world.step();
    world.expect("Fresh", "False", "BackupTooOld");
    world.expect("Ready", "False", "BackupTooOld");
    assert_eq!(world.status().missed_runs, 1, "nothing was started for this morning's");
}

#[test]
fn a_failed_run_is_told_with_its_word_and_a_refused_one_stalls() {
    let mut world = World::settled();
    for (day, result, reason, ready, stalled) in
        [(2, "Failed", "StorageFull", "BackupFailed", "False"), (3, "Refused", "ForeignOwner", "ForeignOwner", "True")]
    {
        world.seen.now = at(&format!("2026-01-{day:02}T03:00:00Z"));
        let name = world.scheduled("backup");
        world.step();
        world.finish(&name, false, Some(failed(result, reason)));
        world.step();
        world.expect("LastBackupSucceeded", "False", reason);
        world.expect("Ready", "False", ready);
        assert_eq!(world.says("Stalled").0, stalled);
        assert!(world.says("Ready").2.contains("why it failed"));
    }
    assert_eq!(world.status().consecutive_failures, 2);
    world.seen.now = at("2026-01-04T03:00:00Z");
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-04T03:00:30Z")])));
    world.step();
    assert_eq!((world.status().consecutive_failures, world.says("Stalled").0), (0, "False".to_owned()));
}

/// A run that left no word is none that succeeded; the catalogue may know better.
#[test]
fn a_run_without_a_word_is_looked_for_in_the_catalogue() {
    for (found, result, failures) in [(true, RunResult::Succeeded, 0), (false, RunResult::Failed, 1)] {
        let mut world = World::settled();
        world.seen.now = at("2026-01-02T03:00:00Z");
        let name = world.scheduled("backup");
        world.step();
        world.later(MINUTE);
        world.finish(&name, false, None);
        world.step();
        assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Running, "its word may come later");
        world.later(MINUTE);
        let decision = world.step();
        world.expect("LastBackupSucceeded", "False", "NoReport");
        assert_eq!((decision.start.len(), world.status().consecutive_failures), (1, 1));
        world.later(MINUTE);
        let artifacts = if found { vec![artifact(ID, "2026-01-02T03:00:30Z")] } else { vec![] };
        world.finish_catalogue(&artifacts);
        world.step();
        let run = world.status().last_attempt.expect("one");
        assert_eq!((run.result, world.status().consecutive_failures), (result, failures), "{run:?}");
        assert_eq!(world.step().start, [], "and it is read once");
    }
}

#[test]
fn a_run_that_ended_well_and_whose_word_is_lost_is_waited_for_a_moment() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.finish(&name, true, None);
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Running);
    world.later(MINUTE);
    assert_eq!(world.step().start.len(), 1, "the catalogue is read");
    assert_eq!(world.status().last_attempt.expect("one").result, RunResult::Failed);
}

#[test]
fn a_job_that_somebody_deletes_has_failed() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.seen.children.jobs.remove(&name);
    let decision = world.step();
    assert!(world.says("LastBackupSucceeded").2.contains("was deleted"), "{}", world.says("LastBackupSucceeded").2);
    assert_eq!(decision.start.len(), 1, "its manifest may be there");
}

/// Its own owner goes, and takes it along: nothing of ours failed.
#[test]
fn a_job_of_a_backup_that_had_the_name_before_is_none_of_ours() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    let mut job = serde_json::to_value(&*world.seen.children.jobs[&name]).expect("JSON");
    job["metadata"]["ownerReferences"][0]["uid"] = json!("of the one before");
    world.put(&job);
    world.step();
    world.seen.children.jobs.remove(&name);
    world.step();
    assert_eq!((world.status().runs.len(), world.status().consecutive_failures), (0, 0));
}

#[test]
fn a_request_is_answered_by_one_job() {
    let mut world = World::settled();
    world.annotate(annotations::BACKUP_REQUESTED_AT, "now");
    world.annotate(annotations::VERIFY_REQUESTED_AT, "now");
    let first = world.decide().start;
    assert_eq!(first.len(), 2);
    // The operator is killed after the first was created.
    world.create(&first[0]);
    assert_eq!(world.step().start, first, "the same names: what is there isn't created again");
    assert_eq!(world.step().start, []);
    let name = world.jobs("-run-").pop().expect("a Job");
    assert_eq!(world.status().last_attempt.and_then(|it| it.request_id).as_deref(), Some("now"));
    // It goes, and the request stays where it was written: in Git, perhaps.
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    world.seen.children.jobs.clear();
    assert_eq!(world.step().start, []);
    world.annotate(annotations::BACKUP_REQUESTED_AT, &"x".repeat(300));
    let start = world.step().start;
    assert_eq!((start.len(), start[0].request.as_ref().map(String::len)), (1, Some(253)));
    assert_eq!(world.step().start, []);
}

#[test]
fn what_a_stack_asks_for_before_a_migration_is_kept_apart() {
    let mut world = World::settled();
    world.annotate(annotations::BACKUP_REQUESTED_AT, "r-1");
    let asked = PreMigrationBackup { backup: "nightly".to_owned(), request_id: "r-1".to_owned(), ..Default::default() };
    let stack = world.seen.stack.as_mut().expect("a stack");
    stack.status.get_or_insert_default().database.get_or_insert_default().pre_migration_backup = Some(asked);
    world.step();
    let name = world.jobs("-run-").pop().expect("a Job");
    world.step();
    assert_eq!(world.status().last_attempt.expect("one").reason, BackupReason::PreMigration);
    let mut made = made(&[json!([ID, "M", world.seen.now.as_second(), 1, 0, 0, 0])]);
    made["catalogue"]["requests"] = json!({ID: "r-1"});
    world.finish(&name, true, Some(made));
    world.step();
    let answer = world.status().last_success.expect("one");
    assert_eq!((answer.request_id.as_deref(), answer.reason), (Some("r-1"), BackupReason::PreMigration));
    // A listing that has no room for requests takes nothing away.
    world.later(DAY);
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(self::made(&[json!([ID, "M", 1, 1, 0, 0, 0])])));
    world.step();
    assert_eq!(world.status().artifacts[0].request_id.as_deref(), Some("r-1"));
}

#[test]
fn nobody_waits_for_what_passes_while_it_is_suspended() {
    let mut world = World::settled();
    world.seen.object.spec.suspend = true;
    world.step();
    world.later(DAY * 5);
    world.step();
    world.expect("Ready", "Unknown", "Suspended");
    assert_eq!(world.status().missed_runs, 0);
    world.seen.object.spec.suspend = false;
    world.step();
    assert_eq!(world.status().missed_runs, 0);
    world.later(DAY);
    world.step();
    assert_eq!(world.status().missed_runs, 1);
    world.expect("Ready", "False", "NoBackupYet");
}

#[test]
fn another_schedule_has_missed_nothing() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-02T02:00:00Z");
    world.step();
    world.seen.object.spec.schedule = Some("* * * * *".to_owned());
    world.step();
    assert_eq!(world.status().missed_runs, 0);
    world.later(MINUTE * 20);
    world.step();
    assert_eq!(world.status().missed_runs, 9, "each that is more than ten minutes late");
}

/// The operator was away for weeks; the `CronJob` went on, and its Jobs are gone.
#[test]
fn what_ran_while_nobody_looked_is_read_from_the_catalogue() {
    let mut world = World::settled();
    world.seen.now = at("2026-01-21T03:00:00Z");
    let name = world.scheduled("backup");
    world.seen.children.jobs.remove(&name);
    world.later(MINUTE * 2);
    assert_eq!(world.step().start.len(), 1);
    assert_eq!(world.status().missed_runs, 19, "that they ran is only known when the catalogue is read");
    world.finish_catalogue(&[artifact(ID, "2026-01-21T03:00:30Z")]);
    world.step();
    assert_eq!(world.status().missed_runs, 0, "a good one has come since");
    world.expect("Ready", "True", "BackedUp");
}

/// The database began with a backup, and took the catalogue over.
#[test]
fn a_catalogue_that_was_taken_over_is_read_anew() {
    let mut world = World::settled();
    world.later(MINUTE);
    let begun = |restored: bool, now: String| {
        let bootstrap = json!({"volumeUID": "x", "restored": restored, "completedAt": now});
        serde_json::from_value(json!({"database": {"bootstrap": bootstrap}})).expect("a status")
    };
    world.seen.stack.as_mut().expect("a stack").status = Some(begun(false, world.seen.now.to_string()));
    assert!(world.step().start.is_empty(), "it was left as it is");
    world.seen.stack.as_mut().expect("a stack").status = Some(begun(true, world.seen.now.to_string()));
    assert_eq!(world.step().start.len(), 1);
    world.later(MINUTE);
    world.finish_catalogue(&[artifact(ID, "2026-01-01T03:00:30Z")]);
    world.step();
    assert!(world.step().start.is_empty() && world.status().artifacts.len() == 1, "once");
}

#[test]
fn of_another_place_nothing_is_known() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.step();
    world.seen.object.spec.storage.persistent_volume_claim.as_mut().expect("a volume").claim_name =
        Some("other".to_owned());
    world.later(MINUTE);
    let decision = world.step();
    assert_eq!(decision.start.len(), 1, "it is read anew");
    // A run of before tells of the other place.
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:30Z")])));
    world.step();
    assert_eq!(world.status().artifacts, []);
}

#[test]
fn a_failed_verification_is_told_and_one_that_is_too_old() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    let name = world.scheduled("verify");
    world.later(MINUTE);
    world.finish(&name, false, Some(failed("Refused", "VerificationFailed")));
    world.step();
    world.expect("Verified", "False", "VerificationFailed");
    world.expect("Ready", "False", "VerificationFailed");
    assert_eq!(world.status().consecutive_failures, 0, "of backups");
    world.later(DAY);
    let name = world.scheduled("verify");
    let mut told = listing(&[artifact(ID, "2026-01-01T12:00:00Z")]);
    told["verified"] = json!({"id": ID, "completedAt": world.seen.now, "restoreSeconds": 3});
    world.finish(&name, true, Some(json!({"result": "Succeeded", "catalogue": told})));
    world.step();
    world.expect("Verified", "True", "Verified");
    world.later(DAY * 15);
    world.step();
    world.expect("Verified", "False", "VerificationTooOld");
}

#[test]
fn a_copy_that_failed_is_told_beside_the_success() {
    let mut world = World::new();
    let sample: Value = json!({"bucket": "b", "credentialsSecretRef": {"name": "s3"}});
    world.seen.object.spec.storage.s3 = serde_json::from_value(sample).expect("S3");
    world.step();
    world.expect("Ready", "False", "SecretMissing");
    let contents: BTreeMap<_, _> =
        ["accessKeyId", "secretAccessKey"].map(|key| (key.to_owned(), "x".to_owned())).into();
    world.seen.data.insert(Reference::Secret("s3".to_owned()), Some(Contents::from(contents)));
    world.step();
    world.finish_catalogue(&[]);
    world.step();
    world.expect("OffsiteCopied", "Unknown", "NotCopiedYet");
    let name = world.scheduled("backup");
    let mut told = made(&[artifact(ID, "2026-01-01T12:00:00Z")]);
    told["backup"]["offsite"] = json!(false);
    world.finish(&name, true, Some(told));
    world.step();
    world.expect("OffsiteCopied", "False", "CopyFailed");
    world.expect("Ready", "True", "BackedUp");
}

#[test]
fn a_spec_that_cant_be_followed_says_so_and_what_runs_is_taken() {
    type Case = (fn(&mut World), &'static str, bool);
    let cases: [Case; 4] = [
        (|world| world.seen.object.spec.schedule = Some("0 3 30 2 *".to_owned()), "InvalidSpec", true),
        (|world| world.seen.object.spec.time_zone = Some("Mars/Olympus".to_owned()), "InvalidSpec", true),
        (|world| world.seen.stack = None, "StackNotFound", false),
        (|world| world.seen.claim_exists = false, "VolumeMissing", false),
    ];
    for (edit, reason, stalled) in cases {
        let mut world = World::settled();
        world.seen.object.spec.storage.persistent_volume_claim =
            serde_json::from_value(json!({"claimName": "mine"})).expect("a volume");
        edit(&mut world);
        world.step();
        world.expect("Ready", "False", reason);
        assert_eq!(world.says("Stalled").0 == "True", stalled, "{reason}");
    }
}

/// More runs than a status remembers.
#[test]
fn old_runs_are_forgotten_and_not_taken_again() {
    let mut world = World::settled();
    for _ in 0..30 {
        world.later(DAY);
        let name = world.scheduled("backup");
        world.step();
        world.finish(&name, false, Some(failed("Failed", "StorageFull")));
        world.step();
    }
    assert_eq!((world.status().runs.len(), world.status().consecutive_failures), (20, 30));
}

#[test]
fn what_is_applied() {
    let mut world = World::new();
    let sample: Value = json!({"endpoint": "http://s3:7070", "region": "r", "bucket": "b", "prefix": "p", "credentialsSecretRef": {"name": "s3"}});
    world.seen.object.spec.storage.s3 = serde_json::from_value(sample).expect("S3");
    let contents: BTreeMap<_, _> =
        ["accessKeyId", "secretAccessKey"].map(|key| (key.to_owned(), "x".to_owned())).into();
    world.seen.data.insert(Reference::Secret("s3".to_owned()), Some(Contents::from(contents)));
    let policy = world.decide().policy.expect("accepted");
    assert!(!catalogue::digest(&policy).is_empty());
    let objects: Vec<_> = build::lasting(&policy).into_iter().map(|intent| intent.object).collect();
    insta::assert_yaml_snapshot!(objects);
}

#[test]
fn artifacts_go_with_a_backup_only_where_its_owner_said_so_and_not_for_ever() {
    let mut world = World::settled();
    let name = world.scheduled("backup");
    world.finish(&name, true, Some(made(&[artifact(ID, "2026-01-01T12:00:00Z")])));
    world.step();
    let running = world.scheduled("verify");
    assert!(!remove::goes_with_it(&world.seen.object), "Retain is the default");
    world.seen.object.spec.deletion_policy = Some(DeletionPolicy::Delete);
    world.seen.object.metadata.deletion_timestamp = Some(Time(world.seen.now));
    let Step::Quiet(doomed) = remove::step(&world.seen) else { panic!("what runs is ended first") };
    assert!(doomed.len() == 1 && doomed[0].key.name == running);
    world.seen.children.jobs.remove(&running);
    assert_eq!(remove::step(&world.seen), Step::Purge(1));
    // Without the stack, which may be gone already.
    world.seen.stack = None;
    let job = build::purge(&world.seen, &world.operator, "7/odoo_ai", 1);
    assert!(job.object["metadata"].get("ownerReferences").is_none(), "foreground deletion would take it");
    let mut object = job.object.clone();
    object["metadata"]["uid"] = json!("purge");
    world.put(&object);
    assert!(matches!(remove::step(&world.seen), Step::Wait(_)));
    world.later(SignedDuration::from_mins(11));
    assert!(matches!(remove::step(&world.seen), Step::Release(Some(_))), "it is not waited for longer");
    world.seen.object.metadata.deletion_timestamp = Some(Time(world.seen.now));
    world.finish("nightly-purge-1", true, Some(json!({"result": "Succeeded"})));
    assert_eq!(remove::step(&world.seen), Step::Release(None));
    // One that never made any has nothing to remove.
    let mut world = World::settled();
    world.seen.object.status.as_mut().and_then(|it| it.catalogue.as_mut()).expect("read").owner = None;
    assert_eq!(remove::step(&world.seen), Step::Release(None));
}

/// It may be what is read.
#[test]
fn nothing_goes_while_a_restore_reads() {
    let mut world = World::settled();
    let keeps = |world: &World| {
        let policy = world.decide().policy.expect("accepted");
        let all = build::lasting(&policy).into_iter().map(|intent| intent.object.to_string()).collect::<String>();
        assert_eq!(policy.keep_last, if world.seen.restoring { 1_000_000 } else { 30 });
        all.contains(r#"{"name":"ODOOAI_BACKUP_KEEP_PRE_MIGRATION","value":"1000000"}"#)
    };
    assert!(!keeps(&world));
    world.seen.restoring = true;
    assert!(keeps(&world), "also what the schedule starts");
}

/// What a database waits for comes first; who asks gets a backup of it all the same.
#[test]
fn nothing_starts_by_itself_while_the_database_waits_for_its_first_data() {
    let mut world = World::settled();
    let suspended = |world: &World| {
        let policy = world.decide().policy.expect("accepted");
        let all = build::lasting(&policy).into_iter().filter(|it| it.object["kind"] == "CronJob");
        all.map(|it| it.object["spec"]["suspend"] == true).collect::<Vec<_>>()
    };
    for (paused, schedules, asked) in [(Pause::Nothing, false, 1), (Pause::Schedules, true, 1), (Pause::All, true, 0)] {
        world.seen.paused = paused;
        assert_eq!(suspended(&world), [schedules; 2], "{paused:?}");
        let mut asks = World::settled();
        asks.seen.paused = paused;
        asks.annotate(annotations::BACKUP_REQUESTED_AT, "x");
        assert_eq!(asks.decide().start.len(), asked, "{paused:?}");
    }
}
