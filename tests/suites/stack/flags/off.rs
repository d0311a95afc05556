//! Off, whatever it takes: a request to disable a rule, on a real cluster.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use odoo_ai_crds::flag::{DisableRequest, DisableState, FeatureFlag};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use super::faults::{FLAG, RULE, change, clear, is_back, set, status};
use super::look::{SOON, wait};
use crate::room::{COMPONENT, Room};

/// A pod that nobody may create is back within the pauses of its `ReplicaSet`.
const BACK: Duration = Duration::from_mins(3);

async fn ask(room: &Room, token: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"odoo-ai.atmatasolutions.com/disable-requested-at": token}}});
    room.api::<FeatureFlag>().patch(FLAG, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn request(room: &Room, token: &str, state: DisableState) -> Result<DisableRequest> {
    wait_for(&format!("the request {token} to be {state:?}"), SOON, || async {
        let request = status(room, FLAG).await?.disable_request.context("no request")?;
        ensure!(request.id == token && request.state == state, "it is {request:?}");
        Ok(Some(request))
    })
    .await
}

async fn is_on(room: &Room) -> Result<bool> {
    Ok(room.sql(&format!("SELECT enabled FROM automation_rules WHERE name = '{RULE}'")).await? == "t")
}

/// Jobs that disable a rule and have not ended.
async fn jobs(room: &Room) -> Result<Vec<String>> {
    let list = ListParams::default().labels(&format!("{COMPONENT}=flag-disable"));
    let jobs = room.api::<Job>().list(&list).await?.items.into_iter();
    let runs = |job: &Job| {
        let conditions = job.status.as_ref().and_then(|it| it.conditions.as_deref()).unwrap_or_default();
        !conditions.iter().any(|it| it.status == "True" && ["Complete", "Failed"].contains(&it.type_.as_str()))
    };
    Ok(jobs.filter(runs).map(|job| job.name_any()).collect())
}

/// On request, though nobody answers: the row is off, no other column changes, and the flag says it.
pub(super) async fn is_disabled_in_the_database(room: &Room) -> Result<String> {
    change(room, json!({"state": "Enabled"})).await?;
    wait(room, FLAG, "Ready", "True", "Synced").await?;
    let row = format!("SELECT enabled FROM automation_rules WHERE name = '{RULE}'");
    let others = format!(
        "SELECT md5(string_agg((to_jsonb(r) - 'enabled')::text || (name <> '{RULE}' AND enabled), ',' ORDER BY id))
         FROM automation_rules r"
    );
    let before = room.sql(&others).await?;
    ensure!(room.sql(&row).await? == "t", "it was on");
    set(room, "503").await?;
    wait(room, FLAG, "Synced", "Unknown", "ApplicationFailing").await?;
    ask(room, "now").await?;
    let waits = request(room, "now", DisableState::Waiting).await?;
    ensure!(waits.message.contains("set it to Disabled") && room.sql(&row).await? == "t", "{waits:?}");
    change(room, json!({"state": "Disabled"})).await?;
    let began = std::time::Instant::now();
    let done = request(room, "now", DisableState::Succeeded).await?;
    let took = began.elapsed();
    ensure!(room.sql(&row).await? == "f" && done.message.contains("in the database"), "{done:?}");
    ensure!(room.sql(&others).await? == before, "more than that column was written");
    let ready = wait(room, FLAG, "Ready", "Unknown", "ApplicationFailing").await?;
    ensure!(ready.contains("; meanwhile rule") && ready.contains("disabled in the database"), "{ready}");
    let events = room.api::<k8s_openapi::api::events::v1::Event>().list(&ListParams::default()).await?.items;
    ensure!(events.iter().any(|event| event.reason.as_deref() == Some("RuleDisabled")), "no Event");
    clear(room).await?;
    is_back(room).await?;
    ensure!(room.sql(&row).await? == "f", "it came back with the API");
    Ok(format!("{:.1} s: {}", took.as_secs_f64(), done.message))
}

/// Somebody changes their mind while the Job waits for the row: it ends, and disables nothing any more.
pub(super) async fn is_not_disabled_after_all(room: &Room) -> Result<String> {
    change(room, json!({"state": "Enabled"})).await?;
    wait(room, FLAG, "Ready", "True", "Synced").await?;
    let hold = format!(
        "psql -U postgres -d odoo_ai -c \"BEGIN; SELECT 1 FROM automation_rules WHERE name = '{RULE}' FOR UPDATE; \
         SELECT pg_sleep(45)\" >/dev/null 2>&1 & sleep 1"
    );
    room.run("postgresql", &["sh", "-c", &hold]).await?;
    set(room, "503").await?;
    wait(room, FLAG, "Synced", "Unknown", "ApplicationFailing").await?;
    change(room, json!({"state": "Disabled"})).await?;
    ask(room, "too soon").await?;
    let began = Instant::now();
    request(room, "too soon", DisableState::Running).await?;
    wait_for("the Job's pod to run", SOON, || async {
        let pods = room.pods_of("flag-disable").await?;
        let runs = |pod: &Pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some("Running");
        Ok(pods.iter().any(runs).then_some(()))
    })
    .await?;
    ensure!(jobs(room).await?.len() == 1 && is_on(room).await?, "it isn't held up");
    change(room, json!({"state": "Enabled"})).await?;
    let waits = request(room, "too soon", DisableState::Waiting).await?;
    wait_for("the Job to go", SOON, || async { Ok(jobs(room).await?.is_empty().then_some(())) }).await?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(40), "the row was let go before: {took:?}");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'UPDATE automation_rules%' AND state <> 'idle'";
    wait_for("its session to go", SOON, || async { Ok((room.sql(left).await? == "0").then_some(())) }).await?;
    clear(room).await?;
    is_back(room).await?;
    ensure!(is_on(room).await?, "it was disabled all the same");
    change(room, json!({"state": "Disabled"})).await?;
    let done = request(room, "too soon", DisableState::Succeeded).await?;
    ensure!(!is_on(room).await?, "{done:?}");
    Ok(waits.message)
}

