//! The rollout in a simulated cluster: what exists when, in which order a change moves, and that a
//! crash after any write ends in the same place.

mod sim;

use sim::{World, job_pod, key};

const ORDER: [(&str, &str); 6] = [
    ("StatefulSet", "postgresql"),
    ("StatefulSet", "redis"),
    ("Deployment", "ai-service"),
    ("Deployment", "worker"),
    ("StatefulSet", "beat"),
    ("Deployment", "dashboard"),
];

/// Makes everything that exists ready but `kind suffix`, and reconciles until nothing changes.
fn hold(world: &mut World, suffix: &str) {
    for _ in 0..20 {
        let names: Vec<_> = world.objects.keys().filter(|key| !key.name.contains(suffix)).cloned().collect();
        for key in names {
            world.becomes_ready(&key);
        }
        world.settle();
    }
}

#[test]
fn a_first_install_brings_in_one_component_after_the_other() {
    for (held, later) in [
        ("postgresql", &["migrate-"][..]),
        ("redis", &["migrate-"]),
        ("migrate-", &["ai-service"]),
        ("ai-service", &["worker"]),
        ("worker", &["beat"]),
        ("beat", &["dashboard"]),
    ] {
        let mut world = World::new();
        hold(&mut world, held);
        let workloads = ["Deployment", "StatefulSet", "Job"];
        let exists = |part: &str| {
            world.objects.keys().any(|key| workloads.contains(&key.kind.as_str()) && key.name.contains(part))
        };
        assert!(exists(held), "{held} exists");
        for part in later {
            assert!(!exists(part), "{part} exists before {held} is ready");
        }
        assert_eq!(world.condition("Ready"), Some("False"));
        assert_eq!(world.condition("Reconciling"), Some("True"));
    }
}

#[test]
fn seeded_rules_are_off_before_the_worker_exists() {
    let mut world = World::new();
    hold(&mut world, "worker");
    assert_eq!((world.gate_runs, world.enabled_rules), (1, 0));
    world.run_to_the_end();
    assert_eq!(world.gate_runs, 1, "the gate runs once");
}

#[test]
fn unmanaged_rules_are_left_when_the_spec_says_so() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rules.unmanaged = Some(odoo_ai_crds::stack::UnmanagedRules::Ignore));
    world.run_to_the_end();
    assert_eq!((world.gate_runs, world.enabled_rules), (0, 45));
}

#[test]
fn a_settled_stack_is_ready_and_writes_nothing() {
    let mut world = World::new();
    world.run_to_the_end();
    for kind in ["Ready", "Available", "DatabaseReady", "RedisReady", "Migrated"] {
        assert_eq!(world.condition(kind), Some("True"), "{kind}: {:?}", world.words(kind));
    }
    for kind in ["Reconciling", "Stalled", "AwaitingApproval"] {
        assert_eq!(world.condition(kind), Some("False"), "{kind}");
    }
    let before = world.writes.len();
    for _ in 0..5 {
        world.reconcile(true).expect("no crash");
    }
    assert_eq!(world.writes.len(), before, "{:?}", &world.writes[before..]);
}

#[test]
fn a_new_revision_moves_in_order_and_old_templates_stay_until_their_turn() {
    let mut world = World::new();
    world.run_to_the_end();
    let old = world.revision("Deployment", "ai-service").expect("a revision").to_owned();
    let jobs = world.objects.keys().filter(|key| key.kind == "Job").count();
    world.edit(|stack| stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug));
    world.settle();
    assert_ne!(world.revision("Deployment", "ai-service"), Some(old.as_str()));
    for (kind, part) in [("Deployment", "worker"), ("StatefulSet", "beat"), ("Deployment", "dashboard")] {
        assert_eq!(world.revision(kind, part), Some(old.as_str()), "{part} waits for ai-service");
    }
    assert_eq!(world.condition("Available"), Some("True"), "old pods serve");
    world.run_to_the_end();
    let new = world.revision("Deployment", "ai-service").expect("a revision").to_owned();
    for (kind, part) in &ORDER[2..] {
        assert_eq!(world.revision(kind, part), Some(new.as_str()), "{part}");
    }
    let status = world.stack.status.clone().expect("a status");
    assert_eq!(status.current_revision.as_deref(), Some(new.as_str()));
    assert_eq!(status.history.len(), 2);
    assert_eq!(
        world.objects.keys().filter(|key| key.kind == "Job").count(),
        jobs,
        "a config-only revision needs no Job"
    );
}

