//! What a revision is made of: the user's revisioned fields and the data of the Secret and
//! `ConfigMap` keys that the application consumes. Never anything rendered or defaulted, so that
//! an upgrade of the operator makes no new revision.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use k8s_openapi::api::core::v1::EnvVar;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::cluster::intent::{canonical, hex};
use crate::component::{APPLICATION, Component, ComponentExt};
use crate::stack::build::pod;

/// Characters of a revision's name: 40 bits, plenty for the few that one stack keeps.
const NAME_LENGTH: usize = 10;

/// Who consumes a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// ai-service, worker and beat.
    Shared,
    /// One component.
    Only(Component),
}

impl Audience {
    /// Prefix of the keys in the copy; part of the stored templates, so it never changes.
    fn prefix(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Only(component) => component.name(),
        }
    }
}

/// Where a variable's value is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the pod template.
    Literal(String),
    /// Copied into the revision's immutable Secret.
    Secret(String),
}

/// One variable that the application consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Who gets it.
    pub audience: Audience,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Content,
}

/// Everything that a revision is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// The user's own revisioned fields, as written in the spec.
    pub spec: Value,
    /// The variables, those from Secrets and `ConfigMap`s resolved.
    pub variables: Vec<Variable>,
}

impl Inputs {
    /// The revision's name: an HMAC, because a plain hash of a weak secret could be guessed.
    #[must_use]
    pub fn revision(&self, key: &[u8]) -> String {
        let mut variables: Vec<_> = self.variables.iter().collect();
        variables.sort_by_key(|variable| (variable.audience, &variable.name));
        let variables: Vec<Value> = variables
            .into_iter()
            .map(|variable| {
                let (kind, value) = match &variable.value {
                    Content::Literal(value) => ("literal", value),
                    Content::Secret(value) => ("secret", value),
                };
                json!([variable.audience.prefix(), variable.name, kind, value])
            })
            .collect();
        keyed_name(key, &json!({"spec": written(&self.spec), "variables": variables}))
    }

    /// What is stored with the templates: enough to name the revision again under another key. The
    /// values of Secrets are in the copies.
    #[must_use]
    pub fn stored(&self) -> Value {
        let mut variables: Vec<_> = self.variables.iter().collect();
        variables.sort_by_key(|variable| (variable.audience, &variable.name));
        let variables = variables.into_iter().map(|variable| match &variable.value {
            Content::Literal(value) => json!([variable.audience.prefix(), variable.name, "literal", value]),
            Content::Secret(_) => json!([variable.audience.prefix(), variable.name, "secret"]),
        });
        json!({"spec": written(&self.spec), "variables": variables.collect::<Vec<_>>()})
    }

    /// What [`Self::stored`] says: enough for the environment, which refers to the copies of Secrets by name.
    #[must_use]
    pub fn from_stored(stored: &Value) -> Self {
        let variable = |entry: &Value| {
            let audience = match entry[0].as_str()? {
                "shared" => Audience::Shared,
                name => Audience::Only(APPLICATION.into_iter().find(|component| component.name() == name)?),
            };
            let value = match (entry[2].as_str()?, entry[3].as_str()) {
                ("literal", Some(value)) => Content::Literal(value.to_owned()),
                _ => Content::Secret(String::new()),
            };
            Some(Variable { audience, name: entry[1].as_str()?.to_owned(), value })
        };
        let variables = stored["variables"].as_array().into_iter().flatten().filter_map(variable).collect();
        Self { spec: stored["spec"].clone(), variables }
    }

    /// Data of the revision's immutable Secret.
    #[must_use]
    pub fn copies(&self) -> BTreeMap<String, String> {
        self.variables
            .iter()
            .filter_map(|variable| match &variable.value {
                Content::Secret(value) => Some((copy_key(variable), value.clone())),
                Content::Literal(_) => None,
            })
            .collect()
    }

