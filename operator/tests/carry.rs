//! What a revision doesn't change keeps its pods, and all that they refer to.

mod sim;

use std::collections::BTreeMap;

use odoo_ai_crds::common::EnvVar;
use rstest::rstest;
use serde_json::Value;
use sim::{STACK, World, key};

const WORKLOADS: [(&str, &str); 4] =
    [("Deployment", "ai-service"), ("Deployment", "worker"), ("StatefulSet", "beat"), ("Deployment", "dashboard")];

fn ready() -> World {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.revision_history_limit = Some(1));
    world.run_to_the_end();
    world
}

/// Pod templates by component: what is different in them restarts pods.
fn templates(world: &World) -> BTreeMap<&'static str, Value> {
    let template = |(kind, name)| world.objects[&key(kind, &format!("{STACK}-{name}"))]["spec"]["template"].clone();
    WORKLOADS.into_iter().map(|workload| (workload.1, template(workload))).collect()
}

/// Components whose pods a change restarts.
fn restarted(world: &mut World, change: impl FnOnce(&mut World)) -> Vec<&'static str> {
    let before = templates(world);
    let revision = world.stack.status.as_ref().and_then(|status| status.current_revision.clone());
    change(world);
    world.run_to_the_end();
    let status = world.stack.status.clone().expect("a status");
    assert_ne!(status.current_revision, revision, "it is no other revision");
    let all = status.components.iter().filter_map(|part| part.revision.as_ref());
    assert!(all.eq(vec![status.current_revision.as_ref().expect("one"); 4]), "{:?}", status.components);
    assert!(refer_to_nothing_that_is_gone(world));
    let now = templates(world);
    before.into_iter().filter(|(name, template)| now[name] != *template).map(|(name, _)| name).collect()
}

fn refer_to_nothing_that_is_gone(world: &World) -> bool {
    let stored = world.objects.iter().filter(|(key, _)| key.kind == "ControllerRevision");
    let text: String = stored.map(|(_, object)| object.to_string()).collect();
    let copies = text.split('"').filter(|word| word.starts_with(&format!("{STACK}-config-")));
    copies.into_iter().all(|copy| world.objects.contains_key(&key("Secret", copy)))
}

fn variable(name: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some("x".to_owned()), value_from: None }
}

#[rstest]
#[case::dashboard_image(|world: &mut World| world.edit(|it| it.spec.images.dashboard = "d:2".to_owned()), &["dashboard"])]
#[case::of_worker(|world: &mut World| world.edit(|it| it.spec.worker.pod.env = vec![variable("A")]), &["worker"])]
#[case::shared(|world: &mut World| world.edit(|it| it.spec.env = vec![variable("A")]), &["ai-service", "beat", "worker"])]
#[case::secret(|world: &mut World| world.edit_secret("anthropic", "apiKey", "other"), &["ai-service", "beat", "worker"])]
#[case::upgraded(|world: &mut World| {
    world.operator.image = "operator:next".to_owned();
    world.settle();
    world.edit(|it| it.spec.images.dashboard = "d:2".to_owned());
}, &["ai-service", "beat", "dashboard", "worker"])]
fn only_what_a_revision_changes_restarts(#[case] change: fn(&mut World), #[case] expected: &[&str]) {
    assert_eq!(restarted(&mut ready(), change), expected);
}

#[test]
fn what_is_carried_on_for_long_keeps_its_copies() {
    let mut world = ready();
    let worker = templates(&world)["worker"].clone();
    for number in 2..6 {
        let image = format!("d:{number}");
        assert_eq!(restarted(&mut world, |world| world.edit(|it| it.spec.images.dashboard = image)), ["dashboard"]);
    }
    assert_eq!(templates(&world)["worker"], worker);
    let copies = || world.objects.keys().filter(|key| key.kind == "Secret" && key.name.contains("-config-")).count();
    assert_eq!(copies(), 2, "that of the first revision, and that of the current one");
    assert_eq!(restarted(&mut world, |world| world.edit_secret("anthropic", "apiKey", "other")).len(), 3);
}

#[test]
fn a_rollback_restarts_only_what_had_moved() {
    let mut world = ready();
    let before = templates(&world);
    world.edit(|it| it.spec.worker.pod.env = vec![variable("A")]);
    for _ in 0..8 {
        let _ = world.reconcile(false);
        world.becomes_ready(&key("Deployment", &format!("{STACK}-ai-service")));
    }
    let moved = templates(&world);
    assert!(moved["worker"] != before["worker"] && moved["dashboard"] == before["dashboard"]);
    world.edit(|it| it.spec.worker.pod.env = Vec::new());
    world.run_to_the_end();
    assert_eq!(templates(&world), before);
}

#[test]
fn values_that_can_not_be_compared_are_taken_to_differ() {
    let mut world = ready();
    for (key, object) in &mut world.objects {
        if key.kind == "ControllerRevision" {
            object["data"].as_object_mut().expect("data").remove("digests");
        }
    }
    let all = restarted(&mut world, |world| world.edit(|it| it.spec.images.dashboard = "d:2".to_owned()));
    assert_eq!(all, ["ai-service", "beat", "dashboard", "worker"]);
}
