//! `agent restore tables` that can't be done: nothing has changed.

use rstest::rstest;
use serde_json::json;

use crate::catalogue::{Ran, Stack, ran};
use crate::restore::{another, loader};
use crate::restore_tables::{as_application, beside, external, rows, shop, state, tables};
use crate::restore_tables_ended::{everything, key};
use crate::servers::{PASSWORD, block_on};

/// A run that changes nothing.
#[track_caller]
fn refused(stack: &Stack, database: &str, names: &str, reason: &str, words: &[&str]) {
    let before = everything(stack);
    let told = ran(&mut tables(stack, database, names)).expect("Refused", reason);
    for word in words {
        assert!(told.message().contains(word), "{word}: {}", told.message());
    }
    assert_eq!((everything(stack), state(stack, database)), (before, json!("Loaded")));
}

#[test]
fn what_is_no_table_or_another_one_is_left_alone() {
    let Some((stack, database)) = shop("tables that differ") else { return };
    let refused = |names: &str, reason: &str, words: &[&str]| refused(&stack, &database, names, reason, words);
    refused("orders,view", "TableMissing", &["view is a view in the live database"]);
    refused("stored", "TableMissing", &["stored is a materialized view"]);
    refused("Orders", "TableMissing", &["no table Orders in the live database"]);
    refused("nowhere.orders", "TableMissing", &["no table nowhere.orders"]);
    refused("alembic_version", "TableRefused", &["alembic_version says which schema"]);
    refused("orders,pg_catalog.pg_class", "TableRefused", &["pg_catalog.pg_class"]);
    refused("information_schema.sql_features", "TableRefused", &["information_schema.sql_features"]);
    refused("a.b.c", "ConfigInvalid", &["ODOOAI_RESTORE_TABLES"]);
    refused("", "ConfigInvalid", &["ODOOAI_RESTORE_TABLES"]);
    as_application(&stack, "CREATE TABLE later (); ALTER TABLE lines ADD COLUMN later int");
    refused("parent,later", "TableMissing", &["no table later in the backup"]);
    refused("parent,lines", "TableDiffers", &["the table lines", "the column later is in the live database alone"]);
    as_application(&stack, "ALTER TABLE lines DROP COLUMN later, DROP COLUMN id");
    refused("lines", "TableDiffers", &["the column id is in the backup alone"]);
    as_application(&stack, "ALTER TABLE lines ADD COLUMN id bigint");
    refused("lines", "TableDiffers", &["the column id is bigint, and integer in the backup"]);
    as_application(&stack, "ALTER TABLE orders ALTER double DROP EXPRESSION");
    refused("orders", "TableDiffers", &["the column double is numeric, and numeric, generated in the backup"]);
    // Another order is none.
    as_application(&stack, "ALTER TABLE lines DROP COLUMN id; ALTER TABLE lines ADD COLUMN id int");
    ran(&mut tables(&stack, &database, "lines")).expect("Succeeded", "TablesRestored");
    assert_eq!(stack.sql("SELECT id || ' ' || order_id || ' ' || day FROM lines"), ["99 2 2"]);
}

