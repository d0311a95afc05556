//! One watch: a store, and the events that fill it.

use std::fmt::Debug;
use std::future::ready;

use futures::stream::{self, BoxStream, Stream};
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::Resource;
use kube::runtime::reflector::Lookup;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

use super::cached::{Cached, cached};
use super::served::{Served, is_missing};
use super::slim::Slim;

/// Events of one watch, each already in the store when it is seen. Never an error, though a controller asks
/// for the type: it would pause *all* its triggers for every error of one of them.
pub type Events<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// What a kind must be to be watched.
pub trait Watched:
    Slim + Resource<DynamicType = ()> + Lookup<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Slim
        + Resource<DynamicType = ()>
        + Lookup<DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// A store and the events that fill it; for a `PartialObjectMeta` only metadata are asked for.
#[must_use]
pub fn watch<K: Watched>(api: Api<K>, config: watcher::Config) -> (Cached<K>, Events<K>) {
    optional(api, config, Served::default())
}

/// The same of a kind that the API server may not serve; `served` learns whether it does.
pub fn optional<K: Watched>(api: Api<K>, config: watcher::Config, served: Served) -> (Cached<K>, Events<K>) {
    let (reader, filler) = cached();
    let stream = patient(watcher(api, config).inspect(move |event| served.learn(event)));
    (reader, calm(filler.fill(stream.modify(Slim::slim)).touched_objects()).boxed())
}

/// Asks again later and later, half a minute apart at most, until an answer comes.
///
/// A watcher tells that it begins before it knows whether it can, and a backoff takes that for success.
pub fn patient<K: Send + 'static>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send {
    events
        .scan(false, |begun, event| {
            let init = matches!(event, Ok(watcher::Event::Init));
            let late = std::mem::replace(begun, init) && event.is_ok();
            let told = late.then_some(Ok(watcher::Event::Init)).into_iter().chain((!init).then_some(event));
            ready(Some(stream::iter(told)))
        })
        .flatten()
        .default_backoff()
}

/// Logs the errors of a patient watch, and passes on the rest.
pub fn calm<K>(
    events: impl Stream<Item = Result<K, watcher::Error>> + Send,
) -> impl Stream<Item = Result<K, watcher::Error>> + Send
where
    K: Resource<DynamicType = ()> + Send,
{
    events
        .inspect_err(|error| {
            if !is_missing(error) {
                tracing::warn!(kind = %K::plural(&()), %error, "A watch failed; it is tried again.");
            }
        })
        .filter(|event| ready(event.is_ok()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::Pod;
    use kube::core::Status;
    use tokio::time::Instant;

    use super::*;

    type Event = Result<watcher::Event<Pod>, watcher::Error>;

    fn failed() -> Event {
        let status = Status { code: 404, ..Status::default() };
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    }

    /// What a watcher tells of lists that fail is an `Init` and an error, again and again.
    #[tokio::test(start_paused = true)]
    async fn a_list_that_fails_is_tried_later_and_later() {
        let lists = stream::iter((0..8).flat_map(|_| [Ok(watcher::Event::Init), failed()]));
        let start = Instant::now();
        let events = patient(lists).boxed();
        let times: Vec<_> = events.map(|event| (event.is_err(), start.elapsed())).collect().await;
        assert!(times.iter().all(|(failed, _)| *failed) && times.len() == 8);
        let last = times[7].1.saturating_sub(times[6].1);
        assert!(last >= Duration::from_secs(20) && last <= Duration::from_mins(1), "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_watcher_tells_keeps_its_order() {
        let pod = |name: &str| {
            let mut pod = Pod::default();
            pod.metadata.name = Some(name.to_owned());
            pod
        };
        let events: Vec<Event> = vec![
            Ok(watcher::Event::Init),
            failed(),
            Ok(watcher::Event::Init),
            Ok(watcher::Event::InitApply(pod("a"))),
            Ok(watcher::Event::InitDone),
            Ok(watcher::Event::Apply(pod("b"))),
            Ok(watcher::Event::Init),
            Ok(watcher::Event::InitDone),
        ];
        let told: Vec<_> = patient(stream::iter(events)).boxed().map_ok(|event| format!("{event:?}")).collect().await;
        let words = |event: &Result<String, watcher::Error>| match event {
            Ok(event) => event.split('(').next().unwrap_or_default().to_owned(),
            Err(_) => "error".to_owned(),
        };
        let told: Vec<_> = told.iter().map(words).collect();
        assert_eq!(told, ["error", "Init", "InitApply", "InitDone", "Apply", "Init", "InitDone"]);
    }

    /// A controller pauses all its triggers for an error of one.
    #[tokio::test]
    async fn an_error_is_passed_on_to_nobody() {
        let events = stream::iter([failed().map(|_| Pod::default()), Ok(Pod::default())]);
        assert!(calm(events).collect::<Vec<_>>().await.iter().all(Result::is_ok));
    }
}
