//! `agent restore bootstrap`: an empty live database becomes what a backup or a plain dump holds, and one that isn't empty
//! stays what it is.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::backup_faults::{instead, with};
use crate::catalogue::{Ran, Stack, ran};
use crate::restore::{another, backed_up, exists, mark, note, owner, restorer};
use crate::restore_late::{apart, lock_key};
use crate::restore_plain::{dump, lay, zipped};
use crate::servers::Postgres;

/// A database that was lost: there is an empty one of its name, and what is left of it.
pub(crate) struct Lost {
    pub(crate) stack: Stack,
    /// Of its backup.
    pub(crate) id: String,
    /// Name of the database that is loaded.
    pub(crate) beside: String,
    /// Name of the empty one after the swap.
    pub(crate) replaced: String,
    /// All that was in it.
    pub(crate) content: String,
}

impl Lost {
    pub(crate) fn new(test: &str) -> Option<Self> {
        let (stack, id, beside) = backed_up(test)?;
        let mut lost =
            Self { replaced: format!("{}-empty", stack.database), stack, id, beside, content: String::new() };
        lost.content = lost.read();
        lost.empty();
        Some(lost)
    }

    /// Makes the live one empty.
    pub(crate) fn empty(&self) {
        let live = &self.stack.database;
        self.run(&format!("DROP DATABASE IF EXISTS \"{live}\" WITH (FORCE)"));
        self.run(&format!("CREATE DATABASE \"{live}\" OWNER \"{live}\""));
    }

    /// In another database.
    pub(crate) fn run(&self, sql: &str) -> Vec<String> {
        self.stack.server.execute("postgres", sql)
    }

    /// `agent restore bootstrap` without a source.
    pub(crate) fn sourceless(&self) -> Agent {
        restorer(&self.stack, "bootstrap", &self.beside)
            .env("ODOOAI_RESTORE_REPLACED", &self.replaced)
            .env("ODOOAI_RESTORE_RESERVE_BYTES", "1")
    }

    /// Of the backup.
    pub(crate) fn agent(&self) -> Agent {
        self.sourceless().env("ODOOAI_RESTORE_ID", &self.id)
    }

    /// What tells a database from another of the same name.
    pub(crate) fn oid(&self) -> String {
        self.run(&format!("SELECT oid FROM pg_database WHERE datname = '{}'", self.stack.database))[0].clone()
    }

    /// What the live database holds is what was lost, the report says so, and no other database is there.
    #[track_caller]
    pub(crate) fn expect_restored(&self, done: Ran) -> Ran {
        let done = done.expect("Succeeded", "Restored");
        assert!(self.read() == self.content, "another content\n{}", done.report);
        assert!(!exists(&self.stack, &self.beside) && !exists(&self.stack, &self.replaced), "{}", done.report);
        assert_eq!(done.report["restore"]["database"], json!(self.stack.database));
        self.expect_incarnation(&done);
        let noted = &note(&self.stack, &self.stack.database)["odooaiRestore"];
        assert_eq!((&noted["owner"], &noted["state"]), (&json!(owner(&self.stack)), &json!("Live")));
        done
    }

    #[track_caller]
    fn expect_incarnation(&self, done: &Ran) {
        let system = self.run("SELECT system_identifier FROM pg_control_system()");
        assert_eq!(done.report["incarnation"], json!(format!("{}/{}", system[0], self.oid())));
    }

    /// It failed or was refused: the live database is the empty one that it was, and there is no other.
    #[track_caller]
    pub(crate) fn expect_untouched(&self, agent: &mut Agent, result: &str, reason: &str) -> String {
        let oid = self.oid();
        let done = ran(agent).expect(result, reason);
        assert_eq!((self.oid(), self.tables()), (oid, "0".to_owned()), "{}", done.report);
        assert!(!exists(&self.stack, &self.beside) && !exists(&self.stack, &self.replaced), "{}", done.report);
        assert!(done.report["restore"].is_null(), "{}", done.report);
        done.message().to_owned()
    }

