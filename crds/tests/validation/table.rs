//! The tables: what is accepted, and the sentence that a user reads otherwise.
//!
//! A real API server puts `Invalid value: "<type>": ` between the path and a rule's sentence; with that taken out,
//! and with `fieldValidation=Strict`, it says the same in every case: suite `admission` of crate `odoo-ai-tests`.

use crate::cases::{FILES, Table};
use crate::harness::{refusals, schema};

fn run(file: &str) -> usize {
    let table = Table::of(file);
    let schema = schema(table.base["kind"].as_str().expect("a kind")).expect("a known kind");
    assert_eq!(refusals(&schema, &table.base, None), Vec::<String>::new(), "{file}: the base");
    let mut wrong = Vec::new();
    for case in &table.cases {
        let said = refusals(&schema, &table.object(case), table.old(case).as_ref());
        if !case.fits(&said) {
            wrong.push(format!("{}: wanted {:?}, got {said:#?}", case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{file}:\n{}", wrong.join("\n"));
    table.cases.len()
}

#[test]
fn stacks_are_accepted_or_refused_with_a_sentence() {
    let cases = run("stack.yaml") + run("stack-updates.yaml");
    println!("{cases} cases of OdooAiStack");
    assert!(cases >= 80, "the table of OdooAiStack has {cases} cases");
}

#[test]
fn backups_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of Backup", run("backup.yaml"));
}

#[test]
fn restores_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of Restore", run("restore.yaml"));
}

#[test]
fn feature_flags_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of FeatureFlag", run("featureflag.yaml"));
}

#[test]
fn no_table_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    assert_eq!(std::fs::read_dir(folder).expect("there are tables").count(), FILES.len());
}
