//! What must not be lost or mistaken: passwords, keys, and the files on the volume, in a simulated
//! cluster.

mod sim;

use odoo_ai_crds::stack::ManagedDatabase;
use sim::{World, key};

type Change = fn(&mut ManagedDatabase);

#[test]
fn a_lost_password_with_data_is_no_reason_for_a_new_one() {
    let mut world = World::new();
    world.run_to_the_end();
    world.objects.remove(&key("Secret", "odoo-ai-database-credentials"));
    world.settle();
    assert_eq!(world.words("Stalled").0, "CredentialsLost");
    assert!(!world.has("Secret", "database-credentials"));
    assert_eq!(world.condition("Available"), Some("True"));
}

#[test]
fn a_secret_that_was_restored_by_hand_is_taken() {
    let mut world = World::new();
    world.run_to_the_end();
    let secret = world.objects.get_mut(&key("Secret", "odoo-ai-database-credentials")).expect("a Secret");
    secret["metadata"].as_object_mut().expect("metadata").remove("labels");
    world.settle();
    assert_eq!(world.condition("Ready"), Some("True"), "{:?}", world.words("Ready"));
    let secret = &world.objects[&key("Secret", "odoo-ai-database-credentials")];
    assert!(secret["metadata"]["labels"].is_object(), "the labels are back");
    assert!(secret["data"]["password"].is_string(), "the password is kept");
}

#[test]
fn a_new_key_gives_what_runs_no_new_name() {
    let mut world = World::new();
    world.run_to_the_end();
    let before = world.stack.status.clone().expect("a status");
    world.objects.remove(&key("Secret", "odoo-ai-revision-key"));
    world.writes.clear();
    world.settle();
    world.edit_secret("odoo-ai-revision-key", "key", "another");
    world.settle();
    assert_eq!(world.stack.status.clone().expect("a status").current_revision, before.current_revision);
    assert!(!world.writes.iter().any(|write| write.contains("Deployment")), "{:?}", world.writes);
    // What changes is a new revision, under the new key.
    world.edit_secret("anthropic", "apiKey", "changed");
    world.settle();
    world.run_to_the_end();
    let after = world.stack.status.clone().expect("a status");
    assert_ne!(after.current_revision, before.current_revision);
    assert_eq!(after.history.len(), 2);
}

#[test]
fn files_of_another_user_or_c_library_are_not_touched() {
    let changes: [(Change, &str); 3] = [
        (|database| database.security.run_as_user = Some(70), "belong to user 999 and"),
        (
            |database| database.image = Some("postgres:17-alpine".to_owned()),
            "by an image with glibc and postgres:17-alpine has musl",
        ),
        (|database| database.major_version = Some(15), "files of PostgreSQL 17 and"),
    ];
    for (change, words) in changes {
        let mut world = World::new();
        world.run_to_the_end();
        world.writes.clear();
        world.edit(|stack| change(&mut stack.spec.database.managed));
        world.settle();
        let (reason, message) = world.words("Stalled");
        assert_eq!((world.condition("Stalled"), reason.as_str()), (Some("True"), "RequiresMigration"));
        assert!(message.contains(words), "{message}");
        assert!(world.writes.iter().all(|write| write == "Status"), "{:?}", world.writes);
    }
}
