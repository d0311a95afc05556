use serde_json::{Value, json};

use crate::agent::Agent;
use crate::sample::{ROLE, Ran, Sample, State, ran};
use crate::servers::{PASSWORD, Postgres, block_on};

/// Everything that a statement could have changed: with `xmin`, a row that was written again shows too.
pub(crate) fn dump(server: &Postgres, name: &str) -> Vec<String> {
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

/// A plan as for a Managed database.
pub(crate) fn agent(sample: &Sample, version: &str, name: &str) -> Agent {
    sample.command_at("plan", sample.server.port, version, name).admin(&sample.server)
}

/// Runs a plan to its end; it changes nothing.
pub(crate) fn planned(sample: &Sample, mut agent: Agent, name: &str) -> Ran {
    let before = dump(&sample.server, name);
    let ran = ran(&mut agent);
    assert!(!ran.log.contains(PASSWORD) && ran.report["command"] == "plan", "{}", ran.log);
    assert_eq!(dump(&sample.server, name), before);
    ran
}

/// A plan that succeeds.
#[track_caller]
pub(crate) fn plan(sample: &Sample, version: &str, name: &str, reason: &str) -> Value {
    planned(sample, agent(sample, version, name), name).expect("Succeeded", reason).report
}

/// The pending revisions, each with its verdict.
fn pending(report: &Value) -> Vec<(&str, bool)> {
    let pending = report["plan"]["pending"].as_array().expect("a list");
    pending.iter().map(|one| (one["revision"].as_str().expect("text"), one["additive"] == true)).collect()
}

fn whys(report: &Value) -> Vec<&str> {
    let pending = report["plan"]["pending"].as_array().expect("a list");
    pending.iter().map(|one| one["why"].as_str().unwrap_or_default()).collect()
}

#[test]
fn what_is_not_there_is_not_made() {
    let Some(sample) = Sample::new("plan without a database") else { return };
    let name = sample.server.fresh_name();
    let execute = |sql: &str| sample.server.execute("postgres", sql);
    let there = format!(
        "SELECT rolname::text FROM pg_roles WHERE rolname = '{name}'
         UNION ALL SELECT datname::text FROM pg_database WHERE datname = '{name}'"
    );
    for (statement, left) in [("SELECT 1".to_owned(), 0), (format!("CREATE DATABASE \"{name}\""), 1)] {
        execute(&statement);
        let mut agent = agent(&sample, "1.0.0", &name).env("ODOOAI_DATABASE_USER", &name);
        let report = ran(&mut agent).expect("Succeeded", "Bootstrap").report;
        assert_eq!(report["plan"], json!({"needed": true, "bootstrap": true, "pending": [], "missingLabels": {}}));
        assert_eq!(report["schema"]["heads"], json!(["003_phase2_tables"]));
        assert_eq!(report["schema"]["current"], json!([]));
        assert_eq!(report["rulesEmpty"], true);
        assert_eq!(report["enumLabels"]["automationtype"].as_array().map(Vec::len), Some(19));
        assert_eq!(report["enumLabels"].as_object().map(serde_json::Map::len), Some(6));
        assert!(report.get("incarnation").is_none());
        assert_eq!(execute(&there).len(), left);
    }
    let external = sample.command_at("plan", sample.server.port, "1.0.0", &name);
    ran(&mut external.env("ODOOAI_DATABASE_USER", &name)).expect("Refused", "CredentialsRejected");
}

#[test]
fn from_an_empty_database_to_the_head_and_beyond() {
    let Some(sample) = Sample::new("plan of a first install") else { return };
    let name = sample.database(State::Empty);
    let external = sample.command_at("plan", sample.server.port, "1.0.0", &name);
    planned(&sample, external, &name).expect("Succeeded", "Bootstrap");
    let report = plan(&sample, "1.0.0", &name, "Bootstrap");
    assert!(report["databaseBytes"].as_i64().is_some_and(|bytes| bytes > 1_000_000));
    sample.create_all("1.0.0", &name);
    sample.alembic("1.0.0", &name, "stamp", "head");
    plan(&sample, "1.0.0", &name, "UpToDate");

    let name = sample.database(State::Head);
    let report = plan(&sample, "1.0.0", &name, "UpToDate");
    assert_eq!(report["plan"], json!({"needed": false, "pending": [], "missingLabels": {}}));
    assert_eq!(report["schema"]["current"], json!(["003_phase2_tables"]));
    assert_eq!(report["incarnation"], sample.run("1.0.0", &name).expect("Succeeded", "AtHead").report["incarnation"]);

    let report = plan(&sample, "2.0.0", &name, "Pending");
    assert_eq!(pending(&report), [("004_rule_usage", true), ("005_breaking", false)]);
    assert_eq!(whys(&report)[1], "RENAME COLUMN webhook_events.payload: older releases use the old name");
    assert_eq!(report["plan"]["missingLabels"], json!({"automationtype": ["QUALITY"]}));
    let migrated = sample.run("2.0.0", &name).expect("Succeeded", "Upgraded").report;
    assert_eq!(migrated["schema"]["current"], json!(["005_breaking"]));
    assert_eq!(plan(&sample, "2.0.0", &name, "UpToDate")["plan"]["needed"], false);

    let report = plan(&sample, "1.0.0", &name, "NewerThanImage");
    assert_eq!(report["plan"], json!({"needed": false, "pending": [], "missingLabels": {}}));
}

#[test]
fn at_001_the_rest_is_pending_and_labels_are_missing() {
    let Some(sample) = Sample::new("plan at 001") else { return };
    let name = sample.database(State::Released);
    sample.alembic("1.1.0", &name, "upgrade", "001_extend_enum");
    let report = plan(&sample, "1.1.0", &name, "Pending");
    let revisions = [("002_phase1_tables", true), ("003_phase2_tables", true), ("004_rule_usage", true)];
    assert_eq!(pending(&report), revisions);
    assert!(report["plan"].get("stamp").is_none());
    let missing = report["plan"]["missingLabels"]["automationtype"].as_array().expect("a list");
    assert!(missing.contains(&json!("MONTH_END")) && missing.contains(&json!("SUPPLY_CHAIN")) && missing.len() == 8);
    assert_eq!(report["rulesEmpty"], false);

    let migrated = sample.run("1.1.0", &name).expect("Succeeded", "Upgraded").report;
    assert_eq!(migrated["schema"]["current"], json!([revisions[2].0]));
    assert_eq!(plan(&sample, "1.1.0", &name, "UpToDate")["plan"]["needed"], false);
}

#[test]
fn labels_alone_are_a_reason_to_migrate() {
    let Some(sample) = Sample::new("plan of labels") else { return };
    let name = sample.database(State::Released);
    sample.alembic("1.0.0", &name, "upgrade", "head");
    let report = plan(&sample, "1.0.0", &name, "Pending");
    assert_eq!(report["plan"]["needed"], true);
    assert_eq!(pending(&report), []);
    assert_eq!(report["plan"]["missingLabels"]["automationtype"].as_array().map(Vec::len), Some(8));
    sample.run("1.0.0", &name).expect("Succeeded", "EnumRepaired");
    plan(&sample, "1.0.0", &name, "UpToDate");

    let models = sample.release("1.0.0").join("app/models/__init__.py");
    std::fs::write(models, "raise RuntimeError('no models for ' + __name__)").expect("written");
    let ran = planned(&sample, agent(&sample, "1.0.0", &name), &name).expect("Succeeded", "UpToDate");
    assert!(ran.report.get("enumLabels").is_none());
    let message = ran.message();
    assert!(message.contains("enum labels were not looked at") && message.contains("no models for"), "{message}");
}

#[test]
fn what_cannot_be_printed_is_not_additive_and_writes_nothing() {
    let Some(sample) = Sample::new("plan of unreadable SQL") else { return };
    let name = sample.database(State::Head);
    let every: String = (' '..='~').chain("äß€🦀".chars()).collect();
    let quoted = every.replace('\'', "''");
    sample.server.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}' IN ROLE {ROLE}"));
    let previous =
        ["003_phase2_tables", "004_asks", "005_block", "006_writes", "007_secret", "008_quotes", "009_exits"];
    let bodies = [
        ("004_asks", "op.get_bind().execute(sa.text('SELECT 1')).fetchall()"),
        ("005_block", "op.execute('DO $$ BEGIN DELETE FROM automation_rules; END $$')"),
        (
            "006_writes",
            "with sa.create_engine(os.environ['AI_DATABASE_URL']).begin() as own:\n    \
             own.execute(sa.text('DELETE FROM automation_rules'))",
        ),
        ("007_secret", "raise RuntimeError('no luck', os.environ['PGPASSWORD'])"),
        (
            "008_quotes",
            "rules = sa.table('automation_rules', sa.column('name', sa.Text))\n\
             op.execute(sa.insert(rules).values(name=os.environ['PGPASSWORD']))",
        ),
        ("009_exits", "print('ODOOAI-RESULT no JSON')\nraise SystemExit(3)"),
        ("010_good", "op.create_index('i', 'automation_rules', ['name'])"),
    ];
    for (down, (revision, body)) in previous.iter().zip(bodies) {
        sample.revise("1.0.0", revision, &format!("'{down}'"), body);
    }
    let url = format!("postgresql://{name}@127.0.0.1:{}/{name}", sample.server.port);
    let agent = agent(&sample, "1.0.0", &name).env("ODOOAI_DATABASE_USER", &name).env("AI_DATABASE_URL", url);
    std::fs::write(agent.folder.path().join("password"), &every).expect("written");
    let ran = planned(&sample, agent, &name).expect("Succeeded", "Pending");
    let all = format!("{}{}", ran.log, ran.report);
    for start in (0..every.chars().count() - 12).step_by(3) {
        let part: String = every.chars().skip(start).take(12).collect();
        assert!(!all.contains(&part), "{part} of the password in {all}");
    }
    let whys = whys(&ran.report);
    assert!(whys[0].starts_with("unreadable: AttributeError: 'NoneType'"), "{whys:?}");
    assert_eq!(whys[1], "not understood: DO $$…$$");
    assert!(whys[2].contains("cannot execute DELETE in a read-only transaction"), "{whys:?}");
    assert_eq!(whys[3], "unreadable: RuntimeError: ('no luck', '***')");
    assert_eq!(whys[4], "not known to be additive: INSERT INTO automation_rules (name) VALUES ('…')");
    assert_eq!(whys[5..], ["unreadable: SystemExit: 3", ""]);
}

