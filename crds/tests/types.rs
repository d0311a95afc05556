//! What the types promise to the operator.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use odoo_ai_crds::common::{Resources, Toleration};
use odoo_ai_crds::stack::{EvictionPolicy, OdooAiStack, OdooAiStackSpec, Step};
use serde_json::{Value, json};

fn minimal() -> Value {
    json!({
        "environment": "Local",
        "images": {"aiService": "a:1", "dashboard": "d:1"},
        "odoo": {
            "url": "http://odoo:8069", "database": "odoo", "username": "admin",
            "credentialsSecretRef": {"name": "odoo", "passwordKey": "password"}
        },
        "ai": {"apiKeySecretRef": {"name": "anthropic", "key": "apiKey"}}
    })
}

#[test]
fn an_empty_section_is_an_unset_one() {
    let unset: OdooAiStackSpec = serde_json::from_value(minimal()).unwrap();
    let mut spoken = minimal();
    for section in ["aiService", "worker", "beat", "dashboard", "migrations", "rollout", "rules"] {
        spoken[section] = json!({});
    }
    spoken["suspend"] = json!(false);
    spoken["env"] = json!([]);
    spoken["worker"] = json!({"resources": {"limits": {}}, "queues": []});
    spoken["database"] = json!({"type": "Managed", "managed": {"storage": {}}});
    spoken["redis"] = json!({"type": "Managed"});
    let spoken: OdooAiStackSpec = serde_json::from_value(spoken).unwrap();
    assert_eq!(unset, spoken);
    assert_eq!(serde_json::to_value(&spoken).unwrap(), minimal());
}

#[test]
fn settings_of_pods_are_members_of_the_component() {
    let mut spec = minimal();
    spec["worker"] = json!({"concurrency": 2, "resources": {"limits": {"memory": "768Mi"}}});
    let read: OdooAiStackSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(read.worker.concurrency, Some(2));
    assert_eq!(read.worker.pod.resources.limits.memory.as_deref(), Some("768Mi"));
    assert_eq!(serde_json::to_value(&read).unwrap(), spec);
}

#[test]
fn the_status_of_a_new_object_can_be_read() {
    let stack = json!({
        "apiVersion": "odoo-ai.atmatasolutions.com/v1alpha1", "kind": "OdooAiStack",
        "metadata": {"name": "a"}, "spec": minimal(), "status": {"observedGeneration": -1}
    });
    let stack: OdooAiStack = serde_json::from_value(stack).unwrap();
    assert_eq!(stack.status.unwrap().observed_generation, Some(-1));
}

#[test]
fn names_are_written_as_the_api_has_them() {
    assert_eq!(Step::RulesGate.to_string(), "RulesGate");
    assert_eq!(serde_json::to_value(Step::RulesGate).unwrap(), "RulesGate");
    for policy in [EvictionPolicy::NoEviction, EvictionPolicy::AllKeysLru, EvictionPolicy::VolatileLru] {
        assert_eq!(serde_json::to_value(policy).unwrap(), policy.to_string());
    }
    assert!(Step::Database < Step::Migration && Step::Migration < Step::AiService && Step::Checks < Step::Watch);
}

#[test]
fn resources_and_tolerations_become_those_of_kubernetes() {
    let resources: Resources =
        serde_json::from_value(json!({"requests": {"cpu": "1", "ephemeralStorage": "1Gi"}})).unwrap();
    assert_eq!(
        serde_json::to_value(resources.to_requirements()).unwrap(),
        json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})
    );
    let toleration = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30});
    let read: Toleration = serde_json::from_value(toleration.clone()).unwrap();
    let built = k8s_openapi::api::core::v1::Toleration::from(&read);
    assert_eq!(serde_json::to_value(built).unwrap(), toleration);
}

#[test]
fn reserved_names_are_known_in_any_case() {
    for name in ["REDIS_URL", "redis_url", "ODOO_URL", "odooai_x", "Hostname"] {
        assert!(odoo_ai_crds::is_reserved_env(name), "{name}");
    }
    assert!(!odoo_ai_crds::is_reserved_env("SMTP_HOST"));
}
