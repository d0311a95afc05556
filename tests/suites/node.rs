//! What happens to a node: a reboot keeps the volumes, and a killed run leaves nothing.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::{
    Cluster, apply_yaml, docker, docker_quiet, exec, run_dir, wait_for, wait_pod_ready, with_namespace,
};

const READY: Duration = Duration::from_secs(90);

const WRITER: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 64Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true}
  containers:
    - name: writer
      image: redis:7
      command: [bash, -c, 'echo started >>/data/starts; sleep infinity']
      readinessProbe: {exec: {command: [test, -s, /data/starts]}, periodSeconds: 1}
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
";

#[tokio::test]
async fn a_reboot_keeps_volumes_and_starts_the_pods_again() -> Result<()> {
    let cluster = Cluster::shared().await?;
    if cluster.container().is_err() {
        eprintln!("skipped: somebody else's cluster is not rebooted");
        return Ok(());
    }
    cluster.load_images(&["redis:7".to_owned()]).await?;
    with_namespace("reboot", |client, ns| async move {
        apply_yaml(&client, &ns, WRITER).await?;
        wait_pod_ready(&client, &ns, "writer", READY).await?;
        cluster.reboot().await?;
        let client = cluster.client().await?;
        wait_for("the pod to run again", READY, || async {
            let read = ["cat", "/data/starts"];
            let starts = exec(&client, &ns, "writer", None, &read).await?.ok()?;
            ensure!(starts.lines().count() == 2, "it started {} times", starts.lines().count());
            Ok(Some(()))
        })
        .await?;
        wait_for("names to be answered again", READY, || async {
            let lookup = ["getent", "hosts", "kubernetes.default.svc.cluster.local"];
            exec(&client, &ns, "writer", None, &lookup).await?.ok()?;
            Ok(Some(()))
        })
        .await
    })
    .await
}

/// The run is a shell that holds the lock, as `hack/test` does, and is killed without warning.
#[tokio::test]
async fn a_killed_run_leaves_nothing() -> Result<()> {
    let run = format!("killed-{}", std::process::id());
    let folder = run_dir().join("runs").join(&run);
    std::fs::create_dir_all(&folder)?;
    let script = r#"exec 9>"$1/lock"; flock -n 9; ODOOAI_TEST_RUN="$2" "$3" up 9>&- && echo up && exec sleep 600"#;
    let mut shell = Command::new("bash")
        .args(["-c", script, "run"])
        .arg(&folder)
        .arg(&run)
        .arg(env!("CARGO_BIN_EXE_cluster"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = std::io::BufReader::new(shell.stdout.take().context("no output")?);
    let started = tokio::task::spawn_blocking(move || {
        let mut lines = String::new();
        while std::io::BufRead::read_line(&mut output, &mut lines)? > 0 {
            if lines.ends_with("up\n") && lines.lines().last() == Some("up") {
                return Ok::<_, std::io::Error>(true);
            }
        }
        Ok(false)
    })
    .await??;
    ensure!(started, "the run's cluster did not start");

    let filter = format!("label=odoo-ai-operator.test={run}");
    let name = docker(["ps", "--filter", &filter, "--format", "{{.Names}}"]).await?;
    let id = docker(["inspect", "-f", "{{.Id}}", &name]).await?;
    let format = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
    let volumes = docker(["inspect", "-f", format, &name]).await?;
    ensure!(!volumes.is_empty(), "the node has no volume");
    ensure!(!processes(&id).is_empty() && !cgroups(&id).is_empty(), "the node cannot be seen");

    shell.kill()?;
    shell.wait()?;
    wait_for("the killed run's container to go", Duration::from_mins(1), || async {
        Ok(docker_quiet(["inspect", &name]).await.is_none().then_some(()))
    })
    .await?;
    for volume in volumes.split_whitespace() {
        ensure!(docker_quiet(["volume", "inspect", volume]).await.is_none(), "{volume} is left");
    }
    wait_for("processes and cgroups to go", Duration::from_secs(20), || async {
        let (processes, cgroups) = (processes(&id), cgroups(&id));
        ensure!(processes.is_empty(), "processes are left: {processes:?}");
        ensure!(cgroups.is_empty(), "cgroups are left: {cgroups:?}");
        ensure!(!folder.exists(), "{} is left", folder.display());
        Ok(Some(()))
    })
    .await
}

/// Processes whose cgroup or command line names the container.
fn processes(id: &str) -> Vec<String> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|entry| {
            ["cgroup", "cmdline"].iter().any(|file| {
                std::fs::read(entry.path().join(file)).is_ok_and(|text| String::from_utf8_lossy(&text).contains(id))
            })
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Cgroups that the container has made, of whatever controller.
fn cgroups(id: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(id) {
                found.push(entry.path().display().to_string());
            } else {
                open.push(entry.path());
            }
        }
    }
    found
}
