//! What the scanner takes for a whole dump of one database, and what it doesn't.

use rstest::rstest;

use crate::restore::plain::scan::{Fault, Scanned, Scanner};

const HEAD: &str =
    "--\n-- PostgreSQL database dump\n--\n\n\\restrict aB9\n\n-- Dumped from database version 15.18 (Debian 1)\n
SET standard_conforming_strings = on;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n";
const FOOT: &str = "\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict aB9\n\n";

fn scan(text: &str, size: usize) -> (Result<Scanned, Fault>, String) {
    let (mut scanner, mut kept) = (Scanner::new(), Vec::new());
    for piece in text.as_bytes().chunks(size) {
        if let Err(fault) = scanner.feed(piece, &mut kept) {
            return (Err(fault), String::new());
        }
    }
    (scanner.end(), String::from_utf8(kept).expect("text"))
}

/// Tables and rows of a body; in pieces of every size it is the same.
fn rows(body: &str) -> Result<String, Fault> {
    let text = format!("{HEAD}{body}{FOOT}");
    let (found, kept) = scan(&text, text.len());
    if found.is_ok() {
        assert_eq!(kept, text.replace("\\restrict aB9", "").replace("\\unrestrict aB9", ""));
    }
    for size in [1, 2, 3, 7, 64] {
        let again = scan(&text, size);
        assert_eq!(again.0, found, "pieces of {size}");
        assert!(found.is_err() || again.1 == kept, "pieces of {size}");
    }
    let tables = found?.tables;
    Ok(tables.iter().map(|(table, rows)| format!("{table}={rows}")).collect::<Vec<_>>().join(" "))
}

#[rstest]
#[case::nothing("", "")]
#[case::rows("COPY public.t (id) FROM stdin;\n1\n2\n\\.\n", "public.t=2")]
#[case::no_rows("COPY public.t (id) FROM stdin;\n\\.\n", "public.t=0")]
#[case::no_columns("COPY public.\"select\"  FROM stdin;\n\n\n\\.\n", "public.select=2")]
#[case::in_two_copies("COPY a.t (i) FROM stdin;\n1\n\\.\nCOPY a.t (i) FROM stdin;\n1\n\\.\n", "a.t=2")]
#[case::several_schemas("COPY a.t (i) FROM stdin;\n1\n\\.\nCOPY \"B \"\"\".t (i) FROM stdin;\n\\.\n", "B \".t=0 a.t=1")]
#[case::schema_of_the_path("SET search_path = old, pg_catalog;\nCOPY t (i) FROM stdin;\n1\n\\.\n", "old.t=1")]
#[case::windows_lines("COPY a.t (i) FROM stdin;\r\n1\r\n\\.\r\n-- x\r\nSET x = 1;\r\n", "a.t=1")]
#[case::rows_like_commands(
    "COPY a.t (i) FROM stdin;\n\\\\! id\nDROP DATABASE x;\n\\\\.\n\\.x\n\\\\connect x\n'\n$$\n/*\n\\.\n",
    "a.t=8"
)]
#[case::rows_like_the_end("COPY a.t (i) FROM stdin;\n-- PostgreSQL database dump complete\n\\.\n", "a.t=1")]
#[case::rows_like_copies("COPY a.t (i) FROM stdin;\nCOPY a.u (i) FROM stdin;\n\\.\n", "a.t=1")]
#[case::escaped_ends_of_lines("COPY a.t (i) FROM stdin;\n1\\n2\\\\n3\n\\N\nx\\\\\ny\\\nz\n\\.\n", "a.t=4")]
#[case::a_function(
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$\nBEGIN\n\\! id\nDROP DATABASE x;\nCOPY a.t FROM stdin;\n\\.\n
    -- PostgreSQL database dump complete\nRAISE '$$'; $1 it's;\nEND$_$;\n",
    ""
)]
#[case::a_function_of_sql(
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;\n\
    COPY a.t (i) FROM stdin;\n1\n\\.\n",
    "a.t=1"
)]
#[case::a_function_in_quotes("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''\n\\! id\n''';\n", "")]
#[case::inserts(
    "INSERT INTO a.t VALUES (1, 'it''s\n\\! id\nDROP DATABASE x;\n', E'a\\'b\\\\', 1e10, -1.5, '{\"a\": 1}');\n
    INSERT INTO a.t VALUES (2, 'COPY a.t (i) FROM stdin;\nCOPY a.t (i) FROM stdin;');\n",
    ""
)]
#[case::names_in_quotes(
    "CREATE TABLE a.\"t\n\\! id\nDROP DATABASE x;\" (\"a\"\"b\" int[1:2] DEFAULT ':x'::text);\n",
    ""
)]
#[case::comments("/* /* DROP DATABASE x; \\! */ ' */ SELECT 1 -- ' \\! id\n;\n-- \\! it's\n", "")]
#[case::comments_on("COMMENT ON TABLE a.t IS 'ON DATABASE';\nCREATE USER MAPPING FOR u SERVER s;\n", "")]
#[case::a_table_called_database(
    "DROP TABLE database;\nCREATE TABLE role (copy int);\nALTER TABLE a.role ADD copy int;\n",
    ""
)]
#[case::operators("SELECT a <-> b, c->>'x', d @> e, f / g, h #>> '{}', x::int, f(a := 1), 2 - -1;\n", "")]
#[case::a_large_object("BEGIN;\nSELECT pg_catalog.lowrite(0, '\\x00ff');\nCOMMIT;\n", "")]
fn a_whole_dump(#[case] body: &str, #[case] tables: &str) {
    assert_eq!(rows(body).as_deref(), Ok(tables));
}

