//! `agent restore tables` that is ended in the middle: nothing has changed, or all of it.

use std::time::Duration;

use serde_json::json;

use crate::agent::{exit_code, terminate};
use crate::catalogue::{Stack, ran};
use crate::restore::note;
use crate::restore_tables::{as_application, rows, schema, shop, state, tables};
use crate::servers::{PASSWORD, block_on, eventually};

/// All that a run could change.
pub(crate) fn everything(stack: &Stack) -> (String, Vec<Vec<String>>, Vec<String>) {
    let names = ["customers", "orders", "events", "lines", "parent", "audit"];
    let sequences = "SELECT last_value::text || is_called FROM orders_id_seq UNION ALL SELECT last_value::text || is_called FROM events_id_seq";
    (schema(stack), names.map(|name| rows(stack, &stack.database, name)).to_vec(), stack.sql(sequences))
}

/// Rows of `lines` take as many seconds as `gate` says.
fn slow(stack: &Stack) {
    as_application(
        stack,
        "CREATE TABLE gate AS SELECT 30 AS seconds;
         CREATE FUNCTION slow() RETURNS boolean LANGUAGE sql AS
            'SELECT pg_sleep(coalesce((SELECT seconds FROM public.gate), 0))::text IS NOT NULL';
         ALTER TABLE lines ADD CONSTRAINT slow CHECK (slow()) NOT VALID",
    );
}

fn copying(stack: &Stack) -> bool {
    let sql = format!(
        "SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'odooai-restore'
         AND wait_event = 'PgSleep'",
        stack.database
    );
    !stack.server.execute("postgres", &sql).is_empty()
}

#[test]
fn whoever_is_killed_before_the_end_has_changed_nothing() {
    let Some((stack, database)) = shop("tables, killed") else { return };
    as_application(&stack, "DELETE FROM lines; DELETE FROM events");
    slow(&stack);
    let before = everything(&stack);
    let names = "orders,events,lines";
    for signal in ["KILL", "TERM"] {
        let mut agent = tables(&stack, &database, names);
        let mut child = agent.spawn();
        eventually("rows are written", Duration::from_secs(10), || copying(&stack));
        if signal == "KILL" {
            child.kill().expect("ours");
        } else {
            terminate(child.id());
        }
        let code = exit_code(&mut child).0;
        assert_eq!(code, if signal == "KILL" { None } else { Some(143) });
        eventually("the server has noticed", Duration::from_secs(10), || !copying(&stack));
        assert_eq!((everything(&stack), state(&stack, &database)), (before.clone(), json!("Loaded")), "{signal}");
    }
    // Nor who takes too long.
    let mut agent = tables(&stack, &database, names).env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "3");
    ran(&mut agent).expect("Failed", "TimedOut");
    eventually("the server has noticed", Duration::from_secs(10), || !copying(&stack));
    assert_eq!((everything(&stack), state(&stack, &database)), (before, json!("Loaded")));
}

/// One whose node is gone: its locks are free, and its session still works.
#[test]
fn what_somebody_left_in_the_server_is_ended() {
    let Some((stack, database)) = shop("tables, left") else { return };
    as_application(&stack, "DELETE FROM lines");
    slow(&stack);
    let mut agent = tables(&stack, &database, "lines");
    let mut child = agent.spawn();
    eventually("rows are written", Duration::from_secs(10), || copying(&stack));
    let frozen = std::process::Command::new("kill").args(["-STOP", &child.id().to_string()]).status();
    assert!(frozen.expect("kill can be run").success());
    assert_eq!(lose_locks(&stack, &[&stack.database, &database]), 2);
    as_application(&stack, "DELETE FROM gate");
    ran(&mut tables(&stack, &database, "lines")).expect("Succeeded", "TablesRestored");
    child.kill().expect("ours");
    let _ended = exit_code(&mut child);
    assert_eq!(rows(&stack, &stack.database, "lines"), rows(&stack, &database, "lines"));
}

