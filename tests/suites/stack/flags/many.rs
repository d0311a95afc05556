//! A hundred flags of one stack.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_tests::{Cluster, wait_for};
use serde_json::{Value, json};

use super::faults::{clear, set};
use super::look::{all_synced, asked, flag, since};
use crate::operator::{self, End, Metrics};
use crate::room::Room;
use crate::steady::{unchanged, versions};

const FLAGS: usize = 100;
const MINUTE: Duration = Duration::from_mins(1);
const LONG: Duration = Duration::from_mins(4);
/// What the names of the hundred begin with.
const PREFIX: &str = "many-";

fn name(number: usize) -> String {
    format!("{PREFIX}{number:03}")
}

fn declared(range: std::ops::Range<usize>) -> Vec<Value> {
    let one = |number| {
        let identity = json!({"name": name(number), "automationType": "hr", "actionName": "of_many"});
        flag(&name(number), &identity, &json!({"deletionPolicy": "Delete", "resyncSeconds": 300}))
    };
    range.map(one).collect()
}

async fn are_there_once(room: &Room, count: usize) -> Result<()> {
    let rows = "SELECT count(*), count(DISTINCT name) FROM automation_rules WHERE name LIKE 'many-%'";
    let found = room.sql(rows).await?;
    ensure!(found == format!("{count}|{count}"), "rules and names: {found}");
    Ok(())
}

/// Those of the sample would be looked at every 10 s.
async fn slow_down(room: &Room) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"resyncSeconds": 300}}));
    for flag in room.list::<FeatureFlag>().await? {
        room.api::<FeatureFlag>().patch(&flag.name_any(), &PatchParams::default(), &patch).await?;
    }
    Ok(())
}

/// They come while the application fails: it is asked as seldom as by one.
pub(super) async fn meet_a_sick_application(room: &Room) -> Result<String> {
    slow_down(room).await?;
    set(room, "503").await?;
    room.apply(&declared(0..FLAGS)).await?;
    let before = asked(room).await?;
    tokio::time::sleep(MINUTE).await;
    let asked = since(&before, &asked(room).await?);
    let lists = asked.get("GET").copied().unwrap_or_default();
    // After 5, 10, 20, 40 s.
    ensure!(lists <= 6 && asked.values().sum::<u64>() == lists, "in a minute it was asked {asked:?}");
    Ok(format!("{lists} requests in a minute"))
}

/// The application is well: each is added once; then one list an interval, and nothing is written.
pub(super) async fn are_added_once_and_rest(room: &Room) -> Result<String> {
    let before = asked(room).await?;
    let began = Instant::now();
    clear(room).await?;
    all_synced(room, PREFIX, FLAGS).await?;
    let (took, came) = (began.elapsed(), since(&before, &asked(room).await?));
    are_there_once(room, FLAGS).await?;
    ensure!(came.get("POST") == Some(&(FLAGS as u64)), "requests: {came:?}");
    // The stack's own count comes last.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (state, before, counters) = (versions(room).await?, asked(room).await?, Metrics::read(&room.client).await?);
    tokio::time::sleep(MINUTE).await;
    unchanged(&state, &versions(room).await?)?;
    let (rest, now) = (since(&before, &asked(room).await?), Metrics::read(&room.client).await?);
    ensure!(now.writes() == counters.writes(), "{:?} writes, then {:?}", counters.writes(), now.writes());
    ensure!(rest.values().sum::<u64>() <= 2, "in a minute of rest: {rest:?}");
    Ok(format!("all Synced {:.1} s after it was well, requests {came:?}; at rest {rest:?}", took.as_secs_f64()))
}

/// The operator is killed while it adds and removes rules: no rule comes twice, none is forgotten.
pub(super) async fn survive_the_operator(room: &Room, cluster: &Cluster) -> Result<String> {
    let more = 30;
    room.apply(&declared(FLAGS..FLAGS + more)).await?;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        operator::replace(cluster, &room.client, End::Crashed).await?;
    }
    all_synced(room, PREFIX, FLAGS + more).await?;
    are_there_once(room, FLAGS + more).await?;
    let began = Instant::now();
    for number in 0..FLAGS + more {
        room.api::<FeatureFlag>().delete(&name(number), &DeleteParams::background()).await?;
    }
    operator::replace(cluster, &room.client, End::Crashed).await?;
    wait_for("the flags to go", LONG, || async {
        let left = room.api::<FeatureFlag>().list(&ListParams::default()).await?.items;
        let left = left.iter().filter(|flag| flag.name_any().starts_with(PREFIX)).count();
        ensure!(left == 0, "{left} are left");
        Ok(Some(()))
    })
    .await?;
    are_there_once(room, 0).await?;
    Ok(format!("{} flags and their rules went in {:.1} s", FLAGS + more, began.elapsed().as_secs_f64()))
}
