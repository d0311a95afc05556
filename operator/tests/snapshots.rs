//! What is applied for the local sample, byte by byte: a change of a template restarts pods of the
//! next revision, so it must be seen in a review. `INSTA_UPDATE=always cargo test` rewrites the files.

mod sim;

use serde_json::{Value, json};
use sim::World;

#[test]
fn objects_of_the_local_sample() {
    let mut world = World::new();
    world.run_to_the_end();
    for (key, object) in &world.objects {
        let of_the_user = object["metadata"]["labels"].is_null();
        if of_the_user || key.kind == "Pod" || key.kind == "ControllerRevision" {
            continue;
        }
        let mut object = object.clone();
        for volatile in ["status", "seeded"] {
            object.as_object_mut().expect("an object").remove(volatile);
        }
        let metadata = object["metadata"].as_object_mut().expect("metadata");
        for volatile in ["uid", "generation", "annotations"] {
            metadata.remove(volatile);
        }
        let name = format!("{}-{}", key.kind, key.name);
        insta::assert_yaml_snapshot!(name, sorted(&object));
    }
}

/// Keys in order, whatever map `serde_json` was built with.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        scalar => json!(scalar),
    }
}
