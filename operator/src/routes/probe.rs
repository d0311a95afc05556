//! Asks for a route as a client would: at Traefik's Service in the cluster, with the host in Host and SNI. Public DNS
//! and what is between it and the cluster are not part of the question.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::tls::TlsInfo;

use super::certificate::Certificate;
use crate::component::Component;
use crate::stack::build::routes::MARK;

/// For the connection.
const CONNECT: Duration = Duration::from_secs(2);
/// For the whole answer. The application may stall for a second.
pub const ANSWER: Duration = Duration::from_secs(6);

/// Where the proxy is, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// For HTTP.
    pub http: String,
    /// For HTTPS.
    pub https: String,
}

impl Proxy {
    /// On one host.
    #[must_use]
    pub fn on(host: &str, http: u16, https: u16) -> Self {
        Self { http: format!("{host}:{http}"), https: format!("{host}:{https}") }
    }
}

/// Traefik as k3s has it.
impl Default for Proxy {
    fn default() -> Self {
        Self::on("traefik.kube-system.svc", 80, 443)
    }
}

/// One question, and what a good answer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host.
    pub host: String,
    /// Who is to answer.
    pub component: Component,
    /// A pod of it is ready.
    pub ready: bool,
    /// By HTTPS.
    pub https: bool,
    /// What is asked for: something that costs the application nothing.
    pub path: &'static str,
    /// What an answer of ours is marked with; `None` where the route can't mark it.
    pub mark: Option<String>,
    /// It is to be sent on to HTTPS.
    pub redirect: bool,
}

impl Question {
    /// It is about the same route, whether somebody is ready behind it or not.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        let Self { ready, .. } = *other;
        Self { ready, ..self.clone() } == *other
    }
}

/// What was seen of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What was asked.
    pub question: Question,
    /// What was answered.
    pub answer: Answer,
    /// Who stands behind the route and is no pod of the component's, in words.
    pub stranger: Option<String>,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody answered at the proxy's address.
    Unreachable(String),
    /// Nothing came of the question in time.
    Silent,
    /// The proxy broke the connection off: mostly no certificate for the host.
    Broken(String),
    /// An answer.
    Http {
        /// HTTP status.
        status: u16,
        /// Which stack's route it went through.
        mark: Option<String>,
        /// Where it sends on to.
        location: Option<String>,
        /// What was shown for HTTPS.
        certificate: Option<Certificate>,
    },
}

/// Asks. Nothing of what is served is kept, and nothing of the certificate is believed: it is read.
pub async fn ask(proxy: &Proxy, question: &Question) -> Answer {
    let Question { host, https, path, .. } = question;
    let (scheme, address) = if *https { ("https", &proxy.https) } else { ("http", &proxy.http) };
    let found = match tokio::time::timeout(CONNECT, tokio::net::lookup_host(address.as_str())).await {
        Ok(Ok(mut found)) => found.next(),
        Ok(Err(_)) | Err(_) => None,
    };
    let Some(found) = found else { return Answer::Unreachable(format!("the name {address} doesn't resolve")) };
    if let Err(why) = reach(found).await {
        return Answer::Unreachable(format!("{address}: {why}"));
    }
    let client = reqwest::Client::builder()
        .resolve(host, found)
        .no_proxy()
        .redirect(Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .tls_info(true)
        .timeout(ANSWER)
        .build();
    let asked = async { client?.get(format!("{scheme}://{host}{path}")).send().await };
    match asked.await {
        Ok(answer) => {
            let header = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
            let shown = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
            Answer::Http {
                status: answer.status().as_u16(),
                mark: header(MARK),
                location: header(LOCATION.as_str()),
                certificate: shown.and_then(Certificate::read),
            }
        }
        Err(error) if error.is_timeout() => Answer::Silent,
        Err(error) => Answer::Broken(cause(&error)),
    }
}

/// Tells a proxy that is away from one that breaks off.
async fn reach(address: SocketAddr) -> Result<(), String> {
    match tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

/// The innermost words: those around it only repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
