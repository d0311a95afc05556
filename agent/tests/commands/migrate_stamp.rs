//! `agent migrate` on tables that no revision is recorded for, or that a pod of a new release
//! made before its migration.

use serde_json::json;

use crate::stage::{Stage, State, ran};

const HEAD: &str = "003_phase2_tables";

#[test]
fn what_create_all_made_is_recorded() {
    let Some(stage) = Stage::new("stamp of a created database") else { return };
    let database = stage.database(State::Head);
    stage.sql(&database, "DROP TABLE alembic_version");
    let ran = stage.run("1.0.0", &database).expect("Succeeded", "Stamped");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    assert_eq!(ran.report["drift"], json!([]));
    assert!(ran.report.get("repairedLabels").is_none());
    stage.run("1.0.0", &database).expect("Succeeded", "AtHead");
}

#[test]
fn a_released_database_that_a_new_pod_touched_is_recorded_and_gets_its_labels() {
    let Some(stage) = Stage::new("stamp after a new pod") else { return };
    let database = stage.database(State::Released);
    stage.create_all("1.0.0", &database);
    let ran = stage.run("1.0.0", &database).expect("Succeeded", "Stamped");
    assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
    assert_eq!(ran.report["repairedLabels"]["automationtype"].as_array().map(Vec::len), Some(8));
    stage.every_type_works("1.0.0", &database);
}

#[test]
fn an_older_created_database_is_recorded_and_upgraded() {
    let Some(stage) = Stage::new("stamp of an older database") else { return };
    let database = stage.database(State::Head);
    stage.sql(&database, "DROP TABLE alembic_version");
    let agent = || stage.agent("2.0.0", &database).env("ODOOAI_BACKUP_REQUIRED", "true");
    let refused = ran(&mut agent()).expect("Refused", "BackupMissing");
    let incarnation = refused.report["incarnation"].as_str().expect("text");
    let done = ran(&mut agent().env("ODOOAI_BACKUP_INCARNATION", incarnation)).expect("Succeeded", "Upgraded");
    assert!(done.message().contains("from 003_phase2_tables, as its tables show, to 005"), "{}", done.message());
    stage.every_type_works("2.0.0", &database);
    // The other way round: what 005 renamed is evidence too.
    stage.sql(&database, "DROP TABLE alembic_version");
    stage.run("2.0.0", &database).expect("Succeeded", "Stamped");
}

#[test]
fn tables_in_part_are_named() {
    let Some(stage) = Stage::new("ambiguous schema") else { return };
    let database = stage.database(State::Released);
    stage.create_all("1.1.0", &database);
    let refused = stage.run("1.1.0", &database).expect("Refused", "SchemaAmbiguous");
    for part in ["without a recorded revision", "004_rule_usage", "missing: column automation_rules.last_used_at"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert!(stage.sql(&database, "SELECT to_regclass('alembic_version')::text").concat().is_empty());

    let database = stage.database(State::Head);
    stage.sql(&database, "DROP TABLE alembic_version; DROP TABLE closing_steps");
    let refused = stage.run("1.0.0", &database).expect("Refused", "SchemaAmbiguous");
    assert!(refused.message().contains("missing: table closing_steps"), "{}", refused.message());
}

#[test]
fn at_002_with_the_tables_of_a_new_pod_and_without() {
    let Some(stage) = Stage::new("new pod at 002") else { return };
    let untouched = stage.database(State::Released);
    stage.alembic("1.0.0", &untouched, &["upgrade", "002_phase1_tables"]);
    let touched = stage.copy(&untouched);
    stage.create_all("1.0.0", &touched);
    for (database, reason, drift) in [(untouched, "Upgraded", 6), (touched, "Stamped", 2)] {
        let ran = stage.run("1.0.0", &database).expect("Succeeded", reason);
        assert_eq!(ran.report["schema"]["current"], json!([HEAD]));
        assert_eq!(ran.report["drift"].as_array().map(Vec::len), Some(drift), "{}", ran.report);
        stage.every_type_works("1.0.0", &database);
    }
}

#[test]
fn beside_its_record_a_schema_in_part_is_named() {
    let Some(stage) = Stage::new("new pod at 003") else { return };
    let database = stage.database(State::Head);
    stage.create_all("1.1.0", &database);
    let refused = stage.run("1.1.0", &database).expect("Refused", "SchemaAmbiguous");
    for part in ["beside the recorded revision", "004_rule_usage", "missing: column automation_rules.last_used_at"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    assert_eq!(refused.report["schema"]["current"], json!([HEAD]));
}
