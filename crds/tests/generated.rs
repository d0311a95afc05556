//! The generated files are fresh, and the schemas are as strict and as well described as promised.

use odoo_ai_crds::generate::{crds, files};
use serde_json::Value;

#[test]
fn generated_files_are_fresh() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let stale: Vec<String> = files()
        .into_iter()
        .filter(|file| std::fs::read_to_string(root.join(&file.path)).ok().as_ref() != Some(&file.content))
        .map(|file| file.path)
        .collect();
    assert!(stale.is_empty(), "run cargo run -p odoo-ai-crds --bin crdgen; stale: {stale:?}");
}

#[test]
fn each_crd_fits_into_an_annotation() {
    for file in files().into_iter().filter(|file| !file.path.starts_with("docs/")) {
        println!("{} {} bytes", file.path, file.content.len());
        assert!(file.content.len() < 256 * 1024, "{}: {} bytes", file.path, file.content.len());
    }
}

/// Calls `visit` with each schema below `schema` and its path.
fn walk(schema: &Value, path: &str, visit: &mut dyn FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for part in ["items", "additionalProperties"] {
        if schema[part].is_object() {
            walk(&schema[part], &format!("{path}[]"), visit);
        }
    }
}

fn each_schema(part: &str, visit: &mut dyn FnMut(&Value, &str)) {
    for crd in crds() {
        let value = serde_json::to_value(&crd).expect("a CRD is JSON");
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
        assert!(schema.is_object());
        walk(schema, &format!("{}.{part}", crd.spec.names.kind), visit);
    }
}

#[test]
fn everything_in_a_spec_is_bounded_and_nothing_is_defaulted() {
    let mut wrong = Vec::new();
    each_schema("spec", &mut |schema, path| {
        let bounded = match schema["type"].as_str().unwrap_or_default() {
            "string" => schema["maxLength"].is_u64() || schema["enum"].is_array(),
            "array" => schema["maxItems"].is_u64() && schema["x-kubernetes-list-type"].is_string(),
            "object" => schema["properties"].is_object() || schema["maxProperties"].is_u64(),
            "integer" => schema["minimum"].is_number() && schema["maximum"].is_number(),
            "boolean" => true,
            other => panic!("{path}: type {other:?}"),
        };
        if !bounded {
            wrong.push(format!("{path} is unbounded"));
        }
        // A default in the schema would change what the user wrote, and with it the revision.
        if schema.get("default").is_some() || schema.get("nullable").is_some() {
            wrong.push(format!("{path} has a default or is nullable"));
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_field_is_described() {
    let mut wrong = Vec::new();
    for part in ["spec", "status"] {
        each_schema(part, &mut |schema, path| {
            let described = schema["description"].as_str().is_some_and(|text| text.ends_with('.') || text.len() > 20);
            if !described && !path.ends_with("[]") {
                wrong.push(path.to_owned());
            }
        });
    }
    wrong.retain(|path| path.contains('.') && !path.ends_with(".status") && !path.contains(".conditions"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_has_a_sentence() {
    let mut rules = 0;
    let mut wrong = Vec::new();
    each_schema("spec", &mut |schema, path| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            if !message.contains("must") || message.contains('\n') || message.len() > 512 {
                wrong.push(format!("{path}: {message:?}"));
            }
        }
    });
    println!("{rules} rules");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_new_object_does_not_look_settled() {
    for crd in crds() {
        let value = serde_json::to_value(&crd).expect("a CRD is JSON");
        let status = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"]["observedGeneration"], -1, "{}", crd.spec.names.kind);
        assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-map-keys"][0], "type");
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["odooai".to_owned()][..]));
    }
}

#[test]
fn charts_have_the_version_of_the_workspace() {
    for chart in ["odoo-ai-crds", "odoo-ai-operator"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../charts/{chart}/Chart.yaml"));
        let chart: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).expect("a chart")).expect("YAML");
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    }
}

/// The doc comments of all fields in a source file: the field as it is declared, and its text in one line.
fn doc_comments(file: &str) -> Vec<(String, String)> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
    let source = std::fs::read_to_string(path).expect("a source file");
    let (mut comments, mut text, mut goes_on) = (Vec::new(), String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            if !goes_on {
                text.clear();
            }
            text += words;
        } else if let Some(field) = line.strip_prefix("pub ") {
            comments.push((field.trim_end_matches(',').to_owned(), one_line(&std::mem::take(&mut text))));
        }
        goes_on = line.starts_with("///");
    }
    comments
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In an optional field the type's text once stood in the place of the field's.
#[test]
fn fields_say_their_own_text_not_their_types() {
    let crd = serde_json::to_value(&crds()[0]).expect("a CRD");
    let mut wrong = Vec::new();
    for (path, file, field) in [
        ("environment", "stack/mod.rs", "environment: Environment"),
        ("logLevel", "stack/mod.rs", "log_level: Option<LogLevel>"),
        ("rollout.approval", "stack/rollout.rs", "approval: Option<Mode>"),
        ("rollout.rollback", "stack/rollout.rs", "rollback: Option<Mode>"),
        ("migrations.policy", "stack/rollout.rs", "policy: Option<Mode>"),
        ("migrations.backup", "stack/rollout.rs", "backup: Option<MigrationBackup>"),
        ("images.pullPolicy", "stack/app.rs", "pull_policy: Option<PullPolicy>"),
        ("rules.unmanaged", "stack/app.rs", "unmanaged: Option<UnmanagedRules>"),
        ("redis.managed.evictionPolicy", "stack/redis.rs", "eviction_policy: Option<EvictionPolicy>"),
        ("database.managed.deletionPolicy", "stack/database.rs", "deletion_policy: Option<DeletionPolicy>"),
    ] {
        let pointer = format!("spec.{path}").replace('.', "/properties/");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let said = schema.pointer(&format!("/{pointer}/description")).and_then(Value::as_str).unwrap_or_default();
        let text = doc_comments(file).into_iter().find(|(name, _)| name == field).expect(field).1;
        if one_line(said) != text {
            wrong.push(format!("{path} says {said:?}, its doc comment {text:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same for every field of every kind: no text comes from anywhere else.
#[test]
fn every_description_is_the_doc_comment_of_a_field() {
    let comments: std::collections::BTreeSet<String> = [
        "backup/mod.rs",
        "backup/status.rs",
        "common.rs",
        "flag.rs",
        "restore.rs",
        "source.rs",
        "stack/app.rs",
        "stack/database.rs",
        "stack/history.rs",
        "stack/ingress.rs",
        "stack/mod.rs",
        "stack/redis.rs",
        "stack/rollout.rs",
        "stack/progress.rs",
        "stack/status.rs",
        "stack/workloads.rs",
    ]
    .into_iter()
    .flat_map(doc_comments)
    .filter(|(name, _)| name.contains(": "))
    .map(|(_, text)| text)
    .collect();
    let mut wrong = Vec::new();
    for part in ["spec", "status"] {
        each_schema(part, &mut |schema, path| {
            let said = one_line(schema["description"].as_str().unwrap_or_default());
            let is_field = path.split('.').count() > 2 && !path.ends_with("[]") && !path.contains(".conditions[]");
            if is_field && !comments.contains(&said) {
                wrong.push(format!("{path}: {said}"));
            }
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
