//! A client inside the cluster that asks the Service, or the route, twenty times a second and keeps count. Half of it keeps its
//! connections, as other services do, the other half makes a new one for each question, as webhooks come. The
//! dashboard is asked ten times a second beside it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use odoo_ai_tests::{apply_yaml, logs, wait_for};

use crate::room::{Room, STACK};

const NAME: &str = "poller";

/// A pod under the restricted standard; each failure is a line, and each 25th success.
const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: poller}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  enableServiceLinks: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: poller
      image: odoo-ai-platform/odoo-stub:1.0.0
      imagePullPolicy: IfNotPresent
      command: [python3, -u, -c]
      args:
        - |
          import http.client, threading, time
          from urllib.parse import urlsplit
          lock, done, slowest = threading.Lock(), 0, 0.0
          def ask(url, keeps):
              global done, slowest
              connection = None
              while True:
                  began = time.time()
                  for again in (True, False):
                      reused = connection is not None
                      try:
                          if not reused:
                              connection = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
                          connection.request("GET", url.path, headers={"Host": url.fragment or url.netloc})
                          answer = connection.getresponse()
                          answer.read()
                          if answer.status != 200:
                              raise RuntimeError(f"status {answer.status}")
                          error = None
                      except Exception as failure:
                          error = failure
                      if error is not None or not keeps or answer.will_close:
                          connection.close()
                          connection = None
                      # A kept connection that the other side has closed meanwhile was never asked anything.
                      closed = isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))
                      if not (reused and closed and again):
                          break
                  with lock:
                      slowest = max(slowest, time.time() - began)
                      if error is None:
                          done += 1
                          if done % 25 == 0:
                              print(f"answered {done} slowest {slowest:.2f}")
                      else:
                          print(f"FAILED {url.hostname} at {began:.2f} after {time.time() - began:.2f} s: {error!r}")
                  time.sleep(max(0.0, 0.2 - (time.time() - began)))
          for number, url in enumerate(4 * ["API"] + 2 * ["DASHBOARD"]):
              threading.Thread(target=ask, args=(urlsplit(url), number % 2 == 0)).start()
              time.sleep(0.03)
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 96Mi}}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
"#;

/// The pod, which has had its first answers.
pub(crate) struct Poller<'a>(&'a Room);

/// What it has seen so far.
pub(crate) struct Count {
    pub(crate) answered: u64,
    pub(crate) slowest: f64,
    pub(crate) failures: Vec<String>,
}

impl<'a> Poller<'a> {
    pub(crate) async fn start(room: &'a Room) -> Result<Self> {
        let ingress = room.stack().await?.spec.ingress.unwrap_or_default();
        // Through Traefik where there is a route; the host is the fragment.
        let at = |host: Option<&String>, component: &str, port: u16, path: &str| match host {
            Some(host) => format!("http://traefik.kube-system.svc:80{path}#{host}"),
            None => format!("http://{STACK}-{component}:{port}{path}"),
        };
        let api = at(ingress.api.as_ref().map(|it| &it.host), "ai-service", 8000, "/openapi.json");
        let dashboard = at(ingress.dashboard.as_ref().map(|it| &it.host), "dashboard", 3000, "/");
        let pod = POD.replace("API", &api).replace("DASHBOARD", &dashboard);
        apply_yaml(&room.client, &room.ns, &pod).await?;
        let poller = Self(room);
        wait_for("the poller's first answers", Duration::from_secs(30), || async {
            Ok((poller.count().await?.answered > 0).then_some(()))
        })
        .await?;
        Ok(poller)
    }

    pub(crate) async fn count(&self) -> Result<Count> {
        let text = logs(&self.0.client, &self.0.ns, NAME, None).await?;
        let failures = text.lines().filter(|line| line.starts_with("FAILED")).map(str::to_owned).collect();
        let last = text.lines().rfind(|line| line.starts_with("answered"));
        let words: Vec<&str> = last.unwrap_or("answered 0 slowest 0").split(' ').collect();
        let [_, answered, _, slowest] = words[..] else { anyhow::bail!("the poller said {words:?}") };
        Ok(Count { answered: answered.parse()?, slowest: slowest.parse().context("no number")?, failures })
    }

    /// Ends it. Between `before` and now every question had its answer.
    pub(crate) async fn never_failed(self, before: &Count) -> Result<String> {
        let now = self.count().await?;
        self.0.api::<Pod>().delete(NAME, &DeleteParams::default().grace_period(0)).await?;
        let failures = &now.failures[before.failures.len()..];
        ensure!(failures.is_empty(), "{} questions failed: {}", failures.len(), failures.join("; "));
        ensure!(now.answered > before.answered + 50, "only {} answers", now.answered - before.answered);
        Ok(format!("{} answers, none failed, slowest {:.2} s", now.answered - before.answered, now.slowest))
    }
}