#[test]
fn rows_that_something_else_points_at_stay() {
    let Some((stack, database)) = shop("tables with dangling keys") else { return };
    let refused = |names: &str, words: &[&str]| refused(&stack, &database, names, "ForeignKeyViolated", words);
    // Rows came that point at what came.
    as_application(
        &stack,
        "ALTER TABLE orders DISABLE TRIGGER USER; INSERT INTO orders (customer) VALUES (1);
         INSERT INTO lines (order_id) VALUES (6)",
    );
    refused(
        "customers,orders",
        &[
            "lines_order_id_fkey of lines",
            "rows of orders that the backup doesn't have",
            "also restore the table lines",
        ],
    );
    // Rows of the backup point at what went.
    as_application(&stack, "DELETE FROM lines; DELETE FROM events");
    refused(
        "lines",
        &["lines_event_day_fkey of lines", "rows of events that the live", "also restore the table events"],
    );
    let done = ran(&mut tables(&stack, &database, "lines,events,orders")).expect("Succeeded", "TablesRestored");
    assert_eq!(done.report["tables"]["copied"].as_array().map(Vec::len), Some(3));
    // A key that is checked later is checked now.
    let Some((stack, database)) = shop("tables with a late key") else { return };
    as_application(&stack, "DELETE FROM lines; DELETE FROM customers WHERE id = 6; DELETE FROM orders WHERE id = 5");
    let sql = "UPDATE customers SET best = NULL; DELETE FROM orders; UPDATE customers SET parent = NULL; DELETE FROM events; DELETE FROM customers";
    as_application(&stack, sql);
    let before = everything(&stack);
    let told = ran(&mut tables(&stack, &database, "orders")).expect("Refused", "ForeignKeyViolated");
    assert!(told.message().contains("of_customer of orders"), "{}", told.message());
    assert_eq!(everything(&stack), before);
}

/// A key that a superuser has switched off couldn't be made so again.
#[test]
fn a_key_that_is_switched_off_is_told() {
    let Some((stack, database)) = shop("tables with a key off") else { return };
    stack.sql("ALTER TABLE lines DISABLE TRIGGER ALL");
    refused(&stack, &database, "orders", "ForeignKeyUnfit", &["of lines is disabled"]);
}

#[test]
fn rows_that_do_not_fit_are_told_without_their_values() {
    let Some(stack) = Stack::new("tables that don't fit") else { return };
    let sql =
        "CREATE TABLE customers (id int); CREATE TABLE orders (id serial, d date); CREATE TABLE events (id serial);
        CREATE TABLE lines (id int); CREATE TABLE parent (id int); CREATE TABLE audit (id int);
        CREATE DOMAIN small AS int; CREATE TABLE t (id int, word text, s small);
        INSERT INTO t VALUES (4711, 'hidden', 5), (4711, 'hidden', 5)";
    as_application(&stack, sql);
    let (stack, database) = beside(stack);
    let refused = |words: &[&str]| refused(&stack, &database, "parent,t", "RowsUnfit", words);
    as_application(&stack, "DELETE FROM t; CREATE UNIQUE INDEX once ON t (id)");
    refused(&["don't fit the table t", "once"]);
    as_application(
        &stack,
        "DROP INDEX once; ALTER TABLE t ADD CONSTRAINT late UNIQUE (word) DEFERRABLE INITIALLY DEFERRED",
    );
    refused(&["don't fit the table t", "late"]);
    as_application(&stack, "ALTER TABLE t DROP CONSTRAINT late; ALTER TABLE t ADD CONSTRAINT big CHECK (id > 9999)");
    refused(&["don't fit the table t", "big"]);
    as_application(&stack, "ALTER TABLE t DROP CONSTRAINT big, ADD CONSTRAINT odd CHECK (word::int > 0)");
    refused(&["don't fit the table t", "a value isn't what the table may hold (22P02)"]);
    let raise =
        "CREATE FUNCTION f(t text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no %'', t; END';
        ALTER TABLE t DROP CONSTRAINT odd, ADD CONSTRAINT odd CHECK (f(word))";
    as_application(&stack, raise);
    refused(&["don't fit the table t", "a value isn't what the table may hold (P0001)"]);
    let told = ran(&mut tables(&stack, &database, "t"));
    assert!(!told.message().contains("hidden") && !told.report.to_string().contains("4711"), "{}", told.report);
}

