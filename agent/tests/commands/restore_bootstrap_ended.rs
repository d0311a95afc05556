//! `agent restore bootstrap` that was killed, wherever: the next one ends it.

use std::time::Duration;

use serde_json::json;

use crate::agent::exit_code;
use crate::catalogue::ran;
use crate::restore::{another, exists, loader, mark, note, owner, swapper};
use crate::restore_bootstrap::{Lost, nowhere};
use crate::servers::eventually;

#[test]
fn what_was_begun_is_begun_anew_and_what_was_loaded_is_used() {
    let Some(lost) = Lost::new("a killed bootstrap") else { return };
    let there = |sql: &str| lost.stack.server.execute(&lost.beside, sql);
    lost.beside("Loading");
    there("CREATE TABLE half ()");
    lost.expect_restored(ran(&mut lost.agent()));
    lost.empty();
    let closed = format!("ALLOW_CONNECTIONS false CONNECTION LIMIT {}", mark(&owner(&lost.stack)));
    lost.run(&format!("CREATE DATABASE \"{}\" {closed}", lost.beside));
    lost.expect_restored(ran(&mut lost.agent()));
    // What was begun goes, also where the backup is gone.
    lost.empty();
    lost.beside("Loading");
    lost.expect_gone(&mut nowhere(lost.agent()));
    // Loaded completely.
    ran(&mut loader(&lost.stack, &lost.id, &lost.beside)).expect("Succeeded", "Restored");
    let oid = lost.run(&format!("SELECT oid FROM pg_database WHERE datname = '{}'", lost.beside));
    let done = lost.expect_restored(ran(&mut nowhere(lost.agent())));
    assert_eq!(lost.oid(), oid[0]);
    assert!(done.message().contains("was loaded already") && done.report["restore"]["seconds"].is_null());
    // Another one is wished for now.
    lost.empty();
    ran(&mut loader(&lost.stack, &lost.id, &lost.beside)).expect("Succeeded", "Restored");
    let other = note(&lost.stack, &lost.beside).to_string().replace(&lost.id, "20260101t000000z-aaaaaa");
    lost.run(&format!("COMMENT ON DATABASE \"{}\" IS '{other}'", lost.beside));
    there("CREATE TABLE another ()");
    lost.expect_restored(ran(&mut lost.agent()));
    // Not of another owner's, though.
    lost.empty();
    lost.beside("Loaded");
    lost.note(&lost.beside, &another(&lost.stack), "Loaded");
    ran(&mut lost.agent()).expect("Refused", "DatabaseExists");
    let other = lost.agent().env("ODOOAI_RESTORE_ID", "20260101t000000z-aaaaaa");
    ran(&mut { other }).expect("Refused", "DatabaseExists");
    assert_eq!((lost.tables(), exists(&lost.stack, &lost.beside)), ("0".to_owned(), true));
}

impl Lost {
    /// It can't be had, and what was begun is gone.
    #[track_caller]
    fn expect_gone(&self, agent: &mut crate::agent::Agent) {
        let oid = self.oid();
        ran(agent).expect("Failed", "StorageUnavailable");
        assert_eq!((self.oid(), self.tables(), exists(&self.stack, &self.beside)), (oid, "0".to_owned(), false));
    }

    /// One that is killed so late leaves the empty database, or all of the backup, which the next one tells. Whether it
    /// came to its end.
    fn survives(&self, millis: u64) -> bool {
        let oid = self.oid();
        let mut agent = self.agent();
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let (code, _) = exit_code(&mut child);
        eventually("what the server still does for it is done", Duration::from_secs(20), || self.is_quiet());
        if self.oid() == oid {
            assert_eq!(self.tables(), "0", "after {millis} ms");
        } else {
            assert!(self.read() == self.content, "after {millis} ms");
            let done = self.expect_restored(ran(&mut nowhere(self.agent())));
            assert!(done.message().contains("already"), "{}", done.message());
            self.empty();
        }
        code == Some(0)
    }