    /// It is not empty: the live database is the one that it was, and there is no other.
    #[track_caller]
    pub(crate) fn expect_left(&self, agent: &mut Agent) -> String {
        let oid = self.oid();
        let done = ran(agent).expect("Succeeded", "DatabaseNotEmpty");
        assert_eq!(self.oid(), oid);
        self.expect_incarnation(&done);
        assert!(!exists(&self.stack, &self.beside) && !exists(&self.stack, &self.replaced), "{}", done.report);
        assert!(done.report["restore"].is_null(), "{}", done.report);
        done.message().to_owned()
    }

    /// Tables in the live one.
    pub(crate) fn tables(&self) -> String {
        self.stack.sql("SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")[0]
            .clone()
    }

    /// The live one as its dump, without what is another in each dump.
    pub(crate) fn read(&self) -> String {
        let text = String::from_utf8(dump(&self.stack, &[])).expect("text");
        text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }

    /// A database beside the live one with this note.
    pub(crate) fn beside(&self, state: &str) {
        self.run(&format!("CREATE DATABASE \"{}\"", self.beside));
        self.note(&self.beside, &owner(&self.stack), state);
    }

    pub(crate) fn note(&self, database: &str, owner: &str, state: &str) {
        let note = json!({"odooaiRestore": {"owner": owner, "artifact": self.id, "state": state}});
        self.run(&format!("COMMENT ON DATABASE \"{database}\" IS '{note}'"));
    }
}

/// Nobody can be asked for a backup there.
pub(crate) fn nowhere(agent: Agent) -> Agent {
    agent.env("ODOOAI_BACKUP_VOLUME", "/proc/nowhere")
}

#[test]
fn an_empty_database_becomes_what_the_backup_holds_once() {
    let Some(lost) = Lost::new("a bootstrap") else { return };
    let (id, live) = (&lost.id, &lost.stack.database);
    lost.run(&format!("ALTER DATABASE \"{live}\" SET work_mem = '7MB'"));
    let empty = lost.oid();
    let done = lost.expect_restored(ran(&mut lost.agent()));
    assert_eq!(done.report["command"], "restore bootstrap");
    let told = &done.report["restore"];
    assert_eq!((&told["id"], &told["tables"], &told["rows"]), (&json!(id), &json!(8), &json!(10)));
    assert_eq!((&told["alembic"], told["seconds"].is_u64()), (&json!(["003"]), true));
    // Autovacuum may have been there meanwhile.
    let bytes: u64 = lost.run(&format!("SELECT pg_database_size('{live}')"))[0].parse().expect("a number");
    assert!(told["bytes"].as_u64().is_some_and(|told| told.abs_diff(bytes) < 1 << 20), "{told} instead of {bytes}");
    let message = format!("backup {id} is in the database {live}: 8 tables, {} s", told["seconds"]);
    assert_eq!(done.message(), message);
    assert_eq!(lost.stack.sql("SHOW work_mem"), ["7MB"]);
    // Again: whatever was done with it since, whatever is wished for now, and where the backup is gone.
    let oid = lost.oid();
    assert_ne!(oid, empty);
    lost.stack.sql("CREATE TABLE later ()");
    let other = std::cell::Cell::new("");
    let again = |agent: Agent, tables: &Value| {
        let done = ran(&mut { agent }).expect("Succeeded", "Restored");
        assert_eq!(done.message(), format!("backup {id} was loaded already, and is in {live}{}", other.take()));
        let told = &done.report["restore"];
        assert_eq!((&told["id"], &told["database"], &told["tables"]), (&json!(id), &json!(live), tables));
        assert!(told["seconds"].is_null() && lost.oid() == oid, "{told}");
        lost.expect_incarnation(&done);
        assert_eq!(lost.stack.sql("SELECT count(*) FROM later"), ["0"]);
    };
    again(lost.agent(), &json!(8));
    other.set("; another one is wished for now, which comes into an empty database only");
    again(lost.agent().env("ODOOAI_RESTORE_ID", "20260101t000000z-aaaaaa"), &json!(8));
    again(nowhere(lost.agent()), &Value::Null);
    again(lost.sourceless(), &Value::Null);
    // Also where it was emptied since: what is live is what was brought.
    lost.stack.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE later ()");
    again(lost.agent(), &json!(8));
}

