//! The user's Secrets and `ConfigMap`s that a stack consumes: which they are, and reading them.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use odoo_ai_crds::stack::OdooAiStackSpec;

use super::build::data;
use super::model::AppSecrets;
use super::validate;

/// A Secret or `ConfigMap` of the stack's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A Secret.
    Secret(String),
    /// A `ConfigMap`.
    ConfigMap(String),
}

/// Data by reference; `None` where the object doesn't exist.
pub type Data = BTreeMap<Reference, Option<Contents>>;

/// What is in a Secret or `ConfigMap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Values that are text, by key.
    pub text: BTreeMap<String, String>,
    /// Keys of a Secret whose values are not UTF-8.
    pub binary: BTreeSet<String>,
}

impl From<BTreeMap<String, String>> for Contents {
    fn from(text: BTreeMap<String, String>) -> Self {
        Self { text, binary: BTreeSet::new() }
    }
}

/// Every object whose data a pod of the application consumes: those that the spec of the stack with
/// this name refers to, and those that the operator generates where it refers to none.
#[must_use]
pub fn of(spec: &OdooAiStackSpec, name: &str) -> Vec<Reference> {
    let (AppSecrets::Referenced(application) | AppSecrets::Generated(application)) = validate::app_secrets(spec, name);
    let mut all = vec![
        Reference::Secret(spec.odoo.credentials_secret_ref.name.clone()),
        Reference::Secret(spec.ai.api_key_secret_ref.name.clone()),
        Reference::Secret(application),
    ];
    let generated = |which: data::Generated| Reference::Secret(format!("{name}-{}", which.suffix));
    match &spec.database.external {
        Some(external) => {
            all.push(Reference::Secret(external.password_secret_ref.name.clone()));
            all.extend(external.ca_secret_ref.iter().map(|reference| Reference::Secret(reference.name.clone())));
        }
        None => all.push(generated(data::DATABASE)),
    }
    match &spec.redis.external {
        Some(external) => {
            all.push(Reference::Secret(external.url_secret_ref.name.clone()));
            all.extend(external.ca_secret_ref.iter().map(|reference| Reference::Secret(reference.name.clone())));
        }
        None => all.push(generated(data::REDIS)),
    }
    let components = [&spec.ai_service.pod, &spec.worker.pod, &spec.beat.pod, &spec.dashboard.pod];
    let entries = spec.env.iter().chain(components.into_iter().flat_map(|pod| &pod.env));
    for source in entries.filter_map(|entry| entry.value_from.as_ref()) {
        all.extend(source.secret_key_ref.as_ref().map(|key| Reference::Secret(key.name.clone())));
        all.extend(source.config_map_key_ref.as_ref().map(|key| Reference::ConfigMap(key.name.clone())));
    }
    for source in &spec.env_from {
        all.extend(source.secret_ref.as_ref().map(|reference| Reference::Secret(reference.name.clone())));
        all.extend(source.config_map_ref.as_ref().map(|reference| Reference::ConfigMap(reference.name.clone())));
    }
    all.sort();
    all.dedup();
    all
}

/// Reads all references at once.
///
/// # Errors
/// The client's error; an object that doesn't exist is none.
pub async fn read(client: &Client, namespace: &str, references: Vec<Reference>) -> kube::Result<Data> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let reads = references.into_iter().map(|reference| {
        let (secrets, config_maps) = (&secrets, &config_maps);
        async move {
            let data = match &reference {
                Reference::Secret(name) => secrets.get_opt(name).await?.map(contents_of),
                Reference::ConfigMap(name) => {
                    config_maps.get_opt(name).await?.map(|map| map.data.unwrap_or_default().into())
                }
            };
            Ok::<_, kube::Error>((reference, data))
        }
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// What is in a Secret.
#[must_use]
pub fn contents_of(secret: Secret) -> Contents {
    let mut contents = Contents::default();
    for (key, value) in secret.data.unwrap_or_default() {
        match String::from_utf8(value.0) {
            Ok(text) => drop(contents.text.insert(key, text)),
            Err(_) => drop(contents.binary.insert(key)),
        }
    }
    contents
}