    /// Nobody changes names.
    fn is_quiet(&self) -> bool {
        let renames = format!("query LIKE '%RENAME%{}%' AND state <> 'idle'", self.stack.database);
        let sql = format!("SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND {renames}");
        self.run(&sql).is_empty()
    }

    /// As somebody leaves it who is killed between swap and drop.
    fn swapped(&self) {
        ran(&mut loader(&self.stack, &self.id, &self.beside)).expect("Succeeded", "Restored");
        ran(&mut swapper(&self.stack, &self.beside, &self.replaced)).expect("Succeeded", "Swapped");
    }
}

#[test]
fn the_empty_one_goes_and_no_other() {
    let Some(lost) = Lost::new("a bootstrap killed after the swap") else { return };
    lost.swapped();
    let oid = lost.oid();
    let done = lost.expect_restored(ran(&mut lost.agent()));
    assert_eq!((lost.oid(), done.report["restore"]["tables"].clone()), (oid.clone(), json!(8)));
    // One that got something, and one that is another's.
    let kept = |why: &str| {
        let done = ran(&mut lost.agent()).expect("Succeeded", "Restored");
        let told = format!("; {} {why} and is kept", lost.replaced);
        assert!(done.message().ends_with(&told), "{}", done.message());
        assert!(exists(&lost.stack, &lost.replaced) && lost.oid() == oid);
    };
    lost.run(&format!("CREATE DATABASE \"{}\"", lost.replaced));
    kept("was not made by this restore");
    lost.note(&lost.replaced, &another(&lost.stack), "Replaced");
    kept("is of another restore");
    lost.note(&lost.replaced, &owner(&lost.stack), "Loaded");
    kept("was never the live database");
    lost.note(&lost.replaced, &owner(&lost.stack), "Replaced");
    lost.stack.server.execute(&lost.replaced, "CREATE TABLE people AS SELECT 1 AS id");
    kept("holds 1 tables");
    assert_eq!(lost.stack.server.execute(&lost.replaced, "SELECT id FROM people"), ["1"]);
    lost.stack.server.execute(&lost.replaced, "DROP TABLE people");
    lost.expect_restored(ran(&mut lost.agent()));
}

/// What left the place again is not brought a second time.
#[test]
fn what_was_put_away_since_stays_away() {
    let Some(lost) = Lost::new("a bootstrap that was undone") else { return };
    lost.swapped();
    lost.empty();
    let oid = lost.oid();
    ran(&mut lost.agent()).expect("Refused", "NoLongerLive");
    assert_eq!((lost.oid(), lost.tables(), exists(&lost.stack, &lost.beside)), (oid, "0".to_owned(), false));
    // What is in the live one counts first.
    lost.stack.sql("CREATE TABLE people ()");
    ran(&mut nowhere(lost.agent())).expect("Succeeded", "DatabaseNotEmpty");
}

#[test]
fn killed_at_any_moment_the_next_one_ends_it() {
    let Some(mut lost) = Lost::new("bootstraps that are killed") else { return };
    // Large enough for somebody to be in the midst of it.
    lost.expect_restored(ran(&mut lost.agent()));
    lost.stack.sql(&format!(
        "SET ROLE \"{}\"; CREATE TABLE big AS SELECT g AS id, md5(g::text) AS filler FROM generate_series(1, 200000) g;
         CREATE INDEX ON big (filler)",
        lost.stack.database
    ));
    lost.id = lost.stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    lost.content = lost.read();
    lost.empty();
    for millis in (20..10_000).step_by(60) {
        if lost.survives(millis) {
            break;
        }
    }
    lost.expect_restored(ran(&mut lost.agent()));
    // What is loaded needn't be loaded again: there is more time for the rest.
    for millis in [20, 40, 60, 80, 100, 130, 160] {
        lost.empty();
        if !exists(&lost.stack, &lost.beside) {
            ran(&mut loader(&lost.stack, &lost.id, &lost.beside)).expect("Succeeded", "Restored");
        }
        lost.survives(millis);
    }
    lost.expect_restored(ran(&mut lost.agent()));
}
