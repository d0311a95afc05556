//! The catalogue in a folder of a volume. What is written is written under another name, flushed, and renamed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Advice;

use crate::catalogue::entry::{DUMP, Entry, MANIFEST, OWNER, State, VERIFIED, Verified};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::owner::Owner;

/// Ends the name of what is still being written.
const PARTIAL: &str = ".partial";

/// The folder of one stack.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    root: PathBuf,
}

/// Bytes that can still be written where `folder` is, and bytes of all.
///
/// # Errors
/// What the system said.
pub(crate) fn space(folder: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(folder)?;
    Ok((found.f_bavail.saturating_mul(found.f_frsize), found.f_blocks.saturating_mul(found.f_frsize)))
}

/// A file below `root`, where no symbolic link leads out of it.
///
/// # Errors
/// What the system said; `InvalidInput`: it is elsewhere; `IsADirectory`; `Unsupported`: it is no file.
pub(crate) fn file(root: &Path, path: &Path) -> io::Result<File> {
    let root = root.canonicalize()?;
    let real = root.join(path).canonicalize()?;
    if !real.starts_with(&root) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it leads out of the volume"));
    }
    let found = fs::metadata(&real)?;
    match (found.is_dir(), found.is_file()) {
        (true, _) => Err(io::ErrorKind::IsADirectory.into()),
        (_, false) => Err(io::ErrorKind::Unsupported.into()),
        _ => File::open(real),
    }
}

impl Volume {
    /// The folder, made if it isn't there.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Bytes that can still be written, and bytes of all.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        space(&self.root)
    }

    /// Whose it is; `None`: nobody's yet.
    ///
    /// # Errors
    /// It can't be read, or isn't what it should be: then it is somebody's, and nobody knows whose.
    pub(crate) fn owner(&self) -> io::Result<Option<Owner>> {
        let Some(text) = read_if_there(&self.root.join(OWNER))? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Makes it ours.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn claim(&self, owner: &Owner) -> io::Result<()> {
        write(&self.root, OWNER, &serde_json::to_vec_pretty(owner)?)
    }

    /// All that has the name of an artifact, the oldest first. Whatever else lies there is nobody's business.
    ///
    /// # Errors
    /// What the system said; a half-read catalogue is none.
    pub(crate) fn list(&self) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok()) {
                let state = state(&entry.path(), &id)?;
                found.push(Entry { id, state });
            }
        }
        found.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(found)
    }

    /// A file for a new dump.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn begin(&self, id: &Id) -> io::Result<File> {
        let folder = self.folder(id);
        fs::create_dir_all(&folder)?;
        File::create(folder.join(format!("{DUMP}{PARTIAL}")))
    }

    /// Flushes what was written and gives it its name. It is no backup yet.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn keep(&self, id: &Id, dump: &File) -> io::Result<()> {
        dump.sync_all()?;
        let folder = self.folder(id);
        fs::rename(folder.join(format!("{DUMP}{PARTIAL}")), folder.join(DUMP))?;
        sync(&folder)
    }

    /// The dump as the disk has it: what the system still remembers of it proves nothing.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn dump(&self, id: &Id) -> io::Result<File> {
        let file = File::open(self.path(id))?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(file)
    }

    /// Where the dump is.
    pub(crate) fn path(&self, id: &Id) -> PathBuf {
        self.folder(id).join(DUMP)
    }

    /// Makes it a backup.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn commit(&self, manifest: &Manifest) -> io::Result<()> {
        write(&self.folder(&manifest.id), MANIFEST, &manifest.json())?;
        sync(&self.root)
    }

    /// Notes that a verification restored it completely.
    ///
    /// # Errors
    /// What the system said; it may be gone meanwhile.
    pub(crate) fn verified(&self, id: &Id, verified: &Verified) -> io::Result<()> {
        write(&self.folder(id), VERIFIED, &serde_json::to_vec_pretty(verified)?)
    }

    /// What was noted; `None`: nothing that can be understood.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn verification(&self, id: &Id) -> io::Result<Option<Verified>> {
        Ok(read_if_there(&self.folder(id).join(VERIFIED))?.and_then(|text| Verified::parse(id, &text)))
    }

    /// Removes an artifact: its manifest first, so that whatever is left is no backup.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn remove(&self, id: &Id) -> io::Result<()> {
        let folder = self.folder(id);
        if !folder.try_exists()? {
            return Ok(());
        }
        remove_if_there(&folder.join(MANIFEST))?;
        sync(&folder)?;
        for name in [VERIFIED, DUMP] {
            remove_if_there(&folder.join(name))?;
            remove_if_there(&folder.join(format!("{name}{PARTIAL}")))?;
        }
        remove_if_there(&folder.join(format!("{MANIFEST}{PARTIAL}")))?;
        // Not with all that is in it: a person may keep something there.
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other,
        }
    }

    fn folder(&self, id: &Id) -> PathBuf {
        self.root.join(id.to_string())
    }
}

fn state(folder: &Path, id: &Id) -> io::Result<State> {
    let Some(text) = read_if_there(&folder.join(MANIFEST))? else { return Ok(State::Unfinished) };
    let bytes = match fs::metadata(folder.join(DUMP)) {
        Ok(found) => Some(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(State::of(id, &text, bytes, folder.join(VERIFIED).try_exists()?))
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut text).map(|_| Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// All of it under this name, or nothing.
fn write(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!("{name}{PARTIAL}"));
    let mut file = File::create(&partial)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&partial, folder.join(name))?;
    sync(folder)
}

/// A name is kept when its folder is flushed.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
