//! Many stacks: etcd, kube-apiserver and the operator's release binary are real, the rest is played.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_tests::{AUDITED, ApiServer, apply_file, repository, run_dir, wait_for};
use serde_json::{Value, json};

use crate::Scale;
use crate::audit::{Audit, Requests};
use crate::figures::{Histogram, aim, table};
use crate::process::{NAMESPACE, Operator, Usage};
use crate::world::World;

const STACK: &str = "odoo-ai";
/// Stacks that are created at the same time.
const CONCURRENCY: usize = 16;
/// No write for this long means that nothing is left to do.
const QUIET: Duration = Duration::from_secs(10);
/// Reconciles that are asked for, so that there is a percentile of a few stacks, too.
const TOUCHES: usize = 100;
/// Apart, because a queue of them would be measured.
const PAUSE: Duration = Duration::from_millis(250);

/// What was found at one number of stacks.
struct Row {
    stacks: usize,
    install: f64,
    usage: Usage,
    reconciles: Histogram,
    idle: Duration,
    requests: Requests,
    /// Writes from the first apply until it was settled.
    installing: Requests,
    cpu: f64,
}

pub(crate) async fn run(arguments: &Scale) -> Result<()> {
    let server = ApiServer::start_audited().await?;
    let client = server.client().await?;
    prepare(&client).await?;
    let _world = World::start(&client).await?;
    let log = run_dir().join("bench-operator.log");
    let kubeconfig = server.audited_kubeconfig();
    let start = || Operator::start(&arguments.operator, &kubeconfig, log.clone());
    let mut operator = start().await?;
    let mut audit = Audit::new(server.audit_log());
    let mut rows = Vec::new();
    let mut present = 0;
    let largest = *arguments.stacks.iter().max().context("no number of stacks")?;
    for wanted in arguments.stacks.iter().copied() {
        let began = Instant::now();
        futures::stream::iter(present..wanted)
            .map(|number| create(&client, number))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        until_ready(&client, wanted).await?;
        let install = began.elapsed().as_secs_f64();
        eprintln!("{wanted} stacks are Ready, {:.0} s for {} of them", install, wanted - present);
        present = wanted;
        let idle =
            Duration::from_secs(if wanted == largest { arguments.idle_seconds } else { arguments.idle_seconds / 5 });
        let row = measure(&client, &operator, &mut audit, wanted, install, idle).await?;
        eprintln!("{wanted} stacks: resident {:.1} MiB, {} writes", row.usage.resident, row.requests.written());
        rows.push(row);
    }
    operator.stop().await?;
    audit.since()?;
    let began = Instant::now();
    operator = start().await?;
    let restarted = restarted(&operator, &mut audit, present).await?;
    print(&rows, &restarted, present, began.elapsed());
    operator.stop().await
}

