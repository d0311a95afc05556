//! Revisions that fail, in a simulated cluster: what is put back, what is kept, and what is never taken for a
//! failure.

mod sim;

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::{FailureOutcome, LogLevel, Mode, RevisionResult};
use odoo_ai_operator::cluster::nodes::Images;
use serde_json::json;
use sim::revisions::{annotate, crashing, current, go_on, hanging, image, installed, pod, status, target};
use sim::{World, key};

/// What an older image's plan Job reports of a schema at 003.
const OLDER: &str = r#"{"version":1,"result":"Succeeded","reason":"NewerThanImage","message":"","plan":{"needed":false},
    "schema":{"heads":["002"],"known":["001","002"],"current":["003"]},"incarnation":"1/2"}"#;

/// The revision before runs in every component, and the status says why.
#[track_caller]
fn is_rolled_back(world: &World, old: &str, cause: &str) {
    let (reason, message) = world.words("Ready");
    assert_eq!((world.condition("Ready"), reason.as_str()), (Some("False"), "RolledBack"), "{message}");
    assert_eq!((world.condition("Stalled"), world.condition("Reconciling")), (Some("True"), Some("False")));
    assert_eq!(world.condition("Available"), Some("True"));
    assert!(message.contains(cause) && message.contains(&format!("revision {old} runs again")), "{message}");
    for (kind, component) in
        [("Deployment", "ai-service"), ("Deployment", "worker"), ("StatefulSet", "beat"), ("Deployment", "dashboard")]
    {
        assert_eq!(world.revision(kind, component), Some(old), "{component}");
    }
    let status = status(world);
    assert_eq!(status.current_revision.as_deref(), Some(old));
    assert_eq!(status.failed_revision, status.update_revision);
    assert!(status.rollout.is_none());
    let failure = status.failure.expect("a failure");
    assert_eq!(failure.outcome, FailureOutcome::RolledBack);
    let entry = status.history.iter().find(|entry| entry.revision == failure.revision).expect("an entry");
    assert_eq!(entry.result, Some(RevisionResult::RolledBack));
}

#[test]
fn three_restarts_put_the_revision_before_back() {
    let mut world = hanging();
    let (old, new) = (current(&world), target(&world));
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 2));
    world.settle();
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()), "two are not enough");
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    assert_eq!(world.revision("Deployment", "ai-service"), Some(old.as_str()), "at once");
    assert_eq!(world.words("Ready").0, "RollingBack");
    go_on(&mut world, &[]);
    is_rolled_back(&world, &old, "CrashLoop");
    // GitOps applies the same spec again, and nothing is tried again.
    let writes = world.writes.len();
    world.stack.metadata.generation = world.stack.metadata.generation.map(|it| it + 1);
    go_on(&mut world, &[]);
    assert_eq!(world.writes.len(), writes + 1, "the observed generation only");
    is_rolled_back(&world, &old, "CrashLoop");
}

#[test]
fn the_sidecar_is_no_part_of_a_revision() {
    let mut world = hanging();
    let new = target(&world);
    pod(&mut world, "ai-service", &new, &crashing("agent", 9));
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(status(&world).failure, None);
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()));
}

#[test]
fn an_image_that_can_not_be_pulled_for_a_minute_is_a_failure() {
    let mut world = hanging();
    let (old, new) = (current(&world), target(&world));
    let pulling = json!({"name": "ai-service", "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "ErrImagePull: not found"}}});
    pod(&mut world, "ai-service", &new, &pulling);
    world.settle();
    assert_eq!((world.words("Ready").0.as_str(), status(&world).failure), ("ImagePullFailed", None));
    world.now += SignedDuration::from_secs(61);
    go_on(&mut world, &[]);
    is_rolled_back(&world, &old, "ImagePullFailed");
}

#[test]
fn a_plan_whose_image_can_not_be_pulled_is_a_failure_too() {
    let mut world = installed();
    let old = current(&world);
    image(&mut world, "9.9.9");
    world.settle();
    let new = target(&world);
    let job = key("Job", &format!("odoo-ai-plan-{new}-1"));
    let mut waiting = sim::job_pod(&job, &world.objects[&job], "");
    waiting["status"] = json!({"phase": "Pending", "containerStatuses": [{
        "name": "plan", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "ErrImagePull: not found"}},
    }]});
    world.objects.insert(key("Pod", "plan-x"), waiting);
    world.settle();
    assert_eq!((world.words("Ready").0.as_str(), status(&world).failure), ("ImagePullFailed", None));
    world.now += SignedDuration::from_secs(61);
    world.settle();
    is_rolled_back(&world, &old, "step 5 of 15 (Plan): ImagePullFailed");
    assert!(!world.objects.contains_key(&job), "nobody waits for its Job any more");
}

