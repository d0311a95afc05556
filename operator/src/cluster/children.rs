//! The children of one stack at one moment, as the caches have them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::intent::Key;
use super::pending::Pending;
use crate::component::{Component, ComponentExt};
use crate::labels;

/// The children of one stack at one moment.
#[derive(Clone, Debug, Default)]
pub struct Children {
    /// Deployments by name.
    pub deployments: BTreeMap<String, Arc<Deployment>>,
    /// `StatefulSet`s by name.
    pub stateful_sets: BTreeMap<String, Arc<StatefulSet>>,
    /// Jobs by name.
    pub jobs: BTreeMap<String, Arc<Job>>,
    /// `CronJob`s by name; of a Backup only.
    pub cron_jobs: BTreeMap<String, Arc<CronJob>>,
    /// Pods by name.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// Metadata of the other kinds, and of all Secrets of the namespace.
    pub metadata: HashMap<Key, ObjectMeta>,
    /// Workloads whose cached state is older than our own last write: nothing may be concluded from it.
    pub behind: HashSet<Key>,
    /// What keeps pods from their start; read live, and empty while all have started.
    pub pending: Pending,
}

impl Children {
    /// Metadata of a child of any kind.
    #[must_use]
    pub fn meta(&self, key: &Key) -> Option<&ObjectMeta> {
        match key.kind.as_str() {
            "Deployment" => self.deployments.get(&key.name).map(|child| &child.metadata),
            "StatefulSet" => self.stateful_sets.get(&key.name).map(|child| &child.metadata),
            "Job" => self.jobs.get(&key.name).map(|child| &child.metadata),
            "CronJob" => self.cron_jobs.get(&key.name).map(|child| &child.metadata),
            _ => self.metadata.get(key),
        }
    }

    /// UID of the claim of a stack's database.
    #[must_use]
    pub fn volume(&self, namespace: &str, stack: &str) -> Option<&str> {
        let name = format!("{stack}-{}", Component::Database.name());
        let key = Key { kind: "PersistentVolumeClaim".to_owned(), namespace: namespace.to_owned(), name };
        self.meta(&key)?.uid.as_deref()
    }

    /// Metadata of all children of a kind; of Secrets, all of the namespace.
    #[must_use]
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> Box<dyn Iterator<Item = &'a ObjectMeta> + 'a> {
        match kind {
            "Deployment" => Box::new(self.deployments.values().map(|child| &child.metadata)),
            "StatefulSet" => Box::new(self.stateful_sets.values().map(|child| &child.metadata)),
            "Job" => Box::new(self.jobs.values().map(|child| &child.metadata)),
            "CronJob" => Box::new(self.cron_jobs.values().map(|child| &child.metadata)),
            _ => Box::new(self.metadata.iter().filter(move |(key, _)| key.kind == kind).map(|(_, meta)| meta)),
        }
    }

    /// Notes which workloads are older here than `applied` says that we wrote.
    pub fn compare(&mut self, namespace: &str, applied: impl Fn(&Key) -> Option<i64>) {
        let deployments = self.deployments.values().map(|it| ("Deployment", &it.metadata));
        let sets = self.stateful_sets.values().map(|it| ("StatefulSet", &it.metadata));
        let behind = deployments.chain(sets).filter_map(|(kind, meta)| {
            let name = meta.name.clone()?;
            let key = Key { kind: kind.to_owned(), namespace: namespace.to_owned(), name };
            (meta.generation < applied(&key)).then_some(key)
        });
        self.behind = behind.collect();
    }

    /// Pods of one component.
    pub fn pods_of<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().map(AsRef::as_ref).filter(move |pod| is_of(pod, component))
    }
}

/// The pod is one of this component.
pub(super) fn is_of(pod: &Pod, component: &str) -> bool {
    is_labelled(&pod.metadata, labels::COMPONENT, component)
}

/// The object has this label with this value.
pub(super) fn is_labelled(meta: &ObjectMeta, label: &str, value: &str) -> bool {
    meta.labels.as_ref().and_then(|labels| labels.get(label)).map(String::as_str) == Some(value)
}
