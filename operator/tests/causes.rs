//! Causes in the simulated cluster: each becomes a condition, clears by itself, is told once, and
//! writes nothing for as long as it lasts.

mod sim;

use std::collections::BTreeMap;

use odoo_ai_crds::stack::EvictionPolicy;
use odoo_ai_operator::cluster::pending::{Claim, Said};
use odoo_ai_operator::stack::agents::{Agents, Odoo, Part};
use odoo_ai_operator::stack::facts::{Facts, Idle};
use rstest::rstest;
use serde_json::{Value, json};
use sim::{World, key};

fn reached() -> Part {
    Part { reachable: true, message: String::new() }
}

fn no_database(facts: &mut Facts, message: &str) {
    facts.database = Part { reachable: false, message: message.to_owned() };
    facts.database_lost = true;
}

fn no_redis(facts: &mut Facts, message: &str) {
    facts.redis = Part { reachable: false, message: message.to_owned() };
    facts.redis_lost = true;
}

/// What an agent says where all is well.
fn well() -> Facts {
    Facts {
        database: reached(),
        database_lost: false,
        redis: reached(),
        redis_lost: false,
        application: reached(),
        odoo: Odoo { state: "Reachable".to_owned(), message: String::new() },
        eviction_policy: Some("noeviction".to_owned()),
        redis_full: false,
        idle: Some(Vec::new()),
        left_behind: Some(0),
    }
}

fn says(world: &mut World, facts: Facts) {
    world.agents = Agents::new(BTreeMap::from([("odoo-ai-ai-service-x".to_owned(), facts)]));
}

/// A settled stack whose agent says that all is well, and no event yet.
fn settled() -> World {
    let mut world = World::new();
    world.run_to_the_end();
    says(&mut world, well());
    world.settle();
    world.events.clear();
    world
}

fn idle(name: &str) -> Vec<Idle> {
    vec![Idle { name: name.to_owned(), tasks: 100, seconds: 3600 }]
}

/// A case: the condition, what is wrong, the reason, and parts of the message.
type Case = (&'static str, fn(&mut Facts), &'static str, &'static [&'static str]);

const CASES: [Case; 13] = [
    (
        "QueuesConsumed",
        |it| it.idle = Some(idle("celery")),
        "QueueNotConsumed",
        &["queue celery", "100 tasks or more", "1 hour", "kubectl logs deploy/odoo-ai-worker"],
    ),
    ("QueuesConsumed", |it| it.idle = Some(idle("other")), "QueueNotConsumed", &["worker.queues does not list it"]),
    (
        "WebhooksProcessed",
        |it| it.left_behind = Some(10),
        "WebhooksUnprocessed",
        &["10 webhooks or more", "send them from Odoo again"],
    ),
    ("RedisReady", |it| it.redis_full = true, "RedisNearlyFull", &["90 %", "redis.managed.maxMemoryMiB"]),
    (
        "RedisReady",
        |it| it.eviction_policy = Some("allkeys-lru".to_owned()),
        "EvictionPolicyUnfit",
        &["allkeys-lru", "noeviction"],
    ),
    (
        "RedisReady",
        |it| no_redis(it, "Redis login rejected: WRONGPASS invalid username-password pair"),
        "CredentialsRejected",
        &["WRONGPASS", "put the old value back"],
    ),
    (
        "DatabaseReady",
        |it| no_database(it, "database login rejected: password authentication failed for user \"odoo_ai\""),
        "CredentialsRejected",
        &["postgresql refuses", "odoo_ai", "put the old value back"],
    ),
    (
        "DatabaseReady",
        |it| no_database(it, "database gave no answer within 3 s"),
        "Unreachable",
        &["the pod of postgresql is ready", "no answer within 3 s", "NetworkPolicies"],
    ),
    (
        "OdooReachable",
        |it| it.odoo = odoo("AccessDenied", "Odoo refuses this database, login and password"),
        "AccessDenied",
        &["user ", "odoo.username", "often not admin", "Secret odoo"],
    ),
    (
        "OdooReachable",
        |it| it.odoo = odoo("Unreachable", "Odoo gave no answer within 5 s"),
        "Unreachable",
        &["hangs", "within 5 s", "firewall"],
    ),
    (
        "OdooReachable",
        |it| {
            it.odoo = odoo(
                "Unreachable",
                "Odoo: request failed: client error (Connect): tcp connect error: Connection refused (os error 111)",
            );
        },
        "Unreachable",
        &["Connection refused", "is Odoo running"],
    ),
    (
        "OdooReachable",
        |it| {
            it.odoo = odoo(
                "Unreachable",
                "Odoo: request failed: client error (Connect): dns error: failed to lookup address information: Name or service not known",
            );
        },
        "Unreachable",
        &["the name is unknown inside the cluster"],
    ),
    (
        "OdooReachable",
        |it| {
            it.odoo = odoo("Unreachable", "Odoo answered 301 Moved Permanently, which the application does not follow");
        },
        "Unreachable",
        &["301", "check odoo.url"],
    ),
];

