//! Migrations in a simulated cluster: what a new image's plan leads to, who is asked, which backup comes
//! first, and what an older image may do with a newer schema.

mod sim;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::{Environment, LogLevel, MigrationBackup, Mode, OdooAiStackStatus, PreMigrationBackup};
use serde_json::{Value, json};
use sim::{STACK, World};

/// What a plan Job reports of a database at the image's head.
const UP_TO_DATE: &str = r#"{"version":1,"result":"Succeeded","reason":"UpToDate","message":"","plan":{"needed":false},
    "schema":{"heads":["003"],"known":["001","002","003"],"current":["003"]},"incarnation":"1/2"}"#;
/// What an older image's plan Job reports of it.
const OLDER: &str = r#"{"version":1,"result":"Succeeded","reason":"NewerThanImage","message":"","plan":{"needed":false},
    "schema":{"heads":["002"],"known":["001","002"],"current":["003"]},"incarnation":"1/2"}"#;

/// A stack that runs, with `change` made to what comes next.
fn installed(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.run_to_the_end();
    change(&mut world);
    world
}

/// Another image of ai-service.
fn image(world: &mut World, tag: &str) {
    world.edit(|stack| stack.spec.images.ai_service = format!("registry.example.com/ai-service:{tag}"));
}

/// What is there becomes ready, and the operator goes on.
fn go_on(world: &mut World) {
    for _ in 0..4 {
        world.settle();
        world.everything_becomes_ready();
    }
    world.settle();
}

fn status(world: &World) -> OdooAiStackStatus {
    world.stack.status.clone().expect("a status")
}

fn jobs(world: &World, component: &str) -> usize {
    world.objects.keys().filter(|key| key.kind == "Job" && key.name.contains(&format!("-{component}-"))).count()
}

/// Environment of the newest migrate Job.
fn env(world: &World, name: &str) -> Option<String> {
    let mut jobs = world.objects.iter().filter(|(key, _)| key.kind == "Job" && key.name.contains("-migrate-"));
    let of_target = |key: &str| key.contains(&status(world).update_revision.unwrap_or_default());
    let (_, job) = jobs.rfind(|(key, _)| of_target(&key.name))?;
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    Some(env.iter().find(|it| it["name"] == name)?["value"].as_str()?.to_owned())
}

/// A Backup of the stack, and a spec that needs it.
fn with_backup(world: &mut World) {
    let backup = json!({"metadata": {"name": "nightly", "namespace": "odoo-ai"}, "spec": {"stackRef": {"name": STACK}, "storage": {}}});
    world.backup = Some(serde_json::from_value(backup).expect("a Backup"));
    world.edit(|stack| {
        stack.spec.migrations.backup = Some(MigrationBackup::Required);
        stack.spec.migrations.backup_ref =
            Some(serde_json::from_value(json!({"name": "nightly"})).expect("a reference"));
    });
}

fn backup(world: &mut World) -> &mut Backup {
    world.backup.as_mut().expect("a Backup")
}

/// The request on the Backup.
fn request(world: &World) -> Option<String> {
    let annotations = world.backup.as_ref()?.metadata.annotations.as_ref()?;
    annotations.get(annotations::BACKUP_REQUESTED_AT).cloned()
}

/// The Backup's controller writes its status.
fn says(world: &mut World, status: &Value) {
    backup(world).status = Some(serde_json::from_value(status.clone()).expect("a status"));
}

/// The Backup answers the request that is on it.
fn answers(world: &mut World, id: &str, incarnation: &str, revision: &str) {
    let (request, now) = (request(world).expect("a request"), world.now.to_string());
    let artifact = json!({
        "id": id, "requestId": request, "reason": "PreMigration", "completedAt": now,
        "incarnation": incarnation, "alembicRevision": revision,
    });
    says(world, &json!({"lastSuccess": artifact, "lastHandled": {"backupRequestedAt": request}}));
}

fn made(world: &World) -> PreMigrationBackup {
    status(world).database.and_then(|database| database.pre_migration_backup).expect("a request in the status")
}

