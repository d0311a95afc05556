//! The parsed `spec.ingress`.

use odoo_ai_crds::stack::{Ingress, IngressController};

use crate::cluster::traefik::RateLimit;

/// Routes from outside, with every default resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Host of the API.
    pub api: Option<String>,
    /// `/api/slack/interactions` was asked to be open.
    pub expose_slack: bool,
    /// Host of the dashboard.
    pub dashboard: Option<String>,
    /// Which kind was asked for; `None`: Traefik's where the cluster has them.
    pub controller: Option<IngressController>,
    /// The `IngressClass`.
    pub class: Option<String>,
    /// Where the certificate comes from; `None`: plain HTTP.
    pub certificate: Option<Certificate>,
    /// HTTP is sent on to HTTPS.
    pub redirect: bool,
    /// Limit of requests for each client address.
    pub rate_limit: Option<RateLimit>,
    /// Addresses that may connect; empty: all.
    pub allow_list: Vec<String>,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// A resolver of Traefik's static configuration.
    Resolver(String),
    /// A Secret of the stack's namespace.
    Secret(String),
}

impl Routes {
    /// Parses what the schema has accepted.
    #[must_use]
    pub fn of(ingress: &Ingress) -> Self {
        let certificate = ingress.tls.as_ref().and_then(|tls| {
            let secret = tls.secret_name.clone().map(Certificate::Secret);
            tls.cert_resolver.clone().map(Certificate::Resolver).or(secret)
        });
        let limit = ingress.rate_limit.as_ref().map(|limit| {
            let average = limit.average_per_second;
            RateLimit { average, burst: limit.burst.unwrap_or_else(|| average.saturating_mul(2)) }
        });
        Self {
            api: ingress.api.as_ref().map(|api| api.host.clone()),
            expose_slack: ingress.api.as_ref().is_some_and(|api| api.expose_slack),
            dashboard: ingress.dashboard.as_ref().map(|dashboard| dashboard.host.clone()),
            controller: ingress.controller,
            class: ingress.ingress_class_name.clone(),
            redirect: ingress.redirect_https.unwrap_or(certificate.is_some()),
            certificate,
            rate_limit: limit,
            allow_list: ingress.ip_allow_list.clone(),
        }
    }

    /// The hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.api.iter().chain(&self.dashboard).map(String::as_str)
    }

    /// The first field that only Traefik's own kinds can express.
    #[must_use]
    pub fn needs_traefik(&self) -> Option<&'static str> {
        let fields = [
            ("ingress.tls.certResolver", matches!(self.certificate, Some(Certificate::Resolver(_)))),
            ("ingress.rateLimit", self.rate_limit.is_some()),
            ("ingress.ipAllowList", !self.allow_list.is_empty()),
        ];
        fields.into_iter().find(|(_, set)| *set).map(|(field, _)| field)
    }

    /// Scheme of the URLs.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.certificate.is_some() { "https" } else { "http" }
    }
}
