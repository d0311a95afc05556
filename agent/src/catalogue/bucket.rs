//! The catalogue in a bucket of an S3-compatible store.

use std::collections::BTreeMap;
use std::io;
use std::path::Path as File;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{Certificate, ClientOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::sync::mpsc;

use crate::catalogue::entry::{DUMP, Entry, MANIFEST, OWNER, State, VERIFIED, Verified};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::owner::Owner;
use crate::catalogue::pipe::{self, Part, Reader, Writer};
use crate::config::{ConfigError, Env};
use crate::redact::Redactor;
use crate::secret::{Secret, SecretError};

const CREDENTIALS: &str = "/var/run/odooai/s3";
const CONNECT: Duration = Duration::from_secs(10);
/// Without a byte.
const SILENCE: Duration = Duration::from_mins(1);
/// A store that is away or refuses for a moment is asked again for so long.
const PATIENCE_SECONDS: u64 = 120;
const ATTEMPTS: usize = 8;
/// Parts that are sent at the same time.
const AT_ONCE: usize = 2;
/// Smallest part; the store takes ten thousand at most, and each is in memory.
const PART: usize = 8 << 20;
const PARTS: u64 = 9_000;
/// Manifests that are read at the same time.
const READERS: usize = 8;
/// Of what a store says.
const LONGEST: usize = 400;

/// Where the bucket is, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    endpoint: Option<String>,
    region: String,
    bucket: String,
    prefix: String,
    access_key_id: Secret,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    patience: Duration,
}

impl Settings {
    /// Reads `ODOOAI_S3_*`, and the credentials from their files: a Secret that is rotated is read by the next run.
    /// `None`: no bucket.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn from_env(env: &Env, redactor: &Redactor) -> Result<Option<Self>, SettingsError> {
        let Some(bucket) = env.get("ODOOAI_S3_BUCKET") else { return Ok(None) };
        let folder = env.path("ODOOAI_S3_CREDENTIALS", CREDENTIALS);
        let read = |name: &str| Secret::read_known(&folder.join(name), redactor);
        let needed = |name: &'static str| read(name)?.ok_or(SettingsError::NoCredentials(name));
        Ok(Some(Self {
            endpoint: env.get("ODOOAI_S3_ENDPOINT").map(|url| url.trim_end_matches('/').to_owned()),
            region: env.get("ODOOAI_S3_REGION").unwrap_or("us-east-1").to_owned(),
            bucket: bucket.to_owned(),
            prefix: env.get("ODOOAI_S3_PREFIX").unwrap_or_default().to_owned(),
            access_key_id: needed("accessKeyId")?,
            secret_access_key: needed("secretAccessKey")?,
            session_token: read("sessionToken")?,
            patience: Duration::from_secs(env.parsed("ODOOAI_S3_PATIENCE_SECONDS", PATIENCE_SECONDS)?),
        }))
    }
}

/// Why there is no way to the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The Secret lacks a key.
    #[error("the Secret with the bucket's credentials has no {0}")]
    NoCredentials(&'static str),
    /// A file can't be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A variable can't.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// One stack's folder in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    store: Arc<AmazonS3>,
    root: Path,
}