fn refused(reason: &str) -> String {
    format!(r#"{{"version":1,"result":"Refused","reason":"{reason}","message":"there is none"}}"#)
}

#[rstest::rstest]
#[case::behind_the_image("001", 3)]
#[case::nowhere_yet("", 3)]
#[case::beyond_it_as_after_a_step_back("009", 1)]
fn where_the_database_is_decides_not_what_an_image_once_needed(#[case] at: &str, #[case] jobs: usize) {
    let mut world = World::new();
    world.run_to_the_end();
    let database = world.stack.status.as_mut().and_then(|status| status.database.as_mut()).expect("a database");
    database.schema_revision = Some(at.to_owned());
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    world.run_to_the_end();
    assert_eq!(world.objects.keys().filter(|key| key.kind == "Job").count(), jobs);
}

#[rstest::rstest]
#[case::production(Environment::Production, None, true)]
#[case::elsewhere(Environment::Staging, None, false)]
#[case::never(Environment::Production, Some(MigrationBackup::Never), false)]
#[case::asked_for(Environment::Local, Some(MigrationBackup::Required), true)]
fn a_backup_is_required_in_production(
    #[case] environment: Environment,
    #[case] backup: Option<MigrationBackup>,
    #[case] required: bool,
) {
    let mut world = installed(with_backup);
    world.edit(|stack| {
        stack.spec.environment = environment;
        stack.spec.migrations.backup = backup;
        stack.spec.rollout.approval = Some(Mode::Automatic);
    });
    image(&mut world, "2.0.0");
    go_on(&mut world);
    assert_eq!((request(&world).is_some(), jobs(&world, "migrate")), (required, 2 - usize::from(required)));
    if required {
        answers(&mut world, "a1", "1/2", "002");
        world.settle();
    }
    assert_eq!(env(&world, "ODOOAI_BACKUP_REQUIRED").is_some(), required);
}

#[test]
fn only_a_new_image_is_looked_at_and_only_what_is_pending_is_migrated() {
    let mut world = World::new();
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (0, 1), "a first install asks nobody");
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (0, 1), "a setting is no image");
    world.plan = UP_TO_DATE.to_owned();
    image(&mut world, "2.0.0");
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (1, 1), "nothing is pending");
    world.plan = sim::PLANNED.to_owned();
    image(&mut world, "3.0.0");
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (2, 2));
    let entry = world.stack.status.clone().expect("a status").history.remove(0);
    assert_eq!((entry.additive.len(), entry.enum_labels[0].labels.len()), (0, 2));
    image(&mut world, "2.0.0");
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (2, 2), "it was seen before");
}

#[test]
fn labels_alone_are_reason_enough_for_a_migration() {
    let mut world = World::new();
    world.run_to_the_end();
    world.plan = sim::PLANNED.replace("\"current\":[\"002\"]", "\"current\":[\"003\"]");
    image(&mut world, "2.0.0");
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (1, 2));
}

#[test]
fn who_approves_reads_what_is_changed() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.approval = Some(Mode::Manual));
    world.run_to_the_end();
    image(&mut world, "2.0.0");
    world.settle();
    assert_eq!(world.words("Ready").0, "Planning");
    world.everything_becomes_ready();
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "AwaitingApproval");
    for part in ["-> registry.example.com/ai-service:2.0.0", "003 (not additive: DROP COLUMN a.b)", "MONTH_END"] {
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    assert_eq!(jobs(&world, "migrate"), 1, "nothing is touched before");
}

#[test]
fn a_backup_of_this_very_database_comes_before_its_migration() {
    let mut world = installed(with_backup);
    image(&mut world, "2.0.0");
    go_on(&mut world);
    assert_eq!((world.words("Ready").0, world.words("Migrated").0), ("BackingUp".to_owned(), "BackingUp".to_owned()));
    assert_eq!(world.condition("Stalled"), Some("False"));
    let asked = made(&world);
    assert_eq!((request(&world), asked.attempt, &asked.id), (Some(asked.request_id.clone()), 1, &None));
    let intent = world.writes.iter().rposition(|write| write == "Status");
    assert!(world.writes.iter().rposition(|write| write == "Backup nightly") <= intent);
    assert_eq!(jobs(&world, "migrate"), 1, "nothing is touched before");
    world.settle();
    assert_eq!(made(&world).request_id, asked.request_id, "asked for once");

    answers(&mut world, "a1", "1/2", "002");
    world.settle();
    assert_eq!((made(&world).id.as_deref(), jobs(&world, "migrate")), (Some("a1"), 2));
    let told =
        ["ODOOAI_BACKUP_REQUIRED", "ODOOAI_BACKUP_INCARNATION", "ODOOAI_BACKUP_SCHEMA"].map(|it| env(&world, it));
    assert_eq!(told.map(Option::unwrap_or_default), ["true", "1/2", "002"]);
    world.run_to_the_end();
    let database = status(&world).database.expect("a database");
    assert_eq!(
        (database.last_migration.and_then(|it| it.backup), database.pre_migration_backup),
        (Some("a1".to_owned()), None)
    );
}

