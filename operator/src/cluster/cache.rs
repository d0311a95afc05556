//! Watches and the stores they feed. One watch per kind serves both the trigger and the reads.
//!
//! Of workloads, Jobs and Pods what gates read is kept (`slim.rs`), of everything else only the
//! metadata.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use odoo_ai_crds::backup::Backup;

use super::cached::Cached;
use super::children::{Children, is_labelled, is_of};
use super::intent::Key;
use super::pending::Pending;
use super::served::Served;
use super::traefik::{IngressRoute, Middleware};
use super::watch::{Events, optional, watch};
use crate::labels;

/// Objects of one answer to a first list. They are whole until they are slimmed, of more than a dozen kinds at once,
/// and memory that was needed once is not given back.
const PAGE: u32 = 50;

/// Where an operator looks: one namespace or the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// All namespaces.
    Cluster,
}

impl Scope {
    /// The API of a kind in this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
            Self::Cluster => Api::all(client.clone()),
        }
    }
}

/// The stores that a reconcile reads.
#[derive(Clone)]
pub struct Caches {
    deployments: Cached<Deployment>,
    stateful_sets: Cached<StatefulSet>,
    jobs: Cached<Job>,
    cron_jobs: Cached<CronJob>,
    pods: Cached<Pod>,
    config_maps: Cached<PartialObjectMeta<ConfigMap>>,
    secrets: Cached<PartialObjectMeta<Secret>>,
    services: Cached<PartialObjectMeta<Service>>,
    accounts: Cached<PartialObjectMeta<ServiceAccount>>,
    claims: Cached<PartialObjectMeta<PersistentVolumeClaim>>,
    revisions: Cached<PartialObjectMeta<ControllerRevision>>,
    policies: Cached<PartialObjectMeta<NetworkPolicy>>,
    budgets: Cached<PartialObjectMeta<PodDisruptionBudget>>,
    ingresses: Cached<PartialObjectMeta<Ingress>>,
    ingress_routes: Cached<PartialObjectMeta<IngressRoute>>,
    middlewares: Cached<PartialObjectMeta<Middleware>>,
    /// Of Traefik's two kinds.
    served: [Served; 2],
    backups: Cached<Backup>,
}

/// The event streams that belong to [`Caches`]; a controller must poll them.
#[expect(missing_docs, reason = "one stream per kind, named after it")]
pub struct Streams {
    pub deployments: Events<Deployment>,
    pub stateful_sets: Events<StatefulSet>,
    pub jobs: Events<Job>,
    pub cron_jobs: Events<CronJob>,
    pub pods: Events<Pod>,
    pub config_maps: Events<PartialObjectMeta<ConfigMap>>,
    pub secrets: Events<PartialObjectMeta<Secret>>,
    pub services: Events<PartialObjectMeta<Service>>,
    pub accounts: Events<PartialObjectMeta<ServiceAccount>>,
    pub claims: Events<PartialObjectMeta<PersistentVolumeClaim>>,
    pub revisions: Events<PartialObjectMeta<ControllerRevision>>,
    pub policies: Events<PartialObjectMeta<NetworkPolicy>>,
    pub budgets: Events<PartialObjectMeta<PodDisruptionBudget>>,
    pub ingresses: Events<PartialObjectMeta<Ingress>>,
    pub ingress_routes: Events<PartialObjectMeta<IngressRoute>>,
    pub middlewares: Events<PartialObjectMeta<Middleware>>,
    pub backups: Events<Backup>,
}

impl Streams {
    /// Feeds the stores for whoever needs no events; ends with the watches.
    pub async fn drain(self) {
        async fn drain<K>(events: Events<K>) {
            events.for_each(|_| std::future::ready(())).await;
        }
        tokio::join!(
            drain(self.deployments),
            drain(self.stateful_sets),
            drain(self.jobs),
            drain(self.cron_jobs),
            drain(self.pods),
            drain(self.config_maps),
            drain(self.secrets),
            drain(self.services),
            drain(self.accounts),
            drain(self.claims),
            drain(self.revisions),
            drain(self.policies),
            drain(self.budgets),
            drain(self.ingresses),
            drain(self.ingress_routes),
            drain(self.middlewares),
            drain(self.backups),
        );
    }
}

