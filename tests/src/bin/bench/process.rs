//! The operator as a child process, and what the kernel and its own metrics say of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use odoo_ai_tests::{free_port, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::figures::Histogram;

/// Where the operator believes to be.
pub(crate) const NAMESPACE: &str = "odoo-ai-system";
/// `USER_HZ`, which Linux shows to every program whatever its own clock is.
const TICKS: f64 = 100.0;

/// A running operator.
pub(crate) struct Operator {
    child: Child,
    pid: u32,
    port: u16,
}

/// Memory in MiB, and seconds of CPU since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) resident: f64,
    pub(crate) peak: f64,
    pub(crate) cpu: f64,
}

impl Operator {
    /// Starts it with the variables of the chart's Deployment, for the whole cluster, and waits until it acts.
    pub(crate) async fn start(binary: &Path, kubeconfig: &Path, log: PathBuf) -> Result<Self> {
        let port = free_port()?;
        let log = std::fs::File::create(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary)
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("LISTEN", format!("127.0.0.1:{port}"))
            .env("OPERATOR_NAMESPACE", NAMESPACE)
            .env("POD_NAME", format!("odoo-ai-operator-{port}"))
            .env("WATCH_NAMESPACES", "")
            .env("OPERATOR_IMAGE", "odoo-ai-operator:bench")
            .env("NETWORK_POLICIES", "true")
            .env("METRICS_NAMESPACES", "")
            .env("RUST_LOG", "info")
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let pid = child.id().context("the operator has ended")?;
        let operator = Self { child, pid, port };
        wait_for("the operator to act", Duration::from_mins(1), || async {
            Ok((operator.get("/readyz").await? == "ready").then_some(()))
        })
        .await?;
        Ok(operator)
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.pid.to_string()).status().await?;
        if !asked.success() {
            bail!("the operator is gone");
        }
        self.child.wait().await?;
        Ok(())
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        let status = std::fs::read_to_string(process.join("status")).context("the operator has ended")?;
        let mib = |field: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).context("a field of /proc")?;
            let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kib / 1024.0)
        };
        let stat = std::fs::read_to_string(process.join("stat"))?;
        // After the name, which may hold anything, the fields 3 and on.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |number: usize| -> Result<f64> { Ok(fields.get(number - 3).context("a field of /proc")?.parse()?) };
        Ok(Usage { resident: mib("VmRSS:")?, peak: mib("VmHWM:")?, cpu: (ticks(14)? + ticks(15)?) / TICKS })
    }

    /// Durations of all good reconciles of stacks so far.
    pub(crate) async fn reconciles(&self) -> Result<Histogram> {
        let text = self.get("/metrics").await?;
        let prefix = "odooai_operator_reconcile_duration_seconds_bucket{";
        let mut histogram = Histogram::default();
        for line in text.lines().filter_map(|line| line.strip_prefix(prefix)) {
            let (labels, count) = line.rsplit_once("} ").context("a metric")?;
            if !labels.contains("result=\"success\"") || !labels.contains("kind=\"OdooAiStack\"") {
                continue;
            }
            let bound = labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).context("a bound")?;
            histogram.add(bound.parse().unwrap_or(f64::INFINITY), count.parse()?);
        }
        Ok(histogram)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        Ok(body.to_owned())
    }
}
