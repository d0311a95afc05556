//! The client of the API server, which counts what it asks.

use http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::MapRequestLayer;

use crate::metrics::{Asked, Metrics};

/// A client that counts its requests in `metrics`.
///
/// # Errors
/// The configuration is of no use.
pub fn connect(config: Config, metrics: &Metrics) -> kube::Result<Client> {
    let requests = metrics.requests.clone();
    let count = MapRequestLayer::new(move |request: Request<Body>| {
        let uri = request.uri();
        if let Some(Sent { verb, resource, .. }) =
            Sent::of(request.method(), uri.path(), uri.query().unwrap_or_default())
        {
            requests.get_or_create(&Asked { verb, resource }).inc();
        }
        request
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&count).build())
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// The verb as RBAC knows it.
    pub verb: &'static str,
    /// API group, empty for the core one.
    pub group: String,
    /// Plural and subresource, like `deployments` or `odooaistacks/status`.
    pub resource: String,
    /// Name of the object, empty where there is none.
    pub name: String,
}

impl Sent {
    /// `None` for what is about no object: discovery, versions.
    #[must_use]
    pub fn of(method: &Method, path: &str, query: &str) -> Option<Self> {
        let mut parts = path.trim_start_matches('/').split('/');
        let group = match parts.next()? {
            "api" => String::new(),
            "apis" => parts.next()?.to_owned(),
            _ => return None,
        };
        let _version = parts.next()?;
        let mut rest: Vec<_> = parts.collect();
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            rest.drain(..2);
        }
        let name = rest.get(1).copied().unwrap_or_default();
        let resource = rest.first()?;
        let verb = match *method {
            Method::GET if query.contains("watch=") => "watch",
            Method::GET if name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            _ => "delete",
        };
        let resource = rest.get(2).map_or_else(|| (*resource).to_owned(), |sub| format!("{resource}/{sub}"));
        Some(Self { verb, group, resource, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GET", "/api/v1/namespaces/a/pods", "", "list  pods ")]
    #[case("GET", "/api/v1/pods", "watch=true", "watch  pods ")]
    #[case("PATCH", "/apis/apps/v1/namespaces/a/deployments/b", "", "patch apps deployments b")]
    #[case("PUT", "/apis/g/v1/namespaces/a/stacks/b/status", "", "update g stacks/status b")]
    #[case("GET", "/api/v1/namespaces/a", "", "get  namespaces a")]
    #[case("GET", "/version", "", "")]
    fn what_is_asked(#[case] method: Method, #[case] path: &str, #[case] query: &str, #[case] told: &str) {
        let found = Sent::of(&method, path, query);
        let words = found.map(|it| format!("{} {} {} {}", it.verb, it.group, it.resource, it.name));
        assert_eq!(words.unwrap_or_default(), told);
    }
}
