//! Who may talk to whom: `NetworkPolicies` of a stack's pods. Kubernetes lets the kubelet's probes
//! pass in any case, and enforces nothing where the network plugin doesn't.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{AGENT_PORT, API_PORT, CLOSED_PORT, DASHBOARD_PORT, DATABASE_PORT, REDIS_PORT, check, meta};
use crate::cluster::intent::Intent;
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::stack::model::{Network, Stack};

/// Suffix of the policy for all pods.
pub const ALL_PODS: &str = "pods";
/// Label of a namespace with its own name.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Label that the Job controller puts on the pods of every Job.
const JOB: &str = "batch.kubernetes.io/job-name";
/// Component label of the operator's own pods.
const OPERATOR: &str = "operator";

type Ingress = Vec<NetworkPolicyIngressRule>;
/// `None`: to anywhere.
type Egress = Option<Vec<NetworkPolicyEgressRule>>;

/// The policies; none where the operator was told to make none. The one that closes all pods comes
/// last: what is needed is open by then. `refuses`: a proxy may reach the port of ai-service where nobody listens, which
/// refuses at once what would otherwise hang.
#[must_use]
pub fn policies(stack: &Stack, refuses: bool) -> Vec<Intent> {
    let Some(network) = &stack.network else { return Vec::new() };
    let data = |users: &[Component], port| vec![ingress(Some(users_of_data(stack, users)), &[port])];
    let database = data(&[Component::AiService, Component::Worker], DATABASE_PORT);
    let redis = data(&[Component::AiService, Component::Worker, Component::Beat], REDIS_PORT);
    // A route's proxy may be any pod, or a process of the node: the API asks for its key itself.
    let from_anywhere: &[i32] = if refuses { &[API_PORT, CLOSED_PORT] } else { &[API_PORT] };
    let api = vec![ingress(None, from_anywhere), ingress(Some(readers_of_agents(network)), &[AGENT_PORT])];
    // Where somebody else's Redis is, only its URL says, which is a secret.
    let to_redis = stack
        .redis
        .managed()
        .map(|_| vec![egress(Some(vec![pods(stack, Component::Redis)]), &[("TCP", REDIS_PORT)]), dns()]);
    let of = |component: Component, ingress, egress| {
        let selected = labels::selector(&stack.name, component.name());
        policy(stack, component.name(), component.name(), selected, ingress, egress)
    };
    let servers = [
        stack.database.managed().map(|_| of(Component::Database, database, Some(Vec::new()))),
        stack.redis.managed().map(|_| of(Component::Redis, redis, Some(Vec::new()))),
    ];
    let application = [
        of(Component::AiService, api, None),
        of(Component::Beat, Vec::new(), to_redis),
        of(Component::Dashboard, vec![ingress(None, &[DASHBOARD_PORT])], Some(vec![dns()])),
        policy(stack, "stack", ALL_PODS, labels::stack(&stack.name), Vec::new(), None),
    ];
    servers.into_iter().flatten().chain(application).collect()
}

/// Components, and the Jobs of the stack but for its checks, which are the user's own.
fn users_of_data(stack: &Stack, users: &[Component]) -> Vec<NetworkPolicyPeer> {
    let jobs = LabelSelector {
        match_labels: Some(labels::stack(&stack.name)),
        match_expressions: Some(vec![
            requirement(JOB, "Exists", None),
            requirement(labels::COMPONENT, "NotIn", Some(vec![check::COMPONENT.to_owned()])),
        ]),
    };
    users.iter().map(|component| pods(stack, *component)).chain([peer(None, Some(jobs))]).collect()
}

fn requirement(key: &str, operator: &str, values: Option<Vec<String>>) -> LabelSelectorRequirement {
    LabelSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values }
}

/// The operator, and what collects metrics.
fn readers_of_agents(network: &Network) -> Vec<NetworkPolicyPeer> {
    // Not its name, which is a value of the chart.
    let operator = BTreeMap::from([
        (labels::COMPONENT.to_owned(), OPERATOR.to_owned()),
        (labels::PART_OF.to_owned(), labels::PLATFORM.to_owned()),
    ]);
    let operator = peer(Some(&network.operator_namespace), Some(matching(operator)));
    let collectors = network.metrics_namespaces.iter().map(|namespace| peer(Some(namespace), None));
    std::iter::once(operator).chain(collectors).collect()
}

/// Pods of a component.
#[must_use]
pub fn pods(stack: &Stack, component: Component) -> NetworkPolicyPeer {
    peer(None, Some(meta::selector(stack, component.name())))
}

fn peer(namespace: Option<&str>, pods: Option<LabelSelector>) -> NetworkPolicyPeer {
    let named = |namespace: &str| matching([(NAMESPACE.to_owned(), namespace.to_owned())].into());
    NetworkPolicyPeer { namespace_selector: namespace.map(named), pod_selector: pods, ip_block: None }
}

fn matching(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

/// `from`: `None` is anywhere, outside the cluster included.
fn ingress(from: Option<Vec<NetworkPolicyPeer>>, tcp: &[i32]) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule { from, ports: Some(tcp.iter().map(|number| port("TCP", *number)).collect()) }
}

/// `to`: `None` is anywhere.
#[must_use]
pub fn egress(to: Option<Vec<NetworkPolicyPeer>>, ports: &[(&str, i32)]) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to,
        ports: Some(ports.iter().map(|(protocol, number)| port(protocol, *number)).collect()),
    }
}

/// Anywhere: a cache of the node is no pod that could be selected. Policies see the port of the pod
/// that answers, and in `OpenShift` that is 5353.
#[must_use]
pub fn dns() -> NetworkPolicyEgressRule {
    egress(None, &[("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)])
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort { port: Some(IntOrString::Int(number)), protocol: Some(protocol.to_owned()), end_port: None }
}

fn policy(
    stack: &Stack,
    component: &str,
    suffix: &str,
    selected: BTreeMap<String, String>,
    ingress: Ingress,
    egress: Egress,
) -> Intent {
    let types = if egress.is_some() { vec!["Ingress", "Egress"] } else { vec!["Ingress"] };
    Intent::apply(&NetworkPolicy {
        metadata: meta::owned(stack, component, suffix),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(matching(selected)),
            policy_types: Some(types.into_iter().map(str::to_owned).collect()),
            ingress: Some(ingress),
            egress,
        }),
    })
}
