//! Waiting with a limit, and an error that says what was last seen.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::Value;

const PAUSE: Duration = Duration::from_millis(200);

/// Asks again and again until there is an answer. An error of the question itself is only kept for
/// the message: servers come and go while a test runs.
///
/// # Errors
/// When the time is over; the message holds the last error.
pub async fn wait_for<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    let mut last = String::from("it was never there");
    loop {
        // A question without an answer must not outlast the limit.
        match tokio::time::timeout(limit.min(Duration::from_secs(20)), ask()).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => "the question got no answer".clone_into(&mut last),
        }
        if started.elapsed() > limit {
            bail!("waited {} s for {what}: {last}", limit.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until an object is as wanted.
///
/// # Errors
/// When the time is over; the message holds the object's last status.
pub async fn wait_object<K, P>(api: &Api<K>, name: &str, what: &str, limit: Duration, wanted: P) -> Result<K>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + serde::Serialize,
    P: Fn(&K) -> bool,
{
    let wanted = &wanted;
    wait_for(&format!("{name} to be {what}"), limit, || async move {
        let Some(object) = api.get_opt(name).await? else {
            bail!("{name} does not exist");
        };
        if wanted(&object) {
            return Ok(Some(object));
        }
        let value = serde_json::to_value(&object)?;
        bail!("its status is {}", value.get("status").unwrap_or(&Value::Null));
    })
    .await
}
