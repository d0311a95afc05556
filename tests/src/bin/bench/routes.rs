//! What routes cost through a real Traefik: until both hosts answer, beside a plain apply of the same objects, and what
//! the operator asks while nothing changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use odoo_ai_tests::with_namespace_in;
use serde_json::{Value, json};

use crate::figures::{aim, table};
use crate::operator::{self, Metrics};
use crate::room::{LABEL, Room, sample};
use crate::script::without_its_place;
use crate::{client, proxy};

const READY: u64 = 240;
/// Field manager of the plain apply.
const BY_HAND: &str = "bench";

/// Both hosts in one question after the other, until both answer as is wanted.
const UNTIL: &str = r#"
import http.client, sys, time
wanted, until = int(sys.argv[1]), time.time() + 60
def status(host, path):
    connection = http.client.HTTPConnection("traefik.kube-system.svc", 80, timeout=5)
    connection.request("GET", path, headers={"Host": host})
    return connection.getresponse().status
while time.time() < until:
    if all(status(*it) == wanted for it in (("api.example.com", "/openapi.json"), ("ai.example.com", "/"))):
        print("done")
        break
    time.sleep(0.02)
"#;

#[derive(Default)]
struct Found {
    operator: Vec<f64>,
    known: Vec<f64>,
    by_hand: Vec<f64>,
    /// By verb and resource, of the whole idle time.
    requests: Vec<(String, u64)>,
    probes: u64,
    writes: u64,
    seconds: u64,
}

pub(crate) async fn run(rounds: u32, idle_seconds: u64) -> Result<()> {
    ensure!(rounds > 0, "at least one round");
    let cluster = operator::cluster().await?;
    proxy::install(cluster).await?;
    let found = Arc::new(Mutex::new(Found::default()));
    let result = Arc::clone(&found);
    let work = with_namespace_in(cluster, "bench-routes", |client, ns| async move {
        let room = Room::new(client, ns).await?;
        room.apply(&sample("local.yaml")?).await?;
        room.wait_ready(READY).await?;
        let mut found = Found { seconds: idle_seconds, ..Found::default() };
        let routes = json!({"api": {"host": "api.example.com"}, "dashboard": {"host": "ai.example.com"}});
        let mut objects = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            room.change(json!({"ingress": routes})).await?;
            answers(&room, 200).await?;
            found.operator.push(began.elapsed().as_secs_f64());
            room.wait("RoutesReady", "True", "Reachable", 60).await?;
            found.known.push(began.elapsed().as_secs_f64());
            objects = made(&room).await?;
            room.change(json!({"ingress": null})).await?;
            answers(&room, 404).await?;
            let began = Instant::now();
            apply(&room, &objects).await?;
            answers(&room, 200).await?;
            found.by_hand.push(began.elapsed().as_secs_f64());
            delete(&room, &objects).await?;
            answers(&room, 404).await?;
        }
        ensure!(!objects.is_empty(), "the operator made no route");
        room.change(json!({"ingress": routes})).await?;
        room.wait("RoutesReady", "True", "Reachable", 60).await?;
        room.wait("OdooReachable", "True", "", 90).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let before = Metrics::read(&room.client).await?;
        tokio::time::sleep(Duration::from_secs(idle_seconds)).await;
        let after = Metrics::read(&room.client).await?;
        found.probes = after.value("route_probes_total") - before.value("route_probes_total");
        found.writes = after.writes().0 + after.writes().1 - before.writes().0 - before.writes().1;
        let (before, after) = (before.series("api_requests_total"), after.series("api_requests_total"));
        let more = after.into_iter().map(|(labels, now)| {
            let then = before.get(&labels).copied().unwrap_or(0);
            (labels, now - then)
        });
        found.requests = more.filter(|(_, more)| *more > 0).collect();
        *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
        room.clear().await
    });
    Box::pin(work).await?;
    print(&found.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(())
}

async fn answers(room: &Room, status: u16) -> Result<()> {
    let said = client::python(room, UNTIL, &[&status.to_string()]).await?;
    ensure!(said.trim() == "done", "the hosts don't answer {status}");
    Ok(())
}

fn kinds() -> [ApiResource; 2] {
    ["Middleware", "IngressRoute"]
        .map(|kind| ApiResource::from_gvk(&GroupVersionKind::gvk("traefik.io", "v1alpha1", kind)))
}

/// What the operator made, as somebody would write it down.
async fn made(room: &Room) -> Result<Vec<(ApiResource, Value)>> {
    let mut all = Vec::new();
    for resource in kinds() {
        let api: Api<DynamicObject> = Api::namespaced_with(room.client.clone(), &room.ns, &resource);
        for child in api.list(&ListParams::default().labels(LABEL)).await? {
            let mut object = without_its_place(&serde_json::to_value(&child)?)?;
            (object["apiVersion"], object["kind"]) = (json!(resource.api_version), json!(resource.kind));
            // The operator would take it for its own, and for one too many.
            object["metadata"] = json!({"name": child.name_any()});
            all.push((resource.clone(), object));
        }
    }
    Ok(all)
}

async fn apply(room: &Room, objects: &[(ApiResource, Value)]) -> Result<()> {
    for (resource, object) in objects {
        let api: Api<DynamicObject> = Api::namespaced_with(room.client.clone(), &room.ns, resource);
        let name = object["metadata"]["name"].as_str().context("a name")?;
        api.patch(name, &PatchParams::apply(BY_HAND), &Patch::Apply(object)).await?;
    }
    Ok(())
}

async fn delete(room: &Room, objects: &[(ApiResource, Value)]) -> Result<()> {
    for (resource, object) in objects {
        let api: Api<DynamicObject> = Api::namespaced_with(room.client.clone(), &room.ns, resource);
        api.delete(object["metadata"]["name"].as_str().context("a name")?, &DeleteParams::default()).await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn print(found: &Found) {
    let rows: Vec<Vec<String>> = (0..found.operator.len())
        .map(|round| {
            let all = [found.operator[round], found.by_hand[round], found.known[round]];
            std::iter::once((round + 1).to_string()).chain(all.map(|it| format!("{it:.2}"))).collect()
        })
        .collect();
    table(&["round", "operator s", "plain apply s", "known s"], &rows);
    let minutes = found.seconds as f64 / 60.0;
    let cells =
        found.requests.iter().map(|(labels, count)| vec![labels.clone(), format!("{:.1}", *count as f64 / minutes)]);
    println!();
    table(&["requests to the API server", "a minute"], &cells.collect::<Vec<_>>());
    println!();
    let sum = |of: &[f64]| of.iter().sum::<f64>();
    let ratio = sum(&found.operator) / sum(&found.by_hand);
    aim("both hosts answer after at most 1.2 times a plain apply's time", &format!("{ratio:.2}"), ratio <= 1.2);
    let late = sum(&found.known) - sum(&found.operator);
    let late = late / found.known.len() as f64;
    aim("and it is known at most 5 s later", &format!("{late:.1} s"), late <= 5.0);
    let probes = found.probes as f64 / minutes;
    aim("at most two questions a minute for each host", &format!("{probes:.1} for two hosts"), probes <= 4.0);
    let of = |what: &str| found.requests.iter().filter(|it| it.0.contains(what)).map(|it| it.1).sum::<u64>();
    let slices = of("endpointslices") as f64 / minutes;
    aim("and one list of EndpointSlices", &format!("{slices:.1} a minute"), slices <= 1.5);
    aim("nothing is written", &found.writes.to_string(), found.writes == 0);
}
