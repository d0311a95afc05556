//! `agent restore` once more, or later than it was meant: what is done stays as it is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{Agent, exit_code};
use crate::catalogue::{Stack, ran};
use crate::restore::{another, backed_up, exists, is_live, loaded, loader, mark, note, owner, restorer, swapper};

/// `agent restore load` of what a selector chooses.
fn selecting(stack: &Stack, selector: &str, database: &str) -> Agent {
    loader(stack, "", database).env("ODOOAI_RESTORE_SELECTOR", selector)
}

/// The id that a load tells, and the rest of what it tells.
fn told(agent: &mut Agent) -> (String, Value) {
    let told = ran(agent).expect("Succeeded", "Restored").report["restore"].clone();
    (told["id"].as_str().expect("an id").to_owned(), told)
}

#[test]
fn a_selector_chooses_once() {
    let Some(stack) = Stack::new("a selector") else { return };
    let database = format!("{}-restored", stack.database);
    for selector in ["Latest", "LatestVerified"] {
        ran(&mut selecting(&stack, selector, &database)).expect("Refused", "ArtifactMissing");
    }
    let back_up = |policy: &str| {
        let report = ran(&mut stack.agent().env("ODOOAI_BACKUP_POLICY", policy)).expect("Succeeded", "BackupSucceeded");
        report.report["backup"]["id"].as_str().expect("an id").to_owned()
    };
    stack.sql("CREATE TABLE alembic_version AS SELECT '003' AS version_num");
    let first = back_up("nightly");
    ran(&mut selecting(&stack, "LatestVerified", &database)).expect("Refused", "ArtifactMissing");
    std::fs::write(stack.folder().join(&first).join("verified"), "{}").expect("written");
    stack.sql("CREATE TABLE later AS SELECT generate_series(1, 5)");
    let second = back_up("other");
    let (id, all) = told(&mut selecting(&stack, "LatestVerified", &database));
    let size = stack.server.execute("postgres", &format!("SELECT pg_database_size('{database}')"));
    assert_eq!((&id, &all["alembic"], &all["bytes"].to_string()), (&first, &json!(["003"]), &size[0]));
    // Whatever it would choose now.
    let (id, again) = told(&mut selecting(&stack, "Latest", &database));
    let but_seconds = |told: &Value| {
        let mut told = told.clone();
        told.as_object_mut().expect("an object").remove("seconds");
        told
    };
    assert_eq!((&id, but_seconds(&again)), (&first, but_seconds(&all)));
    assert!(again["seconds"].is_null() && all["seconds"].is_u64());
    // Not what somebody asks for by name.
    ran(&mut loader(&stack, &second, &database)).expect("Refused", "DatabaseExists");
    // Nor what was not ended.
    let mut begun = note(&stack, &database);
    begun["odooaiRestore"]["state"] = json!("Loading");
    stack.server.execute("postgres", &format!("COMMENT ON DATABASE \"{database}\" IS '{begun}'"));
    let (id, all) = told(&mut selecting(&stack, "Latest", &database));
    assert_eq!((&id, &all["rows"]), (&second, &json!(6)));
    // What is gone from the catalogue is still there.
    std::fs::remove_dir_all(stack.folder()).expect("ours");
    let (id, left) = told(&mut selecting(&stack, "Latest", &database));
    assert_eq!((&id, &left["bytes"], &left["tables"]), (&second, &all["bytes"], &Value::Null));
}

#[test]
fn one_backup_is_named_or_chosen() {
    let Some((stack, id, database)) = backed_up("one of both") else { return };
    ran(&mut selecting(&stack, "Latest", &database).env("ODOOAI_RESTORE_ID", &id)).expect("Refused", "ConfigInvalid");
    ran(&mut restorer(&stack, "load", &database)).expect("Refused", "ConfigInvalid");
    ran(&mut selecting(&stack, "Newest", &database)).expect("Refused", "ConfigInvalid");
}

