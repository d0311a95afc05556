//! The rest of a cluster, played: each workload has its one ready pod at once, each Job ends with a
//! report, each agent answers that all is well. There is no `ReplicaSet`, no scheduler, no volume.

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, Pod, PodTemplateSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Of our children.
const LABEL: &str = "odoo-ai.atmatasolutions.com/stack";
/// Where agents are asked.
const AGENT_PORT: u16 = 9180;
/// Objects that are worked on at the same time.
const CONCURRENCY: usize = 24;
const WHEN: &str = "2026-01-01T00:00:00Z";
/// A stack at rest, as `agent serve` tells it.
const ANSWER: &str = r#"{"version":1,"agentVersion":"0.1.0",
"database":{"reachable":true,"schema":["003"],"message":""},
"redis":{"reachable":true,"usedMemoryBytes":1048576,"maxMemoryBytes":268435456,"evictionPolicy":"noeviction","message":""},
"application":{"reachable":true,"message":""},"odoo":{"state":"Reachable","message":""},
"queues":[{"name":"webhooks","length":0,"unconsumedSeconds":0},{"name":"automations","length":0,"unconsumedSeconds":0},
{"name":"scheduled","length":0,"unconsumedSeconds":0},{"name":"celery","length":0,"unconsumedSeconds":0}],
"webhooks":{"unprocessed":0}}"#;

/// Plays until it is dropped.
pub(crate) struct World {
    _tasks: JoinSet<()>,
}

impl World {
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        // Each pod has an address of its own in 127.0.0.0/8, so that the operator keeps as many connections as in life.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, AGENT_PORT)).await;
        let listener = listener.with_context(|| format!("port {AGENT_PORT}, where agents are asked"))?;
        let stage =
            Arc::new(Stage { client: client.clone(), room: Semaphore::new(CONCURRENCY), pods: AtomicU32::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(agents(listener));
        tasks.spawn(act::<Deployment>(Arc::clone(&stage)));
        tasks.spawn(act::<StatefulSet>(Arc::clone(&stage)));
        tasks.spawn(act::<Job>(stage));
        Ok(Self { _tasks: tasks })
    }
}

struct Stage {
    client: Client,
    room: Semaphore,
    pods: AtomicU32,
}

/// What is played for a kind.
trait Played: Resource<DynamicType = (), Scope = NamespaceResourceScope> {
    /// Its pod template, where something is still to be done.
    fn due(&self) -> Option<PodTemplateSpec>;
    /// The status of its pod.
    fn pod(&self, spec: &[Container], init: &[Container], address: Ipv4Addr) -> Value;
    /// Its own status afterwards.
    fn done(&self) -> Value;
}

impl Played for Deployment {
    fn due(&self) -> Option<PodTemplateSpec> {
        let seen = self.status.as_ref().and_then(|status| status.observed_generation);
        (seen < self.metadata.generation).then(|| self.spec.clone().map(|spec| spec.template))?
    }

    fn pod(&self, containers: &[Container], init: &[Container], address: Ipv4Addr) -> Value {
        running(containers, init, address)
    }

    fn done(&self) -> Value {
        ready(self.metadata.generation, &json!({}))
    }
}

impl Played for StatefulSet {
    fn due(&self) -> Option<PodTemplateSpec> {
        let seen = self.status.as_ref().and_then(|status| status.observed_generation);
        (seen < self.metadata.generation).then(|| self.spec.clone().map(|spec| spec.template))?
    }

    fn pod(&self, containers: &[Container], init: &[Container], address: Ipv4Addr) -> Value {
        running(containers, init, address)
    }

    fn done(&self) -> Value {
        ready(self.metadata.generation, &json!({"currentRevision": "x", "updateRevision": "x"}))
    }
}

impl Played for Job {
    fn due(&self) -> Option<PodTemplateSpec> {
        let ended = self.status.as_ref().is_some_and(|status| status.conditions.is_some());
        (!ended).then(|| self.spec.clone().map(|spec| spec.template))?
    }

    fn pod(&self, containers: &[Container], _: &[Container], _: Ipv4Addr) -> Value {
        let report = json!({
            "version": 1, "result": "Succeeded", "reason": "Bootstrapped", "message": "done", "incarnation": "1/2",
            "plan": {"needed": false},
            "schema": {"heads": ["003"], "known": ["001", "002", "003"], "current": ["003"]}, "rulesEmpty": true,
        });
        let ended = json!({"exitCode": 0, "message": report.to_string(), "startedAt": WHEN, "finishedAt": WHEN});
        let state = json!({"terminated": ended});
        json!({"phase": "Succeeded", "containerStatuses": containers.iter().map(|it| container(it, false, &state)).collect::<Vec<_>>()})
    }

