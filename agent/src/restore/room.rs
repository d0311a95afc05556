//! Does the database's own disk have room for another one? Full, it would end the live one too.

use std::time::Duration;

use crate::dump::error::{BackupError, Step as _};
use crate::postgres::{DatabaseError, Session, bounded};

const LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked while rows come in.
const LOOK: Duration = Duration::from_secs(2);
/// What is left alone at least: the application goes on writing meanwhile.
const RESERVE: u64 = 1 << 30;

/// The server's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    free: u64,
    reserve: u64,
}

/// Asks the server for its disk: by a program of its own, which only a superuser may start. `None`: nobody knows.
async fn space(admin: &Session, reserve: Option<u64>) -> Option<Space> {
    const ASK: &str = "
        CREATE TEMP TABLE IF NOT EXISTS odooai_disk (line text);
        TRUNCATE odooai_disk;
        COPY odooai_disk FROM PROGRAM 'df -Pk . | tail -n 1'";
    let asked = async {
        bounded(LIMIT, admin.batch_execute(ASK)).await.step("ask for room")?;
        bounded(LIMIT, admin.query_one("SELECT line FROM odooai_disk", &[])).await.step("ask for room")
    };
    match asked.await {
        Ok(row) => read(row.get(0), reserve),
        // Not even a line can be written.
        Err(BackupError::Database { source: DatabaseError::DiskFull(_), .. }) => {
            Some(Space { free: 0, reserve: reserve.unwrap_or(RESERVE) })
        }
        Err(error) => {
            tracing::warn!(%error, "how much room the server has isn't known");
            None
        }
    }
}

/// A line of `df -Pk`: file system, blocks, used, free, percentage, place.
fn read(line: &str, reserve: Option<u64>) -> Option<Space> {
    let mut numbers = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
    let (total, free) = (numbers.next()?, numbers.nth(1)?);
    let (total, free) = (total.saturating_mul(1024), free.saturating_mul(1024));
    Some(Space { free, reserve: reserve.unwrap_or_else(|| RESERVE.max(total / 20)) })
}

/// Looks before anything is written; `needed`: bytes that the new database may have.
///
/// # Errors
/// `StorageFull`: there is too little.
pub(crate) async fn before(admin: &Session, needed: u64, reserve: Option<u64>) -> Result<(), BackupError> {
    let Some(Space { free, reserve }) = space(admin, reserve).await else { return Ok(()) };
    if free >= needed.saturating_add(reserve) {
        return Ok(());
    }
    let message = format!(
        "the database's volume has {free} bytes left; the restored database may need {needed}, and {reserve} are left alone for the live one: make the volume larger, or drop a database that is kept"
    );
    Err(BackupError::failed("StorageFull", message))
}

/// Resolves when too little is left while rows come in.
pub(crate) async fn runs_out(admin: Option<&Session>, reserve: Option<u64>) -> BackupError {
    let Some(admin) = admin else { return std::future::pending().await };
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(Space { free, reserve }) = space(admin, reserve).await
            && free < reserve
        {
            let message = format!(
                "given up: the database's volume has only {free} bytes left, and {reserve} are left alone for the live database"
            );
            return BackupError::failed("StorageFull", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_df_is_read_and_no_other() {
        let line = "/dev/sda1  41152736 6291456 32768000  17% /var/lib/postgresql/data";
        let space = read(line, None).expect("a line");
        assert_eq!((space.free, space.reserve), (32_768_000 * 1024, 41_152_736 * 1024 / 20));
        assert_eq!(read(line, Some(7)).expect("a line").reserve, 7);
        for line in ["", "Filesystem 1024-blocks Used Available Capacity Mounted on", "/dev/sda1 1 2"] {
            assert_eq!(read(line, None), None);
        }
    }
}
