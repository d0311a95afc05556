//! Arguments; each can be given by the environment, as the chart does.

use std::net::SocketAddr;

use clap::{ArgAction, Parser};

use crate::cluster::cache::Scope;
use crate::stack::model::{Network, Operator};

/// Kubernetes operator for the Odoo AI Platform.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// Namespaces to watch, comma separated; empty: the whole cluster.
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace of the operator, where its Lease is.
    #[arg(long, env = "OPERATOR_NAMESPACE", default_value = "default")]
    pub operator_namespace: String,
    /// Name of this pod: the holder of the Lease and the reporter of Events.
    #[arg(long, env = "POD_NAME", default_value = "odoo-ai-operator")]
    pub pod_name: String,
    /// Image of this operator; its agent is copied into the application's pods.
    #[arg(long, env = "OPERATOR_IMAGE")]
    pub operator_image: String,
    /// Make `NetworkPolicies` for the stacks' pods.
    #[arg(long, env = "NETWORK_POLICIES", default_value_t = true, action = ArgAction::Set)]
    pub network_policies: bool,
    /// Namespaces whose pods may collect metrics from the agents, comma separated.
    #[arg(long, env = "METRICS_NAMESPACES", value_delimiter = ',')]
    pub metrics_namespaces: Vec<String>,
    /// The chart's admission policy is there: it proves that `approved-by` is who sent it.
    #[arg(long, env = "APPROVERS_VERIFIED", default_value_t = false, action = ArgAction::Set)]
    pub approvers_verified: bool,
    /// For tests: as if this version of the operator made other pod templates than the one before.
    #[arg(long, env = "ODOOAI_TEMPLATE_ANNOTATION", hide = true)]
    pub template_annotation: Option<String>,
    /// Tell in the history whether its images are on a node; the chart gives the right to list nodes.
    #[arg(long, env = "NODE_IMAGES", default_value_t = false, action = ArgAction::Set)]
    pub node_images: bool,
    /// Traefik.
    #[command(flatten)]
    pub traefik: TraefikArgs,
    /// Address of health endpoints and metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Log filter in the syntax of `tracing`, like `info,kube=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
}

/// Where Traefik is.
#[derive(Clone, Debug, clap::Args)]
pub struct TraefikArgs {
    /// Host of Traefik's Service in the cluster: there it is asked whether routes answer.
    #[arg(long = "traefik-host", env = "TRAEFIK_HOST", default_value = "traefik.kube-system.svc")]
    pub host: String,
    /// Look whether that Service hides the addresses of clients; the chart gives the right to read it.
    #[arg(long = "traefik-read-service", env = "TRAEFIK_READ_SERVICE", default_value_t = false, action = ArgAction::Set)]
    pub read_service: bool,
    /// Port of that Service for HTTP.
    #[arg(long = "traefik-http-port", env = "TRAEFIK_HTTP_PORT", default_value_t = 80)]
    pub http_port: u16,
    /// Port of that Service for HTTPS.
    #[arg(long = "traefik-https-port", env = "TRAEFIK_HTTPS_PORT", default_value_t = 443)]
    pub https_port: u16,
}

impl Args {
    /// What is watched.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let namespaces = names(&self.watch_namespaces);
        if namespaces.is_empty() {
            return vec![Scope::Cluster];
        }
        namespaces.into_iter().map(Scope::Namespace).collect()
    }

    /// What children must know of this operator.
    #[must_use]
    pub fn operator(&self) -> Operator {
        let network = Network {
            operator_namespace: self.operator_namespace.clone(),
            metrics_namespaces: names(&self.metrics_namespaces),
        };
        Operator {
            image: self.operator_image.clone(),
            network: self.network_policies.then_some(network),
            approvers_verified: self.approvers_verified,
            template_annotation: self.template_annotation.clone(),
        }
    }
}

/// Each name once, in order; an empty variable is no name.
fn names(given: &[String]) -> Vec<String> {
    let mut names: Vec<_> = given.iter().filter(|name| !name.is_empty()).cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_namespace_is_the_cluster_and_a_name_counts_once() {
        let parse = |namespaces: &str| {
            Args::parse_from(["operator", "--operator-image", "x", "--watch-namespaces", namespaces]).scopes()
        };
        assert_eq!(parse(""), vec![Scope::Cluster]);
        assert_eq!(parse("b,a,b"), vec![Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
    }

    #[test]
    fn policies_are_made_unless_they_are_switched_off() {
        let parse = |more: &[&str]| {
            Args::parse_from(["operator", "--operator-image", "x"].iter().chain(more)).operator().network
        };
        assert_eq!(parse(&["--metrics-namespaces", ""]).expect("policies").metrics_namespaces, Vec::<String>::new());
        let namespaces = parse(&["--metrics-namespaces", "b,a"]).expect("policies").metrics_namespaces;
        assert_eq!(namespaces, ["a", "b"]);
        assert_eq!(parse(&["--network-policies", "false"]), None);
    }
}
