//! Pod templates of the application's four components. They are stored with the revision and
//! applied as they were stored, so nothing live (replicas, credentials) is in them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, Probe, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::credentials::keys;
use super::{AGENT, AGENT_PORT, API_PORT, CREDENTIALS, DASHBOARD_PORT, meta, pod};
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::rollout::inputs::Inputs;
use crate::stack::model::{Component as Settings, Connection, Stack};

/// Where beat keeps its schedule: without it the daily and weekly tasks may never run.
const BEAT_DIRECTORY: &str = "/var/lib/beat";
/// Path that the application answers cheaply and without touching anything else.
const OPENAPI: &str = "/openapi.json";

/// So long a new pod must answer before it gets a request, seconds.
const HOLDS_OUT: &str = "10";
const HOLD_SECONDS: &str = "ODOOAI_HOLD_SECONDS";

/// A template whose pods are held back: not one of a first install, where nobody else serves.
#[must_use]
pub fn holds_out(template: &PodTemplateSpec) -> bool {
    let containers = template.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.flat_map(|container| container.env.iter().flatten()).any(|variable| variable.name == HOLD_SECONDS)
}

/// What an ai-service image knows of the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// Heads of its migrations.
    pub heads: Vec<String>,
    /// All revisions that it knows.
    pub known: Vec<String>,
}

/// One revision about to be rendered.
#[derive(Clone, Copy, Debug)]
pub struct Rendering<'a> {
    /// The stack.
    pub stack: &'a Stack,
    /// Name of the revision.
    pub revision: &'a str,
    /// Its inputs.
    pub inputs: &'a Inputs,
    /// What its image knows of the schema.
    pub schema: &'a Schema,
    /// It is to replace pods that serve: its own get no request before they have held out for a while.
    pub holds_out: bool,
}

