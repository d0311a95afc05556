//! What answers, and what doesn't.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use odoo_ai_tests::wait_for;
use serde_json::{Value, json};

use super::client::{ask, python};
use crate::faults::names;
use crate::room::{Room, condition, sample};
use crate::steady::starts;

pub(super) const API: &str = "http://api.example.com";
pub(super) const DASHBOARD: &str = "http://ai.example.com";

/// Both hosts, with `more`.
pub(super) fn hosts(more: &Value) -> Value {
    let mut ingress = json!({
        "api": {"host": "api.example.com", "exposeSlack": null}, "dashboard": {"host": "ai.example.com"}, "controller": null,
        "tls": null, "redirectHttps": null, "ipAllowList": null, "rateLimit": null,
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        ingress[field] = value.clone();
    }
    json!({"ingress": ingress})
}

pub(super) async fn installs(room: &Room) -> Result<String> {
    room.apply(&sample("local.yaml")?).await?;
    room.wait_ready(180).await?;
    Ok(String::new())
}

/// The routes are as they were made first, and seen to be.
pub(super) async fn settle(room: &Room) -> Result<()> {
    room.change(hosts(&json!({}))).await?;
    room.wait("RoutesReady", "True", "Reachable", 60).await.map(drop)
}

pub(super) async fn both(room: &Room) -> Result<String> {
    let before = starts(room).await?;
    let began = Instant::now();
    room.change(hosts(&json!({}))).await?;
    wait_for("both hosts", Duration::from_secs(30), || async {
        for (url, path) in [(API, "/openapi.json"), (DASHBOARD, "/")] {
            let answer = ask(room, "GET", url, path, "").await?;
            ensure!(answer.status == 200 && answer.is_ours(), "{url} answers {} {}", answer.status, answer.headers);
        }
        Ok(Some(()))
    })
    .await?;
    let answered = began.elapsed().as_secs_f64();
    let told = room.wait("RoutesReady", "True", "Reachable", 30).await?;
    names(&told, &["http://api.example.com", "http://ai.example.com"])?;
    let known = began.elapsed().as_secs_f64();
    let urls = room.stack().await?.status.and_then(|status| status.urls).context("no URLs")?;
    ensure!(urls.dashboard.as_deref() == Some(DASHBOARD) && urls.api.as_deref() == Some(API), "{urls:?}");
    ensure!(starts(room).await? == before, "a pod was restarted for a route");
    Ok(format!("answered after {answered:.1} s, known after {known:.1} s"))
}

/// Ways to write it. The application decodes a path before it looks.
const WAYS: [&str; 12] = [
    "/api/slack/interactions",
    "/api/slack/interactions/",
    "/api/slack/interactions?x=1",
    "/api/slack%2Finteractions",
    "/api%2fslack/interactions",
    "/api%2Fslack%2finteractions",
    "/api/%73lack/interactions",
    "/api/slack/interaction%73",
    "//api/slack/interactions",
    "/api/./slack/interactions",
    "/api/x/../slack/interactions",
    "/api/slack/interactions%0a",
];

const POST: &str = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\npayload=%7B";

pub(super) async fn slack_is_closed(room: &Room) -> Result<String> {
    let direct = room.ask("POST", "/api/slack/interactions", None, Some(&json!({}))).await?.0;
    ensure!(direct != 404, "the application itself has no such path");
    let mut open = Vec::new();
    for way in WAYS {
        let answer = ask(room, "POST", API, way, POST).await?;
        // Of Traefik, without our header: no route. 400: it doesn't even take such a path.
        if answer.is_ours() && answer.status != 404 || !matches!(answer.status, 400 | 404) {
            open.push(format!("{way}: {} {}", answer.status, answer.headers));
        }
    }
    ensure!(open.is_empty(), "open: {open:#?}");
    let other = ask(room, "GET", API, "/api/rules", "").await?;
    ensure!(other.is_ours() && other.status == 401, "other paths answer {}", other.status);
    Ok(format!("{} ways; the application itself answers {direct}", WAYS.len()))
}

pub(super) async fn slack_is_open(room: &Room) -> Result<String> {
    let asked = json!({"api": {"host": "api.example.com", "exposeSlack": true}});
    room.change(hosts(&asked)).await?;
    let told = room.wait("RoutesReady", "False", "SigningSecretMissing", 30).await?;
    names(&told, &["SLACK_SIGNING_SECRET"])?;
    let closed = ask(room, "POST", API, WAYS[0], POST).await?;
    ensure!(!closed.is_ours(), "it is open without a secret");
    let env = json!([{"name": "SLACK_SIGNING_SECRET", "value": "s3cret"}]);
    room.change(json!({"aiService": {"env": env}})).await?;
    room.wait_ready(180).await?;
    room.wait("RoutesReady", "True", "Reachable", 60).await?;
    wait_for("Slack's path", Duration::from_secs(20), || async {
        let answer = ask(room, "POST", API, WAYS[0], POST).await?;
        ensure!(answer.is_ours() && answer.status != 404, "it answers {}", answer.status);
        Ok(Some(()))
    })
    .await?;
    room.change(json!({"aiService": {"env": null}})).await?;
    settle(room).await?;
    room.wait_ready(180).await?;
    Ok(told.message)
}

/// One client on it makes the application stall for a second again and again.
const SOCKET: &str = r#"
import socket, sys, time
raw = socket.create_connection(("traefik.kube-system.svc", 80), timeout=10)
raw.sendall(b"GET /ws/dashboard?role=cfo HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
raw.settimeout(float(sys.argv[1]))
data, until = b"", time.time() + float(sys.argv[1])
try:
    while time.time() < until:
        chunk = raw.recv(65536)
        if not chunk:
            break
        data += chunk
except TimeoutError:
    pass
print(data.split(b"\r\n")[0].decode(), len(data), "closed" if time.time() < until - 1 else "open")
"#;

pub(super) async fn web_socket(room: &Room) -> Result<String> {
    let before = starts(room).await?;
    let said = python(room, SOCKET, &["40"]).await?;
    let said = said.trim();
    ensure!(said.starts_with("HTTP/1.1 101") && said.ends_with("open"), "the WebSocket: {said}");
    // A pod of the revision before may have gone meanwhile.
    let new: Vec<_> = starts(room).await?.into_iter().filter(|(name, it)| before.get(name) != Some(it)).collect();
    ensure!(new.is_empty(), "restarted: {new:?}");
    let stack = room.stack().await?;
    for kind in ["Ready", "Available", "RoutesReady"] {
        let found = condition(&stack, kind).with_context(|| kind.to_owned())?;
        if found.status != "True" {
            bail!("{kind} is {} {}", found.reason, found.message);
        }
    }
    Ok(said.to_owned())
}

/// More requests than are allowed are refused, and the operator's own don't mind.
pub(super) async fn limited(room: &Room) -> Result<String> {
    room.change(hosts(&json!({"rateLimit": {"averagePerSecond": 1, "burst": 5}}))).await?;
    room.wait("RoutesReady", "True", "Reachable", 60).await?;
    let counts = wait_for("a limit", Duration::from_secs(30), || async {
        let mut counts = std::collections::BTreeMap::new();
        for status in python(room, BURST, &["20"]).await?.split_whitespace() {
            *counts.entry(status.to_owned()).or_insert(0) += 1;
        }
        Ok(counts.contains_key("429").then_some(counts))
    })
    .await?;
    // The burst, and what a second or two bring.
    let passed = counts.get("200").copied().unwrap_or(0);
    ensure!((1..=10).contains(&passed), "of 20 at once: {counts:?}");
    room.wait("RoutesReady", "True", "Reachable", 5).await?;
    settle(room).await?;
    Ok(format!("of 20 at once {passed} were answered"))
}

/// Asks for the dashboard again and again, and tells each status.
const BURST: &str = r#"
import http.client, sys
for _ in range(int(sys.argv[1])):
    connection = http.client.HTTPConnection("traefik.kube-system.svc", 80, timeout=10)
    connection.request("GET", "/", headers={"Host": "ai.example.com"})
    print(connection.getresponse().status)
    connection.close()
"#;

/// The same hosts by standard Ingresses, of the same Traefik.
pub(super) async fn standard(room: &Room) -> Result<String> {
    room.change(hosts(&json!({"controller": "Ingress"}))).await?;
    room.wait("RoutesReady", "True", "Reachable", 60).await?;
    wait_for("the dashboard", Duration::from_secs(30), || async {
        let answer = ask(room, "GET", DASHBOARD, "/", "").await?;
        Ok((answer.status == 200 && !answer.is_ours()).then_some(()))
    })
    .await?;
    let mut open = Vec::new();
    for way in WAYS {
        let answer = ask(room, "POST", API, way, POST).await?;
        if !matches!(answer.status, 400 | 404 | 502) {
            open.push(format!("{way}: {} {}", answer.status, answer.headers));
        }
    }
    ensure!(open.is_empty(), "open: {open:#?}");
    settle(room).await?;
    Ok(String::new())
}