/// There is no ai-service at all: no pod of it can be created.
pub(super) async fn is_disabled_without_an_application(room: &Room) -> Result<String> {
    change(room, json!({"state": "Enabled"})).await?;
    wait(room, FLAG, "Ready", "True", "Synced").await?;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(room.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(room.client.clone());
    let (policy, binding): (Value, Value) = (
        json!({"metadata": {"name": room.ns}, "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ]},
            "validations": [{
                "expression": format!("object.metadata.?labels['{COMPONENT}'].orValue('') != 'ai-service'"),
                "message": "no ai-service now",
            }],
        }}),
        json!({"metadata": {"name": room.ns}, "spec": {
            "policyName": room.ns, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": room.ns}}},
        }}),
    );
    policies.create(&PostParams::default(), &serde_json::from_value(policy)?).await?;
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    let gone = async {
        // A policy takes a moment until it holds.
        for _ in 0..10 {
            for pod in room.pods_of("ai-service").await? {
                room.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            if room.pods_of("ai-service").await?.is_empty() {
                wait(room, FLAG, "Synced", "Unknown", "ApplicationUnavailable").await?;
                change(room, json!({"state": "Disabled"})).await?;
                ask(room, "nobody is there").await?;
                let done = request(room, "nobody is there", DisableState::Succeeded).await?;
                ensure!(!is_on(room).await? && done.message.contains("in the database"), "{done:?}");
                return wait(room, FLAG, "Ready", "Unknown", "ApplicationUnavailable").await;
            }
        }
        bail!("ai-service came again and again")
    };
    let told = gone.await;
    bindings.delete(&room.ns, &DeleteParams::default()).await?;
    policies.delete(&room.ns, &DeleteParams::default()).await?;
    let told = told?;
    ensure!(told.contains("; meanwhile rule"), "{told}");
    wait_for("the application to be back", BACK, || async {
        Ok(room.pods_of("ai-service").await?.len().eq(&1).then_some(()))
    })
    .await?;
    room.wait_ready(300).await?;
    is_back(room).await?;
    ensure!(!is_on(room).await?, "it came back with the application");
    Ok(told)
}
