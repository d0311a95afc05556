//! Routes from outside: Traefik's own kinds, or standard Ingresses. A Middleware comes before the route that names it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use odoo_ai_crds::stack::IngressController;

use super::{API_PORT, CLOSED_PORT, DASHBOARD_PORT, meta};
use crate::cluster::intent::{Intent, hash};
use crate::cluster::traefik::{
    Headers, IngressRoute, IngressRouteSpec, IpAllowList, Middleware, MiddlewareRef, MiddlewareSpec, RedirectScheme,
    Route, RouteTls, Target,
};
use crate::component::{Component, ComponentExt};
use crate::labels;
use crate::routes::model::{Certificate, Routes};
use crate::routes::probe::Question;
use crate::routes::standing::{Made, Standing};
use crate::stack::model::Stack;

/// Header of every answer that went through a route of ours; its value is [`mark`].
pub const MARK: &str = "X-Odoo-Ai-Stack";
/// Traefik's entry points, as k3s and its own chart name them.
const WEB: &str = "web";
const WEBSECURE: &str = "websecure";
/// Component label of what belongs to no component.
const ROUTES: &str = "routes";
/// Suffix of the Service behind which nobody listens.
const CLOSED: &str = "closed";
/// Of `/api/slack/interactions`, whatever of it is percent-encoded: the application decodes it before it looks, and
/// Traefik leaves an encoded slash as it is.
const SLACK: &str = "(?i)^/api(/|%2f)+slack(/|%2f)+interactions";

/// What tells the routes of this stack from those of others. No secret, and no name that a stranger need know.
#[must_use]
pub fn mark(stack: &Stack) -> String {
    format!("{:.16}", hash(&stack.owner.uid.clone().into()))
}

/// The routes.
#[must_use]
pub fn routes(stack: &Stack, routes: &Routes, made: &Made) -> Vec<Intent> {
    let context = Context { stack, routes, made };
    match made.controller {
        IngressController::Traefik => context.traefik(),
        IngressController::Ingress => context.standard(),
    }
}

/// What is asked to see whether they answer: of each host its HTTPS, and its HTTP. `ready`: a component has a ready pod.
#[must_use]
pub fn questions(stack: &Stack, standing: &Standing, ready: impl Fn(Component) -> bool) -> Vec<Question> {
    let (Some(made), Some(routes)) = (&standing.made, &stack.routes) else { return Vec::new() };
    let mark = (made.controller == IngressController::Traefik).then(|| mark(stack));
    // Cheap, and it touches nothing.
    let hosts = [(&made.api, Component::AiService, "/openapi.json"), (&made.dashboard, Component::Dashboard, "/")];
    let hosts = hosts.into_iter().filter_map(|(host, component, path)| Some((host.as_ref()?, component, path)));
    hosts
        .flat_map(|(host, component, path)| {
            let ready = ready(component);
            let of = |https: bool| {
                let redirect = !https && routes.redirect && mark.is_some();
                Question { host: host.clone(), component, ready, https, path, mark: mark.clone(), redirect }
            };
            routes.certificate.iter().map(|_| true).chain([false]).map(of).collect::<Vec<_>>()
        })
        .collect()
}

struct Context<'a> {
    stack: &'a Stack,
    routes: &'a Routes,
    made: &'a Made,
}