    fn done(&self) -> Value {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": "CompletionsReached", "message": "",
                "lastTransitionTime": WHEN, "lastProbeTime": WHEN,
            })
        };
        json!({
            "startTime": WHEN, "completionTime": WHEN, "succeeded": 1, "ready": 0, "uncountedTerminatedPods": {},
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
        })
    }
}

async fn act<K>(stage: Arc<Stage>)
where
    K: Played + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let children = watcher::Config::default().labels(LABEL);
    let mut events = watcher(Api::<K>::all(stage.client.clone()), children).boxed();
    let mut work = JoinSet::new();
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => object,
            Ok(_) => continue,
            Err(error) => {
                eprintln!("watching {}: {error}", K::kind(&()));
                continue;
            }
        };
        while work.try_join_next().is_some() {}
        let stage = Arc::clone(&stage);
        work.spawn(async move {
            let Ok(_permit) = stage.room.acquire().await else { return };
            if let Err(error) = stage.perform(&object).await {
                eprintln!("playing {} {}: {error:#}", K::kind(&()), object.name_any());
            }
        });
    }
}

impl Stage {
    async fn perform<K: Played + Clone + Debug + DeserializeOwned>(&self, object: &K) -> Result<()> {
        let Some(template) = object.due() else { return Ok(()) };
        let namespace = object.namespace().context("a namespace")?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        let name = format!("{}-0", object.name_any());
        pod.metadata.name = Some(name.clone());
        pod.metadata.owner_references = object.controller_owner_ref(&()).map(|owner| vec![owner]);
        let spec = pod.spec.as_mut().context("a pod has a spec")?;
        spec.node_name = Some("node".to_owned());
        match pods.create(&PostParams::default(), &pod).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            other => drop(other?),
        }
        let spec = pod.spec.unwrap_or_default();
        let address = Ipv4Addr::from(0x7f01_0000 + self.pods.fetch_add(1, Ordering::Relaxed));
        let status = object.pod(&spec.containers, spec.init_containers.as_deref().unwrap_or_default(), address);
        let parameters = PatchParams::default();
        pods.patch_status(&name, &parameters, &Patch::Merge(json!({"status": status}))).await.context("pod")?;
        let status = Patch::Merge(json!({"status": object.done()}));
        Api::<K>::namespaced(self.client.clone(), &namespace)
            .patch_status(&object.name_any(), &parameters, &status)
            .await?;
        Ok(())
    }
}

fn container(container: &Container, ready: bool, state: &Value) -> Value {
    json!({
        "name": container.name, "image": container.image,
        "imageID": format!("{}@sha256:{:064x}", container.image.as_deref().unwrap_or_default(), 7),
        "containerID": format!("containerd://{:064x}", 7),
        "ready": ready, "started": ready, "restartCount": 0, "state": state,
    })
}

fn running(containers: &[Container], init: &[Container], address: Ipv4Addr) -> Value {
    let (runs, ended) = (
        json!({"running": {"startedAt": WHEN}}),
        json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": WHEN, "finishedAt": WHEN,
        }}),
    );
    let sidecar = |it: &Container| it.restart_policy.as_deref() == Some("Always");
    let init = init.iter().map(|it| container(it, true, if sidecar(it) { &runs } else { &ended }));
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": WHEN});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "startTime": WHEN, "hostIP": "192.0.2.1", "hostIPs": [{"ip": "192.0.2.1"}],
        "podIP": address.to_string(), "podIPs": [{"ip": address.to_string()}], "qosClass": "Burstable",
        "conditions": conditions,
        "initContainerStatuses": init.collect::<Vec<_>>(),
        "containerStatuses": containers.iter().map(|it| container(it, true, &runs)).collect::<Vec<_>>(),
    })
}

/// Every workload of the bench wants one pod.
fn ready(generation: Option<i64>, more: &Value) -> Value {
    let mut status = json!({
        "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        status[field] = value.clone();
    }
    status
}

async fn agents(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            // The operator has closed it.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(reply.as_bytes()).await?;
        }
    }
}
