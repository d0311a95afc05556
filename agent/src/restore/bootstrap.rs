//! `agent restore bootstrap`: locks → role and database → was it done → is it empty → load → is it still empty → swap →
//! drop the empty one → whose catalogue → report. An empty live database becomes what a backup holds.
//!
//! What is to be done the database itself tells, and nothing else does: one that holds something stays as it is.

use std::num::NonZeroU64;
use std::process::ExitCode;

use tokio::time::{Instant, timeout_at};

use crate::catalogue::bucket::SettingsError;
use crate::catalogue::owner::Owner;
use crate::config::{Database, Env};
use crate::dump::error::{BackupError, Step as _};
use crate::job::{self, PATIENCE, Success};
use crate::migrate::ensure;
use crate::migrate::inspect;
use crate::migrate::lock::Lock;
use crate::migrate::logins::{Logins, login};
use crate::postgres::{self, Login};
use crate::redact::Redactor;
use crate::report::Facts;
use crate::restore::adopt::{adopt, not_adopted};
use crate::restore::before::{Before, before, in_place};
use crate::restore::discard::{Which, kept};
use crate::restore::load::{Load, Loaded};
use crate::restore::new;
use crate::restore::note::{self, Note, State};
use crate::restore::places::{Names, taken};
use crate::restore::settings::{Settings, Target, name};
use crate::restore::swap::{can_rename, change_places};

/// Runs the command.
pub(crate) fn main(env: &Env, redactor: &Redactor) -> ExitCode {
    let mut facts = Facts::default();
    let mut ended = job::run("restore bootstrap", Box::pin(bootstrap(env, redactor, &mut facts)));
    ended.report.facts = facts;
    ended.publish(env, redactor)
}

async fn bootstrap(env: &Env, redactor: &Redactor, facts: &mut Facts) -> Result<Success, BackupError> {
    let target = Target::from_env(env)?;
    let until = Instant::now() + target.limit;
    let live = Database::from_env(env)?;
    let replaced = name(env, "ODOOAI_RESTORE_REPLACED")?;
    let names = Names { restored: target.database.clone(), live: live.name.clone(), replaced };
    distinct(&names)?;
    let adopts = env.parsed("ODOOAI_RESTORE_ADOPT", false)?;
    let logins = Logins::read(env, &live, redactor)?;
    let (Some(admin), Some(password)) = (&logins.admin, logins.password()) else {
        let message = "only the database of a Managed server is filled from a backup: give its superuser by ODOOAI_DATABASE_ADMIN_USER and ODOOAI_DATABASE_ADMIN_PASSWORD_FILE";
        return Err(BackupError::refused("ConfigInvalid", message));
    };
    can_rename(&logins, &names.live)?;
    let locks = async {
        // As a swap takes them: both are held to the end.
        let held = logins.lock_of(&names.restored, Some(PATIENCE)).await?;
        let lock = logins.lock_of(&names.live, Some(PATIENCE)).await?;
        ensure::role_and_database(lock.session(), &admin.user, &live, password).await?;
        Ok((held, lock))
    };
    let (held, lock) = timeout_at(until, locks).await.unwrap_or_else(|_| Err(target.late()))?;
    // Of no interest where nothing is to be restored, and its storage may be gone since.
    let settings = Settings::from_env(env, redactor);
    let run = Run {
        redactor,
        target,
        until,
        live,
        names,
        adopts,
        logins: &logins,
        admin,
        settings,
        held: &held,
        lock: &lock,
    };
    let done = run.run(facts).await?;
    lock.release().await;
    held.release().await;
    Ok(done)
}

/// # Errors
/// `DatabaseExists`.
fn distinct(names: &Names) -> Result<(), BackupError> {
    let Names { restored, live, replaced } = names;
    if restored != live && live != replaced && replaced != restored {
        return Ok(());
    }
    let message = format!("{restored}, {live} and {replaced} must be three names");
    Err(BackupError::refused("DatabaseExists", message))
}

/// Everything that the work under the locks needs.
struct Run<'a> {
    redactor: &'a Redactor,
    target: Target,
    until: Instant,
    live: Database,
    names: Names,
    adopts: bool,
    logins: &'a Logins,
    admin: &'a Login,
    settings: Result<Settings, SettingsError>,
    /// Of the database that is loaded.
    held: &'a Lock,
    /// Of the live one.
    lock: &'a Lock,
}