#[test]
fn a_process_that_ends_early_is_no_failure() {
    let Some(sample) = Sample::new("plan of a killed process") else { return };
    let name = sample.database(State::Head);
    sample.revise("1.0.0", "004_good", "'003_phase2_tables'", "op.create_index('i', 'automation_rules', ['name'])");
    sample.revise("1.0.0", "005_killed", "'004_good'", "os.kill(os.getpid(), 9)");
    sample.revise("1.0.0", "006_after", "'005_killed'", "pass");
    let report = plan(&sample, "1.0.0", &name, "Pending");
    assert_eq!(pending(&report), [("004_good", true), ("005_killed", false), ("006_after", false)]);
    let why = whys(&report)[2];
    assert!(why.starts_with("unreadable: Python ended before it printed the SQL: signal: 9"), "{why}");
}

#[test]
fn branches_and_merges_come_in_alembics_order_each_with_its_own_statements() {
    let Some(sample) = Sample::new("plan of branches") else { return };
    let name = sample.database(State::Head);
    sample.revise("1.1.0", "004_drop", "'003_phase2_tables'", "op.drop_column('audit_logs', 'tokens_used')");
    planned(&sample, agent(&sample, "1.1.0", &name), &name).expect("Refused", "MultipleHeads");

    sample.revise("1.1.0", "005_after", "'004_rule_usage'\ndepends_on = '004_drop'", "pass");
    sample.revise("1.1.0", "006_merge", "('005_after', '004_drop')", "pass");
    let report = plan(&sample, "1.1.0", &name, "Pending");
    let revisions = pending(&report);
    assert!(revisions[..2].contains(&("004_rule_usage", true)) && revisions[..2].contains(&("004_drop", false)));
    assert_eq!(revisions[2..], [("005_after", true), ("006_merge", true)]);
    let migrated = sample.run("1.1.0", &name).expect("Succeeded", "Upgraded").report;
    assert_eq!(migrated["schema"]["current"], json!(["006_merge"]));
}

