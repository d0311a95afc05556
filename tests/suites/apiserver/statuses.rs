//! The status writer: it must not win over what it has not seen.

use anyhow::{Context as _, Result};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::cluster::status::{self, Verdict};
use serde_json::json;

use crate::crds::server;
use crate::stage::Stage;

/// A stack that nobody reconciles.
async fn stack(namespace: &str) -> Result<(Stage, Api<OdooAiStack>, OdooAiStack)> {
    let client = server().await?.client().await?;
    let stage = Stage::new(client.clone(), client, namespace, |_| {}).await?;
    let (api, object) = (stage.api(), stage.stack().await?);
    Ok((stage, api, object))
}

fn say(object: &mut OdooAiStack, message: &str) {
    let generation = object.metadata.generation.unwrap_or_default();
    let status = object.status.get_or_insert_default();
    status.observed_generation = Some(generation);
    status::set(
        &mut status.conditions,
        "Ready",
        &Verdict::new(false, "Progressing", message),
        generation,
        Timestamp::now(),
    );
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[tokio::test]
async fn a_status_decided_on_an_old_state_is_refused() -> Result<()> {
    let (stage, api, object) = stack("stale").await?;
    let mut first = object.clone();
    say(&mut first, "first");
    let written = status::write(&api, &first).await?;
    let mut second = object;
    say(&mut second, "second");
    let error = status::write(&api, &second).await.err().context("the second writer won")?;
    assert!(is_conflict(&error), "{error}");
    assert!(stage.condition("Ready").await?.ends_with(" first"));
    // A change of the spec between reading and writing counts the same.
    stage.edit(&json!({"logLevel": "Debug"})).await?;
    let mut third = written;
    say(&mut third, "third");
    let error = status::write(&api, &third).await.err().context("it didn't see the new spec")?;
    assert!(is_conflict(&error), "{error}");
    let now = stage.stack().await?;
    assert_eq!((now.metadata.generation, now.status.unwrap_or_default().observed_generation), (Some(2), Some(1)));
    Ok(())
}

#[tokio::test]
async fn a_status_write_changes_nothing_but_the_status() -> Result<()> {
    let (stage, api, object) = stack("only").await?;
    let mut wanted = object.clone();
    say(&mut wanted, "said");
    wanted.spec.suspend = true;
    wanted.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
    wanted.metadata.managed_fields = None;
    status::write(&api, &wanted).await?;
    let now = stage.stack().await?;
    assert_eq!((now.spec, now.metadata.annotations), (object.spec, object.metadata.annotations));
    assert_eq!(now.metadata.generation, Some(1));
    let writers = now.metadata.managed_fields.unwrap_or_default();
    let ours = writers.iter().filter(|entry| entry.manager.as_deref() == Some("odoo-ai-operator"));
    assert_eq!(ours.map(|entry| entry.subresource.as_deref()).collect::<Vec<_>>(), [Some("status")]);
    Ok(())
}

#[tokio::test]
async fn the_longest_message_fits() -> Result<()> {
    let (stage, api, mut object) = stack("long").await?;
    for long in ["x".repeat(40_000), "ß".repeat(40_000)] {
        say(&mut object, &long);
        object = status::write(&api, &object).await?;
        let message = stage.condition("Ready").await?.len() - "False Progressing ".len();
        assert!((32_000..=32_768).contains(&message), "{message} bytes, which the API conventions don't allow");
    }
    Ok(())
}

/// What a person does while a reconcile is under way is seen by the next one and undone by none.
#[tokio::test]
async fn a_reconcile_loses_nothing_that_happens_meanwhile() -> Result<()> {
    let (stage, api, _) = stack("meanwhile").await?;
    let annotate = async {
        for count in 0..40 {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"count": count.to_string()}}}));
            api.patch(&stage.name, &PatchParams::default(), &patch).await?;
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        anyhow::Ok(())
    };
    let (annotated, ready) = tokio::join!(annotate, stage.run_to_the_end());
    annotated?;
    ready?;
    let now = stage.stack().await?;
    assert_eq!(now.metadata.annotations.and_then(|mut all| all.remove("count")).as_deref(), Some("39"));
    Ok(())
}
