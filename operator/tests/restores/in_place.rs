//! A Restore in place of the live database.

use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_crds::source::{Artifact, ArtifactSelector};
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::decide::decide;
use odoo_ai_operator::stack::restoring;
use serde_json::json;

use crate::{World, env};

use crate::played::{ARTIFACT, NEW, OLD};

#[test]
fn nothing_is_done_before_it_is_confirmed_for_this_very_database() {
    for (confirm, reason) in [
        (None, "AwaitingConfirmation"),
        (Some(format!("odoo-ai/{ARTIFACT}/7412345678901234567/99")), "ConfirmationMismatch"),
        (Some(format!("odoo-ai/another/{OLD}")), "ConfirmationMismatch"),
    ] {
        let mut world = World::in_place();
        world.seen.object.spec.confirm = confirm;
        let decision = world.step();
        world.expect("Unknown", reason);
        assert!(decision.start.is_none() && world.seen.status().started_at.is_none());
        assert!(
            world.says("Complete").2.contains(&format!("odoo-ai/{ARTIFACT}/{OLD}")),
            "{}",
            world.says("Complete").2
        );
        let others = [world.says("Stalled").0, world.says("Reconciling").0];
        assert_eq!(others, ["False", "False"], "a person is asked");
    }
    // What a selector stands for is shown, and doesn't change once it has begun.
    let mut world = World::in_place();
    world.seen.object.spec.source.artifact = Some(Artifact { id: None, selector: Some(ArtifactSelector::Latest) });
    world.step();
    world.expect("Unknown", "NotObserved");
    let newest = |world: &mut World, id: &str| {
        let status = json!({"lastSuccess": {"id": id, "reason": "Scheduled"}});
        world.seen.source.backup.as_mut().expect("a Backup").status =
            Some(serde_json::from_value(status).expect("a status"));
    };
    newest(&mut world, ARTIFACT);
    world.step();
    assert_eq!(world.at(), Some(RestoreStep::PreRestoreBackup));
    newest(&mut world, "20260102t030000z-bbbbbb");
    world.settle();
    assert_eq!(world.seen.status().artifact_id.as_deref(), Some(ARTIFACT));
}

#[test]
fn it_is_backed_up_loaded_migrated_and_swapped_while_the_application_is_stopped() {
    let mut world = World::in_place();
    let asked = world.settle().ask.expect("a request");
    assert_eq!(Some(&asked.1), world.seen.status().pre_restore_backup.map(|it| it.request_id).as_ref());
    world.expect("Unknown", "BackingUp");
    assert!(world.says("Complete").2.starts_with("step 1 of 6 (PreRestoreBackup): "), "{}", world.says("Complete").2);
    let mut world = World::prepared();
    assert!(restoring::stops(&world.seen.object), "now the stack stops the application");
    world.expect("Unknown", "Draining");
    assert_eq!(world.settle().start, None);
    world.workloads(0);
    assert_eq!(world.settle().start, Some((Task::Swap, 1)));
    let plan = decide(&world.seen, &world.operator).plan.expect("a plan");
    let job = serde_json::to_value(&*world.seen.children.jobs["look-swap-1-1"]).expect("JSON");
    let told = env(&job);
    assert_eq!(told["ODOOAI_RESTORE_DATABASE"], plan.database);
    assert_eq!(Some(&told["ODOOAI_RESTORE_REPLACED"]), plan.replaced.as_ref());
    assert_eq!(told["ODOOAI_RESTORE_SEQUENCE"], "1");
    // Its load looks whether it may be renamed.
    let job = serde_json::to_value(&*world.seen.children.jobs["look-load-1"]).expect("JSON");
    assert_eq!(Some(&env(&job)["ODOOAI_RESTORE_REPLACED"]), plan.replaced.as_ref());
    let mut world = World::restored_in_place();
    world.expect("True", "Restored");
    let status = world.seen.status();
    assert_eq!((status.swap_seconds, status.downtime_seconds), (Some(3), Some(7)));
    assert_eq!((status.database.as_deref(), status.replaced_database), (Some("odoo_ai"), plan.replaced));
    assert!(world.says("Complete").2.contains("(2.0KiB)"), "{}", world.says("Complete").2);
    assert!(!restoring::stops(&world.seen.object));
    let before = world.seen.status();
    world.later(3600);
    world.step();
    assert_eq!(world.seen.status(), before, "nothing is said any more");
}