/// What came after a swap stays, whichever Job comes late.
#[test]
fn a_late_job_changes_nothing() {
    let Some((stack, database, kept)) = loaded("late Jobs") else { return };
    let id = stack.good()[0].0.clone();
    let forward =
        |number: u32| ran(&mut swapper(&stack, &database, &kept).env("ODOOAI_RESTORE_SEQUENCE", number.to_string()));
    let undo =
        |number: u32| ran(&mut swapper(&stack, &kept, &database).env("ODOOAI_RESTORE_SEQUENCE", number.to_string()));
    let load = || ran(&mut loader(&stack, &id, &database));
    let live = || is_live(&stack, &stack.database);
    forward(0).expect("Refused", "ConfigInvalid");
    forward(1).expect("Succeeded", "Swapped");
    // It is live now, and needn't be loaded.
    let late = load().expect("Succeeded", "Restored");
    assert_eq!(
        (&late.report["restore"]["database"], &late.report["restore"]["id"]),
        (&json!(stack.database), &json!(id))
    );
    assert!(late.message().contains("already") && !exists(&stack, &database), "{}", late.message());
    undo(2).expect("Succeeded", "Swapped");
    assert_eq!(
        (live(), note(&stack, &stack.database)["odooaiRestore"]["original"].clone()),
        ("1".to_owned(), json!(true))
    );
    let late = forward(1).expect("Refused", "SwapOutdated");
    assert!(late.message().contains("the swap 2"), "{}", late.message());
    assert!(undo(2).expect("Succeeded", "Swapped").message().contains("already"));
    load().expect("Refused", "NoLongerLive");
    assert_eq!((live(), is_live(&stack, &database)), ("1".to_owned(), "0".to_owned()));
    forward(3).expect("Succeeded", "Swapped");
    undo(2).expect("Refused", "SwapOutdated");
    // What an agent noted that didn't count: the first number is greater.
    for (name, state) in [(&stack.database, "Live"), (&kept, "Replaced")] {
        let old = json!({"odooaiRestore": {"owner": owner(&stack), "artifact": id, "state": state}});
        stack.server.execute("postgres", &format!("COMMENT ON DATABASE \"{name}\" IS '{old}'"));
    }
    assert!(forward(1).expect("Succeeded", "Swapped").message().contains("already"));
    assert_eq!((live(), &note(&stack, &kept)["odooaiRestore"]["sequence"]), ("0".to_owned(), &json!(1)));
    // Another Restore took the place since: the one that was live must not come again.
    let other = format!("{database}-2");
    let mut agent = loader(&stack, &id, &other).env("ODOOAI_RESTORE_OWNER", another(&stack));
    ran(&mut agent).expect("Succeeded", "Restored");
    let mut agent = swapper(&stack, &other, &format!("{kept}-2")).env("ODOOAI_RESTORE_OWNER", another(&stack));
    ran(&mut agent).expect("Succeeded", "Swapped");
    load().expect("Refused", "NoLongerLive");
    assert!(!exists(&stack, &database));
}

/// The key of a database's lock.
pub(crate) fn lock_key(database: &str) -> i64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("odooai:{database}"));
    i64::from_be_bytes(*digest.first_chunk::<8>().expect("long enough"))
}

/// While a session of the test's own is open.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

/// `agent restore discard`.
fn discard(stack: &Stack, database: &str) -> crate::catalogue::Ran {
    ran(&mut restorer(stack, "discard", database))
}

#[test]
fn what_was_loaded_goes_and_nothing_else() {
    let Some((stack, database, kept)) = loaded("discard") else { return };
    let run = |sql: String| stack.server.execute("postgres", &sql);
    let gone = |name: &str| {
        let told = discard(&stack, name).expect("Succeeded", "Discarded");
        assert!(!exists(&stack, name), "{}", told.message());
        told.message().to_owned()
    };
    let stays = |name: &str, why: &str| {
        let told = discard(&stack, name).expect("Refused", "DiscardRefused");
        assert!(exists(&stack, name) && told.message().contains(why), "{}", told.message());
    };
    // One that nobody noted anything on, that of another Restore, and the live one.
    run(format!("CREATE DATABASE \"{kept}\""));
    stays(&kept, "not made by this restore");
    run(format!("ALTER DATABASE \"{kept}\" ALLOW_CONNECTIONS false CONNECTION LIMIT {}", mark(&another(&stack))));
    stays(&kept, "not made by this restore");
    run(format!("DROP DATABASE \"{kept}\""));
    stays(&stack.database, "is the live database");
    let foreign = note(&stack, &database).to_string().replace("uid-of", "uid-not-of");
    let own = note(&stack, &database);
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{foreign}'"));
    stays(&database, "of another restore");
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{own}'"));
    // What took a place or left it.
    ran(&mut swapper(&stack, &database, &kept)).expect("Succeeded", "Swapped");
    stays(&kept, "was the live database");
    ran(&mut swapper(&stack, &kept, &database).env("ODOOAI_RESTORE_SEQUENCE", "2")).expect("Succeeded", "Swapped");
    stays(&database, "was the live database");
    assert_eq!((is_live(&stack, &stack.database), is_live(&stack, &database)), ("1".to_owned(), "0".to_owned()));
    // What was loaded, though somebody looks at it; again; what is being loaded; what was begun.
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{own}'"));
    crate::servers::block_on(async {
        let session = stack.server.client("postgres", crate::servers::PASSWORD, &database).await.expect("a session");
        assert!(apart(|| gone(&database)).contains("was dropped"));
        drop(session);
    });
    assert!(gone(&database).contains("there was no database"));
    run(format!("CREATE DATABASE \"{database}\""));
    let loading = own.to_string().replace("Loaded", "Loading");
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{loading}'"));
    assert!(gone(&database).contains("was dropped"));
    let limit = mark(&owner(&stack));
    run(format!("CREATE DATABASE \"{database}\" ALLOW_CONNECTIONS false CONNECTION LIMIT {limit}"));
    assert!(gone(&database).contains("was dropped"));
}

