//! Faults of `agent backup`: never a false success, never fewer good backups.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::agent::{Agent, exit_code, terminate};
use crate::catalogue::{Stack, ran};
use crate::servers::tmpfs::Tmpfs;
use crate::servers::{Postgres, block_on, eventually, newest_binaries, skip};

const ROWS: &str =
    "CREATE TABLE t AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS filler FROM generate_series(1, 60000) g";

/// A stack with rows and one good backup.
fn backed_up(test: &str) -> Option<(Stack, String)> {
    let stack = Stack::new(test)?;
    stack.sql(ROWS);
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let id = stack.good()[0].0.clone();
    Some((stack, id))
}

/// A folder with a program that comes before the real one.
pub(crate) fn instead(program: &str, script: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(program);
    let real = newest_binaries().expect("programs").join(program);
    std::fs::write(&path, format!("#!/bin/bash\nreal={}\n{script}\n", real.display())).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder
}

pub(crate) fn with(agent: Agent, folder: &Path) -> Agent {
    let binaries = newest_binaries().expect("programs");
    agent.env("PATH", format!("{}:{}:/usr/bin:/bin", folder.display(), binaries.display()))
}

/// The program ends well, and what it wrote is cut: it is read back before it counts.
#[test]
fn a_dump_that_is_cut_is_no_backup() {
    let Some((stack, id)) = backed_up("a cut dump") else { return };
    let whole = Command::new(newest_binaries().expect("programs").join("pg_dump"))
        .args(["--format=custom", "--compress=0", "--host=127.0.0.1", "--username=postgres"])
        .args([&format!("--port={}", stack.server.port), &stack.database])
        .env("PGPASSWORD", crate::servers::PASSWORD)
        .output()
        .expect("pg_dump can be run");
    let bytes = whole.stdout.len();
    for tenth in 0..10 {
        let cut = bytes * tenth / 10;
        let script = format!("[[ $* == *--version* ]] && exec $real \"$@\"; $real \"$@\" | head -c {cut}; exit 0");
        let folder = instead("pg_dump", &script);
        let failed = ran(&mut with(stack.agent(), folder.path())).expect("Failed", "DumpFailed");
        assert!(failed.message().contains("pg_restore"), "{}", failed.message());
        assert_eq!(stack.names(), [id.as_str(), "owner.json"], "cut after {tenth} tenths");
    }
    // Even the last byte.
    let script = format!("[[ $* == *--version* ]] && exec $real \"$@\"; $real \"$@\" | head -c {}; exit 0", bytes - 1);
    let folder = instead("pg_dump", &script);
    let last = ran(&mut with(stack.agent(), folder.path()));
    assert_eq!(last.report["result"], "Failed", "{}", last.report);
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    assert_eq!(stack.good().len(), 2);
}

#[test]
fn a_program_that_fails_or_is_another_version_is_told() {
    let Some((stack, id)) = backed_up("programs") else { return };
    // Two of them: the new one alone could make one too many.
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let before = stack.names();
    assert!(before.contains(&id) && before.len() == 3);
    let agent = || stack.agent().env("ODOOAI_BACKUP_KEEP_LAST", "1");
    let version = "[[ $* == *--version* ]] && exec $real \"$@\"";
    for (program, script, result, reason, part) in [
        ("pg_dump", &*format!("{version}; echo broken >&2; exit 3"), "Failed", "DumpFailed", "broken"),
        ("pg_dump", "echo 'pg_dump (PostgreSQL) 9.6.1'", "Refused", "PostgresVersionMismatch", "job.image"),
        ("pg_dump", "echo nothing", "Failed", "ImageInvalid", "nothing"),
        ("pg_restore", "cat >/dev/null; exit 1", "Failed", "DumpFailed", "pg_restore"),
        // It ends before it has read anything.
        ("pg_restore", "exit 1", "Failed", "DumpFailed", "pg_restore"),
    ] {
        let folder = instead(program, script);
        let failed = ran(&mut with(agent(), folder.path())).expect(result, reason);
        assert!(failed.message().contains(part), "{}", failed.message());
        assert_eq!(stack.names(), before);
    }
    let failed = ran(&mut stack.agent().env("PATH", "/nowhere")).expect("Failed", "ProcessNotStarted");
    assert!(failed.message().contains("pg_dump"), "{}", failed.message());
}

