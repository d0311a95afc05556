//! Who owns which field: server-side apply and merge patches on plain JSON, as far as the operator's
//! objects need it. Lists merge by the keys that the API server uses for them; all others are atomic.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// One step into an object: a field's name, or an item of a list by its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    Item(Vec<Key>),
}

/// A field of an item that names it, and its value.
type Key = (String, Text);

/// A value of a key: a text, or what else there is as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Text {
    Plain(String),
    Json(String),
}

/// What a path to an item leads to: that it is there.
static THERE: Value = Value::Bool(true);

/// Where a field is.
pub(crate) type Path = Vec<Step>;

/// The fields that each manager owns, those that it applied and those that it wrote otherwise apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners(BTreeMap<(String, bool), BTreeSet<Path>>);

impl Owners {
    /// Somebody wrote without applying: what differs from `before` is theirs.
    pub(crate) fn updated(&mut self, manager: &str, before: &Value, after: &Value) {
        let mut changed = Vec::new();
        collect(Some(before), after, "", &mut Vec::new(), &mut changed);
        let changed: BTreeSet<Path> = changed.into_iter().collect();
        for owned in self.0.values_mut() {
            owned.retain(|path| !changed.contains(path));
        }
        self.0.entry((manager.to_owned(), false)).or_default().extend(changed);
    }

    /// Server-side apply, by force: `applied` is laid over `live`, and what the manager applied before
    /// and doesn't any more goes, unless somebody else owns it too.
    pub(crate) fn apply(&mut self, manager: &str, live: &mut Value, applied: &Value) {
        let us = (manager.to_owned(), true);
        let wanted: BTreeSet<Path> = leaves(applied).into_iter().collect();
        let before = self.0.remove(&us).unwrap_or_default();
        for dropped in before.difference(&wanted) {
            let others = self.0.values().flatten().any(|path| path.starts_with(dropped));
            let ours = wanted.iter().any(|path| path.starts_with(dropped));
            if !others && !ours {
                remove(live, dropped);
            }
        }
        for owned in self.0.values_mut() {
            owned.retain(|path| !wanted.contains(path) || at(live, path) == at(applied, path));
        }
        lay(live, applied, "");
        self.0.insert(us, wanted);
    }
}

/// A merge patch as RFC 7386 has it.
pub(crate) fn merge(live: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        live.clone_from(patch);
        return;
    };
    if !live.is_object() {
        *live = Value::Object(Map::new());
    }
    let Value::Object(target) = live else { return };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Keys by which the list in field `name` merges; `None` where it is replaced as a whole.
fn keys(name: &str, items: &[Value]) -> Option<&'static [&'static str]> {
    let keys: &[&str] = match name {
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => &["name"],
        "volumeMounts" => &["mountPath"],
        "ownerReferences" => &["uid"],
        "conditions" => &["type"],
        "ports" if items.iter().all(|item| item.get("containerPort").is_some()) => &["containerPort", "protocol"],
        "ports" => &["port", "protocol"],
        _ => return None,
    };
    Some(keys)
}

/// Maps that one manager owns as a whole.
fn is_atomic(name: &str) -> bool {
    ["selector", "nodeSelector", "matchLabels"].contains(&name)
}

/// What names an object is nobody's field.
fn is_identity(path: &[Step]) -> bool {
    let names: Vec<_> = path
        .iter()
        .map(|step| match step {
            Step::Field(name) => name.as_str(),
            Step::Item(_) => "",
        })
        .collect();
    matches!(
        names[..],
        ["apiVersion" | "kind" | "status"]
            | ["metadata", "name" | "namespace" | "uid" | "resourceVersion" | "generation" | "creationTimestamp"]
    )
}

fn item(value: &Value, keys: &[&str]) -> Step {
    Step::Item(keys.iter().map(|key| key_of(value, key)).collect())
}

fn leaves(value: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    collect(None, value, "", &mut Vec::new(), &mut found);
    found
}

/// The fields of `value` that are not the same in what was there before.
fn collect(before: Option<&Value>, value: &Value, name: &str, path: &mut Path, found: &mut Vec<Path>) {
    if before == Some(value) || is_identity(path) {
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() && !is_atomic(name) => {
            for (field, value) in fields {
                path.push(Step::Field(field.clone()));
                collect(before.and_then(|it| it.get(field)), value, field, path, found);
                path.pop();
            }
        }
        Value::Array(items) if keys(name, items).is_some() => {
            let keys = keys(name, items).unwrap_or_default();
            for value in items {
                let step = item(value, keys);
                let before = before.and_then(|it| within(it, &step));
                path.push(step);
                if before.is_none() {
                    found.push(path.clone());
                }
                collect(before, value, "", path, found);
                path.pop();
            }
        }
        _ => found.push(path.clone()),
    }
}

