//! Is a text what `pg_dump` writes of one database, all of it, and what is in it? Plain, and in bounded memory.

use std::collections::BTreeMap;

use crate::restore::plain::lexer::{Lexer, Trouble};
use crate::restore::plain::names::{self, Table};

const HEADER: &[u8] = b"-- PostgreSQL database dump";
const CLUSTER: &[u8] = b"-- PostgreSQL database cluster dump";
const TRAILER: &[u8] = b"-- PostgreSQL database dump complete";
const VERSION: &[u8] = b"-- Dumped from database version ";
/// Around a dump `pg_dump` puts these, since August of 2025.
const RESTRICTIONS: [&[u8]; 2] = [b"\\restrict ", b"\\unrestrict "];
/// What ends rows.
const END: &[u8] = b"\\.";
/// Of a line that means something to us: COPY names up to 1600 columns.
const LONGEST: usize = 1 << 20;
/// Of `\restrict` and its key.
const LONGEST_COMMAND: usize = 256;

/// Why it isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It has another beginning.
    NoDump,
    /// It has no end.
    Cut,
    /// No text has such bytes.
    Binary(u64),
    /// What isn't loaded: the line's number, and what is there.
    Unsupported(u64, String),
}

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scanned {
    /// Major version of the server that it is of; `None`: it doesn't say.
    pub(super) major: Option<i32>,
    /// Rows of every table that has a COPY.
    pub(super) tables: BTreeMap<Table, i64>,
    /// First line with a string that ends elsewhere where `standard_conforming_strings` is off.
    pub(super) doubt: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Statements.
    Sql,
    /// A line that begins with a backslash.
    Command,
    /// Rows of a COPY.
    Rows(Table),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Begin,
    Body,
    Complete,
}

