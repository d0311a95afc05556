//! `agent restore load` and `swap`: a backup becomes a database beside the live one and takes its place, or nothing has
//! changed.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, exit_code};
use crate::backup::UNUSUAL;
use crate::catalogue::{Stack, ran};

/// A stack with a backup of unusual things, and a name for what it becomes.
pub(crate) fn backed_up(test: &str) -> Option<(Stack, String, String)> {
    let stack = Stack::new(test)?;
    // As the application made them.
    stack.sql(&format!("SET ROLE \"{}\"; {UNUSUAL}", stack.database));
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let id = stack.good()[0].0.clone();
    let database = format!("{}-restored", stack.database);
    Some((stack, id, database))
}

/// UID of the stack's Restore; no other has it, as in a cluster.
pub(crate) fn owner(stack: &Stack) -> String {
    format!("uid-of-{}", stack.database)
}

/// UID of another Restore: databases of one server are told apart by it, and tests share a server.
pub(crate) fn another(stack: &Stack) -> String {
    format!("uid-2-of-{}", stack.database)
}

/// `agent restore …` for that Restore.
pub(crate) fn restorer(stack: &Stack, command: &str, database: &str) -> Agent {
    let mut agent = stack.agent();
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_agent"));
    program.args(["restore", command]).env_clear();
    program.envs(agent.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    program.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    agent.command = program;
    agent.env("ODOOAI_RESTORE_OWNER", owner(stack)).env("ODOOAI_RESTORE_DATABASE", database)
}

/// `agent restore load` of this backup.
pub(crate) fn loader(stack: &Stack, id: &str, database: &str) -> Agent {
    restorer(stack, "load", database).env("ODOOAI_RESTORE_ID", id).env("ODOOAI_RESTORE_RESERVE_BYTES", "1")
}

/// How a database of this Restore is known before it has its note.
pub(crate) fn mark(owner: &str) -> u32 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(owner);
    1_000_000 + (u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) & 0x00ff_ffff)
}

pub(crate) fn exists(stack: &Stack, database: &str) -> bool {
    let sql = format!("SELECT 1 FROM pg_database WHERE datname = '{database}'");
    !stack.server.execute("postgres", &sql).is_empty()
}

pub(crate) fn note(stack: &Stack, database: &str) -> Value {
    let sql = format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{database}'");
    serde_json::from_str(&stack.server.execute("postgres", &sql)[0]).expect("JSON")
}

/// Who is what in the live database, as far as a restore could change it.
fn fingerprint(stack: &Stack) -> Vec<String> {
    stack.sql(
        "SELECT md5(string_agg(c.oid::text || c.relname || c.relowner || pg_relation_size(c.oid), ',' ORDER BY c.oid))
         FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace <> 'pg_catalog'::regnamespace",
    )
}

#[test]
fn a_backup_becomes_a_database_of_the_application() {
    let Some((stack, id, database)) = backed_up("restore") else { return };
    // What came since is not in it.
    stack.sql("INSERT INTO parent SELECT generate_series(1, 50)");
    let live = fingerprint(&stack);
    let done = ran(&mut loader(&stack, &id, &database)).expect("Succeeded", "Restored");
    let told = &done.report["restore"];
    assert_eq!((&told["id"], &told["database"], &told["tables"]), (&json!(id), &json!(database), &json!(8)));
    assert_eq!((&told["rows"], told["seconds"].is_u64()), (&json!(10), true), "{told}");
    let count = |sql: &str| stack.server.execute(&database, sql);
    assert_eq!(count("SELECT count(*) FROM ONLY parent"), ["1"]);
    let strange = "SELECT count(*) FROM pg_class c WHERE relnamespace <> 'pg_catalog'::regnamespace
        AND relnamespace <> 'information_schema'::regnamespace AND relkind = 'r' AND pg_get_userbyid(relowner) <> ";
    assert_eq!(count(&format!("{strange} '{}'", stack.database)), ["0"], "the application's own, all of it");
    let sorting = |database: &str| {
        let sql = format!("SELECT encoding, datcollate, datctype FROM pg_database WHERE datname = '{database}'");
        stack.server.execute("postgres", &sql)
    };
    assert_eq!(sorting(&database), sorting(&stack.database));
    assert_eq!(note(&stack, &database)["odooaiRestore"]["state"], json!("Loaded"));
    assert_eq!(count("SELECT datallowconn FROM pg_database WHERE datname = current_database()"), ["t"]);
    assert_eq!(fingerprint(&stack), live);
    // Again: it is there, whatever was done with it since.
    count("CREATE TABLE later ()");
    let again = ran(&mut loader(&stack, &id, &database)).expect("Succeeded", "Restored");
    assert!(again.message().contains("already") && again.report["restore"]["seconds"].is_null(), "{}", again.message());
    assert_eq!(count("SELECT count(*) FROM later"), ["0"]);
}