#[test]
fn a_step_has_its_time_and_a_finished_one_is_never_late() {
    let mut world = hanging();
    let (old, new) = (current(&world), target(&world));
    world.now += SignedDuration::from_secs(590);
    world.settle();
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()));
    // The operator was away for long; meanwhile the pods became ready.
    let mut healthy = world.clone();
    healthy.now += SignedDuration::from_hours(5);
    healthy.becomes_ready(&key("Deployment", "odoo-ai-ai-service"));
    go_on(&mut healthy, &[]);
    assert_eq!((healthy.condition("Ready"), current(&healthy)), (Some("True"), new.clone()));

    // Not often enough for a crash loop yet.
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 1));
    world.now += SignedDuration::from_secs(20);
    go_on(&mut world, &[]);
    is_rolled_back(&world, &old, "ProgressDeadlineExceeded");
    let message = world.words("Ready").1;
    let parts = ["not done within 600 s", "pod ai-service-x, container ai-service ended with exit code"];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
}

#[test]
fn a_failed_migration_moves_nothing() {
    let mut world = installed();
    let old = current(&world);
    world.report =
        r#"{"version":1,"result":"Refused","reason":"MigrationFailed","message":"no such table"}"#.to_owned();
    image(&mut world, "2.0.0");
    let before = world.objects[&key("Deployment", "odoo-ai-ai-service")]["metadata"]["generation"].clone();
    go_on(&mut world, &[]);
    is_rolled_back(&world, &old, "step 8 of 15 (Migration): MigrationFailed: no such table");
    assert_eq!(world.objects[&key("Deployment", "odoo-ai-ai-service")]["metadata"]["generation"], before);
}

#[test]
fn the_history_says_which_images_are_still_there() {
    let mut world = installed();
    let of = |world: &World| status(world).history[0].images.iter().map(|it| it.on_node).collect::<Vec<_>>();
    assert_eq!(of(&world), [None, None], "nobody knows");
    let image = &world.stack.spec.images.ai_service;
    let node = json!({"status": {"images": [{"names": [format!("docker.io/{image}")], "sizeBytes": 1}]}});
    world.node_images = Arc::new(Images::of([&serde_json::from_value(node).expect("a node")]));
    world.settle();
    assert_eq!(of(&world), [Some(true), Some(false)]);
    let writes = world.writes.len();
    world.settle();
    assert_eq!(world.writes.len(), writes);
}

#[test]
fn a_first_install_keeps_trying() {
    let mut world = World::new();
    for _ in 0..6 {
        world.settle();
        let names: Vec<_> = world.objects.keys().filter(|key| !key.name.ends_with("ai-service")).cloned().collect();
        for key in &names {
            world.becomes_ready(key);
        }
    }
    let new = target(&world);
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 7));
    world.now += SignedDuration::from_hours(1);
    world.settle();
    assert_eq!((world.condition("Reconciling"), world.words("Ready").0.as_str()), (Some("True"), "CrashLoop"));
    assert_eq!(status(&world).failure, None);
}

/// The revision failed and the one before runs again.
fn rolled_back() -> World {
    let mut world = hanging();
    let new = target(&world);
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    world.objects.remove(&key("Pod", "ai-service-x"));
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "RolledBack");
    world
}

#[test]
fn another_spec_or_a_retry_goes_forward_again() {
    let mut world = rolled_back();
    let (old, new) = (current(&world), target(&world));
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Warning));
    go_on(&mut world, &[]);
    assert_eq!((world.condition("Ready"), status(&world).failure), (Some("True"), None));

    let mut world = rolled_back();
    annotate(&mut world, annotations::RETRY_REQUESTED_AT, "1");
    go_on(&mut world, &[]);
    assert_eq!((world.condition("Ready"), current(&world)), (Some("True"), new.clone()));
    assert_eq!(status(&world).failed_revision, None);

    // Back to what runs: nothing is left of the failure, and the failed one may come again.
    let mut world = rolled_back();
    world.edit(|stack| stack.spec.log_level = None);
    go_on(&mut world, &[]);
    assert_eq!((world.condition("Ready"), current(&world), status(&world).failure), (Some("True"), old, None));
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    go_on(&mut world, &[]);
    assert_eq!((world.condition("Ready"), current(&world)), (Some("True"), new));
}

#[test]
fn a_retry_is_counted_once_and_needs_no_approval() {
    let mut world = rolled_back();
    world.edit(|stack| stack.spec.rollout.approval = Some(Mode::Manual));
    annotate(&mut world, annotations::RETRY_REQUESTED_AT, "1");
    for _ in 0..4 {
        world.settle();
    }
    let new = target(&world);
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()), "{:?}", world.words("Ready"));
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    world.objects.remove(&key("Pod", "ai-service-x"));
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "RolledBack", "the token was used");
}