impl Caches {
    /// Starts nothing by itself: the returned streams fill the stores while they are polled.
    #[must_use]
    pub fn new(client: &Client, scope: &Scope) -> (Self, Streams) {
        // The user's own Secrets and ConfigMaps have no label of ours.
        let all = watcher::Config::default().page_size(PAGE);
        let ours = all.clone().labels(labels::STACK);
        let (deployments, deployment_events) = watch(scope.api(client), ours.clone());
        let (stateful_sets, stateful_set_events) = watch(scope.api(client), ours.clone());
        let (jobs, job_events) = watch(scope.api(client), ours.clone());
        let (cron_jobs, cron_job_events) = watch(scope.api(client), ours.clone());
        let (pods, pod_events) = watch(scope.api(client), ours.clone());
        let (backups, backup_events) = watch(scope.api(client), all.clone());
        let (config_maps, config_map_events) = watch(scope.api(client), all.clone());
        let (secrets, secret_events) = watch(scope.api(client), all);
        let (services, service_events) = watch(scope.api(client), ours.clone());
        let (accounts, account_events) = watch(scope.api(client), ours.clone());
        let (claims, claim_events) = watch(scope.api(client), ours.clone());
        let (revisions, revision_events) = watch(scope.api(client), ours.clone());
        let (policies, policy_events) = watch(scope.api(client), ours.clone());
        let (budgets, budget_events) = watch(scope.api(client), ours.clone());
        let (ingresses, ingress_events) = watch(scope.api(client), ours.clone());
        let served = <[Served; 2]>::default();
        let (ingress_routes, ingress_route_events) = optional(scope.api(client), ours.clone(), served[0].clone());
        let (middlewares, middleware_events) = optional(scope.api(client), ours, served[1].clone());
        let caches = Self {
            deployments,
            stateful_sets,
            jobs,
            cron_jobs,
            pods,
            config_maps,
            secrets,
            services,
            accounts,
            claims,
            revisions,
            policies,
            budgets,
            ingresses,
            ingress_routes,
            middlewares,
            served,
            backups,
        };
        let streams = Streams {
            deployments: deployment_events,
            stateful_sets: stateful_set_events,
            jobs: job_events,
            cron_jobs: cron_job_events,
            pods: pod_events,
            config_maps: config_map_events,
            secrets: secret_events,
            services: service_events,
            accounts: account_events,
            claims: claim_events,
            revisions: revision_events,
            policies: policy_events,
            budgets: budget_events,
            ingresses: ingress_events,
            ingress_routes: ingress_route_events,
            middlewares: middleware_events,
            backups: backup_events,
        };
        (caches, streams)
    }

    /// Whether the cluster has Traefik's kinds; `None`: not known yet.
    #[must_use]
    pub fn traefik(&self) -> Option<bool> {
        let [routes, middlewares] = self.served.each_ref().map(Served::known);
        if routes == Some(false) { routes } else { middlewares.filter(|served| !served || routes.is_some()) }
    }

