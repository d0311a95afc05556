//! A client that writes down what it sends, and what the API server warns of.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use odoo_ai_operator::cluster::client::Sent;
use odoo_ai_tests::ApiServer;
use tower::util::{MapRequestLayer, MapResponseLayer};

/// It changes something.
pub(crate) fn writes(sent: &Sent) -> bool {
    !["get", "list", "watch"].contains(&sent.verb)
}

fn words(sent: &Sent) -> String {
    format!("{} {} {}", sent.verb, sent.resource, sent.name)
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
        self.log().sent.drain(..).map(|sent| words(&sent)).collect()
    }

    /// What was sent to change something; the log is empty afterwards.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.log().sent.drain(..).filter(writes).map(|sent| words(&sent)).collect()
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
