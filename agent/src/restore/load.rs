//! `agent restore load`: choose → lock → versions → room → new database → restore → compare with the manifest → note →
//! report.
//!
//! The live database is only looked at. What was begun and not ended is begun anew.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use postgres_protocol::escape::{escape_identifier, escape_literal};

use crate::catalogue::entry::{Entry, State as Kept};
use crate::catalogue::id::Id;
use crate::catalogue::manifest::Manifest;
use crate::catalogue::place::Place;
use crate::config::{Database, Env};
use crate::dump::census::Snapshot;
use crate::dump::error::{BackupError, Step as _};
use crate::dump::tool::Tools;
use crate::job::{self, ATTEMPT, PATIENCE, Success};
use crate::migrate::inspect;
use crate::migrate::lock::Lock;
use crate::migrate::logins::{Logins, login};
use crate::migrate::pooler;
use crate::postgres::{self, Login, Session, bounded};
use crate::redact::Redactor;
use crate::report::{Facts, RestoreReport};
use crate::restore::note::{self, Found, Note, State};
use crate::restore::room;
use crate::restore::settings::Settings;
use crate::verify::compare::{Restored, differences, told};

const LIMIT: Duration = Duration::from_mins(1);
/// Nobody else is in the new database.
const LOCK_SECONDS: u64 = 1;
/// Bytes of the server's disk that are left alone; a test's.
const RESERVE_BYTES: &str = "ODOOAI_RESTORE_RESERVE_BYTES";

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("restore load", load(env, redactor, &mut facts));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn load(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let settings = Settings::from_env(env, redactor)?;
    let place = settings.storage.open().map_err(BackupError::storage("open the catalogue"))?;
    let entries = place.list().await.map_err(BackupError::storage("read the catalogue"))?;
    let manifest = choose(entries, &settings.id)?;
    let live = Database::from_env(env)?;
    let logins = Logins::read(env, &live, redactor)?;
    let reserve = env.get(RESERVE_BYTES).map(|_| env.parsed(RESERVE_BYTES, 0)).transpose()?;
    let database = settings.target.database.as_str();
    if database == live.name {
        return Err(BackupError::refused("DatabaseExists", format!("{database} is the live database")));
    }
    let locking = login(&logins.locker, "log in for the lock").await?;
    pooler::check(&locking, &logins.locker).await?;
    let lock = Lock::acquire(locking, database, Some(PATIENCE)).await?;
    let target = New {
        maker: lock.session(),
        owner: &live.user,
        live: &live.name,
        database,
        mark: note::mark(&settings.target.owner),
    };
    let tools = Tools::new(&logins.application.to(database), LOCK_SECONDS, redactor);
    versions(&tools, &manifest, target.maker).await?;

    let note = |state| Note { owner: settings.target.owner.clone(), artifact: settings.id.to_string(), state };
    let found = note::find(target.maker, database).await?;
    let report = |seconds| RestoreReport {
        id: settings.id.to_string(),
        database: database.to_owned(),
        tables: manifest.tables.len(),
        rows: manifest.tables.values().sum(),
        seconds,
    };
    match found {
        Some(Found { note: Some(it), .. }) if it == note(State::Loaded) => {
            facts.restore = Some(report(None));
            return Ok(("Restored", format!("backup {} was loaded into {database} already", settings.id)));
        }
        Some(found) if target.is_ours(&found, &note(State::Loading)) => target.drop().await?,
        Some(_) => {
            let message = format!("there is a database {database} already, and this restore didn't make it");
            return Err(BackupError::refused("DatabaseExists", message));
        }
        None => {}
    }
    let admin = logins.admin.as_ref().map(|_| target.maker);
    if let Some(admin) = admin {
        room::before(admin, &manifest, reserve).await?;
    }
    target.create(&note(State::Loading)).await?;
    let began = Instant::now();
    let watcher = match &logins.admin {
        Some(admin) => Some(login(&admin.to(&logins.locker.database), "log in to look for room").await?),
        None => None,
    };
    let application = logins.application.to(database);
    let restored = tokio::select! {
        result = restore(&place, &manifest, &tools, &application) => result,
        error = room::runs_out(watcher.as_ref(), reserve) => Err(error),
        () = tokio::time::sleep(settings.target.limit) => {
            let seconds = settings.target.limit.as_secs();
            Err(BackupError::failed("TimedOut", format!("not restored within {seconds} s")))
        }
    };
    if let Err(error) = restored {
        // It fills the disk that the live one needs.
        if let Err(left) = target.drop().await {
            tracing::warn!(error = %left, "what was restored can't be dropped; the next attempt does it");
        }
        return Err(error);
    }
    lock.still_held().await?;
    note::set(target.maker, database, &note(State::Loaded)).await?;
    let seconds = began.elapsed().as_secs();
    facts.restore = Some(report(Some(seconds)));
    let tables = manifest.tables.len();
    lock.release().await;
    Ok(("Restored", format!("backup {} is in the database {database}: {tables} tables, {seconds} s", settings.id)))
}

