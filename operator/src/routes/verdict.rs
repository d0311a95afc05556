//! What the answers of a stack's routes mean, in the words of `RoutesReady`. Plain.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_crds::conditions::reasons;

use super::certificate::Certificate;
use super::model;
use super::probe::{ANSWER, Answer, Look, Question};
use crate::cluster::status::Verdict;
use crate::component::ComponentExt;

/// A certificate that isn't there after this long won't come by itself.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// Reasons that come from a look, and from nothing else.
const OF_A_LOOK: [&str; 9] = [
    reasons::REACHABLE,
    reasons::CLIENT_ADDRESSES_HIDDEN,
    reasons::TRAEFIK_UNREACHABLE,
    reasons::NOT_FOUND_404,
    reasons::BAD_GATEWAY_502,
    reasons::WRONG_BACKEND,
    reasons::CERTIFICATE_PENDING,
    reasons::CERT_RESOLVER_UNKNOWN,
    reasons::CERTIFICATE_EXPIRING,
];

/// The condition's reason says what was seen, not what keeps a route from being made.
#[must_use]
pub fn is_of_a_look(reason: &str) -> bool {
    OF_A_LOOK.contains(&reason)
}

/// What is known beside the answers.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// Where the certificate is to come from.
    pub certificate: Option<&'a model::Certificate>,
    /// The Secret with the certificate isn't there.
    pub secret_missing: bool,
    /// Since when the condition says that a certificate is awaited.
    pub pending_since: Option<Timestamp>,
    /// What hides clients' addresses from the allow list, if there is one.
    pub hides_clients: Option<&'a str>,
    /// Now.
    pub now: Timestamp,
}