#[rstest]
#[case::connect("\\connect other\n", "the command \\connect of psql")]
#[case::shell("\\! id\n", "the command \\! of psql")]
#[case::restrict_of_something("\\restrict a b\n", "the command \\restrict of psql")]
#[case::no_rows_before("\\.\n", "the command \\. of psql")]
#[case::within_a_line("SELECT 1 \\! id\n", "a command of psql")]
#[case::after_a_statement("SELECT 1; \\! id\n", "a command of psql")]
#[case::after_escapes("SELECT E'\\'' \\! id '\n", "a command of psql")]
#[case::after_no_escapes("SELECT '\\' \\! id\n", "a command of psql")]
#[case::after_a_quote("SELECT $a$ $b$ $a$ \\! id\n", "a command of psql")]
#[case::after_a_comment("/* /* */ */ \\! id\n", "a command of psql")]
#[case::in_a_line_that_goes_on("SELECT\n\\restrict abc\n;\n", "a command of psql")]
#[case::create("CREATE DATABASE x;\n", "has CREATE DATABASE")]
#[case::drop("  drop\n/* */ database x;\n", "has DROP DATABASE")]
#[case::alter("SELECT 1; Alter Database x SET y = 1;\n", "has ALTER DATABASE")]
#[case::create_role("CREATE ROLE x;\n", "has CREATE ROLE")]
#[case::alter_role("ALTER ROLE x;\n", "has ALTER ROLE")]
#[case::drop_role("DROP ROLE x;\n", "has DROP ROLE")]
#[case::users("CREATE USER x;\n", "has CREATE USER")]
#[case::quoted_users("DROP USER \"x\";\n", "has DROP USER")]
#[case::of_the_server("ALTER SYSTEM SET x = 1;\n", "has ALTER SYSTEM")]
#[case::notes_on_databases("COMMENT ON DATABASE x IS '';\n", "has COMMENT ON DATABASE")]
#[case::rights_on_databases("GRANT ALL ON DATABASE x TO y;\n", "has GRANT ON DATABASE")]
#[case::other_copies("COPY a.t FROM stdin WITH (FORMAT csv);\n1\n\\.\n", "has a COPY")]
#[case::hidden_copies("SELECT 1; copy a.t from stdin;\n'\n\\.\n\\! id\n", "has a COPY")]
#[case::copies_of_two_lines("COPY a.t\nFROM stdin;\n'\n\\.\n", "has a COPY")]
#[case::copies_in_comments("/* */COPY a.t FROM stdin;\n\\.\n", "has a COPY")]
#[case::copies_in_functions("CREATE FUNCTION begin();\nCOPY a.t (i) FROM stdin;\n\\! id\n", "has a COPY in the body")]
#[case::pieces("SELECT E'a'\n'\\' \\! id';\n", "has a string in pieces")]
#[case::numbers("SELECT 1begin;\n", "has a number")]
#[case::glued_strings("SELECT 1e'a';\n", "has a number")]
#[case::variables("SELECT :{?x};\n", "has a variable")]
#[case::code_points("SELECT U&'x';\n", "has a string of code points")]
fn what_is_more_than_one_database(#[case] body: &str, #[case] told: &str) {
    let Err(Fault::Unsupported(line, what)) = rows(&format!("SELECT 1;\n{body}")) else { panic!("{:?}", rows(body)) };
    assert!(what.contains(told), "{what}");
    let before = HEAD.lines().count() as u64 + 1;
    assert!((before + 1..=before + 3).contains(&line), "{line}");
}

