//! How flags are made and looked at.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::room::Room;

/// The operator looks again every 15 s at what it waits for.
pub(super) const SOON: Duration = Duration::from_mins(1);

pub(super) fn flag(name: &str, rule: &Value, spec: &Value) -> Value {
    let mut whole = json!({"stackRef": {"name": "odoo-ai"}, "rule": rule, "resyncSeconds": 10});
    whole.as_object_mut().expect("an object").extend(spec.as_object().cloned().unwrap_or_default());
    json!({
        "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "FeatureFlag",
        "metadata": {"name": name}, "spec": whole,
    })
}

/// Waits until a condition of a flag says so of its newest spec; its message.
pub(super) async fn wait(room: &Room, name: &str, kind: &str, state: &str, reason: &str) -> Result<String> {
    wait_for(&format!("{name}'s {kind}={state} {reason}"), SOON, || async {
        let flag = room.api::<FeatureFlag>().get(name).await?;
        let status = flag.status.unwrap_or_default();
        let found = status.conditions.iter().find(|it| it.type_ == kind).context("no such condition")?;
        let says =
            found.status == state && found.reason == reason && found.observed_generation == flag.metadata.generation;
        ensure!(says, "it is {found:?}");
        Ok(Some(found.message.clone()))
    })
    .await
}

pub(super) async fn rule(room: &Room, name: &str) -> Result<Vec<Value>> {
    Ok(room.rules().await?.into_iter().filter(|rule| rule["name"] == name).collect())
}
