//! The credentials of database and Redis that the spec asks for. They are no part of a revision: a
//! rollback must not bring a dead password back.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use odoo_ai_crds::common::SecretKeyRef;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::OdooAiStackSpec;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::build::credentials::keys;
use super::build::data;
use super::model::Stack;
use super::references::{self, Data};
use super::resolve;
use super::validate::Problem;
use crate::labels;

/// What the live Secret holds, key → value.
pub type Values = BTreeMap<String, String>;

/// The live Secret as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its values.
    pub values: Values,
    /// Counts the logins that were made live; pods carry the one that they were started with.
    pub generation: i64,
}

impl From<Secret> for Live {
    fn from(secret: Secret) -> Self {
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let generation = annotations.get(labels::CREDENTIALS_GENERATION).and_then(|value| value.parse().ok());
        Self { values: references::contents_of(secret).text, generation: generation.unwrap_or(0) }
    }
}

/// What the live Secret shall hold.
///
/// # Errors
/// A [`Problem`] that names the Secret and the key.
pub fn wanted(spec: &OdooAiStackSpec, stack: &Stack, data: &Data) -> Result<Values, Problem> {
    let mut values = Values::new();
    let mut put = |key: &str, value: String| values.insert(key.to_owned(), value);
    let database = spec.database.external.as_ref().filter(|_| stack.database.managed().is_none());
    put(
        keys::DATABASE_PASSWORD,
        match database {
            Some(external) => {
                let value = password(data, &external.password_secret_ref)?;
                resolve::refuse_placeholder(spec.environment, "database.external.passwordSecretRef", &value)?;
                value
            }
            None => password(data, &generated(stack, data::DATABASE))?,
        },
    );
    put(keys::DATABASE_CA, authority(data, database.and_then(|it| it.ca_secret_ref.as_ref()))?);
    let redis = spec.redis.external.as_ref().filter(|_| stack.redis.managed().is_none());
    put(keys::REDIS_CA, authority(data, redis.and_then(|it| it.ca_secret_ref.as_ref()))?);
    if let Some(external) = redis {
        put(keys::REDIS_URL, redis_url(data, &external.url_secret_ref)?);
    } else {
        let password = password(data, &generated(stack, data::REDIS))?;
        put(keys::REDIS_CONF, format!("requirepass {}\n", quoted(&password)));
        let password = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        put(keys::REDIS_URL, format!("redis://:{password}@{}:6379/0", stack.child("redis")));
    }
    Ok(values)
}

/// What can be live before anything was proven: the Managed servers are started with it. An External
/// server's login is left out.
#[must_use]
pub fn unproven(stack: &Stack, wanted: &Values) -> Values {
    let external = |key: &str| match key {
        keys::DATABASE_PASSWORD | keys::DATABASE_CA => stack.database.managed().is_none(),
        _ => stack.redis.managed().is_none(),
    };
    let keep =
        |(key, value): (&String, &String)| (key.clone(), if external(key) { String::new() } else { value.clone() });
    wanted.iter().map(keep).collect()
}

/// True where a process that runs would have to log in anew: authorities are read at each connection.
#[must_use]
pub fn logins_differ(left: &Values, right: &Values) -> bool {
    [keys::DATABASE_PASSWORD, keys::REDIS_URL].into_iter().any(|key| left.get(key) != right.get(key))
}

fn generated(stack: &Stack, which: data::Generated) -> SecretKeyRef {
    SecretKeyRef { name: stack.child(which.suffix), key: "password".to_owned() }
}

/// One newline at the end, as `echo` makes it, is no part of a password.
fn password(data: &Data, reference: &SecretKeyRef) -> Result<String, Problem> {
    let value = resolve::secret_key(data, &reference.name, &reference.key)?;
    let value = value.strip_suffix('\n').unwrap_or(&value);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() || value.contains(['\n', '\r', '\0']) {
        return Err(malformed(reference, "must be one line of text"));
    }
    Ok(value.to_owned())
}

fn authority(data: &Data, reference: Option<&SecretKeyRef>) -> Result<String, Problem> {
    let Some(reference) = reference else { return Ok(String::new()) };
    let value = resolve::secret_key(data, &reference.name, &reference.key)?;
    if !value.contains("-----BEGIN CERTIFICATE-----") {
        return Err(malformed(reference, "must hold certificates as PEM (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(value)
}

fn redis_url(data: &Data, reference: &SecretKeyRef) -> Result<String, Problem> {
    let value = password(data, reference)?;
    let url = reqwest::Url::parse(&value).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss"));
    if url.is_none_or(|url| url.host_str().is_none_or(str::is_empty)) {
        let form = "must be a URL like redis://:password@host:6379/0 or rediss://…, the password percent-encoded";
        return Err(malformed(reference, form));
    }
    Ok(value)
}

fn malformed(reference: &SecretKeyRef, must: &str) -> Problem {
    let message = format!("key {} of Secret {} {must}", reference.key, reference.name);
    Problem { reason: reasons::SECRET_MALFORMED, message, stalled: false }
}

/// As Redis' configuration file takes any text.
fn quoted(text: &str) -> String {
    let escape =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("\\x{byte:02x}") };
    format!("\"{}\"", text.bytes().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_password_fits_the_configuration_file() {
        assert_eq!(quoted("a\" #'é"), "\"a\\x22\\x20\\x23\\x27\\xc3\\xa9\"");
    }
}
