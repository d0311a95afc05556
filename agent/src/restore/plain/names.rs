//! Names of tables, as `pg_dump` and the server's `quote_ident` write them: not each version quotes the same ones.

use std::fmt::{Display, Formatter};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Table {
    /// Its schema.
    pub(super) schema: String,
    /// Its own name.
    pub(super) name: String,
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl Table {
    /// `schema.name`; `None`: it isn't that.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (table, rest) = qualified(text, "")?;
        rest.is_empty().then_some(table)
    }
}

/// The table of `COPY table (columns) FROM stdin;`, as `pg_dump` writes it; `schema`: of a table that names none.
pub(super) fn of_copy(line: &str, schema: &str) -> Option<Table> {
    let (table, rest) = qualified(line.strip_prefix("COPY ")?, schema)?;
    let mut rest = rest.trim_start_matches(' ');
    if let Some(columns) = rest.strip_prefix('(') {
        rest = columns;
        loop {
            let (_, more) = name(rest)?;
            if let Some(end) = more.strip_prefix(") ") {
                rest = end;
                break;
            }
            rest = more.strip_prefix(", ")?;
        }
    }
    (rest == "FROM stdin;").then_some(table)
}

/// The first schema of `SET search_path = schema, pg_catalog;`.
pub(super) fn of_search_path(line: &str) -> Option<String> {
    Some(name(line.strip_prefix("SET search_path = ")?)?.0)
}

fn qualified<'a>(text: &'a str, schema: &str) -> Option<(Table, &'a str)> {
    let (first, rest) = name(text)?;
    let Some(rest) = rest.strip_prefix('.') else {
        return (!schema.is_empty()).then(|| (Table { schema: schema.to_owned(), name: first }, rest));
    };
    let (second, rest) = name(rest)?;
    Some((Table { schema: first, name: second }, rest))
}

/// One name and what follows it.
fn name(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let is_end = |it: char| !(it.is_alphanumeric() || it == '_' || it == '$');
        let (name, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, more) = rest.split_once('"')?;
        name.push_str(part);
        match more.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::simple("COPY public.t (id, k) FROM stdin;", Some(("public", "t")))]
    #[case::no_columns(r#"COPY public."select"  FROM stdin;"#, Some(("public", "select")))]
    #[case::quoted(
        r#"COPY "Schéma ""x"" .y"."T'able ""ü"" %s" (id, "SELECT", "a, b) FROM stdin;") FROM stdin;"#,
        Some((r#"Schéma "x" .y"#, r#"T'able "ü" %s"#))
    )]
    #[case::before_qualified("COPY t (id) FROM stdin;", Some(("old", "t")))]
    #[case::lower("copy public.t (id) from stdin;", None)]
    #[case::options("COPY public.t (id) FROM stdin WITH (FORMAT csv);", None)]
    #[case::a_program("COPY public.t (id) FROM PROGRAM 'id';", None)]
    #[case::out("COPY public.t (id) TO stdout;", None)]
    #[case::more("COPY public.t (id) FROM stdin; SELECT 1;", None)]
    #[case::a_query("COPY (SELECT 1) TO stdout;", None)]
    #[case::not_ended(r#"COPY public."t (id) FROM stdin;"#, None)]
    fn tables_of_copies(#[case] line: &str, #[case] wanted: Option<(&str, &str)>) {
        let wanted = wanted.map(|(schema, name)| Table { schema: schema.to_owned(), name: name.to_owned() });
        assert_eq!(of_copy(line, "old"), wanted);
    }

    #[test]
    fn names_of_the_server() {
        assert_eq!(Table::parse("public.\"a.\"\"b\"").map(|it| it.to_string()), Some("public.a.\"b".to_owned()));
        for wrong in ["public", "public.t x", "", "a.", "\"a"] {
            assert_eq!(Table::parse(wrong), None, "{wrong}");
        }
        assert_eq!(of_search_path("SET search_path = \"A b\", pg_catalog;").as_deref(), Some("A b"));
    }
}
