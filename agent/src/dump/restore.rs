//! An archive becomes a database again.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::catalogue::manifest::{Compression, Manifest};
use crate::dump::archive::{self, Stored, Unpacked};
use crate::dump::error::BackupError;
use crate::dump::tool::{Source, Tools};

/// All of it or an error, and roles and their rights are those of the server.
const INTO: [&str; 4] = ["--exit-on-error", "--no-password", "--no-owner", "--no-privileges"];
/// Bytes of an archive that its table of contents is looked for in. An entry has a few hundred.
const HEAD: u64 = 16 << 20;

impl Tools<'_> {
    /// Restores a stored archive into the login's database, which is empty: everything, or it stops at the first error.
    /// Rows come by one session as they are read; of `jobs`, all make indexes and constraints afterwards, unless what was
    /// read isn't the dump of the manifest. What it was.
    ///
    /// # Errors
    /// Of the program or the storage.
    pub(crate) async fn restore(&self, file: Source, manifest: &Manifest, jobs: u32) -> Result<Stored, BackupError> {
        let (compression, database) = (manifest.compression, self.dbname_argument());
        let head = (jobs > 1).then(NamedTempFile::new).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "no temporary file: it is restored by one session");
            None
        });
        let Some(head) = head else {
            let feed = move |sink: &mut File| archive::read_back(file, sink, compression);
            return self.pg_restore(&into(&database, &[]), feed).await;
        };
        let failed = || BackupError::storage("read the dump's table of contents");
        let (mut rest, head) = archive::in_thread(move || begin(file, compression, head)).await.map_err(failed())?;
        let mut start = head.reopen().map_err(failed())?;
        let feed = move |sink: &mut File| {
            archive::hand_over(&mut start, sink)?;
            archive::hand_over(&mut rest, sink)?;
            rest.finish()
        };
        if !self.lists(head.path()).await {
            return self.pg_restore(&into(&database, &[]), feed).await;
        }
        let stored = self.pg_restore(&into(&database, &["--section=pre-data", "--section=data"]), feed).await?;
        if stored.is_of(manifest) {
            let sessions = format!("--jobs={jobs}");
            self.pg_restore_file(&into(&database, &["--section=post-data", &sessions]), head.path()).await?;
        }
        Ok(stored)
    }

    /// The same from a file that is an archive, all of it by `jobs` sessions at once. Nobody hashes what is read.
    ///
    /// # Errors
    /// It can't.
    pub(crate) async fn restore_file(&self, file: &Path, jobs: u32) -> Result<(), BackupError> {
        let (database, sessions) = (self.dbname_argument(), format!("--jobs={jobs}"));
        self.pg_restore_file(&into(&database, &[&sessions]), file).await
    }

    /// Whether all of the table of contents is there: a program that begins with half of one fails late.
    async fn lists(&self, head: &Path) -> bool {
        let listed = self.pg_restore_file(&["--list"], head).await;
        listed.inspect_err(|error| tracing::info!(%error, "it is restored by one session")).is_ok()
    }
}

fn into<'a>(database: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    INTO.iter().chain(more).copied().chain([database]).collect()
}

/// The beginning of an archive as a file, and the rest of it.
fn begin(
    file: Source,
    compression: Compression,
    mut head: NamedTempFile,
) -> std::io::Result<(Unpacked<Source>, NamedTempFile)> {
    let mut archive = Unpacked::new(file, compression)?;
    std::io::copy(&mut archive.by_ref().take(HEAD), &mut head)?;
    Ok((archive, head))
}
