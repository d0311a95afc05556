//! Celery's remote control, as kombu's Redis transport carries it.
//!
//! A request is published to the fan-out channel `/<db>.celery.pidbox`. A worker
//! looks the reply's routing key up in the set `_kombu.binding.reply.celery.pidbox`
//! and pushes its answer onto the list named there. Seen with kombu 5 and Celery 5.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

const REPLY_EXCHANGE: &str = "reply.celery.pidbox";
/// Between routing key, pattern and queue in a binding.
const SEPARATOR: &str = "\u{6}\u{16}";

/// The names that belong to one asker.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    oid: String,
}

impl Mailbox {
    /// The mailbox of one node's probes. Its name is the same each time, so that
    /// probes that were killed before they tidied up leave one binding, not many.
    pub(crate) fn of_probe(node: &str) -> Self {
        Self { oid: format!("odooai-probe-{node}") }
    }

    /// Set of the bindings.
    pub(crate) fn bindings_key() -> String {
        format!("_kombu.binding.{REPLY_EXCHANGE}")
    }

    /// This mailbox's member in that set.
    pub(crate) fn binding(&self) -> String {
        format!("{}{SEPARATOR}{SEPARATOR}{}", self.oid, self.queue())
    }

    /// List that answers are pushed to.
    pub(crate) fn queue(&self) -> String {
        format!("{}.{REPLY_EXCHANGE}", self.oid)
    }

    /// A `ping` for one node.
    pub(crate) fn ping(&self, destination: &str, ticket: &str) -> String {
        let body = json!({
            "method": "ping",
            "arguments": {},
            "destination": [destination],
            "pattern": null,
            "matcher": null,
            "ticket": ticket,
            "reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": self.oid},
        });
        json!({
            "body": STANDARD.encode(body.to_string()),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": 0},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": ticket,
            },
        })
        .to_string()
    }
}

/// Channel of the requests.
pub(crate) fn channel(db: u32) -> String {
    format!("/{db}.celery.pidbox")
}

/// Whether a message from the reply list is this node's pong to this ticket.
pub(crate) fn is_pong(message: &str, node: &str, ticket: &str) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        body: String,
        #[serde(default)]
        headers: Value,
        #[serde(default)]
        properties: Properties,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Properties {
        body_encoding: Option<String>,
    }
    let Ok(envelope) = serde_json::from_str::<Envelope>(message) else {
        return false;
    };
    // An answer to an earlier probe of the same node may still be on its way.
    if let Some(answered) = envelope.headers.get("ticket").and_then(Value::as_str)
        && answered != ticket
    {
        return false;
    }
    let body = if envelope.properties.body_encoding.as_deref() == Some("base64") {
        let Ok(bytes) = STANDARD.decode(&envelope.body) else {
            return false;
        };
        bytes
    } else {
        envelope.body.into_bytes()
    };
    let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
        return false;
    };
    answer.get(node).and_then(|reply| reply.get("ok")) == Some(&Value::from("pong"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "celery@worker-1";

    fn reply(body: &str, ticket: &str) -> String {
        json!({
            "body": STANDARD.encode(body),
            "headers": {"ticket": ticket, "clock": 7},
            "properties": {"body_encoding": "base64"},
        })
        .to_string()
    }

    #[test]
    fn names_are_kombus() {
        let mailbox = Mailbox::of_probe("celery@w");
        assert_eq!(Mailbox::bindings_key(), "_kombu.binding.reply.celery.pidbox");
        assert_eq!(
            mailbox.binding(),
            "odooai-probe-celery@w\u{6}\u{16}\u{6}\u{16}odooai-probe-celery@w.reply.celery.pidbox"
        );
        assert_eq!(channel(3), "/3.celery.pidbox");
    }

    #[test]
    fn the_ping_says_whom_it_asks_and_where_to_answer() {
        let message: Value = serde_json::from_str(&Mailbox::of_probe(NODE).ping(NODE, "t-1")).expect("JSON");
        let body = STANDARD.decode(message["body"].as_str().expect("text")).expect("base64");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["method"], "ping");
        assert_eq!(body["destination"], json!([NODE]));
        assert_eq!(body["reply_to"]["routing_key"], "odooai-probe-celery@worker-1");
        assert_eq!(message["properties"]["body_encoding"], "base64");
    }

    #[test]
    fn only_the_nodes_own_pong_counts() {
        let pong = format!(r#"{{"{NODE}": {{"ok": "pong"}}}}"#);
        assert!(is_pong(&reply(&pong, "t"), NODE, "t"));
        assert!(!is_pong(&reply(&pong, "old"), NODE, "t"));
        assert!(!is_pong(&reply(&pong, "t"), "celery@worker-2", "t"));
        let error = format!(r#"{{"{NODE}": {{"error": "no"}}}}"#);
        assert!(!is_pong(&reply(&error, "t"), NODE, "t"));
        assert!(!is_pong("not json", NODE, "t"));
    }
}