#[test]
fn somebody_elses_database_is_neither_written_nor_dropped() {
    let Some((stack, id, database)) = backed_up("restore over another") else { return };
    stack.server.execute("postgres", &format!("CREATE DATABASE \"{database}\""));
    stack.server.execute(&database, "CREATE TABLE theirs AS SELECT 1 AS id");
    let refused = ran(&mut loader(&stack, &id, &database)).expect("Refused", "DatabaseExists");
    assert!(refused.message().contains(&database), "{}", refused.message());
    // Nor that of another Restore, nor the live one.
    ran(&mut loader(&stack, &id, &stack.database)).expect("Refused", "DatabaseExists");
    let other = format!("{database}-2");
    ran(&mut loader(&stack, &id, &other).env("ODOOAI_RESTORE_OWNER", another(&stack))).expect("Succeeded", "Restored");
    ran(&mut loader(&stack, &id, &other)).expect("Refused", "DatabaseExists");
    assert_eq!(stack.server.execute(&database, "SELECT count(*) FROM theirs"), ["1"]);
}

#[test]
fn what_was_begun_and_killed_is_begun_anew() {
    let Some((stack, _, database)) = backed_up("a killed restore") else { return };
    stack.sql("CREATE TABLE big AS SELECT g AS id, md5(g::text) AS filler FROM generate_series(1, 300000) g");
    stack.sql("CREATE INDEX ON big (filler); CREATE INDEX ON big (id)");
    let id = stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"].clone();
    let id = id.as_str().expect("an id");
    let live = fingerprint(&stack);
    for millis in [30, 150, 300, 600, 900] {
        let mut agent = loader(&stack, id, &database);
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
        assert_eq!(fingerprint(&stack), live, "after {millis} ms");
    }
    // And where it was killed between the database and the note on it.
    let dropped = format!("DROP DATABASE IF EXISTS \"{database}\" WITH (FORCE)");
    stack.server.execute("postgres", &dropped);
    // Somebody else's that is closed isn't.
    stack.server.execute("postgres", &format!("CREATE DATABASE \"{database}\" ALLOW_CONNECTIONS false"));
    ran(&mut loader(&stack, id, &database)).expect("Refused", "DatabaseExists");
    stack
        .server
        .execute("postgres", &format!("ALTER DATABASE \"{database}\" CONNECTION LIMIT {}", mark(&owner(&stack))));
    ran(&mut loader(&stack, id, &database)).expect("Succeeded", "Restored");
    assert_eq!(stack.server.execute(&database, "SELECT count(*) FROM big"), ["300000"]);
    assert_eq!(fingerprint(&stack), live);
}

/// Nothing is left of what is not what it should be.
#[rstest]
fn a_damaged_backup_becomes_nothing(#[values("1", "2")] jobs: &str) {
    let Some((stack, id, database)) = backed_up("a damaged backup") else { return };
    let folder = stack.folder().join(&id);
    let (dump, manifest) =
        (std::fs::read(folder.join("dump")).expect("there"), std::fs::read(folder.join("manifest")).expect("there"));
    let load = || loader(&stack, &id, &database).env("ODOOAI_RESTORE_JOBS", jobs);
    let attempt = |result: &str, reason: &str| {
        let told = ran(&mut load()).expect(result, reason);
        assert!(!exists(&stack, &database), "{}", told.message());
        told.message().to_owned()
    };
    for place in [dump.len() / 3, dump.len() / 2, dump.len() - 1] {
        let mut flipped = dump.clone();
        flipped[place] ^= 0x10;
        std::fs::write(folder.join("dump"), &flipped).expect("written");
        let done = ran(&mut load());
        assert_ne!(done.report["result"], "Succeeded", "a byte at {place}: {}", done.report);
        assert!(!exists(&stack, &database), "{}", done.report);
    }
    std::fs::write(folder.join("dump"), &dump[..dump.len() - 1]).expect("written");
    attempt("Refused", "ArtifactDamaged");
    std::fs::write(folder.join("dump"), &dump).expect("written");
    let mut other: Value = serde_json::from_slice(&manifest).expect("JSON");
    other["tables"]["public.empty"] = json!(1);
    std::fs::write(folder.join("manifest"), other.to_string()).expect("written");
    let rows = attempt("Refused", "VerificationFailed");
    assert!(rows.contains("public.empty has 0 rows instead of 1"), "{rows}");
    other = serde_json::from_slice(&manifest).expect("JSON");
    other["serverVersion"] = json!(990_001);
    std::fs::write(folder.join("manifest"), other.to_string()).expect("written");
    let newer = attempt("Refused", "PostgresVersionMismatch");
    assert!(newer.contains("is of PostgreSQL 99"), "{newer}");
    std::fs::write(folder.join("manifest"), &manifest).expect("written");
    ran(&mut loader(&stack, "20260101t000000z-aaaaaa", &database)).expect("Refused", "ArtifactMissing");
    ran(&mut loader(&stack, &id, &database)).expect("Succeeded", "Restored");
}

