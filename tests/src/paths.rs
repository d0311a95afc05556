//! Where things are: the repository, the cache, the tools that `hack/` built.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn set(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The cache folder, as `hack/lib/common.sh` has it.
pub(crate) fn cache_dir() -> PathBuf {
    if let Some(cache) = set("ODOOAI_CACHE") {
        return cache.into();
    }
    set("XDG_CACHE_HOME")
        .map_or_else(|| PathBuf::from(set("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache"), PathBuf::from)
        .join("odoo-ai-operator")
}

/// The folder of what runs now: locks, kubeconfigs, dumps.
#[must_use]
pub fn run_dir() -> PathBuf {
    cache_dir().join("run")
}

/// The folder of a tool that `hack/tools/build` built, for the pins of this checkout.
pub(crate) fn tool(name: &str, binary: &str) -> Result<PathBuf> {
    let variable = format!("ODOOAI_TOOL_{}", name.to_uppercase().replace('-', "_"));
    let folder = match set(&variable) {
        Some(folder) => PathBuf::from(folder),
        None => newest_tool(name)?,
    };
    let path = folder.join(binary);
    if !path.is_file() {
        bail!("{} is not there: run hack/tools/build {name}", path.display());
    }
    Ok(path)
}

fn newest_tool(name: &str) -> Result<PathBuf> {
    let tools = cache_dir().join("tools");
    let prefix = format!("{name}-");
    let entries = tools.read_dir().with_context(|| format!("reading {}", tools.display()))?;
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|file| file.strip_prefix(&prefix))
                .is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        })
        .max_by_key(|entry| entry.metadata().and_then(|meta| meta.modified()).ok())
        .map(|entry| entry.path().join("bin"))
        .with_context(|| format!("{name} is not built: run hack/tools/build {name}"))
}

/// The kubectl that was built from the pins.
///
/// # Errors
/// When it is not built.
pub fn kubectl() -> Result<PathBuf> {
    tool("kubernetes", "kubectl")
}
