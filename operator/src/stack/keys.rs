//! The generated keys, and whether somebody saved them outside the cluster: whoever did notes their digest on the stack.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};
use odoo_ai_crds::conditions::{annotations, reasons};
use odoo_ai_crds::stack::OdooAiStack;
use serde_json::{Map, Value, json};

use super::build::credentials;
use crate::cluster::children::Children;
use crate::cluster::intent::hash;
use crate::cluster::status::Verdict;
use crate::context::Name;
use crate::labels;
use crate::rollout::requests;

/// Component label of the copies of revisions.
const COPIES: &str = "application";

/// What is known of an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Export {
    /// There is nothing that could be lost.
    #[default]
    Nothing,
    /// Nobody noted one.
    Missing,
    /// It has the keys as they are.
    Current,
    /// A key is another one since.
    Outdated,
}

/// Digests that were made, by stack: made again when a Secret's version is another one.
#[derive(Debug, Default)]
pub struct Digests(Mutex<HashMap<Name, Known>>);

/// Versions of Secrets by name, and the digest of what they hold.
type Known = (BTreeMap<String, String>, String);

impl Digests {
    /// What is known of a stack's export. Secrets are read only where one was noted, and once for each version.
    ///
    /// # Errors
    /// The client's error.
    pub async fn look(
        &self,
        client: &Client,
        stack: &OdooAiStack,
        namespace: &str,
        children: &Children,
    ) -> kube::Result<Export> {
        let name = (namespace.to_owned(), stack.name_any());
        let versions = versions(children, &name.1);
        if versions.is_empty() {
            return Ok(Export::Nothing);
        }
        let Some(noted) = requests::token(stack, annotations::KEYS_EXPORTED) else { return Ok(Export::Missing) };
        let known = self.known(&name).filter(|(of, _)| *of == versions);
        let digest = if let Some((_, digest)) = known {
            digest
        } else {
            let digest = digest(&read(client, namespace, versions.keys()).await?);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (versions, digest.clone()));
            digest
        };
        Ok(if noted == digest { Export::Current } else { Export::Outdated })
    }

    /// Forgets a stack that is gone.
    pub fn forget(&self, name: &Name) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn known(&self, name: &Name) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

/// Names and versions of the Secrets that an export has: all with the stack's label, but for what is made of them.
fn versions(children: &Children, stack: &str) -> BTreeMap<String, String> {
    let made = [COPIES, credentials::COMPONENT];
    let of_stack = children.of_kind("Secret").filter(|meta| {
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
        label(labels::STACK) == Some(stack) && !label(labels::COMPONENT).is_some_and(|it| made.contains(&it))
    });
    of_stack.filter_map(|meta| Some((meta.name.clone()?, meta.resource_version.clone()?))).collect()
}

async fn read(client: &Client, namespace: &str, names: impl Iterator<Item = &String>) -> kube::Result<Vec<Secret>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = try_join_all(names.map(|name| api.get_opt(name))).await?;
    Ok(read.into_iter().flatten().collect())
}

/// SHA-256, hexadecimal, of `{"<name>":{"<key>":"<base64>"}}`, sorted and without spaces: what docs/secrets.md has `jq` and
/// `sha256sum` make of an export.
#[must_use]
pub fn digest(secrets: &[Secret]) -> String {
    let all = secrets.iter().map(|secret| (secret.name_any(), json!(secret.data.clone().unwrap_or_default())));
    hash(&Value::Object(all.collect::<Map<_, _>>()))
}

/// What the condition `KeysExported` says; `None`: nothing.
#[must_use]
pub fn verdict(export: Export) -> Option<Verdict> {
    const HOW: &str = "the command in docs/secrets.md saves them and notes that";
    match export {
        Export::Nothing => None,
        Export::Current => {
            Some(Verdict::new(true, reasons::EXPORTED, "the generated keys were saved outside the cluster"))
        }
        Export::Missing => Some(Verdict::new(
            false,
            reasons::NOT_EXPORTED,
            format!("nobody has noted that the generated keys were saved outside the cluster: {HOW}"),
        )),
        Export::Outdated => Some(Verdict::new(
            false,
            reasons::CHANGED_SINCE_EXPORT,
            format!("a generated key is another one than when they were saved: {HOW}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the commands of docs/secrets.md: `jq -cjS '…' | sha256sum`.
    #[test]
    fn the_digest_is_what_the_documented_command_makes() {
        let secret = |name: &str, data: Value| -> Secret {
            serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).expect("a Secret")
        };
        let secrets = [
            secret("odoo-ai-revision-key", json!({"key": "c2VjcmV0"})),
            secret("odoo-ai-app-secrets", json!({"WEBHOOK_SECRET": "Yg==", "AI_SECRET_KEY": "YQ=="})),
        ];
        assert_eq!(digest(&secrets), "7f652ddca7c76e0cd6ef1b7c8a36be26c70b657bc2fbebbc2b9e6b22b4a438bc");
    }
}