fn is_at(value: &Value, step: &[Key]) -> bool {
    step.iter().all(|(key, text)| match (&value[key], text) {
        (Value::String(value), Text::Plain(text)) => value == text,
        (value, text) => text_of(value) == *text,
    })
}

fn key_of(value: &Value, key: &str) -> Key {
    (key.to_owned(), text_of(&value[key]))
}

fn text_of(value: &Value) -> Text {
    match value {
        Value::String(text) => Text::Plain(text.clone()),
        other => Text::Json(other.to_string()),
    }
}

fn within<'a>(value: &'a Value, step: &Step) -> Option<&'a Value> {
    match step {
        Step::Field(name) => value.get(name),
        Step::Item(keys) => value.as_array()?.iter().find(|item| is_at(item, keys)),
    }
}

fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    let here = path.iter().try_fold(value, within)?;
    // An item stands for its being there; what is in it has paths of its own.
    Some(if matches!(path.last(), Some(Step::Item(_))) { &THERE } else { here })
}

fn remove(value: &mut Value, path: &[Step]) {
    match path {
        [Step::Field(name)] => {
            if let Some(fields) = value.as_object_mut() {
                fields.remove(name);
            }
        }
        [Step::Item(keys)] => {
            if let Some(items) = value.as_array_mut() {
                items.retain(|item| !is_at(item, keys));
            }
        }
        [Step::Field(name), rest @ ..] => {
            if let Some(value) = value.get_mut(name) {
                remove(value, rest);
            }
        }
        [Step::Item(keys), rest @ ..] => {
            let items = value.as_array_mut().into_iter().flatten();
            items.filter(|item| is_at(item, keys)).for_each(|item| remove(item, rest));
        }
        [] => {}
    }
}

fn lay(live: &mut Value, applied: &Value, name: &str) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) if !is_atomic(name) => {
            for (field, value) in applied {
                lay(live.entry(field.clone()).or_insert(Value::Null), value, field);
            }
        }
        (Value::Array(live), Value::Array(applied)) if keys(name, applied).is_some() => {
            let keys = keys(name, applied).unwrap_or_default();
            for value in applied {
                let same = live.iter_mut().find(|item| keys.iter().all(|key| item[*key] == value[*key]));
                match same {
                    Some(item) => lay(item, value, ""),
                    None => live.push(value.clone()),
                }
            }
        }
        (live, applied) => live.clone_from(applied),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_longer_applied_goes_unless_somebody_else_owns_it() {
        let mut live = json!({});
        let mut owners = Owners::default();
        let before =
            json!({"spec": {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["x"]}});
        owners.apply("us", &mut live, &before);
        assert_eq!(live, before);
        let theirs = json!({"spec": {"env": [{"name": "B", "value": "2"}, {"name": "C", "value": "3"}]}});
        owners.apply("them", &mut live, &theirs);
        owners.apply("us", &mut live, &json!({"spec": {"args": ["y", "z"]}}));
        let left = json!([{"name": "B", "value": "2"}, {"name": "C", "value": "3"}]);
        assert_eq!(live, json!({"spec": {"env": left, "args": ["y", "z"]}}));
    }

    #[test]
    fn what_was_created_is_not_taken_away_by_applying_less() {
        let mut live = json!({"data": {"password": "x"}, "metadata": {"labels": {"a": "1"}}});
        let mut owners = Owners::default();
        owners.updated("us", &json!({}), &live);
        owners.apply("us", &mut live, &json!({"metadata": {"labels": {"a": "2"}}}));
        owners.apply("us", &mut live, &json!({"metadata": {"labels": {"b": "3"}}}));
        assert_eq!(live, json!({"data": {"password": "x"}, "metadata": {"labels": {"b": "3"}}}));
    }

    #[test]
    fn a_merge_patch_removes_what_is_null() {
        let mut live = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut live, &json!({"a": {"b": null, "e": 3}, "d": [2]}));
        assert_eq!(live, json!({"a": {"c": 2, "e": 3}, "d": [2]}));
    }
}
