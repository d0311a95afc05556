//! What is said of routes that were asked, and how they are asked.

mod sim;

use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use odoo_ai_operator::cluster::status::{Tri, Verdict};
use odoo_ai_operator::component::Component;
use odoo_ai_operator::routes::certificate::Certificate;
use odoo_ai_operator::routes::model;
use odoo_ai_operator::routes::probe::{Answer, Look, Proxy, Question, ask};
use odoo_ai_operator::routes::verdict::{Scene, is_well, of};
use odoo_ai_operator::stack::build::routes::{MARK, mark};
use odoo_ai_operator::stack::decide::Decision;
use rstest::rstest;
use serde_json::json;
use sim::World;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn question(https: bool) -> Question {
    let mark = Some("ours".to_owned());
    let (host, component) = ("ai.example.com".to_owned(), Component::Dashboard);
    Question { host, component, ready: true, https, path: "/", mark, redirect: false }
}

fn look(question: Question, answer: Answer) -> Look {
    Look { question, answer, stranger: None }
}

/// An answer through a route of ours.
fn ours(status: u16) -> Answer {
    Answer::Http { status, mark: Some("ours".to_owned()), location: None, certificate: None }
}

fn marked(status: u16, by: Option<&str>) -> Answer {
    Answer::Http { status, mark: by.map(str::to_owned), location: None, certificate: None }
}

fn sent_on(to: &str) -> Answer {
    Answer::Http { status: 301, mark: Some("ours".to_owned()), location: Some(to.to_owned()), certificate: None }
}

/// An answer by HTTPS.
fn shown(issuer: &str, names: &[&str], until: &str) -> Answer {
    let certificate = Certificate {
        issuer: issuer.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        is_default: issuer == "TRAEFIK DEFAULT CERT",
        from: at("2026-01-01T00:00:00Z"),
        until: at(until),
    };
    Answer::Http { status: 200, mark: Some("ours".to_owned()), location: None, certificate: Some(certificate) }
}

const UNTIL: &str = "2026-04-01T00:00:00Z";
const NOW: &str = "2026-02-01T00:00:00Z";

fn scene(certificate: Option<&model::Certificate>) -> Scene<'_> {
    Scene { certificate, secret_missing: false, pending_since: None, hides_clients: None, now: at(NOW) }
}

#[track_caller]
fn says(verdict: Option<Verdict>, reason: &str, parts: &[&str]) {
    let verdict = verdict.expect("a verdict");
    assert_eq!((verdict.reason.as_str(), verdict.status == Tri::True), (reason, reason == "Reachable"), "{verdict:?}");
    for part in parts {
        assert!(verdict.message.contains(part), "no {part:?} in {}", verdict.message);
    }
}

#[rstest]
#[case::fine(ours(200), "Reachable", "http://ai.example.com answer")]
#[case::the_applications_own_404(ours(404), "Reachable", "")]
#[case::a_list_that_keeps_us_out(ours(403), "Reachable", "")]
#[case::no_route(marked(404, None), "NotFound404", "no such route")]
#[case::a_dead_pod(ours(502), "BadGateway502", "502")]
#[case::no_pod(ours(503), "BadGateway502", "503")]
#[case::a_pod_that_hangs(ours(504), "BadGateway502", "504")]
#[case::somebody_elses(marked(200, None), "WrongBackend", "isn't of this operator")]
#[case::another_stacks(marked(200, Some("theirs")), "WrongBackend", "another stack")]
#[case::another_stacks_dead_pod(marked(502, Some("theirs")), "WrongBackend", "another stack")]
#[case::no_proxy(Answer::Unreachable("traefik:80: refused".to_owned()), "TraefikUnreachable", "traefik.host")]
#[case::broken_off(Answer::Broken("reset".to_owned()), "BadGateway502", "reset")]
#[case::nothing_in_time(Answer::Silent, "BadGateway502", "no answer within 6 s")]
fn of_plain_http(#[case] answer: Answer, #[case] reason: &str, #[case] part: &str) {
    says(of(&scene(None), &[look(question(false), answer)]), reason, &[part]);
}

