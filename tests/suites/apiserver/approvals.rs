//! The chart's admission policy: nobody approves in somebody else's name.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{ApiServer, repository, wait_for};
use serde_json::json;

/// A person with every right.
pub(crate) async fn person(server: &ApiServer, name: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info.impersonate = Some(name.to_owned());
    config.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    Ok(Client::try_from(config)?)
}

/// Sets `approved-revision` or `approved-migration`, and `approved-by`; what the API server answered.
async fn approves(who: &Client, namespace: &str, what: &str, revision: &str, by: Option<&str>) -> Result<(), String> {
    let stacks: Api<OdooAiStack> = Api::namespaced(who.clone(), namespace);
    let annotations = json!({
        (format!("odoo-ai.atmatasolutions.com/approved-{what}")): revision,
        "odoo-ai.atmatasolutions.com/approved-by": by,
    });
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    stacks.patch("odoo-ai", &PatchParams::default(), &patch).await.map(|_| ()).map_err(|error| error.to_string())
}

/// A table of who may say what, in a namespace whose operator has the policy and in one without.
pub(crate) async fn are_bound_to_who_sends_them(server: &ApiServer, watched: &str, other: &str) -> Result<()> {
    let (alice, bob) = (person(server, "alice").await?, person(server, "bob").await?);
    let sample = std::fs::read_to_string(repository().join("manifests/samples/local.yaml"))?;
    let is_stack = |document: &&str| document.contains("kind: OdooAiStack");
    let sample = sample.split("\n---\n").find(is_stack).context("a stack in the sample")?;
    let sample: OdooAiStack = serde_saphyr::from_str(sample)?;
    for namespace in [watched, other] {
        let mut stack = sample.clone();
        stack.metadata.namespace = Some(namespace.to_owned());
        Api::namespaced(alice.clone(), namespace).create(&PostParams::default(), &stack).await?;
    }
    let tries = AtomicUsize::new(100);
    wait_for("the policy to hold", Duration::from_secs(30), || async {
        // Another one each time: what was let pass before the policy held may be sent again.
        let revision = format!("r{}", tries.fetch_add(1, Ordering::Relaxed));
        let answer = approves(&alice, watched, "revision", &revision, Some("bob")).await;
        Ok(answer.is_err_and(|error| error.contains("approved-by")).then_some(()))
    })
    .await?;
    let table = [
        (&alice, "alice", "r1", None, Err("approved-by: alice")),
        (&alice, "alice", "r1", Some("bob"), Err("approved-by: alice")),
        (&alice, "alice", "r1", Some("alice"), Ok(())),
        // What stands there may stay, and be sent again by GitOps.
        (&bob, "bob", "r1", Some("alice"), Ok(())),
        (&bob, "bob", "r2", Some("alice"), Err("approved-by: bob")),
        (&bob, "bob", "r1", Some("carol"), Err("must be your own user name, bob")),
        (&bob, "bob", "r1", None, Ok(())),
        (&bob, "bob", "r1", Some("alice"), Err("must be your own user name, bob")),
        (&bob, "bob", "r2", Some("bob"), Ok(())),
        (&alice, "alice", "", None, Ok(())),
    ];
    for (what, (who, name, revision, by, wanted)) in
        ["revision", "migration"].into_iter().flat_map(|what| table.iter().map(move |row| (what, *row)))
    {
        let answer = approves(who, watched, what, revision, by).await;
        let case = format!("{name} sends {what} {revision:?} by {by:?}: {answer:?}");
        match (wanted, &answer) {
            (Ok(()), Ok(())) => {}
            (Err(words), Err(error)) => ensure!(error.contains(words), "{case}"),
            _ => anyhow::bail!("{case}"),
        }
    }
    // Everything else about a stack is none of the policy's business.
    let stacks: Api<OdooAiStack> = Api::namespaced(bob.clone(), watched);
    let patch = Patch::Merge(json!({"spec": {"suspend": true}}));
    stacks.patch("odoo-ai", &PatchParams::default(), &patch).await.context("a change of the spec")?;
    approves(&alice, other, "revision", "r1", Some("bob"))
        .await
        .map_err(anyhow::Error::msg)
        .context("another namespace")
}
