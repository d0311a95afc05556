//! Secrets, Services and volumes. Volumes, keys and generated Secrets have no owner: they outlive
//! the stack unless its owner said otherwise.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    LocalObjectReference, PersistentVolumeClaim, PersistentVolumeClaimSpec, Secret, Service, ServiceAccount,
    ServicePort, ServiceSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use odoo_ai_crds::conditions::annotations;

use super::application::{Rendering, copy_name};
use super::{API_PORT, DASHBOARD_PORT, DATABASE_PORT, REDIS_PORT, meta, pod};
use crate::cluster::children::Children;
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::stack::model::{AppSecrets, ManagedDatabase, Stack};

/// A Secret that is generated once; never overwritten, never deleted by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Suffix of its name.
    pub suffix: &'static str,
    /// Component label.
    pub component: &'static str,
    /// Keys that get random text.
    pub keys: &'static [&'static str],
}

/// Key of the HMAC that names revisions.
pub const REVISION_KEY: Generated = Generated { suffix: "revision-key", component: "stack", keys: &["key"] };
/// Password of the PostgreSQL superuser.
pub const DATABASE_ADMIN: Generated =
    Generated { suffix: "database-admin-credentials", component: "postgresql", keys: &["password"] };
/// Password of the application's role.
pub const DATABASE: Generated =
    Generated { suffix: "database-credentials", component: "postgresql", keys: &["password"] };
/// Password of Redis.
pub const REDIS: Generated = Generated { suffix: "redis-credentials", component: "redis", keys: &["password"] };
/// The application's own secrets, Local only.
pub const APPLICATION: Generated =
    Generated { suffix: "app-secrets", component: "ai-service", keys: &["AI_SECRET_KEY", "WEBHOOK_SECRET"] };

/// The Secrets that a stack needs the operator to generate.
#[must_use]
pub fn generated(stack: &Stack) -> Vec<Generated> {
    let mut all = vec![REVISION_KEY];
    if stack.database.managed().is_some() {
        all.extend([DATABASE_ADMIN, DATABASE]);
    }
    if stack.redis.managed().is_some() {
        all.push(REDIS);
    }
    if matches!(stack.app_secrets, AppSecrets::Generated(_)) {
        all.push(APPLICATION);
    }
    all
}

