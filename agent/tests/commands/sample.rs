//! The sample application with the real one's traps, as its image has it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::servers::skip;

/// The released database's tables, types and rows, without Alembic.
pub(crate) const RELEASED: &str = include_str!("../../../tests/app/fixtures/released.sql");

/// An image of the sample application: a working directory, and the Python that it needs.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) folder: TempDir,
    venv: PathBuf,
}

impl Sample {
    /// This release; `None` where the machine has no Python for it.
    pub(crate) fn install(test: &str, version: &str) -> Option<Self> {
        let Some(venv) = std::env::var_os("AGENT_TEST_VENV").map(PathBuf::from) else {
            skip(test, "AGENT_TEST_VENV names no virtual environment with alembic");
            return None;
        };
        let sample = Self { folder: TempDir::new().expect("a temporary folder"), venv };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/app/ai-service/.");
        let copied =
            Command::new("cp").arg("-r").arg(source).arg(sample.folder.path()).status().expect("cp can be run");
        assert!(copied.success());
        sample.python(&["-m", "app.sample.install", version]);
        Some(sample)
    }

    /// Adds a revision after 003, or changes a file.
    pub(crate) fn put(&self, path: &str, content: &str) {
        std::fs::write(self.folder.path().join(path), content).expect("written");
    }

    /// Adds a revision with these statements of Python.
    pub(crate) fn revise(&self, revision: &str, down: &str, upgrade: &str) {
        let head = "import os\nimport sqlalchemy as sa\nfrom alembic import op\n";
        let body = upgrade.replace('\n', "\n    ");
        self.put(
            &format!("alembic/versions/{revision}.py"),
            &format!("{head}revision = '{revision}'\ndown_revision = {down}\ndef upgrade():\n    {body}\n"),
        );
    }

    fn python(&self, arguments: &[&str]) {
        let done = self.command("python", arguments).output().expect("Python can be run");
        assert!(done.status.success(), "{done:?}");
    }

    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.venv.join("bin").join(program));
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("PATH", self.path());
        command
    }

    pub(crate) fn path(&self) -> String {
        format!("{}/bin:/usr/bin:/bin", self.venv.display())
    }
}
