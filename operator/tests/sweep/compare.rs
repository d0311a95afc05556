//! Two ends of a scenario, compared: everything that exists, without what may differ. UIDs, revisions
//! and generated values are given names, so that what refers to them is compared too.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::World;

/// Times, versions, hashes over names that are random, and the number of a `ControllerRevision`, which
/// is for the order in a list only and counts what the caches show.
const LEFT_OUT: [&str; 6] = [
    "resourceVersion",
    "creationTimestamp",
    "lastTransitionTime",
    "startedAt",
    "completedAt",
    "odoo-ai.atmatasolutions.com/applied-hash",
];

/// Every object by kind and name, Events left out.
pub(crate) fn end(world: &World) -> BTreeMap<String, Value> {
    let names = names(world);
    let rename = |text: String| names.iter().fold(text, |text, (old, new)| text.replace(old, new));
    let objects = world.store.everything().filter(|(id, _)| id.0 != "events");
    let mut all: BTreeMap<_, _> = objects
        .map(|((plural, name), object)| {
            let mut object = object.clone();
            strip(&mut object);
            if plural == "controllerrevisions" {
                object.as_object_mut().expect("an object").remove("revision");
            }
            let text = rename(object.to_string());
            (rename(format!("{plural} {name}")), serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    all.insert("rules of the application".to_owned(), serde_json::to_value(&world.rules.enabled).expect("JSON"));
    all
}

/// What differs, a line each; at most ten.
pub(crate) fn differences(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for name in one.keys().chain(other.keys().filter(|name| !one.contains_key(*name))) {
        let nothing = Value::Null;
        walk(name, one.get(name).unwrap_or(&nothing), other.get(name).unwrap_or(&nothing), &mut found);
    }
    found.truncate(10);
    found
}

fn walk(at: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                walk(&format!("{at}.{key}"), &one[key], &other[key], found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&format!("{at}[{index}]"), a, b, found);
            }
        }
        _ if one == other => {}
        _ => found.push(format!("{at}: {} instead of {}", short(other), short(one))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

/// What is random or counted, and the name that it gets.
fn names(world: &World) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let history = world.stack()["status"]["history"].as_array().cloned().unwrap_or_default();
    for (number, entry) in history.iter().rev().enumerate() {
        names.extend(entry["revision"].as_str().map(|revision| (revision.to_owned(), format!("revision-{number}"))));
    }
    let revisions = names.clone();
    for ((plural, name), object) in world.store.everything() {
        let name = revisions.iter().fold(name.clone(), |name, (old, new)| name.replace(old, new));
        let uid = object["metadata"]["uid"].as_str().expect("a UID");
        names.push((uid.to_owned(), format!("the UID of {plural} {name}")));
        if plural == "secrets" && object["immutable"] != true {
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                names.extend(value.as_str().map(|value| (value.to_owned(), format!("{key} of {name}"))));
            }
        }
    }
    names
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
