//! A Restore in place of the live database.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::restore::{RestoreStep, RestoreTarget};
use odoo_ai_crds::source::{Artifact, ArtifactSelector};
use odoo_ai_operator::restore::build::Task;
use odoo_ai_operator::restore::decide::{Decision, decide};
use odoo_ai_operator::restore::remove::{self, Step};
use odoo_ai_operator::restore::surroundings::{Current, Other};
use odoo_ai_operator::rollout::inputs::Inputs;
use odoo_ai_operator::stack::restoring;
use serde_json::{Value, json};

use crate::{World, env, restored};

const ARTIFACT: &str = "20260101t030000z-aaaaaa";
const OLD: &str = "7412345678901234567/16401";
const NEW: &str = "7412345678901234567/16999";

impl World {
    /// A stack that runs, and a confirmed Restore in place.
    fn in_place() -> Self {
        let mut world = Self::new();
        let spec = &mut world.seen.object.spec;
        spec.target = Some(RestoreTarget::InPlace);
        spec.source.artifact = Some(Artifact { id: Some(ARTIFACT.to_owned()), selector: None });
        spec.confirm = Some(format!("odoo-ai/{ARTIFACT}/{OLD}"));
        world.stack(|status| {
            status["database"] = json!({"incarnation": OLD});
            status["currentRevision"] = json!("r1");
        });
        let inputs = Inputs::from_stored(&json!({}));
        let current = Current { revision: "r1".to_owned(), image: "ai:1".to_owned(), inputs };
        world.seen.around.current = Some(current);
        let migrations = &mut world.seen.stack.as_mut().expect("a stack").spec.migrations;
        migrations.backup = Some(odoo_ai_crds::stack::MigrationBackup::Required);
        let mut backup = world.seen.source.backup.clone().expect("a Backup");
        backup.metadata.name = Some("nightly".to_owned());
        world.seen.around.before = Some(Arc::new(backup));
        world.workloads(1);
        world
    }

    fn stack(&mut self, change: impl FnOnce(&mut Value)) {
        let stack = self.seen.stack.as_mut().expect("a stack");
        let mut status = serde_json::to_value(&stack.status).expect("JSON");
        change(&mut status);
        stack.status = Some(serde_json::from_value(status).expect("a status"));
    }

    /// The application's workloads want so many pods, and have them.
    fn workloads(&mut self, replicas: i32) {
        let children = &mut self.seen.around.children;
        children.pods.clear();
        for component in ["ai-service", "worker", "beat"] {
            let name = format!("odoo-ai-{component}");
            let wanted = if component == "worker" { replicas * 2 } else { replicas };
            let object = json!({
                "metadata": {"name": name, "generation": 1},
                "spec": {"replicas": wanted, "selector": {}, "template": {}, "serviceName": "x"},
                "status": {"observedGeneration": 1, "replicas": wanted, "availableReplicas": wanted,
                    "readyReplicas": wanted, "updatedReplicas": wanted},
            });
            if component == "beat" {
                let set: StatefulSet = serde_json::from_value(object).expect("a set");
                children.stateful_sets.insert(name.clone(), Arc::new(set));
            } else {
                let deployment: Deployment = serde_json::from_value(object).expect("a Deployment");
                children.deployments.insert(name.clone(), Arc::new(deployment));
            }
            if replicas > 0 {
                let pod: Pod = serde_json::from_value(json!({
                    "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}},
                    "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self.seen.now}]},
                }))
                .expect("a pod");
                children.pods.insert(name, Arc::new(pod));
            }
        }
    }

    fn at(&self) -> Option<RestoreStep> {
        self.seen.status().step
    }

    /// Steps until something is waited for or to be done.
    fn settle(&mut self) -> Decision {
        for _ in 0..10 {
            let before = (self.at(), self.seen.status().pre_restore_backup);
            let decision = self.step();
            if decision.start.is_some() || decision.ask.is_some() {
                return decision;
            }
            if before == (self.at(), self.seen.status().pre_restore_backup) {
                return decision;
            }
        }
        panic!("it goes on and on: {:?}", self.seen.status());
    }

    /// The backup before it is there.
    fn backed_up(&mut self) {
        let request = self.seen.status().pre_restore_backup.expect("a request").request_id;
        let backup = Arc::make_mut(self.seen.around.before.as_mut().expect("a Backup"));
        let artifact = json!({"id": "before-1", "reason": "PreRestore", "requestId": request});
        backup.status = Some(serde_json::from_value(json!({"artifacts": [artifact]})).expect("a status"));
    }

    fn migrated(&mut self, name: &str) {
        self.migrated_as(name, NEW);
    }

    fn migrated_as(&mut self, name: &str, incarnation: &str) {
        let report = json!({"result": "Succeeded", "reason": "AtHead", "incarnation": incarnation,
            "schema": {"heads": ["003"], "known": ["003"], "current": ["003"]}});
        self.end(name, "Complete", &report);
    }

    fn ask(&mut self, annotation: &str, token: &str) {
        let all = self.seen.object.metadata.annotations.get_or_insert_default();
        all.insert(annotation.to_owned(), token.to_owned());
    }

    /// The stack has looked which database is live.
    fn noted(&mut self, live: &str) {
        let noted = restoring::noted_as(&self.seen.object);
        self.stack(|status| status["database"] = json!({"incarnation": live, "restore": noted}));
    }

    /// It is backed up and loaded, and its migration begins.
    fn loads(&mut self) {
        self.settle();
        self.backed_up();
        self.settle();
        let database = self.seen.status().database.expect("a name");
        self.end("look-load-1", "Complete", &restored(&database));
        self.settle();
    }

    /// Up to the step Drain.
    fn prepared() -> Self {
        let mut world = Self::in_place();
        assert!(world.settle().ask.is_some(), "a backup is asked for");
        world.backed_up();
        assert_eq!(world.settle().start, Some((Task::Load, 1)));
        let database = world.seen.status().database.expect("a name");
        world.end("look-load-1", "Complete", &restored(&database));
        assert_eq!(world.settle().start, Some((Task::Migrate, 1)));
        world.migrated("look-migrate-1-1");
        world.settle();
        assert_eq!(world.at(), Some(RestoreStep::Drain), "{}", world.says("Complete").2);
        world
    }

    /// Up to the Job that swaps.
    fn swapping() -> Self {
        let mut world = Self::prepared();
        world.workloads(0);
        assert_eq!(world.settle().start, Some((Task::Swap, 1)));
        world
    }

    fn swapped() -> Self {
        let mut world = Self::swapping();
        world.later(3);
        world.end("look-swap-1-1", "Complete", &json!({"result": "Succeeded", "swap": {"millis": 4, "bytes": 2048}}));
        world.settle();
        world
    }

    fn restored_in_place() -> Self {
        let mut world = Self::swapped();
        world.later(4);
        world.workloads(1);
        world.noted(NEW);
        world.settle();
        world
    }
}

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

impl World {
    fn run_beside(&mut self, component: &str) {
        let job = json!({"metadata": {"name": component, "labels": {"app.kubernetes.io/component": component}}});
        let job = serde_json::from_value(job).expect("a Job");
        self.seen.around.children.jobs.insert(component.to_owned(), Arc::new(job));
    }
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
fn what_it_was_read_from_may_go_once_it_is_loaded() {
    let mut world = World::swapped();
    (world.seen.source.backup, world.seen.source.claim_exists) = (None, false);
    world.workloads(1);
    world.noted(NEW);
    world.settle();
    world.expect("True", "Restored");
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
