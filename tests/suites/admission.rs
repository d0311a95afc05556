//! What the API server itself accepts and refuses, with the sentence that a user reads. The same
//! tables run without a server in crate `odoo-ai-crds`: what differs here is a fault of that copy,
//! or a rule that the server's CEL reads in another way.

#[path = "../../crds/tests/validation/cases.rs"]
mod cases;
#[path = "apiserver/crds.rs"]
mod crds;
#[path = "apiserver/requests.rs"]
#[allow(dead_code, reason = "shared with other suites")]
mod requests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cases::{FILES, Table};
use crds::{GROUP, restricted_namespace, server};
use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::response::StatusCause;
use kube::{Api, Client};
use odoo_ai_tests::{kubectl, kustomize, repository, wait_for};
use requests::Requests;
use serde_json::{Value, json};

/// Path of an object, or of its collection.
fn path(object: &Value, name: &str) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    let api = object["apiVersion"].as_str().unwrap_or_default();
    let root = if api.contains('/') { format!("/apis/{api}") } else { format!("/api/{api}") };
    let kind = kind.to_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{root}/{plural}/{name}"),
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

async fn send(client: &Client, method: &str, path: &str, query: &str, body: &Value) -> kube::Result<Value> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}?fieldManager=odoo-ai-tests&fieldValidation=Strict{query}", path.trim_end_matches('/')))
        .header("content-type", if method == "PATCH" { "application/apply-patch+yaml" } else { "application/json" })
        .body(serde_json::to_vec(body).expect("JSON"))
        .expect("a request");
    client.request(request).await
}

/// What the API server says against a request, in the words of the tables; empty: nothing.
fn complaints(answer: kube::Result<Value>) -> Result<Vec<String>> {
    let status = match answer {
        Ok(_) => return Ok(Vec::new()),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(error.into()),
    };
    match (status.code, status.details) {
        (422, Some(details)) if !details.causes.is_empty() => Ok(details.causes.iter().map(sentence).collect()),
        (400, _) if status.message.contains("strict decoding error") => Ok(vec![status.message]),
        _ => bail!("a surprising answer: {} {}", status.code, status.message),
    }
}

/// The path and the sentence, without the type that the API server puts between them.
fn sentence(cause: &StatusCause) -> String {
    let types = ["object", "array", "string", "integer", "number", "boolean"];
    let plain = types.iter().find_map(|kind| cause.message.strip_prefix(&format!("Invalid value: \"{kind}\": ")));
    format!("{}: {}", cause.field, plain.unwrap_or(&cause.message))
}

/// Runs a table in a namespace of its own; returns what was not as wanted.
async fn run(client: &Client, file: &str) -> Result<Vec<String>> {
    let mut table = Table::of(file);
    let namespace = format!("cases-{}", file.trim_end_matches(".yaml"));
    restricted_namespace(client, &namespace).await?;
    table.base["metadata"]["namespace"] = json!(namespace);
    let collection = path(&table.base, "");
    let create = |object: Value, query: &'static str| {
        let collection = &collection;
        async move { send(client, "POST", collection, query, &object).await }
    };
    create(table.base.clone(), "&dryRun=All").await.with_context(|| format!("{file}: the base"))?;
    let mut wrong = Vec::new();
    for case in &table.cases {
        let mut object = table.object(case);
        let answer = match table.old(case) {
            None => create(object, "&dryRun=All").await,
            Some(old) => {
                let old = create(old, "").await.with_context(|| format!("{}: what it was before", case.name))?;
                object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
                let path = path(&old, name(&old));
                let answer = send(client, "PUT", &path, "&dryRun=All", &object).await;
                send(client, "DELETE", &path, "", &json!({})).await.context("deleting")?;
                answer
            }
        };
        let said = complaints(answer).with_context(|| format!("{file}: {}", case.name))?;
        if !case.fits(&said) {
            wrong.push(format!("{file}: {}: wanted {:?}, got {said:#?}", case.name, case.refused));
        }
    }
    println!("{file}: {} cases", table.cases.len());
    Ok(wrong)
}

