//! Names as PostgreSQL keeps them.

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

/// Unquoted, and in lower case unless it was quoted.
pub(super) fn ident(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The same with its schema, unless that is `public`.
pub(super) fn object(name: &ObjectName) -> String {
    let mut parts: Vec<String> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(name) => ident(name),
            ObjectNamePart::Function(function) => function.to_string(),
        })
        .collect();
    if parts.len() == 2 && parts[0] == "public" {
        parts.remove(0);
    }
    parts.join(".")
}
