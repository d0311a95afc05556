//! What the watch counts against a revision, and what it does not: all that stumbles around it.

mod sim;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::stack::RolloutStatus;
use odoo_ai_operator::stack::agents::Agents;
use serde_json::json;
use sim::revisions::{annotate, crashing, current, go_on, hanging, pod, status, target, watched};
use sim::{World, key};

fn rollout(world: &World) -> RolloutStatus {
    status(world).rollout.expect("a rollout")
}

/// Ready again before anybody looked: the watch begins anew, and three in a row are a failure.
#[test]
fn a_restart_between_two_samples_is_a_bad_one() {
    let mut world = watched();
    let _ = world.reconcile(true);
    let target = target(&world);
    let restart = |world: &mut World, restarts: i32| {
        let at = world.now.to_string();
        let ended = json!({"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": at}});
        let container =
            json!({"name": "worker", "restartCount": restarts, "state": {"running": {}}, "lastState": ended});
        pod(world, "worker", &target, &container);
        let pod = world.objects.get_mut(&key("Pod", "worker-x")).expect("it");
        pod["status"]["containerStatuses"][0]["ready"] = json!(true);
    };
    restart(&mut world, 1);
    let _ = world.reconcile(true);
    let rollout = status(&world).rollout.expect("a rollout");
    assert_eq!((rollout.failed_samples, rollout.samples), (1, 0));
    let _ = world.reconcile(true);
    let _ = world.reconcile(true);
    let rollout = status(&world).rollout.expect("a rollout");
    assert_eq!(rollout.failed_samples, 0, "one restart is no failure");
    for restarts in 2..5 {
        restart(&mut world, restarts);
        let _ = world.reconcile(true);
    }
    let _ = world.reconcile(true);
    let failure = status(&world).failure.expect("a failure");
    assert_eq!(failure.reason, "HealthCheckFailed");
    assert!(failure.message.contains("container worker of pod worker-x ended"), "{}", failure.message);
}

#[test]
fn bad_samples_in_a_row_end_the_watch() {
    let mut world = watched();
    let (old, new) = (current(&world), target(&world));
    let worker = key("Deployment", "odoo-ai-worker");
    let ready = world.objects[&worker]["status"].clone();
    let away = json!({"observedGeneration": ready["observedGeneration"], "replicas": 1, "updatedReplicas": 1});
    world.objects.get_mut(&worker).expect("it exists")["status"] = away.clone();
    let _ = world.reconcile(true);
    let _ = world.reconcile(true);
    assert_eq!(status(&world).rollout.expect("a rollout").failed_samples, 2);
    // A good one between them, and it counts anew; so does the watch.
    world.objects.get_mut(&worker).expect("it exists")["status"] = ready;
    let _ = world.reconcile(true);
    let rollout = status(&world).rollout.expect("a rollout");
    assert_eq!((rollout.failed_samples, rollout.samples), (0, 1));
    world.objects.get_mut(&worker).expect("it exists")["status"] = away;
    for _ in 0..3 {
        assert_eq!(world.revision("Deployment", "worker"), Some(new.as_str()));
        let _ = world.reconcile(true);
    }
    go_on(&mut world, &[]);
    assert_eq!(world.revision("Deployment", "worker"), Some(old.as_str()));
    let message = world.words("Ready").1;
    assert!(message.contains("(Watch): HealthCheckFailed: 3 samples of the watch in a row were bad"), "{message}");
}

#[test]
fn samples_are_not_bad_while_the_agents_reach_no_database() {
    let mut world = watched();
    let new = target(&world);
    let api = key("Deployment", "odoo-ai-ai-service");
    let ready = world.objects[&api]["status"].clone();
    world.objects.get_mut(&api).expect("it exists")["status"] =
        json!({"observedGeneration": ready["observedGeneration"], "replicas": 1, "updatedReplicas": 1});
    let facts = odoo_ai_operator::stack::facts::Facts { database_lost: true, ..Default::default() };
    world.agents = Agents::new([("ai-service-old".to_owned(), facts)].into());
    for _ in 0..9 {
        let _ = world.reconcile(true);
    }
    // DNS is back, the pod not yet: it has the time of a step.
    world.agents = Agents::default();
    for _ in 0..9 {
        let _ = world.reconcile(true);
    }
    assert_eq!(rollout(&world).failed_samples, 0);
    assert_eq!((status(&world).failure, world.revision("Deployment", "ai-service")), (None, Some(new.as_str())));
    assert_eq!(rollout(&world).interruptions, 1);
    world.now += SignedDuration::from_mins(10);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(status(&world).failure.map(|it| it.reason).as_deref(), Some("HealthCheckFailed"));
}

#[test]
fn nobody_says_of_a_revision_that_is_interrupted_again_and_again_that_it_is_well() {
    let mut world = watched();
    let new = target(&world);
    for round in 1..=6 {
        assert_eq!(world.words("Ready").0, "Watching", "{:?}", world.words("Ready"));
        // The operator was away, with its node or without.
        world.now += SignedDuration::from_mins(3);
        let _ = world.reconcile(true);
        assert_eq!(rollout(&world).interruptions, round);
        let _ = world.reconcile(true);
    }
    let (reason, message) = world.words("Ready");
    assert_eq!((world.condition("Ready"), reason.as_str()), (Some("Unknown"), "WatchInconclusive"), "{message}");
    assert!(message.contains("6 times") && message.contains("retry-requested-at"), "{message}");
    assert_eq!([world.condition("Reconciling"), world.condition("Stalled")], [Some("False"); 2]);
    world.settle();
    assert_eq!((status(&world).failure, world.revision("Deployment", "ai-service")), (None, Some(new.as_str())));
    annotate(&mut world, "odoo-ai.atmatasolutions.com/retry-requested-at", "now");
    let _ = world.reconcile(true);
    assert_eq!(world.words("Ready").0, "Watching");
    world.edit(|stack| stack.spec.rollout.health_check.duration_seconds = Some(10));
    world.run_to_the_end();
    assert_eq!(current(&world), new);
}

