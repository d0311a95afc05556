//! `bootstrap.restoreFrom` in a simulated cluster: the backup comes before the schema, whatever else is there, and is asked
//! for as long as nobody has looked into the database. What the Job does is shown by the agent's own tests.

mod sim;

use k8s_openapi::jiff::SignedDuration;
use odoo_ai_crds::stack::{BootstrapStatus, OdooAiStackStatus};
use odoo_ai_operator::backup::model::{Storage, Volume};
use odoo_ai_operator::restore::source::Source;
use odoo_ai_operator::stack::decide::Decision;
use serde_json::{Value, json};
use sim::{STACK, World, key};

const NOT_EMPTY: &str = r#"{"version":1,"result":"Succeeded","reason":"DatabaseNotEmpty",
    "message":"the database odoo_ai holds 26 tables already, so nothing was restored","incarnation":"1/2"}"#;
const REFUSED: &str = r#"{"version":1,"result":"Refused","reason":"ArtifactMissing","message":"there is no backup x"}"#;

/// Restores of a dump on a volume that is there.
fn world() -> World {
    let mut world = World::new();
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "old/backup.sql.gz"}));
    world
}

fn from(world: &mut World, source: &Value) {
    world.source = Some(Source { claim_exists: true, ..Source::default() });
    let source = serde_json::from_value(json!({"restoreFrom": source})).expect("a source");
    world.edit(|stack| stack.spec.database.managed.bootstrap = Some(source));
}

/// What is there becomes ready, and the operator goes on.
fn go_on(world: &mut World) {
    for _ in 0..3 {
        world.settle();
        world.everything_becomes_ready();
    }
    world.settle();
}

fn status(world: &World) -> OdooAiStackStatus {
    world.stack.status.clone().expect("a status")
}

fn noted(world: &World) -> Option<BootstrapStatus> {
    status(world).database?.bootstrap
}

fn jobs(world: &World, component: &str) -> Vec<String> {
    let names = world.objects.keys().filter(|key| key.kind == "Job").map(|key| key.name.clone());
    names.filter(|name| name.contains(&format!("-{component}-"))).collect()
}

fn env(world: &World, job: &str, name: &str) -> Option<String> {
    let job = &world.objects[&key("Job", job)];
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array()?;
    Some(env.iter().find(|it| it["name"] == name)?["value"].as_str()?.to_owned())
}

#[test]
fn the_backup_comes_before_the_schema_and_then_costs_nothing() {
    let mut world = world();
    world.settle();
    assert!(jobs(&world, "bootstrap").is_empty(), "the server comes first");
    world.everything_becomes_ready();
    world.settle();
    assert_eq!(jobs(&world, "bootstrap"), ["odoo-ai-bootstrap-1"]);
    assert!(jobs(&world, "migrate").is_empty() && world.has("NetworkPolicy", "bootstrap"));
    let (reason, message) = world.words("Ready");
    assert_eq!(reason, "Restoring");
    let told = "step 4 of 15 (Bootstrap): Job odoo-ai-bootstrap-1 restores the backup, if the database is empty";
    assert_eq!(message, told);
    assert_eq!(world.words("Migrated").0, "Restoring");
    let claim = world.objects[&key("PersistentVolumeClaim", "odoo-ai-postgresql")]["metadata"]["uid"].clone();
    let claim = claim.as_str().expect("a UID").to_owned();
    for (name, value) in [
        ("ODOOAI_RESTORE_OWNER", claim.as_str()),
        ("ODOOAI_RESTORE_FILE", "old/backup.sql.gz"),
        ("ODOOAI_RESTORE_ADOPT", "false"),
        ("ODOOAI_BACKUP_VOLUME", "/backups"),
    ] {
        assert_eq!(env(&world, "odoo-ai-bootstrap-1", name).as_deref(), Some(value), "{name}");
    }
    world.run_to_the_end();
    let noted = noted(&world).expect("it is noted");
    assert_eq!((noted.restored, noted.tables, noted.rows), (true, Some(26), Some(1234)));
    assert_eq!((noted.volume_uid, noted.artifact_id.as_deref()), (claim, Some("artifact-1")));
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, 1));
    assert!(!world.has("NetworkPolicy", "bootstrap"), "nobody needs it any more");
    // Not even the source is needed any more.
    world.source = None;
    let before = world.writes.len();
    world.settle();
    assert_eq!(world.writes.len(), before);
}

