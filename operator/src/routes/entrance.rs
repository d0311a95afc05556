//! How requests come to Traefik: whether it sees whom they are from, which an allow list goes by.

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use crate::cluster::remembered::Remembered;

/// Traefik's Service.
#[derive(Debug, Default)]
pub struct Entrance {
    /// Namespace and name; `None`: nobody may read it, or it is none of this cluster's.
    service: Option<(String, String)>,
    known: Remembered<Option<String>>,
}

impl Entrance {
    /// The Service with this name in the cluster's DNS. `may_read`: the chart gave the right to.
    #[must_use]
    pub fn at(host: &str, may_read: bool) -> Self {
        let parts: Vec<_> = host.split('.').collect();
        let service = match parts[..] {
            [name, namespace, "svc", ..] if may_read => Some((namespace.to_owned(), name.to_owned())),
            _ => None,
        };
        Self { service, known: Remembered::default() }
    }

    /// What hides the addresses of clients, in words, as of some minutes ago; `None`: nothing, as far as is known.
    pub async fn hides_clients(&self, client: &Client) -> Option<String> {
        let (namespace, name) = self.service.as_ref()?;
        let read = async { Ok(hides(&Api::namespaced(client.clone(), namespace).get(name).await?)) };
        let why = self.known.get("Traefik's Service", read).await?;
        Some(format!("Service {namespace}/{name} {why}"))
    }
}

/// A node that takes a request for another's pod puts its own address in. What comes by a port of the host, or from
/// within the cluster, doesn't pass the Service.
fn hides(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    let outside = matches!(spec.type_.as_deref(), Some("LoadBalancer" | "NodePort"));
    let policy = spec.external_traffic_policy.as_deref().unwrap_or("Cluster");
    (outside && policy != "Local").then(|| {
        format!(
            "has externalTrafficPolicy {policy}: Traefik may see a node's address instead of the client's, and ingress.ipAllowList then lets in everybody or nobody; set it to Local"
        )
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::as_k3s_has_it(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}), true)]
    #[case::by_default(json!({"type": "NodePort"}), true)]
    #[case::local(json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}), false)]
    #[case::inside(json!({"type": "ClusterIP"}), false)]
    fn what_hides_clients(#[case] spec: Value, #[case] hidden: bool) {
        let service: Service = serde_json::from_value(json!({"spec": spec})).expect("a Service");
        assert_eq!(hides(&service).is_some(), hidden);
    }

    #[rstest]
    #[case("traefik.kube-system.svc", true, Some(("kube-system", "traefik")))]
    #[case("traefik.kube-system.svc.cluster.local", true, Some(("kube-system", "traefik")))]
    #[case("traefik.kube-system.svc", false, None)]
    #[case("192.0.2.1", true, None)]
    fn whose_name_it_is(#[case] host: &str, #[case] may_read: bool, #[case] service: Option<(&str, &str)>) {
        let found = Entrance::at(host, may_read).service;
        assert_eq!(found.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str())), service);
    }
}