#[test]
fn where_the_way_back_fails_too_what_serves_is_kept() {
    let mut world = hanging();
    let (old, new) = (current(&world), target(&world));
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    pod(&mut world, "ai-service", &old, &crashing("ai-service", 3));
    go_on(&mut world, &["odoo-ai-ai-service"]);
    let (reason, message) = world.words("Stalled");
    assert_eq!(reason, "RollbackFailed", "{message}");
    assert!(
        message.contains(&format!("revision {new} failed")) && message.contains(&format!("revision {old} failed too"))
    );
    let writes = world.writes.len();
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(world.writes.len(), writes, "no ping-pong");
}

#[test]
fn under_the_mode_manual_a_failure_is_left_and_reported() {
    let mut world = hanging();
    world.edit(|stack| stack.spec.rollout.rollback = Some(Mode::Manual));
    let (old, new) = (current(&world), target(&world));
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    world.settle();
    world.settle();
    assert_eq!(world.words("Stalled").0, "RolloutFailed");
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()));
    assert_eq!(world.revision("Deployment", "worker"), Some(old.as_str()));
    // A person asks for the way back.
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "now");
    world.objects.remove(&key("Pod", "ai-service-x"));
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "RolledBack");
    assert_eq!(world.revision("Deployment", "ai-service"), Some(old.as_str()));
}

#[test]
fn a_person_may_go_back_to_any_revision_that_ran() {
    let mut world = installed();
    let first = current(&world);
    for level in [LogLevel::Debug, LogLevel::Warning] {
        world.edit(|stack| stack.spec.log_level = Some(level));
        go_on(&mut world, &[]);
    }
    assert_ne!(current(&world), first);
    world.edit(|stack| stack.spec.rollout.approval = Some(Mode::Manual));
    annotate(&mut world, annotations::ROLLBACK_TO, &first);
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "now");
    go_on(&mut world, &[]);
    let (reason, message) = world.words("Ready");
    assert_eq!((reason.as_str(), current(&world)), ("RolledBack", first.clone()), "{message}");
    assert!(message.contains(&format!("was taken back: the annotations asked for revision {first}")), "{message}");
    // An unknown one changes nothing.
    annotate(&mut world, annotations::ROLLBACK_TO, "0123456789");
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "later");
    go_on(&mut world, &[]);
    assert_eq!(current(&world), first);
    let refused = |world: &World| status(world).last_handled.and_then(|handled| handled.rollback_refused);
    let why = refused(&world).expect("it says why");
    assert!(why.contains("0123456789 is not in status.history") && why.contains(&first), "{why}");
    let wanted = target(&world);
    annotate(&mut world, annotations::ROLLBACK_TO, &wanted);
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, &"later still ".repeat(99));
    go_on(&mut world, &[]);
    assert!(refused(&world).is_some_and(|why| why.contains("is the one that the spec asks for")));
    let token = status(&world).last_handled.and_then(|handled| handled.rollback_requested_at);
    assert_eq!(token.map(|token| token.len()), Some(253));
    annotate(&mut world, annotations::ROLLBACK_TO, &first);
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "once more");
    go_on(&mut world, &[]);
    assert_eq!((refused(&world), current(&world)), (None, first));
}

#[test]
fn without_a_name_a_person_goes_back_to_the_revision_before() {
    let mut world = installed();
    let first = current(&world);
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "too early");
    go_on(&mut world, &[]);
    let handled = status(&world).last_handled.expect("it was counted");
    assert_eq!(handled.rollback_refused.as_deref(), Some("no other revision has run yet"));
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    go_on(&mut world, &[]);
    assert_ne!(current(&world), first);
    annotate(&mut world, annotations::ROLLBACK_REQUESTED_AT, "now");
    go_on(&mut world, &[]);
    assert_eq!((world.words("Ready").0.as_str(), current(&world)), ("RolledBack", first));
}

#[test]
fn a_retry_does_not_count_what_ended_before_it() {
    let mut world = hanging();
    world.edit(|stack| stack.spec.rollout.rollback = Some(Mode::Manual));
    let (old, new) = (current(&world), target(&world));
    let crashed = |world: &mut World| {
        let at = world.now.to_string();
        let ended = json!({"exitCode": 3, "reason": "Error", "finishedAt": at});
        let mut container = crashing("ai-service", 3);
        container["lastState"]["terminated"] = ended;
        pod(world, "ai-service", &new, &container);
    };
    crashed(&mut world);
    world.settle();
    world.settle();
    assert_eq!(world.words("Stalled").0, "RolloutFailed");
    world.now += SignedDuration::from_secs(30);
    annotate(&mut world, annotations::RETRY_REQUESTED_AT, "1");
    world.settle();
    world.settle();
    assert_eq!(status(&world).failure, None, "the pod waits for its next start: {:?}", world.words("Ready"));
    world.now += SignedDuration::from_secs(30);
    crashed(&mut world);
    world.settle();
    assert_eq!(world.words("Stalled").0, "RolloutFailed");
    assert_eq!(world.revision("Deployment", "worker"), Some(old.as_str()));
}

