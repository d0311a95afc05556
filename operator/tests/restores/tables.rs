//! Some tables of the live database.

use odoo_ai_crds::conditions::annotations;
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::decide::decide;
use odoo_ai_operator::restore::remove::{self, Step};
use odoo_ai_operator::stack::restoring;
use serde_json::json;

use crate::{World, env};

/// Some tables, up to the Job that brings them back.
fn copying() -> World {
    let mut world = World::in_place();
    world.seen.object.spec.tables = vec!["audit_logs".to_owned(), "automation_rules".to_owned()];
    world.loads();
    world.migrated("look-migrate-1-1");
    world.settle();
    world.expect("Unknown", "Draining");
    world.workloads(0);
    assert_eq!(world.settle().start, Some((Task::Copy, 1)));
    world
}

#[test]
fn chosen_tables_come_back_while_the_application_is_stopped_and_what_was_loaded_goes() {
    let mut world = copying();
    assert!(restoring::stops(&world.seen.object));
    let job = serde_json::to_value(&*world.seen.children.jobs["look-tables-1-1"]).expect("JSON");
    let told = env(&job);
    let database = decide(&world.seen, &world.operator).plan.expect("a plan").database;
    assert_eq!((&told["ODOOAI_RESTORE_DATABASE"], told["ODOOAI_DATABASE_NAME"].as_str()), (&database, "odoo_ai"));
    assert_eq!(told["ODOOAI_RESTORE_TABLES"], "audit_logs,automation_rules");
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["command"][2], "tables");
    let copied = json!([{"name": "audit_logs", "rows": 5}, {"name": "automation_rules", "rows": 2}]);
    world.later(2);
    world.end(
        "look-tables-1-1",
        "Complete",
        &json!({"result": "Succeeded", "tables": {"copied": copied, "millis": 9}}),
    );
    world.settle();
    world.expect("Unknown", "Starting");
    assert!(!restoring::stops(&world.seen.object));
    world.later(3);
    world.workloads(1);
    assert_eq!(world.settle().start, Some((Task::Drop, 1)));
    let told = env(&serde_json::to_value(&*world.seen.children.jobs["look-drop-1-1"]).expect("JSON"));
    assert_eq!(told["ODOOAI_RESTORE_DATABASE"], database);
    assert!(!told.contains_key("ODOOAI_RESTORE_DISCARD"), "what was begun, and nothing else");
    world.end("look-drop-1-1", "Complete", &json!({"result": "Succeeded"}));
    world.settle();
    world.expect("True", "Restored");
    let message = world.says("Complete").2;
    assert!(message.starts_with("2 tables are as in backup") && message.contains("(7 rows)"), "{message}");
    let status = world.seen.status();
    assert_eq!((status.downtime_seconds, status.swap_seconds, status.database), (Some(5), Some(2), None));
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    world.settle();
    world.expect("True", "Restored");
    let why = world.seen.status().last_handled.expect("a request").undo_refused.expect("why");
    assert!(why.contains("before-1"), "{why}");
}

#[test]
fn tables_that_cant_come_back_leave_the_application_running() {
    let mut world = copying();
    let report = json!({"result": "Refused", "reason": "ForeignKeyViolated", "message": "a key of orders"});
    world.end("look-tables-1-1", "Failed", &report);
    world.settle();
    assert!(!restoring::stops(&world.seen.object));
    world.workloads(1);
    world.settle();
    world.expect("False", "ForeignKeyViolated");
    let message = world.says("Complete").2;
    assert!(message.contains("no table was changed") && message.contains("retry-requested-at"), "{message}");
    // Deleted then, what was loaded goes.
    world.seen.object.metadata.deletion_timestamp = serde_json::from_value(json!(world.seen.now)).expect("a time");
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Discard(_, 1)));
}
