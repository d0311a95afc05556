//! The harness itself: what the other suites take for granted.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::{Api, Client};
use odoo_ai_tests::{
    Cluster, apply_yaml, exec, logs, run_dir, service_get, wait_for, wait_object, wait_pod_ready, with_namespace,
};

const READY: Duration = Duration::from_secs(90);

async fn load(images: &[&str]) -> Result<()> {
    let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
    let cluster = Cluster::shared().await?;
    // Somebody else's cluster pulls them.
    if cluster.container().is_ok() {
        cluster.load_images(&images).await?;
    }
    Ok(())
}

/// A Service takes a moment to lead to a pod that has just become ready.
async fn answer_of(client: &Client, ns: &str, pod: &str, command: &[&str]) -> Result<String> {
    wait_for("the Service to lead to the pod", Duration::from_secs(30), || async {
        exec(client, ns, pod, None, command).await?.ok().map(Some)
    })
    .await
}

fn postgres(version: u32, environment: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: database}}
spec: {{selector: {{app: database}}, ports: [{{port: 5432}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: database-0, labels: {{app: database}}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  securityContext:
    runAsUser: 999
    runAsGroup: 999
    fsGroup: 999
    runAsNonRoot: true
    seccompProfile: {{type: RuntimeDefault}}
  containers:
    - name: postgres
      image: postgres:{version}
      args: [-c, max_connections=42]
      env:
        - {{name: PGDATA, value: /var/lib/postgresql/data/pgdata}}
        {environment}
      readinessProbe:
        exec: {{command: [pg_isready, -h, 127.0.0.1]}}
        periodSeconds: 1
      securityContext:
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {{drop: [ALL]}}
      volumeMounts:
        - {{name: data, mountPath: /var/lib/postgresql/data}}
        - {{name: run, mountPath: /var/run/postgresql}}
        - {{name: tmp, mountPath: /tmp}}
  volumes:
    - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
    - {{name: run, emptyDir: {{}}}}
    - {{name: tmp, emptyDir: {{}}}}
"
    )
}

async fn postgres_keeps_its_contract(version: u32) -> Result<()> {
    load(&[&format!("postgres:{version}")]).await?;
    with_namespace(&format!("postgres-{version}"), |client, ns| async move {
        let environment = "- {name: POSTGRES_USER, value: owner}
        - {name: POSTGRES_DB, value: shop-1}
        - {name: POSTGRES_PASSWORD, value: \"it's secret\"}";
        apply_yaml(&client, &ns, &postgres(version, environment)).await?;
        wait_pod_ready(&client, &ns, "database-0", READY).await?;

        let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &ns);
        let claim = claims.get("data").await?;
        let phase = claim.status.and_then(|status| status.phase);
        ensure!(phase.as_deref() == Some("Bound"), "the claim is {phase:?}");

        // By the Service's name, so that DNS, kube-proxy and the password are tried at once.
        let query = "SELECT current_user || ' ' || current_database() || ' ' || \
                     current_setting('max_connections') || ' ' || current_setting('server_version_num')";
        let script = format!(
            "PGPASSWORD=\"it's secret\" psql -Atqc \"{query}\" -h database.{ns}.svc.cluster.local -U owner shop-1"
        );
        let answer = answer_of(&client, &ns, "database-0", &["bash", "-c", &script]).await?;
        let expected = format!("owner shop-1 42 {version}");
        ensure!(answer.starts_with(&expected), "psql said {answer}");

        let wrong = script.replace("it's secret", "wrong");
        let refused = exec(&client, &ns, "database-0", None, &["bash", "-c", &wrong]).await?;
        ensure!(!refused.success, "a wrong password was accepted");
        ensure!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);

        let log = logs(&client, &ns, "database-0", None).await?;
        ensure!(log.contains("database system is ready to accept connections"), "{log}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn postgres_15_keeps_its_contract() -> Result<()> {
    postgres_keeps_its_contract(15).await
}

#[tokio::test]
async fn postgres_17_keeps_its_contract() -> Result<()> {
    postgres_keeps_its_contract(17).await
}

#[tokio::test]
async fn postgres_refuses_to_start_without_a_password() -> Result<()> {
    load(&["postgres:15"]).await?;
    with_namespace("no-password", |client, ns| async move {
        let yaml = postgres(15, "- {name: POSTGRES_USER, value: owner}");
        apply_yaml(&client, &ns, &yaml).await?;
        let pods = Api::<Pod>::namespaced(client.clone(), &ns);
        wait_object(&pods, "database-0", "Failed", READY, |pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Failed")
        })
        .await?;
        let log = logs(&client, &ns, "database-0", None).await?;
        ensure!(log.contains("POSTGRES_PASSWORD"), "{log}");
        Ok(())
    })
    .await
}

const REDIS: &str = "
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{name: redis, port: 6379}]}
---
apiVersion: v1
kind: Pod
metadata: {name: redis-0, labels: {app: redis}}
spec:
  terminationGracePeriodSeconds: 5
  securityContext: {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true}
  containers:
    - name: redis
      image: redis:7
      args: [--requirepass, secret]
      readinessProbe: {tcpSocket: {port: 6379}, periodSeconds: 1}
      securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";

#[tokio::test]
async fn redis_keeps_its_contract() -> Result<()> {
    load(&["redis:7"]).await?;
    with_namespace("redis", |client, ns| async move {
        apply_yaml(&client, &ns, REDIS).await?;
        wait_pod_ready(&client, &ns, "redis-0", READY).await?;
        let command = ["redis-cli", "-h", "redis", "--no-auth-warning", "-a", "secret", "ping"];
        let answer = answer_of(&client, &ns, "redis-0", &command).await?;
        ensure!(answer.trim() == "PONG", "redis said {answer}");
        let command = ["redis-cli", "-h", "redis", "ping"];
        let answer = exec(&client, &ns, "redis-0", None, &command).await?;
        ensure!(answer.stdout.contains("NOAUTH"), "redis said {}", answer.stdout);
        Ok(())
    })
    .await
}

// Perl, because every Debian image has it.
const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: web
      image: redis:7
      command: [perl, -MIO::Socket::INET, -e]
      args:
        - |
          my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1);
          while (my $client = $server->accept) {
            my $request = <$client>;
            while (<$client>) { last if /^\r?$/ }
            print $client "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello";
            close $client;
          }
      readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
