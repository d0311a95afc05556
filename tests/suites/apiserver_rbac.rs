//! What the chart lets the operator do: enough for everything that the code does, tried by letting
//! it do it with the token of the chart's own service account; and nothing that could hurt.

#[path = "apiserver/approvals.rs"]
mod approvals;
#[path = "apiserver/crds.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod crds;
#[path = "apiserver/leftovers.rs"]
mod leftovers;
#[path = "apiserver/requests.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod requests;
#[path = "apiserver/rights.rs"]
mod rights;
#[path = "apiserver/stage.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod stage;
#[path = "apiserver/surroundings.rs"]
mod surroundings;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::{restricted_namespace, server};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use leftovers::leave_behind;
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::labels;
use odoo_ai_operator::leader::Leader;
use odoo_ai_tests::{apply_file, apply_yaml, kubectl, kustomize, repository, wait_for};
use requests::Requests;
use rights::{CLUSTER, NEEDED, NEVER, NOT_USED};
use serde_json::json;
use stage::Stage;

/// The helm that `hack/` built, beside the kubectl that it built.
fn helm() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("ODOOAI_TOOL_HELM").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder).join("helm"));
    }
    let tools = kubectl()?.ancestors().nth(3).context("a folder of tools")?.to_path_buf();
    let built = tools.read_dir()?.flatten().map(|entry| entry.path().join("bin/helm")).filter(|path| path.is_file());
    built.max_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok()).context("run hack/tools/build helm")
}

/// Installs the chart into a namespace; nothing runs, there are no nodes.
async fn install(client: &Client, namespace: &str, values: &[&str]) -> Result<()> {
    restricted_namespace(client, namespace).await?;
    let mut command = Command::new(helm()?);
    command.args(["template", "odoo-ai-operator", "--namespace", namespace]);
    command.arg(repository().join("charts/odoo-ai-operator"));
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().context("running helm")?;
    if !output.status.success() {
        bail!("helm template: {}", String::from_utf8_lossy(&output.stderr));
    }
    apply_yaml(client, namespace, &String::from_utf8(output.stdout)?).await
}

/// A token of the operator that was installed into `namespace`.
async fn token(client: &Client, namespace: &str) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let answer = accounts.create_token_request("odoo-ai-operator", &PostParams::default(), &request).await?;
    Ok(answer.status.context("a token")?.token)
}

/// May the operator of `namespace` do this?
async fn may(client: &Client, namespace: &str, asked: &ResourceAttributes) -> Result<bool> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:odoo-ai-operator")),
            groups: Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]),
            resource_attributes: Some(asked.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// `verb group/resource[/subresource]`, in a namespace; an empty one is all of them.
fn ask(verb: &str, what: &str, namespace: &str) -> ResourceAttributes {
    let (group, resource) = what.split_once(':').unwrap_or(("", what));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    }
}

