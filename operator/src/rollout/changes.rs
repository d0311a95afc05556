//! Which settings a revision changes, by name and never by value: what a person reads before they
//! approve it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::inputs::{Inputs, keyed_name};
use super::revision::Stored;

/// Keyed digests of the values that come from Secrets, stored with a revision: they tell that a value
/// differs, and nothing of the value.
#[must_use]
pub fn digests(inputs: &Inputs, key: &[u8]) -> BTreeMap<String, String> {
    let digest = |(name, value): (String, String)| {
        let digest = keyed_name(key, &json!([name, value]));
        (name, digest)
    };
    inputs.copies().into_iter().map(digest).collect()
}

/// Names of what differs between a stored revision and `inputs`; images are told apart, with their names.
#[must_use]
pub fn between(stored: &Stored, inputs: &Inputs, key: &[u8]) -> Vec<String> {
    let now = inputs.stored();
    let mut changed = BTreeSet::new();
    fields("", &stored.inputs["spec"], &now["spec"], &mut changed);
    changed.retain(|name| name != "images" && !name.starts_with("images."));
    let (before, after) = (variables(&stored.inputs), variables(&now));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    changed.extend(names.into_iter().filter(|name| before.get(*name) != after.get(*name)).map(|name| named(name)));
    if let Some(stored) = &stored.digests {
        let now = digests(inputs, key);
        // What is there on one side only was found above.
        let other = |name: &String| stored.get(name).is_some_and(|digest| now.get(name).is_some_and(|it| it != digest));
        changed.extend(now.keys().filter(|name| other(name)).map(|name| named(name)));
    }
    changed.into_iter().collect()
}

/// Paths of the leaves that differ.
fn fields(path: &str, before: &Value, after: &Value, changed: &mut BTreeSet<String>) {
    let none = Map::new();
    let of = |value: &Value| value.as_object().cloned().or_else(|| value.is_null().then(|| none.clone()));
    match (of(before), of(after)) {
        _ if before == after => {}
        (Some(before), Some(after)) => {
            for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let null = Value::Null;
                fields(&path, before.get(name).unwrap_or(&null), after.get(name).unwrap_or(&null), changed);
            }
        }
        _ => {
            changed.insert(path.to_owned());
        }
    }
}

/// Variables by audience and name, without the values of Secrets.
fn variables(inputs: &Value) -> BTreeMap<String, &[Value]> {
    let all = inputs["variables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = |variable: &'_ Value| -> Option<String> {
        Some(format!("{}.{}", variable[0].as_str()?, variable[1].as_str()?))
    };
    all.iter().filter_map(|it| Some((entry(it)?, it.as_array().map(Vec::as_slice)?))).collect()
}

/// `shared.ODOO_URL` as people read it.
fn named(key: &str) -> String {
    match key.split_once('.') {
        Some(("shared", name)) => name.to_owned(),
        Some((component, name)) => format!("{name} of {component}"),
        None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Component;
    use crate::rollout::inputs::{Audience, Content, Variable};

    fn inputs(spec: Value, secret: &str, mode: Option<&str>) -> Inputs {
        let shared = |name: &str, value| Variable { audience: Audience::Shared, name: name.to_owned(), value };
        let mut variables = vec![shared("ODOO_PASSWORD", Content::Secret(secret.to_owned()))];
        variables.extend(mode.map(|mode| Variable {
            audience: Audience::Only(Component::Worker),
            name: "MODE".to_owned(),
            value: Content::Literal(mode.to_owned()),
        }));
        Inputs { spec, variables }
    }

    #[test]
    fn names_and_no_values() {
        let before =
            inputs(json!({"images": {"aiService": "a:1"}, "worker": {"concurrency": 4}}), "hunter2", Some("x"));
        let stored =
            Stored { digests: Some(digests(&before, b"key")), ..Stored::new(before.stored(), BTreeMap::new()) };
        assert_eq!(between(&stored, &before, b"key"), Vec::<String>::new());
        let spec = json!({"images": {"aiService": "a:2"}, "worker": {"concurrency": 2}, "logLevel": "Debug"});
        let after = inputs(spec.clone(), "hunter3", Some("y"));
        assert_eq!(
            between(&stored, &after, b"key"),
            ["MODE of worker", "ODOO_PASSWORD", "logLevel", "worker.concurrency"]
        );
        assert_eq!(
            between(&stored, &inputs(spec, "hunter2", None), b"key"),
            ["MODE of worker", "logLevel", "worker.concurrency"]
        );
        assert!(!format!("{stored:?}").contains("hunter2"));
        let unknown = Stored { digests: None, ..stored };
        assert_eq!(between(&unknown, &after, b"key").len(), 3, "an older operator stored none");
    }
}
