//! `agent restore load`: what the new database has of the live one, besides the backup.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::backup::UNUSUAL;
use crate::backup_faults::{instead, with};
use crate::catalogue::{Stack, ran};
use crate::restore::{loader, restorer};

/// The id of a backup of it.
fn back_up(stack: &Stack) -> String {
    let report = stack.back_up().expect("Succeeded", "BackupSucceeded").report;
    report["backup"]["id"].as_str().expect("an id").to_owned()
}

/// What a row of `pg_database` says, name and comment apart.
fn describe(stack: &Stack, database: &str, columns: &str) -> Vec<String> {
    let sql = format!("SELECT concat_ws(' ', {columns}) FROM pg_database WHERE datname = '{database}'");
    stack.server.execute("postgres", &sql)
}

#[test]
fn it_sorts_as_the_live_one_does() {
    let Some(stack) = Stack::new("a restore with ICU") else { return };
    let (live, restored) = (stack.database.clone(), format!("{}-restored", stack.database));
    let run = |sql: String| stack.server.execute("postgres", &sql);
    let icu = "SELECT 1 FROM pg_collation WHERE collprovider = 'i' LIMIT 1";
    if run(icu.to_owned()).is_empty() {
        return crate::servers::skip("a restore with ICU", "this PostgreSQL has none");
    }
    run(format!("DROP DATABASE \"{live}\""));
    run(format!(
        "CREATE DATABASE \"{live}\" OWNER \"{live}\" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-AT-u-co-phonebk'"
    ));
    stack.sql("CREATE TABLE t AS SELECT unnest(ARRAY['z', 'Ä', 'a', 'B']) AS word");
    let id = back_up(&stack);
    ran(&mut loader(&stack, &id, &restored)).expect("Succeeded", "Restored");
    let columns = "encoding, datcollate, datctype, to_jsonb(pg_database) ->> 'datlocprovider',
        coalesce(to_jsonb(pg_database) ->> 'datlocale', to_jsonb(pg_database) ->> 'daticulocale')";
    assert_eq!(describe(&stack, &restored, columns), describe(&stack, &live, columns));
    let sorted = "SELECT string_agg(word, '' ORDER BY word) FROM t";
    assert_eq!(stack.server.execute(&restored, sorted), ["aÄBz"]);
}

/// Of the database and of roles in it, by name.
fn settings(stack: &Stack, database: &str) -> Vec<String> {
    let sql = format!(
        "SELECT concat_ws(' ', setrole::regrole, unnest(setconfig)) FROM pg_db_role_setting
         WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{database}') ORDER BY 1"
    );
    stack.server.execute("postgres", &sql)
}

#[test]
fn it_has_the_live_ones_settings_limit_and_rights() {
    let Some(stack) = Stack::new("a restore with settings") else { return };
    let (live, restored) = (stack.database.clone(), format!("{}-restored", stack.database));
    let other = format!("{live}-other");
    let run = |sql: String| stack.server.execute("postgres", &sql);
    run(format!("CREATE ROLE \"{other}\""));
    for sql in [
        "ALTER DATABASE LIVE SET search_path = \"$user\", public, 'A \"b\", c'",
        "ALTER DATABASE LIVE SET statement_timeout = '7min'",
        "ALTER DATABASE LIVE SET datestyle = 'ISO, DMY'",
        "ALTER DATABASE LIVE SET \"app.text\" = 'it''s = \\ ü'",
        "ALTER DATABASE LIVE SET log_statement = 'ddl'",
        "ALTER DATABASE LIVE SET temp_tablespaces = ''",
        "ALTER ROLE LIVE IN DATABASE LIVE SET work_mem = '5MB'",
        "ALTER ROLE OTHER IN DATABASE LIVE SET work_mem = '6MB'",
        "ALTER DATABASE LIVE CONNECTION LIMIT 17",
        "REVOKE ALL ON DATABASE LIVE FROM PUBLIC",
        "GRANT CONNECT ON DATABASE LIVE TO OTHER WITH GRANT OPTION",
    ] {
        run(sql.replace("LIVE", &format!("\"{live}\"")).replace("OTHER", &format!("\"{other}\"")));
    }
    stack.sql("CREATE TABLE t AS SELECT 1 AS id");
    let id = back_up(&stack);
    let done = ran(&mut loader(&stack, &id, &restored)).expect("Succeeded", "Restored");
    assert!(!done.message().contains("not copied"), "{}", done.message());
    let limit_and_rights = "datconnlimit, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a)";
    assert_eq!(settings(&stack, &live).len(), 8);
    assert_eq!(settings(&stack, &restored), settings(&stack, &live));
    assert_eq!(describe(&stack, &restored, limit_and_rights), describe(&stack, &live, limit_and_rights));

    // A role of somebody else's server copies what it may, and tells the rest.
    ran(&mut restorer(&stack, "discard", &restored)).expect("Succeeded", "Discarded");
    run(format!("ALTER ROLE \"{live}\" CREATEDB"));
    let mut external = loader(&stack, &id, &restored)
        .env("ODOOAI_DATABASE_ADMIN_USER", "")
        .env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "")
        .env("ODOOAI_LOCK_DATABASE", "postgres");
    let done = ran(&mut external).expect("Succeeded", "Restored");
    let left = format!("; not copied: work_mem of {other}, app.text, log_statement");
    assert!(done.message().ends_with(&left), "{}", done.message());
    assert_eq!(describe(&stack, &restored, limit_and_rights), describe(&stack, &live, limit_and_rights));
}