impl Bucket {
    /// The folder of `<namespace>/<stack>`; nothing is asked yet.
    ///
    /// # Errors
    /// The settings are of no use.
    pub(crate) fn open(settings: &Settings, folder: &File) -> io::Result<Self> {
        let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        // The image has no certificates of its own.
        let options = roots.filter_map(|root| Certificate::from_der(root).ok()).fold(
            ClientOptions::new()
                .with_timeout_disabled()
                .with_connect_timeout(CONNECT)
                .with_read_timeout(SILENCE)
                .with_allow_http(settings.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"))),
            ClientOptions::with_root_certificate,
        );
        let retry = RetryConfig { max_retries: ATTEMPTS, retry_timeout: settings.patience, ..RetryConfig::default() };
        // No checksum algorithm: several stores refuse its headers. The hash of the whole is our own.
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key_id.expose())
            .with_secret_access_key(settings.secret_access_key.expose())
            // One by one, for the same reason.
            .with_disable_bulk_delete(true)
            .with_client_options(options)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.expose());
        }
        let root = Path::parse(&settings.prefix).map_err(io::Error::other)?;
        let root = folder.iter().fold(root, |root, part| root.join(part.to_string_lossy().as_ref()));
        Ok(Self { store: Arc::new(builder.build().map_err(failed)?), root })
    }

    /// Whose it is; `None`: nobody's yet.
    ///
    /// # Errors
    /// As [`super::volume::Volume::owner`].
    pub(crate) async fn owner(&self) -> io::Result<Option<Owner>> {
        let Some(text) = self.read_if_there(&self.root.clone().join(OWNER)).await? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Makes it ours.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn claim(&self, owner: &Owner) -> io::Result<()> {
        self.write(self.root.clone().join(OWNER), serde_json::to_vec_pretty(owner)?).await
    }

    /// All that has the name of an artifact, the oldest first.
    ///
    /// # Errors
    /// What the store said; a half-read catalogue is none.
    pub(crate) async fn list(&self) -> io::Result<Vec<Entry>> {
        let objects: Vec<_> = self.store.list(Some(&self.root)).try_collect().await.map_err(failed)?;
        let mut found: BTreeMap<Id, BTreeMap<String, u64>> = BTreeMap::new();
        for object in objects {
            let parts: Vec<_> = object
                .location
                .prefix_match(&self.root)
                .into_iter()
                .flatten()
                .map(|it| it.as_ref().to_owned())
                .collect();
            if let [folder, name] = &parts[..]
                && let Ok(id) = folder.parse::<Id>()
            {
                found.entry(id).or_default().insert(name.clone(), object.size);
            }
        }
        let entries = found.into_iter().map(async |(id, files)| {
            let state = self.state(&id, &files).await?;
            io::Result::Ok(Entry { id, state })
        });
        stream::iter(entries).buffered(READERS).try_collect().await
    }

    async fn state(&self, id: &Id, files: &BTreeMap<String, u64>) -> io::Result<State> {
        if !files.contains_key(MANIFEST) {
            return Ok(State::Unfinished);
        }
        // One that is listed and isn't there is no sign that it never was: nothing may be removed for that.
        let Some(text) = self.read_if_there(&self.path(id, MANIFEST)).await? else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the manifest of {id} is listed and can't be read"),
            ));
        };
        Ok(State::of(id, &text, files.get(DUMP).copied(), files.contains_key(VERIFIED)))
    }

    /// A writer for a dump of about `estimate` bytes. The store has it when all is written, and not before.
    pub(crate) fn sink(&self, id: &Id, estimate: u64) -> Writer {
        let size = usize::try_from(estimate.saturating_mul(2) / PARTS).unwrap_or(PART).max(PART);
        let (store, path) = (Arc::clone(&self.store), self.path(id, DUMP));
        pipe::writer(size, |parts| async move { upload(&store, &path, parts).await })
    }

    /// A reader of a dump.
    pub(crate) fn source(&self, id: &Id) -> Reader {
        self.reader(self.path(id, DUMP))
    }

    /// A reader of what somebody laid there, by its key as it is.
    ///
    /// # Errors
    /// It can't be a key.
    pub(crate) fn file(&self, key: &str) -> io::Result<Reader> {
        let path = Path::parse(format!("{}/{key}", self.root));
        Ok(self.reader(path.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?))
    }

    fn reader(&self, path: Path) -> Reader {
        let store = Arc::clone(&self.store);
        let parts = async move {
            match store.get(&path).await {
                Ok(found) => found.into_stream().map_err(failed).boxed(),
                Err(error) => stream::iter([Err(failed(error))]).boxed(),
            }
        };
        pipe::reader(stream::once(parts).flatten())
    }

    /// Makes it a backup.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn commit(&self, manifest: &Manifest) -> io::Result<()> {
        self.write(self.path(&manifest.id, MANIFEST), manifest.json()).await
    }

    /// Notes that a verification restored it completely.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn verified(&self, id: &Id, verified: &Verified) -> io::Result<()> {
        self.write(self.path(id, VERIFIED), serde_json::to_vec_pretty(verified)?).await
    }

    /// What was noted; `None`: nothing that can be understood.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn verification(&self, id: &Id) -> io::Result<Option<Verified>> {
        let found = self.read_if_there(&self.path(id, VERIFIED)).await?;
        Ok(found.and_then(|text| Verified::parse(id, &text)))
    }

    /// Removes an artifact, its manifest first.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn remove(&self, id: &Id) -> io::Result<()> {
        for name in [MANIFEST, VERIFIED, DUMP] {
            match self.store.delete(&self.path(id, name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }

    fn path(&self, id: &Id, name: &str) -> Path {
        self.root.clone().join(id.to_string()).join(name)
    }

    async fn read_if_there(&self, path: &Path) -> io::Result<Option<Bytes>> {
        let found = match self.store.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(failed)?,
        };
        found.bytes().await.map(Some).map_err(failed)
    }

    async fn write(&self, path: Path, text: Vec<u8>) -> io::Result<()> {
        self.store.put(&path, PutPayload::from(text)).await.map_err(failed)?;
        Ok(())
    }
}

/// One upload of many parts; what doesn't come to its end is given up, so that the store keeps nothing of it.
async fn upload(store: &AmazonS3, path: &Path, mut parts: mpsc::Receiver<Part>) -> io::Result<()> {
    let mut upload = store.put_multipart(path).await.map_err(failed)?;
    let mut sending = FuturesUnordered::new();
    let sent = async {
        while let Some(part) = parts.recv().await {
            let Part::Bytes(bytes) = part else {
                while let Some(sent) = sending.next().await {
                    sent?;
                }
                return Ok(());
            };
            if sending.len() == AT_ONCE
                && let Some(sent) = sending.next().await
            {
                sent?;
            }
            sending.push(upload.put_part(bytes.into()));
        }
        Err(object_store::Error::Generic { store: "S3", source: "the dump was given up".into() })
    };
    let sent = sent.await;
    drop(sending);
    let stored = match sent {
        Ok(()) => upload.complete().await.map(drop),
        Err(error) => Err(error),
    };
    if stored.is_err()
        && let Err(error) = upload.abort().await
    {
        tracing::warn!(error = %failed(error), "an unfinished upload can't be given up; the bucket may keep parts of it");
    }
    stored.map_err(failed)
}

/// What a store said, in one line, by its kind.
#[expect(clippy::needless_pass_by_value, reason = "as map_err has it")]
fn failed(error: object_store::Error) -> io::Error {
    let text = error.to_string();
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ if ["StorageFull", "QuotaExceeded", "507"].iter().any(|word| text.contains(word)) => {
            io::ErrorKind::StorageFull
        }
        _ => io::ErrorKind::Other,
    };
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
    }
    io::Error::new(kind, line)
}
