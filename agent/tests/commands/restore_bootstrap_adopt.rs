//! `agent restore bootstrap` and the catalogue that the backup came from.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::agent::Agent;
use crate::catalogue::{Ran, ran};
use crate::restore_bootstrap::Lost;
use crate::restore_plain::{dump, lay};
use crate::servers::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};
use crate::servers::{Postgres, skip};

/// Whose a catalogue is.
fn owner_in(folder: &Path) -> String {
    let text = std::fs::read(folder.join("owner.json")).expect("there");
    let owner: Value = serde_json::from_slice(&text).expect("JSON");
    owner["database"].as_str().expect("text").to_owned()
}

impl Lost {
    fn adopting(&self) -> Agent {
        self.agent().env("ODOOAI_RESTORE_ADOPT", "true")
    }

    fn owner(&self) -> String {
        owner_in(&self.stack.folder())
    }

    /// As of a server that is lost.
    fn set_owner(&self, text: &str) {
        std::fs::write(self.stack.folder().join("owner.json"), text).expect("written");
    }

    /// Who it is for the catalogue.
    fn ours(&self) -> String {
        let system = self.run("SELECT system_identifier FROM pg_control_system()");
        format!("{}/{}", system[0], self.stack.database)
    }

    #[track_caller]
    fn expect_told(&self, done: Ran, told: &str) {
        let done = self.expect_restored(done);
        assert!(done.message().ends_with(told), "{}", done.message());
    }
}

const THEIRS: &str = r#"{"database": "1/lost"}"#;

#[test]
fn the_next_backup_goes_where_it_came_from() {
    let Some(mut lost) = Lost::new("an adopted catalogue") else { return };
    let theirs = lost.owner();
    lost.stack.server = Arc::new(Postgres::start_plain().expect("as before"));
    // Not without being told to.
    for word in ["", "false"] {
        let done = lost.expect_restored(ran(&mut lost.agent().env("ODOOAI_RESTORE_ADOPT", word)));
        assert!(!done.message().contains("adopted") && lost.owner() == theirs, "{}", done.message());
    }
    lost.stack.back_up().expect("Refused", "ForeignOwner");
    // Also by one that comes after a killed one.
    lost.expect_told(ran(&mut lost.adopting()), &format!("; its catalogue was adopted from {theirs}"));
    assert_eq!(lost.owner(), lost.ours());
    lost.stack.back_up().expect("Succeeded", "BackupSucceeded");
    // By the first one; and where it is ours there is nothing to tell.
    lost.empty();
    lost.set_owner(THEIRS);
    lost.expect_told(ran(&mut lost.adopting()), " s; its catalogue was adopted from 1/lost");
    assert!(!ran(&mut lost.adopting()).expect("Succeeded", "Restored").message().contains("adopted"));
    // Another host has taken it over since: who comes back doesn't take it again.
    lost.set_owner(THEIRS);
    assert!(!ran(&mut lost.adopting()).expect("Succeeded", "Restored").message().contains("adopted"));
    assert_eq!(lost.owner(), "1/lost");
    // Nobody's.
    lost.empty();
    std::fs::remove_file(lost.stack.folder().join("owner.json")).expect("there");
    assert!(!ran(&mut lost.adopting()).expect("Succeeded", "Restored").message().contains("adopted"));
    assert_eq!(lost.owner(), lost.ours());
    lost.stack.back_up().expect("Succeeded", "BackupSucceeded");
}