#[tokio::test]
async fn the_tables_hold_on_a_real_api_server() -> Result<()> {
    let client = server().await?.client().await?;
    let runs = futures::future::try_join_all(FILES.iter().map(|(file, _)| run(&client, file))).await?;
    let wrong: Vec<_> = runs.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What somebody would apply of a folder and of those in it: each file, or what kustomize makes of them.
fn applied(folder: &Path, all: &mut Vec<(PathBuf, String)>) -> Result<()> {
    let kustomization = std::fs::read_to_string(folder.join("kustomization.yaml")).ok();
    // The base is whole only in an overlay.
    if kustomization.is_some() && !folder.ends_with("manifests/base") {
        all.push((folder.to_owned(), kustomize(folder)?));
    }
    for entry in folder.read_dir()? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            // Prometheus' own format, which promtool tries.
            if !path.ends_with("manifests/monitoring") {
                applied(&path, all)?;
            }
            continue;
        }
        let file = entry.file_name().to_string_lossy().into_owned();
        match &kustomization {
            None => all.push((path.clone(), std::fs::read_to_string(&path)?)),
            Some(list) if file == "kustomization.yaml" || list.contains(&file) => {}
            Some(_) => bail!("{} is in no kustomization", path.display()),
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_manifest_passes_a_dry_run_without_a_warning() -> Result<()> {
    let requests = Requests::default();
    let client = requests.client(server().await?, None).await?;
    let mut manifests = Vec::new();
    applied(&repository().join("manifests"), &mut manifests)?;
    for wanted in ["samples/local.yaml", "install.yaml", "operator", "overlays/staging", "overlays/production"] {
        assert!(manifests.iter().any(|(path, _)| path.ends_with(wanted)), "{wanted} is not there");
    }
    let mut seen = 0;
    for (file, text) in &manifests {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| file.display().to_string())?;
        for object in objects.iter().filter(|object| !object.is_null()) {
            // A dry run makes no namespace, and nothing can be tried in one that isn't there.
            if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                restricted_namespace(&client, namespace).await?;
            }
            let path = path(object, name(object));
            let answer = send(&client, "PATCH", &path, "&dryRun=All&force=true", object).await;
            answer.with_context(|| format!("{}: {path}", file.display()))?;
            seen += 1;
        }
    }
    assert!(seen >= 70, "{seen} objects");
    assert_eq!(requests.warnings(), Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_new_object_does_not_look_settled() -> Result<()> {
    let client = server().await?.client().await?;
    restricted_namespace(&client, "new").await?;
    for file in ["stack.yaml", "backup.yaml", "restore.yaml", "featureflag.yaml"] {
        let mut object = Table::of(file).base;
        object["metadata"]["namespace"] = json!("new");
        let made = send(&client, "POST", &path(&object, ""), "", &object).await?;
        assert_eq!(made["status"], json!({"observedGeneration": -1}), "{file}");
        assert_eq!(made["metadata"]["generation"], 1, "{file}");
        assert_eq!(made["spec"], object["spec"], "{file}: nothing is defaulted into the spec");
    }
    Ok(())
}

/// The columns of a kind, wide ones in brackets, as `kubectl get` asks for them.
async fn columns(client: &Client, plural: &str) -> Result<Vec<String>> {
    let request = Request::get(format!("/apis/{GROUP}/v1alpha1/{plural}"))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(Vec::new())?;
    let table: Value = client.request(request).await?;
    let columns = table["columnDefinitions"].as_array().context("a table has columns")?;
    let word = |column: &Value| {
        let name = column["name"].as_str().unwrap_or_default().to_owned();
        if column["priority"] == 0 { name } else { format!("({name})") }
    };
    Ok(columns.iter().map(word).collect())
}

#[tokio::test]
async fn kubectl_has_columns_short_names_and_a_category() -> Result<()> {
    let server = server().await?;
    let client = server.client().await?;
    for (plural, wanted) in [
        (
            "odooaistacks",
            "Name Ready Reason Revision URL Age (AI-Service) (Dashboard) (Routes) (Schema) (Head) (Last-Backup) (Message)",
        ),
        ("backups", "Name Stack Schedule Last-Success Ready Reason Age (Size) (Verified) (Next) (Failures) (Message)"),
        ("restores", "Name Stack Target Complete Reason Age (Artifact) (Database) (Size) (Step) (Message)"),
        (
            "featureflags",
            "Name Rule Desired Effective Synced Reason Error Rate Age (Stack) (Type) (Action) (Id) (Message)",
        ),
    ] {
        assert_eq!(columns(&client, plural).await?.join(" "), wanted, "{plural}");
    }
    for arguments in [&["get", "oas,aiflag", "-A"][..], &["get", "odooai", "-A"], &["explain", "oas.spec.worker"]] {
        // What `explain` reads is published a moment after the CRD is established.
        wait_for(&format!("kubectl {arguments:?}"), Duration::from_secs(30), || async {
            let kubectl = std::process::Command::new(kubectl()?)
                .arg("--kubeconfig")
                .arg(server.kubeconfig())
                .args(arguments)
                .output()?;
            if !kubectl.status.success() {
                bail!("{}", String::from_utf8_lossy(&kubectl.stderr));
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn rules_that_guard_a_change_see_the_old_object_through_server_side_apply() -> Result<()> {
    let client = server().await?.client().await?;
    restricted_namespace(&client, "guarded").await?;
    let mut object = Table::of("stack-updates.yaml").base;
    object["metadata"]["namespace"] = json!("guarded");
    let path = path(&object, name(&object));
    send(&client, "PATCH", &path, "", &object).await?;
    object["spec"]["database"] = json!({"managed": {"majorVersion": 15}});
    let said = complaints(send(&client, "PATCH", &path, "&force=true", &object).await)?;
    assert!(said.iter().any(|line| line.contains("database.managed.majorVersion must not change")), "{said:?}");
    // Removing a section is a change too: a rule on a field that is gone is not evaluated.
    object["spec"]["database"] = json!({"managed": {"storage": {"size": "20Gi"}}});
    let said = complaints(send(&client, "PATCH", &path, "&force=true", &object).await)?;
    assert!(said.iter().any(|line| line.contains("database.managed.storage.size must not change")), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn the_crds_leave_room_in_the_budget_of_the_api_server() -> Result<()> {
    let client = server().await?.client().await?;
    for kind in crds::KINDS {
        let crd: CustomResourceDefinition = Api::all(client.clone()).get(&format!("{kind}.{GROUP}")).await?;
        let bytes = serde_json::to_vec(&crd.spec)?.len();
        // etcd takes 1.5 MiB; a client-side kubectl apply keeps a copy in an annotation of 256 KiB.
        assert!(bytes < 240 * 1024, "{kind}: {bytes} bytes");
        println!("{kind}: {bytes} bytes");
    }
    Ok(())
}
