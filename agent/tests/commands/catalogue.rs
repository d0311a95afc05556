//! A stack whose database is backed up on a folder, and what lies there afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::servers::{PASSWORD, Postgres, newest_binaries, skip};

/// The database, and the volume.
pub(crate) struct Stack {
    pub(crate) server: Arc<Postgres>,
    pub(crate) database: String,
    pub(crate) volume: TempDir,
}

/// How a run ended.
pub(crate) struct Ran {
    pub(crate) report: Value,
    pub(crate) output: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, result: &str, reason: &str) -> Self {
        let found = (self.report["result"].as_str(), self.report["reason"].as_str());
        assert_eq!(found, (Some(result), Some(reason)), "{}\n{}", self.report, self.output);
        self
    }

    pub(crate) fn message(&self) -> &str {
        self.report["message"].as_str().expect("a message")
    }
}

impl Stack {
    /// On the shared server; `None`, aloud, where there is none.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let Some(server) = Postgres::shared() else {
            skip(test, "no PostgreSQL here");
            return None;
        };
        Some(Self::on(server))
    }

    pub(crate) fn on(server: Arc<Postgres>) -> Self {
        let database = server.fresh_name();
        server.execute(
            "postgres",
            &format!("CREATE ROLE \"{database}\" LOGIN PASSWORD '{}'", APP_PASSWORD.replace('\'', "''")),
        );
        server.execute("postgres", &format!("CREATE DATABASE \"{database}\" OWNER \"{database}\""));
        Self { server, database, volume: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn sql(&self, sql: &str) -> Vec<String> {
        self.server.execute(&self.database, sql)
    }

    /// `agent backup` for the policy `nightly`.
    pub(crate) fn agent(&self) -> Agent {
        let binaries = newest_binaries().expect("a server has programs");
        Agent::new(&["backup"])
            .database(self.server.port, &self.database)
            .admin(&self.server)
            .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
            .env("ODOOAI_BACKUP_VOLUME", self.volume.path())
            .env("ODOOAI_BACKUP_NAMESPACE", "ns")
            .env("ODOOAI_BACKUP_STACK", "stack")
            .env("ODOOAI_BACKUP_POLICY", "nightly")
    }

    /// `agent verify` of the same.
    pub(crate) fn verifier(&self) -> Agent {
        let binaries = newest_binaries().expect("a server has programs");
        let scratch = self.volume.path().join("scratch");
        std::fs::create_dir_all(&scratch).expect("made");
        // It is somebody else there.
        let opened =
            Command::new("chmod").args(["-R", "a+rwX"]).arg(self.volume.path()).status().expect("chmod can be run");
        assert!(opened.success());
        Agent::as_server_user(&["verify"])
            .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
            .env("ODOOAI_BACKUP_VOLUME", self.volume.path())
            .env("ODOOAI_BACKUP_NAMESPACE", "ns")
            .env("ODOOAI_BACKUP_STACK", "stack")
            .env("ODOOAI_BACKUP_POLICY", "nightly")
            .env("ODOOAI_VERIFY_SCRATCH", scratch)
            .env("ODOOAI_VERIFY_RESERVE_BYTES", "1")
    }

    pub(crate) fn back_up(&self) -> Ran {
        ran(&mut self.agent())
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.volume.path().join("ns/stack")
    }

    /// Names and manifests of all that has one, the oldest first. Each is proven: its dump is what it says.
    #[track_caller]
    pub(crate) fn good(&self) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for name in names(&self.folder()) {
            let folder = self.folder().join(&name);
            let Ok(text) = std::fs::read(folder.join("manifest")) else { continue };
            let manifest: Value = serde_json::from_slice(&text).expect("a manifest is whole or not there");
            let dump = std::fs::read(folder.join("dump")).expect("a manifest has a dump");
            let hash = Sha256::digest(&dump).iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
            assert_eq!(
                (manifest["bytes"].as_u64(), manifest["sha256"].as_str()),
                (Some(dump.len() as u64), Some(&*hash))
            );
            found.push((name, manifest));
        }
        found
    }

    /// Names of whatever lies in the catalogue.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.folder())
    }

    /// Restores a dump into a new database; its name.
    pub(crate) fn restore(&self, id: &str) -> String {
        let database = self.server.fresh_name();
        self.server.execute("postgres", &format!("CREATE DATABASE \"{database}\" TEMPLATE template0"));
        let manifest: Value =
            serde_json::from_slice(&std::fs::read(self.folder().join(id).join("manifest")).expect("there"))
                .expect("JSON");
        let dump = std::fs::File::open(self.folder().join(id).join("dump")).expect("there");
        let archive = self.volume.path().join(format!("{database}.archive"));
        let mut sink = std::fs::File::create(&archive).expect("made");
        if manifest["compression"] == "Zstd" {
            zstd::stream::copy_decode(dump, &mut sink).expect("zstd");
        } else {
            std::io::copy(&mut &dump, &mut sink).expect("copied");
        }
        let output = Command::new(newest_binaries().expect("programs").join("pg_restore"))
            .args(["--exit-on-error", "--host=127.0.0.1", "--username=postgres"])
            .args([&format!("--port={}", self.server.port), &format!("--dbname={database}")])
            .arg(&archive)
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("pg_restore can be run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::remove_file(archive).expect("ours");
        database
    }
}

/// Runs it to its end.
pub(crate) fn ran(agent: &mut Agent) -> Ran {
    let output = agent.output();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let report = agent.report();
    for secret in [APP_PASSWORD, PASSWORD] {
        assert!(!said.contains(secret) && !report.to_string().contains(secret), "a password was told: {said}");
    }
    Ran { report, output: said }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
