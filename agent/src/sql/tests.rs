//! What is additive, what isn't, and why.

use rstest::rstest;

use super::*;

fn why(sql: &str) -> String {
    verdict(&read(sql)).err().unwrap_or_default()
}

// New things are unknown to older releases, so they are in nobody's way.
#[rstest]
#[case::table("CREATE TABLE t (id SERIAL NOT NULL, n VARCHAR(7) UNIQUE CHECK (n <> ''), PRIMARY KEY (id))")]
#[case::table_that_refers_to_an_older_one(
    "CREATE TABLE t (id int, FOREIGN KEY(id) REFERENCES old (id) ON DELETE CASCADE)"
)]
#[case::table_that_may_be_there("CREATE TABLE IF NOT EXISTS old (id int)")]
#[case::table_from_a_query("CREATE TABLE t AS SELECT lower(a), count(*) FROM old GROUP BY 1")]
#[case::temporary_table("CREATE TEMP TABLE t AS SELECT a FROM old")]
#[case::partition_of_a_new_table(
    "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1)"
)]
#[case::enum_type("CREATE TYPE kind AS ENUM ('A', 'B')")]
#[case::label("ALTER TYPE kind ADD VALUE IF NOT EXISTS 'C'")]
#[case::label_in_its_place("ALTER TYPE kind ADD VALUE 'C' BEFORE 'A'")]
#[case::domain("CREATE DOMAIN mail AS text CHECK (VALUE LIKE '%@%')")]
#[case::sequence("CREATE SEQUENCE s START 5")]
#[case::view("CREATE VIEW v AS SELECT anything(a) FROM old")]
#[case::materialised_view("CREATE MATERIALIZED VIEW v AS SELECT max(a) FROM old")]
#[case::comment("COMMENT ON COLUMN old.a IS 'drop; everything'")]
#[case::wait_limit("SET LOCAL lock_timeout = '5s'")]
// A plain index takes every row.
#[case::index("CREATE INDEX i ON old (a, b DESC)")]
#[case::index_without_waiting("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON old USING gin (a)")]
#[case::index_of_a_total_function(
    "CREATE INDEX i ON old (lower(a)) WHERE b IS NOT NULL AND c = 'x'::kind AND d IN (1, 2)"
)]
#[case::index_without_a_name("CREATE INDEX ON old (a)")]
// Older releases' inserts leave a new column out.
#[case::nullable_column("ALTER TABLE old ADD COLUMN a TIMESTAMP WITHOUT TIME ZONE")]
#[case::nullable_in_words("ALTER TABLE old ADD COLUMN IF NOT EXISTS a VARCHAR(20) NULL COLLATE \"C\"")]
#[case::column_of_a_new_type("ALTER TABLE old ADD COLUMN a kind")]
#[case::constant_default("ALTER TABLE old ADD COLUMN a BOOLEAN DEFAULT false NOT NULL")]
#[case::cast_default("ALTER TABLE old ADD COLUMN a jsonb DEFAULT '{}'::jsonb NOT NULL")]
#[case::default_of_the_statement("ALTER TABLE old ADD COLUMN a timestamptz DEFAULT now() NOT NULL")]
#[case::default_of_the_clock_word("ALTER TABLE old ADD COLUMN a timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP")]
#[case::computed_default("ALTER TABLE old ADD COLUMN a int DEFAULT (-1 * 2)")]
#[case::null_default("ALTER TABLE old ADD COLUMN a int DEFAULT NULL")]
#[case::two_columns("ALTER TABLE old ADD COLUMN a int, ADD COLUMN b int")]
// Less is forbidden than before.
#[case::nulls_allowed("ALTER TABLE old ALTER COLUMN a DROP NOT NULL")]
#[case::default_for_what_is_left_out("ALTER TABLE old ALTER COLUMN a SET DEFAULT gen_random_uuid()")]
// A table of the same revision has no rows and no older reader.
#[case::new_tables_column("CREATE TABLE t (id int); ALTER TABLE t ADD COLUMN a int NOT NULL")]
#[case::new_tables_key("CREATE TABLE t (id int); ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES old (id)")]
#[case::new_tables_check("CREATE TABLE t (id int); ALTER TABLE t ADD CHECK (id > 0), ALTER id TYPE text")]
#[case::new_tables_unique_index("CREATE TABLE public.t (id int); CREATE UNIQUE INDEX i ON t (f(id))")]
#[case::new_tables_rows("CREATE TABLE t (id int); INSERT INTO t (id) VALUES (1), (nextval('s'))")]
#[case::new_tables_copied_rows("CREATE TABLE t (id int); INSERT INTO t SELECT id FROM old WHERE a > now()")]
#[case::new_tables_changed_rows("CREATE TABLE t (id int); UPDATE t SET id = 2; DELETE FROM t WHERE id = 1; TRUNCATE t")]
#[case::new_tables_rights("CREATE TABLE t (id int); GRANT SELECT ON TABLE t TO reader")]
#[case::new_tables_trigger(
    "CREATE TABLE t (id int); CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
)]
#[case::new_table_renamed("CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; ALTER TABLE u ALTER id SET NOT NULL")]
#[case::new_table_dropped("CREATE TABLE \"T\" (id int); DROP TABLE \"T\"")]
#[case::nothing("BEGIN; COMMIT;")]
fn additive(#[case] sql: &str) {
    assert_eq!(why(sql), "");
}

