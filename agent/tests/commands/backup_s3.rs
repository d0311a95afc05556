//! `agent backup` and `agent verify` with a real S3 server: alone, and beside a volume.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{Agent, exit_code};
use crate::catalogue::{Ran, Stack, ran};
use crate::servers::s3::{ACCESS_KEY, BUCKET, Proxy, S3, SECRET_KEY};
use crate::servers::skip;
use crate::servers::tmpfs::Tmpfs;

/// A stack, a store, and a proxy in between.
struct Place {
    stack: Stack,
    store: S3,
    proxy: Proxy,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let stack = Stack::new(test)?;
        let Some(store) = S3::start() else {
            skip(test, "ODOOAI_TOOL_VERSITYGW names no S3 server: hack/tools/build versitygw");
            return None;
        };
        let proxy = Proxy::start(store.port);
        let place = Self { stack, store, proxy };
        place.credentials(ACCESS_KEY, SECRET_KEY);
        // Several parts of eight megabytes, that can't be compressed.
        place.stack.sql(
            "CREATE TABLE t AS SELECT g AS id, md5(random()::text) || md5(random()::text) || md5(random()::text)
                         AS filler FROM generate_series(1, 250000) g",
        );
        Some(place)
    }

    fn credentials(&self, key: &str, secret: &str) {
        let folder = self.stack.volume.path().join("credentials");
        std::fs::create_dir_all(&folder).expect("made");
        std::fs::write(folder.join("accessKeyId"), key).expect("written");
        std::fs::write(folder.join("secretAccessKey"), secret).expect("written");
    }

    fn with_bucket(&self, agent: Agent) -> Agent {
        agent
            .env("ODOOAI_S3_ENDPOINT", format!("http://127.0.0.1:{}", self.proxy.port))
            .env("ODOOAI_S3_BUCKET", BUCKET)
            .env("ODOOAI_S3_PREFIX", "some/place")
            .env("ODOOAI_S3_CREDENTIALS", self.stack.volume.path().join("credentials"))
            .env("ODOOAI_S3_PATIENCE_SECONDS", "5")
    }

    /// Both.
    fn agent(&self) -> Agent {
        self.with_bucket(self.stack.agent())
    }

    /// The bucket alone.
    fn bucket_only(&self) -> Agent {
        self.agent().env("ODOOAI_BACKUP_VOLUME", "")
    }

    fn folder(&self) -> PathBuf {
        self.store.folder.join(BUCKET).join("some/place/ns/stack")
    }

    /// Ids in the bucket that have a manifest.
    fn good(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder()) else { return Vec::new() };
        let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
        let mut good: Vec<_> = names.filter(|name| self.folder().join(name).join("manifest").exists()).collect();
        good.sort();
        good
    }
}

fn id(ran: &Ran) -> String {
    ran.report["backup"]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_bucket_alone_is_enough() {
    let Some(place) = Place::new("a bucket") else { return };
    let first = id(&ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded"));
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.folder().join(&first).join("manifest")).expect("there"))
            .expect("JSON");
    let bytes = std::fs::metadata(place.folder().join(&first).join("dump")).expect("there").len();
    assert!(bytes > 8 << 20, "more than one part: {bytes}");
    assert_eq!(manifest["bytes"], json!(bytes));
    assert_eq!(place.stack.names(), Vec::<String>::new(), "nothing on the volume");
    // It is proven from there, too.
    let verifier = || place.with_bucket(place.stack.verifier()).env("ODOOAI_BACKUP_VOLUME", "");
    ran(&mut verifier()).expect("Succeeded", "Verified");
    assert!(place.folder().join(&first).join("verified").exists());
    let second =
        id(&ran(&mut place.bucket_only().env("ODOOAI_BACKUP_KEEP_LAST", "1")).expect("Succeeded", "BackupSucceeded"));
    let third =
        id(&ran(&mut place.bucket_only().env("ODOOAI_BACKUP_KEEP_LAST", "1")).expect("Succeeded", "BackupSucceeded"));
    assert_eq!(place.good(), [first, third], "{second} is gone, the verified one stays");
    // Several stores refuse such headers.
    for head in place.proxy.heads() {
        assert!(!head.contains("checksum") && !head.contains("x-amz-trailer"), "{head}");
        assert!(!head.contains(SECRET_KEY), "{head}");
    }
}

/// The volume's manifest is the success; the copy comes when it can.
#[test]
fn a_copy_that_fails_is_made_by_the_next_run() {
    let Some(mut place) = Place::new("a copy") else { return };
    let first = ran(&mut place.agent()).expect("Succeeded", "BackupSucceeded");
    assert_eq!((first.report["backup"]["offsite"].clone(), place.good()), (json!(true), vec![id(&first)]));
    place.store.stop();
    let second = ran(&mut place.agent()).expect("Succeeded", "BackupSucceeded");
    assert_eq!(second.report["backup"]["offsite"], json!(false));
    assert!(second.message().contains("could not be copied to the bucket"), "{}", second.message());
    assert_eq!(place.stack.good().len(), 2);
    place.store.run().expect("as before");
    let third = ran(&mut place.agent()).expect("Succeeded", "BackupSucceeded");
    assert_eq!(third.report["backup"]["offsite"], json!(true));
    assert_eq!(place.good(), [id(&first), id(&second), id(&third)]);
    for id in place.good() {
        let read = |folder: PathBuf| std::fs::read(folder.join(&id).join("dump")).expect("there");
        assert!(read(place.folder()) == read(place.stack.folder()), "the same artifact");
    }
    // Retention holds there, too.
    ran(&mut place.agent().env("ODOOAI_BACKUP_KEEP_LAST", "2")).expect("Succeeded", "BackupSucceeded");
    assert_eq!(place.good().len(), 2);
}

