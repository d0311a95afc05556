//! Changed credentials of database and Redis, and servers that somebody else runs, on a simulated
//! cluster.

mod sim;

use odoo_ai_crds::stack::{DatabaseType, ManagedDatabase, ManagedRedis, Mode, OdooAiStackSpec, RedisType};
use odoo_ai_operator::cluster::intent::Key;
use serde_json::{Value, json};
use sim::{World, key};

const REFUSED: &str = r#"{"version":1,"result":"Refused","reason":"CredentialsRejected",
    "message":"PostgreSQL at db:5432 refuses user odoo_ai"}"#;

fn generation(world: &World, kind: &str, name: &str) -> i64 {
    let template = &world.objects[&key(kind, name)]["spec"]["template"];
    let annotation = &template["metadata"]["annotations"]["odoo-ai.atmatasolutions.com/credentials-generation"];
    annotation.as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Of ai-service, worker and beat.
fn generations(world: &World) -> [i64; 3] {
    [("Deployment", "odoo-ai-ai-service"), ("Deployment", "odoo-ai-worker"), ("StatefulSet", "odoo-ai-beat")]
        .map(|(kind, name)| generation(world, kind, name))
}

fn settled() -> World {
    let mut world = World::new();
    world.run_to_the_end();
    world.writes.clear();
    world
}

#[test]
fn a_changed_password_is_proven_and_then_taken_up_one_by_one() {
    let mut world = settled();
    let before = world.stack.status.clone().expect("a status");
    world.edit_secret("odoo-ai-database-credentials", "password", "new");
    world.settle();
    assert_eq!(
        world.secret("odoo-ai-credentials", "database-password").as_deref(),
        Some("random-database-credentials")
    );
    assert_eq!(world.words("Ready").0, "ProvingCredentials");
    let job = login_job(&world);
    assert!(job.name.starts_with("odoo-ai-login-2-"), "{job}");
    let owner = &world.objects[&key("Secret", &job.name)]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("Job"), &world.objects[&job]["metadata"]["uid"]));
    let [candidate] = candidates(&world).try_into().expect("one candidate");
    assert_eq!(world.secret(&candidate, "database-password").as_deref(), Some("new"));
    assert_eq!(generations(&world), [1, 1, 1], "nothing restarts before the login");

    world.becomes_ready(&job);
    world.settle();
    assert_eq!(world.secret("odoo-ai-credentials", "database-password").as_deref(), Some("new"));
    assert_eq!(generations(&world), [2, 1, 1], "one after the other");
    world.becomes_ready(&key("Deployment", "odoo-ai-ai-service"));
    world.settle();
    assert_eq!(generations(&world), [2, 2, 1]);
    world.run_to_the_end();
    assert_eq!(generations(&world), [2, 2, 2]);
    let after = world.stack.status.clone().expect("a status");
    assert_eq!(after.current_revision, before.current_revision, "no revision");
    assert_eq!(after.history, before.history);
    let untouched = [
        "Deployment odoo-ai/odoo-ai-dashboard",
        "StatefulSet odoo-ai/odoo-ai-postgresql",
        "StatefulSet odoo-ai/odoo-ai-redis",
    ];
    assert!(!world.writes.iter().any(|write| untouched.contains(&write.as_str())), "{:?}", world.writes);
}

fn login_job(world: &World) -> Key {
    world
        .objects
        .keys()
        .filter(|key| key.kind == "Job" && key.name.contains("-login-"))
        .max()
        .cloned()
        .expect("a login Job")
}

/// What begins at once may come to an end: unlike a spec, a Secret has no generation to wait for.
fn finish(world: &mut World) {
    for _ in 0..12 {
        world.settle();
        world.everything_becomes_ready();
    }
    world.settle();
}

fn candidates(world: &World) -> Vec<String> {
    let names = world.objects.keys().filter(|key| key.kind == "Secret" && key.name.starts_with("odoo-ai-login-"));
    names.map(|key| key.name.clone()).collect()
}