    /// The environment of `component`; its own variables win over shared ones.
    #[must_use]
    pub fn environment(&self, component: Component, copy: &str) -> Vec<EnvVar> {
        let mut wanted: BTreeMap<&str, &Variable> = BTreeMap::new();
        for variable in &self.variables {
            let mine = match variable.audience {
                Audience::Shared => component.runs_ai_service_image(),
                Audience::Only(other) => other == component,
            };
            let overridden = wanted.get(variable.name.as_str()).is_some_and(|v| v.audience != Audience::Shared);
            if mine && !(overridden && variable.audience == Audience::Shared) {
                wanted.insert(&variable.name, variable);
            }
        }
        wanted
            .into_values()
            .map(|variable| match &variable.value {
                Content::Literal(value) => pod::env(&variable.name, value.clone()),
                Content::Secret(_) => pod::env_from_secret(&variable.name, copy, &copy_key(variable)),
            })
            .collect()
    }

    /// A variable's value, for the operator's own use (the API key of the rules gate).
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|variable| variable.name == name).map(|variable| match &variable.value {
            Content::Literal(value) | Content::Secret(value) => value.as_str(),
        })
    }
}

/// A name for `value` that tells nothing of it to who doesn't have the key.
#[must_use]
pub fn keyed_name(key: &[u8], value: &Value) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(canonical(value).as_bytes());
    let mut name = hex(&mac.finalize().into_bytes());
    name.truncate(NAME_LENGTH);
    name
}

/// What somebody wrote: unset and empty fields count as absent, so that a field which a later
/// version of the API brings changes no revision.
#[must_use]
pub fn written(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.clone(), written(value)))
            .filter(|(_, value)| !is_empty(value))
            .collect(),
        Value::Array(items) => items.iter().map(written).collect(),
        scalar => scalar.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn copy_key(variable: &Variable) -> String {
    format!("{}.{}", variable.audience.prefix(), variable.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(audience: Audience, name: &str, value: Content) -> Variable {
        Variable { audience, name: name.to_owned(), value }
    }

    fn inputs(secret: &str) -> Inputs {
        Inputs {
            spec: json!({"images": {"aiService": "a:1"}}),
            variables: vec![
                variable(Audience::Shared, "ODOO_PASSWORD", Content::Secret(secret.to_owned())),
                variable(Audience::Shared, "MODE", Content::Literal("x".to_owned())),
                variable(Audience::Only(Component::Worker), "MODE", Content::Literal("y".to_owned())),
                variable(Audience::Only(Component::Dashboard), "TITLE", Content::Literal("t".to_owned())),
            ],
        }
    }

    #[test]
    fn a_changed_secret_or_key_or_spec_is_another_revision() {
        let revision = inputs("one").revision(b"key");
        assert_eq!(revision, inputs("one").revision(b"key"));
        assert_eq!(revision.len(), NAME_LENGTH);
        assert_ne!(revision, inputs("two").revision(b"key"));
        assert_ne!(revision, inputs("one").revision(b"other"));
        let mut changed = inputs("one");
        changed.spec = json!({"images": {"aiService": "a:2"}});
        assert_ne!(revision, changed.revision(b"key"));
    }

    #[test]
    fn unset_fields_and_the_order_of_variables_are_no_difference() {
        let revision = inputs("one").revision(b"key");
        let mut other = inputs("one");
        other.variables.reverse();
        other.spec["model"] = Value::Null;
        other.spec["worker"] = json!({"queues": []});
        assert_eq!(other.revision(b"key"), revision);
    }

    #[test]
    fn secret_values_stay_out_of_templates() {
        let environment = inputs("hunter2").environment(Component::AiService, "s-config-1");
        let text = serde_json::to_string(&environment).expect("json");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("shared.ODOO_PASSWORD"), "{text}");
        assert_eq!(inputs("hunter2").copies().get("shared.ODOO_PASSWORD").map(String::as_str), Some("hunter2"));
    }

    #[test]
    fn a_component_sees_its_own_value_and_the_dashboard_no_shared_ones() {
        let names = |component| {
            inputs("p")
                .environment(component, "c")
                .into_iter()
                .map(|env| (env.name, env.value.unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        assert!(names(Component::Worker).contains(&("MODE".to_owned(), "y".to_owned())));
        assert!(names(Component::Beat).contains(&("MODE".to_owned(), "x".to_owned())));
        assert_eq!(names(Component::Dashboard), vec![("TITLE".to_owned(), "t".to_owned())]);
    }
}