    /// An item whenever Traefik's kinds come or go.
    pub fn traefik_changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        let [routes, middlewares] = self.served.each_ref().map(|served| served.changes().boxed());
        futures::stream::select(routes, middlewares)
    }

    /// Resolves when every store of a kind that every cluster has had its first full list.
    pub async fn ready(&self) {
        tokio::join!(
            self.deployments.filled(),
            self.stateful_sets.filled(),
            self.jobs.filled(),
            self.cron_jobs.filled(),
            self.pods.filled(),
            self.config_maps.filled(),
            self.secrets.filled(),
            self.services.filled(),
            self.accounts.filled(),
            self.claims.filled(),
            self.revisions.filled(),
            self.policies.filled(),
            self.budgets.filled(),
            self.ingresses.filled(),
            self.backups.filled(),
        );
    }

    /// Everything that belongs to one stack, as the caches have it now.
    #[must_use]
    pub fn children(&self, namespace: &str, stack: &str) -> Children {
        let mut metadata = HashMap::new();
        metadata.extend(metas("ConfigMap", &self.config_maps, namespace, stack));
        metadata.extend(metas("ServiceAccount", &self.accounts, namespace, stack));
        // By name, whatever their labels: a person may have restored one from an export.
        let secrets = self.secrets.state_filter(|secret| secret.metadata.namespace.as_deref() == Some(namespace));
        metadata.extend(secrets.into_iter().map(|secret| {
            let name = secret.metadata.name.clone().unwrap_or_default();
            (Key { kind: "Secret".to_owned(), namespace: namespace.to_owned(), name }, secret.metadata.clone())
        }));
        metadata.extend(metas("Service", &self.services, namespace, stack));
        metadata.extend(metas("PersistentVolumeClaim", &self.claims, namespace, stack));
        metadata.extend(metas("ControllerRevision", &self.revisions, namespace, stack));
        metadata.extend(metas("NetworkPolicy", &self.policies, namespace, stack));
        metadata.extend(metas("PodDisruptionBudget", &self.budgets, namespace, stack));
        metadata.extend(metas("Ingress", &self.ingresses, namespace, stack));
        // What was seen of kinds that are gone is gone.
        if self.traefik() == Some(true) {
            metadata.extend(metas("IngressRoute", &self.ingress_routes, namespace, stack));
            metadata.extend(metas("Middleware", &self.middlewares, namespace, stack));
        }
        Children {
            deployments: by_name(&self.deployments, namespace, stack),
            stateful_sets: by_name(&self.stateful_sets, namespace, stack),
            jobs: by_name(&self.jobs, namespace, stack),
            cron_jobs: BTreeMap::new(),
            pods: by_name(&self.pods, namespace, stack),
            metadata,
            behind: HashSet::new(),
            pending: Pending::default(),
        }
    }

    /// What belongs to one Restore: its Jobs and their pods, and the metadata of the stack's children.
    #[must_use]
    pub fn children_of_restore(&self, namespace: &str, stack: &str, restore: &str) -> Children {
        self.children_with(namespace, stack, (labels::RESTORE, restore))
    }

    /// What belongs to one Backup: its `CronJob`s, Jobs and their pods, and the metadata of the stack's children.
    #[must_use]
    pub fn children_of_backup(&self, namespace: &str, stack: &str, backup: &str) -> Children {
        let mut children = self.children_with(namespace, stack, (labels::BACKUP, backup));
        children.cron_jobs = by_name(&self.cron_jobs, namespace, stack);
        children.cron_jobs.retain(|_, it| is_labelled(&it.metadata, labels::BACKUP, backup));
        children
    }

    fn children_with(&self, namespace: &str, stack: &str, (label, name): (&str, &str)) -> Children {
        let mut children = self.children(namespace, stack);
        let ours = |meta: &ObjectMeta| is_labelled(meta, label, name);
        children.deployments.clear();
        children.stateful_sets.clear();
        children.jobs.retain(|_, job| ours(&job.metadata));
        children.pods.retain(|_, pod| ours(&pod.metadata));
        children
    }

    /// The Backups of a stack, by name.
    #[must_use]
    pub fn backups_of(&self, namespace: &str, stack: &str) -> Vec<Arc<Backup>> {
        let of_stack = |backup: &Backup| {
            backup.metadata.namespace.as_deref() == Some(namespace) && backup.spec.stack_ref.name == stack
        };
        self.backups.state_filter(of_stack)
    }

    /// The Backups whose bucket's credentials are in this Secret.
    #[must_use]
    pub fn backups_with(&self, namespace: &str, secret: &str) -> Vec<Arc<Backup>> {
        self.backups.state_filter(|backup| {
            let bucket = backup.spec.storage.s3.as_ref();
            backup.metadata.namespace.as_deref() == Some(namespace)
                && bucket.is_some_and(|bucket| bucket.credentials_secret_ref.name == secret)
        })
    }

    /// A Backup.
    #[must_use]
    pub fn backup(&self, namespace: &str, name: &str) -> Option<Arc<Backup>> {
        self.backups.get(&ObjectRef::new(name).within(namespace))
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.pods.get(&ObjectRef::new(name).within(namespace))
    }

    /// Pods of one component of all stacks.
    #[must_use]
    pub fn pods_of(&self, component: &str) -> Vec<Arc<Pod>> {
        self.pods.state_filter(|pod| is_of(pod, component))
    }
}

fn belongs(meta: &ObjectMeta, namespace: &str, stack: &str) -> bool {
    meta.namespace.as_deref() == Some(namespace) && is_labelled(meta, labels::STACK, stack)
}

fn by_name<K>(store: &Store<K>, namespace: &str, stack: &str) -> BTreeMap<String, Arc<K>>
where
    K: Resource + Lookup + Clone + 'static,
    <K as Lookup>::DynamicType: Clone + Eq + Hash,
{
    store
        .state_filter(|object| belongs(object.meta(), namespace, stack))
        .into_iter()
        .map(|object| (object.meta().name.clone().unwrap_or_default(), object))
        .collect()
}

fn metas<'a, K>(
    kind: &'a str,
    store: &'a Store<PartialObjectMeta<K>>,
    namespace: &'a str,
    stack: &'a str,
) -> impl Iterator<Item = (Key, ObjectMeta)> + 'a
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    by_name(store, namespace, stack).into_iter().map(move |(name, object)| {
        let key = Key { kind: kind.to_owned(), namespace: namespace.to_owned(), name };
        (key, object.metadata.clone())
    })
}
