//! What flags cost: until a hundred new rules are as declared, beside a script that adds them one after the other, and
//! what is asked while nothing changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams};
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_tests::{wait_for, with_namespace_in};
use serde_json::json;

use crate::figures::{aim, table};
use crate::look::{all_synced, asked, flag, since};
use crate::operator::{self, Metrics};
use crate::room::{Room, STACK, sample};

const READY: u64 = 240;
const PREFIX: &str = "bench-";

/// Adds rules as a person's script would, each by one POST, and tells the seconds; then removes them.
const SCRIPT: &str = r#"
import json, os, sys, time, urllib.request
url, count = sys.argv[1], int(sys.argv[2])
def ask(method, path, body=None):
    headers = {"X-API-Key": os.environ["AI_SECRET_KEY"], "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url + path, data=data, headers=headers, method=method)
    return json.load(urllib.request.urlopen(request, timeout=10))
began = time.time()
ids = [ask("POST", "/api/rules", {"name": f"script-{number}", "automation_type": "hr", "action_name": "of_script",
    "enabled": False})["id"] for number in range(count)]
print(time.time() - began)
for number in ids:
    ask("DELETE", f"/api/rules/{number}")
"#;

#[derive(Default)]
struct Found {
    operator: Vec<f64>,
    script: Vec<f64>,
    /// Requests to the rules API by method, of the last round.
    came: BTreeMap<String, u64>,
    idle: BTreeMap<String, u64>,
    writes: u64,
    seconds: u64,
}

pub(crate) async fn run(rounds: u32, flags: usize, idle_seconds: u64) -> Result<()> {
    ensure!(rounds > 0, "at least one round");
    let cluster = operator::cluster().await?;
    let found = Arc::new(Mutex::new(Found::default()));
    let result = Arc::clone(&found);
    let work = with_namespace_in(cluster, "bench-flags", |client, ns| async move {
        let room = Room::new(client, ns).await?;
        room.apply(&sample("local.yaml")?).await?;
        room.wait_ready(READY).await?;
        let mut found = Found { seconds: idle_seconds, ..Found::default() };
        for round in 0..rounds {
            let before = asked(&room).await?;
            let began = Instant::now();
            room.apply(&declared(flags)).await?;
            all_synced(&room, PREFIX, flags).await?;
            found.operator.push(began.elapsed().as_secs_f64());
            found.came = since(&before, &asked(&room).await?);
            if round + 1 == rounds {
                tokio::time::sleep(Duration::from_secs(10)).await;
                let (before, writes) = (asked(&room).await?, Metrics::read(&room.client).await?.writes());
                tokio::time::sleep(Duration::from_secs(idle_seconds)).await;
                let now = Metrics::read(&room.client).await?.writes();
                (found.idle, found.writes) =
                    (since(&before, &asked(&room).await?), now.0 + now.1 - writes.0 - writes.1);
            }
            let all = ListParams::default();
            room.api::<FeatureFlag>().delete_collection(&DeleteParams::background(), &all).await?;
            wait_for("the flags to go", Duration::from_mins(4), || async {
                Ok(room.list::<FeatureFlag>().await?.is_empty().then_some(()))
            })
            .await?;
            let url = format!("http://{STACK}-ai-service:8000");
            let seconds = room.run("ai-service", &["python", "-c", SCRIPT, &url, &flags.to_string()]).await?;
            found.script.push(seconds.trim().parse()?);
        }
        *result.lock().unwrap_or_else(PoisonError::into_inner) = found;
        room.clear().await
    });
    Box::pin(work).await?;
    print(&found.lock().unwrap_or_else(PoisonError::into_inner), flags);
    Ok(())
}

fn declared(flags: usize) -> Vec<serde_json::Value> {
    let one = |number| {
        let name = format!("{PREFIX}{number}");
        let rule = json!({"name": name, "automationType": "hr", "actionName": "of_bench"});
        flag(&name, &rule, &json!({"deletionPolicy": "Delete", "resyncSeconds": 300}))
    };
    (0..flags).map(one).collect()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn print(found: &Found, flags: usize) {
    let rows = found.operator.iter().zip(&found.script).enumerate();
    let rows = rows.map(|(round, (operator, script))| {
        vec![
            (round + 1).to_string(),
            format!("{operator:.2}"),
            format!("{script:.2}"),
            format!("{:.1}", operator / script),
        ]
    });
    table(&["round", "flags: apply to Synced s", "script: POSTs s", "ratio"], &rows.collect::<Vec<_>>());
    println!("\nrequests to the rules API until all {flags} are Synced: {:?}; at rest: {:?}", found.came, found.idle);
    let per_flag = found.came.values().sum::<u64>() as f64 / flags as f64;
    aim("at most 3 requests per flag (a list, its POST, its read-back)", &format!("{per_flag:.2}"), per_flag <= 3.0);
    let lists = found.idle.values().sum::<u64>() as f64 / (found.seconds as f64 / 300.0);
    aim("at rest one list per interval of 300 s, whatever the number of flags", &format!("{lists:.1}"), lists <= 1.5);
    aim("and nothing is written", &found.writes.to_string(), found.writes == 0);
}
