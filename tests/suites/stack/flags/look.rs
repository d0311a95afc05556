//! How flags are made and looked at.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use crate::operator::Metrics;
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

/// Requests to the rules API by method, good and bad ones.
pub(super) async fn asked(room: &Room) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for (labels, count) in Metrics::read(&room.client).await?.series("rules_requests_total") {
        let method = ["GET", "POST", "PUT"].into_iter().find(|method| labels.contains(method)).unwrap_or("DELETE");
        *all.entry(method.to_owned()).or_default() += count;
    }
    Ok(all)
}

pub(super) fn since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let before = |method: &String| before.get(method).copied().unwrap_or_default();
    now.iter().map(|(method, count)| (method.clone(), count - before(method))).collect()
}

/// Waits until so many flags, whose names begin so, are as declared.
pub(super) async fn all_synced(room: &Room, prefix: &str, count: usize) -> Result<()> {
    wait_for("all flags to be Synced", Duration::from_mins(4), || async {
        let flags = room.list::<FeatureFlag>().await?;
        let well = |flag: &&FeatureFlag| {
            let conditions = flag.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            flag.name_any().starts_with(prefix)
                && conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let synced = flags.iter().filter(well).count();
        ensure!(synced == count, "{synced} of {count}");
        Ok(Some(()))
    })
    .await
}
