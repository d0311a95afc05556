//! The way back, and the database that was set aside.

use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::decide::decide;
use odoo_ai_operator::restore::surroundings::Other;
use odoo_ai_operator::stack::restoring;
use serde_json::json;

use crate::{World, env};

use crate::played::OLD;

#[test]
fn an_undo_lets_them_change_names_again_once() {
    let mut world = World::restored_in_place();
    let plan = decide(&world.seen, &world.operator).plan.expect("a plan");
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    assert_eq!(world.settle().start, Some((Task::Migrate, 1)));
    let job = serde_json::to_value(&*world.seen.children.jobs["look-migrate-2-1"]).expect("JSON");
    assert_eq!(Some(&env(&job)["ODOOAI_DATABASE_NAME"]), plan.replaced.as_ref());
    world.expect("Unknown", "Migrating");
    world.migrated_as("look-migrate-2-1", OLD);
    world.settle();
    world.workloads(0);
    assert_eq!(world.settle().start, Some((Task::Swap, 1)));
    let job = serde_json::to_value(&*world.seen.children.jobs["look-swap-2-1"]).expect("JSON");
    let told = env(&job);
    assert_eq!(Some(&told["ODOOAI_RESTORE_DATABASE"]), plan.replaced.as_ref());
    assert_eq!((&told["ODOOAI_RESTORE_REPLACED"], told["ODOOAI_RESTORE_SEQUENCE"].as_str()), (&plan.database, "2"));
    world.end("look-swap-2-1", "Complete", &json!({"result": "Succeeded", "swap": {}}));
    world.settle();
    world.workloads(1);
    world.noted(OLD);
    world.settle();
    world.expect("True", "Undone");
    assert_eq!(world.seen.status().replaced_database, Some(plan.database));
    // Twice is once.
    world.ask(annotations::UNDO_REQUESTED_AT, "2");
    world.settle();
    world.expect("True", "Undone");
    assert!(world.seen.status().last_handled.expect("a request").undo_refused.is_some());
}

#[test]
fn an_undo_before_there_is_anything_to_undo_is_refused() {
    let mut world = World::prepared();
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    world.settle();
    assert_eq!(world.at(), Some(RestoreStep::Drain));
    assert!(world.seen.status().last_handled.expect("a request").undo_refused.expect("why").contains("not replaced"));
}

#[test]
fn the_replaced_database_goes_when_its_time_is_over_and_not_before() {
    let mut world = World::restored_in_place();
    world.later(3600);
    assert_eq!(world.step().start, None, "for ever");
    world.seen.object.spec.replaced_database_retention_seconds = Some(7200);
    assert_eq!(world.step().start, None);
    world.later(3601);
    assert_eq!(world.step().start, Some((Task::Drop, 1)));
    let job = serde_json::to_value(&*world.seen.children.jobs["look-drop-1-1"]).expect("JSON");
    let told = env(&job);
    assert_eq!(told["ODOOAI_RESTORE_DISCARD"], "Replaced");
    assert_eq!(Some(&told["ODOOAI_RESTORE_DATABASE"]), world.seen.status().replaced_database.as_ref());
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["command"][2], "discard");
    world.end("look-drop-1-1", "Complete", &json!({"result": "Succeeded"}));
    world.step();
    assert!(world.says("Complete").2.ends_with("was dropped"), "{}", world.says("Complete").2);
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    world.step();
    assert!(world.seen.status().last_handled.expect("a request").undo_refused.expect("why").contains("dropped"));
}

#[test]
fn an_undo_that_would_bring_something_else_is_refused() {
    let refused = |change: fn(&mut World), wanted: &str| {
        let mut world = World::restored_in_place();
        change(&mut world);
        world.ask(annotations::UNDO_REQUESTED_AT, "1");
        world.settle();
        world.expect("True", "Restored");
        let why = world.seen.status().last_handled.expect("a request").undo_refused.expect("why");
        assert!(why.contains(wanted), "{why}");
    };
    refused(|world| world.noted("7412345678901234567/99"), "not live any more");
    refused(
        |world| world.seen.around.others = vec![Other { name: "other".to_owned(), interrupts: false, older: false }],
        "Restore other is under way",
    );
    refused(|world| world.seen.object.spec.replaced_database_retention_seconds = Some(0), "is over");
    // One that took the name of the replaced database is not live again.
    let mut world = World::restored_in_place();
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    world.settle();
    world.migrated_as("look-migrate-2-1", "7412345678901234567/77");
    world.settle();
    world.expect("False", "ConfirmationMismatch");
    assert!(!restoring::stops(&world.seen.object));
}

#[test]
fn a_newer_schema_that_ran_with_this_image_is_no_obstacle_to_an_undo() {
    let undone = |revision: &str| {
        let mut world = World::restored_in_place();
        world.seen.around.current.as_mut().expect("a revision").revision = revision.to_owned();
        world.ask(annotations::UNDO_REQUESTED_AT, "1");
        world.settle();
        let report = json!({"result": "Refused", "reason": "SchemaNewerThanImage", "message": "newer"});
        world.end("look-migrate-2-1", "Failed", &report);
        world.settle();
        world.at()
    };
    assert_eq!(undone("r1"), Some(RestoreStep::Drain));
    assert_eq!(undone("r2"), Some(RestoreStep::Migrate), "that image never ran with it");
}