/// What the live one has as every database has it isn't made its own.
#[test]
fn what_is_nowhere_set_is_not_set() {
    let Some(stack) = Stack::new("a restore without settings") else { return };
    let restored = format!("{}-restored", stack.database);
    let id = back_up(&stack);
    ran(&mut loader(&stack, &id, &restored)).expect("Succeeded", "Restored");
    assert_eq!(settings(&stack, &restored), Vec::<String>::new());
    assert_eq!(describe(&stack, &restored, "datconnlimit, datacl"), ["-1"]);
}

/// A dump as `pg_dump` 15 makes it, whose archive is packed, or as newer ones do: compressed inside, if at all.
fn packed(stack: &Stack, id: &str, wanted: bool) {
    let folder = stack.folder().join(id);
    let mut manifest: Value =
        serde_json::from_slice(&std::fs::read(folder.join("manifest")).expect("there")).expect("JSON");
    let dump = std::fs::read(folder.join("dump")).expect("there");
    let dump = if manifest["compression"] == "Zstd" { zstd::decode_all(&dump[..]).expect("zstd") } else { dump };
    let dump = if wanted { zstd::encode_all(&dump[..], 1).expect("zstd") } else { dump };
    let hash = Sha256::digest(&dump).iter().fold(String::new(), |hash, byte| format!("{hash}{byte:02x}"));
    (manifest["compression"], manifest["bytes"], manifest["sha256"]) =
        (json!(if wanted { "Zstd" } else { "Archive" }), json!(dump.len()), json!(hash));
    std::fs::write(folder.join("dump"), dump).expect("written");
    std::fs::write(folder.join("manifest"), manifest.to_string()).expect("written");
}

/// A stack with a table that has an index.
fn with_an_index(name: &str) -> Option<Stack> {
    let stack = Stack::new(name)?;
    stack.sql(&format!("SET ROLE \"{}\"; {UNUSUAL}", stack.database));
    stack.sql(
        "CREATE TABLE big AS SELECT g AS id, md5(g::text) FROM generate_series(1, 20000) g; CREATE INDEX ON big (id)",
    );
    stack.sql(&format!("ALTER TABLE big OWNER TO \"{}\"", stack.database));
    Some(stack)
}

/// In the owner's name, what can be backed up and not be made again.
fn breaks(stack: &Stack) {
    let broken =
        "CREATE TABLE z AS SELECT 1 AS x; CREATE MATERIALIZED VIEW broken AS SELECT 1 / x FROM z; UPDATE z SET x = 0";
    stack.sql(&format!("SET ROLE \"{}\"; {broken}", stack.database));
}

