//! Applications that don't answer as they should.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use odoo_ai_crds::flag::{FeatureFlag, FeatureFlagStatus};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use super::look::{SOON, flag, rule, wait};
use crate::room::{LABEL, Room, STACK, sample};

const READY: u64 = 300;
/// An application that failed is asked again within a minute.
const BACK: Duration = Duration::from_secs(100);
/// The flag whose conditions are looked at; it is in the sample.
pub(super) const FLAG: &str = "deduplication";
pub(super) const RULE: &str = "Deduplication: weekly scan";

/// What the sample application does (tests/app/README.md), and what the flags say then.
pub(super) const FAULTS: [(&str, &str); 8] = [
    ("401", "Unauthorized"),
    ("404", "UnexpectedAnswer"),
    ("422", "Rejected"),
    ("500", "ApplicationFailing"),
    ("503", "ApplicationFailing"),
    ("garbage", "UnexpectedAnswer"),
    ("redirect", "UnexpectedAnswer"),
    ("slow", "Unreachable"),
];

/// Stack and flags at once, as a user applies them.
pub(super) async fn installs(room: &Room) -> Result<String> {
    let mut all = sample("local.yaml")?;
    all.extend(sample("flags.yaml")?);
    for object in &mut all {
        if object["kind"] == "FeatureFlag" {
            object["spec"]["resyncSeconds"] = json!(10);
        }
    }
    room.apply(&all).await?;
    room.wait_ready(READY).await?;
    let flags = room.list::<FeatureFlag>().await?;
    for flag in &flags {
        wait(room, &flag.name_any(), "Ready", "True", "Synced").await?;
    }
    let rules = room.rules().await?;
    ensure!(rules.iter().all(|rule| rule["enabled"] == false), "a Phase 1 feature is on");
    let counted = wait_for("status.rules", SOON, || async {
        let rules_of_stack = room.stack().await?.status.unwrap_or_default().rules.context("no status.rules")?;
        let (declared, all) = (flags.len(), room.rules().await?.len());
        ensure!(
            (rules_of_stack.declared, rules_of_stack.undeclared)
                == (i32::try_from(declared)?, i32::try_from(all - declared)?),
            "{declared} of {all} rules are declared, the stack says {rules_of_stack:?}"
        );
        Ok(Some(rules_of_stack))
    })
    .await?;
    Ok(format!("{} declared, {} undeclared", counted.declared, counted.undeclared))
}

/// From now on the rules API misbehaves.
pub(super) async fn set(room: &Room, fault: &str) -> Result<()> {
    // Never seen half written.
    let command = format!("echo '{fault}' > /tmp/sample-rules.new && mv /tmp/sample-rules.new /tmp/sample-rules");
    room.run("ai-service", &["sh", "-c", &command]).await.map(drop)
}

pub(super) async fn clear(room: &Room) -> Result<()> {
    room.run("ai-service", &["rm", "-f", "/tmp/sample-rules"]).await.map(drop)
}

pub(super) async fn status(room: &Room, name: &str) -> Result<FeatureFlagStatus> {
    Ok(room.api::<FeatureFlag>().get(name).await?.status.unwrap_or_default())
}

pub(super) async fn change(room: &Room, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    room.api::<FeatureFlag>().patch(FLAG, &PatchParams::default(), &patch).await?;
    Ok(())
}

pub(super) async fn is_back(room: &Room) -> Result<()> {
    wait_for("Synced again", BACK, || async {
        let status = status(room, FLAG).await?;
        let synced = status.conditions.iter().find(|it| it.type_ == "Synced").context("no Synced")?;
        ensure!(synced.status == "True", "it is {synced:?}");
        Ok(Some(()))
    })
    .await
}

/// The API answers wrong for a while: the flag says so, keeps what it knew, and comes back.
pub(super) async fn is_told(room: &Room, fault: &str, reason: &str) -> Result<String> {
    let before = status(room, FLAG).await?;
    set(room, fault).await?;
    let told = wait(room, FLAG, "Synced", "Unknown", reason).await;
    let kept = status(room, FLAG).await?;
    let stack = room.stack().await?;
    clear(room).await?;
    let told = told?;
    ensure!(
        (kept.rule_id, &kept.effective, kept.synced_generation)
            == (before.rule_id, &before.effective, before.synced_generation),
        "it was {before:?}, and is {kept:?}"
    );
    let available = crate::room::condition(&stack, "Available").context("no Available")?;
    ensure!(available.status == "True", "the stack is blamed: {available:?}");
    is_back(room).await?;
    Ok(told)
}

