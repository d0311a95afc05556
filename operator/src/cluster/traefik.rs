//! The slice of Traefik's kinds that routes need. Its own crates pin other versions of kube.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What a route consists of: `traefik.io/v1alpha1`, `IngressRoute`. It has no status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "traefik.io", version = "v1alpha1", kind = "IngressRoute", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct IngressRouteSpec {
    /// Names of the entry points in Traefik's static configuration.
    pub entry_points: Vec<String>,
    /// The rules.
    pub routes: Vec<Route>,
    /// The certificate; `None`: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouteTls>,
}

/// One rule and where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Always `Rule`.
    pub kind: String,
    /// The rule, in Traefik's language.
    #[serde(rename = "match")]
    pub rule: String,
    /// What a request goes through, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<MiddlewareRef>,
    /// Where it goes.
    pub services: Vec<Target>,
}

/// A Middleware of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiddlewareRef {
    /// Its name.
    pub name: String,
}

/// A Service of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
    /// The application sees the host that the client asked for.
    pub pass_host_header: bool,
}

/// Where a route's certificate comes from; one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTls {
    /// A resolver of Traefik's static configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_resolver: Option<String>,
    /// A Secret of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// What a request goes through: `traefik.io/v1alpha1`, `Middleware`. One of the fields is set.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(group = "traefik.io", version = "v1alpha1", kind = "Middleware", namespaced, schema = "disabled")]
#[serde(rename_all = "camelCase")]
pub struct MiddlewareSpec {
    /// Headers of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// Addresses that may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_allow_list: Option<IpAllowList>,
    /// Limit of requests for each client address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Sends to another scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_scheme: Option<RedirectScheme>,
}

/// Headers of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Headers {
    /// Name → value.
    pub custom_response_headers: std::collections::BTreeMap<String, String>,
}

/// Addresses that may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpAllowList {
    /// Addresses and networks.
    pub source_range: Vec<String>,
}

/// Limit of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests per second on average.
    pub average: i32,
    /// Requests that may come at once.
    pub burst: i32,
}

/// Sends to another scheme.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectScheme {
    /// The scheme.
    pub scheme: String,
    /// By 301, not 302.
    pub permanent: bool,
}
