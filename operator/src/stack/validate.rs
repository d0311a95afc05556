//! Parses the custom resource once, defaults included. What the schema can't see is refused here.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{Resource, ResourceExt};
use odoo_ai_crds::common::Resources;
use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{
    DatabaseType, DeletionPolicy, Environment, LogLevel, MigrationBackup, Mode, OdooAiStack, OdooAiStackSpec,
    PodSettings, PullPolicy, RedisType, SslMode, UnmanagedRules,
};

use serde_json::json;

use super::build::{DATABASE_ADMIN, DATABASE_NAME, DATABASE_USER, pod};
use super::model::{
    AppSecrets, Bootstrap, Check, Component, Components, Connection, Database, Images, ManagedDatabase, ManagedRedis,
    Operator, Redis, Rollout, Stack,
};
use crate::cluster::covers::quantity;
use crate::cluster::intent::hash;
use crate::rollout::inputs::written;
use crate::routes::model::Routes;

/// Longest name of a stack: `<name>-migrate-<revision>-<attempt>` and the names of login Jobs must be
/// label values.
const NAME_LIMIT: usize = 40;

/// Why a stack can't be brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Condition reason.
    pub reason: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// True when only a person can change it; false when it may still come, like a Secret.
    pub stalled: bool,
}

impl Problem {
    /// A problem of the spec itself.
    pub fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: true }
    }

    /// Something that is missing so far.
    pub fn missing(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), stalled: false }
    }
}

/// The parsed stack.
///
/// # Errors
/// A [`Problem`] with the sentence that the user reads.
pub fn stack(object: &OdooAiStack, operator: &Operator) -> Result<Stack, Problem> {
    let spec = &object.spec;
    let migrations = &spec.migrations;
    let name = object.name_any();
    if name.len() > NAME_LIMIT {
        return Err(Problem::refused(
            reasons::INVALID_SPEC,
            format!("metadata.name must have at most {NAME_LIMIT} characters"),
        ));
    }
    let owner = object
        .controller_owner_ref(&())
        .ok_or_else(|| Problem::missing(reasons::NOT_OBSERVED, "the stack has no UID yet"))?;
    Ok(Stack {
        app_secrets: app_secrets(spec, &name),
        namespace: object.namespace().unwrap_or_default(),
        owner,
        environment: spec.environment,
        images: Images {
            ai_service: spec.images.ai_service.clone(),
            dashboard: spec.images.dashboard.clone(),
            pull_policy: spec.images.pull_policy.unwrap_or(PullPolicy::IfNotPresent).to_string(),
            pull_secrets: spec.images.pull_secrets.iter().map(|reference| reference.name.clone()).collect(),
        },
        connection: connection(spec, &name)?,
        database: match spec.database.kind {
            DatabaseType::Managed => Database::Managed(Box::new(managed_database(spec))),
            DatabaseType::External => Database::External,
        },
        bootstrap: spec
            .database
            .managed
            .bootstrap
            .as_ref()
            .map(|it| Bootstrap { source: it.restore_from.clone(), timeout: it.timeout_seconds.unwrap_or(3600) }),
        redis: match spec.redis.kind {
            RedisType::Managed => Redis::Managed(Box::new(managed_redis(spec))),
            RedisType::External => Redis::External,
        },
        storage_class: spec.database.managed.storage.storage_class_name.clone(),
        delete_with_stack: spec.database.managed.deletion_policy == Some(DeletionPolicy::Delete),
        components: components(spec),
        settings: settings(spec),
        rollout: rollout(spec),
        checks: spec.rollout.checks.iter().map(check).collect(),
        routes: spec.ingress.as_ref().map(Routes::of),
        unmanaged_rules: spec.rules.unmanaged.unwrap_or(UnmanagedRules::Disable),
        migration_timeout: migrations.timeout_seconds.unwrap_or(1800),
        migration_policy: migrations.policy.unwrap_or(Mode::Automatic),
        backup_required: migrations
            .backup
            .map_or(spec.environment == Environment::Production, |backup| backup == MigrationBackup::Required),
        backup_ref: migrations.backup_ref.as_ref().map(|reference| reference.name.clone()),
        backward_compatible: migrations.backward_compatible.clone(),
        approvers_verified: operator.approvers_verified,
        operator_image: operator.image.clone(),
        network: operator.network.clone(),
        template_annotation: operator.template_annotation.clone(),
        name,
    })
}

/// Where the application's secrets come from.
#[must_use]
pub fn app_secrets(spec: &OdooAiStackSpec, name: &str) -> AppSecrets {
    match &spec.app_secrets_ref {
        Some(reference) => AppSecrets::Referenced(reference.name.clone()),
        None => AppSecrets::Generated(format!("{name}-app-secrets")),
    }
}