#[test]
fn credentials_that_are_refused_are_told_and_new_ones_are_read() {
    let Some(place) = Place::new("credentials") else { return };
    place.credentials(ACCESS_KEY, "another");
    let refused = ran(&mut place.bucket_only()).expect("Failed", "StorageRefused");
    assert!(!refused.output.contains("another"), "{}", refused.output);
    place.credentials("NOBODY", SECRET_KEY);
    // Whoever isn't known is not found by this server, and refused by others.
    assert_eq!(ran(&mut place.bucket_only()).report["result"], json!("Failed"));
    place.credentials(ACCESS_KEY, SECRET_KEY);
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    std::fs::remove_file(place.stack.volume.path().join("credentials/secretAccessKey")).expect("there");
    let missing = ran(&mut place.bucket_only()).expect("Refused", "StorageCredentialsMissing");
    assert!(missing.message().contains("secretAccessKey"), "{}", missing.message());
    place.credentials(ACCESS_KEY, SECRET_KEY);
    let nowhere =
        ran(&mut place.bucket_only().env("ODOOAI_S3_BUCKET", "nowhere")).expect("Failed", "StorageUnavailable");
    assert!(nowhere.message().contains("NoSuchBucket"), "{}", nowhere.message());
    assert_eq!(place.good().len(), 1);
}

/// A store that refuses for a moment, or cuts an upload, is asked again; what is stored is read back all the same.
#[test]
fn what_passes_is_tried_again() {
    let Some(place) = Place::new("500s") else { return };
    place.proxy.refuse(3);
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    place.proxy.cut(2);
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    assert_eq!((place.proxy.left(), place.good().len()), (0, 2), "the faults happened");
    // One that doesn't stop is told.
    place.proxy.refuse(1_000_000);
    let failed = ran(&mut place.bucket_only()).expect("Failed", "StorageUnavailable");
    assert!(failed.message().contains("500"), "{}", failed.message());
    assert_eq!(place.good().len(), 2);
}

/// On a file system of a fixed size, which needs root.
#[test]
fn a_bucket_that_is_full_is_told() {
    let Some(mut place) = Place::new("a full bucket") else { return };
    place.store.stop();
    let Some(mounted) = Tmpfs::mount(&place.store.folder, "60m") else {
        return skip("a full bucket", "file systems can't be mounted here");
    };
    std::fs::create_dir(place.store.folder.join(BUCKET)).expect("made");
    place.store.run().expect("as before");
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    let good = place.good();
    place.stack.sql("INSERT INTO t SELECT id + 250000, md5(filler) || md5(filler || '1') || md5(filler || '2') FROM t");
    place.stack.sql("INSERT INTO t SELECT id + 500000, md5(filler) || md5(filler || '1') || md5(filler || '2') FROM t");
    let failed = ran(&mut place.bucket_only().env("ODOOAI_BACKUP_KEEP_LAST", "1"));
    let failed = failed.expect("Failed", "StorageFull");
    assert_eq!(place.good(), good, "{}", failed.message());
    // It doesn't keep the volume's own from being made.
    let both = ran(&mut place.agent()).expect("Succeeded", "BackupSucceeded");
    assert_eq!((both.report["backup"]["offsite"].clone(), place.good()), (json!(false), good));
    place.store.stop();
    drop(mounted);
}

#[test]
fn a_run_that_is_killed_while_it_uploads_leaves_nothing_that_counts() {
    let Some(place) = Place::new("a killed upload") else { return };
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    for millis in [300, 600, 900, 1200] {
        let mut agent = place.bucket_only();
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
        for id in place.good() {
            let read = |name: &str| std::fs::read(place.folder().join(&id).join(name)).expect("there");
            let manifest: Value = serde_json::from_slice(&read("manifest")).expect("JSON");
            assert_eq!(manifest["bytes"], json!(read("dump").len()));
        }
    }
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    let all = std::fs::read_dir(place.folder()).expect("there").flatten();
    let folders = all.filter(|entry| entry.file_name().to_string_lossy().starts_with("20")).count();
    assert_eq!(folders, place.good().len(), "what they left is gone");
}

#[test]
fn somebody_elses_bucket_is_left_alone() {
    let Some(place) = Place::new("a foreign bucket") else { return };
    ran(&mut place.bucket_only()).expect("Succeeded", "BackupSucceeded");
    let owner = place.folder().join("owner.json");
    std::fs::write(&owner, r#"{"database": "1/x"}"#).expect("written");
    ran(&mut place.bucket_only().env("ODOOAI_BACKUP_KEEP_LAST", "1")).expect("Refused", "ForeignOwner");
    // As a copy it is no reason to fail.
    let both = ran(&mut place.agent()).expect("Succeeded", "BackupSucceeded");
    assert_eq!(both.report["backup"]["offsite"], json!(false));
    assert!(both.message().contains("1/x"), "{}", both.message());
    assert_eq!(place.good().len(), 1);
}