impl Run<'_> {
    async fn run(self, facts: &mut Facts) -> Result<Success, BackupError> {
        let noted = note::all(self.lock.session(), &self.target.owner).await?;
        if let Some(note) = in_place(&self.live.name, &noted) {
            let loaded = Loaded::before(self.settings.as_ref().ok(), note).await;
            return self.end(&loaded, facts).await;
        }
        if let Some(content) = self.content(&self.live.name).await? {
            return self.leave(&content, facts).await;
        }
        let loaded = match &self.settings {
            Ok(settings) => Box::pin(self.load(settings)).await?,
            Err(_) => return Err(self.settings.expect_err("it is one").into()),
        };
        if let Some(content) = self.content(&self.live.name).await? {
            return self.leave(&content, facts).await;
        }
        change_places(self.held, self.lock, &self.names, &self.target.owner, NonZeroU64::MIN).await?;
        self.end(&loaded, facts).await
    }

    /// What people have in a database, as the application sees it; `None`: nothing.
    async fn content(&self, database: &str) -> Result<Option<String>, BackupError> {
        let session = login(&self.logins.application.to(database), "log in as the application").await?;
        let found = inspect::found(&session).await?;
        if found.tables > 0 {
            return Ok(Some(format!("holds {} tables", found.tables)));
        }
        let revisions: Vec<_> = found.current.into_iter().collect();
        Ok((!revisions.is_empty()).then(|| format!("is at revision {}", revisions.join(", "))))
    }

    /// Loads it beside the live one; what is there completely is used.
    async fn load(&self, settings: &Settings) -> Result<Loaded, BackupError> {
        let (maker, Names { restored, live, replaced }) = (self.held.session(), &self.names);
        let Target { owner, .. } = &self.target;
        let (found, noted) = (note::find(maker, restored).await?, note::all(maker, owner).await?);
        // Another one may be wished for meanwhile: unlike a Restore, a stack can be edited.
        let is_outdated = found.as_ref().and_then(|found| found.note.as_ref()).is_some_and(|note| {
            note.owner == *owner && note.state == State::Loaded && !settings.wanted.allows(&note.artifact)
        });
        let found = found.as_ref().filter(|_| !is_outdated);
        match before(&self.target, &settings.wanted, live, found, &noted)? {
            Before::Done(note) => return Ok(Loaded::before(Some(settings), &note).await),
            Before::Nothing if !is_outdated => {}
            Before::Begun | Before::Nothing => new::drop(maker, restored).await?,
        }
        // Before hours of loading.
        if note::find(maker, replaced).await?.is_some() {
            return Err(taken(replaced));
        }
        let Self { live, logins, held: lock, redactor, .. } = self;
        Load { settings, live, logins, lock, redactor }.run(self.until).await
    }

    /// There is something in the live database: it stays, and what was begun beside it goes.
    async fn leave(&self, content: &str, facts: &mut Facts) -> Result<Success, BackupError> {
        let (session, Names { restored, live, .. }) = (self.held.session(), &self.names);
        if let Some(found) = note::find(session, restored).await?
            && kept(Which::Begun, &found, &self.target.owner).is_none()
        {
            new::drop(session, restored).await?;
        }
        facts.incarnation = Some(self.incarnation().await?);
        Ok(("DatabaseNotEmpty", format!("the database {live} {content} already, so nothing was restored")))
    }

    /// What was loaded is the live database.
    async fn end(&self, loaded: &Loaded, facts: &mut Facts) -> Result<Success, BackupError> {
        let live = &self.names.live;
        let kept = self.drop_replaced().await?;
        let incarnation = self.incarnation().await?;
        facts.restore = Some(loaded.report(self.lock.session(), live).await);
        facts.incarnation = Some(incarnation.clone());
        let adopted = if self.adopts { self.adopt(loaded, &incarnation).await? } else { String::new() };
        let other = self.settings.as_ref().is_ok_and(|it| !it.wanted.allows(loaded.artifact()));
        let other = if other { "; another one is wished for now, which comes into an empty database only" } else { "" };
        Ok(("Restored", format!("{}{other}{kept}{adopted}", loaded.message(live))))
    }

    /// Drops the empty one; what a message says where it stays.
    async fn drop_replaced(&self) -> Result<String, BackupError> {
        let (session, replaced) = (self.held.session(), &self.names.replaced);
        let Some(found) = note::find(session, replaced).await? else { return Ok(String::new()) };
        let why = match kept(Which::Replaced, &found, &self.target.owner) {
            Some(why) => Some(why.to_owned()),
            None => self.content(replaced).await?,
        };
        if let Some(why) = why {
            return Ok(format!("; {replaced} {why} and is kept"));
        }
        new::drop(session, replaced).await?;
        Ok(String::new())
    }

    /// Once; what a message says of it.
    async fn adopt(&self, loaded: &Loaded, incarnation: &str) -> Result<String, BackupError> {
        let settings = match &self.settings {
            Ok(settings) if settings.wanted.is_of_catalogue(loaded.artifact()) => settings,
            Ok(_) => return Ok(String::new()),
            Err(error) => return Ok(not_adopted(&error.to_string())),
        };
        let (session, live) = (self.lock.session(), &self.names.live);
        let note = note::find(session, live).await?.and_then(|found| found.note);
        let Some(note) = note.filter(|note| !note.adopted) else { return Ok(String::new()) };
        let ours = Owner::of(incarnation, live);
        let Ok((message, done)) = timeout_at(self.until, adopt(&settings.storage, &ours)).await else {
            return Ok(not_adopted(&format!("no answer within {} s", self.target.limit.as_secs())));
        };
        if done {
            note::set(session, live, &Note { adopted: true, ..note }).await?;
        }
        Ok(message)
    }

    /// Of the live database.
    async fn incarnation(&self) -> Result<String, BackupError> {
        let session = login(self.admin, "log in as superuser").await?;
        postgres::incarnation(&session).await.step("read the incarnation")
    }
}
