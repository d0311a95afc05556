//! The user's own tests of a revision: when they run, and what their end means.

mod sim;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::stack::{Check, FailureOutcome, LogLevel, Step};
use serde_json::{Value, json};
use sim::revisions::{annotate, current, go_on, status, target};
use sim::{World, key};

fn check(name: &str, image: &str) -> Check {
    serde_json::from_value(json!({
        "name": name, "image": image, "command": ["run", "$(ODOOAI_API_URL)/docs"],
        "env": [{"name": "PRICE", "value": "5$(X)"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "app", "key": "AI_SECRET_KEY"}}}],
        "timeoutSeconds": 60,
    }))
    .expect("a check")
}

/// A settled stack whose next revision has these checks.
fn changed(checks: Vec<Check>) -> World {
    let mut world = World::new();
    world.run_to_the_end();
    world.edit(|stack| {
        stack.spec.rollout.checks = checks;
        stack.spec.log_level = Some(LogLevel::Debug);
    });
    world
}

fn jobs(world: &World) -> Vec<String> {
    let names = world.objects.keys().filter(|key| key.kind == "Job" && key.name.contains("-check-"));
    names.map(|key| key.name.clone()).collect()
}

fn job(world: &World, name: &str) -> Value {
    world.objects[&key("Job", name)].clone()
}

fn step(world: &World) -> Option<Step> {
    status(world).rollout.and_then(|rollout| rollout.step)
}

/// Until a check's Job runs that doesn't end.
fn at_a_check(mut world: World) -> (World, String) {
    go_on(&mut world, &[]);
    assert_eq!(step(&world), Some(Step::Checks), "{:?}", world.words("Ready"));
    let name = jobs(&world).pop().expect("a Job");
    (world, name)
}

#[test]
fn checks_run_one_after_the_other_before_the_watch_and_only_once() {
    let mut world = changed(vec![check("smoke", "smoke:1"), check("e2e", "slow:1")]);
    go_on(&mut world, &[]);
    let rollout = status(&world).rollout.expect("a rollout");
    assert_eq!(rollout.step, Some(Step::Checks));
    let passed: Vec<_> = rollout.checks.iter().map(|it| (it.name.as_str(), it.message.as_str())).collect();
    assert_eq!(passed, [("smoke", "12 pages are well")]);
    assert_eq!(world.revision("Deployment", "dashboard"), Some(target(&world).as_str()));
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "Checking");
    assert!(message.contains("check e2e (2 of 2)") && message.contains("60 s at most"), "{message}");
    assert_eq!(jobs(&world).len(), 2);
    assert_ne!(current(&world), target(&world));

    let slow = jobs(&world).into_iter().find(|name| job(&world, name)["status"].is_null()).expect("it runs");
    world.objects.get_mut(&key("Job", &slow)).expect("it")["status"] =
        json!({"conditions": [{"type": "Complete", "status": "True"}]});
    world.run_to_the_end();
    assert_eq!(current(&world), target(&world));
    let writes = world.writes.len();
    world.edit(|stack| stack.spec.rollout.checks.push(check("third", "smoke:2")));
    world.run_to_the_end();
    assert_eq!(jobs(&world).len(), 2, "what runs isn't checked again");
    let more: Vec<_> = world.writes.drain(writes..).filter(|it| it != "Status").collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn a_failed_check_takes_the_revision_back_and_says_what_it_wrote() {
    let mut world = changed(vec![check("e2e", "bad:1"), check("never", "smoke:1")]);
    let before = current(&world);
    go_on(&mut world, &[]);
    let failure = status(&world).failure.expect("a failure");
    assert_eq!((failure.step, failure.reason.as_str()), (Some(Step::Checks), "CheckFailed"));
    for part in
        ["check e2e (1 of 2) failed", "exit code 1: the login page answered 502", "kubectl logs job/odoo-ai-check-"]
    {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    go_on(&mut world, &[]);
    assert_eq!(status(&world).failure.expect("it").outcome, FailureOutcome::RolledBack);
    assert_eq!(world.revision("Deployment", "ai-service"), Some(before.as_str()));
    assert_eq!(jobs(&world).len(), 1, "no other check was run, and none on the way back");

    annotate(&mut world, annotations::RETRY_REQUESTED_AT, "again");
    go_on(&mut world, &[]);
    assert_eq!(jobs(&world).len(), 2, "a retry checks again");
}

#[test]
fn a_first_install_goes_on_trying() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.checks = vec![check("smoke", "bad:1")]);
    go_on(&mut world, &[]);
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "CheckFailed", "{:?} {:?}", world.words("Ready"), jobs(&world));
    assert!(world.words("Ready").1.contains("is run again soon"), "{:?}", world.words("Ready"));
    assert_eq!(world.condition("Stalled"), Some("False"));
    assert!(status(&world).failure.is_none());
    assert_eq!(jobs(&world).len(), 1);
    world.now += SignedDuration::from_secs(60);
    let _ = world.reconcile(false);
    assert_eq!(jobs(&world).len(), 2, "a second one comes after the pause");
}