/// Checks a table of `verbs what`, each line against the wanted answer.
async fn check(client: &Client, operator: &str, namespace: &str, table: &[(&str, &str)], wanted: bool) -> Result<()> {
    let mut wrong = Vec::new();
    for (verbs, what) in table {
        for verb in verbs.split(' ') {
            if may(client, operator, &ask(verb, what, namespace)).await? != wanted {
                wrong.push(format!("{verb} {what} in {namespace:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "allowed should be {wanted}: {wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn a_namespaced_operator_may_what_it_needs_and_nothing_elsewhere() -> Result<()> {
    let client = server().await?.client().await?;
    for namespace in ["watched", "unwatched"] {
        restricted_namespace(&client, namespace).await?;
    }
    install(&client, "narrow", &["watchNamespaces={watched}"]).await?;
    check(&client, "narrow", "watched", NEEDED, true).await?;
    check(&client, "narrow", "narrow", &[("get create patch", "coordination.k8s.io:leases")], true).await?;
    check(&client, "narrow", "watched", NEVER, false).await?;
    check(&client, "narrow", "", CLUSTER, false).await?;
    check(&client, "narrow", "", &[("list", "nodes")], true).await?;
    let traefik = ResourceAttributes { name: Some("traefik".to_owned()), ..ask("get", "services", "kube-system") };
    assert!(may(&client, "narrow", &traefik).await?, "Traefik's Service");
    for elsewhere in ["unwatched", "kube-system", ""] {
        check(&client, "narrow", elsewhere, NEEDED, false).await?;
        check(&client, "narrow", elsewhere, NEVER, false).await?;
    }
    // Its own namespace isn't one of those: only the Lease and Events about itself.
    let needed: Vec<_> = NEEDED.iter().filter(|(_, what)| !what.starts_with("events")).copied().collect();
    check(&client, "narrow", "narrow", &needed, false).await?;
    Ok(())
}

#[tokio::test]
async fn a_cluster_wide_operator_may_the_same_everywhere_and_nothing_more() -> Result<()> {
    let client = server().await?.client().await?;
    install(&client, "wide", &["clusterWide=true", "approvals.verifyApprover=false"]).await?;
    for anywhere in ["default", "kube-system", ""] {
        check(&client, "wide", anywhere, NEEDED, true).await?;
        check(&client, "wide", anywhere, NEVER, false).await?;
    }
    check(&client, "wide", "", CLUSTER, false).await
}

#[tokio::test]
async fn the_plain_operator_of_one_namespace_may_what_it_needs_and_nothing_elsewhere() -> Result<()> {
    let client = server().await?.client().await?;
    for namespace in ["odoo-ai", "odoo-ai-system", "plain"] {
        restricted_namespace(&client, namespace).await?;
    }
    let made = kustomize(&repository().join("manifests/operator-namespaced"))?;
    // The CRDs are there, and in use.
    let made: Vec<_> = made.split("\n---\n").filter(|it| !it.contains("kind: CustomResourceDefinition")).collect();
    apply_yaml(&client, "odoo-ai-system", &made.join("\n---\n")).await?;
    check(&client, "odoo-ai-system", "odoo-ai", NEEDED, true).await?;
    check(&client, "odoo-ai-system", "odoo-ai", NEVER, false).await?;
    check(&client, "odoo-ai-system", "odoo-ai-system", &[("get create patch", "coordination.k8s.io:leases")], true)
        .await?;
    check(&client, "odoo-ai-system", "", CLUSTER, false).await?;
    for elsewhere in ["plain", "kube-system", ""] {
        check(&client, "odoo-ai-system", elsewhere, NEEDED, false).await?;
    }
    Ok(())
}

fn flat(rules: Vec<PolicyRule>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.iter().flatten() {
                all.extend(rule.verbs.iter().map(|verb| line(verb, &group, resource)));
            }
        }
    }
    all
}

fn line(verb: &str, group: &str, resource: &str) -> String {
    if group.is_empty() { format!("{verb} {resource}") } else { format!("{verb} {group}:{resource}") }
}

#[tokio::test]
async fn everything_that_the_code_does_is_allowed_and_little_else() -> Result<()> {
    let server = server().await?;
    let client = server.client().await?;
    restricted_namespace(&client, "odoo-ai").await?;
    install(&client, "operator", &["watchNamespaces={odoo-ai}"]).await?;
    let requests = Requests::default();
    let operator = requests.client(server, Some(token(&client, "operator").await?)).await?;

    // The Lease.
    let leader = Leader::new(operator.clone(), "operator", "operator-0").await?;
    tokio::time::timeout(Duration::from_secs(20), leader.acquire()).await.context("the Lease")??;
    leader.release().await;
    // A stack from nothing to Ready, a change, and its end.
    let stage = Stage::new(client.clone(), operator.clone(), "odoo-ai", |stack| {
        stack["spec"]["env"] =
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
        stack["spec"]["rollout"]["revisionHistoryLimit"] = json!(1);
        stack["spec"]["worker"] = json!({"replicas": 2});
        stack["spec"]["ingress"] = json!({"dashboard": {"host": "ai.example.com"}});
    })
    .await?;
    let settings = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {a: x}}";
    apply_yaml(&client, "odoo-ai", settings).await?;
    let controller = stage.control()?;
    // The spec changes while the schema is prepared for what is wanted no more.
    let job = wait_for("a Job", Duration::from_secs(20), || async {
        stage.pods_become_ready().await?;
        Ok(stage.ours::<Job>().await?.into_iter().next())
    })
    .await?;
    // The database's pod waits for its volume.
    let database = stage.api::<StatefulSet>().get("odoo-ai-postgresql").await?.spec.context("a spec")?;
    stage.pod("odoo-ai-postgresql-0", database.template, &json!({"phase": "Pending"})).await?;
    stage.edit(&json!({"logLevel": "Warning"})).await?;
    wait_for("the Job to be deleted", Duration::from_secs(20), || async {
        let left = stage.api::<Job>().get_opt(&job.name_any()).await?;
        Ok(left.is_none_or(|job| job.metadata.deletion_timestamp.is_some()).then_some(()))
    })
    .await?;
    stage.until_ready().await?;
    let copies = || async {
        let secrets = stage.ours::<Secret>().await?;
        let copies = secrets.iter().filter(|secret| secret.labels().contains_key(labels::REVISION));
        anyhow::Ok(copies.map(ResourceExt::name_any).collect::<Vec<_>>())
    };
    let before = copies().await?;
    let leftovers =
        leave_behind(&stage, "old", &stage.stack().await?.controller_owner_ref(&()).context("a UID")?).await?;
    stage.edit(&json!({"logLevel": "Debug", "ingress": {"controller": "Ingress"}})).await?;
    stage.until_ready().await?;
    wait_for("old children and revisions to be deleted", Duration::from_secs(20), || async {
        stage.perform().await?;
        let left = stage.children().await?.iter().filter(|child| child.name_any() == "old").count();
        let now = copies().await?;
        Ok((left == 0 && now.len() == 1 && now != before).then_some(()))
    })
    .await?;
    assert_eq!(leftovers, 9);
    asks_for_a_backup(&stage, &client).await?;
    for sample in ["backup", "restore", "featureflag"] {
        apply_file(&client, "odoo-ai", &repository().join(format!("manifests/samples/{sample}.yaml"))).await?;
    }
    wait_for("statuses of the other kinds", Duration::from_secs(20), || async {
        let backup = stage.api::<Backup>().get("nightly").await?.status.unwrap_or_default().conditions;
        let restore = stage.api::<Restore>().get("look").await?.status.unwrap_or_default().conditions;
        let flag = stage.api::<FeatureFlag>().get("credit-check").await?.status.unwrap_or_default().conditions;
        Ok((!backup.is_empty() && !restore.is_empty() && !flag.is_empty()).then_some(()))
    })
    .await?;
    wait_for("the Backup's CronJobs and a Job", Duration::from_secs(20), || async {
        let (schedules, jobs) = (stage.ours::<CronJob>().await?.len(), stage.ours::<Job>().await?);
        let of_backup = jobs.iter().any(|job| job.labels().contains_key(labels::BACKUP));
        Ok((schedules == 2 && of_backup).then_some(()))
    })
    .await?;
    controller.abort();
    // A refused Event is only logged.
    let events: Api<Event> = Api::namespaced(client.clone(), "odoo-ai");
    let events = events.list(&ListParams::default()).await?;
    let told = |reason: &str| events.items.iter().any(|event| event.reason.as_deref() == Some(reason));
    assert!(told("StepStarted") && told("Settled"), "{} events", events.items.len());

    let mut used: BTreeSet<String> = BTreeSet::new();
    for sent in requests.all() {
        used.insert(line(sent.verb, &sent.group, &sent.resource));
        // An object that isn't there is created by applying it, and the API server asks for both.
        // Of these only metadata are written.
        let annotated = ["backups", "restores", "featureflags"];
        if sent.verb == "patch" && !sent.resource.contains('/') && !annotated.contains(&sent.resource.as_str()) {
            used.insert(line("create", &sent.group, &sent.resource));
        }
    }
    let mut granted = BTreeSet::new();
    for (namespace, name) in [("odoo-ai", "odoo-ai-operator"), ("operator", "odoo-ai-operator-self")] {
        let role = Api::<Role>::namespaced(client.clone(), namespace).get(name).await?;
        granted.extend(flat(role.rules.unwrap_or_default()));
    }
    let refused: Vec<_> = used.difference(&granted).collect();
    assert!(refused.is_empty(), "used and not granted: {refused:#?}");
    let unused: BTreeSet<_> = granted.difference(&used).map(String::as_str).collect();
    assert_eq!(unused, NOT_USED.iter().copied().collect(), "granted and not used");
    Ok(())
}

/// A migration misses its Backup, and asks it as soon as it is there.
async fn asks_for_a_backup(stage: &Stage, client: &Client) -> Result<()> {
    stage
        .edit(&json!({
            "images": {"aiService": "ai-service:2.0.0-migrates"},
            "migrations": {"backup": "Required", "backupRef": {"name": "nightly"}},
        }))
        .await?;
    wait_for("the Backup to be missed", Duration::from_secs(20), || async {
        stage.perform().await?;
        let status = stage.stack().await?.status.unwrap_or_default();
        Ok(status.conditions.iter().any(|it| it.reason == "BackupNotConfigured").then_some(()))
    })
    .await?;
    let credentials =
        "{apiVersion: v1, kind: Secret, metadata: {name: backup-s3}, stringData: {accessKeyId: a, secretAccessKey: b}}";
    apply_yaml(client, "odoo-ai", credentials).await?;
    apply_file(client, "odoo-ai", &repository().join("manifests/samples/backup.yaml")).await?;
    wait_for("the Backup to be asked", Duration::from_secs(20), || async {
        let backup = stage.api::<Backup>().get("nightly").await?;
        Ok(backup.annotations().contains_key("odoo-ai.atmatasolutions.com/backup-requested-at").then_some(()))
    })
    .await?;
    Ok(())
}

/// Clusters with `OwnerReferencesPermissionEnforcement` (`OpenShift`, for one) refuse an owner
/// reference that blocks the owner's deletion from whoever may not change the owner's finalizers.
#[tokio::test]
async fn owners_that_children_block_may_have_their_finalizers_changed() -> Result<()> {
    let client = server().await?.client().await?;
    restricted_namespace(&client, "blocked").await?;
    install(&client, "strict", &["watchNamespaces={blocked}"]).await?;
    let stage = Stage::new(client.clone(), client.clone(), "blocked", |_| {}).await?;
    stage.run_to_the_end().await?;
    stage.reconcile().await?;
    let children = stage.children().await?;
    let owners = children.iter().filter(|child| child.types.as_ref().is_some_and(|types| types.kind != "Pod"));
    let owners = owners.flat_map(|child| child.metadata.owner_references.iter().flatten());
    let blocked: BTreeSet<_> = owners
        .filter(|owner| owner.block_owner_deletion == Some(true))
        .map(|owner| {
            let group = owner.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
            format!("{group}:{}s/finalizers", owner.kind.to_lowercase())
        })
        .collect();
    let mut wrong = Vec::new();
    for what in &blocked {
        if !may(&client, "strict", &ask("update", what, "blocked")).await? {
            wrong.push(what);
        }
    }
    assert!(wrong.is_empty(), "may not update {wrong:?}");
    Ok(())
}

#[tokio::test]
async fn approvals_are_bound_to_who_sends_them() -> Result<()> {
    let server = server().await?;
    let client = server.client().await?;
    for namespace in ["approving", "free"] {
        restricted_namespace(&client, namespace).await?;
    }
    install(&client, "approvals", &["watchNamespaces={approving}"]).await?;
    approvals::are_bound_to_who_sends_them(server, "approving", "free").await
}

#[tokio::test]
async fn tries_to_do_more_are_refused() -> Result<()> {
    let server = server().await?;
    let client = server.client().await?;
    for namespace in ["tried", "private"] {
        restricted_namespace(&client, namespace).await?;
    }
    install(&client, "trying", &["watchNamespaces={tried}"]).await?;
    let operator = Requests::default().client(server, Some(token(&client, "trying").await?)).await?;
    let stage = Stage::new(client.clone(), operator.clone(), "tried", |_| {}).await?;
    let stacks: Api<OdooAiStack> = Api::namespaced(operator.clone(), "tried");
    stacks.get(&stage.name).await.context("it may read")?;
    let suspend = Patch::Merge(json!({"spec": {"suspend": true}}));
    let error =
        stacks.patch(&stage.name, &PatchParams::default(), &suspend).await.err().context("the spec was changed")?;
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error}");
    // The subresource is no way around it.
    let mut object = stage.stack().await?;
    object.spec.suspend = true;
    object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    let written = stacks.replace_status(&stage.name, &PostParams::default(), &object).await?;
    assert!(!written.spec.suspend && written.metadata.labels.is_none_or(|labels| labels.is_empty()));
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(operator.clone(), "private");
    let error = secrets.list(&ListParams::default()).await.err().context("another namespace's Secrets were read")?;
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 403), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_charts_own_pod_passes_the_restricted_standard() -> Result<()> {
    let server = server().await?;
    let requests = Requests::default();
    let client = requests.client(server, None).await?;
    restricted_namespace(&client, "own").await?;
    install(&client, "own", &["image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"])
        .await?;
    let deployment = Api::<Deployment>::namespaced(client.clone(), "own").get("odoo-ai-operator").await?;
    let template = deployment.spec.context("a spec")?.template;
    // What the stacks' policies know it by, whatever the chart is called.
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    assert_eq!(labels.get("app.kubernetes.io/component").map(String::as_str), Some("operator"));
    assert_eq!(labels.get("app.kubernetes.io/part-of").map(String::as_str), Some("odoo-ai-platform"));
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.generate_name = Some("try-".to_owned());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    Api::<Pod>::namespaced(client.clone(), "own").create(&dry, &pod).await?;
    assert_eq!(requests.warnings(), Vec::<String>::new());
    Ok(())
}
