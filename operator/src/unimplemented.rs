//! Kinds whose controllers come later. Each object says so in its conditions: nothing is ignored
//! silently.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::{Action, Config};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use odoo_ai_crds::conditions::{reasons, types};
use odoo_ai_crds::restore::{Restore, RestoreStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::cache::Scope;
use crate::cluster::status::{self, Verdict};

/// A kind that isn't built yet.
trait Pending:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The conditions, and the place of the observed generation.
    fn status_mut(&mut self) -> (&mut Vec<Condition>, &mut Option<i64>);
    /// The summary condition of the kind.
    const SUMMARY: &'static str;
}

macro_rules! pending {
    ($kind:ty, $status:ty, $summary:expr) => {
        impl Pending for $kind {
            fn status_mut(&mut self) -> (&mut Vec<Condition>, &mut Option<i64>) {
                let status: &mut $status = self.status.get_or_insert_default();
                (&mut status.conditions, &mut status.observed_generation)
            }
            const SUMMARY: &'static str = $summary;
        }
    };
}

pending!(Restore, RestoreStatus, types::COMPLETE);

/// Runs the controller until `shutdown`.
pub async fn run(client: Client, scope: Scope, shutdown: impl Future<Output = ()> + Send + Sync + 'static) {
    control::<Restore>(&client, &scope, shutdown).await;
}

async fn control<K: Pending>(
    client: &Client,
    scope: &Scope,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    Controller::<K>::new(scope.api(client), watcher::Config::default())
        .with_config(Config::default().concurrency(2))
        .graceful_shutdown_on(shutdown)
        .run(say_so, |_, error, _| retry(error), Arc::new(client.clone()))
        .for_each(|_| std::future::ready(()))
        .await;
}

async fn say_so<K: Pending>(object: Arc<K>, client: Arc<Client>) -> kube::Result<Action> {
    let mut wanted = K::clone(&object);
    let generation = object.meta().generation.unwrap_or_default();
    let kind = K::kind(&());
    let message = format!("{kind} is not implemented in this version of the operator: nothing is done");
    let (conditions, observed) = wanted.status_mut();
    *observed = Some(generation);
    let now = Timestamp::now();
    for (name, holds) in [(K::SUMMARY, false), (types::STALLED, true)] {
        let verdict = Verdict::new(holds, reasons::NOT_IMPLEMENTED, message.clone());
        status::set(conditions, name, &verdict, generation, now);
    }
    let json = |object: &K| serde_json::to_value(object).ok();
    if json(&wanted) != json(&object) {
        wanted.meta_mut().managed_fields = None;
        let namespace = object.namespace().unwrap_or_default();
        status::write(&Api::namespaced(Client::clone(&client), &namespace), &wanted).await?;
    }
    Ok(Action::await_change())
}

fn retry(error: &kube::Error) -> Action {
    tracing::warn!(%error, "status not written");
    Action::requeue(Duration::from_secs(10))
}
