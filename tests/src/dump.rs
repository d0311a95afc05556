//! What a failed test leaves behind for the reader: everything in files, the essence on stderr.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DynamicObject, ListParams, LogParams};
use kube::discovery::{Discovery, verbs};
use kube::{Api, Client, ResourceExt};

use crate::paths::run_dir;

const GROUP: &str = "odoo-ai.atmatasolutions.com";
const MAX_FILE: usize = 512 * 1024;
const MAX_DUMPS: usize = 20;
const LOG_LINES: i64 = 300;
const SHOWN_LOG_LINES: usize = 25;
const SHOWN_EVENTS: usize = 40;

/// Writes the dump of a namespace; a part that cannot be had says why.
pub async fn dump(client: &Client, namespace: &str) {
    let folder = run_dir().join("dumps").join(namespace);
    let work = async {
        std::fs::create_dir_all(&folder)?;
        forget_old_dumps()?;
        let mut shown = format!("--- dump of {namespace} ({}) ---\n", folder.display());
        pods(client, namespace, &folder, &mut shown).await?;
        events(client, namespace, &folder, &mut shown).await?;
        custom_resources(client, namespace, &folder, &mut shown).await?;
        Ok::<_, anyhow::Error>(shown)
    };
    match tokio::time::timeout(Duration::from_mins(1), work).await {
        Ok(Ok(shown)) => eprintln!("{shown}--- end of {namespace} ---"),
        Ok(Err(error)) => eprintln!("dumping {namespace}: {error:#}"),
        Err(_) => eprintln!("dumping {namespace}: the cluster does not answer"),
    }
}

fn write(folder: &std::path::Path, name: &str, text: &str) -> Result<()> {
    let end = text.floor_char_boundary(MAX_FILE);
    Ok(std::fs::write(folder.join(name), &text[..end])?)
}

async fn pods(client: &Client, namespace: &str, folder: &std::path::Path, shown: &mut String) -> Result<()> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default()).await?;
    write(folder, "pods.json", &serde_json::to_string_pretty(&list.items)?)?;
    for pod in &list.items {
        let name = pod.name_any();
        let status = pod.status.clone().unwrap_or_default();
        writeln!(
            shown,
            "pod {name}: {} {} {}",
            status.phase.unwrap_or_default(),
            status.reason.unwrap_or_default(),
            status.message.unwrap_or_default()
        )?;
        let init = status.init_container_statuses.unwrap_or_default();
        for container in init.iter().chain(status.container_statuses.iter().flatten()) {
            writeln!(
                shown,
                "  {}: ready={} restarts={} {}",
                container.name,
                container.ready,
                container.restart_count,
                serde_json::to_string(&container.state)?
            )?;
            logs(&api, &name, &container.name, container.restart_count > 0, folder, shown).await?;
        }
    }
    Ok(())
}

async fn logs(
    api: &Api<Pod>,
    pod: &str,
    container: &str,
    restarted: bool,
    folder: &std::path::Path,
    shown: &mut String,
) -> Result<()> {
    for previous in [false, true] {
        if previous && !restarted {
            continue;
        }
        let parameters = LogParams {
            container: Some(container.to_owned()),
            previous,
            tail_lines: Some(LOG_LINES),
            ..LogParams::default()
        };
        let text = match api.logs(pod, &parameters).await {
            Ok(text) => text,
            Err(error) => format!("no log: {error}"),
        };
        let suffix = if previous { ".previous" } else { "" };
        write(folder, &format!("{pod}.{container}{suffix}.log"), &text)?;
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..] {
            writeln!(shown, "    {container}{suffix}| {line}")?;
        }
    }
    Ok(())
}

async fn events(client: &Client, namespace: &str, folder: &std::path::Path, shown: &mut String) -> Result<()> {
    let api = Api::<Event>::namespaced(client.clone(), namespace);
    let mut list = api.list(&ListParams::default()).await?.items;
    list.sort_by_key(|event| event.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let lines: Vec<String> = list
        .iter()
        .map(|event| {
            let object = &event.involved_object;
            format!(
                "event {} {}/{} {}: {}",
                event.type_.as_deref().unwrap_or_default(),
                object.kind.as_deref().unwrap_or_default(),
                object.name.as_deref().unwrap_or_default(),
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default()
            )
        })
        .collect();
    write(folder, "events.txt", &lines.join("\n"))?;
    for line in &lines[lines.len().saturating_sub(SHOWN_EVENTS)..] {
        writeln!(shown, "{line}")?;
    }
    Ok(())
}

async fn custom_resources(
    client: &Client,
    namespace: &str,
    folder: &std::path::Path,
    shown: &mut String,
) -> Result<()> {
    let discovery = Discovery::new(client.clone()).filter(&[GROUP]).run().await?;
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let list = api.list(&ListParams::default()).await?;
            if list.items.is_empty() {
                continue;
            }
            let name = format!("{}.json", resource.plural);
            write(folder, &name, &serde_json::to_string_pretty(&list.items)?)?;
            for object in &list.items {
                let status = object.data.get("status").map(ToString::to_string);
                writeln!(
                    shown,
                    "{} {}: {}",
                    resource.kind,
                    object.name_any(),
                    status.unwrap_or_else(|| "no status".to_owned())
                )?;
            }
        }
    }
    Ok(())
}

/// Keeps the newest dumps only.
fn forget_old_dumps() -> Result<()> {
    let mut folders: Vec<(std::time::SystemTime, PathBuf)> = run_dir()
        .join("dumps")
        .read_dir()?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    folders.sort();
    for (_, folder) in folders.iter().rev().skip(MAX_DUMPS) {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}