/// The backup that is asked for.
fn choose(entries: Vec<Entry>, id: &Id) -> Result<Manifest, BackupError> {
    let entry = entries.into_iter().find(|entry| entry.id == *id);
    match entry.map(|entry| entry.state) {
        Some(Kept::Good { manifest, .. }) => Ok(*manifest),
        Some(Kept::Damaged(why)) => Err(BackupError::refused("ArtifactDamaged", format!("backup {id}: {why}"))),
        Some(Kept::Unfinished) | None => {
            Err(BackupError::refused("ArtifactMissing", format!("there is no backup {id}")))
        }
    }
}

/// An artifact of an older or equal major version is restored, a newer one isn't.
async fn versions(tools: &Tools<'_>, manifest: &Manifest, session: &Session) -> Result<(), BackupError> {
    let (server, wanted) = (inspect::server_version(session).await? / 10_000, manifest.server_version / 10_000);
    let (program, major) = tools.version().await?;
    // Newer programs tell an older server what it doesn't know.
    if (wanted..=server).contains(&major) {
        return Ok(());
    }
    let message = format!(
        "backup {} is of PostgreSQL {wanted}; the server is {server} and the programs are {program}: restore it into a server of that version or a newer one",
        manifest.id
    );
    Err(BackupError::refused("PostgresVersionMismatch", message))
}

/// The database that is restored into.
struct New<'a> {
    /// Who may make databases.
    maker: &'a Session,
    /// The application's role.
    owner: &'a str,
    /// The live database, whose encoding and sorting it gets.
    live: &'a str,
    /// Its name.
    database: &'a str,
    /// By which it is known before it has its note.
    mark: i32,
}

impl New<'_> {
    /// It was begun for this restore: it says so, or was made a moment before.
    fn is_ours(&self, found: &Found, begun: &Note) -> bool {
        found.note.as_ref() == Some(begun) || found.begun == Some(self.mark)
    }

    async fn create(&self, begun: &Note) -> Result<(), BackupError> {
        const LIKE: &str = "
            SELECT pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, datlocprovider::text
            FROM pg_database WHERE datname = $1";
        const STEP: &str = "make the database";
        let like = bounded(LIMIT, self.maker.query_opt(LIKE, &[&self.live])).await.step("look the live database up")?;
        let sorting = match like {
            Some(row) if row.get::<_, String>(3) == "c" => format!(
                "ENCODING {} LC_COLLATE {} LC_CTYPE {}",
                escape_literal(row.get(0)),
                escape_literal(row.get(1)),
                escape_literal(row.get(2))
            ),
            Some(row) => format!("ENCODING {}", escape_literal(row.get(0))),
            None => "ENCODING 'UTF8'".to_owned(),
        };
        let (database, owner) = (escape_identifier(self.database), escape_identifier(self.owner));
        let create = format!(
            "CREATE DATABASE {database} OWNER {owner} TEMPLATE template0 {sorting} ALLOW_CONNECTIONS false CONNECTION LIMIT {}",
            self.mark
        );
        bounded(LIMIT, self.maker.batch_execute(&create)).await.step(STEP)?;
        note::set(self.maker, self.database, begun).await?;
        let open = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true CONNECTION LIMIT -1");
        bounded(LIMIT, self.maker.batch_execute(&open)).await.step(STEP)
    }

    async fn drop(&self) -> Result<(), BackupError> {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", escape_identifier(self.database));
        bounded(LIMIT, self.maker.batch_execute(&drop)).await.step("drop what was begun")
    }
}

async fn restore(
    place: &Place,
    manifest: &Manifest,
    tools: &Tools<'_>,
    application: &Login,
) -> Result<(), BackupError> {
    let source = place.source(&manifest.id).map_err(BackupError::storage("open the dump"))?;
    let read = tools.restore(source, manifest.compression).await;
    match read {
        Ok(read) if read.is_of(manifest) => {}
        Ok(_) => {
            let message = format!("the dump of backup {} isn't the one of its manifest", manifest.id);
            return Err(BackupError::refused("ArtifactDamaged", message));
        }
        Err(error) => return Err(error.while_restoring()),
    }
    let session = async || postgres::connect(application, ATTEMPT).await.step("log in to the new database");
    let snapshot = Snapshot::export(session().await?, LOCK_SECONDS).await?;
    let tables = snapshot.rows(&session().await?).await?;
    let restored = Restored { tables, objects: snapshot.objects().await?, alembic: snapshot.alembic().await? };
    let differences = differences(manifest, &restored);
    if differences.is_empty() {
        // A restore brings no statistics, and all load comes at once.
        return session().await?.batch_execute("ANALYZE").await.step("gather statistics");
    }
    let message = format!("backup {} restores to something else: {}", manifest.id, told(&differences));
    Err(BackupError::refused("VerificationFailed", message))
}