fn odoo(state: &str, message: &str) -> Odoo {
    Odoo { state: state.to_owned(), message: message.to_owned() }
}

#[test]
fn what_an_agent_says_is_named_told_once_and_cleared() {
    for (kind, break_it, reason, parts) in CASES {
        let mut world = settled();
        let healthy = (world.condition(kind).map(str::to_owned), world.words(kind));
        assert_eq!(healthy.0.as_deref(), Some("True"), "{kind}: {healthy:?}");
        let mut facts = well();
        break_it(&mut facts);
        says(&mut world, facts);
        let before = world.writes.len();
        let _ = world.reconcile(false);
        let (found, message) = world.words(kind);
        assert_eq!(found, reason, "{kind}: {message}");
        for part in parts {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
        assert_eq!(&world.writes[before..], ["Status"]);
        for _ in 0..3 {
            let _ = world.reconcile(false);
        }
        assert_eq!(world.writes.len(), before + 1, "{reason} is written once");
        assert_eq!(world.events, [format!("{kind} {reason}")]);
        assert_eq!(world.condition("Ready"), Some("True"), "{reason} is nothing that a rollout could cure");
        says(&mut world, well());
        world.settle();
        assert_eq!((world.condition(kind).map(str::to_owned), world.words(kind)), healthy, "{reason} clears");
        assert_eq!(world.events.len(), 2, "{:?}", world.events);
    }
}

#[test]
fn a_cause_that_comes_and_goes_is_told_each_time_and_no_more() {
    let mut world = settled();
    for _ in 0..5 {
        says(&mut world, Facts { idle: Some(idle("celery")), ..well() });
        world.settle();
        world.settle();
        says(&mut world, well());
        world.settle();
    }
    let wanted = ["QueuesConsumed QueueNotConsumed", "QueuesConsumed Consumed"];
    assert_eq!(world.events, wanted.repeat(5));
}

#[test]
fn a_first_install_tells_no_part_of_itself_as_news() {
    let mut world = World::new();
    says(&mut world, well());
    world.run_to_the_end();
    assert_eq!(world.events, ["OdooReachable Reachable", "Ready Settled"]);
}

#[test]
fn an_agent_that_has_just_started_clears_nothing() {
    let mut world = settled();
    says(&mut world, Facts { idle: Some(idle("celery")), left_behind: Some(10), ..well() });
    world.settle();
    let before = world.writes.len();
    for agents in
        [Agents::default(), Agents::new([("new".to_owned(), Facts { idle: None, left_behind: None, ..well() })].into())]
    {
        world.agents = agents;
        world.settle();
        for (kind, reason) in [("QueuesConsumed", "QueueNotConsumed"), ("WebhooksProcessed", "WebhooksUnprocessed")] {
            assert_eq!((world.condition(kind), world.words(kind).0.as_str()), (Some("False"), reason));
        }
    }
    // Odoo's state was unknown for a moment; the rest is as it was.
    assert!(world.writes.len() <= before + 2, "{:?}", &world.writes[before..]);
    says(&mut world, well());
    world.settle();
    assert_eq!((world.condition("QueuesConsumed"), world.condition("WebhooksProcessed")), (Some("True"), Some("True")));
}

#[test]
fn of_two_agents_the_one_that_knows_of_a_cause_counts_and_one_that_reaches_a_server() {
    let mut world = settled();
    let mut cut_off = Facts { idle: Some(idle("celery")), left_behind: None, ..well() };
    no_database(&mut cut_off, "database unreachable: timed out");
    world.agents = Agents::new([("a".to_owned(), well()), ("b".to_owned(), cut_off.clone())].into());
    world.settle();
    assert_eq!(world.words("QueuesConsumed").0, "QueueNotConsumed");
    assert_eq!((world.condition("WebhooksProcessed"), world.condition("DatabaseReady")), (Some("True"), Some("True")));
    world.agents = Agents::new([("a".to_owned(), cut_off.clone()), ("b".to_owned(), cut_off)].into());
    world.settle();
    assert_eq!(world.words("DatabaseReady").0, "Unreachable");
}

#[rstest]
#[case::unset(None, None, "Serving")]
#[case::by_spec(Some(EvictionPolicy::AllKeysLru), None, "EvictionPolicyUnfit")]
#[case::what_runs_counts(Some(EvictionPolicy::AllKeysLru), Some("noeviction"), "Serving")]
#[case::changed_by_hand(None, Some("volatile-ttl"), "EvictionPolicyUnfit")]
fn an_eviction_policy(#[case] spec: Option<EvictionPolicy>, #[case] runs: Option<&str>, #[case] reason: &str) {
    let mut world = settled();
    world.edit(|stack| stack.spec.redis.managed.eviction_policy = spec);
    says(&mut world, Facts { eviction_policy: runs.map(str::to_owned), ..well() });
    world.run_to_the_end();
    assert_eq!((world.condition("RedisReady"), world.words("RedisReady").0.as_str()), (Some("True"), reason));
}

/// PostgreSQL's only pod, and a workload that counts none ready.
fn database_pod(world: &mut World, status: &Value) {
    let ready = status["containerStatuses"][0]["ready"] == true;
    let labels = json!({"app.kubernetes.io/component": "postgresql", "odoo-ai.atmatasolutions.com/stack": "odoo-ai"});
    let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "odoo-ai-postgresql"}});
    let pod = json!({
        "metadata": {"name": "odoo-ai-postgresql-0", "labels": labels},
        "spec": {"containers": [], "volumes": [claim]},
        "status": status,
    });
    world.objects.insert(key("Pod", "odoo-ai-postgresql-0"), pod);
    let set = world.objects.get_mut(&key("StatefulSet", "odoo-ai-postgresql")).expect("a StatefulSet");
    set["status"]["availableReplicas"] = json!(i32::from(ready));
}