impl Rendering<'_> {
    /// Name of the immutable Secret with the revision's copies.
    #[must_use]
    pub fn copy(&self) -> String {
        copy_name(&self.stack.name, self.revision)
    }

    /// The templates of all four components.
    #[must_use]
    pub fn templates(&self) -> BTreeMap<String, PodTemplateSpec> {
        [
            (Component::AiService, self.ai_service()),
            (Component::Worker, self.worker()),
            (Component::Beat, self.beat()),
            (Component::Dashboard, self.dashboard()),
        ]
        .into_iter()
        .map(|(component, spec)| (component.name().to_owned(), self.template(component, spec)))
        .collect()
    }

    fn template(&self, component: Component, spec: PodSpec) -> PodTemplateSpec {
        let labels = meta::pod_labels(self.stack, component.name(), Some(self.revision));
        let note = self.stack.template_annotation.as_ref();
        let annotations = note.map(|value| [(labels::TEMPLATE.to_owned(), value.clone())].into());
        PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), annotations, ..ObjectMeta::default() }),
            spec: Some(spec),
        }
    }

    fn ai_service(&self) -> PodSpec {
        let settings = &self.stack.components.ai_service;
        let log_level = &self.stack.components.log_level;
        let port = API_PORT.to_string();
        let command = ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", &port, "--log-level", log_level];
        let mut container = self.python(Component::AiService, settings, "database,redis,schema", &command);
        container.ports = Some(vec![container_port("http", API_PORT)]);
        container.startup_probe = Some(pod::agent_startup_probe());
        // One open WebSocket stalls the application a second at a time: time-outs well above that.
        container.readiness_probe =
            Some(pod::http_probe(OPENAPI, API_PORT, pod::Pace { period: 5, timeout: 5, failures: 3 }));
        container.liveness_probe = Some(Probe {
            // A frozen process ignores SIGTERM.
            termination_grace_period_seconds: Some(10),
            ..pod::http_probe(OPENAPI, API_PORT, pod::Pace { period: 10, timeout: 5, failures: 12 })
        });
        container.lifecycle = Some(pod::drain(5));
        let mut spec = self.python_pod(settings, container, 60);
        spec.init_containers.get_or_insert_default().push(self.sidecar());
        spec
    }

    fn worker(&self) -> PodSpec {
        let components = &self.stack.components;
        let queues = components.queues.join(",");
        let concurrency = components.concurrency.to_string();
        let log_level = format!("--loglevel={}", components.log_level);
        let command = [
            "celery",
            "-A",
            "app.tasks.celery_app:celery_app",
            "worker",
            &log_level,
            "-Q",
            &queues,
            "-c",
            &concurrency,
        ];
        let mut container = self.python(Component::Worker, &components.worker, "database,redis,schema", &command);
        container.startup_probe =
            Some(pod::exec_probe(&[AGENT, "probe", "worker"], pod::Pace { period: 5, timeout: 10, failures: 17_280 }));
        self.python_pod(&components.worker, container, components.worker_grace_seconds)
    }

    fn beat(&self) -> PodSpec {
        let components = &self.stack.components;
        let log_level = format!("--loglevel={}", components.log_level);
        let schedule = format!("{BEAT_DIRECTORY}/schedule");
        let command = ["celery", "-A", "app.tasks.celery_app:celery_app", "beat", &log_level, "-s", &schedule];
        let mut container = self.python(Component::Beat, &components.beat, "redis", &command);
        container.volume_mounts.get_or_insert_default().push(pod::mount("schedule", BEAT_DIRECTORY, false));
        let mut spec = self.python_pod(&components.beat, container, 30);
        spec.volumes.get_or_insert_default().push(Volume {
            name: "schedule".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: self.stack.child("beat"),
                read_only: None,
            }),
            ..Volume::default()
        });
        spec
    }

    fn dashboard(&self) -> PodSpec {
        let settings = &self.stack.components.dashboard;
        let mut env = vec![
            // Next.js binds to this name; the runtime's own value is the pod's name.
            pod::env("HOSTNAME", "0.0.0.0"),
            pod::env("PORT", DASHBOARD_PORT.to_string()),
        ];
        env.extend(self.inputs.environment(Component::Dashboard, &self.copy()));
        let pace = pod::Pace { period: 5, timeout: 5, failures: 3 };
        let container = Container {
            name: Component::Dashboard.name().to_owned(),
            image: Some(self.stack.images.dashboard.clone()),
            image_pull_policy: Some(self.stack.images.pull_policy.clone()),
            env: Some(env),
            ports: Some(vec![container_port("http", DASHBOARD_PORT)]),
            resources: Some(settings.resources.clone()),
            security_context: pod::locked_down(),
            startup_probe: Some(pod::http_probe(
                "/",
                DASHBOARD_PORT,
                pod::Pace { period: 2, timeout: 5, failures: 150 },
            )),
            readiness_probe: Some(pod::http_probe("/", DASHBOARD_PORT, pace)),
            liveness_probe: Some(pod::http_probe("/", DASHBOARD_PORT, pod::Pace { failures: 6, period: 10, ..pace })),
            lifecycle: Some(pod::drain(5)),
            volume_mounts: Some(vec![pod::mount("tmp", "/tmp", false), pod::mount("cache", "/app/.next/cache", false)]),
            ..Container::default()
        };
        PodSpec {
            containers: vec![container],
            volumes: Some(vec![pod::scratch("tmp", "256Mi"), pod::scratch("cache", "256Mi")]),
            termination_grace_period_seconds: Some(30),
            ..self.placed(settings)
        }
    }

    /// A container of the ai-service image whose process waits behind `agent run`.
    fn python(&self, component: Component, settings: &Settings, needs: &str, command: &[&str]) -> Container {
        let run = [AGENT, "run", "--needs", needs, "--"];
        let mut env = self.agent_environment();
        env.push(database_url(self.stack));
        env.extend(settings_of(self.stack));
        env.extend(self.inputs.environment(component, &self.copy()));
        Container {
            name: component.name().to_owned(),
            image: Some(self.stack.images.ai_service.clone()),
            image_pull_policy: Some(self.stack.images.pull_policy.clone()),
            command: Some(run.iter().chain(command).map(|word| (*word).to_owned()).collect()),
            env: Some(env),
            resources: Some(settings.resources.clone()),
            security_context: pod::locked_down(),
            ..Container::default()
        }
    }

    fn python_pod(&self, settings: &Settings, mut container: Container, grace_seconds: i64) -> PodSpec {
        let (install, agent_volume, agent_mount) = pod::agent(&self.stack.operator_image);
        let (volume, mount) = credentials(self.stack, credentials_of(&container.name));
        let own = container.volume_mounts.take().unwrap_or_default();
        let shared = [agent_mount, pod::mount("tmp", "/tmp", false)];
        container.volume_mounts = Some(own.into_iter().chain(shared).chain([mount]).collect());
        PodSpec {
            init_containers: Some(vec![install]),
            containers: vec![container],
            volumes: Some(vec![agent_volume, pod::scratch("tmp", "1Gi"), volume]),
            termination_grace_period_seconds: Some(grace_seconds),
            ..self.placed(settings)
        }
    }

    fn placed(&self, settings: &Settings) -> PodSpec {
        PodSpec {
            node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
            tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
            ..pod::spec(self.stack, settings.user_id, settings.group_id)
        }
    }

    /// `agent serve` as a native sidecar: no probes, its restart is never the pod's.
    fn sidecar(&self) -> Container {
        let mut env = self.agent_environment();
        env.push(pod::env("ODOOAI_APP_URL", format!("http://127.0.0.1:{API_PORT}")));
        env.push(pod::env("ODOOAI_QUEUES", self.stack.components.queues.join(",")));
        // And the API, which must answer before the pod gets a request.
        let asks = ["ODOO_URL", "ODOO_DB", "ODOO_USERNAME", "ODOO_PASSWORD", "ODOO_API_KEY", "AI_SECRET_KEY"];
        let application = self.inputs.environment(Component::AiService, &self.copy());
        env.extend(
            settings_of(self.stack)
                .into_iter()
                .chain(application)
                .filter(|variable| asks.contains(&variable.name.as_str())),
        );
        let mut mounts = vec![credentials(self.stack, &APPLICATION_KEYS).1];
        if self.holds_out {
            env.push(pod::env(HOLD_SECONDS, HOLDS_OUT));
            env.push(pod::env("ODOOAI_HOLD_MARKER", pod::held_out()));
            mounts.push(pod::agent_folder());
        }
        Container {
            name: "agent".to_owned(),
            image: Some(self.stack.operator_image.clone()),
            image_pull_policy: Some(pod::PULL_POLICY.to_owned()),
            command: Some(vec!["/agent".to_owned(), "serve".to_owned()]),
            restart_policy: Some("Always".to_owned()),
            env: Some(env),
            ports: Some(vec![container_port("agent", AGENT_PORT)]),
            resources: Some(pod::resources("5m", "16Mi", "64Mi")),
            security_context: pod::locked_down(),
            volume_mounts: Some(mounts),
            ..Container::default()
        }
    }

    /// What the agent reads for itself.
    fn agent_environment(&self) -> Vec<EnvVar> {
        let mut env = connection(self.stack);
        env.push(pod::env("ODOOAI_SCHEMA_HEADS", self.schema.heads.join(",")));
        env.push(pod::env("ODOOAI_SCHEMA_KNOWN", self.schema.known.join(",")));
        env
    }
}