#[rstest]
// Older releases look for what is gone, or for the old name.
#[case::drop_table("DROP TABLE old", "DROP TABLE old: older releases may use it")]
#[case::drop_column("ALTER TABLE old DROP COLUMN a", "DROP COLUMN old.a: older releases may use it")]
#[case::drop_index("DROP INDEX i", "DROP INDEX i")]
#[case::drop_type("DROP TYPE kind", "DROP TYPE kind")]
#[case::drop_view("DROP VIEW v", "DROP VIEW v")]
#[case::drop_sequence("DROP SEQUENCE s", "DROP SEQUENCE s")]
#[case::drop_constraint("ALTER TABLE old DROP CONSTRAINT c", "not known to be additive")]
#[case::rename_table("ALTER TABLE old RENAME TO new", "RENAME TABLE old: older")]
#[case::rename_column(
    "ALTER TABLE webhook_events RENAME payload TO body",
    "RENAME COLUMN webhook_events.payload: older"
)]
#[case::rename_label("ALTER TYPE kind RENAME VALUE 'a' TO 'A'", "RENAME VALUE a of type kind")]
#[case::rename_type("ALTER TYPE kind RENAME TO kind_old", "RENAME TYPE kind")]
#[case::replaced_view("CREATE OR REPLACE VIEW v AS SELECT 1", "CREATE OR REPLACE VIEW v")]
#[case::move_away("ALTER TABLE old SET SCHEMA attic", "")]
// Older releases' writes may fail.
#[case::no_default("ALTER TABLE old ADD COLUMN a int NOT NULL", "ADD COLUMN old.a: NOT NULL without a default")]
#[case::a_default_of_null("ALTER TABLE old ADD COLUMN a int DEFAULT NULL NOT NULL", "NOT NULL without a default")]
#[case::a_default_of_cast_null(
    "ALTER TABLE old ADD COLUMN a int NOT NULL DEFAULT NULL::int",
    "NOT NULL without a default"
)]
#[case::unique_column(
    "ALTER TABLE old ADD COLUMN a int UNIQUE",
    "ADD COLUMN old.a: older releases' writes may break its UNIQUE"
)]
#[case::key_column("ALTER TABLE old ADD COLUMN a int REFERENCES other (id)", "may break its REFERENCES other (id)")]
#[case::check_column("ALTER TABLE old ADD COLUMN a int DEFAULT 1 CHECK (a > b)", "may break its CHECK")]
#[case::primary_key_column("ALTER TABLE old ADD COLUMN a int PRIMARY KEY", "may break its PRIMARY KEY")]
#[case::not_null(
    "ALTER TABLE old ALTER COLUMN a SET NOT NULL",
    "ALTER COLUMN old.a SET NOT NULL: older releases may write NULL"
)]
#[case::no_more_default("ALTER TABLE old ALTER COLUMN a DROP DEFAULT", "ALTER COLUMN old.a DROP DEFAULT")]
#[case::foreign_key("ALTER TABLE old ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES t (id)", "ADD CONSTRAINT on old")]
#[case::unchecked_constraint("ALTER TABLE old ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "ADD CONSTRAINT on old")]
#[case::unique_index("CREATE UNIQUE INDEX i ON old (a)", "CREATE UNIQUE INDEX i on old")]
#[case::index_of_a_cast("CREATE INDEX i ON old ((a::int))", "CREATE INDEX i on old: a::INT may fail")]
#[case::index_of_a_quotient("CREATE INDEX i ON old (b) WHERE a / b > 1", "a / b may fail")]
#[case::index_of_a_function("CREATE INDEX i ON old (f(a))", "f() may fail")]
#[case::trigger("CREATE TRIGGER g BEFORE INSERT ON old FOR EACH ROW EXECUTE FUNCTION f()", "not known to be additive")]
#[case::row_security("ALTER TABLE old ENABLE ROW LEVEL SECURITY", "not known to be additive")]
#[case::unique_index_on_what_was_perhaps_there(
    "CREATE TABLE IF NOT EXISTS old (a int); CREATE UNIQUE INDEX i ON old (a)",
    "CREATE UNIQUE INDEX i on old"
)]
// Rows are rewritten or lost.
#[case::serial("ALTER TABLE old ADD COLUMN a BIGSERIAL", "ADD COLUMN old.a: its sequence rewrites all rows")]
#[case::identity("ALTER TABLE old ADD COLUMN a int GENERATED ALWAYS AS IDENTITY", "may break its GENERATED")]
#[case::computed("ALTER TABLE old ADD COLUMN a int GENERATED ALWAYS AS (b + 1) STORED", "may break its GENERATED")]
#[case::volatile(
    "ALTER TABLE old ADD COLUMN a uuid DEFAULT gen_random_uuid()",
    "(gen_random_uuid()) rewrites all rows"
)]
#[case::clock(
    "ALTER TABLE old ADD COLUMN a timestamptz DEFAULT coalesce(clock_timestamp(), now())",
    "(clock_timestamp())"
)]
#[case::own_function("ALTER TABLE old ADD COLUMN a int DEFAULT app.next()", "(app.next())")]
#[case::type_change(
    "ALTER TABLE old ALTER COLUMN a TYPE VARCHAR(100)",
    "ALTER COLUMN old.a TYPE VARCHAR(100): rows may be"
)]
#[case::type_change_with_using(
    "ALTER TABLE old ALTER COLUMN a TYPE kind USING a::kind",
    "ALTER COLUMN old.a TYPE kind"
)]
#[case::insert("INSERT INTO old (a) VALUES (1)", "not known to be additive: INSERT INTO old (a) VALUES (1)")]
#[case::update("UPDATE old SET a = 1", "not known to be additive: UPDATE old")]
#[case::delete("DELETE FROM old", "not known to be additive: DELETE FROM old")]
#[case::truncate("TRUNCATE old", "not known to be additive: TRUNCATE old")]
#[case::merge("MERGE INTO old USING t ON old.id = t.id WHEN MATCHED THEN DELETE", "not known to be additive: MERGE")]
// What happens inside can't be seen.
#[case::query("SELECT pg_sleep(3600)", "not known to be additive: SELECT pg_sleep(3600)")]
#[case::block("DO $$ BEGIN DELETE FROM old; END $$", "not understood: DO $$…$$")]
#[case::function(
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "not known to be additive: CREATE FUNCTION"
)]
#[case::call("CALL f()", "not known to be additive")]
#[case::extension("CREATE EXTENSION IF NOT EXISTS pgcrypto", "not known to be additive")]
#[case::other_names("SET search_path = attic", "not known to be additive")]
#[case::nonsense("CREATE TABEL t (id int)", "not understood: CREATE TABEL t (id int)")]
#[case::rollback("ROLLBACK", "not known to be additive")]
#[case::no_end("CREATE TABLE t (a text DEFAULT 'x)", "not understood: CREATE TABLE t (a text DEFAULT …")]
// A new table is no cover for something else.
#[case::moved_rows(
    "CREATE TABLE t (a int); WITH gone AS (DELETE FROM old RETURNING a) INSERT INTO t SELECT a FROM gone",
    "not known"
)]
#[case::moved_rows_inside(
    "CREATE TABLE t (a int); INSERT INTO t WITH gone AS (DELETE FROM old RETURNING a) SELECT a FROM gone",
    "unknown a statement in it: INSERT INTO t"
)]
#[case::rows_of_a_function(
    "CREATE TABLE t (a int); INSERT INTO t SELECT drain(a) FROM old",
    "unknown drain(): INSERT INTO t"
)]
#[case::rows_of_a_table_function("CREATE TABLE t (a int); INSERT INTO t SELECT * FROM drain()", "unknown drain()")]
#[case::table_of_a_function("CREATE TABLE t AS SELECT drain(a) FROM old", "unknown drain()")]
#[case::two_dropped("CREATE TABLE t (a int); DROP TABLE t, old", "DROP TABLE old")]
#[case::dropped_with_what_needs_it("CREATE TABLE t (a int); DROP TABLE t CASCADE", "DROP TABLE t")]
#[case::truncated_with_what_needs_it("CREATE TABLE t (a int); TRUNCATE t CASCADE", "not known")]
#[case::two_truncated("CREATE TABLE t (a int); TRUNCATE t, old", "not known")]
#[case::part_of_an_older_table("CREATE TABLE t PARTITION OF old FOR VALUES IN (1)", "CREATE TABLE t as a part of old")]
#[case::child_of_an_older_table("CREATE TABLE t (a int) INHERITS (old)", "CREATE TABLE t as a part of old")]
#[case::an_older_table_as_a_part(
    "CREATE TABLE t (a int) PARTITION BY LIST (a); ALTER TABLE t ATTACH PARTITION old FOR VALUES IN (1)",
    "changes old"
)]
#[case::the_same_name_elsewhere("CREATE TABLE attic.t (a int); DROP TABLE t", "DROP TABLE t")]
#[case::another_name_by_case("CREATE TABLE \"T\" (a int); DROP TABLE t", "DROP TABLE t")]
#[case::gone_and_of_another("CREATE TABLE t (a int); DROP TABLE t; UPDATE t SET a = 1", "not known")]
#[case::bookkeeping_is_no_cover("UPDATE alembic_version SET version_num = drain()", "not known")]
fn not_additive(#[case] sql: &str, #[case] reason: &str) {
    let why = why(sql);
    assert!(!why.is_empty() && why.contains(reason), "{why}");
}

