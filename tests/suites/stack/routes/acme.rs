//! Certificates of a real ACME server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use odoo_ai_operator::routes::certificate::Certificate;
use odoo_ai_tests::{apply_yaml, wait_for};
use serde_json::json;

use super::answers::hosts;
use super::client::python;
use super::proxy::NAMESPACE;
use super::{pebble, proxy};
use crate::faults::names;
use crate::room::Room;

/// What a host shows as its certificate.
struct Shown {
    issuer: String,
    serial: String,
}

const SHOWN: &str = r#"
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
raw = socket.create_connection(("traefik.kube-system.svc", 443), timeout=10)
der = context.wrap_socket(raw, server_hostname=sys.argv[1]).getpeercert(binary_form=True)
print(der.hex())
"#;

/// Reads the certificate that is shown for `host`.
async fn shown(room: &Room, host: &str) -> Result<Shown> {
    let hex = python(room, SHOWN, &[host]).await?;
    let bytes = (0..hex.trim().len() / 2).map(|at| u8::from_str_radix(&hex.trim()[2 * at..2 * at + 2], 16));
    let der = bytes.collect::<Result<Vec<u8>, _>>()?;
    let it = Certificate::read(&der).context("no certificate")?;
    let serial = format!("{} {}", it.from, it.until);
    Ok(Shown { issuer: it.issuer, serial })
}

/// Names that the ACME server can resolve: they lead to Traefik.
fn host(room: &Room, name: &str) -> String {
    format!("{name}.{}.svc.cluster.local", room.ns)
}

async fn certificate_of(room: &Room, name: &str) -> Result<Shown> {
    shown(room, &host(room, name)).await
}

pub(super) async fn is_issued(room: &Room) -> Result<String> {
    for name in ["ai", "api"] {
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: ExternalName, externalName: traefik.{NAMESPACE}.svc.cluster.local}}}}"
        );
        apply_yaml(&room.client, &room.ns, &service).await?;
    }
    let began = Instant::now();
    let tls = json!({
        "api": {"host": host(room, "api")}, "dashboard": {"host": host(room, "ai")}, "tls": {"certResolver": "pebble"},
    });
    room.change(hosts(&tls)).await?;
    let told = room.wait("RoutesReady", "True", "Reachable", 120).await?;
    let known = began.elapsed().as_secs_f64();
    names(&told, &["Pebble", &format!("https://{}", host(room, "ai"))])?;
    for name in ["ai", "api"] {
        let shown = certificate_of(room, name).await?;
        ensure!(shown.issuer.contains("Pebble"), "{name} shows one of {}", shown.issuer);
    }
    Ok(format!("known after {known:.1} s"))
}

pub(super) async fn is_renewed(room: &Room) -> Result<String> {
    let before = certificate_of(room, "ai").await?;
    wait_for("another certificate", Duration::from_mins(4), || async {
        Ok((certificate_of(room, "ai").await?.serial != before.serial).then_some(()))
    })
    .await?;
    room.wait("RoutesReady", "True", "Reachable", 90).await?;
    Ok(String::new())
}

/// It is told before it ends, and rolls nothing back.
pub(super) async fn outage(room: &Room) -> Result<String> {
    pebble::scale(&room.client, 0).await?;
    let revision = room.stack().await?.status.context("no status")?.current_revision;
    room.change(json!({"logLevel": "Debug"})).await?;
    let told = room.wait("RoutesReady", "False", "CertificateExpiring", 420).await?;
    room.wait_ready(180).await?;
    let status = room.stack().await?.status.context("no status")?;
    ensure!(
        status.current_revision != revision && status.failure.is_none(),
        "the revision of the outage was taken back"
    );
    pebble::scale(&room.client, 1).await?;
    // With another account.
    proxy::scale(&room.client, 0).await?;
    proxy::scale(&room.client, 1).await?;
    room.wait("RoutesReady", "True", "Reachable", 240).await?;
    Ok(told.message)
}