/// A fault: condition reason and what is wrong, where, and what to do.
type Fault = (&'static str, String);

/// The condition that follows; `None` while nothing was asked.
#[must_use]
pub fn of(scene: &Scene<'_>, looks: &[Look]) -> Option<Verdict> {
    if looks.is_empty() {
        return None;
    }
    // What concerns the route comes before its certificate, and that before what will concern it soon.
    let routes = looks.iter().filter_map(of_route);
    let certificates = looks.iter().filter_map(|look| of_certificate(scene, &look.question, &look.answer));
    let soon = looks.iter().filter_map(|look| expires(scene, &look.question, &look.answer));
    if let Some((reason, message)) = routes.chain(certificates).chain(soon).next() {
        return Some(Verdict::new(false, reason, message));
    }
    let hosts: Vec<_> = looks.iter().map(|look| url(&look.question)).collect();
    let until = looks.iter().filter_map(|look| certificate(&look.answer)).min_by_key(|it| it.until);
    let until = until.map(|it| format!("; certificate of {} until {}", it.issuer, it.until.strftime("%Y-%m-%d")));
    let message = format!("{} answer{}", hosts.join(", "), until.unwrap_or_default());
    Some(match scene.hides_clients {
        Some(why) => Verdict::new(true, reasons::CLIENT_ADDRESSES_HIDDEN, format!("{message}; {why}")),
        None => Verdict::new(true, reasons::REACHABLE, message),
    })
}

/// Nothing is missing; otherwise it is worth asking again soon.
#[must_use]
pub fn is_well(look: &Look) -> bool {
    of_route(look).is_none() && wrong_certificate(&look.question, &look.answer).is_none()
}

fn of_route(Look { question, answer, stranger }: &Look) -> Option<Fault> {
    let at = url(question);
    let behind = || stranger.as_ref().map(|who| format!("; {who}")).unwrap_or_default();
    if let Some(what) = nobody_ready(question, answer) {
        let component = question.component.name();
        let message = format!("{at}: {what}, and no pod of {component} is ready{}", behind());
        return Some((reasons::BAD_GATEWAY_502, message));
    }
    let (status, mark, location) = match answer {
        Answer::Unreachable(why) => {
            let message = format!("{why}; is Traefik's Service the one in the chart's value traefik.host?");
            return Some((reasons::TRAEFIK_UNREACHABLE, message));
        }
        Answer::Silent => {
            let message =
                format!("{at}: no answer within {} s; see the conditions of the components", ANSWER.as_secs());
            return Some((reasons::BAD_GATEWAY_502, message));
        }
        // Of HTTPS it is most likely the certificate.
        Answer::Broken(_) if question.https => return None,
        Answer::Broken(why) => return Some((reasons::BAD_GATEWAY_502, format!("{at}: {why}"))),
        Answer::Http { status, mark, location, .. } => (*status, mark.as_deref(), location.as_deref()),
    };
    if let Some(wanted) = question.mark.as_deref()
        && mark != Some(wanted)
    {
        if status == 404 {
            let message = format!(
                "{at}: Traefik has no such route (404); does it watch this namespace, and has it the entry points web and websecure? Its log says more"
            );
            return Some((reasons::NOT_FOUND_404, message));
        }
        let who = mark.map_or("a route that isn't of this operator", |_| "a route of another stack");
        let message =
            format!("{at}: {who} answers ({status}); look for another IngressRoute or Ingress with this host");
        return Some((reasons::WRONG_BACKEND, message));
    }
    match status {
        404 if question.mark.is_none() => Some((
            reasons::NOT_FOUND_404,
            format!("{at}: 404; does the ingress controller know the route? Its log says more"),
        )),
        502..=504 => {
            let message = format!(
                "{at}: {status}: the route is there, and no pod behind it answers{}; see the conditions of the components",
                behind()
            );
            Some((reasons::BAD_GATEWAY_502, message))
        }
        300..400 if question.redirect && location.is_some_and(|to| to.starts_with("https://")) => None,
        _ if question.redirect && status != 403 => {
            Some((reasons::WRONG_BACKEND, format!("{at} answers ({status}) instead of sending on to HTTPS")))
        }
        _ => stranger.as_ref().map(|who| (reasons::WRONG_BACKEND, format!("{at}: {who}"))),
    }
}

/// What came of a question that nobody can answer. Traefik has a route without a ready pod behind it as none at all.
fn nobody_ready(question: &Question, answer: &Answer) -> Option<String> {
    match answer {
        _ if question.ready => None,
        Answer::Http { status, mark, .. } if *mark == question.mark && (502..=504).contains(status) => {
            Some(status.to_string())
        }
        Answer::Http { status: 404, mark: None, .. } => Some("404".to_owned()),
        Answer::Silent => Some(format!("no answer within {} s", ANSWER.as_secs())),
        Answer::Http { .. } | Answer::Broken(_) | Answer::Unreachable(_) => None,
    }
}

/// What is shown instead of a certificate for the host.
fn wrong_certificate(question: &Question, answer: &Answer) -> Option<String> {
    if !question.https {
        return None;
    }
    match answer {
        Answer::Unreachable(_) | Answer::Silent => None,
        Answer::Broken(why) => Some(why.clone()),
        Answer::Http { certificate: None, .. } => Some("no certificate".to_owned()),
        Answer::Http { certificate: Some(it), .. } if it.is_default => {
            Some("Traefik shows its default certificate".to_owned())
        }
        Answer::Http { certificate: Some(it), .. } => {
            (!it.covers(&question.host)).then(|| format!("the certificate is for {}", it.names.join(", ")))
        }
    }
}

fn of_certificate(scene: &Scene<'_>, question: &Question, answer: &Answer) -> Option<Fault> {
    let (host, shown) = (&question.host, wrong_certificate(question, answer)?);
    match scene.certificate? {
        model::Certificate::Secret(name) if scene.secret_missing => Some((
            reasons::SECRET_MISSING,
            format!("{host}: {shown}: Secret {name} (ingress.tls.secretName) doesn't exist"),
        )),
        model::Certificate::Secret(name) => Some((
            reasons::CERTIFICATE_PENDING,
            format!(
                "{host}: {shown}: Secret {name} (ingress.tls.secretName) must be of type kubernetes.io/tls and for this host"
            ),
        )),
        model::Certificate::Resolver(name) => {
            let late = scene.pending_since.is_some_and(|since| since.duration_until(scene.now) >= PATIENCE);
            let default = matches!(answer, Answer::Http { certificate: Some(it), .. } if it.is_default);
            if late && default {
                let message = format!(
                    "{host}: {shown}: either its static configuration has no resolver {name}, or the authority refuses; Traefik's log says which"
                );
                return Some((reasons::CERT_RESOLVER_UNKNOWN, message));
            }
            Some((reasons::CERTIFICATE_PENDING, format!("{host}: {shown}: the one of resolver {name} is awaited")))
        }
    }
}

fn expires(scene: &Scene<'_>, question: &Question, answer: &Answer) -> Option<Fault> {
    let it = certificate(answer).filter(|it| it.expires_soon(scene.now))?;
    let (host, issuer, until) = (&question.host, &it.issuer, it.until.strftime("%Y-%m-%d"));
    let remedy = match scene.certificate? {
        model::Certificate::Secret(name) => format!("renew it in Secret {name} (ingress.tls.secretName)"),
        model::Certificate::Resolver(_) => "Traefik's log says why it wasn't".to_owned(),
    };
    Some((
        reasons::CERTIFICATE_EXPIRING,
        format!("{host}: the certificate of {issuer} ends on {until} and should have been renewed; {remedy}"),
    ))
}

fn certificate(answer: &Answer) -> Option<&Certificate> {
    match answer {
        Answer::Http { certificate, .. } => certificate.as_ref(),
        Answer::Unreachable(_) | Answer::Silent | Answer::Broken(_) => None,
    }
}

fn url(question: &Question) -> String {
    format!("{}://{}", if question.https { "https" } else { "http" }, question.host)
}