/// Where the application's database is.
fn connection(spec: &OdooAiStackSpec, name: &str) -> Result<Connection, Problem> {
    if spec.database.kind == DatabaseType::Managed {
        return Ok(Connection {
            host: format!("{name}-postgresql"),
            port: 5432,
            database: DATABASE_NAME.to_owned(),
            user: DATABASE_USER.to_owned(),
            ssl_mode: ssl_mode(SslMode::Disable),
            lock_database: DATABASE_ADMIN.to_owned(),
            identity: None,
        });
    }
    let Some(external) = &spec.database.external else {
        return Err(Problem::refused(
            reasons::INVALID_SPEC,
            "database.external must be given when database.type is External",
        ));
    };
    let port = external.port.unwrap_or(5432);
    let place = hash(&json!([external.host, port, external.database]));
    Ok(Connection {
        host: external.host.clone(),
        port,
        database: external.database.clone(),
        user: external.username.clone(),
        ssl_mode: ssl_mode(external.ssl_mode.unwrap_or(SslMode::Prefer)),
        lock_database: external.lock_database.clone().unwrap_or_else(|| external.database.clone()),
        identity: Some(format!("external-{}", &place[..16])),
    })
}

fn ssl_mode(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

fn managed_database(spec: &OdooAiStackSpec) -> ManagedDatabase {
    let managed = &spec.database.managed;
    let major_version = managed.major_version.unwrap_or(17);
    let user_id = managed.security.run_as_user.unwrap_or(999);
    let image = managed.image.clone().unwrap_or_else(|| format!("postgres:{major_version}"));
    ManagedDatabase {
        // As the official images' tags say it.
        libc: if image.contains("alpine") { "musl" } else { "glibc" },
        major_version,
        group_id: managed.security.fs_group.unwrap_or(user_id),
        inputs: written(&json!({
            "image": managed.image,
            "majorVersion": managed.major_version,
            "resources": managed.resources,
            "parameters": managed.parameters,
            "security": managed.security,
        })),
        image,
        storage_size: managed.storage.size.clone().unwrap_or_else(|| "10Gi".to_owned()),
        resources: resources(&managed.resources, pod::resources("100m", "512Mi", "512Mi")),
        parameters: managed.parameters.clone(),
        user_id,
    }
}

fn managed_redis(spec: &OdooAiStackSpec) -> ManagedRedis {
    let managed = &spec.redis.managed;
    let max_memory_mib = managed.max_memory_mib.unwrap_or(256);
    let limit = format!("{}Mi", max_memory_mib + max_memory_mib / 2);
    let user_id = managed.security.run_as_user.unwrap_or(999);
    ManagedRedis {
        group_id: managed.security.fs_group.unwrap_or(user_id),
        inputs: written(&json!({
            "image": managed.image,
            "maxMemoryMiB": managed.max_memory_mib,
            "evictionPolicy": managed.eviction_policy,
            "resources": managed.resources,
            "security": managed.security,
        })),
        image: managed.image.clone().unwrap_or_else(|| "redis:7".to_owned()),
        max_memory_mib,
        eviction_policy: managed.eviction_policy.map_or("noeviction", |policy| policy.as_str()).to_owned(),
        resources: resources(&managed.resources, pod::resources("50m", &limit, &limit)),
        user_id,
    }
}

/// Queues that the worker consumes.
#[must_use]
pub fn queues(spec: &OdooAiStackSpec) -> Vec<String> {
    match spec.worker.queues.as_slice() {
        // Tasks without a route go to `celery`: approved actions among them.
        [] => ["webhooks", "automations", "scheduled", "celery"].map(str::to_owned).to_vec(),
        queues => queues.to_vec(),
    }
}

fn components(spec: &OdooAiStackSpec) -> Components {
    Components {
        ai_service: component(
            spec.ai_service.replicas,
            &spec.ai_service.pod,
            1000,
            pod::resources("50m", "192Mi", "512Mi"),
        ),
        worker: component(spec.worker.replicas, &spec.worker.pod, 1000, pod::resources("50m", "384Mi", "768Mi")),
        beat: component(None, &spec.beat.pod, 1000, pod::resources("10m", "96Mi", "192Mi")),
        dashboard: component(
            spec.dashboard.replicas,
            &spec.dashboard.pod,
            1001,
            pod::resources("10m", "96Mi", "256Mi"),
        ),
        concurrency: spec.worker.concurrency.unwrap_or(4),
        queues: queues(spec),
        worker_grace_seconds: i64::from(spec.worker.termination_grace_period_seconds.unwrap_or(610)),
        log_level: log_level(spec.log_level.unwrap_or_default()).to_owned(),
    }
}

fn component(replicas: Option<i32>, settings: &PodSettings, user: i64, default: ResourceRequirements) -> Component {
    let user_id = settings.security.run_as_user.unwrap_or(user);
    Component {
        replicas: replicas.unwrap_or(1),
        resources: resources(&settings.resources, default),
        node_selector: settings.node_selector.clone(),
        tolerations: settings.tolerations.iter().map(Into::into).collect(),
        user_id,
        group_id: settings.security.fs_group.unwrap_or(user_id),
    }
}

/// The user's amounts win one by one; what is unset keeps its default, unless that would be a
/// request above the limit: then it follows the user's amount.
#[must_use]
pub fn resources(wanted: &Resources, default: ResourceRequirements) -> ResourceRequirements {
    let wanted = wanted.to_requirements();
    let (wanted_requests, wanted_limits) = (wanted.requests.unwrap_or_default(), wanted.limits.unwrap_or_default());
    let mut requests = default.requests.unwrap_or_default();
    let mut limits = default.limits.unwrap_or_default();
    for (name, limit) in &wanted_limits {
        if let Some(request) = requests.get_mut(name).filter(|request| above(request, limit)) {
            *request = limit.clone();
        }
    }
    for (name, request) in &wanted_requests {
        if let Some(limit) = limits.get_mut(name).filter(|limit| above(request, limit)) {
            *limit = request.clone();
        }
    }
    requests.extend(wanted_requests);
    limits.extend(wanted_limits);
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

fn above(left: &Quantity, right: &Quantity) -> bool {
    matches!((quantity(&left.0), quantity(&right.0)), (Some(left), Some(right)) if left > right)
}

/// uvicorn and celery agree on these four.
fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

fn settings(spec: &OdooAiStackSpec) -> BTreeMap<String, String> {
    let odoo = &spec.odoo;
    let mut settings: BTreeMap<String, String> =
        [("ODOO_URL", odoo.url.clone()), ("ODOO_DB", odoo.database.clone()), ("ODOO_USERNAME", odoo.username.clone())]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    settings.extend(spec.ai.model.clone().map(|model| ("CLAUDE_MODEL".to_owned(), model)));
    if !spec.cors_origins.is_empty() {
        settings.insert("CORS_ORIGINS".to_owned(), spec.cors_origins.join(","));
    }
    settings
}

fn rollout(spec: &OdooAiStackSpec) -> Rollout {
    let local = spec.environment == Environment::Local;
    let check = &spec.rollout.health_check;
    let watch_duration = check.duration_seconds.unwrap_or(if local { 10 } else { 120 });
    Rollout {
        approval: spec.rollout.approval.unwrap_or(if local { Mode::Automatic } else { Mode::Manual }),
        watch_duration,
        watch_period: check.period_seconds.unwrap_or(5).min(watch_duration),
        failure_threshold: check.failure_threshold.unwrap_or(3),
        rollback: spec.rollout.rollback.unwrap_or(Mode::Automatic),
        progress_deadline: spec.rollout.progress_deadline_seconds.unwrap_or(600),
        history_limit: spec.rollout.revision_history_limit.unwrap_or(10),
    }
}

fn check(check: &odoo_ai_crds::stack::Check) -> Check {
    Check {
        name: check.name.clone(),
        image: check.image.clone(),
        command: check.command.clone(),
        env: check.env.iter().map(EnvVar::from).collect(),
        resources: resources(&check.resources, pod::resources("50m", "64Mi", "512Mi")),
        user_id: check.run_as_user.unwrap_or(65_534),
        timeout: check.timeout_seconds.unwrap_or(300),
        inputs: written(&json!(check)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use odoo_ai_crds::common::ResourceAmounts;

    #[test]
    fn one_amount_alone_never_makes_a_request_above_its_limit() {
        let memory = |memory: &str| ResourceAmounts { memory: Some(memory.to_owned()), ..ResourceAmounts::default() };
        let default = || pod::resources("50m", "384Mi", "768Mi");
        let of = |map: Option<BTreeMap<String, Quantity>>| map.and_then(|map| Some(map.get("memory")?.0.clone()));
        let small = Resources { limits: memory("256Mi"), ..Resources::default() };
        let small = resources(&small, default());
        assert_eq!((of(small.requests), of(small.limits)), (Some("256Mi".to_owned()), Some("256Mi".to_owned())));
        let large = Resources { requests: memory("1Gi"), ..Resources::default() };
        let large = resources(&large, default());
        assert_eq!((of(large.requests), of(large.limits)), (Some("1Gi".to_owned()), Some("1Gi".to_owned())));
    }
}