#[test]
fn a_role_whose_password_migrate_would_set_is_read_all_the_same() {
    let Some(sample) = Sample::new("plan with an old password") else { return };
    let name = sample.database(State::Released);
    sample.alembic("1.0.0", &name, "upgrade", "002_phase1_tables");
    sample.server.execute("postgres", &format!("CREATE ROLE \"{name}\" NOLOGIN IN ROLE {ROLE}"));
    let managed = agent(&sample, "1.0.0", &name).env("ODOOAI_DATABASE_USER", &name);
    let ran = planned(&sample, managed, &name).expect("Succeeded", "Pending");
    assert_eq!(pending(&ran.report), [("003_phase2_tables", true)]);
    let external = sample.command_at("plan", sample.server.port, "1.0.0", &name).env("ODOOAI_DATABASE_USER", &name);
    planned(&sample, external, &name).expect("Refused", "CredentialsRejected");
}

#[test]
fn no_lock_is_waited_for_and_what_migrate_would_refuse_is_refused() {
    let Some(sample) = Sample::new("plan beside a lock") else { return };
    let name = sample.database(State::Empty);
    block_on(async {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(format!("odooai:{name}"));
        let key = i64::from_be_bytes(*digest.first_chunk().expect("32 bytes"));
        let other = sample.server.client("postgres", PASSWORD, "postgres").await.expect("logged in");
        other.execute("SELECT pg_advisory_lock($1)", &[&key]).await.expect("nobody holds it");
        ran(&mut agent(&sample, "1.0.0", &name)).expect("Succeeded", "Bootstrap");
    });
    ran(&mut agent(&sample, "1.0.0", &name).env("PATH", "/nonexistent")).expect("Refused", "ImageInvalid");
    ran(&mut Agent::new(&["plan"])).expect("Refused", "ConfigInvalid");
    let mut absent = sample.command_at("plan", sample.server.port, "1.0.0", "no-such-database");
    ran(&mut absent).expect("Refused", "DatabaseMissing");
}

