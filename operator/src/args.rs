//! Arguments; each can be given by the environment, as the chart does.

use std::net::SocketAddr;

use clap::Parser;

use crate::cluster::cache::Scope;

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
    /// Address of health endpoints and metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Log filter in the syntax of `tracing`, like `info,kube=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log: String,
}

impl Args {
    /// What is watched.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let mut namespaces: Vec<_> = self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().collect();
        namespaces.sort();
        namespaces.dedup();
        if namespaces.is_empty() {
            return vec![Scope::Cluster];
        }
        namespaces.into_iter().map(Scope::Namespace).collect()
    }
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
}
