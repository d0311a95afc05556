//! A backup of the catalogue, which its manifest describes.

use crate::catalogue::choose;
use crate::catalogue::manifest::{Compression, Manifest};
use crate::catalogue::place::{Place, Storage};
use crate::dump::archive::{self, Stored};
use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::Tools;
use crate::job::ATTEMPT;
use crate::postgres::{self, Login};
use crate::report::RestoreReport;
use crate::restore::LOCK_SECONDS;
use crate::restore::settings::Choice;
use crate::verify::compare::{Restored, differences, told};

/// One that was chosen.
#[derive(Debug)]
pub(crate) struct Artifact {
    place: Place,
    pub(crate) manifest: Manifest,
}

impl Artifact {
    /// Chooses one.
    ///
    /// # Errors
    /// There is none, or the catalogue can't be read.
    pub(crate) async fn choose(storage: &Storage, choice: &Choice) -> Result<Self, BackupError> {
        let place = storage.open().map_err(BackupError::storage("open the catalogue"))?;
        let entries = place.list().await.map_err(BackupError::storage("read the catalogue"))?;
        Ok(Self { manifest: choice.choose(&entries)?, place })
    }

    /// An artifact of an older or equal major version is restored, a newer one isn't.
    ///
    /// # Errors
    /// `PostgresVersionMismatch`.
    pub(crate) async fn check_version(&self, tools: &Tools<'_>, server: i32) -> Result<(), BackupError> {
        let wanted = self.manifest.server_version / 10_000;
        let (program, major) = tools.version().await?;
        // Newer programs tell an older server what it doesn't know.
        if (wanted..=server).contains(&major) {
            return Ok(());
        }
        let message = format!(
            "backup {} is of PostgreSQL {wanted}; the server is {server} and the programs are {program}: restore it into a server of that version or a newer one",
            self.manifest.id
        );
        Err(BackupError::refused("PostgresVersionMismatch", message))
    }

    /// Brings it into the login's database, and compares that with the manifest.
    ///
    /// # Errors
    /// It isn't what it should be, or the server or the storage failed.
    pub(crate) async fn bring(
        &self,
        tools: &Tools<'_>,
        application: &Login,
        jobs: u32,
    ) -> Result<RestoreReport, BackupError> {
        let manifest = &self.manifest;
        if !self.read(tools, jobs).await?.is_of(manifest) {
            let message = format!("the dump of backup {} isn't the one of its manifest", manifest.id);
            return Err(BackupError::refused("ArtifactDamaged", message));
        }
        let session = async || postgres::connect(application, ATTEMPT).await.step("log in to the new database");
        let restored = Restored::count(session().await?, &session().await?, LOCK_SECONDS).await?;
        let differences = differences(manifest, &restored);
        if differences.is_empty() {
            return Ok(RestoreReport::of(Some(manifest)));
        }
        let message = format!("backup {} restores to something else: {}", manifest.id, told(&differences));
        Err(BackupError::refused("VerificationFailed", message))
    }

    /// Lets the dump be read into the database. A file that needs no unpacking is read by several sessions at once; then
    /// its hash is known before, and another one isn't read in. What the dump was.
    async fn read(&self, tools: &Tools<'_>, jobs: u32) -> Result<Stored, BackupError> {
        let Self { place, manifest } = self;
        let mut source = place.source(&manifest.id).map_err(BackupError::storage("open the dump"))?;
        let path = place.path(&manifest.id).filter(|_| jobs > 1 && manifest.compression == Compression::Archive);
        let Some(path) = path else {
            return tools.restore(source, manifest, jobs).await.map_err(BackupError::while_restoring);
        };
        let measured = archive::in_thread(move || archive::measure(&mut source)).await;
        let measured = measured.map_err(BackupError::storage("read the dump"))?;
        if measured.is_of(manifest) {
            tools.restore_file(&path, jobs).await.map_err(BackupError::while_restoring)?;
        }
        Ok(measured)
    }
}

/// What is still known of a backup that was loaded already; that its catalogue is away is no failure.
pub(crate) async fn manifest_of(storage: &Storage, artifact: &str) -> Option<Manifest> {
    let id = artifact.parse().ok()?;
    let listed = match storage.open() {
        Ok(place) => place.list().await,
        Err(error) => Err(error),
    };
    let entries = listed.inspect_err(|error| tracing::warn!(%error, "the catalogue can't be read")).ok()?;
    choose::by_id(&entries, &id).ok()
}