#[test]
fn tables_without_a_record_are_placed_as_migrate_does() {
    let Some(sample) = Sample::new("plan of a stamp") else { return };
    let created = sample.database(State::Head);
    sample.sql(&created, "DROP TABLE alembic_version");
    let report = plan(&sample, "1.0.0", &created, "Pending");
    let expected = json!({"needed": true, "stamp": "003_phase2_tables", "pending": [], "missingLabels": {}});
    assert_eq!(report["plan"], expected);
    assert_eq!(report["schema"]["current"], json!([]));
    let report = plan(&sample, "2.0.0", &created, "Pending");
    assert_eq!(report["plan"]["stamp"], "003_phase2_tables");
    assert_eq!(pending(&report), [("004_rule_usage", true), ("005_breaking", false)]);
    sample.run("1.0.0", &created).expect("Succeeded", "Stamped");
    plan(&sample, "1.0.0", &created, "UpToDate");

    let released = sample.database(State::Released);
    let report = plan(&sample, "1.0.0", &released, "Pending");
    assert!(report["plan"].get("stamp").is_none());
    let revisions = [("001_extend_enum", true), ("002_phase1_tables", true), ("003_phase2_tables", true)];
    assert_eq!(pending(&report), revisions);

    sample.create_all("1.0.0", &released);
    let report = plan(&sample, "1.0.0", &released, "Pending");
    assert_eq!(report["plan"]["stamp"], "003_phase2_tables");
    assert_eq!(report["plan"]["missingLabels"]["automationtype"].as_array().map(Vec::len), Some(8));
}

#[test]
fn a_pod_of_the_new_release_is_seen_and_tables_in_part_are_refused() {
    let Some(sample) = Sample::new("plan after a new pod") else { return };
    let name = sample.database(State::Released);
    sample.alembic("1.0.0", &name, "upgrade", "002_phase1_tables");
    sample.create_all("1.0.0", &name);
    let report = plan(&sample, "1.0.0", &name, "Pending");
    assert_eq!((&report["plan"]["stamp"], pending(&report).len()), (&json!("003_phase2_tables"), 0));
    assert_eq!(report["schema"]["current"], json!(["002_phase1_tables"]));
    sample.run("1.0.0", &name).expect("Succeeded", "Stamped");

    // A record that Alembic makes nothing of, so `migrate` will not get far either.
    let name = sample.database(State::Head);
    sample.sql(&name, "UPDATE alembic_version SET version_num = '002_phase1_tables'");
    sample.sql(&name, "INSERT INTO alembic_version VALUES ('001_extend_enum')");
    let report = plan(&sample, "1.0.0", &name, "Pending");
    assert_eq!(pending(&report), [("003_phase2_tables", false)]);
    assert!(whys(&report)[0].starts_with("unreadable: alembic.script.revision.RevisionError: Requested revision"));
    assert!(whys(&report)[0].contains("overlaps with other requested revisions"), "{:?}", whys(&report));

    let name = sample.database(State::Head);
    sample.sql(&name, "DROP TABLE alembic_version; DROP TABLE closing_steps");
    planned(&sample, agent(&sample, "1.0.0", &name), &name).expect("Refused", "SchemaAmbiguous");
}