#[test]
fn cut_anywhere_it_is_no_dump() {
    let body =
        "CREATE TABLE a.t (i text DEFAULT 'x');\nCOPY a.t (i) FROM stdin;\n1\n\\.\nCREATE FUNCTION f() AS $$ x; $$;\n";
    let whole = format!("{HEAD}{body}{FOOT}");
    let end = "-- PostgreSQL database dump complete";
    let enough = whole.find(end).expect("its end") + end.len();
    for length in 0..whole.len() {
        let found = scan(&whole[..length], 64).0;
        if length < enough {
            assert_eq!(found, Err(Fault::Cut), "{length}");
        } else {
            // Behind it nothing is that matters, but what is there is whole.
            assert!(matches!(found, Ok(_) | Err(Fault::Cut)), "{length}: {found:?}");
        }
    }
    // What looks like the end and isn't.
    let foot = FOOT.replace("\\unrestrict aB9", "");
    for open in ["SELECT 'x", "SELECT $$", "/*", "SELECT (1", "COPY a.t (i) FROM stdin;"] {
        assert_eq!(scan(&format!("{HEAD}{open}\n{foot}"), 64).0.map(|it| it.tables.len()), Err(Fault::Cut), "{open}");
    }
}

#[rstest]
#[case::empty("", Fault::Cut)]
#[case::other_sql("CREATE TABLE t ();\n", Fault::NoDump)]
#[case::a_log("Warning: x\n--\n-- PostgreSQL database dump\n", Fault::NoDump)]
#[case::binary("\u{1}\u{2}\0\n", Fault::NoDump)]
#[case::a_command("\\! id\n", Fault::NoDump)]
fn what_is_no_dump(#[case] text: &str, #[case] fault: Fault) {
    assert_eq!(scan(text, 64).0, Err(fault));
}

#[test]
fn of_a_cluster_two_or_with_a_zero_byte_it_is_refused() {
    let cluster = scan("--\n-- PostgreSQL database cluster dump\n--\n", 64).0;
    assert!(matches!(cluster, Err(Fault::Unsupported(2, what)) if what.contains("pg_dumpall")));
    let two = scan(&format!("{HEAD}{FOOT}{HEAD}{FOOT}"), 64).0;
    assert!(matches!(two, Err(Fault::Unsupported(_, what)) if what.contains("after the end")));
    assert_eq!(scan(&format!("{HEAD}SELECT '\0';\n{FOOT}"), 64).0, Err(Fault::Binary(HEAD.lines().count() as u64 + 1)));
}

/// Nothing of a long line is kept but what matters.
#[test]
fn lines_may_be_long() {
    let row = "x".repeat(3 << 20);
    assert_eq!(rows(&format!("COPY a.t (i) FROM stdin;\n{row}\n\\.\n")).as_deref(), Ok("a.t=1"));
    assert_eq!(rows(&format!("INSERT INTO a.t VALUES ('{row}');\n")).as_deref(), Ok(""));
    assert!(rows(&format!("COPY a.t ({row}) FROM stdin;\n\\.\n")).is_err());
    assert_eq!(scan(&row, 1 << 16).0, Err(Fault::NoDump));
}

#[test]
fn version_and_doubt() {
    let found = scan(&format!("{HEAD}INSERT INTO t VALUES ('C:\\\\');\nINSERT INTO t VALUES ('C:\\');\n{FOOT}"), 64).0;
    let found = found.expect("good");
    assert_eq!((found.major, found.doubt), (Some(15), Some(HEAD.lines().count() as u64 + 2)));
    let old = scan(&format!("{}{FOOT}", HEAD.replace("15.18 (Debian 1)", "9.6.24")), 64).0.expect("good");
    assert_eq!((old.major, old.doubt), (Some(9), None));
}
