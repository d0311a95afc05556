//! Does Odoo let the application in? One bounded XML-RPC call answers it.

use std::time::Duration;

use reqwest::{Certificate, Client, redirect};
use serde::Serialize;

use crate::config;
use crate::encode::{xml, xml_decode};

/// Time for connection, request and answer together.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read; a fault carries a traceback.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What the last call said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) enum State {
    /// The login works.
    Reachable,
    /// Odoo answers and refuses login or password.
    AccessDenied,
    /// No useful answer.
    Unreachable,
    /// Not asked yet, or no Odoo is configured.
    #[default]
    Unknown,
}

impl State {
    /// Every state, for metrics.
    pub(crate) const ALL: [Self; 4] = [Self::Reachable, Self::AccessDenied, Self::Unreachable, Self::Unknown];

    /// As it is written in status and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "Reachable",
            Self::AccessDenied => "AccessDenied",
            Self::Unreachable => "Unreachable",
            Self::Unknown => "Unknown",
        }
    }
}

/// A state and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Answer {
    /// What it comes to.
    pub(crate) state: State,
    /// One line for a person; empty when Odoo is reachable.
    pub(crate) message: String,
}

impl Answer {
    fn unreachable(message: impl Into<String>) -> Self {
        Self { state: State::Unreachable, message: message.into() }
    }
}

/// A client that follows no redirects and uses no proxy, because the
/// application's XML-RPC client does neither. Public roots are built in: the
/// image that the agent comes in has no certificates of its own.
///
/// # Errors
/// When no TLS provider can be set up.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .filter_map(|certificate| Certificate::from_der(certificate).ok());
    Client::builder()
        .tls_certs_merge(roots)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(1)
        .timeout(LIMIT)
        .build()
}

/// Calls `authenticate`; always answers within [`LIMIT`].
pub(crate) async fn authenticate(client: &Client, odoo: &config::Odoo) -> Answer {
    let request = client
        .post(format!("{}/xmlrpc/2/common", odoo.url))
        .header("Content-Type", "text/xml")
        .body(request_body(odoo));
    let asked = tokio::time::timeout(LIMIT, async {
        let mut response = request.send().await?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                break;
            }
        }
        Ok::<_, reqwest::Error>((status, body))
    });
    match asked.await {
        Err(_elapsed) => Answer::unreachable(format!("Odoo gave no answer within {} s", LIMIT.as_secs())),
        Ok(Err(error)) if error.is_timeout() => {
            Answer::unreachable(format!("Odoo gave no answer within {} s", LIMIT.as_secs()))
        }
        Ok(Err(error)) => Answer::unreachable(format!("Odoo: {}", chain(&error))),
        Ok(Ok((status, _))) if !status.is_success() => {
            let note = if status.is_redirection() { ", which the application does not follow" } else { "" };
            Answer::unreachable(format!("Odoo answered {status}{note}"))
        }
        Ok(Ok((_, body))) => judge(&String::from_utf8_lossy(&body)),
    }
}

/// The error with its causes, without the URL, which may have a password in it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::from("request failed");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn request_body(odoo: &config::Odoo) -> String {
    let parameters: String = [&odoo.database, &odoo.username, odoo.secret.expose()]
        .map(|text: &str| format!("<param><value><string>{}</string></value></param>", xml(text)))
        .concat();
    format!(
        "<?xml version='1.0'?><methodCall><methodName>authenticate</methodName><params>{parameters}\
         <param><value><struct></struct></value></param></params></methodCall>"
    )
}

/// Reads the answer to `authenticate`: a user id, false, or a fault.
fn judge(body: &str) -> Answer {
    if body.contains("<fault>") {
        let fault = between(body, "<name>faultString</name>", "</member>").unwrap_or(body);
        let fault = xml_decode(&without_tags(fault));
        // Of a traceback the last line says what happened.
        let last = fault.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason given");
        let state = if fault.contains("AccessDenied") || fault.contains("Access Denied") {
            State::AccessDenied
        } else {
            State::Unreachable
        };
        return Answer { state, message: format!("Odoo answered with an error: {}", shorten(last)) };
    }
    let Some(value) = between(body, "<params>", "</params>").map(without_tags) else {
        return Answer::unreachable("Odoo's address answers, but not with XML-RPC");
    };
    match value.trim() {
        "0" | "" => {
            Answer { state: State::AccessDenied, message: "Odoo refuses this database, login and password".to_owned() }
        }
        id if id.chars().all(|c| c.is_ascii_digit()) => Answer { state: State::Reachable, message: String::new() },
        other => Answer::unreachable(format!("Odoo answered {}", shorten(other))),
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

fn without_tags(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' if inside => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use rstest::rstest;

    #[rstest]
    #[case("<params><param><value><int>2</int></value></param></params>", State::Reachable)]
    #[case("<params>\n<param><value><i4>7</i4></value></param>\n</params>", State::Reachable)]
    #[case("<params><param><value><boolean>0</boolean></value></param></params>", State::AccessDenied)]
    #[case("<html>Welcome</html>", State::Unreachable)]
    fn answers(#[case] body: &str, #[case] state: State) {
        let body = format!("<?xml version='1.0'?><methodResponse>{body}</methodResponse>");
        assert_eq!(judge(&body).state, state);
    }

    #[test]
    fn a_fault_is_told_by_its_last_line() {
        let fault = |text: &str| {
            judge(&format!(
                "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int>\
                 </value></member><member><name>faultString</name><value><string>{text}</string></value>\
                 </member></struct></value></fault></methodResponse>"
            ))
        };
        let answer = fault("Traceback\n  File &quot;x&quot;\nFATAL: database &quot;nope&quot; does not exist\n");
        assert_eq!(answer.state, State::Unreachable);
        assert!(answer.message.ends_with("database \"nope\" does not exist"));
        assert_eq!(fault("odoo.exceptions.AccessDenied: Access Denied").state, State::AccessDenied);
    }

    #[test]
    fn the_request_is_escaped() {
        let body = request_body(&config::Odoo {
            url: String::new(),
            database: "d".to_owned(),
            username: "u&v".to_owned(),
            secret: Secret::new("<p>"),
        });
        assert!(body.contains("<string>u&amp;v</string>"));
        assert!(body.contains("<string>&lt;p&gt;</string>"));
    }
}
