//! A store that many may wait for. Of those that wait for kube's own only the last one is woken, so nobody but a
//! kind's own controller does.

use std::ops::Deref;

use futures::{Stream, TryStreamExt};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Lookup, Store};
use kube::runtime::watcher;
use tokio::sync::watch::{self, Receiver, Sender};

/// A store, and whether the first list is in it.
#[derive(Clone)]
pub struct Cached<K: Lookup<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    filled: Receiver<bool>,
}

/// Fills a [`Cached`].
pub struct Filler<K: Lookup<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    filled: Sender<bool>,
}

/// An empty store, and what fills it.
#[must_use]
pub fn cached<K: Lookup<DynamicType = ()> + Clone + 'static>() -> (Cached<K>, Filler<K>) {
    let (store, writer) = reflector::store();
    let (sender, filled) = watch::channel(false);
    (Cached { store, filled }, Filler { writer, filled: sender })
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Cached<K> {
    /// The store itself, for the one that owns the kind's watch.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        self.store.clone()
    }

    /// Resolves once the first list is in it, and where nobody fills it any more.
    pub async fn filled(&self) {
        _ = self.filled.clone().wait_for(|filled| *filled).await;
    }

    /// The first list is in it.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        *self.filled.borrow()
    }
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Deref for Cached<K> {
    type Target = Store<K>;

    fn deref(&self) -> &Store<K> {
        &self.store
    }
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Filler<K> {
    /// Takes one event in.
    pub fn apply(&mut self, event: &watcher::Event<K>) {
        self.writer.apply_watcher_event(event);
        if matches!(event, watcher::Event::InitDone) {
            self.filled.send_if_modified(|filled| !std::mem::replace(filled, true));
        }
    }

    /// Takes the events in that pass.
    pub fn fill<E>(
        mut self,
        events: impl Stream<Item = Result<watcher::Event<K>, E>>,
    ) -> impl Stream<Item = Result<watcher::Event<K>, E>> {
        events.inspect_ok(move |event| self.apply(event))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::join_all;
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    /// Each in a task of its own, as reconciles are.
    #[tokio::test]
    async fn all_that_wait_are_woken() {
        let (pods, mut filler) = cached::<Pod>();
        let waits = (0..3).map(|_| {
            let pods = pods.clone();
            tokio::spawn(async move { pods.filled().await })
        });
        let waits = join_all(waits.collect::<Vec<_>>());
        tokio::task::yield_now().await;
        assert!(pods.filled().now_or_never().is_none() && !pods.is_filled());
        filler.apply(&watcher::Event::Init);
        filler.apply(&watcher::Event::InitDone);
        let waits = tokio::time::timeout(std::time::Duration::from_secs(5), waits).await.expect("all are woken");
        assert!(waits.iter().all(Result::is_ok) && pods.is_filled());
    }

    #[tokio::test]
    async fn nobody_waits_for_what_is_over() {
        let (pods, filler) = cached::<Pod>();
        drop(filler);
        assert!(pods.filled().now_or_never().is_some() && !pods.is_filled());
    }
}