#[test]
fn a_database_that_holds_something_is_left_as_it_is() {
    let mut world = world();
    world.bootstrap = NOT_EMPTY.to_owned();
    world.run_to_the_end();
    let noted = noted(&world).expect("it is noted");
    assert!(!noted.restored && noted.message.contains("26 tables already"));
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, 1));
}

#[test]
fn what_cannot_be_had_is_never_replaced_by_an_empty_schema() {
    let mut world = world();
    world.bootstrap = REFUSED.to_owned();
    go_on(&mut world);
    assert_eq!(world.words("Ready").0, "ArtifactMissing");
    assert!(world.words("Ready").1.contains("there is no backup x"));
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, 0));
    assert!(world.words("Ready").1.ends_with("to ask again at once, delete Job odoo-ai-bootstrap-1"));
    world.objects.remove(&key("Job", "odoo-ai-bootstrap-1"));
    go_on(&mut world);
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, 0));
    // Another source is another matter, and its Job comes at once.
    world.bootstrap = sim::BROUGHT.to_owned();
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}));
    world.run_to_the_end();
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (2, 1));
}

#[test]
fn a_job_for_another_source_goes_first() {
    let mut world = world();
    world.settle();
    world.everything_becomes_ready();
    world.settle();
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}));
    world.settle();
    assert_eq!(jobs(&world, "bootstrap"), ["odoo-ai-bootstrap-2"], "a new one, and the old one is gone");
    assert_eq!(env(&world, "odoo-ai-bootstrap-2", "ODOOAI_RESTORE_FILE").as_deref(), Some("b.sql"));
    // Nobody wants one any more.
    world.edit(|stack| stack.spec.database.managed.bootstrap = None);
    world.settle();
    assert!(jobs(&world, "bootstrap").is_empty() && !jobs(&world, "migrate").is_empty());
    assert!(!world.has("NetworkPolicy", "bootstrap"));
}

#[rstest::rstest]
#[case::backup(json!({"backupRef": {"name": "nightly"}, "artifact": {"selector": "Latest"}}), "BackupNotFound")]
#[case::volume(json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}), "VolumeMissing")]
#[case::bucket(
    json!({"storage": {"s3": {"bucket": "b", "credentialsSecretRef": {"name": "s3"}}}, "artifact": {"selector": "Latest"}}),
    "SecretMissing"
)]
fn what_it_refers_to_must_be_there(#[case] source: Value, #[case] reason: &str) {
    let mut world = World::new();
    from(&mut world, &source);
    world.source = Some(Source { claim_exists: reason != "VolumeMissing", ..Source::default() });
    go_on(&mut world);
    let (told, message) = world.words("Ready");
    assert!(told == reason && message.starts_with("step 4 of 15 (Bootstrap): "), "{told}: {message}");
    assert!(jobs(&world, "bootstrap").is_empty() && jobs(&world, "migrate").is_empty());
}

#[test]
fn the_volume_is_looked_at_once_and_another_one_anew() {
    let mut world = world();
    world.run_to_the_end();
    // The status is lost, and so is the Job: the agent looks, and nothing else is needed.
    world.stack.status = None;
    world.objects.remove(&key("Job", "odoo-ai-bootstrap-1"));
    world.bootstrap = NOT_EMPTY.to_owned();
    world.run_to_the_end();
    assert!(!noted(&world).expect("it is noted").restored && jobs(&world, "bootstrap").len() == 1, "one Job said it");
    // The volume is lost, and what was restored in place on it is of no matter.
    status_of(&mut world, |status| status.database.as_mut().expect("a database").restore = Some("x-1".to_owned()));
    go_on(&mut world);
    assert_eq!(jobs(&world, "bootstrap").len(), 1, "what was replaced was no empty database");
    world.objects.get_mut(&key("PersistentVolumeClaim", "odoo-ai-postgresql")).expect("a claim")["metadata"]["uid"] =
        json!("another");
    world.bootstrap = sim::BROUGHT.to_owned();
    let migrations = jobs(&world, "migrate").len();
    world.settle();
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (2, migrations));
    go_on(&mut world);
    let noted = noted(&world).expect("it is noted");
    assert!(noted.restored && noted.volume_uid == "another");
    assert_eq!(jobs(&world, "migrate").len(), migrations + 1);
    assert_eq!(status(&world).database.expect("a database").volume_uid.as_deref(), Some("another"));
}

fn status_of(world: &mut World, change: impl FnOnce(&mut OdooAiStackStatus)) {
    change(world.stack.status.as_mut().expect("a status"));
}

