//! Certificates as they are served.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use odoo_ai_tests::wait_for;
use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use serde_json::json;

use super::answers::{hosts, settle};
use super::client::ask;
use crate::faults::names;
use crate::room::Room;

const NAME: &str = "certificates";

/// A Secret with a certificate for both hosts that is valid for so many days more, of 90.
async fn secret(room: &Room, days: i64) -> Result<()> {
    let mut parameters = CertificateParams::new(["api.example.com".to_owned(), "ai.example.com".to_owned()])?;
    parameters.distinguished_name.push(DnType::CommonName, "A Test Authority");
    let now = Timestamp::now();
    let day = |days: i64| {
        let date = (now + SignedDuration::from_hours(24 * days)).to_zoned(TimeZone::UTC).date();
        let number = |number: i8| u8::try_from(number).expect("a month or a day");
        date_time_ymd(date.year().into(), number(date.month()), number(date.day()))
    };
    (parameters.not_before, parameters.not_after) = (day(days - 90), day(days));
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    let data = [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
    let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "type": "kubernetes.io/tls",
        "data": std::collections::BTreeMap::from(data),
    });
    let parameters = PatchParams::apply("test").force();
    room.api::<Secret>().patch(NAME, &parameters, &Patch::Apply(&secret)).await?;
    Ok(())
}

pub(super) async fn of_a_secret(room: &Room) -> Result<String> {
    room.change(hosts(&json!({"tls": {"secretName": NAME}}))).await?;
    let told = room.wait("RoutesReady", "False", "SecretMissing", 60).await?;
    names(&told, &[NAME])?;
    secret(room, 60).await?;
    let told = room.wait("RoutesReady", "True", "Reachable", 120).await?;
    names(&told, &["https://api.example.com", "https://ai.example.com", "A Test Authority"])?;
    wait_for("HTTPS, and HTTP that is sent on", Duration::from_secs(20), || async {
        let served = ask(room, "GET", "https://ai.example.com", "/", "").await?;
        ensure!(served.status == 200 && served.is_ours(), "HTTPS answers {} {}", served.status, served.headers);
        let sent = ask(room, "GET", "http://ai.example.com", "/x?y=1", "").await?;
        let to = sent.headers["location"].as_str().unwrap_or_default();
        ensure!(sent.status == 301 && to == "https://ai.example.com/x?y=1", "HTTP answers {} {to}", sent.status);
        Ok(Some(()))
    })
    .await?;
    Ok(told.message)
}

pub(super) async fn ends_soon(room: &Room) -> Result<String> {
    secret(room, 5).await?;
    let told = room.wait("RoutesReady", "False", "CertificateExpiring", 120).await?;
    names(&told, &["A Test Authority"])?;
    secret(room, 80).await?;
    room.wait("RoutesReady", "True", "Reachable", 120).await?;
    settle(room).await?;
    Ok(told.message)
}

/// At first it may still come; after five minutes it won't.
pub(super) async fn unknown_resolver(room: &Room) -> Result<String> {
    room.change(hosts(&json!({"tls": {"certResolver": "nobody"}}))).await?;
    let told = room.wait("RoutesReady", "False", "CertificatePending", 60).await?;
    names(&told, &["default certificate", "resolver nobody"])?;
    room.wait("Ready", "True", "Settled", 5).await?;
    let told = room.wait("RoutesReady", "False", "CertResolverUnknown", 420).await?;
    settle(room).await?;
    Ok(told.message)
}
