//! What is in the way of a Restore in place.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::restore::RestoreStep;
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::remove::{self, Step};
use odoo_ai_operator::restore::surroundings::Other;
use odoo_ai_operator::stack::restoring;
use serde_json::{Value, json};

use crate::World;

use crate::played::OLD;

#[test]
fn what_is_in_the_way_of_stopping_the_application_is_waited_for() {
    let blocked = |change: fn(&mut World), reason: &str| {
        let mut world = World::in_place();
        world.loads();
        world.migrated("look-migrate-1-1");
        change(&mut world);
        world.settle();
        world.expect("Unknown", reason);
        assert_eq!(world.at(), Some(RestoreStep::Migrate));
    };
    blocked(
        |world| world.seen.around.others = vec![Other { name: "o".to_owned(), interrupts: true, older: false }],
        "WaitingForRestore",
    );
    blocked(
        |world| world.seen.around.others = vec![Other { name: "o".to_owned(), interrupts: false, older: true }],
        "WaitingForRestore",
    );
    blocked(|world| world.seen.stack.as_mut().expect("a stack").spec.suspend = true, "Suspended");
    blocked(
        |world| world.stack(|status| status["rollout"] = json!({"revision": "r2", "step": "AiService"})),
        "WaitingForRollout",
    );
    blocked(|world| world.run_beside("backup"), "WaitingForBackup");
    blocked(|world| world.run_beside("migrate"), "WaitingForRollout");
    // A rollout that waits for a person changes nothing, and one that is younger waits itself.
    let mut world = World::prepared();
    world.stack(|status| status["rollout"] = json!({"revision": "r2", "step": "Approval"}));
    world.seen.around.others = vec![Other { name: "o".to_owned(), interrupts: false, older: false }];
    world.settle();
    assert_eq!(world.at(), Some(RestoreStep::Drain));
}

#[test]
fn databases_that_cant_change_names_leave_the_application_running() {
    let mut world = World::swapping();
    let report = json!({"result": "Failed", "reason": "DatabaseInUse", "message": "pid 7 is in it"});
    world.end("look-swap-1-1", "Failed", &report);
    world.settle();
    assert_eq!(world.at(), Some(RestoreStep::Start));
    assert!(!restoring::stops(&world.seen.object));
    world.workloads(1);
    world.noted(OLD);
    world.settle();
    world.expect("False", "RestoreFailed");
    let (stalled, message) = (world.says("Stalled").0, world.says("Complete").2);
    assert!(stalled == "True" && message.contains("pid 7") && message.contains("retry-requested-at"), "{message}");
    // Asked for again, it begins where nothing is stopped yet, with another number.
    world.ask(annotations::RETRY_REQUESTED_AT, "1");
    assert_eq!(world.settle().start, Some((Task::Migrate, 1)));
    world.migrated("look-migrate-2-1");
    world.settle();
    world.workloads(0);
    assert_eq!(world.settle().start, Some((Task::Swap, 1)));
    assert!(world.seen.children.jobs.contains_key("look-swap-2-1"));
}

#[test]
fn deleted_before_the_swap_it_undoes_and_after_it_it_finishes() {
    let going = |world: &mut World| {
        world.seen.object.metadata.deletion_timestamp = serde_json::from_value(json!(world.seen.now)).expect("a time");
    };
    let mut world = World::prepared();
    going(&mut world);
    assert!(!restoring::stops(&world.seen.object), "the application runs again");
    assert!(!remove::finishes(&world.seen));
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Discard(_, 1)));
    let mut world = World::swapping();
    going(&mut world);
    assert!(restoring::stops(&world.seen.object) && remove::finishes(&world.seen));
    world.later(601);
    assert!(!remove::finishes(&world.seen), "nobody waits for ever");
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Release(Some(_))));
    // Whose databases did not change places goes as one that has not come so far.
    let mut world = World::swapping();
    world.end("look-swap-1-1", "Failed", &json!({"result": "Failed", "message": "no"}));
    world.settle();
    going(&mut world);
    assert!(!remove::finishes(&world.seen));
    assert!(matches!(remove::step(&world.seen, &world.operator), Step::Discard(_, 1)));
    // An undo that is given up leaves what is live.
    let mut world = World::restored_in_place();
    world.ask(annotations::UNDO_REQUESTED_AT, "1");
    world.settle();
    going(&mut world);
    world.seen.children.jobs.retain(|name, _| name != "look-migrate-2-1");
    assert_eq!(remove::step(&world.seen, &world.operator), Step::Release(None));
}

