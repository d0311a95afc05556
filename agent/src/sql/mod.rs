//! The SQL of one revision, as Alembic prints it offline: what it makes, and whether an older
//! release of the application goes on working with the result, no row rewritten or lost.
//! In doubt it doesn't.

mod alter;
mod expression;
mod judge;
mod names;
mod split;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use self::judge::Made;
use self::split::Piece;

/// What a statement, or one operation of an ALTER TABLE, does. Names are unquoted, and without
/// the schema `public`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A lasting table; of one that a query fills only the columns that are named.
    CreateTable { name: String, columns: Vec<String> },
    /// A table has another name.
    RenameTable { from: String, to: String },
    /// A table is gone.
    DropTable { name: String },
    /// A column on a table that is there.
    AddColumn { table: String, column: String },
    /// A column has another name.
    RenameColumn { table: String, from: String, to: String },
    /// A column is gone.
    DropColumn { table: String, column: String },
    /// An index with a name.
    CreateIndex { name: String, table: String },
    /// An index is gone.
    DropIndex { name: String },
    /// A type, with its labels where it is an enum.
    CreateType { name: String, labels: Vec<String> },
    /// A label of an enum.
    AddLabel { type_name: String, label: String },
    /// A label has another name.
    RenameLabel { type_name: String, from: String, to: String },
    /// Something that writes and removes no row: a constraint, a default, what only holds names.
    Rowless,
    /// Something else.
    Other,
    /// Nobody here can tell.
    Unreadable,
}

/// One effect of the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// The statement on one line, at most 120 characters.
    pub(crate) text: String,
    /// What it does.
    pub(crate) effect: Effect,
    /// Whether older releases go on working, or why that isn't sure.
    pub(crate) additive: Result<(), String>,
}

/// Reads a revision's statements in their order. Alembic's own bookkeeping is left out; an ALTER
/// TABLE or DROP of several things comes as several.
pub(crate) fn read(sql: &str) -> Vec<Statement> {
    let mut made = Made::default();
    split::pieces(sql).iter().flat_map(|piece| statements(piece, &mut made)).collect()
}

/// The first reason why the revision isn't additive.
///
/// # Errors
/// That reason.
pub(crate) fn verdict(statements: &[Statement]) -> Result<(), String> {
    statements.iter().try_for_each(|statement| statement.additive.clone())
}

fn statements(piece: &Piece, made: &mut Made) -> Vec<Statement> {
    let text = &piece.text;
    let parsed = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(piece.tokens.clone()).parse_statements();
    let judged = match parsed.as_deref() {
        Ok([statement]) if !piece.endless => judge::judge(statement, text, made),
        _ => vec![(Effect::Unreadable, Err(format!("not understood: {text}")))],
    };
    judged.into_iter().map(|(effect, additive)| Statement { text: text.clone(), effect, additive }).collect()
}

#[cfg(test)]
mod tests;