/// Reads a dump in pieces.
#[derive(Debug)]
pub(super) struct Scanner {
    lexer: Lexer,
    place: Place,
    part: Part,
    line: u64,
    /// The next byte is a line's first.
    is_new: bool,
    /// The line began between two statements.
    is_own: bool,
    /// What there is of the line, if that matters.
    text: Vec<u8>,
    is_long: bool,
    /// Backslashes that were last.
    backslashes: usize,
    /// Of tables that name none.
    schema: String,
    found: Scanned,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            lexer: Lexer::new(),
            place: Place::Sql,
            part: Part::Begin,
            line: 1,
            is_new: true,
            is_own: true,
            text: Vec::new(),
            is_long: false,
            backslashes: 0,
            schema: "public".to_owned(),
            found: Scanned::default(),
        }
    }

    /// Reads the next piece; what is for psql is added to `kept`: all but `\restrict` and `\unrestrict`, whose lines are
    /// left empty.
    ///
    /// # Errors
    /// [`Fault`]; nothing of this piece may be handed on then.
    pub(super) fn feed(&mut self, piece: &[u8], kept: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(at) = piece.iter().position(|byte| *byte == 0) {
            return Err(self.binary(&piece[..at]));
        }
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if self.is_new {
                self.begin_line(text.first());
            }
            if self.place != Place::Command {
                kept.extend_from_slice(part);
            }
            self.within(text)?;
            if ends {
                if self.place == Place::Command {
                    kept.push(b'\n');
                }
                self.end_line()?;
            }
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) fn end(mut self) -> Result<Scanned, Fault> {
        // A line that might have gone on.
        let may_go_on = match self.place {
            Place::Sql if self.part == Part::Body => self.text != TRAILER,
            Place::Sql => self.text == b"-",
            Place::Command => RESTRICTIONS.iter().any(|begin| begin.starts_with(&self.text)),
            Place::Rows(_) => true,
        };
        if may_go_on && !self.is_new {
            return Err(Fault::Cut);
        }
        if !self.is_new {
            self.end_line()?;
        }
        let is_whole = self.part == Part::Complete && self.place == Place::Sql && self.lexer.is_fresh();
        if is_whole { Ok(self.found) } else { Err(Fault::Cut) }
    }

    fn binary(&self, before: &[u8]) -> Fault {
        let lines = before.split(|byte| *byte == b'\n').count() as u64 - 1;
        if self.part == Part::Begin { Fault::NoDump } else { Fault::Binary(self.line + lines) }
    }

    fn unsupported(&self, what: impl Into<String>) -> Fault {
        if self.part == Part::Begin { Fault::NoDump } else { Fault::Unsupported(self.line, what.into()) }
    }

    fn begin_line(&mut self, first: Option<&u8>) {
        (self.is_new, self.is_long, self.backslashes) = (false, false, 0);
        self.text.clear();
        if self.place == Place::Sql {
            self.is_own = self.lexer.is_fresh();
            if self.is_own && first == Some(&b'\\') {
                self.place = Place::Command;
            }
        }
    }

    /// A part of a line, without its end.
    fn within(&mut self, text: &[u8]) -> Result<(), Fault> {
        let room = match self.place {
            Place::Sql if self.is_own => LONGEST,
            Place::Sql => 0,
            Place::Command => LONGEST_COMMAND,
            // More isn't needed to know the end of rows.
            Place::Rows(_) => END.len() + 2,
        };
        let taken = text.len().min(room.saturating_sub(self.text.len()));
        self.text.extend_from_slice(&text[..taken]);
        self.is_long |= taken < text.len();
        match self.place {
            Place::Rows(_) => {
                let last = text.iter().rev().take_while(|byte| **byte == b'\\').count();
                self.backslashes = if last == text.len() { self.backslashes + last } else { last };
            }
            Place::Command if self.is_long => return Err(self.command()),
            Place::Command => {}
            Place::Sql => {
                for byte in text {
                    self.sql(*byte)?;
                }
                if self.part == Part::Begin && self.is_long {
                    return Err(Fault::NoDump);
                }
            }
        }
        Ok(())
    }

    fn sql(&mut self, byte: u8) -> Result<(), Fault> {
        self.lexer.feed(byte).map_err(|trouble| match trouble {
            Trouble::Backslash => self.unsupported("has a command of psql"),
            Trouble::Outside(statement) => self.unsupported(format!("has {statement}")),
            Trouble::Strange(what) => self.unsupported(format!("has {what}, which pg_dump doesn't write")),
        })
    }

    fn end_line(&mut self) -> Result<(), Fault> {
        let text = std::mem::take(&mut self.text);
        let line = text.strip_suffix(b"\r").unwrap_or(&text);
        match &mut self.place {
            Place::Rows(_) if line == END && !self.is_long => self.place = Place::Sql,
            // An end of line after a backslash is one within a value.
            Place::Rows(table) if self.backslashes.is_multiple_of(2) => {
                if let Some(rows) = self.found.tables.get_mut(table) {
                    *rows += 1;
                }
            }
            Place::Rows(_) => {}
            Place::Command => {
                self.text.extend_from_slice(line);
                if !is_restriction(line) {
                    return Err(self.command());
                }
                self.place = Place::Sql;
            }
            Place::Sql => {
                self.sql(b'\n')?;
                self.statement(line)?;
            }
        }
        self.text = text;
        self.line += 1;
        self.is_new = true;
        Ok(())
    }

    /// A command other than those two.
    fn command(&self) -> Fault {
        let name: Vec<u8> = self.text.iter().copied().take(20).take_while(u8::is_ascii_graphic).collect();
        self.unsupported(format!("has the command {} of psql", String::from_utf8_lossy(&name)))
    }

    /// The end of a line of statements.
    fn statement(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (noted, is_comment) = (self.lexer.take_noted(), line.starts_with(b"--"));
        if noted.doubt {
            self.found.doubt.get_or_insert(self.line);
        }
        let is_empty = self.is_own && (line.is_empty() || is_comment);
        match self.part {
            Part::Begin if line == HEADER => self.part = Part::Body,
            Part::Begin if line == CLUSTER => {
                self.part = Part::Body;
                return Err(self.unsupported("says that it is a dump of pg_dumpall"));
            }
            Part::Begin if !is_empty => return Err(Fault::NoDump),
            Part::Complete if !is_empty => return Err(self.unsupported("comes after the end of the dump")),
            Part::Begin | Part::Complete => {}
            Part::Body if noted.copy => {
                let line = std::str::from_utf8(line).ok().filter(|_| self.is_own && !self.is_long);
                let table = line.filter(|_| self.lexer.is_fresh()).and_then(|it| names::of_copy(it, &self.schema));
                let Some(table) = table else {
                    return Err(self.unsupported("has a COPY that pg_dump doesn't write"));
                };
                self.found.tables.entry(table.clone()).or_default();
                self.place = Place::Rows(table);
            }
            Part::Body if !self.is_own => {}
            Part::Body if line == TRAILER => self.part = Part::Complete,
            Part::Body => self.told(line),
        }
        Ok(())
    }

    /// What a line says of those that follow.
    fn told(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else { return };
        if let Some(version) = line.strip_prefix(std::str::from_utf8(VERSION).unwrap_or_default()) {
            let digits = version.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
            self.found.major = self.found.major.or_else(|| digits.parse().ok());
        } else if let Some(schema) = names::of_search_path(line) {
            self.schema = schema;
        }
    }
}

/// Whether it is one of the two, with a key.
fn is_restriction(line: &[u8]) -> bool {
    let key = RESTRICTIONS.iter().find_map(|begin| line.strip_prefix(*begin));
    key.is_some_and(|key| !key.is_empty() && key.iter().all(u8::is_ascii_alphanumeric))
}