#[test]
fn a_catalogue_that_cant_be_adopted_is_no_failure() {
    let Some(lost) = Lost::new("a catalogue that isn't adopted") else { return };
    let untold = |agent: Agent| {
        let done = ran(&mut { agent }).expect("Succeeded", "Restored");
        let (_, why) = done.message().split_once("; its catalogue could not be adopted: ").expect("told");
        why.to_owned()
    };
    // Somebody's, and nobody knows whose.
    lost.set_owner("{");
    assert!(untold(lost.adopting()).contains("owner.json"));
    assert_eq!(std::fs::read(lost.stack.folder().join("owner.json")).expect("there"), b"{");
    lost.empty();
    lost.set_owner(THEIRS);
    std::fs::create_dir(lost.stack.folder().join("owner.json.partial")).expect("made");
    assert!(untold(lost.adopting()).contains("write owner.json"));
    assert_eq!(lost.owner(), "1/lost");
    // One that is gone, or nobody knows where.
    assert!(untold(lost.adopting().env("ODOOAI_BACKUP_VOLUME", "/proc/nowhere")).contains("open the catalogue"));
    assert!(untold(lost.adopting().env("ODOOAI_BACKUP_VOLUME", "")).contains("ODOOAI_BACKUP_VOLUME"));
    // What came from no catalogue has none.
    std::fs::remove_dir(lost.stack.folder().join("owner.json.partial")).expect("ours");
    let other = lost.adopting().env("ODOOAI_RESTORE_ID", "20260101t000000z-aaaaaa");
    assert!(!ran(&mut { other }).expect("Succeeded", "Restored").message().contains("adopted"));
    lay(&lost.stack, "plain.sql", &dump(&lost.stack, &[]));
    lost.empty();
    let plain = || lost.sourceless().env("ODOOAI_RESTORE_FILE", "plain.sql").env("ODOOAI_RESTORE_ADOPT", "true");
    for _ in 0..2 {
        assert!(!lost.expect_restored(ran(&mut plain())).message().contains("adopted"));
    }
    let selected = lost.sourceless().env("ODOOAI_RESTORE_SELECTOR", "Latest").env("ODOOAI_RESTORE_ADOPT", "true");
    assert!(!lost.expect_restored(ran(&mut { selected })).message().contains("adopted"));
    assert_eq!(lost.owner(), "1/lost");
}

#[test]
fn it_is_adopted_wherever_it_is() {
    let Some(lost) = Lost::new("two adopted catalogues") else { return };
    let Some(mut store) = S3::start() else {
        return skip("two adopted catalogues", "ODOOAI_TOOL_VERSITYGW names no S3 server: hack/tools/build versitygw");
    };
    let credentials = lost.stack.volume.path().join("credentials");
    std::fs::create_dir_all(&credentials).expect("made");
    std::fs::write(credentials.join("accessKeyId"), ACCESS_KEY).expect("written");
    std::fs::write(credentials.join("secretAccessKey"), SECRET_KEY).expect("written");
    let port = store.port;
    let with_bucket = |agent: Agent| {
        agent
            .env("ODOOAI_S3_ENDPOINT", format!("http://127.0.0.1:{port}"))
            .env("ODOOAI_S3_BUCKET", BUCKET)
            .env("ODOOAI_S3_CREDENTIALS", &credentials)
            .env("ODOOAI_S3_PATIENCE_SECONDS", "2")
    };
    let bucket = store.folder.join(BUCKET).join("ns/stack");
    std::fs::create_dir_all(&bucket).expect("made");
    lost.set_owner(THEIRS);
    std::fs::write(bucket.join("owner.json"), r#"{"database": "2/lost"}"#).expect("written");
    let done = ran(&mut with_bucket(lost.adopting()));
    lost.expect_told(done, "; its catalogue was adopted from 1/lost, 2/lost");
    assert_eq!([lost.owner(), owner_in(&bucket)], [lost.ours(), lost.ours()]);
    let backup = ran(&mut with_bucket(lost.stack.agent())).expect("Succeeded", "BackupSucceeded");
    assert_eq!(backup.report["backup"]["offsite"], json!(true));
    // The bucket alone.
    std::fs::write(bucket.join("owner.json"), THEIRS).expect("written");
    lost.empty();
    let done = ran(&mut with_bucket(lost.adopting()).env("ODOOAI_BACKUP_VOLUME", ""));
    lost.expect_told(done, " s; its catalogue was adopted from 1/lost");
    assert_eq!(owner_in(&bucket), lost.ours());
    // One of the two.
    store.stop();
    lost.set_owner(THEIRS);
    let done = lost.expect_restored(ran(&mut with_bucket(lost.adopting())));
    let told = "; its catalogue was adopted from 1/lost; its catalogue could not be adopted: read owner.json: ";
    assert!(done.message().contains(told), "{}", done.message());
    assert_eq!(lost.owner(), lost.ours());
}
