//! `Applier`, one child at a time: what it costs, and what counts as drift.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use odoo_ai_operator::cluster::covers::covers;
use odoo_ai_operator::cluster::intent::Intent;
use odoo_ai_operator::labels;
use serde_json::{Value, json};

use crate::room::{Room, STACK, deployment_spec};

const NOTHING: &[String] = &[];

#[tokio::test]
async fn what_is_applied_costs_nothing_and_after_a_restart_one_read() -> Result<()> {
    let room = Room::new("costs").await?;
    let applier = room.applier();
    for intent in room.all() {
        let (what, name) = (&intent.resource.plural, &intent.name);
        let (get, patch) = (format!("get {what} {name}"), format!("patch {what} {name}"));
        assert_eq!(room.apply(&applier, &intent).await?, (true, vec![get.clone(), patch]), "created");
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]), "remembered");
        let restarted = room.applier();
        assert_eq!(room.apply(&restarted, &intent).await?, (false, vec![get.clone()]), "restarted");
        assert_eq!(room.apply(&restarted, &intent).await?, (false, vec![]), "remembered again");
        restarted.forget(&room.namespace, "another");
        assert_eq!(room.apply(&restarted, &intent).await?, (false, vec![]), "another stack was forgotten");
        restarted.forget(&room.namespace, STACK);
        assert_eq!(room.apply(&restarted, &intent).await?, (false, vec![get]), "forgotten");
    }
    assert_eq!(room.requests.warnings(), NOTHING);
    Ok(())
}

