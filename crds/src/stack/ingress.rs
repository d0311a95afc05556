//! Routes from outside.

use crate::common::{display_as_name, is_unset};
use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which kind of route is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum IngressController {
    /// Traefik's own IngressRoute and Middleware.
    Traefik,
    /// The standard Ingress.
    Ingress,
}

display_as_name!(IngressController);

/// Routes from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("has(self.api) || has(self.dashboard)", "ingress must have api, dashboard or both"),
    validation = (
        "!(has(self.api) && has(self.dashboard)) || self.api.host != self.dashboard.host",
        "ingress.api.host and ingress.dashboard.host must be two different hosts"
    ),
    validation = (
        "!(has(self.redirectHttps) && self.redirectHttps) || has(self.tls)",
        "ingress.redirectHttps must be false when ingress.tls is unset: there would be nothing to redirect to"
    ),
    validation = (
        "!(has(self.controller) && self.controller == 'Ingress') || !has(self.tls) || !has(self.tls.certResolver)",
        "ingress.tls.certResolver must be used only with controller Traefik: with Ingress give tls.secretName"
    ),
    validation = (
        "!has(self.ingressClassName) || (has(self.controller) && self.controller == 'Ingress')",
        "ingress.ingressClassName must be given only with controller Ingress"
    ),
    validation = (
        "!(has(self.controller) && self.controller == 'Ingress') || (!has(self.rateLimit) && !has(self.ipAllowList))",
        "ingress.rateLimit and ingress.ipAllowList must be used only with controller Traefik: the standard Ingress can't express them"
    )
)]
pub struct Ingress {
    /// The API's route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiRoute>,
    /// The dashboard's route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<DashboardRoute>,
    /// Which kind of route is made: Traefik (IngressRoute) or Ingress. Default: Traefik where the cluster serves its
    /// kinds, else Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<IngressController>,
    /// The IngressClass, only with controller Ingress. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub ingress_class_name: Option<String>,
    /// Where the certificates come from. Default: no TLS, for a proxy in front that has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Send HTTP requests to HTTPS. With an Ingress its controller decides that. Default: true when `tls` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_https: Option<bool>,
    /// Limit of requests for each client address. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Addresses and networks that may connect, for example `192.0.2.0/24`. At most 64. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::networks")]
    pub ip_allow_list: Vec<String>,
}

/// The API's route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiRoute {
    /// Host name, for example `odoo-ai-api.example.com`.
    #[schemars(schema_with = "schema::host")]
    pub host: String,
    /// Open `/api/slack/interactions`. The application accepts unsigned approvals there, so it stays closed unless this
    /// is true and SLACK_SIGNING_SECRET is set. Default: false.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub expose_slack: bool,
}

/// The dashboard's route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardRoute {
    /// Host name, for example `odoo-ai.example.com`.
    #[schemars(schema_with = "schema::host")]
    pub host: String,
}

/// Where the certificates come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.certResolver) != has(self.secretName)",
        "ingress.tls must have exactly one of certResolver and secretName"
    )
)]
pub struct Tls {
    /// Name of a certificate resolver in Traefik's static configuration, for example `letsencrypt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub cert_resolver: Option<String>,
    /// Name of a Secret of type kubernetes.io/tls for the hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub secret_name: Option<String>,
}

/// Limit of requests for each client address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests per second on average, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub average_per_second: i32,
    /// Requests that may come at once, 1 to 100000. Default: twice the average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub burst: Option<i32>,
}