#[rstest]
#[case::a_chosen_one("orders", "ACCESS SHARE", "orders")]
#[case::one_that_points_at_it("lines", "ROW EXCLUSIVE", "lines")]
fn somebody_who_holds_a_table_is_named(#[case] table: &str, #[case] mode: &str, #[case] word: &str) {
    let Some((stack, database)) = shop("tables in use") else { return };
    let before = everything(&stack);
    let told: Ran = block_on(async {
        let session = stack.server.client("postgres", PASSWORD, &stack.database).await.expect("a session");
        let hold = format!("SET application_name = 'somebody'; BEGIN; LOCK TABLE {table} IN {mode} MODE");
        session.batch_execute(&hold).await.expect("locked");
        let told = ran(&mut external(tables(&stack, &database, "orders")).env("ODOOAI_LOCK_DATABASE", "postgres"));
        // Nobody was logged out.
        session.batch_execute("COMMIT").await.expect("still there");
        told
    });
    let told = told.expect("Refused", "DatabaseInUse");
    for word in [word, "somebody", "nothing was changed"] {
        assert!(told.message().contains(word), "{}", told.message());
    }
    assert_eq!((everything(&stack), state(&stack, &database)), (before, json!("Loaded")));
    ran(&mut tables(&stack, &database, "orders")).expect("Succeeded", "TablesRestored");
}

#[test]
fn only_from_what_this_restore_has_loaded() {
    let Some((stack, database)) = shop("tables of another restore") else { return };
    let id = stack.good()[0].0.clone();
    as_application(&stack, "DELETE FROM parent");
    let before = everything(&stack);
    let refused = |agent: &mut crate::agent::Agent| {
        ran(agent).expect("Refused", "DatabaseNotLoaded");
        assert_eq!(everything(&stack), before);
    };
    refused(&mut tables(&stack, &database, "parent").env("ODOOAI_RESTORE_OWNER", another(&stack)));
    refused(&mut tables(&stack, "nowhere", "parent"));
    refused(&mut tables(&stack, "postgres", "parent"));
    refused(&mut tables(&stack, &stack.database, "parent"));
    let other = format!("{database}-2");
    ran(&mut loader(&stack, &id, &other).env("ODOOAI_RESTORE_OWNER", another(&stack))).expect("Succeeded", "Restored");
    refused(&mut tables(&stack, &other, "parent"));
    let noted = crate::restore::note(&stack, &database).to_string();
    for word in ["Loading", "Live", "Replaced"] {
        let note = noted.replace("Loaded", word);
        stack.server.execute("postgres", &format!("COMMENT ON DATABASE \"{database}\" IS '{note}'"));
        refused(&mut tables(&stack, &database, "parent"));
    }
    stack.server.execute("postgres", &format!("COMMENT ON DATABASE \"{database}\" IS '{noted}'"));
    // Without room nothing is begun.
    let mut agent = tables(&stack, &database, "parent").env("ODOOAI_RESTORE_RESERVE_BYTES", (u64::MAX / 4).to_string());
    ran(&mut agent).expect("Failed", "StorageFull");
    assert_eq!(everything(&stack), before);
    // Two Restores, one after the other.
    ran(&mut tables(&stack, &database, "parent")).expect("Succeeded", "TablesRestored");
    as_application(&stack, "DELETE FROM parent");
    ran(&mut tables(&stack, &other, "parent").env("ODOOAI_RESTORE_OWNER", another(&stack)))
        .expect("Succeeded", "TablesRestored");
    assert_eq!(rows(&stack, &stack.database, "parent"), ["(1)"]);
}

/// Whoever works on the live database is waited for.
#[test]
fn the_locks_of_both_databases_are_held() {
    let Some((stack, database)) = shop("tables and locks") else { return };
    for name in [&stack.database, &database] {
        block_on(async {
            let session = stack.server.client("postgres", PASSWORD, "postgres").await.expect("a session");
            session.query("SELECT pg_advisory_lock($1)", &[&key(name)]).await.expect("locked");
            let mut agent = tables(&stack, &database, "parent").env("ODOOAI_RESTORE_TIMEOUT_SECONDS", "3");
            ran(&mut agent).expect("Failed", "TimedOut");
            drop(session);
        });
    }
    ran(&mut tables(&stack, &database, "parent")).expect("Succeeded", "TablesRestored");
}
