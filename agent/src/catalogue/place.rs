//! Where a catalogue is: on a volume or in a bucket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::catalogue::bucket::{self, Bucket, SettingsError};
use crate::catalogue::entry::{Entry, Verified};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::owner::Owner;
use crate::catalogue::pipe;
use crate::catalogue::volume::{self, Volume};
use crate::config::{ConfigError, Env};
use crate::redact::Redactor;

/// The storage of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    volume: Option<PathBuf>,
    bucket: Option<bucket::Settings>,
    /// `<namespace>/<stack>`.
    folder: PathBuf,
}

impl Storage {
    /// Reads `ODOOAI_BACKUP_{VOLUME,NAMESPACE,STACK}` and `ODOOAI_S3_*`.
    ///
    /// # Errors
    /// There is neither a volume nor a bucket, or something else is missing.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Self, SettingsError> {
        let bucket = bucket::Settings::from_env(env, redactor)?;
        let volume = env.get("ODOOAI_BACKUP_VOLUME").map(PathBuf::from);
        if volume.is_none() && bucket.is_none() {
            return Err(ConfigError::Missing("ODOOAI_BACKUP_VOLUME").into());
        }
        let (namespace, stack) = (env.required("ODOOAI_BACKUP_NAMESPACE")?, env.required("ODOOAI_BACKUP_STACK")?);
        Ok(Self { volume, bucket, folder: Path::new(namespace).join(stack) })
    }

    /// Where a manifest is the success: the volume, where there is one.
    ///
    /// # Errors
    /// It can't be opened.
    pub(crate) fn open(&self) -> io::Result<Place> {
        match (&self.volume, &self.bucket) {
            (Some(volume), _) => Volume::open(volume.join(&self.folder)).map(Place::Volume),
            (None, Some(bucket)) => Bucket::open(bucket, &self.folder).map(Place::Bucket),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// A file that somebody laid there, by its path below the root of the volume, where there is one, or the bucket's
    /// prefix.
    ///
    /// # Errors
    /// See [`volume::file`]. Of a bucket the first read tells.
    pub(crate) fn file(&self, path: &str) -> io::Result<Box<dyn Read + Send>> {
        match (&self.volume, &self.bucket) {
            (Some(volume), _) => Ok(Box::new(volume::file(volume, Path::new(path))?)),
            (None, Some(bucket)) => Ok(Box::new(Bucket::open(bucket, Path::new(""))?.file(path)?)),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where a copy goes: the bucket, where there is a volume too.
    ///
    /// # Errors
    /// It can't be opened.
    pub(crate) fn open_copy(&self) -> io::Result<Option<Place>> {
        let bucket = self.bucket.as_ref().filter(|_| self.volume.is_some());
        bucket.map(|bucket| Bucket::open(bucket, &self.folder).map(Place::Bucket)).transpose()
    }
}

/// One catalogue. What its functions do and how they fail is told where they are.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// On a volume.
    Volume(Volume),
    /// In a bucket.
    Bucket(Bucket),
}

impl Place {
    /// Bytes that can still be written; `None`: nobody knows.
    pub(crate) fn free(&self) -> io::Result<Option<u64>> {
        match self {
            Self::Volume(volume) => volume.space().map(|(free, _total)| Some(free)),
            Self::Bucket(_) => Ok(None),
        }
    }

    /// See [`Volume::owner`].
    pub(crate) async fn owner(&self) -> io::Result<Option<Owner>> {
        match self {
            Self::Volume(volume) => volume.owner(),
            Self::Bucket(bucket) => bucket.owner().await,
        }
    }

    /// See [`Volume::claim`].
    pub(crate) async fn claim(&self, owner: &Owner) -> io::Result<()> {
        match self {
            Self::Volume(volume) => volume.claim(owner),
            Self::Bucket(bucket) => bucket.claim(owner).await,
        }
    }

    /// See [`Volume::list`].
    pub(crate) async fn list(&self) -> io::Result<Vec<Entry>> {
        match self {
            Self::Volume(volume) => volume.list(),
            Self::Bucket(bucket) => bucket.list().await,
        }
    }

    /// See [`Volume::begin`] and [`Bucket::sink`].
    pub(crate) fn sink(&self, id: &Id, estimate: u64) -> io::Result<Sink> {
        match self {
            Self::Volume(volume) => {
                Ok(Sink::Volume { file: volume.begin(id)?, volume: volume.clone(), id: id.clone() })
            }
            Self::Bucket(bucket) => Ok(Sink::Bucket(bucket.sink(id, estimate))),
        }
    }

    /// See [`Volume::dump`] and [`Bucket::source`].
    pub(crate) fn source(&self, id: &Id) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Volume(volume) => Ok(Box::new(volume.dump(id)?)),
            Self::Bucket(bucket) => Ok(Box::new(bucket.source(id))),
        }
    }

    /// See [`Volume::path`]; `None`: what is in a bucket has none.
    pub(crate) fn path(&self, id: &Id) -> Option<PathBuf> {
        match self {
            Self::Volume(volume) => Some(volume.path(id)),
            Self::Bucket(_) => None,
        }
    }

    /// See [`Volume::commit`].
    pub(crate) async fn commit(&self, manifest: &Manifest) -> io::Result<()> {
        match self {
            Self::Volume(volume) => volume.commit(manifest),
            Self::Bucket(bucket) => bucket.commit(manifest).await,
        }
    }

    /// See [`Volume::verified`].
    pub(crate) async fn verified(&self, id: &Id, verified: &Verified) -> io::Result<()> {
        match self {
            Self::Volume(volume) => volume.verified(id, verified),
            Self::Bucket(bucket) => bucket.verified(id, verified).await,
        }
    }

    /// See [`Volume::verification`].
    pub(crate) async fn verification(&self, id: &Id) -> io::Result<Option<Verified>> {
        match self {
            Self::Volume(volume) => volume.verification(id),
            Self::Bucket(bucket) => bucket.verification(id).await,
        }
    }

    /// See [`Volume::remove`].
    pub(crate) async fn remove(&self, id: &Id) -> io::Result<()> {
        match self {
            Self::Volume(volume) => volume.remove(id),
            Self::Bucket(bucket) => bucket.remove(id).await,
        }
    }
}

/// Where a new dump is written, by a thread of its own.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A file that gets its name in the end.
    Volume {
        /// Its folder.
        volume: Volume,
        /// Its artifact.
        id: Id,
        /// Itself.
        file: File,
    },
    /// An upload.
    Bucket(pipe::Writer),
}

impl Sink {
    /// All was written: it is kept. It is no backup yet.
    ///
    /// # Errors
    /// It couldn't be kept.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Volume { volume, id, file } => volume.keep(&id, &file),
            Self::Bucket(writer) => writer.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Volume { file, .. } => file.write(bytes),
            Self::Bucket(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Volume { file, .. } => file.flush(),
            Self::Bucket(writer) => writer.flush(),
        }
    }
}