/// Killed at any moment, the next run makes a good one, and what was good stays.
#[test]
fn a_run_that_is_killed_leaves_nothing_that_counts() {
    let Some((stack, first)) = backed_up("killed") else { return };
    let began = Instant::now();
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let whole = began.elapsed();
    let mut unfinished = 0;
    for step in 0..16_u32 {
        let mut agent = stack.agent();
        let mut child = agent.spawn();
        std::thread::sleep(whole * step / 15);
        let before = stack.good();
        if step % 2 == 0 {
            child.kill().expect("ours");
        } else {
            terminate(child.id());
        }
        let _ended = exit_code(&mut child);
        let after = stack.good();
        assert!(before.iter().all(|it| after.contains(it)), "step {step}");
        unfinished += usize::from(stack.names().len() > after.len() + 1);
    }
    assert!(unfinished > 0, "no run was killed in the middle");
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let good = stack.good();
    assert_eq!(stack.names().len(), good.len() + 1, "what they left is gone");
    assert!(good.iter().any(|it| it.0 == first));
    stack.restore(&good.last().expect("one").0);
}

#[test]
fn a_server_that_dies_in_the_middle_is_told() {
    let Some(server) = Postgres::start_plain() else { return skip("a dead server", "no PostgreSQL here") };
    let stack = Stack::on(Arc::new(server));
    stack.sql(ROWS);
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let slow = instead("pg_dump", "[[ $* == *--version* ]] && exec $real \"$@\"; sleep 1; exec $real \"$@\"");
    let mut agent = with(stack.agent(), slow.path());
    let mut child = agent.spawn();
    std::thread::sleep(Duration::from_millis(700));
    stack.server.kill();
    let (code, _) = exit_code(&mut child);
    assert_eq!((code, agent.report()["result"].as_str()), (Some(1), Some("Failed")), "{}", agent.report());
    assert_eq!(stack.good().len(), 1);
    assert_eq!(stack.names().len(), 2);
}

/// On a file system of a fixed size, which needs root.
#[test]
fn a_volume_that_is_full_is_told() {
    let Some((mut stack, _)) = backed_up("a full volume") else { return };
    stack.sql("INSERT INTO t SELECT g, md5(random()::text) || md5(random()::text) FROM generate_series(1, 200000) g");
    let small = tempfile::tempdir().expect("a temporary folder");
    let Some(_mounted) = Tmpfs::mount(small.path(), "4m") else {
        return skip("a full volume", "file systems can't be mounted here");
    };
    let whole = std::mem::replace(&mut stack.volume, tempfile::tempdir().expect("a temporary folder"));
    let agent = || stack.agent().env("ODOOAI_BACKUP_VOLUME", small.path());
    let told = ran(&mut agent()).expect("Failed", "StorageFull");
    assert!(told.message().contains("bytes left"), "before it begins: {}", told.message());
    // What it says it needs is too little: a manifest that promises a small dump.
    let folder = small.path().join("ns/stack");
    let (id, manifest) = Stack { volume: whole, ..Stack::on(Arc::clone(&stack.server)) }.good().remove(0);
    let mut manifest = manifest;
    (manifest["bytes"], manifest["databaseBytes"]) = (4.into(), 1_000_000_000_000_u64.into());
    std::fs::create_dir_all(folder.join(&id)).expect("made");
    std::fs::write(folder.join(&id).join("dump"), "good").expect("written");
    std::fs::write(folder.join(&id).join("manifest"), manifest.to_string()).expect("written");
    let told = ran(&mut agent()).expect("Failed", "StorageFull");
    assert!(told.message().contains("store the dump"), "in the middle: {}", told.message());
    let left = std::fs::read_dir(&folder).expect("there").count();
    assert_eq!(left, 2, "the good one and its owner");
}

