//! Who reaches whom among the pods. What the policies refuse is only refused where the cluster
//! enforces them.

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::Cluster;

use crate::room::Room;

/// From, to, port, allowed. Those that ask have Python.
const TABLE: [(&str, &str, u16, bool); 10] = [
    ("ai-service", "postgresql", 5432, true),
    ("ai-service", "redis", 6379, true),
    ("worker", "postgresql", 5432, true),
    ("worker", "redis", 6379, true),
    ("worker", "ai-service", 8000, true),
    ("worker", "dashboard", 3000, true),
    ("beat", "redis", 6379, true),
    ("worker", "ai-service", 9180, false),
    ("beat", "postgresql", 5432, false),
    ("beat", "ai-service", 8000, false),
];

/// Tries all lines of the table from within the pods.
pub(crate) async fn is_kept_apart(room: &Room, cluster: &Cluster) -> Result<String> {
    let enforced = cluster.is_k3s();
    let mut wrong = Vec::new();
    for (from, to, port, allowed) in TABLE.into_iter().filter(|line| enforced || line.3) {
        let address = room.pod_of(to).await?.status.and_then(|status| status.pod_ip).context("no address")?;
        let script = "import socket, sys\ns = socket.socket()\ns.settimeout(4)\nprint(s.connect_ex((sys.argv[1], int(sys.argv[2]))) == 0)";
        let answer = room.run(from, &["python3", "-c", script, &address, &port.to_string()]).await?;
        if (answer.trim() == "True") != allowed {
            wrong.push(format!("{from} → {to}:{port} should be {}", if allowed { "open" } else { "closed" }));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let refused = TABLE.iter().filter(|line| !line.3).count();
    Ok(if enforced {
        format!("{} ways open, {refused} closed", TABLE.len() - refused)
    } else {
        format!("SKIPPED: {refused} ways that should be closed, this node enforces no NetworkPolicy (k3s does)")
    })
}