/// Counts of `apiserver_request_total` for writes of one resource.
async fn counted_by_the_server(client: &Client, resource: &str) -> Result<u64> {
    let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
    let lines = text.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let ours = lines.filter(|line| {
        line.contains(&format!("resource=\"{resource}\""))
            && ["APPLY", "PATCH", "POST", "PUT", "DELETE"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    ours.map(|line| Ok(line.rsplit(' ').next().context("a value")?.parse::<u64>()?)).sum()
}

/// Of a kind that no other test here touches.
#[tokio::test]
async fn the_api_server_counts_the_same_writes() -> Result<()> {
    let room = Room::new("counted").await?;
    let budget = json!({"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "app"}}}});
    let (applier, intent) = (room.applier(), Intent::apply(&room.object::<PodDisruptionBudget>("app", &budget)));
    let counted = || counted_by_the_server(&room.others, "poddisruptionbudgets");
    assert_eq!(counted().await?, 0);
    room.apply(&applier, &intent).await?;
    assert_eq!(counted().await?, 1, "created");
    for _ in 0..20 {
        room.apply(&applier, &intent).await?;
        room.apply(&room.applier(), &intent).await?;
    }
    assert_eq!(counted().await?, 1, "unchanged");
    room.edit(&intent, &json!({"spec": {"maxUnavailable": 2}})).await?;
    for _ in 0..5 {
        room.apply(&applier, &intent).await?;
    }
    assert_eq!(counted().await?, 3, "somebody's edit and one answer to it");
    Ok(())
}

/// Somebody changes one of our fields.
fn drifts(room: &Room) -> Vec<(&'static str, Intent, Value)> {
    let container = |field: &str, value: Value| {
        let mut container = deployment_spec()["spec"]["template"]["spec"]["containers"][0].clone();
        container[field] = value;
        json!({"spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let mode = |value: &str| json!([{"name": "MODE", "value": value}]);
    let app = || room.deployment();
    vec![
        ("an image", app(), container("image", json!("app:evil"))),
        ("a variable", app(), container("env", mode("wild"))),
        ("a variable that is gone", app(), container("env", json!([]))),
        ("one argument more", app(), container("args", json!(["serve", "--fast", "--debug"]))),
        (
            "more memory",
            app(),
            container("resources", json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "64Mi"}})),
        ),
        ("another mount", app(), container("volumeMounts", json!([{"name": "tmp", "mountPath": "/tmp"}]))),
        ("root", app(), json!({"spec": {"template": {"spec": {"securityContext": {"runAsUser": 1001}}}}})),
        ("a pod's label", app(), json!({"spec": {"template": {"metadata": {"labels": {"app": "app", "x": "y"}}}}})),
        ("a value", room.config_map(), json!({"data": {"mode": "wild"}})),
        ("a key that is gone", room.config_map(), json!({"data": {"mode": null}})),
        ("all data", room.config_map(), json!({"data": null})),
        ("a label", room.config_map(), json!({"metadata": {"labels": {labels::COMPONENT: "other"}}})),
        ("our annotation", room.config_map(), json!({"metadata": {"annotations": {labels::APPLIED_HASH: "0"}}})),
        ("the owner", room.config_map(), json!({"metadata": {"ownerReferences": null}})),
        ("a password", room.secret(), json!({"data": {"password": "ZXZpbA=="}})),
        ("a selector", room.service(), json!({"spec": {"selector": {"app": "other"}}})),
        ("a narrower selector", room.service(), json!({"spec": {"selector": {"more": "x"}}})),
        ("an empty value that is gone", room.config_map(), json!({"data": {"empty": null}})),
        ("a target port", room.service(), json!({"spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9}]}})),
    ]
}

#[tokio::test]
async fn drift_in_our_fields_is_put_back_by_one_write() -> Result<()> {
    let room = Room::new("drift").await?;
    let applier = room.applier();
    for intent in room.all() {
        room.apply(&applier, &intent).await?;
    }
    for (what, intent, patch) in drifts(&room) {
        // A label more in the pods is nobody's harm: it isn't our field.
        let ours = what != "a pod's label";
        for restarted in [false, true] {
            let fresh = room.applier();
            let applier = if restarted { &fresh } else { &applier };
            room.edit(&intent, &patch).await.with_context(|| what)?;
            let (written, sent) = room.apply(applier, &intent).await.with_context(|| what)?;
            let writes = sent.iter().filter(|line| line.starts_with("patch")).count();
            assert_eq!((written, writes), (ours, usize::from(ours)), "{what}, restarted {restarted}: {sent:?}");
            let live = serde_json::to_value(room.live(&intent).await?)?;
            assert!(covers(&live, &intent.object), "{what}: {live:#}");
            assert_eq!(room.apply(applier, &intent).await?, (false, vec![]), "{what}, afterwards");
        }
    }
    Ok(())
}

/// Lists of the API are merged by key: our port comes beside the changed one, with the same name.
#[tokio::test]
async fn a_changed_port_of_a_service_is_put_back() -> Result<()> {
    let room = Room::new("port").await?;
    let (applier, intent) = (room.applier(), room.service());
    room.apply(&applier, &intent).await?;
    room.edit(&intent, &json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 8080}]}})).await?;
    assert!(room.apply(&applier, &intent).await?.0);
    let live = room.live(&intent).await?;
    assert_eq!(live.data["spec"]["ports"].as_array().map(Vec::len), Some(1));
    assert_eq!(live.data["spec"]["ports"][0]["port"], 80);
    Ok(())
}

/// A controller that removed a label of ours changes what the gates read, so it is drift, too. On
/// these kinds it moves no generation, but the cache has the labels.
#[tokio::test]
async fn drift_of_a_label_is_put_back_where_it_moves_no_generation() -> Result<()> {
    let room = Room::new("label").await?;
    let mut object: Deployment = room.object("app", &deployment_spec());
    object.metadata.labels.get_or_insert_default().insert(labels::REVISION.to_owned(), "one".to_owned());
    let (applier, intent) = (room.applier(), Intent::apply(&object));
    room.apply(&applier, &intent).await?;
    for value in [json!("other"), json!(null)] {
        room.edit(&intent, &json!({"metadata": {"labels": {labels::REVISION: value}}})).await?;
        room.apply(&applier, &intent).await?;
        let live = room.seen(&intent).await?;
        let label = live.labels.as_ref().and_then(|labels| labels.get(labels::REVISION));
        assert_eq!(label.map(String::as_str), Some("one"), "after {value}");
    }
    Ok(())
}

#[tokio::test]
async fn fields_of_others_stay_and_cost_no_write() -> Result<()> {
    let room = Room::new("others").await?;
    let applier = room.applier();
    for intent in room.all() {
        room.apply(&applier, &intent).await?;
    }
    let annotation = json!({"metadata": {"annotations": {"somebody.example.com/note": "x"}}});
    let label = json!({"metadata": {"labels": {"somebody.example.com/team": "x"}}});
    let pod = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    let env = json!({"containers": [{"name": "app", "env": [{"name": "INJECTED", "value": "x"}]}]});
    let sidecar = json!({"containers": [{"name": "proxy", "image": "proxy:1"}]});
    let volume = json!({"volumes": [{"name": "more", "emptyDir": {}}]});
    let port = json!({"ports": [{"name": "metrics", "port": 90, "protocol": "TCP"}]});
    let cases = [
        // A Deployment counts annotations, too, as a change of its generation.
        (room.deployment(), annotation.clone(), true),
        (room.deployment(), label.clone(), false),
        (room.deployment(), json!({"spec": {"replicas": 3}}), true),
        (room.deployment(), pod(env), true),
        (room.deployment(), pod(sidecar), true),
        (room.deployment(), pod(volume), true),
        (room.deployment(), pod(json!({"tolerations": [{"key": "spot", "operator": "Exists"}]})), true),
        (room.config_map(), annotation.clone(), true),
        (room.config_map(), json!({"data": {"theirs": "x"}}), true),
        (room.secret(), label, true),
        (room.service(), annotation.clone(), true),
        (room.service(), json!({"spec": port}), true),
        (room.claim(), annotation, true),
    ];
    for (intent, theirs, read) in cases {
        room.others_apply(&intent, &theirs).await.with_context(|| theirs.to_string())?;
        let moved = room.seen(&intent).await?.resource_version;
        let get = format!("get {} {}", intent.resource.plural, intent.name);
        let wanted = if read { vec![get.clone()] } else { vec![] };
        assert_eq!(room.apply(&applier, &intent).await?, (false, wanted), "{theirs}");
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]), "{theirs}: seen once");
        assert_eq!(room.apply(&room.applier(), &intent).await?, (false, vec![get]), "{theirs}: restarted");
        assert_eq!(room.seen(&intent).await?.resource_version, moved);
        // They also survive a write of ours.
        let mut changed = intent.clone();
        changed.object["metadata"]["labels"]["odoo-ai.atmatasolutions.com/x"] = json!("y");
        changed.hash = "changed".to_owned();
        changed.digest = "changed".to_owned();
        changed.object["metadata"]["annotations"][labels::APPLIED_HASH] = json!("changed");
        assert!(room.apply(&applier, &changed).await?.0);
        assert!(room.apply(&applier, &intent).await?.0);
        let live = serde_json::to_value(room.live(&intent).await?)?;
        assert!(covers(&live, &theirs), "{theirs}: {live:#}");
        assert!(covers(&live, &intent.object) && live["metadata"]["labels"]["odoo-ai.atmatasolutions.com/x"].is_null());
        room.others_apply(&intent, &json!({})).await?;
        room.apply(&applier, &intent).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_the_intent_no_longer_says_is_removed() -> Result<()> {
    let room = Room::new("removed").await?;
    let applier = room.applier();
    room.apply(&applier, &room.deployment()).await?;
    let mut spec = deployment_spec();
    let container = &mut spec["spec"]["template"]["spec"]["containers"][0];
    container["env"].as_array_mut().context("a list")?.remove(0);
    container["volumeMounts"].as_array_mut().context("a list")?.remove(1);
    container["resources"]["limits"] = json!(null);
    let intent = Intent::apply(&room.object::<Deployment>("app", &spec));
    assert_eq!(
        room.apply(&applier, &intent).await?,
        (true, vec!["get deployments app".into(), "patch deployments app".into()])
    );
    let live = serde_json::to_value(room.live(&intent).await?)?;
    let container = &live["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"].as_array().map(Vec::len), Some(1), "{container}");
    assert_eq!(container["volumeMounts"].as_array().map(Vec::len), Some(1), "{container}");
    assert_eq!(container["resources"]["limits"], json!(null));
    Ok(())
}

#[tokio::test]
async fn quantities_that_the_server_rewrites_are_no_drift() -> Result<()> {
    let room = Room::new("quantities").await?;
    for (cpu, memory, disk) in [
        ("1000m", "1024Mi", "1024Mi"),
        ("0.5", "1.5Gi", "2048Ki"),
        ("0.001", "1000M", "1.0Gi"),
        ("1.0", "0.5Gi", "1000k"),
        ("2", "123456789", "0.1Ti"),
    ] {
        let mut spec = deployment_spec();
        let template = &mut spec["spec"]["template"]["spec"];
        template["containers"][0]["resources"] = json!({"requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": disk}, "limits": {"memory": memory}});
        template["volumes"][0]["emptyDir"]["sizeLimit"] = json!(disk);
        let intent = Intent::apply(&room.object::<Deployment>("app", &spec));
        let applier = room.applier();
        assert!(room.apply(&applier, &intent).await?.0, "{cpu} {memory} {disk}");
        let restarted = room.apply(&room.applier(), &intent).await?;
        let live = room.live(&intent).await?;
        let resources = &live.data["spec"]["template"]["spec"]["containers"][0]["resources"];
        assert_eq!(restarted, (false, vec!["get deployments app".into()]), "{cpu} {memory} {disk}: {resources}");
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]));
    }
    Ok(())
}

