//! A client that writes down what it sends, and what the API server warns of.

use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use odoo_ai_tests::ApiServer;
use tower::util::{MapRequestLayer, MapResponseLayer};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent {
    /// The verb as RBAC knows it.
    pub(crate) verb: &'static str,
    /// API group, empty for the core one.
    pub(crate) group: String,
    /// Plural and subresource, like `deployments` or `odooaistacks/status`.
    pub(crate) resource: String,
    /// Name of the object, empty where there is none.
    pub(crate) name: String,
}

impl Sent {
    /// `None` for what is about no object: discovery, versions.
    pub(crate) fn of(method: &Method, path: &str, query: &str) -> Option<Self> {
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

    pub(crate) fn writes(&self) -> bool {
        !["get", "list", "watch"].contains(&self.verb)
    }
}

impl Display for Sent {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.verb, self.resource, self.name)
    }
}

#[derive(Default)]
struct Log {
    sent: Vec<Sent>,
    warnings: Vec<String>,
}

/// What was sent since the last look.
#[derive(Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Log>>);

impl Requests {
    /// A client with every right, or with those of `token`.
    pub(crate) async fn client(&self, server: &ApiServer, token: Option<String>) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        if let Some(token) = token {
            config.auth_info.token = Some(token.into());
        }
        let (sent, answered) = (self.clone(), self.clone());
        let request = MapRequestLayer::new(move |request: Request<Body>| {
            let uri = request.uri();
            sent.log().sent.extend(Sent::of(request.method(), uri.path(), uri.query().unwrap_or_default()));
            request
        });
        let builder = ClientBuilder::try_from(config)?.with_layer(&request);
        Ok(builder.with_layer(&MapResponseLayer::new(move |response| answered.answered(response))).build())
    }

    fn answered<B>(&self, response: Response<B>) -> Response<B> {
        let warnings = response.headers().get_all("warning").iter();
        self.log().warnings.extend(warnings.map(|warning| String::from_utf8_lossy(warning.as_bytes()).into_owned()));
        response
    }

    /// Everything that was sent, as lines; the log is empty afterwards.
    pub(crate) fn take(&self) -> Vec<String> {
        self.log().sent.drain(..).map(|sent| sent.to_string()).collect()
    }

    /// What was sent to change something; the log is empty afterwards.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.log().sent.drain(..).filter(Sent::writes).map(|sent| sent.to_string()).collect()
    }

    /// Everything that was sent; the log stays.
    pub(crate) fn all(&self) -> Vec<Sent> {
        self.log().sent.clone()
    }

    /// What the API server warned of.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.log().warnings.clone()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