/// The live database is on the same disk.
#[test]
fn without_room_nothing_is_begun() {
    let Some((stack, id, database)) = backed_up("a restore without room") else { return };
    let all = (u64::MAX / 4).to_string();
    let told = ran(&mut loader(&stack, &id, &database).env("ODOOAI_RESTORE_RESERVE_BYTES", all));
    let told = told.expect("Failed", "StorageFull");
    assert!(told.message().contains("the restored database may need"), "{}", told.message());
    assert!(!exists(&stack, &database));
}

/// `agent restore swap`: this database becomes the live one, which is kept under another name.
pub(crate) fn swapper(stack: &Stack, database: &str, kept: &str) -> Agent {
    restorer(stack, "swap", database).env("ODOOAI_RESTORE_REPLACED", kept)
}

/// A live database with 1 in it, and a loaded one with 0.
pub(crate) fn loaded(test: &str) -> Option<(Stack, String, String)> {
    let stack = Stack::new(test)?;
    stack.sql(&format!("SET ROLE \"{}\"; CREATE TABLE t AS SELECT 0 AS is_live", stack.database));
    let id = stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"].clone();
    stack.sql("UPDATE t SET is_live = 1");
    let (database, kept) = (format!("{}-restored", stack.database), format!("{}-kept", stack.database));
    ran(&mut loader(&stack, id.as_str().expect("an id"), &database)).expect("Succeeded", "Restored");
    Some((stack, database, kept))
}

pub(crate) fn is_live(stack: &Stack, database: &str) -> String {
    stack.server.execute(database, "SELECT is_live FROM t")[0].clone()
}

#[test]
fn two_databases_change_places_and_back() {
    let Some((stack, database, kept)) = loaded("a swap") else { return };
    let live = stack.database.clone();
    let done = ran(&mut swapper(&stack, &database, &kept)).expect("Succeeded", "Swapped");
    assert!(done.report["swap"]["millis"].is_u64(), "{}", done.report);
    assert!(done.report["swap"]["bytes"].as_i64() > Some(1_000_000), "{}", done.report);
    assert_eq!(
        (is_live(&stack, &live), is_live(&stack, &kept), exists(&stack, &database)),
        ("0".to_owned(), "1".to_owned(), false)
    );
    assert_eq!(note(&stack, &live)["odooaiRestore"]["state"], json!("Live"));
    assert_eq!(note(&stack, &kept)["odooaiRestore"]["state"], json!("Replaced"));
    // Again: it is so.
    let again = ran(&mut swapper(&stack, &database, &kept)).expect("Succeeded", "Swapped");
    assert!(again.report["swap"]["millis"].is_null() && again.message().contains("already"), "{}", again.report);
    // The same way back.
    ran(&mut swapper(&stack, &kept, &database).env("ODOOAI_RESTORE_SEQUENCE", "2")).expect("Succeeded", "Swapped");
    assert_eq!(
        (is_live(&stack, &live), is_live(&stack, &database), exists(&stack, &kept)),
        ("1".to_owned(), "0".to_owned(), false)
    );
    // And forth once more.
    ran(&mut swapper(&stack, &database, &kept).env("ODOOAI_RESTORE_SEQUENCE", "3")).expect("Succeeded", "Swapped");
    assert_eq!(is_live(&stack, &live), "0");
}

/// Who is logged in is logged out; who comes again and again comes to the new one.
#[test]
fn whoever_is_logged_in_keeps_nobody_waiting() {
    let Some((stack, database, kept)) = loaded("a busy swap") else { return };
    let done = std::sync::atomic::AtomicBool::new(false);
    let (connects, seen) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let (mut connects, mut seen) = (0, Vec::new());
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let sql = "SELECT pg_sleep(0.05), is_live FROM t";
                        if let Ok(rows) = stack.server.try_execute(&stack.database, "SELECT is_live FROM t") {
                            seen.extend(rows);
                        }
                        let _slow = stack.server.try_execute(&stack.database, sql);
                        connects += 1;
                    }
                    (connects, seen)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        let swapped = ran(&mut swapper(&stack, &database, &kept));
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let all: Vec<(usize, Vec<String>)> = clients.into_iter().map(|it| it.join().expect("a client")).collect();
        swapped.expect("Succeeded", "Swapped");
        (all.iter().map(|it| it.0).sum::<usize>(), all.into_iter().map(|it| it.1).collect::<Vec<_>>())
    });
    assert!(connects > 10, "nobody was there");
    for seen in seen {
        // First the old one, then the new one, and never back.
        assert!(seen.windows(2).all(|two| two[0] >= two[1]), "{seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("0"));
    }
}