/// Traefik has a route without a ready pod behind it as none at all: that isn't the route's fault.
#[rstest]
#[case::traefik_has_no_route(marked(404, None), "BadGateway502", "404, and no pod of dashboard is ready")]
#[case::it_has(ours(503), "BadGateway502", "503, and no pod of dashboard is ready")]
#[case::nothing_in_time(Answer::Silent, "BadGateway502", "no answer within 6 s, and no pod of dashboard")]
#[case::the_applications_own_404(ours(404), "Reachable", "")]
#[case::not_quite_gone(ours(200), "Reachable", "")]
#[case::somebody_elses(marked(200, None), "WrongBackend", "isn't of this operator")]
#[case::no_proxy(Answer::Unreachable("traefik:80: refused".to_owned()), "TraefikUnreachable", "refused")]
fn while_no_pod_is_ready(#[case] answer: Answer, #[case] reason: &str, #[case] part: &str) {
    let question = Question { ready: false, ..question(false) };
    says(of(&scene(None), &[look(question, answer)]), reason, &[part]);
}

#[rstest]
#[case::that_answers(ours(200), true, "WrongBackend")]
#[case::that_refuses(ours(502), true, "BadGateway502")]
#[case::alone(ours(502), false, "BadGateway502")]
#[case::that_has_no_route(marked(404, None), true, "NotFound404")]
fn somebody_stands_behind_the_route(#[case] answer: Answer, #[case] ready: bool, #[case] reason: &str) {
    let question = Question { ready, ..question(false) };
    let look = Look { question, answer, stranger: Some("pod by-hand".to_owned()) };
    assert!(!is_well(&look));
    says(of(&scene(None), &[look]), reason, if reason == "NotFound404" { &[] } else { &["pod by-hand"] });
}

/// Until its pods are ready that they aren't is part of an install.
#[test]
fn an_install_tells_of_no_fault_of_its_routes() {
    let mut world = World::new();
    world.edit(|stack| {
        stack.spec.ingress = serde_json::from_value(json!({"dashboard": {"host": "ai.example.com"}})).ok();
    });
    let unready = Question { ready: false, mark: None, ..question(false) };
    world.looks = vec![look(unready, marked(404, None))];
    world.run_to_the_end();
    assert_eq!(world.words("RoutesReady").0, "BadGateway502");
    assert!(!world.events.iter().any(|event| event.starts_with("RoutesReady")), "{:?}", world.events);
}

#[test]
fn without_an_answer_nothing_is_said() {
    assert_eq!(of(&scene(None), &[]), None);
}

/// A standard Ingress can't mark its answers.
#[rstest]
#[case(marked(200, None), "Reachable")]
#[case(marked(404, None), "NotFound404")]
#[case(marked(503, None), "BadGateway502")]
fn of_a_standard_ingress(#[case] answer: Answer, #[case] reason: &str) {
    says(of(&scene(None), &[look(Question { mark: None, ..question(false) }, answer)]), reason, &[]);
}

#[rstest]
#[case::sent_on(sent_on("https://ai.example.com/"), "Reachable")]
#[case::sent_elsewhere(sent_on("http://ai.example.com/login"), "WrongBackend")]
#[case::served(ours(200), "WrongBackend")]
#[case::kept_out(ours(403), "Reachable")]
fn of_http_that_is_sent_on(#[case] answer: Answer, #[case] reason: &str) {
    let question = Question { redirect: true, ..question(false) };
    let look = look(question, answer);
    assert_eq!(is_well(&look), reason == "Reachable", "what isn't well is asked again soon");
    says(of(&scene(None), &[look]), reason, &[]);
}

const HOST: &[&str] = &["ai.example.com"];

