//! `agent restore tables`: chosen tables are what the backup has, and all else of the live database is as it was.

use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, text};
use crate::catalogue::{Stack, ran};
use crate::restore::{exists, loader, note, restorer, swapper};
use crate::servers::{PASSWORD, newest_binaries};

/// A name that nobody should give, as SQL and as the agent want it.
const ODD: &str = r#""S x"."T'able ""ü"", .%s""#;

/// Cycles, a table that points at itself, partitions, columns of all kinds.
const SHOP: &str = r#"
    CREATE SCHEMA "S x"; CREATE TYPE "Mood" AS ENUM ('a', 'b');
    CREATE TABLE customers (id int PRIMARY KEY, best int, parent int CONSTRAINT "Par""ent" REFERENCES customers, name text);
    CREATE TABLE orders (
        double numeric GENERATED ALWAYS AS (total * 2) STORED, id serial PRIMARY KEY, gone int,
        customer int NOT NULL CONSTRAINT of_customer REFERENCES customers ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        total numeric, mood "Mood", at timestamptz, took interval, raw bytea, f float8, relation regclass, note text,
        CHECK (current_user <> 'postgres'));
    ALTER TABLE orders DROP COLUMN gone;
    CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, day int, customer int REFERENCES customers,
        PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20);
    CREATE TABLE ODD ("Ü, ""x""" text, "select" int UNIQUE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent); CREATE TABLE bare ();
    CREATE TABLE lines (id int, order_id int REFERENCES orders, event bigint, day int,
        FOREIGN KEY (event, day) REFERENCES events);
    CREATE TABLE audit (what text); CREATE TABLE alembic_version AS SELECT '003' AS version_num;
    SET CONSTRAINTS ALL IMMEDIATE;
    INSERT INTO customers SELECT g, NULL, nullif(g - 1, 0), 'c' || g FROM generate_series(1, 5) g;
    INSERT INTO orders (customer, total, mood, at, took, raw, f, relation, note) SELECT g, g * 1.5, 'b',
        '2026-02-03 04:05:06.789+01', '1 mon -2 days 03:00', '\x00ff5c0a', 0.1::float8 + 0.2, 'lines', E'tab\t\\N \n ü'
        FROM generate_series(1, 5) g;
    ALTER TABLE customers ADD CONSTRAINT of_best FOREIGN KEY (best) REFERENCES orders ON DELETE SET NULL;
    UPDATE customers SET best = 6 - id;
    INSERT INTO customers (id, parent) VALUES (6, 6);
    INSERT INTO events (day, customer) SELECT g, 1 FROM generate_series(0, 19) g;
    INSERT INTO ODD SELECT 'x' || g, g FROM generate_series(1, 3) g;
    INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3); INSERT INTO bare DEFAULT VALUES;
    INSERT INTO lines VALUES (99, 2, 3, 2);
    CREATE VIEW view AS SELECT * FROM orders; CREATE MATERIALIZED VIEW stored AS SELECT * FROM customers;
    ALTER TABLE lines ADD CONSTRAINT odd_one FOREIGN KEY (id) REFERENCES customers NOT VALID;
    COMMENT ON CONSTRAINT of_customer ON orders IS 'it''s "one" \'; CREATE INDEX by_note ON orders (note);
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY; GRANT SELECT ON orders TO PUBLIC;
    CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.audit VALUES (TG_TABLE_NAME || TG_NAME || TG_OP); RETURN NULL; END';
    CREATE TRIGGER "a ""b" BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE TRIGGER always BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE TRIGGER never BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE TRIGGER replica BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE TRIGGER emptied AFTER TRUNCATE ON orders EXECUTE FUNCTION swallow();
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON customers DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION swallow();
    CREATE TRIGGER parted AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION swallow();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER never, ENABLE REPLICA TRIGGER replica;
    ALTER TABLE events_1 DISABLE TRIGGER parted;
"#;

/// A live database of the application, and what a backup of it became beside it.
pub(crate) fn shop(test: &str) -> Option<(Stack, String)> {
    let stack = Stack::new(test)?;
    as_application(&stack, &SHOP.replace("ODD", ODD));
    Some(beside(stack))
}

/// Backs it up, and loads that.
pub(crate) fn beside(stack: Stack) -> (Stack, String) {
    let id = stack.back_up().expect("Succeeded", "BackupSucceeded").report["backup"]["id"].clone();
    let database = format!("{}-restored", stack.database);
    ran(&mut loader(&stack, id.as_str().expect("an id"), &database)).expect("Succeeded", "Restored");
    (stack, database)
}