#[test]
fn a_swap_that_is_killed_is_done_or_not() {
    let Some((stack, database, kept)) = loaded("a killed swap") else { return };
    for millis in [5, 15, 25, 35, 50, 70, 100] {
        let mut agent = swapper(&stack, &database, &kept);
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
        let (live, there, gone) = (is_live(&stack, &stack.database), exists(&stack, &database), exists(&stack, &kept));
        assert!(
            [("1", true, false), ("0", false, true)].contains(&(live.as_str(), there, gone)),
            "{live} {there} {gone}"
        );
    }
    ran(&mut swapper(&stack, &database, &kept)).expect("Succeeded", "Swapped");
    assert_eq!((is_live(&stack, &stack.database), is_live(&stack, &kept)), ("0".to_owned(), "1".to_owned()));
}

#[test]
fn only_what_was_loaded_takes_the_place() {
    let Some((stack, database, kept)) = loaded("a wrong swap") else { return };
    let refused = |agent: &mut Agent, reason: &str| {
        ran(agent).expect("Refused", reason);
        assert_eq!((is_live(&stack, &stack.database), is_live(&stack, &database)), ("1".to_owned(), "0".to_owned()));
    };
    refused(&mut swapper(&stack, &database, &kept).env("ODOOAI_RESTORE_OWNER", another(&stack)), "DatabaseNotLoaded");
    refused(&mut swapper(&stack, "nowhere", &kept), "DatabaseNotLoaded");
    refused(&mut swapper(&stack, &database, "postgres"), "DatabaseExists");
    let long = "x".repeat(64);
    refused(&mut swapper(&stack, &database, &long), "ConfigInvalid");
    refused(&mut swapper(&stack, &database, &kept).env("ODOOAI_LOCK_DATABASE", &stack.database), "RenameNotPossible");
}

/// Somebody else's server: the role may do what it may.
#[test]
fn what_the_role_may_not_do_is_told_and_nothing_has_changed() {
    let Some((stack, database, kept)) = loaded("an external swap") else { return };
    let external = || {
        swapper(&stack, &database, &kept)
            .env("ODOOAI_DATABASE_ADMIN_USER", "")
            .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "")
            .env("ODOOAI_LOCK_DATABASE", "postgres")
    };
    let told = ran(&mut external()).expect("Refused", "RenameNotPossible");
    assert!(told.message().contains("may not rename"), "{}", told.message());
    stack.server.execute("postgres", &format!("ALTER ROLE \"{}\" CREATEDB", stack.database));
    // A superuser is in it, whom this role can't log out.
    let told = crate::servers::block_on(async {
        let session =
            stack.server.client("postgres", crate::servers::PASSWORD, &stack.database).await.expect("a session");
        let told = ran(&mut external());
        drop(session);
        told
    });
    let told = told.expect("Refused", "DatabaseInUse");
    assert!(told.message().contains("role postgres"), "{}", told.message());
    assert_eq!((is_live(&stack, &stack.database), is_live(&stack, &database)), ("1".to_owned(), "0".to_owned()));
    ran(&mut external()).expect("Succeeded", "Swapped");
    assert_eq!(is_live(&stack, &stack.database), "0");
}

/// Before a database is made, and long before the application would be stopped for it.
#[test]
fn rights_that_are_missing_are_told_before_anything_is_made() {
    let Some((stack, id, database)) = backed_up("an external load") else { return };
    let external = || {
        loader(&stack, &id, &database)
            .env("ODOOAI_DATABASE_ADMIN_USER", "")
            .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "")
            .env("ODOOAI_LOCK_DATABASE", "postgres")
    };
    let in_place = || external().env("ODOOAI_RESTORE_REPLACED", format!("{database}-kept"));
    let run = |sql: &str| stack.server.execute("postgres", &sql.replace("ROLE", &format!("\"{}\"", stack.database)));
    let told = ran(&mut external()).expect("Refused", "RightsMissing");
    assert!(told.message().contains("CREATEDB"), "{}", told.message());
    ran(&mut in_place()).expect("Refused", "RenameNotPossible");
    run("ALTER USER ROLE CREATEDB");
    run("ALTER DATABASE ROLE OWNER TO postgres");
    let told = ran(&mut in_place()).expect("Refused", "RenameNotPossible");
    assert!(told.message().contains("OWNER TO") && !told.message().contains("CREATEDB"), "{}", told.message());
    assert!(!exists(&stack, &database));
    run("ALTER DATABASE ROLE OWNER TO ROLE");
    ran(&mut in_place()).expect("Succeeded", "Restored");
}
