//! `agent backup` on a folder: what it makes, whose it is, and what it removes.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::catalogue::{Stack, ran};

/// Names that somebody might write without quotes, large objects, a table without rows, inheritance, partitions, a type,
/// a view, a function, a trigger.
pub(crate) const UNUSUAL: &str = r#"
    CREATE SCHEMA "Schéma ""x"" .y";
    CREATE TYPE "Schéma ""x"" .y"."Kind" AS ENUM ('a');
    CREATE TABLE "Schéma ""x"" .y"."T'able ""ü"" %s" (id serial PRIMARY KEY, k "Schéma ""x"" .y"."Kind", "SELECT" text UNIQUE);
    INSERT INTO "Schéma ""x"" .y"."T'able ""ü"" %s" (k, "SELECT") SELECT 'a', g FROM generate_series(1, 3) g;
    CREATE TABLE "select" (); CREATE TABLE empty (id int);
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
    CREATE TABLE parted (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted FOR VALUES FROM (0) TO (9);
    INSERT INTO parted VALUES (1), (2);
    CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS id;
    CREATE VIEW v AS SELECT * FROM parent; CREATE MATERIALIZED VIEW m AS SELECT * FROM parent;
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER t BEFORE INSERT ON empty FOR EACH ROW EXECUTE FUNCTION f();
    SELECT lo_from_bytea(0, 'large'); SELECT lo_from_bytea(0, 'larger');
    CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('003');
"#;

#[test]
fn what_is_there_is_in_the_dump_and_counted() {
    let Some(stack) = Stack::new("unusual names") else { return };
    stack.sql(UNUSUAL);
    let ran = ran(&mut stack.agent().env("ODOOAI_BACKUP_REASON", "PreMigration").env("ODOOAI_BACKUP_REQUEST", "r-1"));
    let ran = ran.expect("Succeeded", "BackupSucceeded");
    let good = stack.good();
    let [(id, manifest)] = &good[..] else { panic!("{good:?}") };
    assert_eq!(ran.report["backup"]["id"], json!(id));
    assert_eq!((&manifest["reason"], &manifest["request"]), (&json!("PreMigration"), &json!("r-1")));
    assert_eq!((&manifest["policy"], &manifest["alembic"]), (&json!("nightly"), &json!(["003"])));
    assert_eq!(manifest["incarnation"], ran.report["incarnation"]);
    let table = r#""Schéma ""x"" .y"."T'able ""ü"" %s""#;
    let tables = json!({
        table: 3, "public.\"select\"": 0, "public.empty": 0, "public.parent": 1, "public.child": 2, "public.part": 2,
        "public.unlogged": 1, "public.alembic_version": 1,
    });
    assert_eq!(manifest["tables"], tables);
    let objects = json!({
        "sequences": 1, "indexes": 2, "constraints": 2, "views": 2, "functions": 1, "triggers": 1, "types": 1,
        "largeObjects": 2,
    });
    assert_eq!(manifest["objects"], objects);
    let restored = stack.restore(id);
    let count = |sql: &str| stack.server.execute(&restored, sql)[0].clone();
    assert_eq!(count(&format!("SELECT count(*) FROM {table}")), "3");
    assert_eq!(count("SELECT count(*) FROM pg_largeobject_metadata"), "2");
    assert_eq!(stack.names(), [id, "owner.json"], "and nothing else is left");
}

#[test]
fn a_database_without_tables_is_one_too() {
    let Some(stack) = Stack::new("no tables") else { return };
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    assert_eq!(stack.good()[0].1["tables"], json!({}));
    stack.restore(&stack.good()[0].0);
}

/// Rows that come meanwhile are neither in the dump nor counted.
#[test]
fn the_counts_are_of_the_dumps_own_moment() {
    let Some(stack) = Stack::new("one moment") else { return };
    stack.sql("CREATE TABLE busy AS SELECT g AS id, repeat('x', 200) AS filler FROM generate_series(1, 100000) g");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                stack.sql(
                    "INSERT INTO busy SELECT g, 'y' FROM generate_series(1, 50) g; DELETE FROM busy WHERE id % 97 = 0",
                );
            }
        });
        let _stops = Sets(&done);
        for _ in 0..3 {
            let id = stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"].clone();
            let (id, manifest) = stack.good().into_iter().find(|it| json!(it.0) == id).expect("there");
            let restored = stack.server.execute(&stack.restore(&id), "SELECT count(*) FROM busy");
            assert_eq!(restored, [manifest["tables"]["public.busy"].to_string()]);
        }
    });
}

