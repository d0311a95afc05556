//! A namespace for one test of the one function that writes children, and small children for it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use odoo_ai_operator::cluster::apply::{Applier, Error, Outcome};
use odoo_ai_operator::cluster::intent::Intent;
use odoo_ai_operator::labels;
use odoo_ai_tests::ApiServer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::crds::restricted_namespace;
use crate::requests::Requests;

pub(crate) const STACK: &str = "shop";
pub(crate) const UID: &str = "00000000-0000-4000-8000-000000000001";

/// A namespace, a client that counts and one that doesn't.
pub(crate) struct Room {
    pub(crate) namespace: String,
    pub(crate) requests: Requests,
    pub(crate) client: Client,
    /// The client of everybody else.
    pub(crate) others: Client,
}

impl Room {
    pub(crate) async fn new(name: &str) -> Result<Self> {
        let server = ApiServer::shared().await?;
        let requests = Requests::default();
        let (client, others) = (requests.client(server, None).await?, server.client().await?);
        restricted_namespace(&others, name).await?;
        Ok(Self { namespace: name.to_owned(), requests, client, others })
    }

    /// An operator that has just started.
    pub(crate) fn applier(&self) -> Applier {
        Applier::new(self.client.clone())
    }

    /// The object of an intent as it is now.
    pub(crate) async fn live(&self, intent: &Intent) -> Result<DynamicObject> {
        self.api(intent).get(&intent.name).await.with_context(|| intent.key().to_string())
    }

    /// Its metadata, as a cache has them.
    pub(crate) async fn seen(&self, intent: &Intent) -> Result<ObjectMeta> {
        Ok(self.live(intent).await?.metadata)
    }

    pub(crate) fn api(&self, intent: &Intent) -> Api<DynamicObject> {
        Api::namespaced_with(self.others.clone(), &intent.namespace, &intent.resource)
    }

    /// Somebody patches an object, with `kubectl edit` for example.
    pub(crate) async fn edit(&self, intent: &Intent, patch: &Value) -> Result<DynamicObject> {
        let parameters = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
        Ok(self.api(intent).patch(&intent.name, &parameters, &Patch::Merge(patch)).await?)
    }

    /// Another controller applies fields of its own.
    pub(crate) async fn others_apply(&self, intent: &Intent, fields: &Value) -> Result<DynamicObject> {
        let mut object = fields.clone();
        object["apiVersion"] = json!(intent.resource.api_version);
        object["kind"] = json!(intent.resource.kind);
        Ok(self.api(intent).patch(&intent.name, &PatchParams::apply("somebody"), &Patch::Apply(&object)).await?)
    }

    /// Applies with what a cache would show, and says whether it was written and what was sent.
    pub(crate) async fn apply(&self, applier: &Applier, intent: &Intent) -> Result<(bool, Vec<String>)> {
        let seen = self.api(intent).get_opt(&intent.name).await?.map(|object| object.metadata);
        self.requests.take();
        let outcome = applier.apply(intent, seen.as_ref(), UID).await?;
        Ok((matches!(outcome, Outcome::Written(_)), self.requests.take()))
    }

    /// Applies, wants a refusal, and wants it without a write.
    pub(crate) async fn refused(&self, intent: &Intent) -> Result<Error> {
        let seen = self.seen(intent).await?;
        self.requests.take();
        let outcome = self.applier().apply(intent, Some(&seen), UID).await;
        assert_eq!(self.requests.writes(), Vec::<String>::new());
        outcome.err().with_context(|| format!("{} was taken over", intent.key()))
    }

    pub(crate) fn deployment(&self) -> Intent {
        Intent::apply(&self.object::<Deployment>("app", &deployment_spec()))
    }

    pub(crate) fn config_map(&self) -> Intent {
        Intent::apply(&self.object::<ConfigMap>("settings", &json!({"data": {"mode": "calm", "empty": ""}})))
    }

    pub(crate) fn secret(&self) -> Intent {
        Intent::apply(&self.secret_with("hunter2"))
    }

    pub(crate) fn secret_with(&self, password: &str) -> Secret {
        let data = BTreeMap::from([("password".to_owned(), ByteString(password.as_bytes().to_vec()))]);
        Secret { data: Some(data), ..self.object("login", &json!({"type": "Opaque"})) }
    }

    pub(crate) fn service(&self) -> Intent {
        let port = json!({"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080});
        Intent::apply(&self.object::<Service>("web", &json!({"spec": {"selector": {"app": "app"}, "ports": [port]}})))
    }

    pub(crate) fn claim(&self) -> Intent {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}});
        Intent::apply(&self.object::<PersistentVolumeClaim>("data", &json!({"spec": spec})))
    }

    /// One of each kind that is kept by applying it.
    pub(crate) fn all(&self) -> [Intent; 5] {
        [self.deployment(), self.config_map(), self.secret(), self.service(), self.claim()]
    }

    /// A child of the stack.
    pub(crate) fn object<K: DeserializeOwned + kube::Resource<DynamicType = ()>>(&self, name: &str, rest: &Value) -> K {
        let mut object = rest.clone();
        object["metadata"] = json!({
            "name": name, "namespace": self.namespace, "labels": labels::child(STACK, name),
            "ownerReferences": [owner(UID)],
        });
        serde_json::from_value(object).expect("an object of its kind")
    }
}

/// The stack as the controller of a child.
pub(crate) fn owner(uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "odoo-ai.atmatasolutions.com/v1alpha1".to_owned(),
        kind: "OdooAiStack".to_owned(),
        name: STACK.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What other tools leave open is not said here either: replicas, for one.
pub(crate) fn deployment_spec() -> Value {
    let container = json!({
        "name": "app", "image": "app:1", "args": ["serve", "--fast"],
        "env": [{"name": "MODE", "value": "calm"}, {"name": "EXTRA_LOGIN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}}],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "tmp", "mountPath": "/var/tmp", "subPath": "var"}],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    json!({"spec": {
        "selector": {"matchLabels": {"app": "app"}},
        "template": {
            "metadata": {"labels": {"app": "app"}},
            "spec": {
                "containers": [container],
                "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        },
    }})
}
