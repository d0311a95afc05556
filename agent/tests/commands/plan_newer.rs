//! `agent plan` of a release on the database of a newer one: may the release run there?

use serde_json::{Value, json};

use crate::plan::{agent, plan, planned};
use crate::sample::{Sample, State};

/// The application's role inserts rules of these types.
fn rules(sample: &Sample, database: &str, types: &[&str]) {
    for kind in types {
        let row = "INSERT INTO automation_rules (name, automation_type, action_name)";
        sample.sql(database, &format!("{row} VALUES ('n', '{kind}', 'a')"));
    }
}

fn entry(table: &str, column: &str, label: &str, rows: i64) -> Value {
    json!({"table": table, "column": column, "label": label, "rows": rows})
}

#[test]
fn rows_that_the_older_release_cannot_read_are_counted() {
    let Some(sample) = Sample::new("plan on a newer database") else { return };
    let name = sample.database(State::Head);
    sample.run("2.0.0", &name).expect("Succeeded", "Upgraded");
    rules(&sample, &name, &["CRM"]);
    // The type has its label, and no row uses it.
    let report = plan(&sample, "1.0.0", &name, "NewerThanImage");
    assert_eq!(report["plan"], json!({"needed": false, "pending": [], "missingLabels": {}}));

    rules(&sample, &name, &["QUALITY", "QUALITY", "QUALITY"]);
    for sql in [
        "INSERT INTO audit_logs (timestamp, automation_type, action_name, odoo_model)
         VALUES (now(), 'QUALITY', 'a', 'm')",
        // Elements count once a row, in whatever table the type is used.
        "CREATE TABLE newer (kinds automationtype[])",
        "INSERT INTO newer VALUES ('{CRM,QUALITY,QUALITY}'), ('{{QUALITY},{CRM}}'), ('{CRM}'), ('{}'), (NULL)",
        // As the migrations leave it, and as no older release can read it.
        "ALTER TABLE agent_runs ALTER status DROP DEFAULT, ALTER status TYPE varchar(20)",
        "INSERT INTO agent_runs (agent_type, status) VALUES ('t', 'PAUSED')",
        // Of a type that the release doesn't know it reads nothing.
        "CREATE TYPE other AS ENUM ('QUALITY')",
        "CREATE TABLE others (o other, t text)",
        "INSERT INTO others VALUES ('QUALITY', 't')",
    ] {
        sample.sql(&name, sql);
    }
    let ran = planned(&sample, agent(&sample, "1.0.0", &name), &name).expect("Succeeded", "NewerThanImage");
    let expected = [
        entry("automation_rules", "automation_type", "QUALITY", 3),
        entry("newer", "kinds", "QUALITY", 2),
        entry("agent_runs", "status", "PAUSED", 1),
        entry("audit_logs", "automation_type", "QUALITY", 1),
    ];
    assert_eq!(ran.report["plan"]["unreadable"], json!(expected));
    let told = "rows that this image can't read: automation_rules.automation_type 'QUALITY' (3 rows), newer.kinds \
                'QUALITY' (2 rows), agent_runs.status 'PAUSED' (1 row), audit_logs";
    assert!(ran.message().contains(told), "{}", ran.message());
    assert_eq!(ran.report["schema"]["current"], json!(["005_breaking"]));
    assert_eq!(ran.report["schema"]["heads"], json!(["003_phase2_tables"]));
    assert!(ran.report["incarnation"].is_string() && ran.report["enumLabels"]["automationtype"].is_array());
    assert_eq!(plan(&sample, "2.0.0", &name, "UpToDate")["plan"].get("unreadable"), None);
}

#[test]
fn the_eight_of_most_rows_are_told() {
    let Some(sample) = Sample::new("plan with many unreadable labels") else { return };
    let name = sample.database(State::Head);
    sample.sql(&name, "UPDATE alembic_version SET version_num = '099_newer'");
    sample.sql(&name, "CREATE TABLE newer (kind automationtype)");
    for rows in 1..=5 {
        let labels = [format!("R{rows}"), format!("N{rows}")];
        for label in &labels {
            sample.sql(&name, &format!("ALTER TYPE automationtype ADD VALUE '{label}'"));
        }
        rules(&sample, &name, &vec![labels[0].as_str(); rows]);
        sample.sql(&name, &format!("INSERT INTO newer SELECT '{}' FROM generate_series(1, {rows})", labels[1]));
    }
    let report = plan(&sample, "1.0.0", &name, "NewerThanImage");
    let found = report["plan"]["unreadable"].as_array().expect("a list");
    let rows: Vec<_> = found.iter().map(|entry| entry["rows"].as_i64().expect("a number")).collect();
    assert_eq!(rows, [5, 5, 4, 4, 3, 3, 2, 2]);
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let Some(sample) = Sample::new("plan without labels") else { return };
    let name = sample.database(State::Head);
    sample.sql(&name, "UPDATE alembic_version SET version_num = '099_newer'");
    sample.sql(&name, "ALTER TYPE automationtype ADD VALUE 'QUALITY'");
    let managed = |name: &str| sample.command_at("plan", sample.server.port, "1.0.0", name);
    sample.sql(&name, "REVOKE SELECT ON automation_rules FROM sample");
    // Rules are looked at by every plan, so of this table alone nothing is learnt here.
    sample.sql(&name, "GRANT SELECT (id) ON automation_rules TO sample");
    let ran = planned(&sample, managed(&name), &name).expect("Succeeded", "NewerThanImage");
    let why = ran.report["plan"]["labelsUnknown"].as_str().expect("a reason");
    assert!(why.contains("permission denied for table automation_rules"), "{why}");
    assert!(ran.report["plan"].get("unreadable").is_none());
    sample.sql(&name, "GRANT SELECT ON automation_rules TO sample");

    let models = sample.release("1.0.0").join("app/models/__init__.py");
    std::fs::write(models, "raise RuntimeError('no models for ' + __name__)").expect("written");
    let report = plan(&sample, "1.0.0", &name, "NewerThanImage");
    assert_eq!(report["plan"]["labelsUnknown"], "RuntimeError: no models for app.models");
    assert!(report["plan"].get("unreadable").is_none() && report.get("enumLabels").is_none());
}