pub(crate) fn as_application(stack: &Stack, sql: &str) {
    stack.sql(&format!("SET ROLE \"{}\"; {sql}", stack.database));
}

/// `agent restore tables` of these.
pub(crate) fn tables(stack: &Stack, database: &str, names: &str) -> Agent {
    restorer(stack, "tables", database)
        .env("ODOOAI_RESTORE_TABLES", names)
        .env("ODOOAI_RESTORE_RESERVE_BYTES", "1")
        .env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "60")
}

/// The same on somebody else's server, where the application's role is all there is.
pub(crate) fn external(agent: Agent) -> Agent {
    agent.env("ODOOAI_DATABASE_ADMIN_USER", "").env("ODOOAI_DATABASE_ADMIN_PASSWORD_FILE", "")
}

/// All that is no row: definitions, rights, comments, states.
pub(crate) fn schema(stack: &Stack) -> String {
    let output = Command::new(newest_binaries().expect("programs").join("pg_dump"))
        .args(["--schema-only", "--host=127.0.0.1", "--username=postgres"])
        .args([&format!("--port={}", stack.server.port), &format!("--dbname={}", stack.database)])
        .env("PGPASSWORD", PASSWORD)
        .output()
        .expect("pg_dump can be run");
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Its key is another one each time.
    text(&output.stdout).lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

/// The rows of a table, and none of those that inherit.
pub(crate) fn rows(stack: &Stack, database: &str, table: &str) -> Vec<String> {
    let only = if table == "events" { "" } else { "ONLY" };
    stack.server.execute(database, &format!("SELECT t::text FROM {only} {table} t ORDER BY 1"))
}

pub(crate) fn state(stack: &Stack, database: &str) -> Value {
    note(stack, database)["odooaiRestore"]["state"].clone()
}

#[rstest]
#[case::managed(false)]
#[case::external(true)]
fn chosen_tables_are_as_in_the_backup_and_nothing_else_changes(#[case] is_external: bool) {
    let Some((stack, database)) = shop("tables") else { return };
    let live = stack.database.clone();
    // What people did since.
    as_application(
        &stack,
        &"SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE orders DISABLE TRIGGER USER; ALTER TABLE events DISABLE TRIGGER USER;
          UPDATE customers SET name = 'changed'; DELETE FROM customers WHERE id IN (6);
          INSERT INTO customers (id, parent) VALUES (7, NULL), (8, 7);
          INSERT INTO orders (customer, total) SELECT 7, 1 FROM generate_series(1, 10);
          UPDATE orders SET total = 99, note = NULL; TRUNCATE ODD;
          DELETE FROM events WHERE day > 15; UPDATE parent SET id = 9; DELETE FROM bare;
          INSERT INTO lines VALUES (2, 5, 6, 5);
          ALTER TABLE orders ENABLE TRIGGER USER, ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER never,
              ENABLE REPLICA TRIGGER replica;
          ALTER TABLE events ENABLE TRIGGER USER; ALTER TABLE events_1 DISABLE TRIGGER parted;
          ALTER TABLE events ALTER id RESTART WITH 4; DELETE FROM audit"
            .replace("ODD", ODD),
    );
    // What a role or a database has set must not matter.
    for setting in [
        "extra_float_digits = -5",
        "bytea_output = 'escape'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "client_min_messages = 'error'",
    ] {
        stack.server.execute("postgres", &format!("ALTER ROLE \"{live}\" SET {setting}"));
    }
    let own = format!("ALTER DATABASE \"{database}\"");
    for setting in ["SET datestyle = 'SQL, DMY'", "SET timezone = 'Asia/Tokyo'", "SET intervalstyle = 'sql_standard'"] {
        stack.server.execute("postgres", &format!("{own} {setting}"));
    }
    let (before, lines, child) = (schema(&stack), rows(&stack, &live, "lines"), rows(&stack, &live, "child"));
    let names = format!("orders, customers,events,{ODD},parent,bare");
    let mut agent = tables(&stack, &database, &names);
    if is_external {
        agent = external(agent).env("ODOOAI_LOCK_DATABASE", &live);
    }
    let done = ran(&mut agent).expect("Succeeded", "TablesRestored");
    stack.server.execute("postgres", &format!("{own} RESET ALL"));
    for table in ["customers", "orders", "events", "events_1", "events_2", ODD, "parent", "bare"] {
        assert_eq!(rows(&stack, &live, table), rows(&stack, &database, table), "{table}");
    }
    assert_eq!(rows(&stack, &live, "orders").len(), 5);
    assert_eq!(schema(&stack), before);
    assert_eq!((rows(&stack, &live, "lines"), rows(&stack, &live, "child")), (lines, child));
    assert_eq!(rows(&stack, &live, "audit"), Vec::<String>::new(), "a trigger has fired");
    assert_eq!(rows(&stack, &live, "alembic_version"), ["(003)"]);
    // Forward where the backup was ahead, and never back.
    assert_eq!(stack.sql("SELECT nextval('orders_id_seq') UNION ALL SELECT nextval('events_id_seq')"), ["16", "21"]);
    let statistics = "SELECT reltuples FROM pg_class WHERE relname IN ('orders', 'events') ORDER BY relname";
    assert_eq!(stack.sql(statistics), ["20", "5"]);
    let told = &done.report["tables"];
    let copied = json!([
        {"name": r#""S x"."T'able ""ü"", .%s""#, "rows": 3}, {"name": "bare", "rows": 1},
        {"name": "customers", "rows": 6}, {"name": "events", "rows": 20}, {"name": "orders", "rows": 5},
        {"name": "parent", "rows": 1},
    ]);
    assert_eq!((&told["copied"], told["millis"].is_u64()), (&copied, true), "{told}");
    let id = note(&stack, &database)["odooaiRestore"]["artifact"].as_str().expect("text").to_owned();
    let message = format!(
        "6 tables are as in backup {id}: {ODD} (3 rows), bare (1 row), customers (6 rows), events (20 rows), orders (5 rows) and 1 more"
    );
    assert_eq!(done.message(), message);
    assert_eq!(state(&stack, &database), json!("Copied"));
}

#[test]
fn what_was_brought_back_is_not_brought_back_again() {
    let Some((stack, database)) = shop("tables twice") else { return };
    as_application(&stack, "DELETE FROM lines; DELETE FROM parent");
    let run = |names: &str| ran(&mut tables(&stack, &database, names));
    run("lines,parent").expect("Succeeded", "TablesRestored");
    as_application(&stack, "INSERT INTO parent VALUES (77), (78)");
    let again = run("parent, lines").expect("Succeeded", "TablesRestored");
    assert_eq!(
        again.report["tables"],
        json!({"copied": [{"name": "lines", "rows": 1}, {"name": "parent", "rows": 1}]})
    );
    assert!(again.message().ends_with("; it was so already"), "{}", again.message());
    assert_eq!(rows(&stack, &stack.database, "parent"), ["(1)", "(77)", "(78)"]);
    // Others weren't.
    let other = run("parent").expect("Refused", "DatabaseNotLoaded");
    assert!(other.message().contains("lines, parent"), "{}", other.message());
    // That it can't be looked at any more is no failure.
    stack.server.execute(&database, "DROP TABLE lines");
    let again = run("parent, lines").expect("Succeeded", "TablesRestored");
    assert_eq!(again.report["tables"], json!({"copied": []}));
    assert!(again.message().starts_with("2 tables are as in backup"), "{}", again.message());
}

#[test]
fn what_tables_were_copied_from_takes_no_place_is_not_loaded_again_and_goes() {
    let Some((stack, database)) = shop("tables and other commands") else { return };
    let id = stack.good()[0].0.clone();
    ran(&mut tables(&stack, &database, "parent")).expect("Succeeded", "TablesRestored");
    let kept = format!("{database}-kept");
    ran(&mut swapper(&stack, &database, &kept)).expect("Refused", "DatabaseNotLoaded");
    stack.server.execute(&database, "CREATE TABLE marker ()");
    let late = ran(&mut loader(&stack, &id, &database)).expect("Succeeded", "Restored");
    assert!(late.message().contains("already"), "{}", late.message());
    assert_eq!(stack.server.execute(&database, "SELECT count(*) FROM marker"), ["0"]);
    assert_eq!(state(&stack, &database), json!("Copied"));
    let mut agent = restorer(&stack, "discard", &database).env("ODOOAI_RESTORE_DISCARD", "Replaced");
    ran(&mut agent).expect("Refused", "DiscardRefused");
    ran(&mut restorer(&stack, "discard", &database)).expect("Succeeded", "Discarded");
    assert!(!exists(&stack, &database));
    ran(&mut tables(&stack, &database, "parent")).expect("Refused", "DatabaseNotLoaded");
}

/// A partition whose table is chosen too comes with it.
#[test]
fn a_partition_and_its_table() {
    let Some((stack, database)) = shop("tables and partitions") else { return };
    as_application(&stack, "DELETE FROM lines; DELETE FROM events; CREATE TABLE events_3 PARTITION OF events DEFAULT");
    // A partition alone, though a key points at the whole.
    let before = schema(&stack);
    ran(&mut external(tables(&stack, &database, "events_2"))).expect("Succeeded", "TablesRestored");
    let days = |database: &str| stack.server.execute(database, "SELECT day FROM events ORDER BY day");
    assert_eq!((days(&stack.database), schema(&stack)), (days(&database)[10..].to_vec(), before));
    let loaded = note(&stack, &database).to_string().replace("Copied", "Loaded");
    let reset = || stack.server.execute("postgres", &format!("COMMENT ON DATABASE \"{database}\" IS '{loaded}'"));
    reset();
    let done = ran(&mut tables(&stack, &database, "events_1,events")).expect("Succeeded", "TablesRestored");
    let copied = json!([{"name": "events", "rows": 20}, {"name": "events_1", "rows": 10}]);
    assert_eq!(done.report["tables"]["copied"], copied);
    assert_eq!(rows(&stack, &stack.database, "events"), rows(&stack, &database, "events"));
    // Where its rows would lie in another one now, it isn't as in the backup.
    reset();
    as_application(
        &stack,
        "ALTER TABLE events DETACH PARTITION events_1; DELETE FROM events_1;
         ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (0) TO (5)",
    );
    let live = rows(&stack, &stack.database, "events");
    let told = ran(&mut tables(&stack, &database, "events_1,events")).expect("Refused", "VerificationFailed");
    assert!(told.message().contains("events_1 would have 5 rows instead of 10"), "{}", told.message());
    assert_eq!((rows(&stack, &stack.database, "events"), state(&stack, &database)), (live, json!("Loaded")));
}

/// Text that is no text in any other encoding.
#[test]
fn bytes_of_a_database_without_an_encoding_are_the_same_again() {
    let Some(stack) = Stack::new("tables without an encoding") else { return };
    let live = &stack.database;
    stack.server.execute("postgres", &format!("DROP DATABASE \"{live}\""));
    let create =
        format!("CREATE DATABASE \"{live}\" OWNER \"{live}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
    stack.server.execute("postgres", &create);
    as_application(&stack, "CREATE TABLE t AS SELECT E'a\\xffb\\xc3'::text AS word");
    let (stack, database) = beside(stack);
    as_application(&stack, "UPDATE t SET word = 'x'");
    ran(&mut tables(&stack, &database, "t")).expect("Succeeded", "TablesRestored");
    assert_eq!(stack.sql("SELECT word::bytea FROM t"), ["\\x61ff62c3"]);
}

/// A superuser does what the application may not, and only then.
#[test]
fn tables_of_somebody_else_are_the_superusers() {
    let Some((stack, database)) = shop("tables of another role") else { return };
    stack.sql("ALTER TABLE parent OWNER TO postgres; DELETE FROM parent; ALTER TABLE child NO INHERIT parent");
    let refused = ran(&mut external(tables(&stack, &database, "parent,bare"))).expect("Refused", "RightsMissing");
    assert!(refused.message().contains("parent in the live database"), "{}", refused.message());
    assert_eq!(rows(&stack, &stack.database, "parent"), Vec::<String>::new());
    // One that points at a chosen one counts too.
    stack.sql("ALTER TABLE lines OWNER TO postgres");
    let refused = ran(&mut external(tables(&stack, &database, "orders"))).expect("Refused", "RightsMissing");
    assert!(refused.message().contains("lines in the live database"), "{}", refused.message());
    // Nor are all of its rows shown to its owner.
    as_application(&stack, "ALTER TABLE orders FORCE ROW LEVEL SECURITY");
    let refused = ran(&mut external(tables(&stack, &database, "orders"))).expect("Refused", "RightsMissing");
    assert!(refused.message().contains("orders"), "{}", refused.message());
    ran(&mut tables(&stack, &database, "parent,bare")).expect("Succeeded", "TablesRestored");
    assert_eq!(rows(&stack, &stack.database, "parent"), ["(1)"]);
    assert_eq!(stack.sql("SELECT relowner::regrole FROM pg_class WHERE relname = 'parent'"), ["postgres"]);
}
