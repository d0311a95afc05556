//! `agent downgrade` in the newer release's working directory, as a person runs it in a pod.

use sha2::Digest as _;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::plan::{dump, plan};
use crate::sample::{ROLE, Sample, State};
use crate::servers::{PASSWORD, block_on};

const BELOW: &str = "003_phase2_tables";

/// With the environment of an application's pod.
fn agent(sample: &Sample, version: &str, name: &str, arguments: &[&str]) -> Agent {
    let mut agent = sample.command_at("downgrade", sample.server.port, version, name);
    agent.command.args(arguments);
    agent.env("ODOOAI_LOCK_DATABASE", "postgres")
}

/// What it printed; no secret, and nothing for the operator.
#[track_caller]
fn printed(mut agent: Agent, code: i32) -> String {
    let done = agent.output();
    let (out, log) = (text(&done.stdout), text(&done.stderr));
    assert_eq!(done.status.code(), Some(code), "{out}\n{log}");
    for secret in [APP_PASSWORD, "very-secret-key"] {
        assert!(!out.contains(secret) && !log.contains(secret), "{out}\n{log}");
    }
    assert!(!agent.folder.path().join("termination").exists());
    out
}

#[test]
fn down_to_the_older_release_and_no_row_lost_by_mistake() {
    let Some(sample) = Sample::new("downgrade") else { return };
    let name = sample.database(State::Head);
    sample.run("2.0.0", &name).expect("Succeeded", "Upgraded");
    for sql in [
        "INSERT INTO automation_rules (name, automation_type, action_name, last_used_at) VALUES
           ('r', 'CRM', 'a', now()), ('r', 'CRM', 'a', NULL), ('r', 'QUALITY', 'a', NULL)",
        "INSERT INTO rule_usage (rule_id, day) SELECT id, now() FROM automation_rules WHERE name = 'r'",
        "INSERT INTO webhook_events (received_at, event_type, odoo_model, body) VALUES (now(), 'e', 'm', '{}')",
    ] {
        sample.sql(&name, sql);
    }
    let run = |arguments: &[&str], code| printed(agent(&sample, "2.0.0", &name, arguments), code);
    let before = dump(&sample.server, &name);
    let plan_of_it = block_on(async {
        let pod = sample.server.client(ROLE, APP_PASSWORD, &name).await.expect("logged in");
        pod.batch_execute("SET application_name = 'celery'").await.expect("named");
        run(&["--to", BELOW], 0)
    });
    let expected = format!(
        "To bring the database {name} down to 003_phase2_tables, these are undone:
  005_breaking
  004_rule_usage
These disappear:
  table rule_usage (3 rows)
  column automation_rules.last_used_at (1 row with a value)
These enum labels stay, PostgreSQL can't remove one:
  automationtype: QUALITY
Rows that use one, which an older release may not be able to read:
  automation_rules.automation_type 'QUALITY' (1 row)
Warning: these sessions are connected; scale what they belong to down first:
  1 x \"celery\"
Nothing was changed. To do it, make a backup and add --confirm --drop-rows rule_usage,automation_rules.last_used_at
"
    );
    assert_eq!(plan_of_it, expected);

    let refused = run(&["--to", BELOW, "--confirm", "--drop-rows", "rule_usage"], 10);
    let lost = "this would lose column automation_rules.last_used_at (1 row with a value)";
    assert!(refused.contains(lost) && !refused.contains("lose table"), "{refused}");
    assert_eq!(dump(&sample.server, &name), before);

    let done = run(&["--to", BELOW, "--confirm", "--drop-rows", "rule_usage,automation_rules.last_used_at"], 0);
    assert!(done.contains("the schema went from 005_breaking to 003_phase2_tables"), "{done}");
    assert_eq!(sample.sql(&name, "SELECT version_num FROM alembic_version"), [BELOW]);
    assert_eq!(sample.sql(&name, "SELECT payload::text FROM webhook_events"), ["{}"]);
    assert_eq!(plan(&sample, "1.0.0", &name, "UpToDate")["plan"]["needed"], false);
    let again = run(&["--to", BELOW, "--confirm"], 0);
    assert!(again.contains("is at 003_phase2_tables already"), "{again}");
}

#[test]
fn what_is_no_way_down_is_refused() {
    let Some(sample) = Sample::new("no way down") else { return };
    let name = sample.database(State::Head);
    // Has no way down, so what it would lose is unknown.
    sample.revise("1.0.0", "004_oneway", &format!("'{BELOW}'"), "pass");
    let run = |arguments: &[&str], code| printed(agent(&sample, "1.0.0", &name, arguments), code);
    let above = run(&["--to", "004_oneway"], 10);
    assert!(above.contains("004_oneway is above 003_phase2_tables"), "{above}");
    let unknown = run(&["--to", "base"], 10);
    assert!(unknown.contains("does not know the revision base, it knows 001_extend_enum, "), "{unknown}");

    sample.sql(&name, "UPDATE alembic_version SET version_num = '004_oneway'");
    let refused = run(&["--to", BELOW, "--confirm"], 10);
    assert!(refused.contains("lose 004_oneway: unreadable: AttributeError"), "{refused}");
    assert!(refused.ends_with("add --confirm --drop-rows all\n"), "{refused}");
    let failed = run(&["--to", BELOW, "--confirm", "--drop-rows", "all"], 10);
    assert!(failed.contains("alembic downgrade failed") && failed.contains("nothing was changed"), "{failed}");

    let unset = agent(&sample, "1.0.0", &name, &["--to", BELOW]).env("ODOOAI_LOCK_DATABASE", "");
    let unset = printed(unset, 10);
    assert!(unset.contains("ODOOAI_LOCK_DATABASE"), "{unset}");
}

#[test]
fn who_holds_a_lock_is_named() {
    let Some(sample) = Sample::new("blocked downgrade") else { return };
    let name = sample.database(State::Head);
    sample.run("1.1.0", &name).expect("Succeeded", "Upgraded");
    let run =
        |more: &[&str]| printed(agent(&sample, "1.1.0", &name, &[&["--to", BELOW, "--confirm"], more].concat()), 1);
    block_on(async {
        let digest = sha2::Sha256::digest(format!("odooai:{name}"));
        let key = i64::from_be_bytes(*digest.first_chunk().expect("32 bytes"));
        let job = sample.server.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        let take = format!("SET application_name = 'a Job'; SELECT pg_advisory_lock({key})");
        job.batch_execute(&take).await.expect("nobody holds it");
        let told = run(&["--wait-seconds", "1"]);
        assert!(told.contains("the lock is held by pid ") && told.contains("(\"a Job\", role postgres)"), "{told}");
        drop(job);

        let other = sample.server.client(ROLE, APP_PASSWORD, &name).await.expect("logged in");
        let hold = "SET application_name = 'night report'; BEGIN; LOCK TABLE rule_usage IN ACCESS SHARE MODE";
        other.batch_execute(hold).await.expect("the lock");
        let blocked = run(&[]);
        for part in ["alembic downgrade waited 5 s", "(\"night report\", idle in transaction", "nothing was changed"] {
            assert!(blocked.contains(part), "{blocked}");
        }
    });
    assert_eq!(sample.sql(&name, "SELECT version_num FROM alembic_version"), ["004_rule_usage"]);
}