#[test]
fn a_pod_that_was_evicted_is_no_writer() {
    let mut world = World::prepared();
    world.workloads(0);
    let evicted = json!({
        "metadata": {"name": "evicted", "labels": {"app.kubernetes.io/component": "worker"}},
        "status": {"phase": "Failed", "reason": "Evicted"},
    });
    let pod: Pod = serde_json::from_value(evicted).expect("a pod");
    world.seen.around.children.pods.insert("evicted".to_owned(), Arc::new(pod));
    assert_eq!(world.settle().start, Some((Task::Swap, 1)));
}

#[test]
fn what_the_agent_refused_changed_nothing_and_the_stack_forgets_nothing() {
    let mut world = World::swapping();
    let report = json!({"result": "Refused", "reason": "DatabaseInUse", "message": "pid 7 is in it"});
    world.end("look-swap-1-1", "Failed", &report);
    world.settle();
    assert!(!restoring::may_be_another(&world.seen.object));
    world.workloads(1);
    world.settle();
    world.expect("False", "DatabaseInUse");
    let message = world.says("Complete").2;
    assert!(message.contains("pid 7") && !message.contains("delete Job"), "{message}");
    // Of a Job that only failed nobody knows.
    let mut world = World::swapping();
    world.end("look-swap-1-1", "Failed", &json!({"result": "Failed", "message": "lost"}));
    world.settle();
    assert!(restoring::may_be_another(&world.seen.object));
    world.workloads(1);
    world.noted("1/1");
    world.settle();
    world.expect("False", "ConfirmationMismatch");
}

#[test]
fn the_application_waits_no_longer_than_5_minutes_for_a_job_that_nobody_can_make() {
    let mut world = World::prepared();
    world.workloads(0);
    world.settle();
    world.seen.children.jobs.remove("look-swap-1-1");
    world.later(299);
    assert_eq!(world.step().start, Some((Task::Swap, 1)));
    world.seen.children.jobs.remove("look-swap-1-1");
    world.later(2);
    world.settle();
    assert_eq!(world.at(), Some(RestoreStep::Start));
    assert!(world.seen.status().failure.is_some());
}

#[test]
fn an_application_that_might_not_come_back_is_not_stopped() {
    let failed = |status: &mut Value| {
        status["failure"] = json!({"revision": "r2", "reason": "x", "message": "y", "outcome": "RollbackFailed"});
    };
    let mut world = World::in_place();
    world.stack(failed);
    world.settle();
    world.expect("Unknown", "WaitingForRollout");
    assert!(world.seen.status().started_at.is_none());
    // What was put back is.
    world.stack(|status| {
        failed(status);
        status["failure"]["outcome"] = json!("RolledBack");
    });
    world.settle();
    assert!(world.seen.status().started_at.is_some());
}

#[test]
fn a_job_that_is_done_though_the_restore_goes_has_no_owner_and_is_known_all_the_same() {
    let mut world = World::swapping();
    let job = Arc::clone(&world.seen.children.jobs["look-swap-1-1"]);
    assert!(job.metadata.owner_references.is_none());
    assert!(odoo_ai_operator::restore::build::is_of(&job, "of-look"));
    assert_eq!(world.step().start, None, "it is its own");
    world.seen.object.metadata.uid = Some("of-another".to_owned());
    assert!(!odoo_ai_operator::restore::build::is_of(&job, "of-another"));
}

#[test]
fn without_the_backups_image_it_still_comes_to_its_end() {
    let mut world = World::in_place();
    let spec = &mut world.seen.stack.as_mut().expect("a stack").spec;
    spec.database.kind = odoo_ai_crds::stack::DatabaseType::External;
    spec.database.managed = odoo_ai_crds::stack::ManagedDatabase::default();
    let external = json!({"host": "db", "database": "odoo_ai", "username": "odoo_ai", "lockDatabase": "postgres",
        "passwordSecretRef": {"name": "db", "key": "password"}});
    spec.database.external = Some(serde_json::from_value(external).expect("a server"));
    world.step();
    world.expect("False", "InvalidSpec");
    world.seen.object.status =
        Some(serde_json::from_value(json!({"step": "Swap", "startedAt": world.seen.now})).expect("a status"));
    assert_eq!(world.step().start, Some((Task::Swap, 1)));
}
