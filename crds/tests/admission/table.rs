//! The tables: what is accepted, and the sentence that a user reads otherwise.
//!
//! A real API server puts `Invalid value: "<type>": ` between the path and a rule's sentence; with that taken out,
//! and with `fieldValidation=Strict`, it says the same in every case.

use crate::harness::{merge, read, refusals, schema};
use serde::Deserialize;
use serde_json::Value;

/// Cases of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// A complete object that is accepted.
    base: Value,
    cases: Vec<Case>,
}

/// A variation of the base.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Merged into the base's spec.
    #[serde(default)]
    spec: Value,
    /// Merged into the base's metadata.
    #[serde(default)]
    metadata: Value,
    /// Merged into the base's spec: what the object was before. Absent: it is created.
    old: Option<Value>,
    /// Part of what the user reads. Absent: it is accepted.
    refused: Option<String>,
}

fn with(base: &Value, part: &str, patch: &Value) -> Value {
    let mut object = base.clone();
    if !patch.is_null() {
        merge(&mut object[part], patch);
    }
    object
}

fn run(path: &str) -> usize {
    let table: Table = read(path).pop().expect("one document");
    let schema = schema(table.base["kind"].as_str().expect("a kind")).expect("a known kind");
    assert_eq!(refusals(&schema, &table.base, None), Vec::<String>::new(), "{path}: the base");
    let mut wrong = Vec::new();
    for case in &table.cases {
        let object = with(&with(&table.base, "spec", &case.spec), "metadata", &case.metadata);
        let old = case.old.as_ref().map(|old| with(&table.base, "spec", old));
        let said = refusals(&schema, &object, old.as_ref());
        let good = match &case.refused {
            None => said.is_empty(),
            Some(sentence) => said.iter().any(|line| line.contains(sentence)),
        };
        if !good {
            wrong.push(format!("{}: wanted {:?}, got {said:#?}", case.name, case.refused));
        }
    }
    assert!(wrong.is_empty(), "{path}:\n{}", wrong.join("\n"));
    table.cases.len()
}

#[test]
fn stacks_are_accepted_or_refused_with_a_sentence() {
    let cases = run("tests/cases/stack.yaml") + run("tests/cases/stack-updates.yaml");
    println!("{cases} cases of OdooAiStack");
    assert!(cases >= 80, "the table of OdooAiStack has {cases} cases");
}

#[test]
fn backups_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of Backup", run("tests/cases/backup.yaml"));
}

#[test]
fn restores_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of Restore", run("tests/cases/restore.yaml"));
}

#[test]
fn feature_flags_are_accepted_or_refused_with_a_sentence() {
    println!("{} cases of FeatureFlag", run("tests/cases/featureflag.yaml"));
}
