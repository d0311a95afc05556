use serde_json::{Value, json};

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::sample::{Sample, make_database, make_released};
use crate::servers::{PASSWORD, Postgres, block_on, skip};

/// Everything that a statement could have changed: with `xmin`, a row that was written again shows too.
fn dump(server: &Postgres, name: &str) -> Vec<String> {
    let mut rows = server.execute(
        name,
        "SELECT concat_ws(' ', xmin, oid, relname, relfilenode, relacl) FROM pg_class
         UNION ALL SELECT concat_ws(' ', xmin, oid, enumlabel) FROM pg_enum
         UNION ALL SELECT concat_ws(' ', xmin, oid, nspname) FROM pg_namespace
         UNION ALL SELECT concat_ws(' ', oid, datname, pg_get_userbyid(datdba)) FROM pg_database WHERE datname = current_database()
         UNION ALL SELECT concat_ws(' ', oid, rolname, rolpassword) FROM pg_authid WHERE rolname = current_database()
         ORDER BY 1",
    );
    for table in ["alembic_version", "automation_rules"] {
        let text = format!("SELECT concat_ws(' ', t.xmin, t) FROM {table} t ORDER BY 1");
        rows.extend(server.try_execute(name, &text).unwrap_or_default());
    }
    rows
}

/// Runs a plan; the exit code, the report and everything that was printed.
fn planned(agent: &mut Agent) -> (Option<i32>, Value, String) {
    let done = agent.output();
    let report = agent.report();
    let all = format!("{}{}{report}", text(&done.stdout), text(&done.stderr));
    assert!(!all.contains(APP_PASSWORD) && !all.contains(PASSWORD) && !all.contains("very-secret-key"), "{all}");
    assert_eq!(report["command"], "plan");
    (done.status.code(), report, all)
}

/// A plan that succeeds and changes nothing.
fn plan(sample: &Sample, server: &Postgres, name: &str) -> Value {
    let before = dump(server, name);
    let (code, report, all) = planned(&mut sample.agent("plan", server, name));
    assert_eq!(code, Some(0), "{all}");
    assert_eq!(report["result"], "Succeeded");
    assert_eq!(dump(server, name), before);
    report
}

/// The pending revisions, each with its verdict.
fn pending(report: &Value) -> Vec<(&str, bool)> {
    let pending = report["plan"]["pending"].as_array().expect("a list");
    pending.iter().map(|one| (one["revision"].as_str().expect("text"), one["additive"] == true)).collect()
}

/// `migrate` ends where the plan said.
fn migrate(sample: &Sample, server: &Postgres, name: &str) -> Value {
    let mut agent = sample.agent("migrate", server, name);
    let done = agent.output();
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stdout));
    agent.report()
}

