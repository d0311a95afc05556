//! `agent restore load` of what `pg_dump` wrote as SQL, on a volume and in a bucket.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use flate2::write::GzEncoder;
use serde_json::json;

use crate::agent::{APP_PASSWORD, Agent, exit_code, text};
use crate::backup::UNUSUAL;
use crate::backup_faults::{instead, with};
use crate::catalogue::{Ran, Stack, ran};
use crate::restore::{exists, loader, note, restorer};
use crate::servers::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};
use crate::servers::{PASSWORD, newest_binaries, skip};

/// A stack with unusual things, and the name for what a dump becomes.
fn stack(test: &str) -> Option<(Stack, String)> {
    let stack = Stack::new(test)?;
    stack.sql(&format!("SET ROLE \"{}\"; {UNUSUAL}", stack.database));
    let database = format!("{}-restored", stack.database);
    Some((stack, database))
}

/// What one of PostgreSQL's programs writes, as the superuser.
fn output(stack: &Stack, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(newest_binaries().expect("programs").join(program))
        .args(arguments)
        .args(["--host=127.0.0.1", "--username=postgres"])
        .arg(format!("--port={}", stack.server.port))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .expect("it can be run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    output.stdout
}

pub(crate) fn dump(stack: &Stack, arguments: &[&str]) -> Vec<u8> {
    output(stack, "pg_dump", &[arguments, &[&stack.database]].concat())
}

pub(crate) fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// Lays a file on the volume.
pub(crate) fn lay(stack: &Stack, path: &str, bytes: &[u8]) {
    let path = stack.volume.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

fn filer(stack: &Stack, path: &str, database: &str) -> Agent {
    restorer(stack, "load", database).env("ODOOAI_RESTORE_FILE", path).env("ODOOAI_RESTORE_RESERVE_BYTES", "1")
}

/// Lays it, and is refused; nothing is there then. What is told.
#[track_caller]
fn refused(stack: &Stack, database: &str, bytes: &[u8], reason: &str) -> String {
    lay(stack, "refused.sql", bytes);
    let told = ran(&mut filer(stack, "refused.sql", database)).expect("Refused", reason);
    assert!(!exists(stack, database), "{}", told.message());
    told.message().to_owned()
}

fn drop(stack: &Stack, database: &str) {
    stack.server.execute("postgres", &format!("DROP DATABASE \"{database}\" WITH (FORCE)"));
}

#[test]
fn a_dump_becomes_a_database_whatever_it_lies_in() {
    let Some((stack, database)) = stack("a plain dump") else { return };
    let sql = dump(&stack, &[]);
    let (one, two) = sql.split_at(sql.len() / 2);
    let windows = String::from_utf8(sql.clone()).expect("text").replace('\n', "\r\n").into_bytes();
    // Names say nothing.
    for (path, bytes) in [
        ("ai db ü.sql", sql.clone()),
        ("old/ai_db.sql.gz", zipped(&sql)),
        ("members.sql", [zipped(one), zipped(two)].concat()),
        ("inserts.sql.gz", dump(&stack, &["--inserts"])),
        ("windows.sql", windows),
    ] {
        lay(&stack, path, &bytes);
        let done = ran(&mut filer(&stack, path, &database)).expect("Succeeded", "Restored");
        let told = &done.report["restore"];
        assert_eq!((&told["id"], &told["database"]), (&json!(path), &json!(database)));
        assert_eq!(
            (&told["tables"], &told["rows"], &told["alembic"]),
            (&json!(8), &json!(10), &json!(["003"])),
            "{path}"
        );
        assert!(told["seconds"].is_u64() && told["bytes"].as_u64() > Some(1 << 20), "{told}");
        let count = |sql: &str| stack.server.execute(&database, sql);
        let strange = "SELECT count(*) FROM pg_class WHERE relnamespace <> 'pg_catalog'::regnamespace
            AND relnamespace <> 'information_schema'::regnamespace AND relkind = 'r' AND pg_get_userbyid(relowner) <> ";
        assert_eq!(count(&format!("{strange} '{}'", stack.database)), ["0"], "the application's own, all of it");
        assert_eq!(count("SELECT count(*) FROM pg_largeobject_metadata"), ["2"]);
        assert_eq!(
            count("SELECT count(*) FROM pg_class WHERE relname = 'parent' AND reltuples = 1"),
            ["1"],
            "analyzed"
        );
        let noted = &note(&stack, &database)["odooaiRestore"];
        assert_eq!((&noted["state"], &noted["artifact"]), (&json!("Loaded"), &json!(path)));
        // Again, also where the file is gone.
        std::fs::remove_file(stack.volume.path().join(path)).expect("ours");
        let again = ran(&mut filer(&stack, path, &database)).expect("Succeeded", "Restored");
        assert!(again.message().contains("already") && again.report["restore"]["id"] == path, "{}", again.report);
        lay(&stack, "another.sql", &sql);
        ran(&mut filer(&stack, "another.sql", &database)).expect("Refused", "DatabaseExists");
        drop(&stack, &database);
    }
    ran(&mut filer(&stack, "ai_db.sql", &database)).expect("Refused", "ArtifactMissing");
    assert!(!exists(&stack, &database));
    // What is there already stays what it was.
    assert_eq!(stack.sql("SELECT count(*) FROM ONLY parent"), ["1"]);
}

#[test]
fn what_is_cut_or_damaged_becomes_nothing() {
    let Some((stack, database)) = stack("a cut plain dump") else { return };
    let sql = dump(&stack, &[]);
    let zipped = zipped(&sql);
    for quarters in 1..4 {
        for whole in [&sql, &zipped] {
            let length = whole.len() * quarters / 4;
            let told = refused(&stack, &database, &whole[..length], "ArtifactDamaged");
            assert!(told.contains(&format!("is cut off after {length} bytes")), "{told}");
        }
    }
    let told = refused(&stack, &database, &zipped[..zipped.len() - 1], "ArtifactDamaged");
    assert!(told.contains("is cut off after"), "{told}");
    for at in [zipped.len() / 2, zipped.len() - 6, zipped.len() - 2] {
        let mut flipped = zipped.clone();
        flipped[at] ^= 0x10;
        lay(&stack, "flipped.sql.gz", &flipped);
        let done = ran(&mut filer(&stack, "flipped.sql.gz", &database));
        assert_eq!(done.report["result"], "Refused", "a byte at {at}: {}", done.report);
        assert!(!exists(&stack, &database));
    }
    refused(&stack, &database, b"", "ArtifactDamaged");
    let told = refused(&stack, &database, b"CREATE TABLE t ();\n", "ArtifactDamaged");
    assert!(told.contains("no dump of pg_dump"), "{told}");
    let newer = String::from_utf8(sql).expect("text").replace("from database version ", "from database version 9");
    let told = refused(&stack, &database, newer.as_bytes(), "PostgresVersionMismatch");
    assert!(told.contains("is of PostgreSQL 9"), "{told}");
}

/// Neither the shell nor another database.
#[test]
fn what_reaches_further_is_refused_before_anything_is_touched() {
    let Some((stack, database)) = stack("a dump of more") else { return };
    let sql = String::from_utf8(dump(&stack, &[])).expect("text");
    let created = refused(&stack, &database, &dump(&stack, &["--create"]), "UnsupportedDump");
    assert!(created.contains("CREATE DATABASE") && created.contains("without --create"), "{created}");
    // Other tests drop theirs meanwhile.
    let all = output(&stack, "pg_dumpall", &["--no-role-passwords", "--exclude-database=db-*"]);
    let cluster = refused(&stack, &database, &all, "UnsupportedDump");
    assert!(cluster.contains("pg_dumpall"), "{cluster}");
    let marker = stack.volume.path().join("marker");
    let evil = format!("\\! touch {}\n", marker.display());
    let end = sql.find("-- PostgreSQL database dump complete").expect("its end") - 3;
    let spoilt = |more: &str| format!("{}{more}{}", &sql[..end], &sql[end..]);
    for more in [&evil, &format!("SELECT 1; {evil}"), &format!("SELECT '\\' {evil};\n"), "\\connect postgres\n"] {
        let told = refused(&stack, &database, spoilt(more).as_bytes(), "UnsupportedDump");
        assert!(told.contains("line "), "{told}");
    }
    assert!(!marker.exists());
    for (format, word) in [("custom", "--format=custom"), ("tar", "tar")] {
        let archive = dump(&stack, &[&format!("--format={format}")]);
        for bytes in [zipped(&archive), archive] {
            let told = refused(&stack, &database, &bytes, "UnsupportedDump");
            assert!(told.contains(word), "{told}");
        }
    }
    ran(&mut filer(&stack, "ns", &database)).expect("Refused", "ArtifactMissing");
    std::fs::create_dir_all(stack.volume.path().join("folder")).expect("made");
    let told = ran(&mut filer(&stack, "folder", &database)).expect("Refused", "UnsupportedDump");
    assert!(told.message().contains("is a folder"), "{}", told.message());
}

/// psql, which takes all it gets for harmless, is told by us to run no command of its own, where it knows how.
#[test]
fn psql_runs_no_command_even_where_a_dump_hides_one() {
    let Some((stack, database)) = stack("a hidden command") else { return };
    let sql = String::from_utf8(dump(&stack, &[])).expect("text");
    let marker = stack.volume.path().join("marker");
    let end = sql.find("-- PostgreSQL database dump complete").expect("its end") - 3;
    // What is a string to everybody but a server with another setting.
    let hidden = format!(
        "SELECT set_config('standard_' || 'conforming_strings', 'off', false);\nSELECT '\\';\nSELECT ';\n\\! touch {}\n';\n",
        marker.display()
    );
    let spoilt = format!("{}{hidden}{}", &sql[..end], &sql[end..]);
    lay(&stack, "hidden.sql", spoilt.as_bytes());
    let told = ran(&mut filer(&stack, "hidden.sql", &database));
    assert_ne!(told.report["result"], "Succeeded", "{}", told.report);
    assert!(!marker.exists() && !exists(&stack, &database), "{}", told.report);
    // One that doesn't know is given neither that dump nor the lines of newer ones.
    let script = "case \"$*\" in *restrict*) exit 9;; --help=commands) exit 0;; esac\nexec \"$real\" \"$@\"";
    let folder = instead("psql", script);
    let old = |agent: Agent| with(agent, folder.path());
    ran(&mut old(filer(&stack, "hidden.sql", &database))).expect("Refused", "UnsupportedDump");
    lay(&stack, "good.sql", sql.as_bytes());
    ran(&mut old(filer(&stack, "good.sql", &database))).expect("Succeeded", "Restored");
}

#[test]
fn a_role_that_is_missing_is_told_with_what_to_do() {
    let Some((stack, database)) = stack("a dump of another role") else { return };
    let sql = String::from_utf8(dump(&stack, &[])).expect("text");
    let other = sql.replace(&format!("OWNER TO \"{}\"", stack.database), "OWNER TO odoo_ai");
    lay(&stack, "other.sql", other.as_bytes());
    let told = ran(&mut filer(&stack, "other.sql", &database)).expect("Failed", "RestoreFailed");
    let line = 1 + other.lines().position(|line| line.contains("OWNER TO odoo_ai")).expect("there");
    for word in ["role \"odoo_ai\" does not exist", "--no-owner", &format!(":{line}: ")] {
        assert!(told.message().contains(word), "{}", told.message());
    }
    assert!(!exists(&stack, &database));
    lay(&stack, "other.sql", &dump(&stack, &["--no-owner", "--no-privileges"]));
    ran(&mut filer(&stack, "other.sql", &database)).expect("Succeeded", "Restored");
}

/// The rows that are there are those of the file, or nothing is.
#[test]
fn rows_that_go_astray_are_seen() {
    let Some((stack, database)) = stack("lost rows") else { return };
    let sql = String::from_utf8(dump(&stack, &[])).expect("text");
    let end = sql.find("-- PostgreSQL database dump complete").expect("its end") - 3;
    let spoilt = format!("{}DELETE FROM ONLY public.child;\n{}", &sql[..end], &sql[end..]);
    let told = refused(&stack, &database, spoilt.as_bytes(), "VerificationFailed");
    assert!(told.contains("table public.child has 0 rows instead of 2"), "{told}");
    // Rows that find their partition by themselves.
    lay(&stack, "root.sql", &dump(&stack, &["--load-via-partition-root"]));
    ran(&mut filer(&stack, "root.sql", &database)).expect("Succeeded", "Restored");
    assert_eq!(stack.server.execute(&database, "SELECT count(*) FROM part"), ["2"]);
}

/// What is read the second time is what was read the first time.
#[test]
fn a_file_that_changes_meanwhile_becomes_nothing() {
    let Some((stack, database)) = stack("a changing dump") else { return };
    let sql = dump(&stack, &[]);
    let path = stack.volume.path().join("changing.sql");
    // Between the two, when psql is asked what it knows.
    for (more, reason) in [("-- more", "ArtifactDamaged"), ("\\\\! id", "UnsupportedDump")] {
        lay(&stack, "changing.sql", &sql);
        let script = format!(
            "case \"$*\" in --help=commands) printf '%s\\n' '{}' >> '{}';; esac\nexec \"$real\" \"$@\"",
            more.replace("\\\\", "\\"),
            path.display()
        );
        let folder = instead("psql", &script);
        let told = ran(&mut with(filer(&stack, "changing.sql", &database), folder.path())).expect("Refused", reason);
        assert!(!exists(&stack, &database), "{}", told.message());
    }
}

#[test]
fn one_that_was_killed_is_begun_anew() {
    let Some((stack, database)) = stack("a killed plain load") else { return };
    stack.sql(&format!(
        "SET ROLE \"{}\"; CREATE TABLE big AS SELECT g AS id, md5(g::text) AS filler FROM generate_series(1, 300000) g;
         CREATE INDEX ON big (filler)",
        stack.database
    ));
    lay(&stack, "big.sql.gz", &zipped(&dump(&stack, &[])));
    for millis in [30, 300, 900, 1500, 2500] {
        let mut agent = filer(&stack, "big.sql.gz", &database);
        let mut child = agent.spawn();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("ours");
        let _ended = exit_code(&mut child);
    }
    ran(&mut filer(&stack, "big.sql.gz", &database)).expect("Succeeded", "Restored");
    assert_eq!(stack.server.execute(&database, "SELECT count(*) FROM big"), ["300000"]);
    assert_eq!(stack.sql("SELECT count(*) FROM big"), ["300000"]);
}

#[test]
fn no_path_leads_out_of_the_storage() {
    let Some((stack, database)) = stack("paths") else { return };
    let sql = dump(&stack, &[]);
    let outside = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(outside.path().join("out.sql"), &sql).expect("written");
    let absolute = outside.path().join("out.sql");
    let above = format!("../{}/out.sql", outside.path().file_name().expect("a name").to_string_lossy());
    for path in [absolute.to_str().expect("text"), &above, "a/../../x", "a//b", "./a.sql", "a/"] {
        ran(&mut filer(&stack, path, &database)).expect("Refused", "ConfigInvalid");
    }
    let link = |name: &str, to: PathBuf| {
        std::os::unix::fs::symlink(to, stack.volume.path().join(name)).expect("made");
    };
    link("out.sql", absolute.clone());
    link("out", outside.path().to_owned());
    for path in ["out.sql", "out/out.sql"] {
        let told = ran(&mut filer(&stack, path, &database)).expect("Refused", "ConfigInvalid");
        assert!(told.message().contains("not below the root"), "{}", told.message());
    }
    assert!(!exists(&stack, &database));
    // One that stays inside is as good as a file.
    lay(&stack, "deep/in.sql", &sql);
    link("in.sql", PathBuf::from("deep/in.sql"));
    ran(&mut filer(&stack, "in.sql", &database)).expect("Succeeded", "Restored");
    // One source, no more.
    for (name, value) in [("ODOOAI_RESTORE_SELECTOR", "Latest"), ("ODOOAI_RESTORE_ID", "20260101t000000z-aaaaaa")] {
        ran(&mut filer(&stack, "in.sql", &database).env(name, value)).expect("Refused", "ConfigInvalid");
    }
    ran(&mut loader(&stack, "", &database)).expect("Refused", "ConfigInvalid");
}

#[test]
fn from_a_bucket_it_is_the_same() {
    let Some((stack, database)) = stack("a plain dump in a bucket") else { return };
    let Some(store) = S3::start() else {
        return skip(
            "a plain dump in a bucket",
            "ODOOAI_TOOL_VERSITYGW names no S3 server: hack/tools/build versitygw",
        );
    };
    let credentials = stack.volume.path().join("credentials");
    std::fs::create_dir_all(&credentials).expect("made");
    std::fs::write(credentials.join("accessKeyId"), ACCESS_KEY).expect("written");
    std::fs::write(credentials.join("secretAccessKey"), SECRET_KEY).expect("written");
    // More than a part of what is under way.
    stack.sql(&format!(
        "SET ROLE \"{}\"; CREATE TABLE big AS SELECT g AS id, md5(g::text) AS filler FROM generate_series(1, 100000) g",
        stack.database
    ));
    let whole = zipped(&dump(&stack, &[]));
    let key = "old cron/ai_db+ü%41.sql.gz";
    let load = |prefix: &str, bytes: &[u8]| -> Ran {
        let file = store.folder.join(BUCKET).join(prefix).join(key);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(file, bytes).expect("written");
        ran(&mut filer(&stack, key, &database)
            .env("ODOOAI_BACKUP_VOLUME", "")
            .env("ODOOAI_S3_ENDPOINT", format!("http://127.0.0.1:{}", store.port))
            .env("ODOOAI_S3_BUCKET", BUCKET)
            .env("ODOOAI_S3_PREFIX", prefix)
            .env("ODOOAI_S3_CREDENTIALS", &credentials)
            .env("ODOOAI_S3_PATIENCE_SECONDS", "5"))
    };
    load("some/place", &whole[..whole.len() - 9]).expect("Refused", "ArtifactDamaged");
    for prefix in ["some/place", ""] {
        let done = load(prefix, &whole).expect("Succeeded", "Restored");
        assert_eq!((&done.report["restore"]["id"], &done.report["restore"]["rows"]), (&json!(key), &json!(100_010)));
        drop(&stack, &database);
    }
    let missing = ran(&mut filer(&stack, "none.sql", &database)
        .env("ODOOAI_BACKUP_VOLUME", "")
        .env("ODOOAI_S3_ENDPOINT", format!("http://127.0.0.1:{}", store.port))
        .env("ODOOAI_S3_BUCKET", BUCKET)
        .env("ODOOAI_S3_CREDENTIALS", &credentials));
    missing.expect("Refused", "ArtifactMissing");
    assert!(!exists(&stack, &database));
}

/// An External database's role makes the new one too; no password is an argument.
#[test]
fn without_a_superuser_it_is_the_same() {
    let Some((stack, database)) = stack("a plain dump without a superuser") else { return };
    stack.server.execute("postgres", &format!("ALTER ROLE \"{}\" CREATEDB", stack.database));
    lay(&stack, "ai_db.sql", &dump(&stack, &[]));
    let arguments = stack.volume.path().join("arguments");
    let script = format!("echo \"$@\" >> '{}'\nexec \"$real\" \"$@\"", arguments.display());
    let agent = filer(&stack, "ai_db.sql", &database)
        .env("ODOOAI_DATABASE_ADMIN_USER", "")
        .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "");
    let folder = instead("psql", &script);
    ran(&mut with(agent, folder.path())).expect("Succeeded", "Restored");
    let arguments = std::fs::read_to_string(arguments).expect("written");
    assert!(arguments.contains("--single-transaction") && !arguments.contains(APP_PASSWORD), "{arguments}");
}
