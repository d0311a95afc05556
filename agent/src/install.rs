//! `agent install`: the init container that puts the agent into a pod of another image.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

/// A step of the copy that failed.
#[derive(Debug, Error)]
#[error("{step} {path}: {source}")]
pub(crate) struct InstallError {
    step: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// Runs the command.
pub(crate) fn main(dir: &Path) -> ExitCode {
    match install(dir) {
        Ok(path) => {
            tracing::info!(path = %path.display(), "agent installed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "agent not installed");
            ExitCode::FAILURE
        }
    }
}

/// Copies this binary under a temporary name and renames it, so that a killed
/// copy is never started. Returns where it is.
fn install(dir: &Path) -> Result<PathBuf, InstallError> {
    let at = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| InstallError { step, path, source }
    };
    let own = Path::new("/proc/self/exe");
    let temporary = dir.join(".agent.partial");
    let target = dir.join("agent");
    fs::create_dir_all(dir).map_err(at("create", dir))?;
    fs::copy(own, &temporary).map_err(at("copy to", &temporary))?;
    fs::set_permissions(&temporary, Permissions::from_mode(0o755)).map_err(at("set the mode of", &temporary))?;
    File::open(&temporary).and_then(|file| file.sync_all()).map_err(at("write", &temporary))?;
    fs::rename(&temporary, &target).map_err(at("rename to", &target))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installs_twice_into_a_new_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("bin");
        for _ in 0..2 {
            let path = install(&dir).expect("installed");
            let mode = fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        assert_eq!(fs::read_dir(&dir).expect("readable").count(), 1);
    }
}