#[test]
fn an_empty_database_becomes_a_plain_dump() {
    let Some(lost) = Lost::new("a bootstrap from a plain dump") else { return };
    let source = Stack { volume: tempfile::tempdir().expect("a folder"), ..Stack::new("as before").expect("there") };
    source.sql("CREATE TABLE t AS SELECT generate_series(1, 7) AS id");
    lay(&lost.stack, "old/ai_db.sql.gz", &zipped(&dump(&source, &["--no-owner", "--no-privileges"])));
    // What nobody has put anything into is empty.
    lost.stack.sql("CREATE TABLE alembic_version (version_num text); CREATE VIEW v AS SELECT 1");
    lost.stack.sql("CREATE SCHEMA odooai; CREATE TABLE odooai.bootstrap (heads text[], started_at timestamptz)");
    lost.stack.sql(&format!("GRANT ALL ON SCHEMA odooai TO \"{0}\"; GRANT ALL ON ALL TABLES IN SCHEMA odooai TO \"{0}\"; GRANT ALL ON alembic_version TO \"{0}\"", lost.stack.database));
    let filer = || lost.sourceless().env("ODOOAI_RESTORE_FILE", "old/ai_db.sql.gz");
    let done = ran(&mut filer()).expect("Succeeded", "Restored");
    let live = &lost.stack.database;
    assert!(done.message().starts_with(&format!("the dump old/ai_db.sql.gz is in the database {live}: 1 tables, ")));
    let told = &done.report["restore"];
    assert_eq!((&told["id"], &told["rows"]), (&json!("old/ai_db.sql.gz"), &json!(7)));
    assert_eq!((lost.stack.sql("SELECT count(*) FROM t"), lost.tables()), (vec!["7".to_owned()], "1".to_owned()));
    assert!(!exists(&lost.stack, &lost.beside) && !exists(&lost.stack, &lost.replaced));
    let again = ran(&mut filer()).expect("Succeeded", "Restored");
    assert_eq!(again.message(), format!("the dump old/ai_db.sql.gz was loaded already, and is in {live}"));
}

#[test]
fn a_database_with_something_in_it_stays_and_nobody_asks_for_the_backup() {
    let Some(lost) = Lost::new("a bootstrap of a full one") else { return };
    let live = &lost.stack.database;
    lost.stack.sql("CREATE TABLE people AS SELECT 1 AS id; CREATE SCHEMA s; CREATE TABLE s.more ()");
    let message = format!("the database {live} holds 2 tables already, so nothing was restored");
    assert_eq!(lost.expect_left(&mut lost.agent()), message);
    assert_eq!(lost.expect_left(&mut nowhere(lost.agent())), message);
    // Not even for who may ask.
    let without_credentials = lost.agent().env("ODOOAI_BACKUP_VOLUME", "").env("ODOOAI_S3_BUCKET", "gone");
    assert_eq!(lost.expect_left(&mut without_credentials.env("ODOOAI_S3_CREDENTIALS", "/nowhere")), message);
    assert_eq!(lost.expect_left(&mut lost.sourceless()), message);
    assert_eq!(lost.expect_left(&mut lost.agent().env("ODOOAI_RESTORE_ADOPT", "true")), message);
    // What was begun beside it goes.
    for state in ["Loading", "Loaded"] {
        lost.beside(state);
        assert_eq!(lost.expect_left(&mut nowhere(lost.agent())), message);
    }
    let closed = format!("ALLOW_CONNECTIONS false CONNECTION LIMIT {}", mark(&owner(&lost.stack)));
    lost.run(&format!("CREATE DATABASE \"{}\" {closed}", lost.beside));
    assert_eq!(lost.expect_left(&mut nowhere(lost.agent())), message);
    // Another's doesn't.
    for name in [&lost.beside, &lost.replaced] {
        lost.run(&format!("CREATE DATABASE \"{name}\""));
        ran(&mut nowhere(lost.agent())).expect("Succeeded", "DatabaseNotEmpty");
        lost.note(name, &another(&lost.stack), "Loaded");
        ran(&mut nowhere(lost.agent())).expect("Succeeded", "DatabaseNotEmpty");
        assert!(exists(&lost.stack, name));
        lost.run(&format!("DROP DATABASE \"{name}\""));
    }
    assert_eq!(lost.stack.sql("SELECT id FROM people"), ["1"]);
    // Tables are no more than a revision.
    lost.stack
        .sql("DROP TABLE people; DROP SCHEMA s CASCADE; CREATE TABLE alembic_version AS SELECT '003' AS version_num");
    lost.stack.sql("GRANT SELECT ON alembic_version TO PUBLIC");
    let message = format!("the database {live} is at revision 003 already, so nothing was restored");
    assert_eq!(lost.expect_left(&mut nowhere(lost.agent())), message);
    // What another Restore has brought is none of ours.
    lost.note(live, &another(&lost.stack), "Live");
    assert_eq!(lost.expect_left(&mut nowhere(lost.agent())), message);
}