"#;

#[tokio::test]
async fn a_service_answers_through_the_api_server() -> Result<()> {
    load(&["redis:7"]).await?;
    with_namespace("web", |client, ns| async move {
        apply_yaml(&client, &ns, WEB).await?;
        wait_pod_ready(&client, &ns, "web", READY).await?;
        let answer =
            wait_for("an answer", READY, || async { service_get(&client, &ns, "web", "http", "/").await.map(Some) })
                .await?;
        ensure!(answer == "hello", "it said {answer}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_failing_test_is_dumped_and_its_namespace_goes() -> Result<()> {
    load(&["redis:7"]).await?;
    let outcome: Result<String> = with_namespace("fails", |client, ns| async move {
        apply_yaml(&client, &ns, REDIS).await?;
        wait_pod_ready(&client, &ns, "redis-0", READY).await?;
        bail!("on purpose in {ns}")
    })
    .await;
    let error = outcome.err().context("the error got lost")?;
    let message = format!("{error:#}");
    let namespace = message.rsplit(' ').next().context("no namespace in the message")?.to_owned();
    let folder = run_dir().join("dumps").join(&namespace);
    let log = std::fs::read_to_string(folder.join("redis-0.redis.log"))?;
    ensure!(log.contains("Ready to accept connections"), "{log}");
    let events = std::fs::read_to_string(folder.join("events.txt"))?;
    ensure!(events.contains("Pod/redis-0 Started"), "{events}");
    ensure!(folder.join("pods.json").is_file());
    std::fs::remove_dir_all(&folder)?;

    let namespaces = Api::<Namespace>::all(Cluster::shared().await?.client().await?);
    wait_for("the namespace to go", READY, || async {
        Ok(namespaces.get_opt(&namespace).await?.is_none().then_some(()))
    })
    .await
}
