//! `agent migrate` on tables that no revision is recorded for, or that a pod of a new release
//! made before its migration.

use serde_json::json;

use crate::sample::{Sample, State, ran};

const HEAD: &str = "003_phase2_tables";

#[test]
fn what_create_all_made_is_recorded() {
    let Some(sample) = Sample::new("stamp of a created database") else { return };
    let database = sample.database(State::Head);
    sample.sql(&database, "DROP TABLE alembic_version");
    let ran = sample.run("1.0.0", &database).expect("Succeeded", "Stamped");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    assert_eq!(ran.report["drift"], json!([]));
    assert!(ran.report.get("repairedLabels").is_none());
    sample.run("1.0.0", &database).expect("Succeeded", "AtHead");
}

#[test]
fn a_released_database_that_a_new_pod_touched_is_recorded_and_gets_its_labels() {
    let Some(sample) = Sample::new("stamp after a new pod") else { return };
    let database = sample.database(State::Released);
    sample.create_all("1.0.0", &database);
    let ran = sample.run("1.0.0", &database).expect("Succeeded", "Stamped");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    assert_eq!(ran.report["repairedLabels"]["automationtype"].as_array().map(Vec::len), Some(8));
    sample.every_type_works("1.0.0", &database);
}

#[test]
fn an_older_created_database_is_recorded_and_upgraded() {
    let Some(sample) = Sample::new("stamp of an older database") else { return };
    let database = sample.database(State::Head);
    sample.sql(&database, "DROP TABLE alembic_version");
    let agent = || sample.agent("2.0.0", &database).env("ODOOAI_BACKUP_REQUIRED", "true");
    let refused = ran(&mut agent()).expect("Refused", "BackupMissing");
    let incarnation = refused.report["incarnation"].as_str().expect("text");
    let done = ran(&mut agent().env("ODOOAI_BACKUP_INCARNATION", incarnation)).expect("Succeeded", "Upgraded");
    assert!(done.message().contains("from 003_phase2_tables, as its tables show, to 005"), "{}", done.message());
    sample.every_type_works("2.0.0", &database);
    // The other way round: what 005 renamed is evidence too.
    sample.sql(&database, "DROP TABLE alembic_version");
    sample.run("2.0.0", &database).expect("Succeeded", "Stamped");
}

#[test]
fn tables_in_part_are_named() {
    let Some(sample) = Sample::new("ambiguous schema") else { return };
    let database = sample.database(State::Released);
    sample.create_all("1.1.0", &database);
    let refused = sample.run("1.1.0", &database).expect("Refused", "SchemaAmbiguous");
    for part in ["without a recorded revision", "004_rule_usage", "missing: column automation_rules.last_used_at"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert!(sample.sql(&database, "SELECT to_regclass('alembic_version')::text").concat().is_empty());
}

#[test]
fn at_002_with_the_tables_of_a_new_pod_and_without() {
    let Some(sample) = Sample::new("new pod at 002") else { return };
    let untouched = sample.database(State::Released);
    sample.alembic("1.0.0", &untouched, "upgrade", "002_phase1_tables");
    let touched = sample.copy(&untouched);
    sample.create_all("1.0.0", &touched);
    for (database, reason, drift) in [(untouched, "Upgraded", 6), (touched, "Stamped", 2)] {
        let ran = sample.run("1.0.0", &database).expect("Succeeded", reason);
        assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
        assert_eq!(ran.report["drift"].as_array().map(Vec::len), Some(drift), "{}", ran.report);
        sample.every_type_works("1.0.0", &database);
    }
}

#[test]
fn beside_its_record_a_schema_in_part_is_named() {
    let Some(sample) = Sample::new("new pod at 003") else { return };
    let database = sample.database(State::Head);
    sample.create_all("1.1.0", &database);
    let refused = sample.run("1.1.0", &database).expect("Refused", "SchemaAmbiguous");
    for part in ["beside the recorded revision", "004_rule_usage", "missing: column automation_rules.last_used_at"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert_eq!(refused.report["schema"]["current"], json!([HEAD]));
}
