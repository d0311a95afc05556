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

#[test]
fn samples_are_accepted_and_unset_fields_stay_unset() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut kinds = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("there are samples") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        for object in read::<Value>(&format!("../manifests/samples/{name}")) {
            let kind = object["kind"].as_str().unwrap_or_else(|| panic!("{name}: an object without kind")).to_owned();
            let written = match kind.as_str() {
                "OdooAiStack" => round_trip::<OdooAiStack>(&object),
                "Backup" => round_trip::<Backup>(&object),
                "Restore" => round_trip::<Restore>(&object),
                "FeatureFlag" => round_trip::<FeatureFlag>(&object),
                _ => continue,
            };
            let schema = schema(&kind).expect("a known kind");
            assert_eq!(refusals(&schema, &object, None), Vec::<String>::new(), "{name}: {kind}");
            assert_eq!(written["spec"], unspoken(&object["spec"]), "{name}: {kind}");
            kinds.insert(kind);
        }
    }
    assert_eq!(kinds.len(), 4, "a sample for every kind, found {kinds:?}");
}