#[test]
fn a_check_that_is_changed_or_not_wanted_any_more_is_ended() {
    let (mut world, slow) = at_a_check(changed(vec![check("e2e", "slow:1")]));
    world.edit(|stack| stack.spec.rollout.checks[0].timeout_seconds = Some(90));
    world.settle();
    let now = jobs(&world);
    assert!(now.len() == 1 && now[0] != slow, "{slow} and {now:?}");
    assert_eq!(job(&world, &now[0])["spec"]["activeDeadlineSeconds"], json!(90));
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Error));
    world.settle();
    assert!(jobs(&world).is_empty(), "another revision comes in: {:?}", jobs(&world));
}

#[test]
fn what_failed_while_the_database_was_away_is_run_again() {
    let (mut world, slow) = at_a_check(changed(vec![check("e2e", "slow:1")]));
    let database = key("StatefulSet", "odoo-ai-postgresql");
    let ready = world.objects[&database]["status"].clone();
    world.objects.get_mut(&database).expect("it")["status"] = json!({"observedGeneration": 1, "replicas": 1});
    let _ = world.reconcile(false);
    assert!(status(&world).rollout.expect("it").last_interrupted_at.is_some(), "{:?}", world.words("Ready"));
    world.objects.get_mut(&key("Job", &slow)).expect("it")["status"] =
        json!({"conditions": [{"type": "Failed", "status": "True"}]});
    let _ = world.reconcile(false);
    assert!(status(&world).failure.is_none(), "{:?}", status(&world).failure);
    world.objects.get_mut(&database).expect("it")["status"] = ready;
    world.settle();
    assert!(status(&world).failure.is_none(), "{:?}", status(&world).failure);
    assert_eq!(jobs(&world).len(), 2);
    let again = jobs(&world).into_iter().find(|name| *name != slow).expect("another");
    world.now += SignedDuration::from_secs(5);
    world.objects.get_mut(&key("Job", &again)).expect("it")["status"] =
        json!({"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]});
    let _ = world.reconcile(false);
    let failure = status(&world).failure.expect("nothing excuses the second");
    assert!(failure.message.contains("longer than its timeoutSeconds (60)"), "{}", failure.message);
}

#[test]
fn the_pod_of_a_check_may_do_nothing_but_ask() {
    let (world, name) = at_a_check(changed(vec![check("e2e", "slow:1")]));
    let job = job(&world, &name);
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
    assert_eq!(pod["securityContext"]["runAsUser"], json!(65_534));
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], json!(true));
    assert_eq!(container["volumeMounts"], json!([{"name": "tmp", "mountPath": "/tmp"}]));
    assert_eq!(container["command"], json!(["run", "$(ODOOAI_API_URL)/docs"]));
    let env = container["env"].as_array().expect("variables");
    let of = |name: &str| env.iter().find(|it| it["name"] == name).expect("it is set").clone();
    assert_eq!(of("ODOOAI_API_URL")["value"], json!("http://odoo-ai-ai-service.odoo-ai.svc:8000"));
    assert_eq!(of("ODOOAI_DASHBOARD_URL")["value"], json!("http://odoo-ai-dashboard.odoo-ai.svc:3000"));
    assert_eq!(of("ODOOAI_REVISION")["value"], json!(target(&world)));
    assert_eq!(of("HOME")["value"], json!("/tmp"));
    assert_eq!(of("PRICE")["value"], json!("5$$(X)"), "a value is taken as it is");
    assert_eq!(of("KEY")["valueFrom"]["secretKeyRef"], json!({"name": "app", "key": "AI_SECRET_KEY"}));
    for server in ["postgresql", "redis"] {
        let policy = &world.objects[&key("NetworkPolicy", &format!("odoo-ai-{server}"))];
        let peers = policy["spec"]["ingress"][0]["from"].as_array().expect("peers");
        let jobs = peers.last().expect("the Jobs")["podSelector"]["matchExpressions"].to_string();
        assert!(jobs.contains(r#"["check"]"#) && jobs.contains("NotIn"), "{jobs}");
    }
}
