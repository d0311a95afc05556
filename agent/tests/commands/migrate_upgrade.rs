//! `agent migrate` on the databases of older releases, and what happens when it can't.

use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use crate::agent::{APP_PASSWORD, Agent, exit_code, terminate};
use crate::sample::{ROLE, Sample, State, ran};
use crate::servers::{block_on, eventually};

const HEAD: &str = "003_phase2_tables";
const SLEEPING: &str =
    "SELECT pid::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";

#[test]
fn a_released_database_is_upgraded_and_every_type_works() {
    let Some(sample) = Sample::new("upgrade of a released database") else { return };
    let database = sample.database(State::Released);
    let ran = sample.run("1.0.0", &database).expect("Succeeded", "Upgraded");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    assert_eq!(ran.report["rulesEmpty"], false);
    // The four others are texts in a migrated database, so their types aren't there.
    let repaired = json!({"automationtype": ["MONTH_END", "DEDUPLICATION", "CREDIT_MANAGEMENT", "FORECASTING",
        "REPORTING", "DOCUMENT_PROCESSING", "SUPPLY_CHAIN", "AGENT_WORKFLOW"]});
    assert_eq!(ran.report["repairedLabels"], repaired);
    let drift = ran.report["drift"].to_string();
    assert_eq!(drift.matches("modify_type").count(), 4, "{drift}");
    assert_eq!(drift.matches("add_index").count(), 2, "{drift}");
    assert!(drift.contains("agent_runs.status: VARCHAR(20) -> agentrunstatus"), "{drift}");
    sample.every_type_works("1.0.0", &database);
    assert_eq!(sample.sql(&database, "SELECT count(*) FROM audit_logs"), ["20"]);
}

#[test]
fn from_an_older_revision_over_several_to_a_breaking_one() {
    let Some(sample) = Sample::new("upgrade over several revisions") else { return };
    let database = sample.database(State::Head);
    let upgraded = sample.run("2.0.0", &database).expect("Succeeded", "Upgraded");
    assert!(upgraded.message().contains("from 003_phase2_tables to 005_breaking"), "{}", upgraded.message());
    assert_eq!(upgraded.report["schema"]["current"], json!(["005_breaking"]));
    assert_eq!(upgraded.report["repairedLabels"], json!({"automationtype": ["QUALITY"]}));
    sample.every_type_works("2.0.0", &database);

    let older = sample.run("1.0.0", &database).expect("Refused", "SchemaNewerThanImage");
    assert!(older.message().contains("005_breaking"), "{}", older.message());
    assert_eq!(older.report["schema"]["current"], json!(["005_breaking"]));
}

#[test]
fn two_upgrades_at_once_end_well() {
    let Some(sample) = Sample::new("two upgrades at once") else { return };
    let database = sample.database(State::Released);
    let mut agents = [(); 2].map(|()| sample.agent("1.0.0", &database));
    let children = agents.each_mut().map(Agent::spawn);
    for child in children {
        let done = child.wait_with_output().expect("our child");
        assert_eq!(done.status.code(), Some(0), "{done:?}");
    }
    let mut reasons = agents.each_ref().map(|agent| agent.report()["reason"].to_string());
    reasons.sort();
    assert_eq!(reasons, ["\"AtHead\"", "\"Upgraded\""]);
}

#[test]
fn a_failing_migration_leaves_nothing_and_shows_no_rows() {
    let Some(sample) = Sample::new("failing migration") else { return };
    let database = sample.database(State::Head);
    let ran = sample.run("1.2.0-failing-migration", &database).expect("Refused", "MigrationFailed");
    let message = ran.message();
    assert!(message.contains("relation \"no_such_table\" does not exist"), "{message}");
    assert!(message.contains("nothing was changed"), "{message}");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    let left = "SELECT relname FROM pg_class WHERE relname IN ('half_done', 'rule_usage')";
    assert!(sample.sql(&database, left).is_empty());

    let row = "INSERT INTO audit_logs (timestamp, automation_type, action_name, odoo_model) VALUES (now(), 'CRM', 'a', 'crm.lead')";
    sample.sql(&database, &format!("{row}; {row}"));
    let unique = "op.create_index('u', 'audit_logs', ['odoo_model'], unique=True)";
    sample.revise("1.0.0", "004_unique", "'003_phase2_tables'", unique);
    let ran = sample.run("1.0.0", &database).expect("Refused", "MigrationFailed");
    assert!(ran.message().contains("could not create unique index"), "{}", ran.message());
    assert!(!ran.log.contains("crm.lead") && !ran.message().contains("crm.lead"), "{}", ran.log);

    // The traceback ends with the statement, which is longer than what is kept of it.
    let long = "op.create_table('long', *(sa.Column(f'c{n}', sa.Integer) for n in range(40)),
                sa.ForeignKeyConstraint(['c1'], ['nowhere.id']))";
    std::fs::remove_file(sample.release("1.0.0").join("alembic/versions/004_unique.py")).expect("ours");
    sample.revise("1.0.0", "004_long", "'003_phase2_tables'", long);
    let ran = sample.run("1.0.0", &database).expect("Refused", "MigrationFailed");
    assert!(ran.message().contains("relation \"nowhere\" does not exist"), "{}", ran.message());
}

