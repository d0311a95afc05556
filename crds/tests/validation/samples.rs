//! Every sample manifest is accepted, and says the same after a trip through the types.

use crate::harness::{read, refusals, schema};
use odoo_ai_crds::{backup::Backup, flag::FeatureFlag, restore::Restore, stack::OdooAiStack};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let typed: T = serde_json::from_value(object.clone()).expect("the types read what the schema accepts");
    serde_json::to_value(typed).expect("the types can be written")
}

/// Saying `type: Managed` is the same as not saying it, also for the revision.
fn unspoken(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for part in ["database", "redis"] {
        if spec[part]["type"] == "Managed" {
            spec[part].as_object_mut().expect("it has a type").remove("type");
        }
    }
    spec
}

/// Checks an object of ours; says its kind.
fn check(name: &str, object: &Value) -> Option<String> {
    let kind = object["kind"].as_str().unwrap_or_else(|| panic!("{name}: an object without kind"));
    let written = match kind {
        "OdooAiStack" => round_trip::<OdooAiStack>(object),
        "Backup" => round_trip::<Backup>(object),
        "Restore" => round_trip::<Restore>(object),
        "FeatureFlag" => round_trip::<FeatureFlag>(object),
        _ => return None,
    };
    let schema = schema(kind).expect("a known kind");
    assert_eq!(refusals(&schema, object, None), Vec::<String>::new(), "{name}: {kind}");
    assert_eq!(written["spec"], unspoken(&object["spec"]), "{name}: {kind}");
    Some(kind.to_owned())
}

#[test]
fn samples_are_accepted_and_unset_fields_stay_unset() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("there are samples") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        for object in read::<Value>(&format!("../manifests/samples/{name}")) {
            kinds.extend(check(&name, &object));
        }
    }
    assert_eq!(kinds.len(), 4, "a sample for every kind, found {kinds:?}");
}

/// As kustomize patches kinds that it doesn't know: a list replaces a list.
fn patch(base: &mut Value, by: &Value) {
    match (base, by) {
        (Value::Object(base), Value::Object(by)) => {
            for (name, value) in by {
                patch(base.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (base, by) => *base = by.clone(),
    }
}

/// The real thing, rendered, is tried on an API server by the suite `admission`.
#[test]
fn what_the_overlays_make_of_the_base_is_accepted() {
    for overlay in ["staging", "production"] {
        for file in ["stack.yaml", "backup.yaml"] {
            let mut object = read::<Value>(&format!("../manifests/base/{file}")).remove(0);
            let by = format!("../manifests/overlays/{overlay}/{file}");
            if std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&by).is_file() {
                patch(&mut object, &read::<Value>(&by)[0]);
            }
            assert!(check(&format!("{overlay}/{file}"), &object).is_some(), "{overlay}/{file}: one of ours");
        }
    }
}
