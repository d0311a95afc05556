//! Changed credentials on a real API server: what is stored where, who owns it, and that it costs
//! nothing afterwards.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::stack::{costs_nothing, stage};
use crate::stage::{Stage, value};

async fn change(stage: &Stage, secret: &str, password: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"stringData": {"password": password}}));
    stage.api::<Secret>().patch(&format!("{}-{secret}", stage.name), &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn live(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let secret = stage.api::<Secret>().get(&format!("{}-credentials", stage.name)).await?;
    let text = |(key, value): (String, k8s_openapi::ByteString)| Ok((key, String::from_utf8(value.0)?));
    secret.data.context("data")?.into_iter().map(text).collect()
}

async fn generation(stage: &Stage) -> Result<Value> {
    let worker = stage.api::<Deployment>().get(&format!("{}-worker", stage.name)).await?;
    let annotations = &value(&worker)["spec"]["template"]["metadata"]["annotations"];
    Ok(annotations["odoo-ai.atmatasolutions.com/credentials-generation"].clone())
}

#[tokio::test]
async fn changed_passwords_are_proven_taken_up_and_cost_nothing_afterwards() -> Result<()> {
    // The longest name that there is.
    let name = "c".repeat(40);
    let (mut stage, requests) = stage("credentials", |stack| stack["metadata"]["name"] = json!(name)).await?;
    stage.run_to_the_end().await?;
    assert_eq!(generation(&stage).await?, "1");
    change(&stage, "database-credentials", "pa%ss w\"rd\n").await?;
    change(&stage, "redis-credentials", "re:d@is/%").await?;
    for _ in 0..14 {
        stage.reconcile().await?;
        stage.perform().await?;
    }
    stage.run_to_the_end().await?;
    let live = live(&stage).await?;
    assert_eq!(live["database-password"], "pa%ss w\"rd");
    assert_eq!(live["redis-url"], format!("redis://:re%3Ad%40is%2F%25@{name}-redis:6379/0"));
    assert_eq!(live["redis.conf"], "requirepass \"re\\x3ad\\x40is\\x2f\\x25\"\n");
    let logins: Vec<Job> = stage.ours::<Job>().await?;
    let logins: Vec<_> = logins.iter().filter(|job| job.name_any().contains("-login-")).collect();
    assert!(!logins.is_empty(), "new passwords are proven");
    for job in logins {
        let candidate = stage.api::<Secret>().get(&job.name_any()).await?;
        assert_eq!(candidate.immutable, Some(true));
        let owners: Vec<_> = candidate.owner_references().iter().map(|owner| owner.uid.clone()).collect();
        assert_eq!(owners, [job.uid().context("a UID")?], "it goes with its Job");
    }
    assert_ne!(generation(&stage).await?, "1");
    costs_nothing(&mut stage, &requests).await
}
