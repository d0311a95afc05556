//! FeatureFlags and the real application's rules: the core tier.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{DeleteParams, Patch, PatchParams};
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use super::look::{SOON, flag, rule, wait};
use crate::room::Room;

const LEAVE: &str = "leave";
const NEW: &str = "new";

fn leave() -> Value {
    json!({"name": "Hr: approve leave", "automationType": "hr", "actionName": "approve_leave"})
}

/// A flag that is there before its stack waits for it.
pub(crate) async fn waits_for_its_stack(room: &Room) -> Result<String> {
    room.apply(&[flag(LEAVE, &leave(), &json!({"state": "Enabled"}))]).await?;
    wait(room, LEAVE, "Ready", "False", "StackNotFound").await
}

/// Of the seeded rules the one that is declared Enabled is on, and no other.
pub(crate) async fn is_on_from_the_beginning(room: &Room) -> Result<String> {
    let enabled: Vec<_> = room.rules().await?.into_iter().filter(|rule| rule["enabled"] == true).collect();
    ensure!(enabled.len() == 1 && enabled[0]["name"] == "Hr: approve leave", "enabled: {enabled:?}");
    wait(room, LEAVE, "Effective", "True", "AsDeclared").await?;
    wait(room, LEAVE, "Ready", "True", "Synced").await
}

/// Its runs fail: it is disabled, until its spec changes.
pub(crate) async fn is_switched_off(room: &Room) -> Result<String> {
    let flags = room.api::<FeatureFlag>();
    let guard = |most: i32| Patch::Merge(json!({"spec": {"errorRate": {"maxPercent": most, "minSamples": 150}}}));
    flags.patch(LEAVE, &PatchParams::default(), &guard(5)).await?;
    wait(room, LEAVE, "WithinErrorRate", "True", "TooFewSamples").await?;
    // What ran in the second in which the spec changed doesn't count.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // More than one page; every tenth one failed.
    room.sql(
        "INSERT INTO audit_logs (timestamp, automation_type, action_name, odoo_model, status, tokens_used)
         SELECT now() AT TIME ZONE 'UTC', 'HR', 'approve_leave', 'hr.leave',
                (CASE WHEN g % 10 = 0 THEN 'FAILED' ELSE 'EXECUTED' END)::actionstatus, 0
         FROM generate_series(1, 250) g",
    )
    .await?;
    let told = wait(room, LEAVE, "Ready", "False", "ErrorRateExceeded").await?;
    ensure!(told.contains("10 % of 250 runs failed, 5 % may"), "{told}");
    let is_on = || async {
        Ok::<_, anyhow::Error>(rule(room, "Hr: approve leave").await?.pop().context("the rule")?["enabled"] == true)
    };
    ensure!(!is_on().await?, "it still runs");
    flags.patch(LEAVE, &PatchParams::default(), &guard(6)).await?;
    wait(room, LEAVE, "Ready", "True", "Synced").await?;
    ensure!(is_on().await?, "another spec runs again");
    Ok(told)
}

/// Edited, added, put back, and gone.
pub(crate) async fn keep_their_rules(room: &Room) -> Result<String> {
    let spec = json!({"spec": {"state": "Disabled", "config": {"limit": 5}, "confidenceThresholdPercent": 90}});
    let flags = room.api::<FeatureFlag>();
    flags.patch(LEAVE, &PatchParams::default(), &Patch::Merge(spec)).await?;
    wait(room, LEAVE, "Ready", "True", "Synced").await?;
    let found = rule(room, "Hr: approve leave").await?.pop().context("the rule")?;
    ensure!(found["enabled"] == false && found["config"] == json!({"limit": 5}), "it is {found}");
    ensure!(found["confidence_threshold"] == 0.9 && found["auto_approve_threshold"] == 0.95, "it is {found}");

    let before = room.rules().await?.len();
    let new = json!({"name": "Night shift", "automationType": "hr", "actionName": "plan_night_shift"});
    room.apply(&[flag(NEW, &new, &json!({"deletionPolicy": "Delete"}))]).await?;
    wait(room, NEW, "Ready", "True", "Synced").await?;
    let added = rule(room, "Night shift").await?;
    ensure!(added.len() == 1 && added[0]["enabled"] == false && room.rules().await?.len() == before + 1, "{added:?}");

    // As somebody in a hurry does it: the rule is on again.
    let mut body = found.clone();
    body["enabled"] = json!(true);
    room.call("PUT", &format!("/api/rules/{}", found["id"]), Some(&body)).await?;
    let began = Instant::now();
    wait_for("the rule to be put back", SOON, || async {
        Ok((rule(room, "Hr: approve leave").await?.pop().context("the rule")?["enabled"] == false).then_some(()))
    })
    .await?;
    let back = began.elapsed();

    // A type that the application doesn't know.
    let unknown = json!({"name": "Unknown", "automationType": "astrology", "actionName": "read_stars"});
    room.apply(&[flag("unknown", &unknown, &json!({"deletionPolicy": "Orphan"}))]).await?;
    wait(room, "unknown", "Ready", "False", "Rejected").await?;
    for name in [NEW, LEAVE, "unknown"] {
        flags.delete(name, &DeleteParams::default()).await?;
    }
    wait_for("the flags to go", SOON, || async {
        let mut left = 0;
        for name in [NEW, LEAVE, "unknown"] {
            left += usize::from(flags.get_opt(name).await?.is_some());
        }
        Ok((left == 0).then_some(()))
    })
    .await?;
    ensure!(rule(room, "Night shift").await?.is_empty(), "it was to be deleted");
    ensure!(rule(room, "Hr: approve leave").await?.len() == 1, "it was to be disabled only");
    Ok(format!("put back after {:.1} s", back.as_secs_f64()))
}