/// Name of the immutable Secret with a revision's copies.
#[must_use]
pub fn copy_name(stack: &str, revision: &str) -> String {
    format!("{stack}-config-{revision}")
}

/// Where database and Redis are, for the agent; passwords and Redis' URL come from files.
#[must_use]
pub fn connection(stack: &Stack) -> Vec<EnvVar> {
    let Connection { host, port, database, user, ssl_mode, lock_database, .. } = &stack.connection;
    vec![
        pod::env("ODOOAI_DATABASE_HOST", host.clone()),
        pod::env("ODOOAI_DATABASE_PORT", port.to_string()),
        pod::env("ODOOAI_DATABASE_NAME", database.clone()),
        pod::env("ODOOAI_DATABASE_USER", user.clone()),
        pod::env("ODOOAI_DATABASE_SSLMODE", *ssl_mode),
        // Of Jobs, and of who runs `agent downgrade` by hand in a pod.
        pod::env("ODOOAI_LOCK_DATABASE", lock_database.clone()),
    ]
}

/// The application's database URL. Without a password: a `%` in it breaks Alembic, which prints it.
#[must_use]
pub fn database_url(stack: &Stack) -> EnvVar {
    let Connection { host, port, database, user, .. } = &stack.connection;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    pod::env("AI_DATABASE_URL", format!("postgresql://{user}@{host}:{port}/{database}"))
}

/// The application's settings that follow from the spec.
#[must_use]
pub fn settings_of(stack: &Stack) -> Vec<EnvVar> {
    stack.settings.iter().map(|(name, value)| pod::env(name, value.clone())).collect()
}

/// What ai-service, worker and Jobs read of the live credentials.
pub const APPLICATION_KEYS: [&str; 4] = [keys::DATABASE_PASSWORD, keys::DATABASE_CA, keys::REDIS_URL, keys::REDIS_CA];
/// What beat reads: it needs no database.
const BEAT_KEYS: [&str; 2] = [keys::REDIS_URL, keys::REDIS_CA];

fn credentials_of(container: &str) -> &'static [&'static str] {
    if container == Component::Beat.name() { &BEAT_KEYS } else { &APPLICATION_KEYS }
}

/// Volume and mount of the live database and Redis credentials.
#[must_use]
pub fn credentials(stack: &Stack, keys: &[&str]) -> (Volume, VolumeMount) {
    pod::secret_files("credentials", &stack.child(keys::LIVE), keys, CREDENTIALS)
}

fn container_port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}