#[test]
fn a_table_that_somebody_locks_is_waited_for_a_while() {
    let Some((stack, id)) = backed_up("a locked table") else { return };
    let began = Instant::now();
    let failed = block_on(async {
        let client =
            stack.server.client("postgres", crate::servers::PASSWORD, &stack.database).await.expect("a session");
        let held = "SET application_name = 'night report'; BEGIN; LOCK TABLE t; SELECT 'Bob'";
        client.batch_execute(held).await.expect("locked");
        let mut agent = stack.agent().env("ODOOAI_BACKUP_LOCK_SECONDS", "2");
        tokio::task::spawn_blocking(move || ran(&mut agent)).await.expect("no panic")
    });
    let failed = failed.expect("Failed", "TableLocked");
    for part in ["table t, held by pid ", "(\"night report\", idle in transaction since 20", "LOCK TABLE t; SELECT ?"] {
        assert!(failed.message().contains(part), "{part}: {}", failed.message());
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(stack.names(), [id.as_str(), "owner.json"]);
}

/// As of a swap of two databases.
#[test]
fn a_database_that_has_no_name_for_a_moment_is_looked_for_once_more() {
    let Some((stack, _)) = backed_up("no name for a moment") else { return };
    let live = &stack.database;
    let external = || {
        stack
            .agent()
            .env("ODOOAI_DATABASE_ADMIN_USER", "")
            .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "")
            .env("ODOOAI_LOCK_DATABASE", "postgres")
    };
    let missed = || stack.server.log().matches(&format!("database \"{live}\" does not exist")).count();
    stack.sql(&format!("ALTER TABLE t OWNER TO \"{live}\""));
    for (at, mut agent) in [stack.agent(), external()].into_iter().enumerate() {
        stack.server.execute("postgres", &format!("ALTER DATABASE \"{live}\" RENAME TO \"{live}-away\""));
        let mut child = agent.spawn();
        eventually("it was missed", Duration::from_secs(10), || missed() > at);
        stack.server.execute("postgres", &format!("ALTER DATABASE \"{live}-away\" RENAME TO \"{live}\""));
        let (code, _) = exit_code(&mut child);
        assert_eq!(code, Some(0), "{}", agent.report());
    }
    // One that stays away is missed twice, and told.
    stack.server.execute("postgres", &format!("ALTER DATABASE \"{live}\" RENAME TO \"{live}-away\""));
    ran(&mut external()).expect("Refused", "DatabaseMissing");
    assert_eq!(missed(), 4);
}

#[test]
fn a_run_that_takes_too_long_ends() {
    let Some((stack, id)) = backed_up("too long") else { return };
    let slow = instead("pg_dump", "[[ $* == *--version* ]] && exec $real \"$@\"; sleep 60");
    let began = Instant::now();
    let failed = ran(&mut with(stack.agent(), slow.path()).env("ODOOAI_BACKUP_TIMEOUT_SECONDS", "2"));
    assert!(began.elapsed() < Duration::from_secs(15));
    failed.expect("Failed", "TimedOut");
    assert_eq!(stack.good().len(), 1);
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    assert!(stack.names().contains(&id) && stack.names().len() == 3, "what it left is gone");
}

/// As many as the server has locks for, and more.
#[test]
#[ignore = "full tier"]
fn ten_thousand_tables_are_one_backup() {
    let Some(stack) = Stack::new("ten thousand tables") else { return };
    for part in 0..20 {
        let tables = (0..500).map(|table| format!("CREATE TABLE t{part}_{table} (id int)"));
        stack.sql(&tables.collect::<Vec<_>>().join(";"));
    }
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    assert_eq!(stack.good()[0].1["tables"].as_object().expect("tables").len(), 10_000);
}
