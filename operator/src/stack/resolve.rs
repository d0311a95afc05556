//! Resolves the revisioned inputs: the user's own fields and the data that they refer to.

use odoo_ai_crds::common::EnvVar;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{Environment, OdooAiStackSpec};
use serde_json::{Value, json};

use super::model::AppSecrets;
use super::references::{Contents, Data, Reference};
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
        variables.push(secret(name, credential(data, &odoo.name, key)?));
    }
    let ai = &spec.ai.api_key_secret_ref;
    variables.push(secret("ANTHROPIC_API_KEY", credential(data, &ai.name, &ai.key)?));
    let (AppSecrets::Referenced(name) | AppSecrets::Generated(name)) = app_secrets;
    for key in ["AI_SECRET_KEY", "WEBHOOK_SECRET"] {
        variables.push(secret(key, credential(data, name, key)?));
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
        for (key, value) in &found.text {
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
    variables.iter().try_for_each(|variable| match &variable.value {
        Content::Secret(value) => refuse_placeholder(environment, &variable.name, value),
        Content::Literal(_) => Ok(()),
    })
}

/// Outside Local no example value may open anything; `behind` is what the Secret is for.
///
/// # Errors
/// A [`Problem`] that says what the value is for.
pub fn refuse_placeholder(environment: Environment, behind: &str, value: &str) -> Result<(), Problem> {
    let placeholder = PLACEHOLDERS.contains(&value) || (behind == "ODOO_PASSWORD" && value == "admin");
    if environment == Environment::Local || !placeholder {
        return Ok(());
    }
    Err(Problem::refused(
        reasons::PLACEHOLDER_SECRET,
        format!(
            "the Secret behind {behind} holds the placeholder of the example files; put the real value there, or use environment Local"
        ),
    ))
}

fn secret(name: &str, value: String) -> Variable {
    Variable { audience: Audience::Shared, name: name.to_owned(), value: Content::Secret(value) }
}

fn object<'a>(data: &'a Data, reference: &Reference) -> Result<&'a Contents, Problem> {
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
    let found = object(data, &Reference::Secret(name.to_owned()))?;
    match found.text.get(key) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        Some(_) => Err(Problem::missing(
            reasons::SECRET_KEY_MISSING,
            format!("key {key} of Secret {name} is empty; put the value in"),
        )),
        None if found.binary.contains(key) => Err(Problem::missing(
            reasons::SECRET_MALFORMED,
            format!(
                "key {key} of Secret {name} is not UTF-8 text; create it anew, for example with kubectl create secret generic --from-literal"
            ),
        )),
        None => Err(Problem::missing(
            reasons::SECRET_KEY_MISSING,
            format!("Secret {name} has no key {key}{}; add it, or correct the key in the spec", present(found)),
        )),
    }
}

/// A password or an API key: what it can't have would be sent as part of it, and refused far away.
///
/// # Errors
/// A [`Problem`] that names the Secret and the key, never the value.
pub fn credential(data: &Data, name: &str, key: &str) -> Result<String, Problem> {
    let value = secret_key(data, name, key)?;
    let what = if value.ends_with(['\n', '\r']) {
        "ends with a newline, which would be sent as part of it; create it with printf instead of echo, or with --from-literal"
    } else if value.chars().any(char::is_control) {
        "holds a line break or another control character, which no password or API key has; create it anew"
    } else {
        return Ok(value);
    };
    Err(Problem::missing(reasons::SECRET_MALFORMED, format!("key {key} of Secret {name} {what}")))
}

/// A misspelled key is seen at once beside those that are there.
fn present(contents: &Contents) -> String {
    const SHOWN: usize = 5;
    let mut keys: Vec<_> = contents.text.keys().chain(&contents.binary).map(String::as_str).collect();
    keys.sort_unstable();
    match keys.len() {
        0 => ", it is empty".to_owned(),
        1..=SHOWN => format!(", it has {}", keys.join(", ")),
        _ => format!(", it has {} and others", keys[..SHOWN].join(", ")),
    }
}

fn config_map_key(data: &Data, name: &str, key: &str) -> Result<String, Problem> {
    let found = object(data, &Reference::ConfigMap(name.to_owned()))?.text.get(key);
    found.cloned().ok_or_else(|| {
        Problem::missing(reasons::CONFIG_MAP_MISSING, format!("ConfigMap {name} has no key {key}; add it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn data(value: Option<&[u8]>) -> Data {
        let mut contents = Contents::default();
        contents.text.insert("user".to_owned(), "x".to_owned());
        match value.map(|value| String::from_utf8(value.to_vec())) {
            Some(Ok(text)) => drop(contents.text.insert("password".to_owned(), text)),
            Some(Err(_)) => drop(contents.binary.insert("password".to_owned())),
            None => {}
        }
        [(Reference::Secret("odoo".to_owned()), Some(contents))].into()
    }

    #[rstest]
    #[case::missing(None, "SecretKeyMissing", "no key password, it has user;")]
    #[case::empty(Some(&b""[..]), "SecretKeyMissing", "is empty")]
    #[case::not_text(Some(&b"\xff\xfe"[..]), "SecretMalformed", "not UTF-8")]
    #[case::newline(Some(&b"hunter2\n"[..]), "SecretMalformed", "ends with a newline")]
    #[case::windows(Some(&b"hunter2\r\n"[..]), "SecretMalformed", "ends with a newline")]
    #[case::two_lines(Some(&b"one\ntwo"[..]), "SecretMalformed", "line break")]
    fn a_credential_that_cant_work_is_told_apart(
        #[case] value: Option<&[u8]>,
        #[case] reason: &str,
        #[case] words: &str,
    ) {
        let problem = credential(&data(value), "odoo", "password").expect_err("a problem");
        assert_eq!(problem.reason, reason);
        assert!(problem.message.contains(words) && problem.message.contains("Secret odoo"), "{}", problem.message);
        assert!(!problem.message.contains("hunter2") && !problem.stalled, "{}", problem.message);
    }

    #[test]
    fn a_certificate_in_a_variable_may_end_with_a_newline_and_a_password_may_have_spaces() {
        let pem = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        assert!(secret_key(&data(Some(pem)), "odoo", "password").is_ok());
        assert_eq!(credential(&data(Some(b" a b ")), "odoo", "password").ok().as_deref(), Some(" a b "));
    }

    #[test]
    fn a_secret_that_is_not_there_is_told_apart_from_one_without_the_key() {
        let problem = credential(&Data::new(), "odoo", "password").expect_err("a problem");
        assert_eq!(problem.reason, "SecretMissing");
    }
}
