//! Names of tables, as people give them and as SQL wants them.

use std::collections::BTreeSet;
use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use postgres_protocol::escape::escape_identifier;

use crate::config::{ConfigError, Env};
use crate::restore::settings::LONGEST_NAME;

const TABLES: &str = "ODOOAI_RESTORE_TABLES";
/// As many as a Restore may name.
const MOST: usize = 64;

/// A table and its schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TableName {
    /// Of the table.
    pub(crate) schema: String,
    /// Without it.
    pub(crate) name: String,
}

impl TableName {
    /// For a statement.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", escape_identifier(&self.schema), escape_identifier(&self.name))
    }
}

/// As it is given: `public` goes without saying, and what has other characters than letters, digits and `_` is quoted.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema != "public" {
            write!(f, "{}.", part(&self.schema))?;
        }
        f.write_str(&part(&self.name))
    }
}

fn part(name: &str) -> String {
    let is_plain = name.chars().all(|it| it.is_alphanumeric() || it == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Reads `ODOOAI_RESTORE_TABLES`, each name once.
///
/// # Errors
/// There is none, or too many, or one of them can't be understood.
pub(crate) fn from_env(env: &Env) -> Result<Vec<TableName>, ConfigError> {
    let invalid = |reason| ConfigError::Invalid { name: TABLES, reason };
    let all: BTreeSet<_> = parse(env.required(TABLES)?).map_err(|why| invalid(why.to_owned()))?.into_iter().collect();
    match all.len() {
        0 => Err(ConfigError::Missing(TABLES)),
        1..=MOST => Ok(all.into_iter().collect()),
        more => Err(invalid(format!("it names {more} tables, and {MOST} may be"))),
    }
}

/// `table` or `schema.table`, comma separated, as they are written; in double quotes any character may be in a name.
fn parse(text: &str) -> Result<Vec<TableName>, &'static str> {
    let mut rest = text.chars().peekable();
    let mut names = Vec::new();
    loop {
        let first = one(&mut rest)?;
        let second = rest.next_if_eq(&'.').map(|_| one(&mut rest)).transpose()?;
        match (first, second) {
            // Nothing between two commas, as in every list.
            (None, None) => {}
            (Some(name), None) => names.push(TableName { schema: "public".to_owned(), name }),
            (Some(schema), Some(Some(name))) => names.push(TableName { schema, name }),
            _ => return Err("a table is named as table or schema.table"),
        }
        match rest.next() {
            None => return Ok(names),
            Some(',') => {}
            Some(_) => return Err("a table is named as table or schema.table, with commas between them"),
        }
    }
}

/// A part of a name; `None`: there is nothing.
fn one(rest: &mut Peekable<Chars<'_>>) -> Result<Option<String>, &'static str> {
    while rest.next_if(|it| it.is_whitespace()).is_some() {}
    let mut name = String::new();
    if rest.next_if_eq(&'"').is_some() {
        loop {
            match rest.next() {
                Some('"') if rest.next_if_eq(&'"').is_none() => break,
                Some(it) => name.push(it),
                None => return Err("a quote has no end"),
            }
        }
        while rest.next_if(|it| it.is_whitespace()).is_some() {}
        if name.is_empty() {
            return Err("a name is empty");
        }
    } else {
        while let Some(it) = rest.next_if(|it| !matches!(it, '.' | ',' | '"')) {
            name.push(it);
        }
        name.truncate(name.trim_end().len());
    }
    if name.len() > LONGEST_NAME {
        return Err("a name has more than 63 bytes");
    }
    if name.contains('\0') {
        return Err("a name has a character that no name has");
    }
    Ok((!name.is_empty()).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("orders, order_lines,", &[("public", "orders"), ("public", "order_lines")])]
    #[case::of_a_schema("crm.Orders", &[("crm", "Orders")])]
    #[case::quoted(r#""a ""b"".c, d" , "S.x"."T'ü" "#, &[("public", "a \"b\".c, d"), ("S.x", "T'ü")])]
    fn names_are_read_as_they_are_told(#[case] text: &str, #[case] names: &[(&str, &str)]) {
        let own = |(schema, name): &(&str, &str)| TableName { schema: (*schema).to_owned(), name: (*name).to_owned() };
        let names: Vec<_> = names.iter().map(own).collect();
        assert_eq!(parse(text).as_ref(), Ok(&names));
        let told = names.iter().map(TableName::to_string).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&told).as_ref(), Ok(&names));
    }

    #[rstest]
    #[case::three_parts("a.b.c")]
    #[case::no_table("a.")]
    #[case::no_schema(".a")]
    #[case::no_end("\"a")]
    #[case::nothing_quoted("\"\"")]
    #[case::half_quoted("a\"b\"")]
    #[case::too_long("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    fn what_is_no_name(#[case] text: &str) {
        assert!(parse(text).is_err());
    }

    #[test]
    fn none_and_too_many_are_refused_and_none_counts_twice() {
        let read = |text: String| from_env(&[(TABLES, text)].into_iter().collect());
        let many = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>().join(",");
        assert!(read(" , ".to_owned()).is_err() && read(many(65)).is_err());
        assert_eq!(read(many(64)).map(|it| it.len()).ok(), Some(64));
        assert_eq!(read("a,public.a, a".to_owned()).map(|it| it.len()).ok(), Some(1));
    }
}