#[test]
fn several_sessions_make_indexes_of_a_stream() {
    let Some(stack) = with_an_index("a stream") else { return };
    let backed_up = || {
        let id = back_up(&stack);
        packed(&stack, &id, true);
        id
    };
    let (id, restored) = (backed_up(), format!("{}-restored", stack.database));
    let arguments = stack.volume.path().join("arguments");
    let told = instead("pg_restore", &format!("echo \"$*\" >> '{}'; exec $real \"$@\"", arguments.display()));
    let said = || std::fs::read_to_string(&arguments).expect("it was started");
    let load = |id: &str| {
        let _none_yet = std::fs::remove_file(&arguments);
        ran(&mut with(loader(&stack, id, &restored).env("ODOOAI_RESTORE_JOBS", "2"), told.path()))
    };
    let indexes = || stack.server.execute(&restored, "SELECT count(*) FROM pg_indexes WHERE tablename = 'big'");
    load(&id).expect("Succeeded", "Restored");
    let sections: Vec<_> = said().lines().map(|line| (line.contains("data"), line.contains("--jobs=2"))).collect();
    assert!(sections.contains(&(true, false)) && sections.last() == Some(&(true, true)), "{}", said());
    assert_eq!(stack.server.execute(&restored, "SELECT count(*) FROM big"), ["20000"]);
    assert_eq!(indexes(), ["1"]);
    ran(&mut restorer(&stack, "discard", &restored)).expect("Succeeded", "Discarded");
    // What one of them can't make ends all of them.
    breaks(&stack);
    let failed = load(&backed_up()).expect("Failed", "RestoreFailed");
    assert!(failed.message().contains("division by zero"), "{}", failed.message());
    assert!(describe(&stack, &restored, "datname").is_empty());
    // Its table of contents is longer than what is kept of the stream.
    stack.sql("DROP MATERIALIZED VIEW broken");
    let long = format!(
        "DO $$ BEGIN EXECUTE format('CREATE FUNCTION long() RETURNS int LANGUAGE sql AS %L', 'SELECT 1 -- ' || repeat('x', {})); END $$",
        17 << 20
    );
    stack.sql(&format!("SET ROLE \"{}\"; {long}", stack.database));
    load(&backed_up()).expect("Succeeded", "Restored");
    assert!(!said().contains("--jobs"), "{}", said());
    assert_eq!(
        (stack.server.execute(&restored, "SELECT long()"), indexes()),
        (vec!["1".to_owned()], vec!["1".to_owned()])
    );
}

#[test]
fn a_file_is_read_by_several_sessions() {
    let Some(stack) = with_an_index("several sessions") else { return };
    let (id, restored) = (back_up(&stack), format!("{}-restored", stack.database));
    let arguments = stack.volume.path().join("arguments");
    let told = instead("pg_restore", &format!("echo \"$*\" > '{}'; exec $real \"$@\"", arguments.display()));
    let said = || std::fs::read_to_string(&arguments).expect("it was started");
    let load = |jobs: &str| {
        let _none_yet = std::fs::remove_file(&arguments);
        ran(&mut with(loader(&stack, &id, &restored).env("ODOOAI_RESTORE_JOBS", jobs), told.path()))
    };
    let discard = || ran(&mut restorer(&stack, "discard", &restored)).expect("Succeeded", "Discarded");
    packed(&stack, &id, false);
    load("1").expect("Succeeded", "Restored");
    assert!(!said().contains("--jobs"), "{}", said());
    discard();
    load("2").expect("Succeeded", "Restored");
    assert!(said().contains("--jobs=2") && said().contains("--exit-on-error"), "{}", said());
    assert_eq!(stack.server.execute(&restored, "SELECT count(*) FROM big"), ["20000"]);
    discard();
    // Another one isn't even begun to be read in.
    let path = stack.folder().join(&id).join("dump");
    let mut dump = std::fs::read(&path).expect("there");
    let last = dump.len() - 1;
    dump[last] ^= 0x10;
    std::fs::write(&path, &dump).expect("written");
    load("2").expect("Refused", "ArtifactDamaged");
    assert!(!arguments.exists() && describe(&stack, &restored, "datname").is_empty());
    // What one of them can't bring in ends all of them.
    breaks(&stack);
    let id = back_up(&stack);
    packed(&stack, &id, false);
    let mut agent = loader(&stack, &id, &restored).env("ODOOAI_RESTORE_JOBS", "2");
    let failed = ran(&mut agent).expect("Failed", "RestoreFailed");
    assert!(failed.message().contains("division by zero"), "{}", failed.message());
    assert!(describe(&stack, &restored, "datname").is_empty());
}
