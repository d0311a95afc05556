//! What an expression may do besides giving a value.

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, Statement, TableFactor, UnaryOperator, Value, Visit, Visitor};

use super::names;
use super::split::told;

/// Give the same for every row of a statement, so that a new column costs no rewriting.
const STEADY: [&str; 28] = [
    "array",
    "coalesce",
    "concat",
    "current_date",
    "current_time",
    "current_timestamp",
    "date_trunc",
    "greatest",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "least",
    "localtime",
    "localtimestamp",
    "lower",
    "make_date",
    "make_interval",
    "md5",
    "now",
    "nullif",
    "statement_timestamp",
    "timezone",
    "to_json",
    "to_jsonb",
    "to_timestamp",
    "transaction_timestamp",
    "upper",
];

/// Differ from row to row, and change nothing but sequences.
const HARMLESS: [&str; 24] = [
    "array_agg",
    "avg",
    "clock_timestamp",
    "count",
    "dense_rank",
    "gen_random_uuid",
    "generate_series",
    "json_agg",
    "jsonb_agg",
    "length",
    "max",
    "min",
    "nextval",
    "random",
    "rank",
    "replace",
    "round",
    "row_number",
    "string_agg",
    "substring",
    "sum",
    "trim",
    "unnest",
    "uuid_generate_v4",
];

/// Have a value for every argument of their types.
const TOTAL: [&str; 6] = ["coalesce", "length", "lower", "md5", "trim", "upper"];

/// The first thing in a default that may differ from row to row.
pub(super) fn unsteady(default: &Expr) -> Option<String> {
    match default.visit(&mut Seek(|seen: &Seen| match seen {
        Seen::Call(name) => (!STEADY.contains(&name.as_str())).then(|| format!("{name}()")),
        Seen::Expr(Expr::Subquery(_) | Expr::Exists { .. }) => Some("a query".to_owned()),
        Seen::Expr(_) | Seen::Statement => None,
    })) {
        ControlFlow::Break(what) => Some(what),
        ControlFlow::Continue(()) => None,
    }
}

/// Whether the word NULL is part of it: what comes out may be NULL.
pub(super) fn mentions_null(default: &Expr) -> bool {
    default
        .visit(&mut Seek(|seen: &Seen| match seen {
            Seen::Expr(Expr::Value(value)) if value.value == Value::Null => Some(String::new()),
            Seen::Call(name) if name == "nullif" => Some(String::new()),
            _ => None,
        }))
        .is_break()
}

/// The first thing in a statement that may change something else than the statement's own
/// table: a writing WITH, or a function that nobody here knows.
pub(super) fn side_effect(statement: &impl Visit) -> Option<String> {
    let mut statements = 0;
    match statement.visit(&mut Seek(|seen: &Seen| match seen {
        Seen::Call(name) => {
            let known = STEADY.contains(&name.as_str()) || HARMLESS.contains(&name.as_str());
            (!known).then(|| format!("{name}()"))
        }
        Seen::Statement => {
            statements += 1;
            (statements > 1).then(|| "a statement in it".to_owned())
        }
        Seen::Expr(_) => None,
    })) {
        ControlFlow::Break(what) => Some(what),
        ControlFlow::Continue(()) => None,
    }
}

/// The first thing in an index's expression or condition that may fail for some row, which would
/// make an older release's write fail.
pub(super) fn may_fail(expression: &Expr) -> Option<String> {
    match expression.visit(&mut Seek(|seen: &Seen| match seen {
        Seen::Call(name) => (!TOTAL.contains(&name.as_str())).then(|| format!("{name}()")),
        Seen::Expr(expression) => (!is_total(expression)).then(|| told(expression)),
        Seen::Statement => Some("a statement".to_owned()),
    })) {
        ControlFlow::Break(what) => Some(what),
        ControlFlow::Continue(()) => None,
    }
}

/// Whether this operation has a value for all of its operands. They are looked at one by one.
fn is_total(expression: &Expr) -> bool {
    use BinaryOperator as Op;
    match expression {
        Expr::BinaryOp { op, .. } => matches!(
            op,
            Op::And | Op::Or | Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq | Op::Arrow | Op::LongArrow
        ),
        // A literal's cast is tried when the index is made.
        Expr::Cast { expr, .. } => matches!(**expr, Expr::Value(_)),
        Expr::UnaryOp { op, .. } => *op == UnaryOperator::Not,
        Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)
        | Expr::Nested(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::In { .. }
        | Expr::Between { .. }
        | Expr::Collate { .. }
        | Expr::TypedString(_)
        | Expr::Function(_) => true,
        _ => false,
    }
}

/// What [`Seek`] comes by.
enum Seen<'a> {
    /// A function, by its name.
    Call(String),
    /// An expression; a function comes as [`Seen::Call`] too.
    Expr(&'a Expr),
    /// A statement, the outermost included.
    Statement,
}

/// Walks until its function finds something.
struct Seek<F>(F);

impl<F: FnMut(&Seen) -> Option<String>> Seek<F> {
    fn see(&mut self, seen: &Seen) -> ControlFlow<String> {
        (self.0)(seen).map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }
}

impl<F: FnMut(&Seen) -> Option<String>> Visitor for Seek<F> {
    type Break = String;

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<String> {
        if let Expr::Function(function) = expression {
            self.see(&Seen::Call(names::object(&function.name)))?;
        }
        self.see(&Seen::Expr(expression))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<String> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.see(&Seen::Call(names::object(name)))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, _statement: &Statement) -> ControlFlow<String> {
        self.see(&Seen::Statement)
    }
}
