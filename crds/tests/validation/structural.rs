//! The part of the API server's structural validation that the CRDs use, with the API server's words.

use serde_json::{Map, Value};
use std::collections::HashSet;

/// What the structural schema says against `value`.
pub(crate) fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "", &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let kind = schema["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    if !fits {
        found.push(format!("{path}: Invalid value: {path} in body must be of type {kind}"));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed.iter().map(Value::to_string).collect();
        found.push(format!("{path}: Unsupported value: {value}: supported values: {}", names.join(", ")));
    }
    match value {
        Value::Object(members) => check_object(schema, members, path, found),
        Value::Array(items) => check_array(schema, items, path, found),
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if schema["maxLength"].as_u64().is_some_and(|max| length > max) {
                found.push(format!("{path}: Too long: may not be more than {} bytes", schema["maxLength"]));
            }
            if schema["minLength"].as_u64().is_some_and(|min| length < min) {
                found.push(format!(
                    "{path}: Invalid value: \"{text}\": {path} in body should be at least {} chars long",
                    schema["minLength"]
                ));
            }
        }
        Value::Number(number) => {
            check_number(schema, number.as_f64().expect("a number"), path, found);
        }
        _ => {}
    }
}

fn check_number(schema: &Value, number: f64, path: &str, found: &mut Vec<String>) {
    if let Some(max) = schema["maximum"].as_f64()
        && number > max
    {
        found.push(format!("{path}: Invalid value: {number}: {path} in body should be less than or equal to {max}"));
    }
    if let Some(min) = schema["minimum"].as_f64()
        && number < min
    {
        found.push(format!("{path}: Invalid value: {number}: {path} in body should be greater than or equal to {min}"));
    }
}

fn check_object(schema: &Value, members: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    if schema["maxProperties"].as_u64().is_some_and(|max| members.len() as u64 > max) {
        found.push(format!("{path}: Too many: must have at most {} items", schema["maxProperties"]));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(required) {
            found.push(format!("{}: Required value", join(path, required)));
        }
    }
    if path.is_empty() {
        // apiVersion, kind and metadata are the API server's own.
        for part in ["spec", "status"] {
            if let Some(value) = members.get(part) {
                check(&schema["properties"][part], value, part, found);
            }
        }
        return;
    }
    for (name, value) in members {
        let at = join(path, name);
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(property), _) => check(property, value, &at, found),
            (None, Some(additional)) => check(additional, value, &at, found),
            (None, None) if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            (None, None) => found.push(format!("unknown field \"{at}\"")),
        }
    }
}

fn check_array(schema: &Value, items: &[Value], path: &str, found: &mut Vec<String>) {
    if schema["maxItems"].as_u64().is_some_and(|max| items.len() as u64 > max) {
        found.push(format!("{path}: Too many: {}: must have at most {} items", items.len(), schema["maxItems"]));
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let key = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => item.to_string(),
            Some("map") => schema["x-kubernetes-list-map-keys"]
                .as_array()
                .expect("a list map has keys")
                .iter()
                .map(|key| item[key.as_str().expect("a key")].to_string())
                .collect(),
            _ => index.to_string(),
        };
        if !seen.insert(key) {
            found.push(format!("{at}: Duplicate value"));
        }
        check(&schema["items"], item, &at, found);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