/// A pod that has the labels of ai-service by mistake.
pub(super) async fn wrong_pod(room: &Room) -> Result<String> {
    let real = room.pod_of("ai-service").await?;
    let image = real.spec.as_ref().and_then(|spec| spec.containers.first()?.image.clone()).context("an image")?;
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "name": "wrong", "labels": {LABEL: STACK, "app.kubernetes.io/component": "ai-service"},
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "ai-service", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "http.server", "8000", "--directory", "/tmp"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    }))?;
    let pods = room.api::<Pod>();
    pods.create(&PostParams::default(), &pod).await?;
    let told = wait_for("the other pod to be noticed", Duration::from_mins(3), || async {
        let status = status(room, FLAG).await?;
        let synced = status.conditions.into_iter().find(|it| it.type_ == "Synced").context("no Synced")?;
        ensure!(synced.reason == "UnexpectedAnswer", "it is {synced:?}");
        Ok(Some(synced.message))
    })
    .await;
    pods.delete("wrong", &DeleteParams::default()).await?;
    is_back(room).await?;
    told
}

/// The Secret has another key than the application: while a change is rolled out it is so.
pub(super) async fn wrong_key(room: &Room) -> Result<String> {
    let stack = room.stack().await?;
    set_suspended(room, true).await?;
    let (secrets, name) = (room.api::<Secret>(), format!("{STACK}-app-secrets"));
    let right = room.secret(&name, "AI_SECRET_KEY").await?;
    let key = |value: &str| Patch::Merge(json!({"stringData": {"AI_SECRET_KEY": value}}));
    secrets.patch(&name, &PatchParams::default(), &key("of-somebody-else")).await?;
    let told = wait(room, FLAG, "Synced", "Unknown", "Unauthorized").await;
    secrets.patch(&name, &PatchParams::default(), &key(&right)).await?;
    set_suspended(room, stack.spec.suspend).await?;
    is_back(room).await?;
    let told = told?;
    ensure!(!told.contains("of-somebody-else"), "{told}");
    Ok(told)
}

async fn set_suspended(room: &Room, suspend: bool) -> Result<()> {
    room.change(json!({"suspend": suspend})).await
}

async fn enabled(room: &Room, name: &str) -> Result<bool> {
    let found = rule(room, name).await?;
    ensure!(found.len() == 1, "{name}: {found:?}");
    Ok(found[0]["enabled"] == true)
}

/// The list is well, a write is not.
pub(super) async fn change_meets(room: &Room, fault: &str) -> Result<String> {
    set(room, fault).await?;
    change(room, json!({"state": "Enabled"})).await?;
    let told = wait_for("the failed write to be told", SOON, || async {
        let flag = room.api::<FeatureFlag>().get(FLAG).await?;
        let conditions = flag.status.unwrap_or_default().conditions;
        let synced = conditions.into_iter().find(|it| it.type_ == "Synced").context("no Synced")?;
        ensure!(synced.observed_generation == flag.metadata.generation, "it says nothing of it yet");
        // What is done and not answered is seen at the next look.
        let done = fault.starts_with("lost") && synced.status == "True";
        ensure!(done || ["Rejected", "Unreachable"].contains(&synced.reason.as_str()), "it is {synced:?}");
        Ok(Some(format!("{}: {}", synced.reason, synced.message)))
    })
    .await;
    clear(room).await?;
    let told = told?;
    wait_for("the rule to be enabled", BACK, || async { Ok(enabled(room, RULE).await?.then_some(())) }).await?;
    is_back(room).await?;
    change(room, json!({"state": "Disabled"})).await?;
    wait(room, FLAG, "Ready", "True", "Synced").await?;
    ensure!(!enabled(room, RULE).await?, "it is on");
    Ok(told)
}

/// A new rule whose POST is not answered: there is one in the end.
pub(super) async fn new_meets(room: &Room, fault: &str) -> Result<String> {
    let name = format!("of-{}", fault.to_lowercase().replace(' ', "-"));
    let identity = json!({"name": name, "automationType": "hr", "actionName": "plan_shift"});
    set(room, fault).await?;
    room.apply(&[flag(&name, &identity, &json!({"deletionPolicy": "Delete"}))]).await?;
    let told = wait_for("the POST to be tried", SOON, || async {
        let synced = status(room, &name).await?.conditions.into_iter().find(|it| it.type_ == "Synced");
        let synced = synced.context("no Synced")?;
        ensure!(
            ["Unreachable", "ApplicationFailing"].contains(&synced.reason.as_str()) || synced.status == "True",
            "it is {synced:?}"
        );
        Ok(Some(format!("{}: {}", synced.reason, synced.message)))
    })
    .await;
    clear(room).await?;
    let told = told?;
    wait_for("the one rule", Duration::from_mins(3), || async {
        let status = status(room, &name).await?;
        let synced = status.conditions.iter().find(|it| it.type_ == "Synced").context("no Synced")?;
        ensure!(synced.status == "True", "it is {synced:?}");
        Ok(Some(()))
    })
    .await?;
    let found = rule(room, &name).await?;
    ensure!(found.len() == 1 && found[0]["enabled"] == false, "there are {found:?}");
    room.api::<FeatureFlag>().delete(&name, &DeleteParams::default()).await?;
    wait_for("the rule to go", SOON, || async { Ok(rule(room, &name).await?.is_empty().then_some(())) }).await?;
    Ok(told)
}
