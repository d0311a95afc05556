//! `agent catalogue` and `agent purge`: what is there is told, and what its owner gives up goes.

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::catalogue::{Stack, ran};
use crate::servers::newest_binaries;

/// A command that needs the storage only.
fn agent(stack: &Stack, command: &'static str) -> Agent {
    let binaries = newest_binaries().expect("a server has programs");
    Agent::new(&[command])
        .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
        .env("ODOOAI_BACKUP_VOLUME", stack.volume.path())
        .env("ODOOAI_BACKUP_NAMESPACE", "ns")
        .env("ODOOAI_BACKUP_STACK", "stack")
        .env("ODOOAI_BACKUP_POLICY", "nightly")
}

#[test]
fn what_is_there_is_told_by_each_run_and_by_itself() {
    let Some(stack) = Stack::new("catalogue") else { return };
    let nothing = ran(&mut agent(&stack, "catalogue")).expect("Succeeded", "CatalogueRead").report;
    assert_eq!(
        nothing["catalogue"],
        json!({"total": 0, "bytes": 0, "damaged": 0, "schemas": [], "incarnations": [], "artifacts": []})
    );
    stack.sql("CREATE TABLE alembic_version AS SELECT '003' AS version_num");
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let asked = ran(&mut stack.agent().env("ODOOAI_BACKUP_REASON", "PreMigration").env("ODOOAI_BACKUP_REQUEST", "r-1"));
    let made = asked.expect("Succeeded", "BackupSucceeded").report;
    ran(&mut stack.agent().env("ODOOAI_BACKUP_POLICY", "other")).expect("Succeeded", "BackupSucceeded");
    let told = ran(&mut agent(&stack, "catalogue")).expect("Succeeded", "CatalogueRead").report["catalogue"].clone();
    assert_eq!(told, made["catalogue"], "of this policy only");
    let (total, owner) = (told["total"].as_u64(), told["owner"].as_str().unwrap_or_default().to_owned());
    assert!(total == Some(2) && owner.ends_with(&format!("/{}", stack.database)), "{told}");
    let newest = &told["artifacts"][0];
    assert_eq!((&newest[0], &newest[1], &newest[4]), (&made["backup"]["id"], &json!("M"), &json!(0)));
    assert_eq!(told["requests"], json!({newest[0].as_str().expect("an id"): "r-1"}));
    assert_eq!((&told["schemas"], &told["incarnations"][0]), (&json!(["003"]), &made["incarnation"]));
    // A verification is told with it, and a damaged one is counted.
    let verified = ran(&mut stack.verifier()).expect("Succeeded", "Verified").report;
    assert_eq!(verified["catalogue"]["artifacts"][0][4], json!(1));
    assert_eq!(verified["catalogue"]["verified"], verified["verified"]);
    let second = told["artifacts"][1][0].as_str().expect("an id");
    std::fs::write(stack.folder().join(second).join("dump"), "cut").expect("written");
    let told = ran(&mut agent(&stack, "catalogue")).expect("Succeeded", "CatalogueRead").report["catalogue"].clone();
    assert_eq!((&told["total"], &told["damaged"]), (&json!(1), &json!(1)));
}

#[test]
fn only_what_is_the_policys_own_is_given_up() {
    let Some(stack) = Stack::new("purge") else { return };
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    ran(&mut stack.agent().env("ODOOAI_BACKUP_POLICY", "other")).expect("Succeeded", "BackupSucceeded");
    let purge = |owner: &str| ran(&mut agent(&stack, "purge").env("ODOOAI_BACKUP_OWNER", owner));
    purge("1/somebody").expect("Succeeded", "Purged");
    assert_eq!(stack.good().len(), 3, "the catalogue is somebody else's");
    let owner: Value =
        serde_json::from_slice(&std::fs::read(stack.folder().join("owner.json")).expect("there")).expect("JSON");
    let told = purge(owner["database"].as_str().expect("text")).expect("Succeeded", "Purged");
    assert!(told.message().starts_with("2 backups"), "{}", told.message());
    let left = stack.good();
    assert!(left.len() == 1 && left[0].1["policy"] == "other", "{left:?}");
    ran(&mut agent(&stack, "purge")).expect("Refused", "ConfigInvalid");
}