#[test]
fn replicas_are_live_and_make_no_revision() {
    let mut world = World::new();
    world.run_to_the_end();
    let before = world.stack.status.clone().expect("a status").current_revision;
    world.edit(|stack| stack.spec.worker.replicas = Some(3));
    world.run_to_the_end();
    assert_eq!(world.stack.status.clone().expect("a status").current_revision, before);
    assert_eq!(world.objects[&key("Deployment", "odoo-ai-worker")]["spec"]["replicas"], 3);
}

#[test]
fn a_changed_key_of_a_consumed_secret_is_a_revision() {
    let mut world = World::new();
    world.run_to_the_end();
    let before = world.stack.status.clone().expect("a status").current_revision;
    world.edit_secret("anthropic", "apiKey", "another");
    world.run_to_the_end();
    assert_ne!(world.stack.status.clone().expect("a status").current_revision, before);
}

#[test]
fn an_operator_upgrade_changes_no_template() {
    let mut world = World::new();
    world.run_to_the_end();
    // A new operator would render other templates: what is stored wins.
    for (key, object) in &mut world.objects {
        if key.kind == "ControllerRevision" {
            for template in object["data"]["templates"].as_object_mut().expect("templates").values_mut() {
                template["metadata"]["labels"]["rendered-by"] = "older".into();
            }
        }
    }
    world.settle();
    for (kind, part) in ORDER {
        let object = &world.objects[&key(kind, &format!("odoo-ai-{part}"))];
        assert_eq!(object["spec"]["template"]["metadata"]["labels"]["rendered-by"], "older", "{part}");
    }
}

#[test]
fn a_missing_secret_is_waited_for_and_named() {
    let mut world = World::new();
    let secret = world.objects.remove(&key("Secret", "anthropic"));
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "SecretMissing");
    assert!(message.contains("anthropic"), "{message}");
    assert_eq!(world.condition("Stalled"), Some("False"), "it may still come");
    world.objects.insert(key("Secret", "anthropic"), secret.expect("the sample's Secret"));
    world.run_to_the_end();
}

#[test]
fn a_refused_migration_says_why_and_nothing_starts() {
    let mut world = World::new();
    hold(&mut world, "migrate-");
    let (name, job) =
        world.objects.iter().find(|(key, _)| key.kind == "Job").map(|(k, v)| (k.clone(), v.clone())).expect("a Job");
    let report = r#"{"version":1,"result":"Refused","reason":"SchemaAmbiguous","message":"table x is missing"}"#;
    let pod = job_pod(&name, &job, report);
    world.objects.insert(key("Pod", "refused"), pod);
    let object = world.objects.get_mut(&name).expect("a Job");
    object["status"] = serde_json::json!({"conditions": [{"type": "Failed", "status": "True"}]});
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "SchemaAmbiguous");
    assert!(message.contains("table x is missing"), "{message}");
    assert_eq!(world.condition("Reconciling"), Some("True"), "a first install is never Stalled");
    assert!(!world.has("Deployment", "ai-service"));
}

#[test]
fn suspend_changes_nothing() {
    let mut world = World::new();
    world.run_to_the_end();
    world.edit(|stack| {
        stack.spec.suspend = true;
        stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug);
    });
    let before = world.objects.clone();
    world.settle();
    assert_eq!(world.condition("Ready"), Some("Unknown"));
    assert!(before == world.objects);
}

#[test]
fn a_change_in_production_waits_for_an_approval() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Manual));
    world.run_to_the_end();
    let old = world.revision("Deployment", "ai-service").expect("a revision").to_owned();
    world.edit(|stack| stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug));
    world.settle();
    assert_eq!((world.condition("Ready"), world.condition("AwaitingApproval")), (Some("Unknown"), Some("True")));
    assert_eq!((world.condition("Reconciling"), world.condition("Stalled")), (Some("False"), Some("False")));
    assert_eq!(world.revision("Deployment", "ai-service"), Some(old.as_str()));
    let target = world.stack.status.clone().and_then(|status| status.update_revision).expect("a target");
    let annotations = world.stack.metadata.annotations.get_or_insert_default();
    annotations.insert("odoo-ai.atmatasolutions.com/approved-revision".to_owned(), target.clone());
    world.run_to_the_end();
    assert_eq!(world.revision("Deployment", "ai-service"), Some(target.as_str()));
    let entry = world.stack.status.clone().expect("a status").history.remove(0);
    assert_eq!((entry.revision, entry.approved_by.as_deref()), (target, Some("unverified")));
}