/// Sets it in the end, whatever happens: a thread waits for it.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_too_many_goes_after_the_new_one_is_there() {
    let Some(stack) = Stack::new("retention") else { return };
    stack.sql("CREATE TABLE t AS SELECT 1 AS id");
    let agent = || stack.agent().env("ODOOAI_BACKUP_KEEP_LAST", "2").env("ODOOAI_BACKUP_KEEP_PRE_MIGRATION", "1");
    let made = |agent: &mut crate::agent::Agent| {
        let report = ran(agent).expect("Succeeded", "BackupSucceeded").report;
        report["backup"]["id"].as_str().expect("an id").to_owned()
    };
    let of = |reason: &str| made(&mut agent().env("ODOOAI_BACKUP_REASON", reason));
    let names = || stack.good().into_iter().map(|it| it.0).collect::<Vec<_>>();
    let first = of("Scheduled");
    let migration = of("PreMigration");
    let other = made(&mut agent().env("ODOOAI_BACKUP_POLICY", "other"));
    // A verified one stays though it is the oldest; what has another name is nobody's business.
    std::fs::write(stack.folder().join(&first).join("verified"), "{}").expect("written");
    std::fs::create_dir(stack.folder().join("lost+found")).expect("made");
    let (second, third, fourth) = (of("Scheduled"), of("Requested"), of("Scheduled"));
    let mut wanted = vec![first.clone(), migration.clone(), other.clone(), third.clone(), fourth.clone()];
    wanted.sort();
    assert_eq!(names(), wanted, "{second} is gone");
    let later = of("PreRestore");
    assert!(!names().contains(&migration) && names().contains(&later));
    assert!(stack.names().contains(&"lost+found".to_owned()));
    // A damaged one neither counts nor goes.
    std::fs::write(stack.folder().join(&third).join("dump"), "cut").expect("written");
    let fifth = of("Scheduled");
    let left = stack.names();
    for id in [&first, &third, &fourth, &fifth, &other, &later] {
        assert!(left.contains(id), "{id} in {left:?}");
    }
}

#[test]
fn somebody_elses_catalogue_is_left_alone() {
    let Some(stack) = Stack::new("owner") else { return };
    stack.back_up().expect("Succeeded", "BackupSucceeded");
    let another = Stack { volume: stack.volume, ..Stack::new("owner").expect("as before") };
    let before = another.names();
    let owner: Value =
        serde_json::from_slice(&std::fs::read(another.folder().join("owner.json")).expect("there")).expect("JSON");
    let theirs = owner["database"].as_str().expect("text").to_owned();
    let refused = ran(&mut another.agent().env("ODOOAI_BACKUP_KEEP_LAST", "1")).expect("Refused", "ForeignOwner");
    assert!(refused.message().contains(&theirs) && refused.message().contains("adopt"), "{}", refused.message());
    ran(&mut another.agent().env("ODOOAI_BACKUP_ADOPT", "1/x")).expect("Refused", "ForeignOwner");
    assert_eq!(another.names(), before);
    ran(&mut another.agent().env("ODOOAI_BACKUP_ADOPT", &theirs)).expect("Succeeded", "BackupSucceeded");
    // From now on it is ours.
    another.back_up().expect("Succeeded", "BackupSucceeded");
    // Nobody knows whose it is.
    std::fs::write(another.folder().join("owner.json"), "{").expect("written");
    another.back_up().expect("Failed", "StorageUnavailable");
    assert_eq!(another.good().len(), 3);
}

#[test]
fn two_runs_at_once_are_one_after_the_other() {
    let Some(stack) = Stack::new("two at once") else { return };
    stack.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 200000) g");
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| stack.back_up())).collect();
        for run in runs {
            run.join().expect("no panic").expect("Succeeded", "BackupSucceeded");
        }
    });
    let good = stack.good();
    let times: Vec<_> = good.iter().map(|(_, it)| (it["startedAt"].clone(), it["completedAt"].clone())).collect();
    let mut times: Vec<_> = times.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    times.sort();
    assert!(times.len() == 3 && times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{times:?}");
}