/// 2.0.0 brought the schema to 003, with this verdict on it, and then it crashes; 1.0.0 knows 002.
fn migrated_and_failed(additive: bool, plan: &str) -> (World, String) {
    let mut world = World::new();
    world.report = sim::MIGRATED.replace("003", "002");
    world.run_to_the_end();
    let old = current(&world);
    world.report = sim::MIGRATED.replace("\"rulesEmpty\":true", "\"rulesEmpty\":false");
    world.plan = sim::PLANNED.replace("\"additive\":false", &format!("\"additive\":{additive}"));
    image(&mut world, "2.0.0");
    go_on(&mut world, &["odoo-ai-ai-service"]);
    let new = target(&world);
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()), "{:?}", world.words("Ready"));
    plan.clone_into(&mut world.plan);
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    (world, old)
}

#[test]
fn after_an_additive_migration_the_older_image_looks_at_its_rows_first() {
    let (mut world, old) = migrated_and_failed(true, OLDER);
    let job = world.objects.iter().find(|(key, _)| key.kind == "Job" && key.name.contains(&format!("plan-{old}")));
    let (_, job) = job.expect("a plan Job of the revision that is put back");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let image = container["image"].as_str().expect("an image");
    assert!(!image.contains("2.0.0"), "{image}");
    assert!(container["env"].to_string().contains(&format!("odoo-ai-config-{old}")), "its own copies");
    world.objects.remove(&key("Pod", "ai-service-x"));
    go_on(&mut world, &[]);
    is_rolled_back(&world, &old, "CrashLoop");
    let writes = world.writes.len();
    go_on(&mut world, &[]);
    assert_eq!(&world.writes[writes..], Vec::<String>::new(), "it rests");
    let plans = world.objects.keys().filter(|key| key.kind == "Job" && key.name.contains("-plan-")).count();
    assert_eq!((plans, world.condition("Migrated")), (2, Some("True")), "{:?}", world.words("Migrated"));
}

#[rstest::rstest]
#[case::not_additive(false, "", "003 is not known to leave older images working")]
#[case::rows(true, r#","unreadable":[{"table":"t","column":"c","label":"L","rows":2}]"#, "t.c 'L' (2 rows)")]
fn a_schema_that_the_older_image_can_not_live_with_blocks_the_way_back(
    #[case] additive: bool,
    #[case] plan: &str,
    #[case] told: &str,
) {
    let plan = OLDER.replace("\"needed\":false", &format!("\"needed\":false{plan}"));
    let (mut world, old) = migrated_and_failed(additive, &plan);
    let new = target(&world);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    let (reason, message) = world.words("Stalled");
    assert_eq!(reason, "RollbackBlockedBySchema", "{message}");
    assert!(message.contains(told) && message.contains("CrashLoop"), "{message}");
    assert_eq!(world.revision("Deployment", "ai-service"), Some(new.as_str()), "what serves is kept");
    assert_eq!(world.revision("Deployment", "worker"), Some(old.as_str()));
}

#[test]
fn a_crash_before_any_write_of_a_way_back_ends_in_the_same_place() {
    let start = || {
        let mut world = installed();
        world.edit(|stack| {
            stack.spec.log_level = Some(LogLevel::Debug);
            stack.spec.images.dashboard = "dashboard:2".to_owned();
        });
        go_on(&mut world, &["odoo-ai-dashboard"]);
        let new = target(&world);
        pod(&mut world, "dashboard", &new, &crashing("dashboard", 3));
        world
    };
    let (old, new) = (current(&start()), target(&start()));
    // The new dashboard is never ready.
    let go_on = |world: &mut World| {
        for _ in 0..24 {
            let _ = world.reconcile(true);
            let bad = world.revision("Deployment", "dashboard") == Some(new.as_str());
            let names: Vec<_> = world.objects.keys().cloned().collect();
            for key in names.into_iter().filter(|key| !(bad && key.name == "odoo-ai-dashboard")) {
                world.becomes_ready(&key);
            }
        }
    };
    let begun = start().writes.len();
    let mut clean = start();
    go_on(&mut clean);
    let total = clean.writes.len();
    assert!(total >= begun + 10, "{:?}", &clean.writes[begun..]);
    for crash in begun..total {
        let mut world = start();
        world.crash_after = Some(crash);
        go_on(&mut world);
        is_rolled_back(&world, &old, "CrashLoop");
    }
}
