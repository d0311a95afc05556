//! Enum labels that the code needs: added, renamed, rows rewritten.

use serde_json::json;

use crate::agent::APP_PASSWORD;
use crate::sample::{ROLE, Sample, State, ran};
use crate::servers::block_on;

const LABELS: &str = "SELECT unnest(enum_range(NULL::automationtype))::text ORDER BY 1";

#[test]
fn labels_are_added_or_renamed_at_the_head_without_a_backup() {
    let Some(sample) = Sample::new("labels") else { return };
    let database = sample.database(State::Head);
    let mut before = sample.sql(&database, LABELS);
    before.push("something_else".to_owned());
    before.sort();
    for (from, to) in [("MONTH_END", "month_end"), ("REPORTING", "something_else")] {
        sample.sql(&database, &format!("ALTER TYPE automationtype RENAME VALUE '{from}' TO '{to}'"));
    }
    let insert = "INSERT INTO automation_rules (name, automation_type, action_name) VALUES ('n', 'month_end', 'a')";
    sample.sql(&database, insert);
    let mut agent = sample.agent("1.0.0", &database).env("ODOOAI_BACKUP_REQUIRED", "true");
    let ran = ran(&mut agent).expect("Succeeded", "EnumRepaired");
    assert_eq!(ran.report["repairedLabels"], json!({"automationtype": ["MONTH_END", "REPORTING"]}));
    assert!(ran.message().contains("automationtype MONTH_END, REPORTING"), "{}", ran.message());
    assert_eq!(sample.sql(&database, LABELS), before);
    sample.every_type_works("1.0.0", &database);
}

#[test]
fn rows_with_labels_that_no_code_reads_are_rewritten_under_a_backup() {
    let Some(sample) = Sample::new("rows with old labels") else { return };
    let database = sample.database(State::Head);
    sample.sql(&database, "ALTER TYPE automationtype ADD VALUE 'month_end'");
    sample.sql(&database, "ALTER TYPE automationtype ADD VALUE 'reporting'");
    sample.sql(
        &database,
        "INSERT INTO automation_rules (name, automation_type, action_name)
         VALUES ('1', 'month_end', 'a'), ('2', 'CRM', 'a');
         INSERT INTO audit_logs (timestamp, automation_type, action_name, odoo_model)
         VALUES (now(), 'month_end', 'a', 'm');",
    );
    let read =
        "SELECT automation_type::text FROM automation_rules UNION ALL SELECT automation_type::text FROM audit_logs";
    let agent = || sample.agent("1.0.0", &database).env("ODOOAI_BACKUP_REQUIRED", "true");
    let refused = ran(&mut agent()).expect("Refused", "BackupMissing");
    assert_eq!(sample.sql(&database, read), ["month_end", "CRM", "month_end"]);

    let incarnation = refused.report["incarnation"].as_str().expect("text");
    let covered = || {
        let agent = agent().env("ODOOAI_BACKUP_INCARNATION", incarnation);
        agent.env("ODOOAI_BACKUP_SCHEMA", "003_phase2_tables")
    };
    block_on(async {
        let other = sample.server.client(ROLE, APP_PASSWORD, &database).await.expect("logged in");
        other.batch_execute("BEGIN; UPDATE audit_logs SET odoo_model = 'Bob'").await.expect("a row's lock");
        let mut agent = covered();
        let blocked = tokio::task::spawn_blocking(move || ran(&mut agent)).await.expect("not cancelled");
        let blocked = blocked.expect("Failed", "MigrationBlocked");
        for part in ["UPDATE audit_logs SET odoo_model = ?", "no label was changed"] {
            assert!(blocked.message().contains(part), "{}", blocked.message());
        }
    });
    assert_eq!(sample.sql(&database, read), ["month_end", "CRM", "month_end"]);
    let ran = ran(&mut covered()).expect("Succeeded", "EnumRepaired");
    // No row has the other one.
    assert_eq!(ran.report["repairedLabels"], json!({"automationtype": ["MONTH_END"]}));
    let mut rows = sample.sql(&database, read);
    rows.sort();
    assert_eq!(rows, ["CRM", "MONTH_END", "MONTH_END"]);
    sample.every_type_works("1.0.0", &database);
}

#[test]
fn models_that_cannot_be_read_are_a_warning() {
    let Some(sample) = Sample::new("unreadable models") else { return };
    let database = sample.database(State::Head);
    let models = sample.release("1.0.0").join("app/models/audit.py");
    std::fs::write(models, "raise RuntimeError('no models today')\n").expect("written");
    let ran = sample.run("1.0.0", &database).expect("Succeeded", "AtHead");
    assert!(ran.message().contains("enum labels were not looked at"), "{}", ran.message());
    assert!(ran.message().contains("no models today"), "{}", ran.message());
    assert!(ran.report.get("drift").is_none());
}
