//! A file system of a fixed size. Mounting one needs root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Mounted as long as it lives; whoever has files open in it must end before.
#[derive(Debug)]
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `size` as mount has it: `4m`. `None` where nothing can be mounted.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(at).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !std::thread::panicking() {
            assert!(unmounted.is_ok_and(|status| status.success()), "{} is still in use", self.0.display());
        }
    }
}
