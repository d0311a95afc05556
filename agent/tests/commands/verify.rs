//! `agent verify`: a backup is proven by a restore, or by nothing.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{exit_code, terminate};
use crate::backup::UNUSUAL;
use crate::catalogue::{Stack, ran};

/// A stack with a backup of unusual things.
fn backed_up(test: &str) -> Option<(Stack, String)> {
    let stack = Stack::new(test)?;
    stack.sql(UNUSUAL);
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let id = stack.good()[0].0.clone();
    Some((stack, id))
}

fn verified(stack: &Stack, id: &str) -> Option<Value> {
    let text = std::fs::read(stack.folder().join(id).join("verified")).ok()?;
    Some(serde_json::from_slice(&text).expect("JSON"))
}

/// Nothing of the throw-away server is left.
#[track_caller]
fn is_clean(stack: &Stack) {
    let scratch = stack.volume.path().join("scratch");
    assert_eq!(std::fs::read_dir(scratch).expect("there").count(), 0);
}

#[test]
fn a_good_backup_is_restored_and_noted() {
    let Some((stack, first)) = backed_up("verify") else { return };
    // What has come since is no matter: the manifest counts, not the database of today.
    stack.sql("CREATE TABLE later AS SELECT 1 AS id; DROP TABLE child");
    let report = ran(&mut stack.verifier()).expect("Succeeded", "Verified").report;
    assert_eq!(report["verified"]["id"], json!(first));
    let noted = verified(&stack, &first).expect("noted");
    assert!(noted["restoreSeconds"].is_u64() && noted["sha256"] == stack.good()[0].1["sha256"], "{noted}");
    is_clean(&stack);
    // The newest, or the one that is asked for.
    // By name they needn't be in order: of one second chance decides.
    let second = stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"].clone();
    let second = second.as_str().expect("an id").to_owned();
    ran(&mut stack.verifier().env("ODOOAI_VERIFY_ID", &first)).expect("Succeeded", "Verified");
    assert!(verified(&stack, &second).is_none());
    ran(&mut stack.verifier()).expect("Succeeded", "Verified");
    assert!(verified(&stack, &second).is_some());
}

#[test]
fn a_database_without_tables_is_verified_too() {
    let Some(stack) = Stack::new("verify nothing") else { return };
    ran(&mut stack.verifier()).expect("Failed", "ArtifactMissing");
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    ran(&mut stack.verifier()).expect("Succeeded", "Verified");
}

/// One bit anywhere, and the dump isn't what it was.
#[test]
fn a_flipped_byte_is_found() {
    let Some((stack, id)) = backed_up("a flipped byte") else { return };
    let path = stack.folder().join(&id).join("dump");
    let whole = std::fs::read(&path).expect("there");
    for place in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        std::fs::write(&path, &flipped).expect("written");
        let told = ran(&mut stack.verifier()).expect("Refused", "ArtifactDamaged");
        assert!(told.message().contains(&id), "{}", told.message());
        assert!(verified(&stack, &id).is_none());
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    ran(&mut stack.verifier()).expect("Failed", "ArtifactMissing");
    ran(&mut stack.verifier().env("ODOOAI_VERIFY_ID", &id)).expect("Refused", "ArtifactDamaged");
    ran(&mut stack.verifier().env("ODOOAI_VERIFY_ID", "20260101t000000z-aaaaaa")).expect("Refused", "ArtifactMissing");
    is_clean(&stack);
}

/// The manifest is what a restore must come to, to the row.
#[test]
fn whatever_the_manifest_says_otherwise_is_found() {
    let Some((stack, id)) = backed_up("another manifest") else { return };
    let path = stack.folder().join(&id).join("manifest");
    let whole: Value = serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut other = whole.clone();
        edit(&mut other);
        std::fs::write(&path, other.to_string()).expect("written");
        let told = ran(&mut stack.verifier()).expect("Refused", "VerificationFailed");
        assert!(verified(&stack, &id).is_none());
        told.message().to_owned()
    };
    let rows = change(&|manifest| manifest["tables"]["public.empty"] = json!(1));
    assert!(rows.contains("public.empty has 0 rows instead of 1"), "{rows}");
    let missing = change(&|manifest| manifest["tables"]["public.gone"] = json!(0));
    assert!(missing.contains("public.gone is missing"), "{missing}");
    let more = change(&|manifest| _ = manifest["tables"].as_object_mut().expect("tables").remove("public.part"));
    assert!(more.contains("public.part is there"), "{more}");
    let objects = change(&|manifest| manifest["objects"]["triggers"] = json!(2));
    assert!(objects.contains("1 triggers instead of 2"), "{objects}");
    let revision = change(&|manifest| manifest["alembic"] = json!(["004"]));
    assert!(revision.contains("003 instead of 004"), "{revision}");
}

/// One host has one disk.
#[test]
fn without_room_it_isnt_begun() {
    let Some((stack, id)) = backed_up("no room") else { return };
    let all = u64::MAX / 4;
    let told = ran(&mut stack.verifier().env("ODOOAI_VERIFY_RESERVE_BYTES", all.to_string()));
    let told = told.expect("Failed", "StorageFull");
    assert!(told.message().contains("the restore may need"), "before it begins: {}", told.message());
    assert!(verified(&stack, &id).is_none());
    is_clean(&stack);
}

#[test]
fn a_verification_that_is_killed_proves_nothing_and_the_next_one_does() {
    let Some((stack, id)) = backed_up("killed verification") else { return };
    for (step, millis) in [100_u64, 400, 800, 1200, 1600].into_iter().enumerate() {
        let mut agent = stack.verifier();
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        if step % 2 == 0 {
            child.kill().expect("ours");
        } else {
            terminate(child.id());
        }
        let _ended = exit_code(&mut child);
        // It may have been done before.
        let noted = verified(&stack, &id);
        assert!(noted.is_none_or(|it| it["sha256"] == stack.good()[0].1["sha256"]), "step {step}");
        let noted: PathBuf = stack.folder().join(&id).join("verified");
        let _gone = std::fs::remove_file(noted);
    }
    ran(&mut stack.verifier()).expect("Succeeded", "Verified");
    is_clean(&stack);
}
