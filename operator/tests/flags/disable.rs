//! A request to disable a rule, also where the application can't be asked.

use std::sync::Arc;

use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use odoo_ai_crds::conditions::annotations;
use odoo_ai_crds::flag::{DisableRequest, DisableState, FlagState};
use odoo_ai_operator::flag::decide::Decision;
use odoo_ai_operator::flag::{disable, report};
use odoo_ai_operator::rules::Error;
use serde_json::json;

use crate::one;
use crate::world::{Fate, World};

impl World {
    /// Somebody annotates the only flag.
    fn ask(&mut self, id: &str) {
        let all = self.flags[0].object.metadata.annotations.get_or_insert_default();
        all.insert(annotations::DISABLE_REQUESTED_AT.to_owned(), id.to_owned());
    }

    fn request(&self) -> DisableRequest {
        self.flags[0].object.status.clone().expect("a status").disable_request.expect("a request")
    }

    /// A Job, and what its pod says once it has ended.
    fn job(&mut self, name: &str, end: Option<(&str, &str)>) {
        let condition = end.map(|(result, _)| if result == "Succeeded" { "Complete" } else { "Failed" });
        let conditions: Vec<_> = condition
            .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": self.now}))
            .into_iter()
            .collect();
        let job = json!({
            "metadata": {
                "name": name, "namespace": "odoo-ai", "uid": format!("uid-{name}"),
                "labels": {"app.kubernetes.io/component": "flag-disable"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "FeatureFlag", "name": "flag", "uid": self.flags[0].object.uid()}],
            },
            "status": {"conditions": conditions},
        });
        self.children.jobs.insert(name.to_owned(), Arc::new(serde_json::from_value(job).expect("a Job")));
        let Some((result, message)) = end else { return };
        let report = json!({"version": 1, "result": result, "reason": "Any", "message": message}).to_string();
        let pod = json!({
            "metadata": {
                "name": name, "labels": {"app.kubernetes.io/component": "flag-disable"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": format!("uid-{name}")}],
            },
            "status": {"containerStatuses": [{
                "name": "flag-disable", "image": "x", "imageID": "x", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "finishedAt": self.now, "message": report}},
            }]},
        });
        self.children.pods.insert(name.to_owned(), Arc::new(serde_json::from_value(pod).expect("a pod")));
    }

    fn away(&mut self) -> Decision {
        self.look_in_vain(0, Error::NoAnswer("connection refused".to_owned()))
    }
}

fn disabled() -> World {
    let mut world = one(&json!({"state": "Enabled"}));
    world.settle();
    world.change(0, |spec| spec.state = Some(FlagState::Disabled));
    world
}

#[test]
fn the_application_is_asked_where_it_answers() {
    let mut world = disabled();
    world.ask("now");
    let decision = world.look(0, Fate::Answered);
    assert!(decision.disable.is_none() && world.request().state == DisableState::Waiting);
    world.later(SignedDuration::from_secs(2));
    let decision = world.look(0, Fate::Answered);
    let request = world.request();
    assert!(decision.disable.is_none() && request.state == DisableState::Succeeded, "{request:?}");
    assert!(request.completed_at.is_some() && !world.of(0)[0].enabled);
    assert_eq!(disable::pending(&world.flags[0].object), None, "it is answered once");
}

#[test]
fn a_job_disables_it_where_the_application_is_away_and_ready_says_so() {
    let mut world = disabled();
    assert!(world.away().disable.is_none(), "nobody asked");
    world.ask("now");
    let name = world.away().disable.expect("a Job");
    assert_eq!(world.away().disable.as_ref(), Some(&name), "the same one after a crash");
    world.job(&name, None);
    assert!(world.away().disable.is_none() && world.request().state == DisableState::Running);
    world.later(SignedDuration::from_secs(3));
    world.job(&name, Some(("Succeeded", "rule 1 was disabled in the database")));
    assert!(world.away().disable.is_none());
    let answered = world.request();
    assert_eq!((answered.state, answered.completed_at.is_some()), (DisableState::Succeeded, true));
    let ready = |world: &World| {
        let status = world.flags[0].object.status.clone().expect("a status");
        status.conditions.into_iter().find(|it| it.type_ == "Ready").expect("Ready").message
    };
    assert!(ready(&world).ends_with("; meanwhile rule 1 was disabled in the database"), "{}", ready(&world));
    let told = world.told;
    world.later(SignedDuration::from_secs(300));
    world.away();
    assert_eq!((world.told, world.request()), (told, answered), "nothing is new");
    // The application is back: another outage says nothing of it.
    world.settle();
    world.later(SignedDuration::from_secs(300));
    world.away();
    assert!(!ready(&world).contains("meanwhile"), "{}", ready(&world));
}

#[test]
fn a_job_that_fails_is_tried_again_and_one_that_refuses_is_not() {
    let mut world = disabled();
    world.ask("now");
    let first = world.away().disable.expect("a Job");
    world.job(&first, Some(("Failed", "PostgreSQL is away")));
    assert!(world.away().disable.is_none());
    let request = world.request();
    assert!(request.state == DisableState::Waiting && request.message.contains("PostgreSQL is away"), "{request:?}");
    world.later(SignedDuration::from_secs(31));
    let second = world.away().disable.expect("another Job");
    assert_ne!(first, second);
    world.job(&second, Some(("Refused", "there is no such rule")));
    world.away();
    assert_eq!(world.request().state, DisableState::Refused);
    world.later(SignedDuration::from_hours(1));
    assert!(world.away().disable.is_none(), "it was answered");
    world.ask("again");
    assert!(world.away().disable.is_some(), "another request is another Job");
}

