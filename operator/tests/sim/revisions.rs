//! Revisions that come in, and what becomes of them.

use odoo_ai_crds::stack::LogLevel;

use super::*;

pub(crate) fn status(world: &World) -> OdooAiStackStatus {
    world.stack.status.clone().expect("a status")
}

pub(crate) fn current(world: &World) -> String {
    status(world).current_revision.expect("a current revision")
}

pub(crate) fn target(world: &World) -> String {
    status(world).update_revision.expect("an update revision")
}

pub(crate) fn installed() -> World {
    let mut world = World::new();
    world.run_to_the_end();
    world
}

pub(crate) fn image(world: &mut World, tag: &str) {
    world.edit(|stack| stack.spec.images.ai_service = format!("registry.example.com/ai-service:{tag}"));
}

/// Reconciles, with everything becoming ready but the workloads named; samples of the watch are taken.
pub(crate) fn go_on(world: &mut World, but: &[&str]) {
    for _ in 0..12 {
        let _ = world.reconcile(true);
        let names: Vec<_> = world.objects.keys().cloned().collect();
        for key in names.into_iter().filter(|key| !but.contains(&key.name.as_str())) {
            world.becomes_ready(&key);
        }
    }
}

/// A new revision whose ai-service never becomes ready.
pub(crate) fn hanging() -> World {
    let mut world = installed();
    world.edit(|stack| stack.spec.log_level = Some(LogLevel::Debug));
    for _ in 0..4 {
        world.settle();
    }
    assert_eq!(world.revision("Deployment", "ai-service"), Some(target(&world).as_str()));
    world
}

/// A pod of a revision whose container is as told.
pub(crate) fn pod(world: &mut World, component: &str, revision: &str, container: &Value) {
    let mut container = container.clone();
    container["image"] = json!("x");
    container["imageID"] = json!("");
    container["ready"] = json!(false);
    let pod = json!({
        "metadata": {
            "name": format!("{component}-x"), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/component": component, "odoo-ai.atmatasolutions.com/revision": revision},
        },
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Pending", "containerStatuses": [container]},
    });
    world.objects.insert(key("Pod", &format!("{component}-x")), pod);
}

pub(crate) fn crashing(name: &str, restarts: i32) -> Value {
    json!({
        "name": name, "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": ""}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    })
}

pub(crate) fn annotate(world: &mut World, name: &str, value: &str) {
    world.stack.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
}

/// All components run the new revision, and the watch has begun.
pub(crate) fn watched() -> World {
    let mut world = installed();
    world.edit(|stack| {
        stack.spec.log_level = Some(LogLevel::Debug);
        stack.spec.rollout.health_check.duration_seconds = Some(600);
    });
    go_on(&mut world, &[]);
    assert_eq!(world.words("Ready").0, "Watching");
    world
}
