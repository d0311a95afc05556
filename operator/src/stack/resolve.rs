//! Resolves the revisioned inputs: the user's own fields and the data that they refer to.

use odoo_ai_crds::common::EnvVar;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{Environment, OdooAiStackSpec};
use serde_json::{Value, json};

use super::model::AppSecrets;
use super::references::{Data, Reference};
use super::validate::Problem;
use crate::component::Component;
use crate::rollout::inputs::{Audience, Content, Inputs, Variable};

/// Placeholders of the application's example files, which it would accept.
const PLACEHOLDERS: [&str; 6] = [
    "change-me",
    "change-me-webhook-secret",
    "changeme-db-password",
    "changeme-random-secret-32chars",
    "changeme-webhook-secret-32chars",
    "sk-ant-xxxxx",
];

/// The inputs of the revision that the spec asks for.
///
/// # Errors
/// A [`Problem`] that names the Secret, `ConfigMap` or key.
pub fn inputs(spec: &OdooAiStackSpec, app_secrets: &AppSecrets, data: &Data) -> Result<Inputs, Problem> {
    let mut variables = Vec::new();
    let odoo = &spec.odoo.credentials_secret_ref;
    let keys = [("ODOO_PASSWORD", &odoo.password_key), ("ODOO_API_KEY", &odoo.api_key_key)];
    for (name, key) in keys.into_iter().filter_map(|(name, key)| Some((name, key.as_ref()?))) {
        variables.push(secret(name, secret_key(data, &odoo.name, key)?));
    }
    let ai = &spec.ai.api_key_secret_ref;
    variables.push(secret("ANTHROPIC_API_KEY", secret_key(data, &ai.name, &ai.key)?));
    let (AppSecrets::Referenced(name) | AppSecrets::Generated(name)) = app_secrets;
    for key in ["AI_SECRET_KEY", "WEBHOOK_SECRET"] {
        variables.push(secret(key, secret_key(data, name, key)?));
    }
    refuse_placeholders(spec.environment, &variables)?;
    from_sources(spec, data, &mut variables)?;
    let components = [
        (Audience::Shared, &spec.env),
        (Audience::Only(Component::AiService), &spec.ai_service.pod.env),
        (Audience::Only(Component::Worker), &spec.worker.pod.env),
        (Audience::Only(Component::Beat), &spec.beat.pod.env),
        (Audience::Only(Component::Dashboard), &spec.dashboard.pod.env),
    ];
    for (audience, entries) in components {
        for entry in entries {
            let value = value_of(entry, data)?;
            variables.retain(|other| other.audience != audience || other.name != entry.name);
            variables.push(Variable { audience, name: entry.name.clone(), value });
        }
    }
    Ok(Inputs { spec: revisioned(spec), variables })
}

/// Keys of `envFrom`; what the operator sets itself wins over a key of the same name.
fn from_sources(spec: &OdooAiStackSpec, data: &Data, variables: &mut Vec<Variable>) -> Result<(), Problem> {
    let own: Vec<String> = variables.iter().map(|variable| variable.name.clone()).collect();
    for source in &spec.env_from {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let found = match (&source.secret_ref, &source.config_map_ref) {
            (Some(reference), _) => object(data, &Reference::Secret(reference.name.clone()))?,
            (None, Some(reference)) => object(data, &Reference::ConfigMap(reference.name.clone()))?,
            (None, None) => continue,
        };
        for (key, value) in found {
            let name = format!("{prefix}{key}");
            if own.contains(&name) || odoo_ai_crds::is_reserved_env(&name) {
                continue;
            }
            variables.retain(|other| other.name != name);
            variables.push(secret(&name, value.clone()));
        }
    }
    Ok(())
}