#[test]
fn bookkeeping_is_left_out_and_the_rest_read_as_names() {
    let sql = "BEGIN;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 001; the first

DO $$ BEGIN; NULL; END $$;

CREATE TABLE public.\"Things\" (
    id SERIAL NOT NULL,
    \"Name\" VARCHAR(20) DEFAULT 'a;b' -- and; so on
);

ALTER TABLE Things ADD COLUMN A integer, DROP COLUMN b;
ALTER TYPE automationtype ADD VALUE IF NOT EXISTS 'month_end';
ALTER TYPE automationtype RENAME VALUE 'it''s' TO 'ITS';;
CREATE TYPE attic.kind AS ENUM ('A', 'B');
CREATE INDEX \"I x\" ON public.things (a);
DROP INDEX idx_old;
INSERT INTO alembic_version (version_num) VALUES ('001') RETURNING alembic_version.version_num;
UPDATE alembic_version SET version_num='002' WHERE alembic_version.version_num = '001';
DELETE FROM alembic_version WHERE alembic_version.version_num = '001';

COMMIT;
";
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let [things, kinds] = ["things", "automationtype"].map(str::to_owned);
    let effects: Vec<_> = read(sql).into_iter().map(|statement| statement.effect).collect();
    assert_eq!(
        effects,
        [
            Effect::Unreadable,
            Effect::CreateTable { name: "Things".to_owned(), columns: owned(&["id", "Name"]) },
            Effect::AddColumn { table: things.clone(), column: "a".to_owned() },
            Effect::DropColumn { table: things.clone(), column: "b".to_owned() },
            Effect::AddLabel { type_name: kinds.clone(), label: "month_end".to_owned() },
            Effect::RenameLabel { type_name: kinds, from: "it's".to_owned(), to: "ITS".to_owned() },
            Effect::CreateType { name: "attic.kind".to_owned(), labels: owned(&["A", "B"]) },
            Effect::CreateIndex { name: "I x".to_owned(), table: things },
            Effect::DropIndex { name: "idx_old".to_owned() },
        ]
    );
}

#[test]
fn deep_nesting_is_unreadable_and_no_overflow() {
    let sql = format!("CREATE INDEX i ON t ({}a{});", "(".repeat(50_000), ")".repeat(50_000));
    assert!(why(&sql).starts_with("not understood"));
}

#[test]
fn no_literal_is_told() {
    for sql in [
        "INSERT INTO old (a) VALUES ('s3cret', E's3cret', $$s3cret$$, U&'s3cret', N's3cret', B's3cret', X's3cret')",
        "DO $a$ s3cret $a$",
        "ALTER TABLE old ADD CHECK (a <> 's3cret')",
        "ALTER TABLE old ADD COLUMN a text CHECK (a <> 's3cret')",
        "CREATE INDEX i ON old ((a || 's3cret'))",
        "ALTER TABLE old ALTER COLUMN a TYPE text USING a || 's3cret'",
        "ALTER TABLE old OWNER TO who, DISABLE TRIGGER t",
        "CREATE TABLE t (a text DEFAULT 's3cret",
    ] {
        let why = why(sql);
        assert!(!why.is_empty() && !why.contains("s3cret"), "{why}");
    }
}
