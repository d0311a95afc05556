//! A real API server without nodes: etcd and kube-apiserver as plain processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Service;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::node::free_port;
use crate::paths::{run_dir, tool};
use crate::wait::wait_for;

/// etcd and kube-apiserver; both end with the test process.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    port: u16,
    audited: bool,
}

/// Name of the user whose requests are written down.
pub const AUDITED: &str = "operator";

static SHARED: OnceCell<ApiServer> = OnceCell::const_new();

impl ApiServer {
    /// The API server of this test process.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// Starts one.
    ///
    /// # Errors
    /// When it does not come up; the message names its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(false).await
    }

    /// Starts one with a second user, [`AUDITED`], without any right: whatever that one asks is
    /// written into [`Self::audit_log`].
    ///
    /// # Errors
    /// When it does not come up; the message names its log.
    pub async fn start_audited() -> Result<Self> {
        Self::start_with(true).await
    }

    async fn start_with(audited: bool) -> Result<Self> {
        let port = free_port()?;
        let folder = run_dir().join(format!("apiserver-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        remove_leftovers()?;
        let server = Self { folder, port, audited };
        server.write_credentials()?;
        server.spawn(free_port()?, free_port()?)?;
        let log = server.folder.join("kube-apiserver.log");
        let client = server.client().await?;
        wait_for("the API server", Duration::from_mins(1), || async {
            let version = client.apiserver_version().await?;
            // Before this the namespaces that every test uses are not there.
            client.list_api_groups().await?;
            // And for a moment after it no Service gets an address: "range is full".
            let service = json!({"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 80}]}});
            let service: Service = serde_json::from_value(service)?;
            let services: Api<Service> = Api::namespaced(client.clone(), "default");
            services.create(&PostParams { dry_run: true, ..PostParams::default() }, &service).await?;
            Ok(Some(version))
        })
        .await
        .with_context(|| format!("see {}", log.display()))?;
        Ok(server)
    }

    /// A client for the calling runtime, with every right.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The kubeconfig of the user [`AUDITED`].
    #[must_use]
    pub fn audited_kubeconfig(&self) -> PathBuf {
        self.folder.join("audited-kubeconfig")
    }

    /// One line of JSON for each request of the user [`AUDITED`] that was answered.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn write_credentials(&self) -> Result<()> {
        let token = |user: &str| format!("{user}-{}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let (admin, other) = (token("admin"), token(AUDITED));
        let users = format!("{admin},admin,admin,\"system:masters\"\n{other},{AUDITED},{AUDITED}\n");
        std::fs::write(self.folder.join("tokens.csv"), users)?;
        self.write_kubeconfig(&self.kubeconfig(), "admin", &admin)?;
        self.write_kubeconfig(&self.audited_kubeconfig(), AUDITED, &other)?;
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{"level": "Metadata", "users": [AUDITED]}, {"level": "None"}],
        });
        std::fs::write(self.folder.join("audit-policy.yaml"), policy.to_string())?;
        let key = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(self.folder.join("accounts.key"))
            .stderr(Stdio::null())
            .status()
            .context("running openssl")?;
        if !key.success() {
            bail!("openssl could not make a key");
        }
        Ok(())
    }

    fn write_kubeconfig(&self, path: &Path, user: &str, token: &str) -> Result<()> {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                // Its certificate is made when it starts, for this process only.
                "insecure-skip-tls-verify": true,
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        });
        std::fs::write(path, kubeconfig.to_string())?;
        Ok(())
    }

    fn spawn(&self, etcd_port: u16, peer_port: u16) -> Result<()> {
        let etcd = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let etcd_arguments = vec![
            format!("--data-dir={}", self.folder.join("etcd").display()),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={etcd}"),
            format!("--advertise-client-urls={etcd}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
        ];
        let accounts = self.folder.join("accounts.key").display().to_string();
        let mut api_arguments = vec![
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", self.folder.join("certificates").display()),
            format!("--token-auth-file={}", self.folder.join("tokens.csv").display()),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={accounts}"),
            format!("--service-account-signing-key-file={accounts}"),
            // There is no controller manager that would make service accounts.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ];
        if self.audited {
            api_arguments.extend([
                format!("--audit-policy-file={}", self.folder.join("audit-policy.yaml").display()),
                format!("--audit-log-path={}", self.audit_log().display()),
                // Rotated, it could not be read in one go.
                "--audit-log-maxsize=100000".to_owned(),
            ]);
        }
        let commands = [
            (tool("kubernetes", "server")?, etcd_arguments, self.folder.join("etcd.log")),
            (tool("kubernetes", "kube-apiserver")?, api_arguments, self.folder.join("kube-apiserver.log")),
        ];
        keep(commands.into())
    }
}

/// Starts the processes from a thread that lives as long as this process: the kernel ends them
/// with the thread that started them, however that ends.
fn keep(commands: Vec<(PathBuf, Vec<String>, PathBuf)>) -> Result<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("apiserver".to_owned()).spawn(move || {
        let children: Result<Vec<Child>> =
            commands.iter().map(|(binary, arguments, log)| spawn_bound(binary, arguments, log)).collect();
        let children = match children {
            Ok(children) => children,
            Err(error) => return drop(sender.send(Err(error))),
        };
        drop(sender.send(Ok(children.len())));
        loop {
            std::thread::park();
        }
    })?;
    receiver.recv().context("the thread has ended")?.map(drop)
}

fn spawn_bound(binary: &Path, arguments: &[String], log: &Path) -> Result<Child> {
    let log = std::fs::File::create(log)?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))
}

/// Folders of processes that are over.
fn remove_leftovers() -> Result<()> {
    for entry in run_dir().read_dir()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("apiserver-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
