//! A Kubernetes cluster: started for a run, lasting for `hack/up`, or somebody else's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::{Mutex, OnceCell};

use crate::docker::{copy_images, docker, docker_quiet};
use crate::node::{self, Flavour};
use crate::ready;
use crate::run::{Run, sweep};
use crate::wait::wait_for;

/// A cluster with real pods.
#[derive(Clone, Debug)]
pub struct Cluster {
    run: Option<Run>,
    kubeconfig: PathBuf,
    node: Option<Node>,
}

/// The container of a cluster that is ours.
#[derive(Clone, Debug)]
struct Node {
    container: String,
    flavour: Flavour,
}

static SHARED: OnceCell<Cluster> = OnceCell::const_new();

/// Tests that run side by side often want the same image.
static LOADING: Mutex<()> = Mutex::const_new(());

impl Cluster {
    /// The cluster of this test process: the one that `ODOOAI_KUBECONFIG` names, or `hack/test`
    /// started, or a new one that ends with the process.
    ///
    /// # Errors
    /// When the cluster does not come up.
    pub async fn shared() -> Result<&'static Self> {
        SHARED
            .get_or_try_init(|| async {
                if let Some(run) = std::env::var_os("ODOOAI_TEST_RUN") {
                    let run = Run::named(&run.to_string_lossy())?;
                    return Self::find(run).await?.context("the cluster of this run is gone");
                }
                if let Some(file) = std::env::var_os("ODOOAI_KUBECONFIG") {
                    return Ok(Self::attach(file.into()));
                }
                sweep().await?;
                Self::start(Run::of_this_process()?).await
            })
            .await
    }

    /// A cluster that is there already; it is never stopped, restarted or given images.
    #[must_use]
    pub fn attach(kubeconfig: PathBuf) -> Self {
        Self { run: None, kubeconfig, node: None }
    }

    /// The cluster of a run, where its container exists; a stopped one is started again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn find(run: Run) -> Result<Option<Self>> {
        let Some(container) = run.container().await? else {
            return Ok(None);
        };
        let format = "{{.State.Running}} {{.Config.Image}}";
        let state = docker(["inspect", "-f", format, &container]).await?;
        let (running, image) = state.split_once(' ').context("docker inspect said nothing")?;
        let node = Node { container: container.clone(), flavour: Flavour::of(image) };
        let cluster = Self { kubeconfig: run.kubeconfig(), node: Some(node), run: Some(run) };
        let since = Timestamp::now();
        if running == "true" {
            cluster.fetch_kubeconfig().await?;
        } else {
            docker(["start", &container]).await?;
            cluster.fetch_kubeconfig().await?;
            ready::after_boot(&cluster.client().await?, since).await?;
        }
        Ok(Some(cluster))
    }

    /// Starts a node for the run and waits until pods can run.
    ///
    /// # Errors
    /// When it does not come up; the message holds the end of the container's log.
    pub async fn start(run: Run) -> Result<Self> {
        let image = node::image().await;
        if !run.is_lasting() {
            run.start_reaper()?;
        }
        node::start(&run, &image).await?;
        let node = Node { container: run.container_name(), flavour: Flavour::of(&image) };
        let cluster = Self { kubeconfig: run.kubeconfig(), node: Some(node), run: Some(run) };
        if let Err(error) = cluster.come_up().await {
            let log = docker_quiet(["logs", "--tail", "40", &cluster.container()?]).await;
            return Err(error.context(log.unwrap_or_default()));
        }
        Ok(cluster)
    }

    async fn come_up(&self) -> Result<()> {
        self.fetch_kubeconfig().await?;
        ready::node(&self.client().await?).await
    }

    /// A client for the calling runtime.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)
            .with_context(|| format!("reading {}", self.kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// Whether the node is `rancher/k3s`, which has `NetworkPolicy`, servicelb and Traefik.
    #[must_use]
    pub fn is_k3s(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.flavour == Flavour::K3s)
    }

    /// The node's container.
    ///
    /// # Errors
    /// For a cluster that was only attached to.
    pub fn container(&self) -> Result<String> {
        self.node().map(|node| node.container.clone())
    }

    fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("this cluster is not ours")
    }

    /// The IPv4 address of the node, reachable from this machine.
    ///
    /// # Errors
    /// For a cluster that was only attached to.
    pub async fn node_ip(&self) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(["inspect", "-f", format, &self.container()?]).await
    }

    /// Makes images of this machine known to the node; what the node has is skipped. Gives the
    /// names of those that were copied.
    ///
    /// # Errors
    /// When an image does not exist or cannot be copied.
    pub async fn load_images(&self, images: &[String]) -> Result<Vec<String>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let container = self.container()?;
        let _one_at_a_time = LOADING.lock().await;
        let mut wanted = BTreeMap::new();
        for image in images {
            let id = docker(["image", "inspect", "-f", "{{.Id}}", image]).await?;
            wanted.insert(image.clone(), id);
        }
        let list = "cat /var/lib/odoo-ai-loaded 2>/dev/null || true";
        let present = docker(["exec", &container, "sh", "-c", list]).await?;
        let present: BTreeMap<&str, &str> = present.lines().filter_map(|line| line.split_once(' ')).collect();
        let missing: Vec<String> = wanted
            .iter()
            .filter(|(image, id)| present.get(image.as_str()) != Some(&id.as_str()))
            .map(|(image, _)| image.clone())
            .collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        copy_images(&container, &missing).await?;
        // Later lines win, so that an image that was built again is known by its new content.
        let note = missing.iter().fold(String::new(), |note, image| {
            note + &format!("echo '{image} {}' >>/var/lib/odoo-ai-loaded;", wanted[image])
        });
        docker(["exec", &container, "sh", "-c", &note]).await?;
        Ok(missing)
    }

    /// A reboot of the node: every process ends, the disks stay. Returns when the node and the
    /// pods of its infrastructure are ready again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn reboot(&self) -> Result<Duration> {
        self.boot(&[&["restart", "-t", "15"]]).await
    }

    /// The node loses its power, and gets it back: every process ends at once, and nobody is asked to. Returns when
    /// [`Cluster::reboot`] does.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn crash(&self) -> Result<Duration> {
        self.boot(&[&["kill", "--signal", "KILL"], &["start"]]).await
    }

    async fn boot(&self, commands: &[&[&str]]) -> Result<Duration> {
        let (started, since) = (Instant::now(), Timestamp::now());
        let container = self.container()?;
        for command in commands {
            docker(command.iter().copied().chain([container.as_str()])).await?;
        }
        self.fetch_kubeconfig().await?;
        ready::after_boot(&self.client().await?, since).await?;
        Ok(started.elapsed())
    }

    /// Removes the cluster and everything in it.
    ///
    /// # Errors
    /// When docker cannot remove it.
    pub async fn remove(&self) -> Result<()> {
        match &self.run {
            Some(run) => run.remove().await,
            None => Ok(()),
        }
    }

    async fn fetch_kubeconfig(&self) -> Result<()> {
        let container = self.container()?;
        let flavour = self.node()?.flavour;
        let published = docker(["port", &container, "6443/tcp"]).await?;
        let port = published
            .lines()
            .find_map(|line| line.rsplit_once(':'))
            .map(|(_, port)| port.to_owned())
            .context("the node publishes no port")?;
        let text = wait_for("the node's kubeconfig", Duration::from_mins(1), || async {
            let running = docker(["inspect", "-f", "{{.State.Running}}", &container]).await?;
            if running != "true" {
                bail!("the node's container has ended");
            }
            Ok(docker_quiet(["exec", &container, "cat", flavour.kubeconfig()])
                .await
                .filter(|text| text.contains("client-key-data")))
        })
        .await?;
        let text = text.replace("https://127.0.0.1:6443", &format!("https://127.0.0.1:{port}"));
        write_private(&self.kubeconfig, &text)
    }
}

fn write_private(path: &PathBuf, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let partial = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&partial, path).with_context(|| format!("writing {}", path.display()))
}
