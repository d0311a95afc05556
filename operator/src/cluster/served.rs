//! Kinds of others that the API server may serve or not, and that come and go while the operator runs.

use futures::stream::{self, Stream};
use kube::runtime::watcher;
use tokio::sync::watch::{Receiver, Sender};

/// Whether a kind is served, as its watch tells; `None` until it has told.
#[derive(Clone, Debug)]
pub struct Served(Sender<Option<bool>>);

impl Default for Served {
    fn default() -> Self {
        Self(Sender::new(None))
    }
}

impl Served {
    /// What is known now.
    #[must_use]
    pub fn known(&self) -> Option<bool> {
        *self.0.borrow()
    }

    /// Learns from an event of the kind's watch.
    pub fn learn<K>(&self, event: &Result<watcher::Event<K>, watcher::Error>) {
        let served = match event {
            Ok(watcher::Event::InitDone) => true,
            Err(error) if is_missing(error) => false,
            _ => return,
        };
        self.0.send_if_modified(|known| known.replace(served) != Some(served));
    }

    /// An item for each change.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        stream::unfold(self.0.subscribe(), |mut changes: Receiver<_>| async move {
            changes.changed().await.ok()?;
            Some(((), changes))
        })
    }
}

/// The API server doesn't serve the kind.
#[must_use]
pub fn is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::Status;

    use super::*;

    fn failed(code: u16) -> Result<watcher::Event<Pod>, watcher::Error> {
        let status = Status { code, ..Status::default() };
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    }

    #[test]
    fn a_change_is_told_once() {
        let served = Served::default();
        let mut changes = Box::pin(served.changes());
        let mut told = || changes.next().now_or_never().flatten().is_some();
        served.learn(&failed(500));
        assert_eq!((served.known(), told()), (None, false));
        for (event, known, tells) in [
            (failed(404), false, true),
            (failed(404), false, false),
            (failed(500), false, false),
            (Ok(watcher::Event::InitDone), true, true),
            (Ok(watcher::Event::InitDone), true, false),
            (failed(404), false, true),
        ] {
            served.learn(&event);
            assert_eq!((served.known(), told()), (Some(known), tells));
        }
    }
}