/// CRDs, the operator's namespace and rights, as the chart would make them; rights are wider.
async fn prepare(client: &Client) -> Result<()> {
    for kind in ["backups", "featureflags", "odooaistacks", "restores"] {
        apply_file(client, "default", &repository().join(format!("crds/generated/{kind}.yaml"))).await?;
    }
    let stacks: Api<OdooAiStack> = Api::all(client.clone());
    wait_for("the CRDs to be served", Duration::from_secs(20), || async {
        Ok(Some(stacks.list(&ListParams::default().limit(1)).await?))
    })
    .await?;
    namespace(client, NAMESPACE).await?;
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": AUDITED}],
    }))?;
    Api::<ClusterRoleBinding>::all(client.clone()).create(&PostParams::default(), &binding).await?;
    let question = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(AUDITED.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some("get".to_owned()),
                group: Some("coordination.k8s.io".to_owned()),
                resource: Some("leases".to_owned()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    wait_for("the operator's rights", Duration::from_secs(20), || async {
        let answer = reviews.create(&PostParams::default(), &question).await?;
        Ok(answer.status.is_some_and(|status| status.allowed).then_some(()))
    })
    .await
}

async fn namespace(client: &Client, name: &str) -> Result<()> {
    let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
    Ok(())
}

/// The local sample in a namespace of its own, with the shortest watch.
async fn create(client: &Client, number: usize) -> Result<()> {
    let ns = place(number);
    namespace(client, &ns).await?;
    let sample = std::fs::read_to_string(repository().join("manifests/samples/local.yaml"))?;
    for mut document in serde_saphyr::from_multiple::<Value>(&sample)? {
        document["metadata"]["namespace"] = json!(ns);
        match document["kind"].as_str() {
            Some("Secret") => {
                let secret: Secret = serde_json::from_value(document)?;
                Api::<Secret>::namespaced(client.clone(), &ns).create(&PostParams::default(), &secret).await?;
            }
            Some("OdooAiStack") => {
                document["spec"]["rollout"] = json!({"healthCheck": {"durationSeconds": 1, "periodSeconds": 1}});
                // The rules API is asked by a Service's name, which nobody resolves here.
                document["spec"]["rules"] = json!({"unmanaged": "Ignore"});
                let stack: OdooAiStack = serde_json::from_value(document)?;
                Api::<OdooAiStack>::namespaced(client.clone(), &ns).create(&PostParams::default(), &stack).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn place(number: usize) -> String {
    format!("bench-{number}")
}

async fn until_ready(client: &Client, wanted: usize) -> Result<()> {
    let stacks: Api<OdooAiStack> = Api::all(client.clone());
    let mut last = (0, Instant::now());
    loop {
        let all = stacks.list(&ListParams::default()).await?;
        let ready = |stack: &&OdooAiStack| {
            let conditions = stack.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
        };
        let count = all.iter().filter(ready).count();
        if count == wanted {
            return Ok(());
        }
        if count > last.0 {
            last = (count, Instant::now());
        }
        if last.1.elapsed() > Duration::from_mins(3) {
            let stuck = all.iter().find(|stack| !ready(stack)).context("a stack that is not Ready")?;
            bail!("{count} of {wanted} are Ready, not {}: {}", stuck.name_any(), json!(stuck.status));
        }
        tokio::time::sleep(Duration::from_secs(if wanted > 10 { 5 } else { 1 })).await;
    }
}

/// Until the operator has had nothing to write for a while.
async fn settle(audit: &mut Audit) -> Result<Requests> {
    let mut all = Requests::default();
    let (began, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < QUIET {
        ensure!(began.elapsed() < Duration::from_mins(5), "the operator goes on writing");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let new = audit.since()?;
        if new.written() > 0 {
            last = Instant::now();
        }
        all.add(new);
    }
    Ok(all)
}

async fn measure(
    client: &Client,
    operator: &Operator,
    audit: &mut Audit,
    stacks: usize,
    install: f64,
    idle: Duration,
) -> Result<Row> {
    let installing = settle(audit).await?;
    let before = operator.reconciles().await?;
    touch(client, stacks).await?;
    settle(audit).await?;
    let (began, usage) = (Instant::now(), operator.usage()?);
    tokio::time::sleep(idle).await;
    let (after, idle) = (operator.usage()?, began.elapsed());
    let requests = audit.since()?;
    let reconciles = operator.reconciles().await?.since(&before);
    Ok(Row { stacks, install, usage: after, reconciles, idle, requests, installing, cpu: after.cpu - usage.cpu })
}

/// Wakes stacks for nothing: an annotation that says nothing to the operator.
async fn touch(client: &Client, stacks: usize) -> Result<()> {
    for number in 0..TOUCHES {
        let api: Api<OdooAiStack> = Api::namespaced(client.clone(), &place(number % stacks));
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"bench": format!("{number} of {stacks}")}}}));
        api.patch_metadata(STACK, &PatchParams::default(), &patch).await?;
        // Events of one stack that come together are one reconcile.
        tokio::time::sleep(PAUSE * if stacks == 1 { 2 } else { 1 }).await;
    }
    Ok(())
}

/// A new operator in front of everything: it looks at each stack once, and writes nothing.
async fn restarted(operator: &Operator, audit: &mut Audit, stacks: usize) -> Result<(Usage, Requests)> {
    wait_for("the new operator to look at each stack", Duration::from_mins(10), || async {
        Ok((operator.reconciles().await?.count() >= u64::try_from(stacks)?).then_some(()))
    })
    .await?;
    Ok((operator.usage()?, audit.since()?))
}

fn print(rows: &[Row], restarted: &(Usage, Requests), largest: usize, looked: Duration) {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let per_minute = |value: f64, row: &Row| value * 60.0 / row.idle.as_secs_f64();
    let cells = rows.iter().map(|row| {
        let requests = u32::try_from(row.requests.reads).unwrap_or(u32::MAX);
        vec![
            row.stacks.to_string(),
            format!("{:.0}", row.install),
            format!("{:.1}", row.usage.resident),
            format!("{:.1}", row.usage.peak),
            row.reconciles.count().to_string(),
            number(row.reconciles.percentile(50.0)),
            number(row.reconciles.percentile(99.0)),
            format!("{:.0}", row.idle.as_secs_f64()),
            format!("{:.0}", per_minute(f64::from(requests), row)),
            row.requests.written().to_string(),
            row.requests.lease.to_string(),
            format!("{:.2}", per_minute(row.cpu, row)),
        ]
    });
    let header = [
        "stacks",
        "to Ready s",
        "resident MiB",
        "peak MiB",
        "reconciles",
        "p50 ms",
        "p99 ms",
        "idle s",
        "reads/min",
        "writes",
        "of the Lease",
        "CPU s/min",
    ];
    table(&header, &cells.collect::<Vec<_>>());
    let (usage, requests) = restarted;
    println!(
        "\nAn operator that starts in front of {largest} stacks: each looked at after {:.1} s with {} reads and {} writes; resident {:.1} MiB, peak {:.1} MiB, {:.1} s of CPU\n",
        looked.as_secs_f64(),
        requests.reads,
        requests.written(),
        usage.resident,
        usage.peak,
        usage.cpu,
    );
    if let Some(first) = rows.first() {
        println!(
            "Writes until {} was settled: {} ({})\n",
            first.stacks,
            first.installing.written(),
            first.installing.list()
        );
    }
    for row in rows {
        let limit = match row.stacks {
            1 => Some(40.0),
            1000 => Some(150.0),
            _ => None,
        };
        if let Some(limit) = limit {
            let what = format!("operator below {limit} MiB with {} stacks", row.stacks);
            aim(&what, &format!("{:.1} MiB", row.usage.resident), row.usage.resident < limit);
        }
        let what = format!("p99 of a reconcile without a change below 50 ms with {} stacks", row.stacks);
        let p99 = row.reconciles.percentile(99.0);
        aim(&what, &format!("{} ms", number(p99)), p99.is_some_and(|p99| p99 < 50.0));
        let what = format!("no write in {:.0} idle seconds with {} stacks", row.idle.as_secs_f64(), row.stacks);
        aim(&what, &format!("{} {}", row.requests.written(), row.requests.list()), row.requests.written() == 0);
    }
    let what = format!("an operator that starts in front of {largest} stacks writes nothing");
    aim(&what, &format!("{} {}", requests.written(), requests.list()), requests.written() == 0);
}