impl Context<'_> {
    /// Host, component and port of each route.
    fn parts(&self) -> impl Iterator<Item = (&str, Component, i32)> {
        let api = self.made.api.as_deref().map(|host| (host, Component::AiService, API_PORT));
        let dashboard = self.made.dashboard.as_deref().map(|host| (host, Component::Dashboard, DASHBOARD_PORT));
        api.into_iter().chain(dashboard)
    }

    fn traefik(&self) -> Vec<Intent> {
        let mut intents = Vec::new();
        if self.parts().next().is_none() {
            return intents;
        }
        let headers = Headers { custom_response_headers: [(MARK.to_owned(), mark(self.stack))].into() };
        let marked = self.middleware("mark", MiddlewareSpec { headers: Some(headers), ..MiddlewareSpec::default() });
        let source_range = self.routes.allow_list.clone();
        let allowed = (!source_range.is_empty()).then(|| {
            let list = IpAllowList { source_range };
            self.middleware("ip-allow-list", MiddlewareSpec { ip_allow_list: Some(list), ..MiddlewareSpec::default() })
        });
        let limited = self.routes.rate_limit.map(|limit| {
            self.middleware("rate-limit", MiddlewareSpec { rate_limit: Some(limit), ..MiddlewareSpec::default() })
        });
        let redirected = self.routes.redirect.then(|| {
            let https = RedirectScheme { scheme: "https".to_owned(), permanent: true };
            let spec = MiddlewareSpec { redirect_scheme: Some(https), ..MiddlewareSpec::default() };
            self.middleware("redirect-https", spec)
        });
        let names = |last: &Option<Intent>| {
            let all = [Some(&marked), allowed.as_ref(), last.as_ref()].into_iter().flatten();
            all.map(|intent| MiddlewareRef { name: intent.name.clone() }).collect::<Vec<_>>()
        };
        let tls = self.routes.certificate.clone().map(|certificate| match certificate {
            Certificate::Resolver(name) => RouteTls { cert_resolver: Some(name), secret_name: None },
            Certificate::Secret(name) => RouteTls { cert_resolver: None, secret_name: Some(name) },
        });
        let (served, sent_on) = (names(&limited), names(&redirected));
        for (host, component, port) in self.parts() {
            let plain = if self.routes.redirect { &sent_on } else { &served };
            intents.push(self.ingress_route(host, component, port, WEB, plain, None));
            if tls.is_some() {
                intents.push(self.ingress_route(host, component, port, WEBSECURE, &served, tls.clone()));
            }
        }
        [Some(marked), allowed, limited, redirected].into_iter().flatten().chain(intents).collect()
    }

    fn middleware(&self, suffix: &str, spec: MiddlewareSpec) -> Intent {
        Intent::apply(&Middleware { metadata: meta::owned(self.stack, ROUTES, suffix), spec })
    }

    fn ingress_route(
        &self,
        host: &str,
        component: Component,
        port: i32,
        entry_point: &str,
        middlewares: &[MiddlewareRef],
        tls: Option<RouteTls>,
    ) -> Intent {
        let closed = component == Component::AiService && !self.made.slack;
        let but = if closed { format!(" && !PathRegexp(`{SLACK}`)") } else { String::new() };
        let route = Route {
            kind: "Rule".to_owned(),
            rule: format!("Host(`{host}`){but}"),
            middlewares: middlewares.to_vec(),
            services: vec![Target { name: self.stack.child(component.name()), port, pass_host_header: true }],
        };
        let suffix = format!("{}-{entry_point}", component.name());
        Intent::apply(&IngressRoute {
            metadata: meta::owned(self.stack, component.name(), &suffix),
            spec: IngressRouteSpec { entry_points: vec![entry_point.to_owned()], routes: vec![route], tls },
        })
    }

    fn standard(&self) -> Vec<Intent> {
        let closed = self.made.api.is_some() && !self.made.slack;
        let closed = closed.then(|| self.closed());
        let ingresses = self.parts().map(|(host, component, port)| self.ingress(host, component, port));
        closed.into_iter().chain(ingresses).collect()
    }

    fn ingress(&self, host: &str, component: Component, port: i32) -> Intent {
        let path = |path: &str, kind: &str, service: String, port: i32| HTTPIngressPath {
            path: Some(path.to_owned()),
            path_type: kind.to_owned(),
            backend: IngressBackend {
                service: Some(IngressServiceBackend {
                    name: service,
                    port: Some(ServiceBackendPort { number: Some(port), name: None }),
                }),
                resource: None,
            },
        };
        let mut paths = Vec::new();
        if component == Component::AiService && !self.made.slack {
            let closed = |way: &str, kind| path(way, kind, self.stack.child(CLOSED), CLOSED_PORT);
            paths.push(closed("/api/slack/interactions", "Prefix"));
            paths.extend(encoded().iter().map(|way| closed(way, "ImplementationSpecific")));
        }
        paths.push(path("/", "Prefix", self.stack.child(component.name()), port));
        let tls = self.routes.certificate.as_ref().and_then(|certificate| match certificate {
            Certificate::Secret(name) => {
                Some(vec![IngressTLS { hosts: Some(vec![host.to_owned()]), secret_name: Some(name.clone()) }])
            }
            Certificate::Resolver(_) => None,
        });
        Intent::apply(&Ingress {
            metadata: meta::owned(self.stack, component.name(), component.name()),
            spec: Some(IngressSpec {
                ingress_class_name: self.routes.class.clone(),
                rules: Some(vec![IngressRule {
                    host: Some(host.to_owned()),
                    http: Some(HTTPIngressRuleValue { paths }),
                }]),
                tls,
                ..IngressSpec::default()
            }),
            status: None,
        })
    }

    /// An Ingress can't refuse a path, so it leads to a port of the same pods where nobody listens: a backend without
    /// endpoints would make some controllers forget the path, and so open it.
    fn closed(&self) -> Intent {
        let selector: BTreeMap<_, _> = labels::selector(&self.stack.name, Component::AiService.name());
        Intent::apply(&Service {
            metadata: meta::owned(self.stack, ROUTES, CLOSED),
            spec: Some(ServiceSpec {
                selector: Some(selector),
                ports: Some(vec![ServicePort {
                    name: Some(CLOSED.to_owned()),
                    port: CLOSED_PORT,
                    protocol: Some("TCP".to_owned()),
                    target_port: Some(IntOrString::Int(CLOSED_PORT)),
                    ..ServicePort::default()
                }]),
                type_: Some("ClusterIP".to_owned()),
                ..ServiceSpec::default()
            }),
            status: None,
        })
    }
}

/// The path of Slack with its inner slashes encoded, one or both.
fn encoded() -> Vec<String> {
    let slashes = ["/", "%2F", "%2f"];
    let both = slashes.iter().flat_map(|first| slashes.iter().map(move |second| (*first, *second)));
    let all = both.filter(|both| *both != ("/", "/"));
    all.map(|(first, second)| format!("/api{first}slack{second}interactions")).collect()
}