#[rstest]
#[case::good(shown("An Authority", HOST, UNTIL), None, "Reachable", &["certificate of An Authority until 2026-04-01"])]
#[case::none_yet(shown("TRAEFIK DEFAULT CERT", &["x.traefik.default"], UNTIL), None, "CertificatePending", &["resolver letsencrypt is awaited"])]
#[case::none_yet_for_four_minutes(shown("TRAEFIK DEFAULT CERT", &[], UNTIL), Some(4), "CertificatePending", &["awaited"])]
#[case::none_for_five_minutes(shown("TRAEFIK DEFAULT CERT", &[], UNTIL), Some(5), "CertResolverUnknown", &["no resolver letsencrypt"])]
#[case::for_another_host(shown("An Authority", &["api.example.com"], UNTIL), None, "CertificatePending", &["for api.example.com"])]
#[case::nothing_in_time(Answer::Silent, None, "BadGateway502", &["no answer"])]
#[case::no_handshake(Answer::Broken("unrecognised name".to_owned()), None, "CertificatePending", &["unrecognised name"])]
#[case::not_renewed(shown("An Authority", HOST, "2026-02-05T00:00:00Z"), None, "CertificateExpiring", &["2026-02-05", "An Authority"])]
fn of_a_certificate(
    #[case] answer: Answer,
    #[case] minutes: Option<i64>,
    #[case] reason: &str,
    #[case] parts: &[&str],
) {
    let resolver = model::Certificate::Resolver("letsencrypt".to_owned());
    let pending_since = minutes.map(|minutes| at(NOW) - SignedDuration::from_mins(minutes));
    let scene = Scene { pending_since, ..scene(Some(&resolver)) };
    says(of(&scene, &[look(question(true), answer), look(question(false), ours(200))]), reason, parts);
}

#[rstest]
#[case(true, "SecretMissing")]
#[case(false, "CertificatePending")]
fn of_a_secret(#[case] secret_missing: bool, #[case] reason: &str) {
    let secret = model::Certificate::Secret("certificates".to_owned());
    let answer = shown("TRAEFIK DEFAULT CERT", &[], UNTIL);
    let scene = Scene { secret_missing, ..scene(Some(&secret)) };
    says(of(&scene, &[look(question(true), answer)]), reason, &["Secret certificates"]);
}

#[test]
fn a_route_comes_before_its_certificate() {
    let resolver = model::Certificate::Resolver("letsencrypt".to_owned());
    let default = look(question(true), shown("TRAEFIK DEFAULT CERT", &[], UNTIL));
    says(of(&scene(Some(&resolver)), &[default, look(question(false), marked(404, None))]), "NotFound404", &[]);
}

/// In a stack's status: nothing is written while the answers stay what they are, and a route's fault leaves the rest
/// alone.
#[test]
fn the_status_says_what_was_seen() {
    let mut world = World::new();
    world.edit(|stack| {
        stack.spec.ingress = serde_json::from_value(json!({"dashboard": {"host": "ai.example.com"}})).ok();
    });
    world.run_to_the_end();
    assert_eq!(world.condition("RoutesReady"), Some("Unknown"));
    let Ok(Decision::Roll(roll)) = world.reconcile(false) else { panic!("it is settled") };
    let ours = mark(&roll.base.stack);
    let by_us = |status| marked(status, Some(&ours));
    for (answer, state, reason) in [
        (by_us(200), "True", "Reachable"),
        (by_us(502), "False", "BadGateway502"),
        (marked(404, None), "False", "NotFound404"),
        (by_us(200), "True", "Reachable"),
    ] {
        world.looks = vec![look(Question { mark: Some(ours.clone()), ..question(false) }, answer)];
        world.settle();
        assert_eq!((world.condition("RoutesReady"), world.words("RoutesReady").0.as_str()), (Some(state), reason));
        assert_eq!(world.condition("Ready"), Some("True"));
        let writes = world.writes.len();
        world.now += SignedDuration::from_hours(1);
        world.settle();
        assert_eq!(world.writes.len(), writes);
        // Another operator has seen nothing yet, and believes the one before.
        world.looks.clear();
        world.settle();
        assert_eq!((world.condition("RoutesReady"), world.writes.len()), (Some(state), writes));
    }
    world.edit(|stack| stack.spec.ingress.as_mut().expect("routes").dashboard.as_mut().expect("one").host.push('x'));
    world.settle();
    assert_eq!(world.condition("RoutesReady"), Some("Unknown"), "other routes");
    let told: Vec<_> = world.events.iter().filter(|event| event.starts_with("RoutesReady")).collect();
    let all = ["Reachable", "BadGateway502", "NotFound404", "Reachable"].map(|reason| format!("RoutesReady {reason}"));
    assert_eq!(told, all.iter().collect::<Vec<_>>());
}