/// A generated Secret with one of `random`'s texts for each key.
#[must_use]
pub fn generated_secret(stack: &Stack, which: Generated, mut random: impl FnMut() -> String) -> Intent {
    let data: BTreeMap<String, ByteString> =
        which.keys.iter().map(|key| ((*key).to_owned(), ByteString(random().into_bytes()))).collect();
    Intent::create_only(&Secret {
        metadata: meta::ownerless(stack, which.component, which.suffix),
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// Who owns the generated Secrets: nobody, or the stack where its owner said so. Only metadata are
/// applied, never data, and with the UID: a Secret that is gone must not come back empty.
#[must_use]
pub fn ownership(stack: &Stack, children: &Children) -> Vec<Intent> {
    let owned = |which: Generated| {
        let key = stack.key("Secret", which.suffix);
        let uid = children.meta(&key)?.uid.clone()?;
        let metadata = if stack.delete_with_stack {
            meta::owned(stack, which.component, which.suffix)
        } else {
            meta::ownerless(stack, which.component, which.suffix)
        };
        let metadata = ObjectMeta { uid: Some(uid), ..metadata };
        Some(Intent::adopt(&Secret { metadata, ..Secret::default() }))
    };
    generated(stack).into_iter().filter_map(owned).collect()
}

/// The immutable Secret with everything secret that a revision's pods consume. `owner`: the one that
/// it has, where that isn't the stack.
#[must_use]
pub fn copies(rendering: &Rendering<'_>, owner: Option<OwnerReference>) -> Intent {
    let stack = rendering.stack;
    let suffix = copy_name("", rendering.revision).trim_start_matches('-').to_owned();
    let owner = owner.unwrap_or_else(|| stack.owner.clone());
    let mut metadata = meta::owned_by(stack, "application", &suffix, owner);
    metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), rendering.revision.to_owned());
    let data = rendering.inputs.copies().into_iter().map(|(key, value)| (key, ByteString(value.into_bytes())));
    Intent::apply(&Secret {
        metadata,
        immutable: Some(true),
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// The Services: the two that people and routes reach, and those of the Managed servers.
#[must_use]
pub fn services(stack: &Stack) -> Vec<Intent> {
    let database = stack.database.managed().map(|_| (Component::Database, "postgresql", DATABASE_PORT));
    let redis = stack.redis.managed().map(|_| (Component::Redis, "redis", REDIS_PORT));
    let application = [(Component::AiService, "http", API_PORT), (Component::Dashboard, "http", DASHBOARD_PORT)];
    let all = database.into_iter().chain(redis).chain(application);
    all.map(|(component, port_name, port)| service(stack, component, port_name, port)).collect()
}

fn service(stack: &Stack, component: Component, port_name: &str, port: i32) -> Intent {
    Intent::apply(&Service {
        metadata: meta::owned(stack, component.name(), component.name()),
        spec: Some(ServiceSpec {
            selector: Some(labels::selector(&stack.name, component.name())),
            ports: Some(vec![ServicePort {
                name: Some(port_name.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

/// The account that all pods run under: no rights, no token, but the pull secrets.
#[must_use]
pub fn service_account(stack: &Stack) -> Intent {
    let references = stack.images.pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
    Intent::apply(&ServiceAccount {
        metadata: meta::owned(stack, "application", pod::SERVICE_ACCOUNT),
        automount_service_account_token: Some(false),
        image_pull_secrets: Some(references.collect()),
        ..ServiceAccount::default()
    })
}

/// The volumes: PostgreSQL's data and beat's schedule. What must be known of the data is kept with
/// them: the status goes with the stack, the data stay. Of somebody else's database beat's volume
/// remembers, and of which.
#[must_use]
pub fn claims(stack: &Stack, rules_gate: Option<&str>) -> Vec<Intent> {
    let gate = rules_gate.map(|state| (annotations::RULES_GATE, state.to_owned()));
    let named = |facts: Vec<(&str, String)>| {
        let facts: BTreeMap<_, _> =
            facts.into_iter().map(|(annotation, value)| (annotation.to_owned(), value)).collect();
        (!facts.is_empty()).then_some(facts)
    };
    let Some(database) = stack.database.managed() else {
        let of = stack.connection.identity.clone().map(|identity| (annotations::DATABASE_IDENTITY, identity));
        let facts = gate.into_iter().flat_map(|gate| [Some(gate), of.clone()]).flatten();
        return vec![claim(stack, Component::Beat, "64Mi", named(facts.collect()))];
    };
    let facts = facts(database).into_iter().chain(gate).collect();
    vec![
        claim(stack, Component::Database, &database.storage_size, named(facts)),
        claim(stack, Component::Beat, "64Mi", None),
    ]
}

/// What the files on the database's volume were made with; each is an annotation of the volume.
#[must_use]
pub fn facts(database: &ManagedDatabase) -> [(&'static str, String); 3] {
    [
        (annotations::DATABASE_MAJOR_VERSION, database.major_version.to_string()),
        (annotations::DATABASE_USER, database.user_id.to_string()),
        (annotations::DATABASE_LIBC, database.libc.to_owned()),
    ]
}

fn claim(stack: &Stack, component: Component, size: &str, facts: Option<BTreeMap<String, String>>) -> Intent {
    let class = stack.storage_class.clone();
    let metadata = if stack.delete_with_stack {
        meta::owned(stack, component.name(), component.name())
    } else {
        meta::ownerless(stack, component.name(), component.name())
    };
    let metadata = ObjectMeta { annotations: facts, ..metadata };
    Intent::apply(&PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
                limits: None,
            }),
            storage_class_name: class,
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
