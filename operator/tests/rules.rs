//! The client of the rules API, against servers that answer as no application should.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use odoo_ai_crds::conditions::reasons;
use odoo_ai_operator::rules::{Error, Rule, Rules};
use rstest::rstest;
use tokio::net::TcpListener;

const KEY: &str = "a-very-secret-key";

/// What a list says where every request gets this answer; the server tells what it was asked with, too.
async fn list(status: u16, body: &'static str) -> Result<Vec<Rule>, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(move |request: Request<Body>| async move {
        let key = request.headers().get("x-api-key").and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let answer = Response::builder().status(status).header("location", "http://elsewhere.example.com/");
        answer.body(Body::from(body.replace("{key}", &key))).expect("an answer")
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    // As the operator's own.
    let proxy = reqwest::Proxy::http(format!("http://{address}")).expect("an address");
    let client = reqwest::Client::builder().proxy(proxy).redirect(reqwest::redirect::Policy::none());
    let http = client.build().expect("a client");
    Rules::new(&http, "odoo-ai", "odoo-ai", KEY).list().await
}

#[rstest]
#[case::without_a_key(401, r#"{"detail":"Invalid or missing API key"}"#, reasons::UNAUTHORIZED)]
#[case::another_application(404, r#"{"detail":"Not Found"}"#, reasons::UNEXPECTED_ANSWER)]
#[case::a_redirection(307, "", reasons::UNEXPECTED_ANSWER)]
#[case::an_error_of_its_own(500, "Internal Server Error", reasons::APPLICATION_FAILING)]
#[case::away(503, "", reasons::APPLICATION_FAILING)]
#[case::another_program(200, "<html>nginx</html>", reasons::UNEXPECTED_ANSWER)]
#[case::rules_of_another_shape(200, r#"[{"id": 1, "name": "n"}]"#, reasons::UNEXPECTED_ANSWER)]
#[case::an_object(200, r#"{"rules": []}"#, reasons::UNEXPECTED_ANSWER)]
#[case::cut(200, r#"[{"id": 1, "na"#, reasons::UNEXPECTED_ANSWER)]
#[case::an_echo_in_the_wrong_place(200, r#"[{"id": "{key}"}]"#, reasons::UNEXPECTED_ANSWER)]
#[case::an_echo(200, "you sent X-API-Key: {key}", reasons::UNEXPECTED_ANSWER)]
#[tokio::test]
async fn each_wrong_answer_has_its_reason_and_tells_no_key(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] reason: &str,
) {
    let error = list(status, body).await.expect_err("no rules");
    assert_eq!(error.reason(), reason, "{error}");
    assert!(!error.to_string().contains(KEY), "{error}");
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let error = Rules::new(&http, "nowhere", "odoo-ai", KEY).list().await.expect_err("no rules");
    assert_eq!(error.reason(), reasons::UNREACHABLE, "{error}");
}

#[tokio::test]
async fn an_empty_table_is_no_error() {
    assert_eq!(list(200, "[]").await, Ok(vec![]));
}

/// It is written back as it was read.
#[tokio::test]
async fn a_rule_that_holds_the_key_is_read_as_it_is() {
    let rule = r#"[{"id": 1, "name": "n", "automation_type": "crm", "action_name": "a", "enabled": true, "config": {"k": "{key}"}}]"#;
    let rules = list(200, rule).await.expect("a rule");
    assert_eq!(rules[0].rest["config"]["k"], KEY);
}
