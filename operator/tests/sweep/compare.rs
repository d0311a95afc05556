//! Two ends of a scenario, compared: everything that exists, without what may differ. UIDs, revisions
//! and generated values are given names, so that what refers to them is compared too.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

/// Label of the Jobs of a Restore.
pub(crate) const OF_RESTORE: &str = "/metadata/labels/odoo-ai.atmatasolutions.com~1restore";

/// Times and what is named after them, versions, hashes over names that are random, and what a server allots.
const LEFT_OUT: [&str; 21] = [
    "stoppedAt",
    "drainedAt",
    "swappedAt",
    "odoo-ai.atmatasolutions.com/backup-request",
    "resourceVersion",
    "managedFields",
    "creationTimestamp",
    "lastTransitionTime",
    "startedAt",
    "completedAt",
    "readAt",
    "digests",
    "requestedAt",
    "requestId",
    "backupRequestedAt",
    "odoo-ai.atmatasolutions.com/backup-requested-at",
    "odoo-ai.atmatasolutions.com/rollout-started-at",
    "clusterIP",
    "clusterIPs",
    "odoo-ai.atmatasolutions.com/applied-hash",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Every object by kind and name; `history` is that of the stack's status.
pub(crate) fn end(objects: &[(String, Value)], history: &Value) -> BTreeMap<String, Value> {
    let names = names(objects, history);
    let rename = |text: String| names.iter().fold(text, |text, (old, new)| text.replace(old, new));
    let compared = objects.iter().map(|(kind, object)| {
        let mut object = object.clone();
        strip(&mut object);
        if let (true, Some(fields)) = (object["data"]["formatVersion"].is_number(), object.as_object_mut()) {
            // The number of a stored revision is for the order in a list only, and counts what the caches show.
            fields.remove("revision");
        }
        if let (true, Some(fields)) = (kind == "cronjobs", object["metadata"].as_object_mut()) {
            // One that a Restore was to pause may hear of it too late.
            fields.remove("generation");
        }
        let text = rename(object.to_string());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        (rename(format!("{kind} {name}")), serde_json::from_str(&text).expect("JSON"))
    });
    compared.collect()
}

/// A name without the revision in it: its key is random.
pub(crate) fn nameless(name: &str) -> String {
    name.split('-').map(|part| if is_hash(part) { "…" } else { part }).collect::<Vec<_>>().join("-")
}

fn is_hash(part: &str) -> bool {
    [8, 10].contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Where `other` differs from `one`, a line each; at most ten.
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
fn names(objects: &[(String, Value)], history: &Value) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    for (number, entry) in history.as_array().into_iter().flatten().rev().enumerate() {
        names.extend(entry["revision"].as_str().map(|revision| (revision.to_owned(), format!("revision-{number}"))));
    }
    let revisions = names.clone();
    for (kind, object) in objects {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let name = revisions.iter().fold(name, |name, (old, new)| name.replace(old, new));
        // Names of what is asked for are digests, too.
        let of_a_request = ["-login-", "-run-"].into_iter().any(|kind| name.contains(kind));
        let change = name.split('-').find(|part| of_a_request && is_hash(part));
        names.extend(change.map(|digest| (digest.to_owned(), "digest".to_owned())));
        let began = object["metadata"]["creationTimestamp"].as_str().filter(|_| kind == "jobs");
        if let Some(time) = began.and_then(|it| it.parse::<Timestamp>().ok()) {
            for text in [time.to_string(), time.as_second().to_string()] {
                names.push((text, format!("when {name} began")));
            }
        }
        // What a Restore has left, or a Job that brought a database its first data: the UID, and what is named after it.
        let env = object.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
        let told = |name: &str| env.into_iter().flatten().find(|it| it["name"] == name)?["value"].as_str();
        let own = ["ODOOAI_RESTORE_OWNER", "ODOOAI_RESTORE_DATABASE"];
        let restore = object.pointer(OF_RESTORE).and_then(Value::as_str);
        let digest = told(own[1]).and_then(|database| database.rsplit_once('_')).filter(|(_, it)| is_hash(it));
        names.extend(
            digest.map(|(_, digest)| (digest.to_owned(), format!("digest of {}", restore.unwrap_or("volume")))),
        );
        if let Some(restore) = restore {
            let own = own.into_iter().filter_map(|name| Some((told(name)?.to_owned(), format!("{name} of {restore}"))));
            names.extend(own);
        }
        let uid = object["metadata"]["uid"].as_str().expect("a UID");
        names.push((uid.to_owned(), format!("the UID of {kind} {name}")));
        if kind.to_lowercase().starts_with("secret") && object["immutable"] != true {
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                let value = value.as_str().filter(|value| !value.is_empty());
                names.extend(value.map(|value| (value.to_owned(), format!("{key} of {name}"))));
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
