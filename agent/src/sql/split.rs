//! A script's text, cut into statements.

use std::fmt::Display;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// Characters of a statement that people are shown.
const SHOWN: usize = 120;

/// One statement, not yet understood.
#[derive(Debug)]
pub(super) struct Piece {
    /// Its tokens without the semicolon.
    pub(super) tokens: Vec<TokenWithSpan>,
    /// On one line, without comments and what literals hold, cut to [`SHOWN`] characters.
    pub(super) text: String,
    /// Whether a quote or comment in it has no end, so that nobody knows where it ends.
    pub(super) endless: bool,
}

/// The statements of a script. Semicolons in strings, names, comments and dollar quotes
/// separate nothing; what follows a quote without an end is one statement.
pub(super) fn pieces(sql: &str) -> Vec<Piece> {
    let mut tokens = Vec::new();
    let endless = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location_into_buf(&mut tokens).is_err();
    let is_end = |token: &TokenWithSpan| token.token == Token::SemiColon;
    let last = tokens.iter().rposition(is_end).map_or(0, |end| end + 1);
    let tail = endless.then(|| tokens.split_off(last));
    let whole =
        tokens.split(is_end).map(|tokens| Piece { tokens: tokens.to_vec(), text: shown(tokens), endless: false });
    let endless =
        tail.map(|tokens| Piece { text: shortened(&format!("{} …", shown(&tokens))), tokens, endless: true });
    whole.filter(|piece| !piece.text.is_empty()).chain(endless).collect()
}

/// SQL for people, as [`Piece::text`].
pub(super) fn told(sql: &impl Display) -> String {
    let sql = sql.to_string();
    let mut tokens = Vec::new();
    let _unreadable_rest =
        Tokenizer::new(&PostgreSqlDialect {}, &sql).tokenize_with_location_into_buf(&mut tokens).is_err();
    shown(&tokens)
}

/// Literals may be people's data or a secret, and half a secret is no longer known as one.
fn shown(tokens: &[TokenWithSpan]) -> String {
    let text: String = tokens
        .iter()
        .map(|token| match &token.token {
            Token::Whitespace(_) => " ".to_owned(),
            Token::DollarQuotedString(_) => "$$…$$".to_owned(),
            Token::Word(_) | Token::Number(..) => token.token.to_string(),
            other if other.to_string().ends_with('\'') => "'…'".to_owned(),
            other => other.to_string(),
        })
        .collect();
    shortened(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none(" \n -- nothing; here\n ;; /* nor; here */ ;", &[])]
    #[case::two("A;\n\nB", &["A", "B"])]
    #[case::string("A 'x;''y;';B", &["A '…'", "B"])]
    #[case::escaped_string(r"A E'x\';y';B", &["A '…'", "B"])]
    #[case::backslash_ends_a_plain_string(r"A 'x\';B", &["A '…'", "B"])]
    #[case::name("A \"x;y\";B", &["A \"x;y\"", "B"])]
    #[case::dollars("DO $$ BEGIN x; END $$;B", &["DO $$…$$", "B"])]
    #[case::tagged_dollars("DO $a$ x; $$ y; $a$;B", &["DO $$…$$", "B"])]
    #[case::line_comment("A -- x;\n c;B", &["A c", "B"])]
    #[case::nested_comment("A /* x; /* y; */ z; */ c;B", &["A c", "B"])]
    #[case::endless_string("A; B 'x; C", &["A", "B …"])]
    #[case::endless_dollars("A;\nDO $$ x;\nC;\n", &["A", "DO …"])]
    fn table(#[case] sql: &str, #[case] texts: &[&str]) {
        let found: Vec<_> = pieces(sql).into_iter().map(|piece| piece.text).collect();
        assert_eq!(found, texts);
    }

    #[test]
    fn a_long_statement_is_cut_between_characters() {
        let text = &pieces(&format!("SELECT {}", "ü".repeat(500)))[0].text;
        assert_eq!(text.chars().count(), SHOWN);
        assert!(text.ends_with("ü…"));
    }
}