#[test]
fn the_migration_is_the_running_images_and_goes_to_the_new_database() {
    let world = World::prepared();
    let job = serde_json::to_value(&*world.seen.children.jobs["look-migrate-1-1"]).expect("JSON");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let told = env(&job);
    let database = decide(&world.seen, &world.operator).plan.expect("a plan").database;
    assert_eq!(container["image"], "ai:1");
    assert_eq!(container["command"], json!(["/odooai/bin/agent", "migrate"]));
    assert_eq!(told["ODOOAI_DATABASE_NAME"], database);
    assert!(told["AI_DATABASE_URL"].ends_with(&format!("/{database}")));
    assert!(!told.contains_key("ODOOAI_BACKUP_REQUIRED"), "nobody needs a backup of what was just restored");
}

#[test]
fn another_revision_migrates_it_again() {
    let mut world = World::in_place();
    world.loads();
    world.seen.around.current.as_mut().expect("a revision").revision = "r2".to_owned();
    world.migrated("look-migrate-1-1");
    assert_eq!(world.settle().start, Some((Task::Migrate, 2)));
}

#[test]
fn without_a_backup_to_ask_it_stalls_unless_nobody_wants_one() {
    let mut world = World::in_place();
    world.seen.around.before = None;
    world.settle();
    world.expect("False", "BackupNotConfigured");
    let mut world = World::in_place();
    world.seen.around.before = None;
    world.seen.stack.as_mut().expect("a stack").spec.migrations.backup =
        Some(odoo_ai_crds::stack::MigrationBackup::Never);
    assert_eq!(world.settle().start, Some((Task::Load, 1)));
}

#[test]
fn what_a_job_did_is_believed_only_when_the_database_says_so() {
    // It failed, and the databases changed names all the same.
    let mut world = World::swapping();
    world.end("look-swap-1-1", "Failed", &json!({"result": "Failed", "message": "the connection was lost"}));
    world.settle();
    world.workloads(1);
    world.noted(NEW);
    world.settle();
    world.expect("True", "Restored");
    // And the other way round.
    let mut world = World::swapped();
    world.workloads(1);
    world.noted(OLD);
    world.settle();
    world.expect("False", "RestoreFailed");
}

#[test]
fn it_has_not_ended_before_the_stack_has_looked_and_runs() {
    let mut world = World::swapped();
    world.expect("Unknown", "Starting");
    world.workloads(1);
    world.settle();
    assert!(world.says("Complete").2.contains("takes note"), "{}", world.says("Complete").2);
    let noted = restoring::noted_as(&world.seen.object);
    world.stack(|status| status["database"] = json!({"restore": noted}));
    world.settle();
    assert!(world.says("Complete").2.contains("looks which"), "{}", world.says("Complete").2);
    world.noted(NEW);
    world.workloads(0);
    world.settle();
    world.expect("Unknown", "Starting");
    assert!(world.says("Complete").2.contains("undo-requested-at"), "{}", world.says("Complete").2);
}

#[test]
fn what_it_was_read_from_may_go_once_it_is_loaded() {
    let mut world = World::swapped();
    (world.seen.source.backup, world.seen.source.claim_exists) = (None, false);
    world.workloads(1);
    world.noted(NEW);
    world.settle();
    world.expect("True", "Restored");
}

#[test]
fn where_agents_lock_in_the_database_itself_it_cant_be_renamed() {
    let mut world = World::in_place();
    let spec = &mut world.seen.stack.as_mut().expect("a stack").spec;
    spec.database.kind = odoo_ai_crds::stack::DatabaseType::External;
    spec.database.managed = odoo_ai_crds::stack::ManagedDatabase::default();
    let external = json!({"host": "db", "database": "odoo_ai", "username": "odoo_ai", "passwordSecretRef": {"name": "db", "key": "password"}});
    spec.database.external = Some(serde_json::from_value(external).expect("a server"));
    world.step();
    world.expect("False", "RenameNotPossible");
    assert!(world.says("Complete").2.contains("lockDatabase"));
}