#[test]
fn what_keeps_a_login_from_being_tried_is_named() {
    let mut world = settled();
    world.edit_secret("odoo-ai-redis-credentials", "password", "new");
    world.settle();
    let job = login_job(&world);
    let pod = json!({
        "metadata": {
            "name": "p", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app.kubernetes.io/component": "credentials"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "controller": true,
                                 "uid": world.objects[&job]["metadata"]["uid"]}],
        },
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "credentials", "image": "operator:test", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "ErrImagePull: not found"}},
        }]},
    });
    world.objects.insert(key("Pod", "p"), pod);
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "ImagePullFailed");
    assert!(message.contains("step 3 of 15 (Credentials)") && message.contains("pod p"), "{message}");
}

#[test]
fn a_rejected_login_restarts_nothing_and_is_named() {
    let mut world = settled();
    world.login = REFUSED.to_owned();
    let live = world.objects[&key("Secret", "odoo-ai-credentials")].clone();
    world.edit_secret("odoo-ai-redis-credentials", "password", "wrong");
    world.settle();
    world.becomes_ready(&login_job(&world));
    world.settle();
    assert_eq!(world.words("Stalled").0, "CredentialsRejected");
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "CredentialsRejected");
    assert!(message.contains("refuses user odoo_ai") && message.contains("delete Job"), "{message}");
    assert_eq!(world.condition("Available"), Some("True"));
    assert_eq!(generations(&world), [1, 1, 1]);
    assert_eq!(world.objects[&key("Secret", "odoo-ai-credentials")], live);
    // The old password is put back: nothing is to be done any more.
    world.edit_secret("odoo-ai-redis-credentials", "password", "random-redis-credentials");
    world.settle();
    assert_eq!(world.condition("Ready"), Some("True"), "{:?}", world.words("Ready"));
}

#[test]
fn a_password_that_comes_back_is_proven_anew() {
    let mut world = settled();
    for (number, password) in ["b", "a", "b", "a"].into_iter().enumerate() {
        world.edit_secret("odoo-ai-database-credentials", "password", password);
        world.settle();
        assert_eq!(world.words("Ready").0, "ProvingCredentials");
        assert!(world.has_job(&format!("odoo-ai-login-{}-", number + 2)));
        world.run_to_the_end();
        assert_eq!(world.secret("odoo-ai-credentials", "database-password").as_deref(), Some(password));
    }
    assert_eq!(generations(&world), [5, 5, 5]);
}

/// The plan Job of a new image comes to its end.
fn plan(world: &mut World) {
    world.settle();
    let job = world.objects.keys().find(|key| key.name.contains("-plan-")).cloned().expect("a plan Job");
    world.becomes_ready(&job);
    world.settle();
}

#[test]
fn credentials_do_not_wait_for_an_approval() {
    let mut world = settled();
    world.edit(|stack| {
        stack.spec.rollout.approval = Some(Mode::Manual);
        stack.spec.images.ai_service = "odoo-ai-platform/ai-service:9".to_owned();
    });
    plan(&mut world);
    assert_eq!(world.words("Ready").0, "AwaitingApproval");
    let before = world.revision("Deployment", "ai-service").map(str::to_owned);
    world.edit_secret("odoo-ai-database-credentials", "password", "new");
    finish(&mut world);
    assert_eq!(generations(&world), [2, 2, 2]);
    assert_eq!(world.revision("Deployment", "ai-service").map(str::to_owned), before, "the old revision runs on");
    assert_eq!(world.words("Ready").0, "AwaitingApproval");
}

/// A migration sets the role's password to the live one when it begins.
#[test]
fn a_login_is_not_tried_while_a_migration_runs() {
    let mut world = settled();
    world.edit(|stack| stack.spec.images.ai_service = "odoo-ai-platform/ai-service:9".to_owned());
    plan(&mut world);
    let unfinished =
        |(key, object): (&Key, &Value)| (key.kind == "Job" && object["status"].is_null()).then(|| key.clone());
    let migration = world.objects.iter().find_map(unfinished).expect("a Job that runs");
    world.edit_secret("odoo-ai-database-credentials", "password", "new");
    world.settle();
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "ProvingCredentials");
    assert!(message.contains("the end of the migration is awaited"), "{message}");
    assert!(!world.has_job("odoo-ai-login-"));
    world.becomes_ready(&migration);
    world.settle();
    assert!(world.has_job("odoo-ai-login-2-"));
    world.run_to_the_end();
    assert_eq!(world.secret("odoo-ai-credentials", "database-password").as_deref(), Some("new"));
}