#[test]
fn whoever_holds_a_lock_is_named() {
    let Some(sample) = Sample::new("blocked migration") else { return };
    let database = sample.database(State::Head);
    block_on(async {
        let other = sample.server.client(ROLE, APP_PASSWORD, &database).await.expect("logged in");
        let held = "SET application_name = 'night report'; BEGIN; LOCK TABLE automation_rules IN ACCESS SHARE MODE";
        other.batch_execute(held).await.expect("the lock");
        let row = other.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid");
        let pid: i32 = row.get(0);
        let question = "SELECT name FROM automation_rules WHERE name = 'Bob' AND id = 12345";
        other.batch_execute(question).await.expect("a query");
        let mut agent = sample.agent("1.1.0", &database);
        let agent = tokio::task::spawn_blocking(move || ran(&mut agent));
        let ran = agent.await.expect("not cancelled").expect("Failed", "MigrationBlocked");
        let message = ran.message();
        for part in [
            &format!("table automation_rules, held by pid {pid} (\"night report\", idle in transaction since 20"),
            "SELECT name FROM automation_rules WHERE name = ? AND id = ?",
            "nothing was changed",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!ran.log.contains("'Bob'") && !message.contains("12345"), "{message}");
    });
}

/// Killed by the kubelet, the agent has no last word, and the server goes on.
#[test]
fn an_upgrade_killed_half_way_is_ended_and_resumed_by_the_next() {
    let Some(sample) = Sample::new("killed upgrade") else { return };
    let database = sample.database(State::Head);
    let mut agent = sample.agent("1.2.0-hanging-migration", &database);
    let mut child = agent.spawn();
    let mut first = Vec::new();
    eventually("the migration hangs", Duration::from_secs(20), || {
        first = sample.sql(&database, SLEEPING);
        !first.is_empty()
    });
    child.kill().expect("our child");
    child.wait().expect("our child");
    let ran = sample.run("1.1.0", &database).expect("Succeeded", "Upgraded");
    assert!(ran.log.contains("an earlier attempt still runs"), "{}", ran.log);
    assert!(sample.sql(&database, SLEEPING).is_empty());
}

#[rstest]
#[case::terminated_by_an_administrator(true)]
#[case::sigterm(false)]
fn an_upgrade_that_is_ended_may_be_tried_again(#[case] by_server: bool) {
    let Some(sample) = Sample::new("ended upgrade") else { return };
    let database = sample.database(State::Head);
    let mut agent = sample.agent("1.2.0-hanging-migration", &database);
    let mut child = agent.spawn();
    eventually("the migration hangs", Duration::from_secs(20), || !sample.sql(&database, SLEEPING).is_empty());
    if by_server {
        sample.sql(&database, &format!("SELECT pg_terminate_backend(pid::int) FROM ({SLEEPING}) AS s"));
        assert_eq!(exit_code(&mut child).0, Some(1));
        let report = agent.report();
        assert_eq!((&report["result"], &report["reason"]), (&json!("Failed"), &json!("MigrationFailed")), "{report}");
        assert_eq!(report["schema"]["current"], json!([HEAD]));
    } else {
        let started = Instant::now();
        terminate(child.id());
        assert_eq!(exit_code(&mut child).0, Some(143));
        assert_eq!(agent.report()["reason"], "Terminated");
        // Its statement would sleep for an hour, with the rules locked.
        eventually("the server gives up", Duration::from_secs(6), || sample.sql(&database, SLEEPING).is_empty());
        assert!(started.elapsed() < Duration::from_secs(8));
    }
}

#[test]
fn two_heads_are_named() {
    let Some(sample) = Sample::new("two heads") else { return };
    let database = sample.database(State::Head);
    sample.revise("1.1.0", "004_other", "'003_phase2_tables'", "pass");
    let ran = sample.run("1.1.0", &database).expect("Refused", "MultipleHeads");
    for part in ["004_rule_usage", "004_other", "merge"] {
        assert!(ran.message().contains(part), "{}", ran.message());
    }
}