#[tokio::test]
async fn what_the_server_makes_of_unusual_values_is_no_drift() -> Result<()> {
    let room = Room::new("unusual").await?;
    let mut wrong = Vec::new();
    let template = "/spec/template/spec";
    for (at, field, value) in [
        ("/spec", "replicas", json!(0)),
        (template, "tolerations", json!([{"key": "dedicated", "effect": "NoSchedule"}, {"operator": "Exists"}])),
        (template, "nodeSelector", json!({"disk": ""})),
        (template, "imagePullSecrets", json!([])),
        (
            template,
            "securityContext",
            json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": []}),
        ),
        ("/spec/template/spec/containers/0", "args", json!(["--save", ""])),
    ] {
        let mut spec = deployment_spec();
        spec.pointer_mut(at).context("a place")?[field] = value.clone();
        let intent = Intent::apply(&room.object::<Deployment>("app", &spec));
        assert!(room.apply(&room.applier(), &intent).await.with_context(|| field)?.0, "{field}");
        let restarted = room.apply(&room.applier(), &intent).await?;
        if restarted.0 {
            wrong.push(format!("{field}: {value}"));
        }
    }
    assert!(wrong.is_empty(), "written again after a restart: {wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn a_variable_with_an_empty_value_is_no_drift() -> Result<()> {
    let room = Room::new("empty").await?;
    let mut spec = deployment_spec();
    spec["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "EMPTY", "value": ""}]);
    let intent = Intent::apply(&room.object::<Deployment>("app", &spec));
    assert!(room.apply(&room.applier(), &intent).await?.0);
    assert_eq!(room.apply(&room.applier(), &intent).await?, (false, vec!["get deployments app".into()]));
    Ok(())
}