#[test]
fn a_missing_password_keeps_what_is_live() {
    let mut world = settled();
    let secret = world.objects.get_mut(&key("Secret", "odoo-ai-redis-credentials")).expect("a Secret");
    secret["data"] = json!({});
    world.settle();
    assert_eq!(world.words("Ready").0, "SecretKeyMissing");
    assert!(world.has("Secret", "credentials"));
    assert_eq!(world.secret("odoo-ai-credentials", "redis-url").map(|url| url.contains("random")), Some(true));
}

#[test]
fn the_live_secret_is_made_again_where_somebody_deleted_it() {
    let mut world = settled();
    world.objects.remove(&key("Secret", "odoo-ai-credentials"));
    world.settle();
    assert_eq!(world.words("Ready").0, "ProvingCredentials", "what runs may have other ones");
    world.run_to_the_end();
    assert_eq!(generations(&world), [2, 2, 2]);
}

fn external(spec: &mut OdooAiStackSpec) {
    spec.database.kind = DatabaseType::External;
    spec.database.managed = ManagedDatabase::default();
    spec.database.external = Some(
        serde_json::from_value(json!({
            "host": "db.example.com", "database": "odoo", "username": "app", "sslMode": "VerifyFull",
            "passwordSecretRef": {"name": "database", "key": "password"}, "caSecretRef": {"name": "database", "key": "ca.crt"},
        }))
        .expect("an external database"),
    );
    spec.redis.kind = RedisType::External;
    spec.redis.managed = ManagedRedis::default();
    let url = json!({"urlSecretRef": {"name": "redis", "key": "url"}});
    spec.redis.external = Some(serde_json::from_value(url).expect("an external Redis"));
}

fn outside() -> World {
    let mut world = World::new();
    world.edit(|stack| external(&mut stack.spec));
    let certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
    world.add_secret("database", &json!({"password": "p%w\n", "ca.crt": certificate}));
    world.add_secret("redis", &json!({"url": "rediss://:s%25@redis.example.com:6380/1"}));
    world
}

/// Until ai-service is about to be ready.
fn until_ai_service(world: &mut World) {
    for _ in 0..20 {
        let names: Vec<_> = world.objects.keys().filter(|key| !key.name.contains("ai-service")).cloned().collect();
        for key in names {
            world.becomes_ready(&key);
        }
        world.settle();
    }
    assert!(world.has("Deployment", "ai-service") && !world.has("Deployment", "worker"));
}

#[rstest::rstest]
#[case::the_same_database("db.example.com", 0)]
#[case::another_one_is_a_moved_one("other.example.com", 45)]
fn the_rules_gate_of_an_external_database_is_not_forgotten(#[case] host: &str, #[case] enabled: usize) {
    let mut world = outside();
    until_ai_service(&mut world);
    world.recreate();
    world.edit(|stack| stack.spec.database.external.as_mut().expect("External").host = host.to_owned());
    world.report = sim::MIGRATED.replace("\"rulesEmpty\":true", "\"rulesEmpty\":false");
    world.run_to_the_end();
    assert_eq!(world.enabled_rules, enabled);
}

#[test]
fn an_external_database_is_asked_before_anything_is_made() {
    let mut world = outside();
    world.login = REFUSED.to_owned();
    world.settle();
    world.becomes_ready(&login_job(&world));
    world.settle();
    let kinds = |world: &World, kind: &str| world.objects.keys().filter(|key| key.kind == kind).count();
    assert_eq!((kinds(&world, "StatefulSet"), kinds(&world, "Deployment"), kinds(&world, "Job")), (0, 0, 1));
    assert_eq!(world.words("Ready").0, "CredentialsRejected");
    assert_eq!(world.condition("Reconciling"), Some("True"), "a failing first install is no dead end");
    world.login = sim::ACCEPTED.to_owned();
    world.edit_secret("database", "password", "right");
    world.run_to_the_end();
    assert_eq!(kinds(&world, "StatefulSet"), 1, "beat and no server");
    assert_eq!(kinds(&world, "PersistentVolumeClaim"), 1);
    assert_eq!(world.secret("odoo-ai-credentials", "database-password").as_deref(), Some("right"));
    assert_eq!(
        world.secret("odoo-ai-credentials", "redis-url").as_deref(),
        Some("rediss://:s%25@redis.example.com:6380/1")
    );
    assert!(!world.has("Secret", "database-credentials") && !world.has("Secret", "redis-credentials"));
    let pod = &world.objects[&key("Deployment", "odoo-ai-worker")]["spec"]["template"]["spec"]["containers"][0];
    let value =
        |name: &str| pod["env"].as_array().into_iter().flatten().find(|env| env["name"] == name)?["value"].as_str();
    assert_eq!(value("AI_DATABASE_URL"), Some("postgresql://app@db.example.com:5432/odoo"));
    assert_eq!(value("ODOOAI_DATABASE_SSLMODE"), Some("verify-full"));
    let migrate = world.objects.iter().find(|(key, _)| key.name.contains("-migrate-")).expect("a Job").1.to_string();
    assert!(!migrate.contains("ADMIN"), "nobody has a superuser's password: {migrate}");
}