/// Ends the sessions that hold the locks of these databases.
fn lose_locks(stack: &Stack, databases: &[&str]) -> usize {
    let keys: Vec<_> = databases.iter().map(|name| key(name).to_string()).collect();
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'
         AND ((classid::int8 << 32) | objid::int8) IN ({})",
        keys.join(", ")
    );
    stack.server.execute("postgres", &sql).len()
}

/// Somebody else may have it by then.
#[test]
fn who_lost_a_lock_meanwhile_changes_nothing() {
    let Some((stack, database)) = shop("tables without locks") else { return };
    as_application(&stack, "DELETE FROM lines");
    slow(&stack);
    as_application(&stack, "UPDATE gate SET seconds = 2");
    for name in [&stack.database, &database] {
        let mut agent = tables(&stack, &database, "lines");
        let mut child = agent.spawn();
        eventually("rows are written", Duration::from_secs(10), || copying(&stack));
        assert_eq!(lose_locks(&stack, &[name]), 1);
        assert_eq!(exit_code(&mut child).0, Some(1));
        let report = agent.report();
        assert!(report["message"].as_str().is_some_and(|text| text.contains("the lock was lost")), "{report}");
        let there = (rows(&stack, &stack.database, "lines"), state(&stack, &database));
        assert_eq!(there, (Vec::new(), json!("Loaded")));
    }
}

/// Whoever was faster, whatever became of the locks.
#[test]
fn what_somebody_else_did_meanwhile_is_not_done_again() {
    let Some((stack, database)) = shop("tables, done meanwhile") else { return };
    as_application(&stack, "DELETE FROM lines");
    let copied = note(&stack, &database).to_string().replace(r#""Loaded""#, r#""Copied","tables":["lines"]"#);
    let mut agent = tables(&stack, &database, "lines");
    block_on(async {
        let session = stack.server.client("postgres", PASSWORD, &stack.database).await.expect("a session");
        session.batch_execute("BEGIN; LOCK TABLE lines IN ACCESS SHARE MODE").await.expect("locked");
        // A transaction sees the activity of one moment.
        let other = stack.server.client("postgres", PASSWORD, "postgres").await.expect("a session");
        let mut child = agent.spawn();
        let waits = format!(
            "SELECT 1 FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'odooai-restore' AND wait_event_type = 'Lock'",
            stack.database
        );
        let mut tries = 0;
        while other.query(&waits, &[]).await.expect("told").is_empty() {
            tries += 1;
            assert!(tries < 500, "it doesn't wait");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sql = format!("COMMENT ON DATABASE \"{database}\" IS '{copied}'; COMMIT");
        session.batch_execute(&sql).await.expect("noted");
        assert_eq!(exit_code(&mut child).0, Some(0));
    });
    let report = agent.report();
    assert_eq!(report["tables"], json!({"copied": [{"name": "lines", "rows": 1}]}));
    assert_eq!(rows(&stack, &stack.database, "lines"), Vec::<String>::new());
}

/// The key of a database's lock.
pub(crate) fn key(database: &str) -> i64 {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(format!("odooai:{database}"));
    i64::from_be_bytes(*digest.first_chunk::<8>().expect("long enough"))
}

#[test]
fn whoever_is_killed_at_any_moment_has_changed_all_or_nothing() {
    let Some((stack, database)) = shop("tables, killed any time") else { return };
    as_application(&stack, "UPDATE lines SET id = 5; UPDATE parent SET id = 5");
    let live = |table: &str| rows(&stack, &stack.database, table);
    let (old, new) =
        ((live("lines"), live("parent")), (rows(&stack, &database, "lines"), rows(&stack, &database, "parent")));
    let definitions = schema(&stack);
    for millis in [20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 250] {
        let mut agent = tables(&stack, &database, "lines,parent,events,orders");
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
        let is = (live("lines"), live("parent"));
        match state(&stack, &database).as_str() {
            Some("Loaded") => assert_eq!(is, old, "after {millis} ms"),
            _ => assert_eq!(is, new, "after {millis} ms"),
        }
        assert_eq!(schema(&stack), definitions);
    }
    ran(&mut tables(&stack, &database, "lines,parent,events,orders")).expect("Succeeded", "TablesRestored");
    assert_eq!((live("lines"), live("parent")), new);
}
