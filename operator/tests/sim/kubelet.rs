//! What the rest of a cluster makes of the operator's objects: pods become ready, Jobs end with a
//! report. Plain JSON, for every kind of simulated cluster.

#![allow(dead_code, reason = "each test binary uses its part")]

use serde_json::{Value, json};

/// Namespace of the sample.
pub(crate) const NAMESPACE: &str = "odoo-ai";

/// What the migrate Job reports.
pub(crate) const MIGRATED: &str = r#"{"version":1,"result":"Succeeded","reason":"Bootstrapped","message":"done",
    "schema":{"heads":["003"],"known":["001","002","003"],"current":["003"]},"incarnation":"1/2","rulesEmpty":true}"#;

/// What a bootstrap Job reports that found the database empty.
pub(crate) const BROUGHT: &str = r#"{"version":1,"result":"Succeeded","reason":"Restored","message":"backup artifact-1 is in the database odoo_ai: 26 tables, 3 s",
    "incarnation":"1/2","restore":{"id":"artifact-1","database":"odoo_ai","tables":26,"rows":1234,"bytes":4096,"seconds":3,"alembic":["002"]}}"#;

/// What a plan Job reports: the database is one revision behind.
pub(crate) const PLANNED: &str = r#"{"version":1,"result":"Succeeded","reason":"Pending","message":"one revision",
    "schema":{"heads":["003"],"known":["001","002","003"],"current":["002"]},"incarnation":"1/2","rulesEmpty":false,
    "plan":{"needed":true,"pending":[{"revision":"003","additive":false,"why":"DROP COLUMN a.b"}],
    "missingLabels":{"automationtype":["MONTH_END"]}},"enumLabels":{"automationtype":["CRM","MONTH_END"]}}"#;

/// The stack of the local sample and its Secrets, with plain text in `data`.
pub(crate) fn sample() -> (Value, Vec<Value>) {
    let text = include_str!("../../../manifests/samples/local.yaml");
    let (mut stack, mut secrets) = (Value::Null, Vec::new());
    for document in text.split("\n---\n") {
        let mut value: Value = serde_saphyr::from_str(document).expect("the sample is YAML");
        match value["kind"].as_str() {
            Some("OdooAiStack") => stack = value,
            Some("Secret") => {
                value["data"] = value["stringData"].take();
                secrets.push(value);
            }
            _ => {}
        }
    }
    (stack, secrets)
}

/// Status of a Deployment or `StatefulSet` whose pods are all of the newest template and ready.
pub(crate) fn ready(object: &Value) -> Value {
    let replicas = &object["spec"]["replicas"];
    json!({
        "observedGeneration": object["metadata"]["generation"], "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
    })
}

/// Status of a Job that ended; `how` is `Complete` or `Failed`.
pub(crate) fn ended(how: &str, at: &str) -> Value {
    json!({"conditions": [{"type": how, "status": "True", "lastTransitionTime": at}]})
}

/// A finished pod of a Job with its termination message.
pub(crate) fn job_pod(name: &str, job: &Value, message: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("{name}-pod"), "namespace": NAMESPACE,
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": true}],
        },
        "status": {"phase": "Succeeded", "containerStatuses": [{
            "name": job["spec"]["template"]["spec"]["containers"][0]["name"], "image": "x", "imageID": "y", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": message}},
        }]},
    })
}