#[test]
fn what_was_set_aside_goes_when_that_is_asked_for() {
    let Some((stack, database, kept)) = loaded("discard what was replaced") else { return };
    let run = |sql: String| stack.server.execute("postgres", &sql);
    let as_word =
        |word: &str, name: &str| ran(&mut restorer(&stack, "discard", name).env("ODOOAI_RESTORE_DISCARD", word));
    let stays = |name: &str, why: &str| {
        let told = as_word("Replaced", name).expect("Refused", "DiscardRefused");
        assert!(exists(&stack, name) && told.message().contains(why), "{}", told.message());
    };
    let told = as_word("Other", &database).expect("Refused", "ConfigInvalid");
    assert!(told.message().contains("ODOOAI_RESTORE_DISCARD"), "{}", told.message());
    // What is being loaded, was, or was begun.
    let own = note(&stack, &database).to_string();
    stays(&database, "never the live database");
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{}'", own.replace("Loaded", "Loading")));
    stays(&database, "never the live database");
    run(format!("COMMENT ON DATABASE \"{database}\" IS '{own}'"));
    let begun = format!("{database}-begun");
    let limit = mark(&owner(&stack));
    run(format!("CREATE DATABASE \"{begun}\" ALLOW_CONNECTIONS false CONNECTION LIMIT {limit}"));
    stays(&begun, "not made by this restore");
    run(format!("DROP DATABASE \"{begun}\""));
    ran(&mut swapper(&stack, &database, &kept)).expect("Succeeded", "Swapped");
    // Somebody else's, and the live one, whatever is noted on it.
    let replaced = note(&stack, &kept).to_string();
    run(format!("COMMENT ON DATABASE \"{kept}\" IS '{}'", replaced.replace("uid-of", "uid-not-of")));
    stays(&kept, "of another restore");
    stays(&stack.database, "is the live database");
    run(format!("COMMENT ON DATABASE \"{}\" IS '{replaced}'", stack.database));
    stays(&stack.database, "is the live database");
    let live = replaced.replace("Replaced", "Live");
    run(format!("COMMENT ON DATABASE \"{kept}\" IS '{live}'"));
    stays(&kept, "took the place");
    run(format!("COMMENT ON DATABASE \"{kept}\" IS '{replaced}'"));
    // By the word alone.
    as_word("Begun", &kept).expect("Refused", "DiscardRefused");
    assert!(exists(&stack, &kept));
    assert!(as_word("Replaced", &kept).expect("Succeeded", "Discarded").message().contains("was dropped"));
    assert!(!exists(&stack, &kept));
    let again = as_word("Replaced", &kept).expect("Succeeded", "Discarded");
    assert!(again.message().contains("there was no database"), "{}", again.message());
    assert_eq!(is_live(&stack, &stack.database), "0");
}

#[test]
fn a_discard_that_is_killed_is_run_again_and_a_load_is_waited_for() {
    let Some((stack, database, _)) = loaded("a killed discard") else { return };
    let id = stack.good()[0].0.clone();
    for millis in [5, 15, 25, 35, 50, 70, 100] {
        let mut agent = restorer(&stack, "discard", &database);
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
        discard(&stack, &database).expect("Succeeded", "Discarded");
        assert!(!exists(&stack, &database), "after {millis} ms");
        ran(&mut loader(&stack, &id, &database)).expect("Succeeded", "Restored");
        assert_eq!(is_live(&stack, &stack.database), "1");
    }
    // Whoever loads holds the lock.
    let key = lock_key(&database);
    crate::servers::block_on(async {
        let session = stack.server.client("postgres", crate::servers::PASSWORD, "postgres").await.expect("a session");
        session.query("SELECT pg_advisory_lock($1)", &[&key]).await.expect("locked");
        let mut agent = restorer(&stack, "discard", &database).env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "2");
        ran(&mut agent).expect("Failed", "TimedOut");
        assert!(apart(|| exists(&stack, &database)));
        let mut agent = restorer(&stack, "discard", &database);
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(500));
        assert!(apart(|| exists(&stack, &database)));
        session.query("SELECT pg_advisory_unlock($1)", &[&key]).await.expect("unlocked");
        assert_eq!(exit_code(&mut child).0, Some(0));
    });
    assert!(!exists(&stack, &database));
}