#[test]
fn a_sidecar_that_restarts_is_no_bad_sample() {
    let mut world = watched();
    let (new, api) = (target(&world), key("Deployment", "odoo-ai-ai-service"));
    let container = |name: &str, ready: bool, restarts: i32| json!({"name": name, "ready": ready, "restartCount": restarts, "image": "i", "imageID": "j"});
    pod(&mut world, "ai-service", &new, &container("ai-service", true, 0));
    let name = key("Pod", "ai-service-x");
    let mut agent = container("agent", false, 0);
    agent["state"] = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    let status_of_pod = &mut world.objects.get_mut(&name).expect("it exists")["status"];
    *status_of_pod = json!({
        "phase": "Running",
        "initContainerStatuses": [agent],
        "containerStatuses": [container("ai-service", true, 0)],
    });
    world.objects.get_mut(&api).expect("it exists")["status"]["availableReplicas"] = json!(0);
    for _ in 0..9 {
        let _ = world.reconcile(true);
    }
    assert_eq!((status(&world).failure, rollout(&world).failed_samples), (None, 0), "{:?}", world.words("Ready"));
    world.objects.remove(&name);
    go_on(&mut world, &[]);
    world.edit(|stack| stack.spec.rollout.health_check.duration_seconds = Some(10));
    world.run_to_the_end();
    assert_eq!(current(&world), new);
}

#[test]
fn an_operator_that_comes_late_gives_a_step_a_moment() {
    let mut world = hanging();
    world.now += SignedDuration::from_hours(1);
    world.leading_since = world.now;
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(status(&world).failure, None, "the node with all of it may just have come back");
    world.now += SignedDuration::from_mins(2);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(status(&world).failure.map(|it| it.reason).as_deref(), Some("ProgressDeadlineExceeded"));
}

#[test]
fn a_database_that_restarts_in_the_watch_is_no_failure() {
    let mut world = watched();
    let new = target(&world);
    let database = key("StatefulSet", "odoo-ai-postgresql");
    let ready = world.objects[&database]["status"].clone();
    for gone in [&database, &key("Deployment", "odoo-ai-ai-service")] {
        let generation = world.objects[gone]["status"]["observedGeneration"].clone();
        world.objects.get_mut(gone).expect("it exists")["status"] =
            json!({"observedGeneration": generation, "replicas": 1});
    }
    world.now += SignedDuration::from_hours(1);
    for _ in 0..9 {
        let _ = world.reconcile(true);
    }
    assert_eq!((status(&world).failure, world.revision("Deployment", "ai-service")), (None, Some(new.as_str())));
    world.objects.get_mut(&database).expect("it exists")["status"] = ready;
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "Watching", "{:?}", world.words("Ready"));
}

#[test]
fn what_the_agents_can_not_reach_is_no_failure_of_the_revision() {
    let mut world = hanging();
    let new = target(&world);
    let facts = |lost: bool| {
        let facts = odoo_ai_operator::stack::facts::Facts { database_lost: lost, ..Default::default() };
        Agents::new([("ai-service-old".to_owned(), facts)].into())
    };
    world.agents = facts(true);
    world.now += SignedDuration::from_hours(1);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!((status(&world).failure, world.revision("Deployment", "ai-service")), (None, Some(new.as_str())));
    world.agents = facts(false);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert_eq!(status(&world).failure, None, "its time begins anew");
    world.now += SignedDuration::from_hours(1);
    go_on(&mut world, &["odoo-ai-ai-service"]);
    assert!(status(&world).failure.is_some(), "{:?}", world.words("Ready"));
}

#[test]
fn an_old_pod_that_once_went_down_with_its_node_excuses_nothing_when_it_is_told_to_end() {
    let mut world = hanging();
    let (old, new) = (current(&world), target(&world));
    let at = world.now.to_string();
    let ended = json!({"terminated": {"exitCode": 255, "reason": "Unknown", "finishedAt": at}});
    let container = json!({"name": "ai-service", "restartCount": 1, "state": {"running": {}}, "lastState": ended});
    pod(&mut world, "ai-service", &old, &container);
    let mut leaving = world.objects.remove(&key("Pod", "ai-service-x")).expect("it was made");
    leaving["metadata"]["deletionTimestamp"] = json!(at);
    world.objects.insert(key("Pod", "ai-service-old"), leaving);
    pod(&mut world, "ai-service", &new, &crashing("ai-service", 3));
    let _ = world.reconcile(false);
    assert_eq!(status(&world).failure.map(|it| it.reason).as_deref(), Some("CrashLoop"));
}

#[test]
fn suspended_time_does_not_count() {
    let mut world = hanging();
    let new = target(&world);
    world.edit(|stack| stack.spec.suspend = true);
    world.settle();
    world.now += SignedDuration::from_hours(5);
    world.edit(|stack| stack.spec.suspend = false);
    world.settle();
    assert_eq!((status(&world).failure, world.revision("Deployment", "ai-service")), (None, Some(new.as_str())));
}
