//! Kubernetes Events: one per transition, never the truth itself.

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};

/// Writes Events about objects; a failure to write one is logged and forgotten.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported by this operator's pod.
    #[must_use]
    pub fn new(client: Client, pod: &str) -> Self {
        let reporter = Reporter { controller: crate::cluster::FIELD_MANAGER.into(), instance: Some(pod.into()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes one Event about `object`. Events of the same reason and action are counted as one.
    pub async fn publish<K>(&self, object: &K, warning: bool, action: &str, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(message.chars().take(1000).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(object = %object.name_any(), %error, reason, "event not written");
        }
    }
}