/// An allow list may be in vain: said, and told, while the routes are well.
#[test]
fn a_list_that_may_be_in_vain_is_told() {
    let mut world = World::new();
    world.edit(|stack| {
        let ingress = json!({"dashboard": {"host": "ai.example.com"}, "ipAllowList": ["192.0.2.0/24"]});
        stack.spec.ingress = serde_json::from_value(ingress).ok();
    });
    world.run_to_the_end();
    let Ok(Decision::Roll(roll)) = world.reconcile(false) else { panic!("it is settled") };
    let ours = mark(&roll.base.stack);
    world.looks = vec![look(Question { mark: Some(ours.clone()), ..question(false) }, marked(403, Some(&ours)))];
    world.around.hides_clients = Some("Service kube-system/traefik hides them".to_owned());
    world.settle();
    assert_eq!(world.condition("RoutesReady"), Some("True"));
    let (reason, message) = world.words("RoutesReady");
    assert!(reason == "ClientAddressesHidden" && message.contains("kube-system/traefik"), "{reason} {message}");
    world.edit(|stack| stack.spec.ingress.as_mut().expect("routes").ip_allow_list.clear());
    world.settle();
    assert_eq!(world.words("RoutesReady").0, "Reachable", "no list, no matter");
}

/// A proxy that answers as `answer` says, by the host that is asked for.
async fn proxy() -> u16 {
    use axum::http::{HeaderMap, StatusCode, header};
    let answer = |headers: HeaderMap| async move {
        let host = headers[header::HOST].to_str().expect("a host").to_owned();
        match host.as_str() {
            "ai.example.com" => (StatusCode::OK, [(MARK, "ours"), ("x-host", "ai")]),
            "sent.example.com" => {
                (StatusCode::MOVED_PERMANENTLY, [(MARK, "ours"), ("location", "https://sent.example.com/")])
            }
            _ => (StatusCode::NOT_FOUND, [("x-content-type-options", "nosniff"), ("x-host", "none")]),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let app = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test]
async fn a_route_is_asked_at_the_proxy_with_its_own_host() {
    let port = proxy().await;
    let at = |port| Proxy::on("127.0.0.1", port, port);
    let of = |host: &str, https| Question { host: host.to_owned(), ..question(https) };
    let answer = ask(&at(port), &of("ai.example.com", false)).await;
    assert_eq!(answer, ours(200));
    assert_eq!(ask(&at(port), &of("sent.example.com", false)).await, sent_on("https://sent.example.com/"));
    assert_eq!(ask(&at(port), &of("other.example.com", false)).await, marked(404, None));
    let plain = ask(&at(port), &of("ai.example.com", true)).await;
    assert!(matches!(plain, Answer::Broken(_)), "no TLS there: {plain:?}");
    let began = Instant::now();
    let closed = ask(&at(1), &of("ai.example.com", false)).await;
    assert!(matches!(&closed, Answer::Unreachable(why) if why.contains("127.0.0.1:1")), "{closed:?}");
    let nobody = ask(&Proxy::on("traefik.invalid", 80, 443), &of("ai.example.com", false)).await;
    assert!(matches!(&nobody, Answer::Unreachable(why) if why.contains("traefik.invalid")), "{nobody:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