#[rstest::rstest]
#[case::no_reference(|world: &mut World| world.edit(|stack| stack.spec.migrations.backup_ref = None), "names no Backup")]
#[case::no_backup(|world: &mut World| world.backup = None, "nightly that migrations.backupRef names doesn't exist")]
#[case::of_another_stack(|world: &mut World| backup(world).spec.stack_ref.name = "other".to_owned(), "of the stack other")]
#[case::being_deleted(|world: &mut World| {
    let gone = serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time");
    backup(world).metadata.deletion_timestamp = Some(gone);
}, "being deleted")]
fn without_a_usable_backup_nothing_is_touched(#[case] fault: fn(&mut World), #[case] told: &str) {
    let mut world = installed(|world| {
        with_backup(world);
        world.edit(|stack| stack.spec.rollout.approval = Some(Mode::Manual));
        fault(world);
    });
    image(&mut world, "2.0.0");
    go_on(&mut world);
    let (reason, message) = world.words("Stalled");
    assert_eq!((world.condition("Stalled"), reason.as_str()), (Some("True"), "BackupNotConfigured"));
    assert!(message.contains(told), "{message}");
    assert_eq!(world.condition("AwaitingApproval"), Some("False"), "nobody is asked for what can't be done");
    assert_eq!((jobs(&world, "migrate"), request(&world)), (1, None));
    with_backup(&mut world);
    go_on(&mut world);
    assert_eq!(world.condition("AwaitingApproval"), Some("True"), "{:?}", world.words("Ready"));
    assert_eq!(request(&world), None, "not before the approval");
}

#[test]
fn a_database_with_something_in_it_is_backed_up_before_a_first_install_changes_it() {
    let mut world = World::new();
    with_backup(&mut world);
    world.report = refused("BackupMissing");
    go_on(&mut world);
    go_on(&mut world);
    assert_eq!((world.words("Ready").0.as_str(), jobs(&world, "migrate"), jobs(&world, "plan")), ("BackingUp", 1, 0));
    answers(&mut world, "a1", "1/2", "002");
    world.settle();
    assert_eq!((jobs(&world, "migrate"), env(&world, "ODOOAI_BACKUP_SCHEMA")), (2, Some("002".to_owned())));
    world.report = sim::MIGRATED.to_owned();
    world.run_to_the_end();
}

#[test]
fn an_empty_database_needs_no_backup() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.migrations.backup = Some(MigrationBackup::Required));
    world.run_to_the_end();
    assert_eq!(jobs(&world, "migrate"), 1);
}

#[test]
fn a_backup_that_fails_is_told_and_asked_for_again_after_a_pause() {
    let mut world = installed(with_backup);
    image(&mut world, "2.0.0");
    go_on(&mut world);
    let first = request(&world).expect("a request");
    let run = |result: &str, now: String| {
        let run = json!({"job": "nightly-7", "reason": "PreMigration", "requestId": first, "result": result, "message": "disk full", "completedAt": now});
        json!({"lastAttempt": run, "lastHandled": {"backupRequestedAt": first}})
    };
    let running = run("Running", world.now.to_string());
    says(&mut world, &running);
    world.settle();
    assert!(world.words("Ready").1.contains("Job nightly-7 of Backup nightly makes a backup"));
    let failed = run("Failed", world.now.to_string());
    says(&mut world, &failed);
    world.settle();
    assert_eq!(world.words("Stalled").0, "BackupFailed");
    assert!(world.words("Stalled").1.contains("disk full"));
    assert_eq!(request(&world), Some(first.clone()));
    world.now += SignedDuration::from_secs(40);
    world.settle();
    assert_eq!((made(&world).attempt, world.words("Ready").0.as_str()), (2, "BackingUp"));
    assert_eq!(request(&world), Some(made(&world).request_id));
    assert_ne!(request(&world), Some(first));
    assert_eq!(jobs(&world, "migrate"), 1);
}

