//! A client in the cluster that asks Traefik's Service as a browser would, with the host in Host and SNI.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use odoo_ai_tests::exec;
use serde_json::Value;

use crate::room::Room;

/// Sends the path as it is written: libraries would tidy it.
const ASK: &str = r#"
import json, socket, ssl, sys
scheme, host, method, path, more = sys.argv[1:6]
raw = socket.create_connection(("traefik.kube-system.svc", 443 if scheme == "https" else 80), timeout=10)
if scheme == "https":
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    raw = context.wrap_socket(raw, server_hostname=host)
raw.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode())
data = b""
try:
    while chunk := raw.recv(65536):
        data += chunk
        if b"\r\n\r\n" in data and len(data) > 4096:
            break
except TimeoutError:
    pass
head = data.split(b"\r\n\r\n")[0].decode().split("\r\n")
headers = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in head[1:]}
print(json.dumps({"status": int(head[0].split(" ")[1]), "headers": headers}))
"#;

/// Status and headers of an answer, names in lower case.
pub(crate) struct Answer {
    pub(crate) status: u64,
    pub(crate) headers: Value,
}

impl Answer {
    /// It went through a route of the operator.
    pub(crate) fn is_ours(&self) -> bool {
        self.headers.get("x-odoo-ai-stack").is_some()
    }
}

/// Runs Python in the pod of the Odoo stub, which is of no stack.
pub(crate) async fn python(room: &Room, script: &str, arguments: &[&str]) -> Result<String> {
    let pods = room.api::<Pod>().list(&ListParams::default()).await?;
    let pod = pods.items.iter().map(ResourceExt::name_any).find(|name| name.starts_with("odoo-stub"));
    let command: Vec<&str> = ["python3", "-c", script].into_iter().chain(arguments.iter().copied()).collect();
    exec(&room.client, &room.ns, &pod.context("no stub")?, None, &command).await?.ok()
}

/// Asks for `url` (scheme and host) and a path.
pub(crate) async fn ask(room: &Room, method: &str, url: &str, path: &str, headers: &str) -> Result<Answer> {
    let (scheme, host) = url.split_once("://").context("no scheme")?;
    let text = python(room, ASK, &[scheme, host, method, path, headers]).await?;
    let mut answer: Value = serde_json::from_str(text.trim()).with_context(|| format!("the client said {text:?}"))?;
    let status = answer["status"].as_u64().context("no status")?;
    Ok(Answer { status, headers: answer["headers"].take() })
}