/// The user's own revisioned fields. Replicas, pull secrets and references are not among them:
/// what a reference holds is in the variables.
fn revisioned(spec: &OdooAiStackSpec) -> Value {
    let component = |value: Value| {
        let mut value = value;
        if let Some(fields) = value.as_object_mut() {
            fields.remove("replicas");
            fields.remove("env");
        }
        value
    };
    json!({
        "images": {
            "aiService": spec.images.ai_service,
            "dashboard": spec.images.dashboard,
            "pullPolicy": spec.images.pull_policy,
        },
        "odoo": {"url": spec.odoo.url, "database": spec.odoo.database, "username": spec.odoo.username},
        "database": spec.database.external.as_ref().map(|it| json!({
            "host": it.host, "port": it.port, "database": it.database, "username": it.username, "sslMode": it.ssl_mode,
        })),
        "model": spec.ai.model,
        "logLevel": spec.log_level,
        "corsOrigins": spec.cors_origins,
        "aiService": component(json!(spec.ai_service)),
        "worker": component(json!(spec.worker)),
        "beat": component(json!(spec.beat)),
        "dashboard": component(json!(spec.dashboard)),
    })
}

fn value_of(entry: &EnvVar, data: &Data) -> Result<Content, Problem> {
    let Some(source) = &entry.value_from else {
        return Ok(Content::Literal(entry.value.clone().unwrap_or_default()));
    };
    match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(key), _) => Ok(Content::Secret(secret_key(data, &key.name, &key.key)?)),
        (None, Some(key)) => config_map_key(data, &key.name, &key.key).map(Content::Literal),
        (None, None) => Ok(Content::Literal(String::new())),
    }
}

fn refuse_placeholders(environment: Environment, variables: &[Variable]) -> Result<(), Problem> {
    if environment == Environment::Local {
        return Ok(());
    }
    let placeholder = variables.iter().find(|variable| match &variable.value {
        Content::Secret(value) => {
            PLACEHOLDERS.contains(&value.as_str()) || (variable.name == "ODOO_PASSWORD" && value == "admin")
        }
        Content::Literal(_) => false,
    });
    match placeholder {
        Some(variable) => Err(Problem::refused(
            reasons::PLACEHOLDER_SECRET,
            format!(
                "the Secret behind {} holds the placeholder of the example files; put the real value there, or use environment Local",
                variable.name
            ),
        )),
        None => Ok(()),
    }
}

fn secret(name: &str, value: String) -> Variable {
    Variable { audience: Audience::Shared, name: name.to_owned(), value: Content::Secret(value) }
}

fn object<'a>(
    data: &'a Data,
    reference: &Reference,
) -> Result<&'a std::collections::BTreeMap<String, String>, Problem> {
    let (reason, kind, name) = match reference {
        Reference::Secret(name) => (reasons::SECRET_MISSING, "Secret", name),
        Reference::ConfigMap(name) => (reasons::CONFIG_MAP_MISSING, "ConfigMap", name),
    };
    data.get(reference)
        .and_then(Option::as_ref)
        .ok_or_else(|| Problem::missing(reason, format!("{kind} {name} doesn't exist in this namespace; create it")))
}

/// The value of a key of a Secret.
///
/// # Errors
/// A [`Problem`] that names Secret and key.
pub fn secret_key(data: &Data, name: &str, key: &str) -> Result<String, Problem> {
    let found = object(data, &Reference::Secret(name.to_owned()))?.get(key);
    found.filter(|value| !value.is_empty()).cloned().ok_or_else(|| {
        Problem::missing(
            reasons::SECRET_KEY_MISSING,
            format!("Secret {name} has no key {key}, or it is empty or not UTF-8; add it"),
        )
    })
}

fn config_map_key(data: &Data, name: &str, key: &str) -> Result<String, Problem> {
    let found = object(data, &Reference::ConfigMap(name.to_owned()))?.get(key);
    found.cloned().ok_or_else(|| {
        Problem::missing(reasons::CONFIG_MAP_MISSING, format!("ConfigMap {name} has no key {key}; add it"))
    })
}
