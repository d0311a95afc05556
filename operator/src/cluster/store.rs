//! What a watch has seen, packed: of a stack at rest nobody reads anything for minutes, and as JSON
//! an object takes a third of what it takes unpacked. By namespace, because a reconcile wants one.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::labels;

/// Objects by name.
type Names = HashMap<Box<str>, Packed>;
/// Objects by namespace.
type Objects = HashMap<Box<str>, Names>;

/// An object as JSON, with the labels that it is asked for by.
struct Packed {
    stack: Option<Box<str>>,
    component: Option<Box<str>>,
    json: Box<[u8]>,
}

/// The objects of a kind, as far as they were seen.
pub(super) struct Store<K> {
    objects: Arc<RwLock<Objects>>,
    listed: watch::Receiver<bool>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), listed: self.listed.clone(), kind: PhantomData }
    }
}

/// Fills a [`Store`].
pub(super) struct Writer<K> {
    objects: Arc<RwLock<Objects>>,
    listed: watch::Sender<bool>,
    /// A list that is not complete yet: until then what was seen before stands.
    list: Objects,
    kind: PhantomData<fn(K)>,
}

/// An empty store and its writer.
pub(super) fn store<K>() -> (Store<K>, Writer<K>) {
    let objects = Arc::new(RwLock::default());
    let (sender, listed) = watch::channel(false);
    let writer = Writer { objects: Arc::clone(&objects), listed: sender, list: Objects::new(), kind: PhantomData };
    (Store { objects, listed, kind: PhantomData }, writer)
}

impl<K: Resource + Serialize> Writer<K> {
    pub(super) fn note(&mut self, event: &Event<K>) {
        let objects = || self.objects.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => put(&mut objects(), object),
            Event::Delete(object) => remove(&mut objects(), object),
            Event::Init => self.list = Objects::new(),
            Event::InitApply(object) => put(&mut self.list, object),
            Event::InitDone => {
                *objects() = std::mem::take(&mut self.list);
                self.listed.send_replace(true);
            }
        }
    }
}

fn put<K: Resource + Serialize>(objects: &mut Objects, object: &K) {
    let label = |name: &str| object.labels().get(name).map(|value| value.as_str().into());
    let json = serde_json::to_vec(object).expect("what came as JSON can be written as JSON").into_boxed_slice();
    let packed = Packed { stack: label(labels::STACK), component: label(labels::COMPONENT), json };
    let names = objects.entry(object.namespace().unwrap_or_default().into()).or_default();
    names.insert(object.name_any().into(), packed);
}

fn remove<K: Resource>(objects: &mut Objects, object: &K) {
    let namespace = object.namespace().unwrap_or_default();
    let Some(names) = objects.get_mut(namespace.as_str()) else { return };
    names.remove(object.name_any().as_str());
    if names.is_empty() {
        objects.remove(namespace.as_str());
    }
}

impl<K: DeserializeOwned> Store<K> {
    /// Resolves after the first full list. A dropped writer means that the process is going down.
    pub(super) async fn wait_until_ready(&self) {
        let _ = self.listed.clone().wait_for(|listed| *listed).await;
    }

    /// The objects of a namespace with their names: those of a stack, or all.
    pub(super) fn of(&self, namespace: &str, stack: Option<&str>) -> Vec<(String, K)> {
        let objects = self.read();
        let names = objects.get(namespace).into_iter().flatten();
        let wanted = names.filter(|(_, packed)| stack.is_none() || packed.stack.as_deref() == stack);
        wanted.map(|(name, packed)| (name.to_string(), unpacked(packed))).collect()
    }

    /// Namespace and name of all objects of a component.
    pub(super) fn names_of(&self, component: &str) -> Vec<(String, String)> {
        let objects = self.read();
        let all =
            objects.iter().flat_map(|(namespace, names)| names.iter().map(move |(name, it)| (namespace, name, it)));
        let wanted = all.filter(|(.., packed)| packed.component.as_deref() == Some(component));
        wanted.map(|(namespace, name, _)| (namespace.to_string(), name.to_string())).collect()
    }

    /// One object.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<K> {
        self.read().get(namespace)?.get(name).map(unpacked)
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unpacked<K: DeserializeOwned>(packed: &Packed) -> K {
    serde_json::from_slice(&packed.json).expect("what was packed can be unpacked")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str) -> Pod {
        let labels = json!({labels::STACK: "s", labels::COMPONENT: "worker"});
        let pod = json!({
            "metadata": {"namespace": namespace, "name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[tokio::test]
    async fn a_list_replaces_everything_once_it_is_complete() {
        let (store, mut writer) = store::<Pod>();
        for event in [Event::Init, Event::InitApply(pod("a", "old")), Event::InitDone, Event::Apply(pod("b", "new"))] {
            writer.note(&event);
        }
        store.wait_until_ready().await;
        assert_eq!(store.get("a", "old"), Some(pod("a", "old")));
        writer.note(&Event::Init);
        writer.note(&Event::InitApply(pod("b", "other")));
        assert_eq!(store.names_of("worker").len(), 2);
        writer.note(&Event::InitDone);
        assert_eq!(store.names_of("worker"), [("b".to_owned(), "other".to_owned())]);
        writer.note(&Event::Delete(pod("b", "other")));
        assert!(store.of("b", None).is_empty() && store.read().is_empty());
    }

    #[test]
    fn a_stack_gets_its_own() {
        let (store, mut writer) = store::<Pod>();
        writer.note(&Event::Apply(pod("a", "p")));
        assert_eq!(store.of("a", Some("s")), [("p".to_owned(), pod("a", "p"))]);
        assert!(store.of("a", Some("t")).is_empty() && store.of("b", Some("s")).is_empty());
    }
}