fn crashing(ready: bool) -> Value {
    let last = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
    json!({"phase": "Running", "containerStatuses": [{"name": "postgresql", "image": "postgres:17", "imageID": "x",
        "ready": ready, "restartCount": 5, "state": {"running": {}}, "lastState": last}]})
}

#[test]
fn a_cause_of_ready_and_of_its_part_is_told_once() {
    let mut world = settled();
    for round in 0..3 {
        world.events.clear();
        database_pod(&mut world, &crashing(false));
        world.settle();
        for kind in ["Ready", "DatabaseReady"] {
            assert_eq!((world.condition(kind), world.words(kind).0.as_str()), (Some("False"), "CrashLoop"), "{kind}");
        }
        assert_eq!(world.condition("Available"), Some("True"));
        database_pod(&mut world, &crashing(true));
        world.settle();
        for kind in ["Ready", "DatabaseReady"] {
            assert_eq!(world.condition(kind), Some("True"), "{kind}: {:?}", world.words(kind));
        }
        assert_eq!(world.events, ["Ready CrashLoop", "Ready Settled"], "round {round}");
    }
}

#[test]
fn a_missing_storage_class_is_named_on_a_first_install_and_clears() {
    let mut world = World::new();
    world.settle();
    world.events.clear();
    let name = "odoo-ai-postgresql".to_owned();
    let said = Said { warning: true, message: "storageclass.storage.k8s.io \"nope\" not found".to_owned() };
    let claim =
        Claim { name: name.clone(), phase: "Pending".to_owned(), class: Some("nope".to_owned()), said: Some(said) };
    world.claims.insert(name, claim);
    let words = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.";
    let unplaced = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]);
    database_pod(&mut world, &json!({"phase": "Pending", "conditions": unplaced}));
    world.settle();
    for kind in ["Ready", "DatabaseReady"] {
        assert_eq!(world.words(kind).0, "StorageClassMissing", "{kind}");
    }
    assert_eq!(world.condition("Reconciling"), Some("True"), "somebody may still make it");
    world.claims.clear();
    database_pod(&mut world, &crashing(true));
    world.run_to_the_end();
    let told: Vec<_> = world.events.iter().filter(|event| event.contains("StorageClass")).collect();
    assert_eq!(told, ["Ready StorageClassMissing"], "{:?}", world.events);
    assert_eq!(world.events.last().map(String::as_str), Some("Ready Settled"));
}

#[test]
fn a_secret_with_a_newline_is_named_changes_nothing_and_clears() {
    let mut world = settled();
    let old = world.secret("anthropic", "apiKey").expect("the sample's Secret");
    world.edit_secret("anthropic", "apiKey", "sk-new\n");
    let revision = world.stack.status.clone().and_then(|status| status.update_revision);
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "SecretMalformed");
    assert!(message.contains("key apiKey of Secret anthropic ends with a newline"), "{message}");
    assert!(!message.contains("sk-new"), "{message}");
    assert_eq!(world.stack.status.clone().and_then(|status| status.update_revision), revision);
    world.edit_secret("anthropic", "apiKey", &old);
    world.run_to_the_end();
    assert_eq!(world.events, ["Ready SecretMalformed", "Ready Settled"]);
}