#[test]
fn a_backup_that_can_make_none_says_why() {
    let mut world = installed(with_backup);
    image(&mut world, "2.0.0");
    let stalled = json!({"type": "Stalled", "status": "True", "reason": "X", "message": "no bucket", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    says(&mut world, &json!({"conditions": [stalled]}));
    go_on(&mut world);
    assert_eq!(world.words("Stalled").0, "BackupFailed");
    assert!(world.words("Stalled").1.contains("no bucket"));
    // It was asked all the same: whoever mends it, or plays it, finds the request.
    answers(&mut world, "a1", "1/2", "002");
    world.run_to_the_end();
}

#[test]
fn somebody_elses_request_is_not_overwritten() {
    let mut world = installed(with_backup);
    image(&mut world, "2.0.0");
    let annotations = backup(&mut world).metadata.annotations.get_or_insert_default();
    annotations.insert(annotations::BACKUP_REQUESTED_AT.to_owned(), "today".to_owned());
    go_on(&mut world);
    assert_eq!(request(&world).as_deref(), Some("today"));
    assert!(world.words("Ready").1.contains("another request waiting (today)"), "{:?}", world.words("Ready"));
    says(&mut world, &json!({"lastHandled": {"backupRequestedAt": "today"}}));
    world.settle();
    assert_eq!(request(&world), Some(made(&world).request_id));
    // A Backup that is deleted and made anew is asked again.
    backup(&mut world).metadata.annotations = None;
    backup(&mut world).status = None;
    world.settle();
    assert_eq!(request(&world), Some(made(&world).request_id));
}

#[test]
fn a_migration_that_comes_late_gets_a_new_backup() {
    let mut world = installed(with_backup);
    world.report = refused("SchemaAmbiguous");
    image(&mut world, "2.0.0");
    go_on(&mut world);
    answers(&mut world, "a1", "1/2", "002");
    go_on(&mut world);
    assert_eq!((world.words("Stalled").0.as_str(), jobs(&world, "migrate")), ("SchemaAmbiguous", 2));
    world.now += SignedDuration::from_mins(31);
    go_on(&mut world);
    assert_eq!((made(&world).id.as_deref(), jobs(&world, "migrate")), (Some("a1"), 3), "young enough");
    world.now += SignedDuration::from_mins(31);
    go_on(&mut world);
    assert_eq!((made(&world).attempt, &made(&world).id, jobs(&world, "migrate")), (2, &None, 3));
    answers(&mut world, "a2", "1/2", "002");
    world.report = sim::MIGRATED.to_owned();
    world.run_to_the_end();
    assert_eq!(jobs(&world, "migrate"), 4);
}

#[test]
fn a_backup_of_another_database_is_not_gone_by() {
    let mut world = installed(with_backup);
    world.report = refused("BackupMissing");
    image(&mut world, "2.0.0");
    go_on(&mut world);
    answers(&mut world, "a1", "9/9", "001");
    go_on(&mut world);
    assert_eq!((world.words("Stalled").0.as_str(), jobs(&world, "migrate")), ("BackupFailed", 2));
    assert!(
        world.words("Stalled").1.contains("backup a1 is not of what is to be migrated"),
        "{:?}",
        world.words("Stalled")
    );
    world.now += SignedDuration::from_secs(60);
    go_on(&mut world);
    assert_eq!((world.words("Ready").0.as_str(), made(&world).attempt), ("BackingUp", 2));
    answers(&mut world, "a2", "1/2", "002");
    world.report = sim::MIGRATED.to_owned();
    world.run_to_the_end();
    assert_eq!(jobs(&world, "migrate"), 3);
}

/// Version 2 at revision 003 with this verdict on it, then back to version 1 at 002.
fn step_back(additive: bool, plan: &str, change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new();
    world.report = sim::MIGRATED.replace("003", "002");
    world.run_to_the_end();
    sim::MIGRATED.clone_into(&mut world.report);
    world.plan = sim::PLANNED.replace("\"additive\":false", &format!("\"additive\":{additive}"));
    image(&mut world, "2.0.0");
    world.run_to_the_end();
    plan.clone_into(&mut world.plan);
    image(&mut world, "1.0.1");
    change(&mut world);
    go_on(&mut world);
    world
}

#[rstest::rstest]
#[case::additive(true, &[], "", "")]
#[case::not_additive(false, &[], "", "003 is not known to leave older images working")]
#[case::listed(false, &["003"], "", "")]
#[case::rows(true, &[], r#","unreadable":[{"table":"t","column":"c","label":"L","rows":2}]"#, "t.c 'L' (2 rows)")]
#[case::unknown(true, &[], r#","labelsUnknown":"no models""#, "can't be found out: no models")]
fn an_older_image_runs_on_a_newer_schema_only_where_it_can(
    #[case] additive: bool,
    #[case] listed: &[&str],
    #[case] plan: &str,
    #[case] refusal: &str,
) {
    let plan = OLDER.replace("\"needed\":false", &format!("\"needed\":false{plan}"));
    let listed: Vec<_> = listed.iter().map(|&it| it.to_owned()).collect();
    let mut world = step_back(additive, &plan, |world| {
        world.edit(|stack| stack.spec.migrations.backward_compatible.clone_from(&listed));
    });
    assert_eq!(jobs(&world, "plan"), 2, "an image that is asked about a newer schema looks at its rows");
    if refusal.is_empty() {
        world.run_to_the_end();
    } else {
        assert_eq!(world.words("Stalled").0, "SchemaNewerThanImage");
        let message = world.words("Stalled").1;
        assert!(message.contains(refusal) && message.contains("kubectl delete job"), "{message}");
        assert_ne!(status(&world).current_revision, status(&world).update_revision);
    }
    assert_eq!(jobs(&world, "migrate"), 2, "an older image migrates nothing");
}

#[test]
fn whoever_looks_again_after_mending_goes_on() {
    let plan = OLDER.replace(
        "\"needed\":false",
        r#""needed":false,"unreadable":[{"table":"t","column":"c","label":"L","rows":2}]"#,
    );
    let mut world = step_back(true, &plan, |_| {});
    assert_eq!(world.words("Stalled").0, "SchemaNewerThanImage");
    world.plan = OLDER.to_owned();
    let target = status(&world).update_revision.expect("a target");
    world.objects.retain(|key, _| !(key.name.contains("-plan-") && key.name.contains(&target)));
    world.run_to_the_end();
}

#[test]
fn under_the_policy_manual_a_person_says_when() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.migrations.policy = Some(Mode::Manual));
    world.plan =
        sim::PLANNED.replace("Pending", "Bootstrap").replace("\"needed\":true", "\"needed\":true,\"bootstrap\":true");
    world.run_to_the_end();
    assert_eq!((jobs(&world, "plan"), jobs(&world, "migrate")), (1, 1), "an empty database has nothing to lose");
    world.plan = sim::PLANNED.to_owned();
    with_backup(&mut world);
    image(&mut world, "2.0.0");
    go_on(&mut world);
    assert_eq!((world.condition("Ready"), world.words("Ready").0.as_str()), (Some("Unknown"), "MigrationPending"));
    assert_eq!(world.words("AwaitingApproval").0, "MigrationPending");
    let target = status(&world).update_revision.expect("a target");
    assert!(world.words("Ready").1.contains(&format!("approved-migration={target}")), "{:?}", world.words("Ready"));
    assert_eq!((jobs(&world, "migrate"), request(&world)), (1, None), "the backup is made when it goes on");
    let annotations = world.stack.metadata.annotations.get_or_insert_default();
    annotations.insert(annotations::APPROVED_MIGRATION.to_owned(), target.clone());
    go_on(&mut world);
    answers(&mut world, "a1", "1/2", "002");
    world.run_to_the_end();
    assert_eq!(status(&world).last_handled.and_then(|it| it.approved_migration), Some(target.clone()));
    // One that stays in Git does nothing twice.
    world.plan = UP_TO_DATE.to_owned();
    image(&mut world, "1.0.0");
    world.run_to_the_end();
    world.plan = sim::PLANNED.to_owned();
    let database = world.stack.status.as_mut().and_then(|status| status.database.as_mut()).expect("a database");
    database.schema_revision = Some("002".to_owned());
    image(&mut world, "2.0.0");
    go_on(&mut world);
    assert_eq!(status(&world).update_revision, Some(target));
    assert_eq!(world.words("Ready").0, "MigrationPending");
    assert!(world.words("Ready").1.contains("take the annotation off first"));
}

#[test]
fn settings_are_told_by_name_and_never_by_value() {
    let mut world = installed(|world| world.edit(|stack| stack.spec.rollout.approval = Some(Mode::Manual)));
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    world.edit_secret("anthropic", "apiKey", "sk-another");
    world.settle();
    let message = world.words("Ready").1;
    assert!(message.contains("It changes settings ANTHROPIC_API_KEY, logLevel; nothing in the schema"), "{message}");
    assert!(!format!("{:?}", world.objects).contains("sk-another"));
}

#[test]
fn a_refusal_is_asked_again_at_once_when_the_guard_is_changed() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.migrations.backup = Some(MigrationBackup::Required));
    world.report = refused("BackupMissing");
    go_on(&mut world);
    go_on(&mut world);
    assert_eq!((world.words("Ready").0.as_str(), jobs(&world, "migrate")), ("BackupNotConfigured", 1));
    world.report = sim::MIGRATED.to_owned();
    world.edit(|stack| stack.spec.migrations.backup = Some(MigrationBackup::Never));
    world.run_to_the_end();
    assert_eq!(jobs(&world, "migrate"), 2);
}
