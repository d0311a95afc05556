//! Runs and what is left of them: a run holds a lock while it lives, and everything it starts wears
//! its name, so that the next run can tell leftovers from what is in use.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::docker::docker;
use crate::paths::run_dir;

/// Which run a container belongs to.
pub(crate) const LABEL_RUN: &str = "odoo-ai-operator.test";
/// `up`: stays until `hack/down`.
pub(crate) const LABEL_UP: &str = "odoo-ai-operator.up";
/// The lock file that is held while the run lives.
pub(crate) const LABEL_LOCK: &str = "odoo-ai-operator.lock";

/// One run of tests, or the lasting cluster of `hack/up`.
#[derive(Clone, Debug)]
pub struct Run {
    name: String,
    lasting: bool,
    // Held, never read: closing it is what ends the run.
    _lock: Option<Arc<File>>,
}

impl Run {
    /// A run that ends with this process; its lock goes with the process, however that ends.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn of_this_process() -> Result<Self> {
        let name = format!("test-{}-{}", std::process::id(), jiff::Timestamp::now().as_second());
        let run = Self { name, lasting: false, _lock: None };
        std::fs::create_dir_all(run.folder())?;
        let lock = OpenOptions::new().create(true).append(true).open(run.lock_path())?;
        lock.try_lock().context("locking the run")?;
        Ok(Self { _lock: Some(Arc::new(lock)), ..run })
    }

    /// A run whose lock a caller holds (`hack/test`), by its name.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn named(name: &str) -> Result<Self> {
        let run = Self { name: name.to_owned(), lasting: false, _lock: None };
        std::fs::create_dir_all(run.folder())?;
        Ok(run)
    }

    /// What `hack/up` starts.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn lasting() -> Result<Self> {
        let run = Self { name: "up".to_owned(), lasting: true, _lock: None };
        std::fs::create_dir_all(run.folder())?;
        Ok(run)
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the run keeps its kubeconfig and lock.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        run_dir().join("runs").join(&self.name)
    }

    /// The kubeconfig of the run's cluster.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// A name for the run's container; several users of one Docker may have a run called `up`.
    pub(crate) fn container_name(&self) -> String {
        format!("odoo-ai-{}-{}", self.name, std::process::id())
    }

    /// The run's container, where there is one.
    pub(crate) async fn container(&self) -> Result<Option<String>> {
        let filter = format!("label={LABEL_LOCK}={}", self.lock_path().display());
        let node = format!("name=odoo-ai-{}-", self.name);
        let names = docker(["ps", "-a", "--filter", &filter, "--filter", &node, "--format", "{{.Names}}"]).await?;
        Ok(names.lines().next().map(str::to_owned))
    }

    /// Starts a container beside the run's node, with these options and arguments; it outlives the node and ends with
    /// the run. Gives its address.
    ///
    /// # Errors
    /// When docker cannot start it.
    pub async fn beside(&self, image: &str, options: &[&str], arguments: &[&str]) -> Result<String> {
        let labels: Vec<_> =
            self.labels().into_iter().map(|(label, value)| format!("--label={label}={value}")).collect();
        let labels = labels.iter().map(String::as_str);
        let run = ["run", "-d"].into_iter().chain(labels).chain(options.iter().copied());
        let container = docker(run.chain([image]).chain(arguments.iter().copied())).await?;
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        docker(["inspect", "-f", format, &container]).await
    }

    pub(crate) fn is_lasting(&self) -> bool {
        self.lasting
    }

    fn lock_path(&self) -> PathBuf {
        self.folder().join("lock")
    }

    pub(crate) fn labels(&self) -> Vec<(String, String)> {
        let mut labels = vec![
            (LABEL_RUN.to_owned(), self.name.clone()),
            (LABEL_LOCK.to_owned(), self.lock_path().display().to_string()),
        ];
        if self.lasting {
            labels.push((LABEL_UP.to_owned(), "true".to_owned()));
        }
        labels
    }

    /// A process that waits for the end of the run and removes its containers, so that even a
    /// killed run leaves nothing; what kills this one too is left to [`sweep`].
    pub(crate) fn start_reaper(&self) -> Result<()> {
        if self.lasting {
            return Ok(());
        }
        let script = r#"flock "$1" true
            docker ps -aq --filter "label=$2=$1" | xargs -r docker rm -fv; rm -rf "$3""#;
        Command::new("setsid")
            .args(["sh", "-c", script, "odoo-ai-reaper"])
            .arg(self.lock_path())
            .arg(LABEL_LOCK)
            .arg(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the reaper")?;
        Ok(())
    }

    /// Removes the run's container with its volume, and its folder.
    ///
    /// # Errors
    /// When docker cannot remove the container.
    pub async fn remove(&self) -> Result<()> {
        if let Some(container) = self.container().await? {
            remove_container(&container).await?;
        }
        std::fs::remove_dir_all(self.folder()).or_else(ignore_missing)?;
        Ok(())
    }
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Also when the run's reaper is at it.
fn is_gone(error: &str) -> bool {
    error.contains("No such container") || error.contains("already in progress")
}

async fn remove_container(name: &str) -> Result<()> {
    match docker(["rm", "-fv", name]).await {
        Err(error) if !is_gone(&error.to_string()) => Err(error),
        _ => Ok(()),
    }
}

/// Whether somebody holds the lock; a lock file that is gone belongs to nobody.
fn held(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes what runs that are over have left, and gives the names of the containers removed.
///
/// # Errors
/// When docker does not answer.
pub async fn sweep() -> Result<Vec<String>> {
    let format = format!("{{{{.Names}}}}\t{{{{.Label \"{LABEL_UP}\"}}}}\t{{{{.Label \"{LABEL_LOCK}\"}}}}");
    let filter = format!("label={LABEL_RUN}");
    let listing = docker(["ps", "-a", "--filter", &filter, "--format", &format]).await?;
    let mut removed = Vec::new();
    for line in listing.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(up), Some(lock)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if up == "true" || held(Path::new(lock)) {
            continue;
        }
        remove_container(name).await?;
        removed.push(name.to_owned());
    }
    let runs = run_dir().join("runs");
    for entry in runs.read_dir().into_iter().flatten().flatten() {
        if entry.file_name() != "up" && !held(&entry.path().join("lock")) {
            std::fs::remove_dir_all(entry.path()).or_else(ignore_missing)?;
        }
    }
    Ok(removed)
}