#[test]
fn a_stack_that_ran_before_asks_nobody() {
    let mut world = World::new();
    world.run_to_the_end();
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}));
    world.run_to_the_end();
    assert!(jobs(&world, "bootstrap").is_empty() && noted(&world).is_none());
}

/// Caches lag: the server is ready, and its claim not seen yet.
#[test]
fn nothing_is_made_on_a_volume_that_is_not_known() {
    let mut world = world();
    world.settle();
    world.everything_becomes_ready();
    let claim = key("PersistentVolumeClaim", "odoo-ai-postgresql");
    world.hidden.insert(claim.clone());
    world.settle();
    assert!(jobs(&world, "migrate").is_empty() && jobs(&world, "bootstrap").is_empty());
    assert_eq!(world.words("Ready").0, "Restoring");
    world.hidden.clear();
    world.source = None;
    world.settle();
    assert!(jobs(&world, "migrate").is_empty() && jobs(&world, "bootstrap").is_empty(), "nor without a source");
}

/// A plan Job has looked into it, on a way that knew nothing of a backup.
#[test]
fn an_empty_database_that_was_only_looked_into_is_still_to_begin() {
    let mut world = World::new();
    world.run_to_the_end();
    status_of(&mut world, |status| {
        let database = status.database.as_mut().expect("a database");
        (database.schema_revision, database.last_migration) = (Some(String::new()), None);
    });
    let migrations = jobs(&world, "migrate").len();
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}));
    world.settle();
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, migrations));
    assert!(world.words("Ready").1.starts_with("step 4 of 15 (Bootstrap)"));
}

/// It would make the schema while the backup is looked for.
#[test]
fn a_migration_that_was_started_before_goes_first() {
    let mut world = World::new();
    world.settle();
    world.everything_becomes_ready();
    world.settle();
    assert_eq!(jobs(&world, "migrate").len(), 1);
    from(&mut world, &json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "file": "b.sql"}));
    let decision = world.reconcile(false).expect("it lives");
    let Decision::Roll(roll) = decision else { panic!("{decision:?}") };
    assert!(roll.bootstrap.is_none() && roll.obsolete.len() == 1, "{:?}", roll.obsolete);
    world.settle();
    assert_eq!((jobs(&world, "bootstrap").len(), jobs(&world, "migrate").len()), (1, 0));
    // One of another volume, too, though nobody begins with a backup.
    let mut world = World::new();
    world.settle();
    world.everything_becomes_ready();
    world.settle();
    world.objects.get_mut(&key("PersistentVolumeClaim", "odoo-ai-postgresql")).expect("a claim")["metadata"]["uid"] =
        json!("another");
    world.settle();
    assert_eq!(jobs(&world, "migrate").len(), 1, "the one of the lost volume is gone");
}

#[rstest::rstest]
#[case::its_own(json!({}), "old", "true")]
#[case::its_own_by_name(json!({"catalogue": format!("odoo-ai/{STACK}")}), "old", "true")]
#[case::of_another_stack(json!({"catalogue": "production/odoo-ai"}), "old", "false")]
#[case::where_no_backup_of_ours_goes(json!({}), "elsewhere", "false")]
fn the_catalogue_that_the_next_backup_goes_to_is_taken_over(
    #[case] more: Value,
    #[case] kept: &str,
    #[case] adopts: &str,
) {
    let mut world = World::new();
    let mut source = json!({"storage": {"persistentVolumeClaim": {"claimName": "old"}}, "artifact": {"id": "20260101t030000z-aaaaaa"}});
    source.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    from(&mut world, &source);
    let volume = Some(Volume { claim: kept.to_owned(), made: None });
    world.source.as_mut().expect("a source").kept = vec![Storage { volume, bucket: None }];
    world.settle();
    world.everything_becomes_ready();
    world.settle();
    let job = "odoo-ai-bootstrap-1";
    assert_eq!(env(&world, job, "ODOOAI_RESTORE_ADOPT").as_deref(), Some(adopts));
    assert_eq!(env(&world, job, "ODOOAI_RESTORE_ID").as_deref(), Some("20260101t030000z-aaaaaa"));
}

#[test]
fn what_failed_is_tried_again_after_a_pause() {
    let mut world = world();
    world.bootstrap =
        r#"{"version":1,"result":"Refused","reason":"ArtifactMissing","message":"there is none"}"#.to_owned();
    go_on(&mut world);
    world.now += SignedDuration::from_mins(31);
    world.bootstrap = sim::BROUGHT.to_owned();
    world.run_to_the_end();
    assert_eq!(jobs(&world, "bootstrap").len(), 2);
}
