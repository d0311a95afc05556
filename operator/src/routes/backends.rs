//! Who stands behind a route: what the `EndpointSlice`s of its Service lead to. That a route answers doesn't say who does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::ListParams;
use kube::{Api, Client, Resource, ResourceExt};

use crate::labels;

/// Label of a slice: the Service that it is for.
const SERVICE: &str = "kubernetes.io/service-name";

/// By Service the first endpoint that gets requests and is none of `is_own`'s pods, in words.
///
/// # Errors
/// The API server can't be asked.
pub async fn strangers(
    client: &Client,
    namespace: &str,
    services: &[String],
    is_own: impl Fn(&str, &ObjectReference) -> bool,
) -> kube::Result<BTreeMap<String, String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let wanted = ListParams::default().labels(&format!("{SERVICE} in ({})", services.join(",")));
    let found = slices.list(&wanted).await?;
    let behind = |slice: &EndpointSlice| {
        let service = slice.labels().get(SERVICE)?;
        Some((service.clone(), stranger(slice, |pod| is_own(service, pod))?))
    };
    Ok(found.iter().filter_map(behind).collect())
}

fn stranger(slice: &EndpointSlice, is_own: impl Fn(&ObjectReference) -> bool) -> Option<String> {
    let gets_requests = |it: &&Endpoint| it.conditions.as_ref().and_then(|it| it.ready) != Some(false);
    let own = |it: &Endpoint| it.target_ref.as_ref().is_some_and(&is_own);
    let found = slice.endpoints.iter().filter(gets_requests).find(|it| !own(it))?;
    let who = match &found.target_ref {
        Some(target) => format!(
            "{} {} ({})",
            target.kind.as_deref().unwrap_or("object"),
            target.name.as_deref().unwrap_or_default(),
            found.addresses.join(", ")
        ),
        None => found.addresses.join(", "),
    };
    Some(format!(
        "EndpointSlice {} leads requests to {who}, which is no pod of the operator's; delete that pod, or that EndpointSlice",
        slice.name_any()
    ))
}

/// A pod that a Deployment made, of a stack and a component. One that a person made has the labels too, if it is
/// to be served; it has no `ReplicaSet`.
#[must_use]
pub fn is_of(pod: &Pod, stack: &str, component: &str) -> bool {
    let label = |key: &str| pod.labels().get(key).map(String::as_str);
    let made = pod.meta().owner_references.iter().flatten();
    label(labels::STACK) == Some(stack)
        && label(labels::COMPONENT) == Some(component)
        && made.filter(|owner| owner.controller == Some(true)).any(|owner| owner.kind == "ReplicaSet")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn slice(endpoints: &Value) -> EndpointSlice {
        let slice = json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": endpoints});
        serde_json::from_value(slice).expect("a slice")
    }

    fn pod(uid: &str, more: &Value) -> Value {
        let target = json!({"kind": "Pod", "name": format!("pod-{uid}"), "uid": uid});
        let mut endpoint = json!({"addresses": ["10.0.0.1"], "targetRef": target});
        for (field, value) in more.as_object().into_iter().flatten() {
            endpoint[field] = value.clone();
        }
        endpoint
    }

    #[rstest]
    #[case::nobody(json!([]), None)]
    #[case::none_at_all(json!(null), None)]
    #[case::ours(json!([pod("ours", &json!({}))]), None)]
    #[case::somebody_elses(json!([pod("ours", &json!({})), pod("x", &json!({}))]), Some("Pod pod-x (10.0.0.1)"))]
    #[case::that_is_not_ready(json!([pod("x", &json!({"conditions": {"ready": false}}))]), None)]
    #[case::that_is_ready(json!([pod("x", &json!({"conditions": {"ready": true}}))]), Some("pod-x"))]
    #[case::by_hand(json!([{"addresses": ["192.0.2.1"]}]), Some("requests to 192.0.2.1, which"))]
    fn who_gets_requests(#[case] endpoints: Value, #[case] told: Option<&str>) {
        let found = stranger(&slice(&endpoints), |pod| pod.uid.as_deref() == Some("ours"));
        assert_eq!(found.is_some(), told.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(told.unwrap_or_default()));
    }

    #[rstest]
    #[case::of_a_deployment("dashboard", Some("ReplicaSet"), true)]
    #[case::of_another_component("ai-service", Some("ReplicaSet"), false)]
    #[case::of_a_job("dashboard", Some("Job"), false)]
    #[case::made_by_hand("dashboard", None, false)]
    fn whose_pod_it_is(#[case] component: &str, #[case] owner: Option<&str>, #[case] own: bool) {
        let owner =
            owner.map(|kind| json!({"apiVersion": "v1", "kind": kind, "name": "x", "uid": "x", "controller": true}));
        let labels = json!({labels::STACK: "a", labels::COMPONENT: component});
        let metadata = json!({"name": "p", "labels": labels, "ownerReferences": owner.map(|it| [it])});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
        assert_eq!(is_of(&pod, "a", "dashboard"), own);
        assert!(!is_of(&pod, "b", "dashboard"));
    }
}