#[test]
fn what_is_not_there_is_not_made() {
    let Some(server) = Postgres::shared() else {
        return skip("plan without a database", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan without a database", "1.0.0") else { return };
    let name = server.fresh_name();
    let there = format!(
        "SELECT rolname::text FROM pg_roles WHERE rolname = '{name}'
         UNION ALL SELECT datname::text FROM pg_database WHERE datname = '{name}'"
    );
    for (statement, left) in [("SELECT 1".to_owned(), 0), (format!("CREATE DATABASE \"{name}\""), 1)] {
        server.execute("postgres", &statement);
        let (code, report, all) = planned(&mut sample.agent("plan", &server, &name));
        assert_eq!(code, Some(0), "{all}");
        assert_eq!(report["reason"], "Bootstrap");
        assert_eq!(report["plan"], json!({"needed": true, "pending": [], "missingLabels": {}}));
        assert_eq!(report["schema"]["heads"], json!(["003_phase2_tables"]));
        assert_eq!(report["schema"]["current"], json!([]));
        assert_eq!(report["rulesEmpty"], true);
        assert_eq!(report["enumLabels"]["automationtype"].as_array().map(Vec::len), Some(19));
        assert_eq!(report["enumLabels"].as_object().map(serde_json::Map::len), Some(6));
        assert!(report.get("incarnation").is_none());
        assert_eq!(server.execute("postgres", &there).len(), left);
    }
    let mut external = sample.external("plan", &server, &name);
    let (code, report, _) = planned(&mut external);
    assert_eq!((code, &report["reason"]), (Some(10), &json!("CredentialsRejected")));
}

#[test]
fn an_empty_database_is_told_from_one_at_the_head() {
    let Some(server) = Postgres::shared() else {
        return skip("plan of a first install", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan of a first install", "1.0.0") else { return };
    let name = make_database(&server);
    let (code, report, all) = planned(&mut sample.external("plan", &server, &name));
    assert_eq!((code, &report["reason"]), (Some(0), &json!("Bootstrap")), "{all}");
    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "Bootstrap");
    assert!(report["databaseBytes"].as_i64().is_some_and(|bytes| bytes > 1_000_000));
    assert_eq!(migrate(&sample, &server, &name)["reason"], "Bootstrapped");

    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "UpToDate");
    assert_eq!(report["plan"], json!({"needed": false, "pending": [], "missingLabels": {}}));
    assert_eq!(report["schema"]["current"], json!(["003_phase2_tables"]));
    assert_eq!(report["incarnation"], migrate(&sample, &server, &name)["incarnation"]);

    let next = Sample::install("plan of a first install", "2.0.0").expect("as before");
    let report = plan(&next, &server, &name);
    assert_eq!(report["reason"], "Pending");
    assert_eq!(pending(&report), [("004_rule_usage", true), ("005_breaking", false)]);
    let why = "RENAME COLUMN webhook_events.payload: older releases use the old name";
    assert_eq!(report["plan"]["pending"][1]["why"], why);
    assert_eq!(report["plan"]["missingLabels"], json!({"automationtype": ["QUALITY"]}));
    assert_eq!(migrate(&next, &server, &name)["schema"]["current"], json!(["005_breaking"]));
    assert_eq!(plan(&next, &server, &name)["plan"]["needed"], false);

    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "NewerThanImage");
    assert_eq!(report["plan"], json!({"needed": false, "pending": [], "missingLabels": {}}));
}

#[test]
fn at_001_the_rest_is_pending_and_labels_are_missing() {
    let Some(server) = Postgres::shared() else {
        return skip("plan at 001", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan at 001", "1.1.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["upgrade", "001_extend_enum"]);
    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "Pending");
    let revisions = [("002_phase1_tables", true), ("003_phase2_tables", true), ("004_rule_usage", true)];
    assert_eq!(pending(&report), revisions);
    assert!(report["plan"].get("stamp").is_none());
    let missing = report["plan"]["missingLabels"]["automationtype"].as_array().expect("a list");
    assert!(missing.contains(&json!("MONTH_END")) && missing.contains(&json!("SUPPLY_CHAIN")) && missing.len() == 8);
    assert_eq!(report["rulesEmpty"], false);

    let done = migrate(&sample, &server, &name);
    assert_eq!(done["schema"]["current"], json!([revisions[2].0]));
    assert_eq!(plan(&sample, &server, &name)["plan"]["needed"], false);
}

#[test]
fn labels_alone_are_a_reason_to_migrate() {
    let Some(server) = Postgres::shared() else {
        return skip("plan of labels", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan of labels", "1.0.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["upgrade", "head"]);
    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "Pending");
    assert_eq!(report["plan"]["needed"], true);
    assert_eq!(pending(&report), []);
    assert_eq!(report["plan"]["missingLabels"]["automationtype"].as_array().map(Vec::len), Some(8));
    assert_eq!(migrate(&sample, &server, &name)["reason"], "EnumRepaired");
    assert_eq!(plan(&sample, &server, &name)["reason"], "UpToDate");

    sample.put("app/models/__init__.py", "raise RuntimeError('no models for ' + __name__)");
    let report = plan(&sample, &server, &name);
    assert_eq!(report["reason"], "UpToDate");
    assert!(report.get("enumLabels").is_none());
    let message = report["message"].as_str().expect("text");
    assert!(
        message.contains("warning: enum labels were not looked at") && message.contains("no models for"),
        "{message}"
    );
}

#[test]
fn what_cannot_be_printed_is_not_additive_and_writes_nothing() {
    let Some(server) = Postgres::shared() else {
        return skip("plan of unreadable SQL", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan of unreadable SQL", "1.0.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["stamp", "head"]);
    let every: String = (' '..='~').chain("äß€🦀".chars()).collect();
    let quoted = every.replace('\'', "''");
    server.execute("postgres", &format!("ALTER ROLE \"{name}\" PASSWORD '{quoted}'"));
    sample.revise("004_asks", "'003_phase2_tables'", "op.get_bind().execute(sa.text('SELECT 1')).fetchall()");
    sample.revise("005_block", "'004_asks'", "op.execute('DO $$ BEGIN DELETE FROM automation_rules; END $$')");
    sample.revise(
        "006_writes",
        "'005_block'",
        "with sa.create_engine(os.environ['AI_DATABASE_URL']).begin() as own:\n    \
         own.execute(sa.text('DELETE FROM automation_rules'))",
    );
    sample.revise("007_secret", "'006_writes'", "raise RuntimeError('no luck', os.environ['PGPASSWORD'])");
    sample.revise(
        "008_quotes",
        "'007_secret'",
        "op.execute(sa.insert(sa.table('automation_rules', sa.column('name', sa.Text))).values(name=os.environ['PGPASSWORD']))",
    );
    sample.revise("009_exits", "'008_quotes'", "print('ODOOAI-RESULT no JSON')\nraise SystemExit(3)");
    sample.revise("010_good", "'009_exits'", "op.create_index('i', 'automation_rules', ['name'])");
    let before = dump(&server, &name);
    let mut agent = sample.agent("plan", &server, &name);
    std::fs::write(agent.folder.path().join("password"), &every).expect("written");
    let (code, report, all) = planned(&mut agent);
    assert_eq!((code, &report["reason"]), (Some(0), &json!("Pending")), "{all}");
    assert_eq!(dump(&server, &name), before);
    for start in (0..every.chars().count() - 12).step_by(3) {
        let part: String = every.chars().skip(start).take(12).collect();
        assert!(!all.contains(&part), "{part} of the password in {all}");
    }
    let whys: Vec<_> = report["plan"]["pending"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["why"].as_str().unwrap_or_default())
        .collect();
    assert!(whys[0].starts_with("unreadable: AttributeError: 'NoneType'"), "{whys:?}");
    assert_eq!(whys[1], "not understood: DO $$…$$");
    assert!(whys[2].contains("cannot execute DELETE in a read-only transaction"), "{whys:?}");
    assert_eq!(whys[3], "unreadable: RuntimeError: ('no luck', '***')");
    assert_eq!(whys[4], "not known to be additive: INSERT INTO automation_rules (name) VALUES ('…')");
    assert_eq!(whys[5], "unreadable: SystemExit: 3");
    assert_eq!(whys[6..], [""]);
}

#[test]
fn a_process_that_ends_early_is_no_failure() {
    let Some(server) = Postgres::shared() else {
        return skip("plan of a killed process", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan of a killed process", "1.0.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["stamp", "head"]);
    sample.revise("004_good", "'003_phase2_tables'", "op.create_index('i', 'automation_rules', ['name'])");
    sample.revise("005_killed", "'004_good'", "os.kill(os.getpid(), 9)");
    sample.revise("006_after", "'005_killed'", "pass");
    let report = plan(&sample, &server, &name);
    assert_eq!(pending(&report), [("004_good", true), ("005_killed", false), ("006_after", false)]);
    let why = report["plan"]["pending"][2]["why"].as_str().expect("text");
    assert!(why.starts_with("unreadable: Python ended before it printed the SQL: signal: 9"), "{why}");
}

#[test]
fn branches_and_merges_come_in_alembics_order_each_with_its_own_statements() {
    let Some(server) = Postgres::shared() else {
        return skip("plan of branches", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan of branches", "1.1.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["stamp", "003_phase2_tables"]);
    sample.revise("004_drop", "'003_phase2_tables'", "op.drop_column('audit_logs', 'tokens_used')");
    let (code, report, _) = planned(&mut sample.agent("plan", &server, &name));
    assert_eq!((code, &report["reason"]), (Some(10), &json!("MultipleHeads")));

    sample.revise("005_merge", "('004_rule_usage', '004_drop')", "pass");
    let report = plan(&sample, &server, &name);
    let revisions = pending(&report);
    assert_eq!(revisions.len(), 3);
    assert!(revisions.contains(&("004_rule_usage", true)) && revisions.contains(&("004_drop", false)));
    assert_eq!(revisions[2], ("005_merge", true));
    let done = migrate(&sample, &server, &name);
    assert_eq!(done["schema"]["current"], json!(["005_merge"]));
}

#[test]
fn a_role_whose_password_migrate_would_set_is_read_all_the_same() {
    let Some(server) = Postgres::shared() else {
        return skip("plan with an old password", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan with an old password", "1.0.0") else { return };
    let name = make_released(&server);
    sample.alembic(&server, &name, &["upgrade", "002_phase1_tables"]);
    server.execute("postgres", &format!("ALTER ROLE \"{name}\" NOLOGIN PASSWORD NULL"));
    assert_eq!(pending(&plan(&sample, &server, &name)), [("003_phase2_tables", true)]);
    let (code, report, _) = planned(&mut sample.external("plan", &server, &name));
    assert_eq!((code, &report["reason"]), (Some(10), &json!("CredentialsRejected")));
    assert_eq!(migrate(&sample, &server, &name)["schema"]["current"], json!(["003_phase2_tables"]));
}

#[test]
fn no_lock_is_waited_for_and_no_schema_is_needed_to_refuse() {
    let Some(server) = Postgres::shared() else {
        return skip("plan beside a lock", "no PostgreSQL here");
    };
    let Some(sample) = Sample::install("plan beside a lock", "1.0.0") else { return };
    let name = make_database(&server);
    block_on(async {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(format!("odooai:{name}"));
        let key = i64::from_be_bytes(*digest.first_chunk().expect("32 bytes"));
        let other = server.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        other.execute("SELECT pg_advisory_lock($1)", &[&key]).await.expect("nobody holds it");
        let (code, report, _) = planned(&mut sample.agent("plan", &server, &name));
        assert_eq!((code, &report["reason"]), (Some(0), &json!("Bootstrap")));
    });
    let mut agent = sample.agent("plan", &server, &name).env("PATH", "/nonexistent");
    let (code, report, _) = planned(&mut agent);
    assert_eq!((code, &report["reason"]), (Some(10), &json!("ImageInvalid")));
    let (code, report, _) = planned(&mut Agent::new(&["plan"]));
    assert_eq!((code, &report["reason"]), (Some(10), &json!("ConfigInvalid")));
}