#[test]
fn what_is_declared_enabled_is_never_disabled_behind_its_back() {
    let mut world = disabled();
    world.change(0, |spec| spec.state = Some(FlagState::Enabled));
    world.ask("now");
    assert!(world.away().disable.is_none());
    let request = world.request();
    assert!(request.state == DisableState::Waiting && request.message.contains("set it to Disabled"), "{request:?}");
    world.change(0, |spec| spec.config = json!({"limit": 1}).as_object().cloned());
    let decision = world.look(0, Fate::Refused(500));
    assert!(decision.write.is_some() && !decision.or_in_the_database, "nor where a write fails");
    world.change(0, |spec| spec.state = Some(FlagState::Disabled));
    assert!(world.away().disable.is_some(), "it waited for that");
}

#[test]
fn a_write_that_fails_goes_to_the_database() {
    let mut world = disabled();
    world.ask("now");
    world.note(0);
    let flag = world.observed(0);
    let mut decision = world.look(0, Fate::Refused(500));
    assert!(decision.write.is_some() && decision.disable.is_none() && decision.or_in_the_database);
    disable::in_the_database(&flag, &mut decision);
    assert!(decision.disable.is_some());
    let status = report::status(&flag, &decision, None);
    assert_eq!(status.disable_request.expect("a request").state, DisableState::Running);
}

#[test]
fn a_rule_that_is_on_its_way_is_waited_for() {
    let mut world = World::seeded(&[]);
    let rule = json!({"name": "New", "automationType": "hr", "actionName": "plan"});
    world.declare("flag", &json!({"rule": rule}));
    world.look(0, Fate::Late);
    world.ask("now");
    for _ in 0..2 {
        let decision = world.look(0, Fate::Answered);
        assert!(decision.disable.is_none() && world.request().state == DisableState::Waiting);
        assert!(world.away().disable.is_none(), "the agent would not find it");
    }
    world.settle();
    assert_eq!(world.request().state, DisableState::Succeeded);
}

#[test]
fn a_job_that_nobody_waits_for_is_ended_before_the_rule_is_enabled() {
    let mut world = disabled();
    world.ask("now");
    let name = world.away().disable.expect("a Job");
    world.job(&name, None);
    let doomed = |world: &World, decision: &Decision| -> Vec<String> {
        let flag = world.observed(0);
        disable::obsolete(&flag, decision).into_iter().map(|it| it.key.name).collect()
    };
    let decision = world.away();
    assert_eq!(doomed(&world, &decision), [""; 0], "it is waited for");
    world.rules[0].enabled = false;
    world.change(0, |spec| spec.state = Some(FlagState::Enabled));
    for decision in [world.away(), world.look(0, Fate::Answered)] {
        assert!(decision.write.is_none(), "it could be disabled after that");
        assert_eq!(doomed(&world, &decision), [name.as_str()]);
    }
    assert!(world.says(0, "Synced").1 == "Progressing" && !world.of(0)[0].enabled);
    world.children.jobs.clear();
    assert!(world.look(0, Fate::Answered).write.is_some() && world.of(0)[0].enabled);
}

#[test]
fn a_job_of_a_request_that_was_taken_back_is_ended() {
    let mut world = disabled();
    world.ask("now");
    let name = world.away().disable.expect("a Job");
    world.job(&name, None);
    world.flags[0].object.metadata.annotations = None;
    let decision = world.away();
    assert_eq!(disable::obsolete(&world.observed(0), &decision).len(), 1);
    world.flags[0].object.metadata.uid = Some("of another with the name".to_owned());
    assert_eq!(disable::obsolete(&world.observed(0), &decision).len(), 0, "not what isn't its own");
}

#[test]
fn a_token_that_comes_back_is_another_request() {
    let mut world = disabled();
    let mut names = vec![];
    for token in ["a", "b", "a"] {
        world.ask(token);
        let name = world.away().disable.expect("a Job, not the answer of another");
        world.job(&name, Some(("Succeeded", "rule 1 was disabled in the database")));
        world.away();
        assert_eq!((world.request().id.as_str(), world.request().state), (token, DisableState::Succeeded));
        names.push(name);
        world.later(SignedDuration::from_mins(1));
    }
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[test]
fn a_rule_that_is_held_back_was_not_asked_for() {
    let mut world = disabled();
    world.ask("now");
    let name = world.away().disable.expect("a Job");
    world.job(&name, None);
    world.rules.clear();
    world.change(0, |spec| spec.state = Some(FlagState::Enabled));
    let decision = world.look(0, Fate::Answered);
    assert!(decision.write.is_none() && decision.status.creation_requested_at.is_none(), "nobody asked for it");
    world.children.jobs.clear();
    assert!(world.look(0, Fate::Answered).write.is_some(), "it is added at once");
    assert!(world.of(0)[0].enabled);
}