/// Somebody puts something into it while the backup comes.
#[test]
fn what_comes_into_it_meanwhile_stays() {
    let Some(lost) = Lost::new("a bootstrap that is too late") else { return };
    let script = format!(
        "[[ $* == *--version* ]] || PGUSER=postgres PGPASSWORD=\"$(cat '{}')\" psql --host=127.0.0.1 --port={} --dbname='{}' \
         --command='CREATE TABLE people AS SELECT 1 AS id' >&2\nexec \"$real\" \"$@\"",
        lost.stack.server.password_file().display(),
        lost.stack.server.port,
        lost.stack.database
    );
    let folder = instead("pg_restore", &script);
    let message = lost.expect_left(&mut with(lost.agent(), folder.path()));
    assert!(message.contains("holds 1 tables already"), "{message}");
    assert_eq!(lost.stack.sql("SELECT id FROM people"), ["1"]);
}

#[test]
fn on_a_new_server_role_and_database_are_made() {
    let Some(mut lost) = Lost::new("a bootstrap of a new server") else { return };
    lost.stack.server = Arc::new(Postgres::start_plain().expect("as before"));
    lost.expect_restored(ran(&mut lost.agent()));
    let live = &lost.stack.database;
    let whose = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()";
    assert_eq!(
        lost.stack.server.try_execute_as(live, crate::agent::APP_PASSWORD, live, whose).expect("let in"),
        [live.as_str()]
    );
}

/// An empty database is no success as long as there is no backup in it.
#[test]
fn without_a_good_backup_it_stays_empty_and_fails() {
    let Some(lost) = Lost::new("a bootstrap from a bad backup") else { return };
    let path = lost.stack.folder().join(&lost.id);
    let (dump, manifest) = (path.join("dump"), path.join("manifest"));
    let (bytes, text) = (std::fs::read(&dump).expect("there"), std::fs::read(&manifest).expect("there"));
    std::fs::write(&dump, &bytes[..bytes.len() - 1]).expect("written");
    lost.expect_untouched(&mut lost.agent(), "Refused", "ArtifactDamaged");
    std::fs::write(&dump, &bytes).expect("written");
    let mut other: Value = serde_json::from_slice(&text).expect("JSON");
    other["tables"]["public.empty"] = json!(1);
    std::fs::write(&manifest, other.to_string()).expect("written");
    lost.expect_untouched(&mut lost.agent(), "Refused", "VerificationFailed");
    other["serverVersion"] = json!(990_001);
    std::fs::write(&manifest, other.to_string()).expect("written");
    lost.expect_untouched(&mut lost.agent(), "Refused", "PostgresVersionMismatch");
    std::fs::write(&manifest, &text).expect("written");
    let missing = "20260101t000000z-aaaaaa";
    lost.expect_untouched(&mut lost.agent().env("ODOOAI_RESTORE_ID", missing), "Refused", "ArtifactMissing");
    lost.expect_untouched(&mut nowhere(lost.agent()), "Failed", "StorageUnavailable");
    lost.expect_untouched(&mut lost.sourceless(), "Refused", "ConfigInvalid");
    let bucket = lost.agent().env("ODOOAI_S3_BUCKET", "gone").env("ODOOAI_S3_CREDENTIALS", "/nowhere");
    lost.expect_untouched(&mut { bucket }, "Refused", "StorageCredentialsMissing");
    lay(&lost.stack, "cut.sql", b"-- PostgreSQL database dump\n");
    lost.expect_untouched(&mut lost.sourceless().env("ODOOAI_RESTORE_FILE", "cut.sql"), "Refused", "ArtifactDamaged");
    let all = (u64::MAX / 4).to_string();
    lost.expect_untouched(&mut lost.agent().env("ODOOAI_RESTORE_RESERVE_BYTES", all), "Failed", "StorageFull");
    let slow = instead("pg_restore", "[[ $* == *--version* ]] || exec sleep 600\nexec \"$real\" \"$@\"");
    let slow = with(lost.agent(), slow.path()).env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "2");
    lost.expect_untouched(&mut { slow }, "Failed", "TimedOut");
    lost.expect_restored(ran(&mut lost.agent()));
}

