//! Who may talk to whom: the policies of the local sample, read as Kubernetes reads them.

mod sim;

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use odoo_ai_operator::labels;
use rstest::rstest;
use sim::{STACK, World};

/// A pod, or something that is none.
struct Party {
    namespace: &'static str,
    labels: BTreeMap<String, String>,
}

fn party(name: &str) -> Party {
    let labelled = |namespace, pairs: &[(&str, &str)]| Party {
        namespace,
        labels: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    match name {
        "operator" => labelled(
            "odoo-ai-system",
            &[("app.kubernetes.io/component", "operator"), ("app.kubernetes.io/part-of", "odoo-ai-platform")],
        ),
        "neighbour of the operator" => labelled("odoo-ai-system", &[]),
        "prometheus" => labelled("monitoring", &[]),
        "traefik" => labelled("kube-system", &[("app.kubernetes.io/name", "traefik")]),
        "neighbour" => labelled("odoo-ai", &[("app.kubernetes.io/component", "worker")]),
        "migrate" | "check" => {
            let mut labels = labels::child(STACK, name);
            labels.insert("batch.kubernetes.io/job-name".to_owned(), "x".to_owned());
            Party { namespace: "odoo-ai", labels }
        }
        "other" => Party { namespace: "odoo-ai", labels: labels::child("other", "worker") },
        "internet" => labelled("", &[]),
        component => Party { namespace: "odoo-ai", labels: labels::child(STACK, component) },
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let meets = selector.match_expressions.iter().flatten().all(|expression| {
        let (value, values) = (labels.get(&expression.key), expression.values.as_deref().unwrap_or_default());
        match expression.operator.as_str() {
            "Exists" => value.is_some(),
            "NotIn" => value.is_none_or(|value| !values.contains(value)),
            other => panic!("operator {other}"),
        }
    });
    equal && meets
}

/// A peer without a namespace is of the policy's own.
fn is_peer(peer: &NetworkPolicyPeer, party: &Party) -> bool {
    let name = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), party.namespace.to_owned())]);
    let namespace = peer.namespace_selector.as_ref().map_or(party.namespace == "odoo-ai", |it| selects(it, &name));
    assert!(peer.ip_block.is_none());
    namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &party.labels))
}

fn rule(
    peers: Option<&Vec<NetworkPolicyPeer>>,
    ports: Option<&Vec<NetworkPolicyPort>>,
    party: &Party,
    way: &(i32, &str),
) -> bool {
    let port =
        |it: &NetworkPolicyPort| it.port == Some(IntOrString::Int(way.0)) && it.protocol.as_deref() == Some(way.1);
    peers.is_none_or(|peers| peers.iter().any(|peer| is_peer(peer, party)))
        && ports.is_none_or(|ports| ports.iter().any(port))
}

/// A pod that no policy selects for a direction is open; one that is selected is open where any rule says so.
fn allowed(policies: &[NetworkPolicy], from: &Party, to: &Party, way: &(i32, &str)) -> bool {
    let of = |party: &Party, direction: &str| -> Vec<_> {
        let specs = policies.iter().filter_map(|policy| policy.spec.as_ref());
        let types = |types: Option<&Vec<String>>| types.is_some_and(|all| all.iter().any(|it| it == direction));
        specs
            .filter(|spec| party.namespace == "odoo-ai" && types(spec.policy_types.as_ref()))
            .filter(|spec| spec.pod_selector.as_ref().is_some_and(|it| selects(it, &party.labels)))
            .collect()
    };
    let (ingress, egress) = (of(to, "Ingress"), of(from, "Egress"));
    let in_rules = ingress.iter().flat_map(|spec| spec.ingress.iter().flatten());
    let out_rules = egress.iter().flat_map(|spec| spec.egress.iter().flatten());
    let comes_in =
        ingress.is_empty() || in_rules.into_iter().any(|it| rule(it.from.as_ref(), it.ports.as_ref(), from, way));
    let goes_out =
        egress.is_empty() || out_rules.into_iter().any(|it| rule(it.to.as_ref(), it.ports.as_ref(), to, way));
    comes_in && goes_out
}

fn policies(metrics_namespaces: &[&str]) -> Vec<NetworkPolicy> {
    let mut world = World::new();
    let network = world.operator.network.as_mut().expect("policies are on");
    network.metrics_namespaces = metrics_namespaces.iter().map(|name| (*name).to_owned()).collect();
    world.run_to_the_end();
    let found = world.objects.iter().filter(|(key, _)| key.kind == "NetworkPolicy");
    found.map(|(_, object)| serde_json::from_value(object.clone()).expect("a policy")).collect()
}

/// To, port, and who may come; everybody else may not.
#[rstest]
#[case("postgresql", 5432, &["ai-service", "worker", "migrate"])]
#[case("redis", 6379, &["ai-service", "worker", "beat", "migrate"])]
#[case("ai-service", 8000, &["ai-service", "worker", "migrate", "check", "operator", "neighbour of the operator", "prometheus", "traefik", "neighbour", "other", "internet"])]
#[case("ai-service", 9180, &["operator", "prometheus"])]
#[case("dashboard", 3000, &["ai-service", "worker", "migrate", "check", "operator", "neighbour of the operator", "prometheus", "traefik", "neighbour", "other", "internet"])]
#[case("dashboard", 8000, &[])]
#[case("worker", 8000, &[])]
#[case("beat", 8000, &[])]
#[case("migrate", 8000, &[])]
#[case("check", 8000, &[])]
#[case("postgresql", 22, &[])]
fn who_may_come_in(#[case] to: &str, #[case] port: i32, #[case] who: &[&str]) {
    let policies = policies(&["monitoring"]);
    let everybody = [
        "ai-service",
        "worker",
        "beat",
        "dashboard",
        "postgresql",
        "redis",
        "migrate",
        "check",
        "operator",
        "neighbour of the operator",
        "prometheus",
        "traefik",
        "neighbour",
        "other",
        "internet",
    ];
    let may: Vec<_> =
        everybody.into_iter().filter(|from| allowed(&policies, &party(from), &party(to), &(port, "TCP"))).collect();
    assert_eq!(may, who, "to {to}:{port}");
}

#[rstest]
#[case::ai_service("ai-service", 443, true)]
#[case::worker("worker", 587, true)]
#[case::migrate("migrate", 443, true)]
#[case::check("check", 443, true)]
#[case::beat("beat", 443, false)]
#[case::dashboard("dashboard", 443, false)]
#[case::database("postgresql", 443, false)]
#[case::redis("redis", 443, false)]
#[case::names_of_beat("beat", 53, true)]
#[case::names_of_dashboard("dashboard", 53, true)]
#[case::names_of_database("postgresql", 53, false)]
fn who_may_go_out(#[case] from: &str, #[case] port: i32, #[case] may: bool) {
    let way = (port, if port == 53 { "UDP" } else { "TCP" });
    assert_eq!(allowed(&policies(&[]), &party(from), &party("internet"), &way), may);
}

#[test]
fn metrics_are_collected_from_nowhere_by_default() {
    assert!(!allowed(&policies(&[]), &party("prometheus"), &party("ai-service"), &(9180, "TCP")));
}

#[test]
fn policies_that_are_switched_off_go() {
    let mut world = World::new();
    world.run_to_the_end();
    assert!(world.has("NetworkPolicy", "pods"));
    world.operator.network = None;
    world.settle();
    assert!(world.objects.keys().all(|key| key.kind != "NetworkPolicy"));
}