#[test]
fn a_new_authority_is_proven_and_restarts_nothing() {
    let mut world = outside();
    world.run_to_the_end();
    let before = generations(&world);
    world.edit_secret("database", "ca.crt", "-----BEGIN CERTIFICATE-----\ny\n-----END CERTIFICATE-----\n");
    world.settle();
    assert_eq!(world.words("Ready").0, "ProvingCredentials");
    world.run_to_the_end();
    assert!(world.secret("odoo-ai-credentials", "database-ca.crt").is_some_and(|pem| pem.contains("\ny\n")));
    assert_eq!(generations(&world), before);
}

#[test]
fn malformed_values_are_named_with_their_place() {
    let malformed: [(&str, &str, &str, &str); 4] = [
        ("redis", "url", "localhost:6379", "key url of Secret redis must be a URL like redis://"),
        ("redis", "url", "http://redis:6379", "key url of Secret redis must be a URL like redis://"),
        ("database", "password", "two\nlines", "key password of Secret database must be one line"),
        ("database", "ca.crt", "x", "key ca.crt of Secret database must hold certificates as PEM"),
    ];
    for (secret, key, value, sentence) in malformed {
        let mut world = outside();
        world.edit_secret(secret, key, value);
        world.settle();
        let (reason, message) = world.words("Ready");
        assert_eq!(reason, "SecretMalformed");
        assert!(message.contains(sentence), "{message}");
        assert!(!message.contains(value), "no secret is shown: {message}");
    }
}

#[test]
fn a_crash_before_any_write_of_a_change_ends_in_the_same_place() {
    let change = |world: &mut World| world.edit_secret("odoo-ai-database-credentials", "password", "new");
    let mut clean = settled();
    change(&mut clean);
    finish(&mut clean);
    let end = |world: &World| -> Vec<Value> {
        let kept = world.objects.iter().filter(|(key, _)| key.kind != "Pod" && key.kind != "Job");
        kept.map(|(_, object)| object["spec"].clone()).collect()
    };
    for crash in 0..clean.writes.len() {
        let mut world = settled();
        change(&mut world);
        world.crash_after = Some(crash);
        let _ = world.reconcile(false);
        finish(&mut world);
        assert!(end(&world) == end(&clean), "crash before write {crash}");
        assert_eq!(generations(&world), [2, 2, 2]);
    }
}

/// The queue stays reachable for what still runs with the old login.
#[test]
fn a_redis_that_is_given_up_goes_when_nothing_uses_it_any_more() {
    let mut world = settled();
    world.add_secret("redis", &json!({"url": "redis://:x@redis.example.com:6379/0"}));
    world.edit(|stack| {
        stack.spec.redis.kind = RedisType::External;
        let url = json!({"urlSecretRef": {"name": "redis", "key": "url"}});
        stack.spec.redis.external = Some(serde_json::from_value(url).expect("an external Redis"));
    });
    world.settle();
    world.becomes_ready(&login_job(&world));
    world.settle();
    assert_eq!(generations(&world), [2, 1, 1]);
    assert!(world.has("StatefulSet", "redis") && world.has("Service", "redis"));
    finish(&mut world);
    assert_eq!(generations(&world), [2, 2, 2]);
    assert!(!world.has("StatefulSet", "redis") && !world.has("Service", "redis"));
    assert!(world.has("Secret", "redis-credentials"), "a Secret is never deleted");
}