/// Annotates the stack like a person who has the right to.
fn annotate(world: &mut World, name: &str, value: Option<&str>) {
    let annotations = world.stack.metadata.annotations.get_or_insert_default();
    let name = format!("odoo-ai.atmatasolutions.com/{name}");
    match value {
        Some(value) => drop(annotations.insert(name, value.to_owned())),
        None => drop(annotations.remove(&name)),
    }
}

#[test]
fn an_approval_counts_once_and_says_whose_it_is() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Manual));
    world.run_to_the_end();
    let change = |world: &mut World, level| {
        world.edit(|stack| stack.spec.log_level = level);
        world.settle();
        world.stack.status.clone().and_then(|status| status.update_revision).expect("a target")
    };
    let first = change(&mut world, Some(odoo_ai_crds::stack::LogLevel::Debug));
    let (_, words) = world.words("Ready");
    assert!(words.contains(&format!("approved-revision={first}")) && words.contains("whoami"), "{words}");
    annotate(&mut world, "approved-by", Some("alice"));
    annotate(&mut world, "approved-revision", Some(&first));
    world.run_to_the_end();
    assert_eq!(world.stack.status.clone().expect("a status").history[0].approved_by.as_deref(), Some("alice"));

    let second = change(&mut world, Some(odoo_ai_crds::stack::LogLevel::Warning));
    assert_eq!(world.condition("AwaitingApproval"), Some("True"));
    annotate(&mut world, "approved-revision", Some(&second));
    world.run_to_the_end();
    // Git still has the first approval and puts it back, and somebody the old value.
    annotate(&mut world, "approved-revision", Some(&second));
    let third = change(&mut world, None);
    assert_eq!(world.condition("AwaitingApproval"), Some("True"));
    annotate(&mut world, "approved-revision", Some(&third));
    world.run_to_the_end();
    assert_eq!(change(&mut world, Some(odoo_ai_crds::stack::LogLevel::Warning)), second);
    assert_eq!(world.condition("AwaitingApproval"), Some("True"), "its approval was for another rollout");
    annotate(&mut world, "approved-revision", Some(&second));
    world.run_to_the_end();
    // The same annotation, and the revision comes once more.
    world.edit(|stack| stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Automatic));
    change(&mut world, None);
    world.run_to_the_end();
    world.edit(|stack| stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Manual));
    assert_eq!(change(&mut world, Some(odoo_ai_crds::stack::LogLevel::Warning)), second);
    assert_eq!(world.condition("AwaitingApproval"), Some("True"), "one that stays in Git does nothing twice");
    assert!(world.words("Ready").1.contains("take the annotation off first"));
    annotate(&mut world, "approved-revision", None);
    world.settle();
    annotate(&mut world, "approved-revision", Some(&second));
    world.run_to_the_end();
    assert_eq!(world.revision("Deployment", "ai-service"), Some(second.as_str()));
}

#[test]
fn another_volume_is_another_database() {
    let mut world = World::new();
    world.run_to_the_end();
    // A person deletes the volume and lets PostgreSQL begin anew.
    world.objects.remove(&key("PersistentVolumeClaim", "odoo-ai-postgresql"));
    world.enabled_rules = 45;
    world.settle();
    assert_eq!(world.condition("Ready"), Some("False"), "{:?}", world.words("Ready"));
    world.run_to_the_end();
    assert!(world.objects.contains_key(&world.newest_job()), "the schema is prepared again");
    assert_eq!((world.gate_runs, world.enabled_rules), (2, 0));
}

#[test]
fn a_recreated_stack_believes_no_result_of_its_predecessor() {
    let mut world = World::new();
    world.run_to_the_end();
    world.enabled_rules = 7; // somebody's choice
    world.recreate();
    world.report =
        sim::MIGRATED.replace("Bootstrapped", "AtHead").replace("\"rulesEmpty\":true", "\"rulesEmpty\":false");
    world.run_to_the_end();
    assert_eq!((world.gate_runs, world.enabled_rules), (1, 7));
    assert_eq!(world.objects.keys().filter(|key| key.kind == "Job").count(), 2);
}

