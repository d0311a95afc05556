//! A client inside the cluster that asks the Service five times a second and keeps count.

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
          import sys, time, urllib.request
          done = 0
          slowest = 0.0
          while True:
              began = time.time()
              try:
                  with urllib.request.urlopen("URL", timeout=5) as answer:
                      answer.read()
                  done += 1
              except Exception as error:
                  print(f"FAILED at {began:.2f} after {time.time() - began:.2f} s: {error!r}")
              slowest = max(slowest, time.time() - began)
              if done % 25 == 0:
                  print(f"answered {done} slowest {slowest:.2f}")
              time.sleep(max(0.0, 0.2 - (time.time() - began)))
      resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {memory: 64Mi}}
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
        let url = format!("http://{STACK}-ai-service:8000/openapi.json");
        apply_yaml(&room.client, &room.ns, &POD.replace("URL", &url)).await?;
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
        self.failed_at_most(before, 0).await
    }

    /// Ends it. Between `before` and now no more than so many questions had none.
    pub(crate) async fn failed_at_most(self, before: &Count, limit: usize) -> Result<String> {
        let now = self.count().await?;
        self.0.api::<Pod>().delete(NAME, &DeleteParams::default().grace_period(0)).await?;
        let failures = &now.failures[before.failures.len()..];
        ensure!(failures.len() <= limit, "{} questions failed: {}", failures.len(), failures.join("; "));
        ensure!(now.answered > before.answered + 50, "only {} answers", now.answered - before.answered);
        let (answered, failed) = (now.answered - before.answered, failures.len());
        Ok(format!("{answered} answers, {failed} failed, slowest {:.2} s", now.slowest))
    }
}