#[test]
fn what_it_needs_is_told_before_anything_is_done() {
    let Some(lost) = Lost::new("a bootstrap without") else { return };
    let refused = |agent: Agent, reason: &str| lost.expect_untouched(&mut { agent }, "Refused", reason);
    let external = lost.agent().env("ODOOAI_DATABASE_ADMIN_USER", "").env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "");
    assert!(refused(external, "ConfigInvalid").contains("only the database of a Managed server"));
    refused(lost.agent().env("ODOOAI_LOCK_DATABASE", &lost.stack.database), "RenameNotPossible");
    refused(lost.agent().env("ODOOAI_RESTORE_REPLACED", ""), "ConfigInvalid");
    refused(lost.agent().env("ODOOAI_RESTORE_ADOPT", "yes"), "ConfigInvalid");
    refused(lost.agent().env("ODOOAI_RESTORE_REPLACED", &lost.beside), "DatabaseExists");
    refused(lost.agent().env("ODOOAI_RESTORE_REPLACED", &lost.stack.database), "DatabaseExists");
    refused(lost.agent().env("ODOOAI_RESTORE_DATABASE", &lost.stack.database), "DatabaseExists");
    // Before hours of loading.
    let told = refused(lost.agent().env("ODOOAI_RESTORE_REPLACED", "template1"), "DatabaseExists");
    assert!(told.contains("template1 already"), "{told}");
    // Somebody else's is in the way.
    lost.run(&format!("CREATE DATABASE \"{}\"", lost.beside));
    ran(&mut lost.agent()).expect("Refused", "DatabaseExists");
    assert!(exists(&lost.stack, &lost.beside));
}

#[test]
fn two_at_once_are_one_after_the_other() {
    let Some(lost) = Lost::new("two bootstraps") else { return };
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| ran(&mut lost.agent()))).collect();
        let done: Vec<_> = runs.into_iter().map(|run| lost.expect_restored(run.join().expect("no panic"))).collect();
        assert_eq!(done.iter().filter(|it| it.message().contains("already")).count(), 2);
    });
    // Whoever migrates it or loads beside it is waited for.
    lost.empty();
    for name in [&lost.stack.database, &lost.beside] {
        crate::servers::block_on(async {
            let password = crate::servers::PASSWORD;
            let session = lost.stack.server.client("postgres", password, "postgres").await.expect("a session");
            session.query("SELECT pg_advisory_lock($1)", &[&lock_key(name)]).await.expect("locked");
            let mut agent = lost.agent().env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "1");
            apart(|| lost.expect_untouched(&mut agent, "Failed", "TimedOut"));
            let mut agent = lost.agent();
            let mut child = agent.spawn();
            std::thread::sleep(Duration::from_secs(1));
            assert!(apart(|| lost.tables() == "0" && !exists(&lost.stack, &lost.beside)));
            session.query("SELECT pg_advisory_unlock($1)", &[&lock_key(name)]).await.expect("unlocked");
            assert_eq!(crate::agent::exit_code(&mut child).0, Some(0));
        });
        lost.empty();
    }
}