#[test]
fn the_rules_gate_is_not_forgotten_with_the_stack() {
    let mut world = World::new();
    hold(&mut world, "ai-service");
    world.recreate();
    world.report = sim::MIGRATED.replace("\"rulesEmpty\":true", "\"rulesEmpty\":false");
    world.run_to_the_end();
    assert_eq!((world.gate_runs, world.enabled_rules), (1, 0));
}

#[test]
fn what_runs_is_put_back_while_a_new_revision_waits() {
    let mut world = World::new();
    world.edit(|stack| stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Manual));
    world.run_to_the_end();
    let old = world.revision("Deployment", "ai-service").expect("a revision").to_owned();
    world.edit(|stack| stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug));
    world.settle();
    world.objects.remove(&key("Deployment", "odoo-ai-ai-service"));
    world.settle();
    assert_eq!(world.revision("Deployment", "ai-service"), Some(old.as_str()));
}

#[test]
fn a_missing_secret_freezes_only_the_revision() {
    let mut world = World::new();
    world.run_to_the_end();
    world.objects.remove(&key("Secret", "anthropic"));
    world.objects.remove(&key("StatefulSet", "odoo-ai-redis"));
    world.edit(|stack| stack.spec.worker.replicas = Some(0));
    world.settle();
    assert_eq!(world.words("Ready").0, "SecretMissing");
    assert_eq!(world.objects[&key("Deployment", "odoo-ai-worker")]["spec"]["replicas"], 0);
    assert!(world.has("StatefulSet", "redis"));
}

#[test]
fn ready_is_not_claimed_for_a_server_that_is_about_to_change() {
    let mut world = World::new();
    world.run_to_the_end();
    world.edit(|stack| stack.spec.redis.managed.max_memory_mib = Some(512));
    let _ = world.reconcile(true);
    assert_eq!(world.condition("Ready"), Some("False"), "{:?}", world.words("Ready"));
    world.run_to_the_end();
}

#[test]
fn many_revisions_leave_a_bounded_history() {
    let mut world = World::new();
    world.run_to_the_end();
    for number in 0..15 {
        world.edit(|stack| stack.spec.ai.model = Some(format!("model-{number}")));
        world.run_to_the_end();
    }
    assert_eq!(world.stack.status.clone().expect("a status").history.len(), 10);
}

#[test]
fn a_job_of_a_revision_that_nobody_wants_is_removed() {
    let mut world = World::new();
    hold(&mut world, "migrate-");
    let old = world.newest_job();
    world.edit(|stack| stack.spec.images.ai_service = "odoo-ai-platform/ai-service:1.1.0".to_owned());
    world.settle();
    assert!(!world.objects.contains_key(&old));
    assert_ne!(world.newest_job(), old);
}

/// Objects, by a hash of their spec, and the parts of the status that don't depend on the time.
fn end_state(world: &World) -> (Vec<String>, Option<String>, Vec<(String, String)>) {
    let hash = |value: &serde_json::Value| odoo_ai_operator::cluster::intent::hash(&value["spec"]);
    let objects = world.objects.iter().map(|(key, value)| format!("{key} {}", &hash(value)[..8])).collect();
    let status = world.stack.status.clone().expect("a status");
    let conditions =
        status.conditions.iter().map(|c| (c.type_.clone(), format!("{} {}", c.status, c.reason))).collect();
    (objects, status.current_revision, conditions)
}

#[test]
fn a_crash_before_any_write_ends_in_the_same_place() {
    let mut calm = World::new();
    calm.run_to_the_end();
    calm.edit(|stack| stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug));
    calm.run_to_the_end();
    let total = calm.writes.len();
    assert!(total > 50, "{total} writes");
    for crash in 0..total {
        let mut world = World::new();
        world.crash_after = Some(crash);
        world.run_to_the_end();
        world.edit(|stack| stack.spec.log_level = Some(odoo_ai_crds::stack::LogLevel::Debug));
        world.run_to_the_end();
        assert!(world.crash_after.is_none() || crash >= world.writes.len(), "crash {crash} never came");
        assert_eq!(world.enabled_rules, 0, "crash {crash}: the rules gate was passed");
        assert_eq!(end_state(&world), end_state(&calm), "crash before write {crash}: {}", calm.writes[crash]);
    }
}
