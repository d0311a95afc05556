//! Where statements of SQL begin and end, as psql reads them. What psql's versions would read differently, and `pg_dump`
//! never writes, is refused: whoever takes a text for data that psql takes for commands would let it run them.

/// Of a word: longer ones mean nothing to us. Of the tag of a dollar quote: longer ones are refused.
const LONGEST: usize = 64;

/// What the dump of one database doesn't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A command of psql.
    Backslash,
    /// A statement about something outside of the database.
    Outside(String),
    /// What isn't read alike by everybody.
    Strange(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Plain,
    /// `is_glued`: it follows a number without a gap.
    Word {
        is_glued: bool,
    },
    Number,
    Dash,
    Slash,
    Colon,
    /// psql's own variables; unset they stay what they are.
    Variable,
    Dollar,
    Tag,
    /// Between quotes; `odd`: an odd number of backslashes was last.
    Single {
        escape: bool,
        odd: bool,
    },
    /// After the quote that may end a string with escapes.
    Closed,
    Double,
    /// So many bytes of the closing tag are there.
    Quoted {
        matched: usize,
    },
    Line,
    Block {
        depth: u32,
        last: u8,
    },
}

/// Reads byte by byte.
#[derive(Debug)]
pub(super) struct Lexer {
    state: State,
    /// The word, or what ends the dollar quote.
    text: Vec<u8>,
    /// A string with escapes ended, and only white space came since.
    after_escapes: bool,
    parens: u32,
    /// Depth of `BEGIN … END` in the body of a function, as psql from 14 on counts it.
    begins: u32,
    /// Nothing of a statement was there yet.
    is_fresh: bool,
    /// Words of what psql takes for one statement, of interest to it: their first letters.
    letters: [u8; 4],
    counted: usize,
    /// Words of what any psql may take for one.
    words: u32,
    first: Vec<u8>,
    last: Vec<u8>,
    noted: Noted,
}

/// What came since this was asked last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    /// A statement of COPY has begun.
    pub(super) copy: bool,
    /// A string ended that would not end there where `standard_conforming_strings` is off.
    pub(super) doubt: bool,
}

impl Lexer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Plain,
            text: Vec::new(),
            after_escapes: false,
            parens: 0,
            begins: 0,
            is_fresh: true,
            letters: [0; 4],
            counted: 0,
            words: 0,
            first: Vec::new(),
            last: Vec::new(),
            noted: Noted::default(),
        }
    }

    /// Between two statements.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_fresh && self.state == State::Plain
    }

    /// What came since this was asked last.
    pub(super) fn take_noted(&mut self) -> Noted {
        std::mem::take(&mut self.noted)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) fn feed(&mut self, byte: u8) -> Result<(), Trouble> {
        match self.state {
            State::Plain => return self.plain(byte),
            State::Single { escape, odd } => self.single(byte, escape, odd),
            State::Double if byte == b'"' => self.state = State::Plain,
            State::Line if matches!(byte, b'\n' | b'\r') => self.state = State::Plain,
            State::Double | State::Line => {}
            State::Quoted { matched } => self.quoted(byte, matched),
            State::Block { depth, last } => self.block(byte, depth, last),
            State::Closed if byte == b'\'' => self.state = State::Single { escape: true, odd: false },
            State::Closed => {
                self.after_escapes = true;
                return self.again(byte);
            }
            State::Word { .. } if is_of_word(byte) => self.push(byte),
            State::Word { is_glued } => return self.word(byte, is_glued),
            State::Number if byte.is_ascii_digit() => {}
            State::Number if begins_word(byte) => self.begin_word(byte, true),
            State::Dash if byte == b'-' => self.state = State::Line,
            State::Slash if byte == b'*' => self.state = State::Block { depth: 1, last: 0 },
            State::Variable if is_of_tag(byte) => {}
            State::Number | State::Dash | State::Slash | State::Variable => {
                if self.state != State::Variable {
                    self.token();
                }
                return self.again(byte);
            }
            State::Colon => return self.colon(byte),
            State::Dollar => return self.dollar(byte),
            State::Tag => return self.tag(byte),
        }
        Ok(())
    }

    fn again(&mut self, byte: u8) -> Result<(), Trouble> {
        self.state = State::Plain;
        self.plain(byte)
    }

    fn plain(&mut self, byte: u8) -> Result<(), Trouble> {
        match byte {
            b'-' => self.state = State::Dash,
            b'/' => self.state = State::Slash,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {}
            b'\\' => return Err(Trouble::Backslash),
            b'\'' if self.after_escapes => return Err(Trouble::Strange("a string in pieces")),
            b';' => return self.semicolon(),
            _ if begins_word(byte) => self.begin_word(byte, false),
            _ => {
                self.token();
                self.state = match byte {
                    b'\'' => State::Single { escape: false, odd: false },
                    b'"' => State::Double,
                    b':' => State::Colon,
                    b'$' => State::Dollar,
                    b'0'..=b'9' => State::Number,
                    _ => State::Plain,
                };
                self.parens = match byte {
                    b'(' => self.parens.saturating_add(1),
                    b')' => self.parens.saturating_sub(1),
                    _ => self.parens,
                };
            }
        }
        Ok(())
    }

    /// Something of a statement is there.
    fn token(&mut self) {
        (self.is_fresh, self.after_escapes) = (false, false);
    }

    fn single(&mut self, byte: u8, escape: bool, odd: bool) {
        self.state = match byte {
            b'\\' => State::Single { escape, odd: !odd },
            b'\'' if escape && !odd => State::Closed,
            b'\'' if !escape => {
                self.noted.doubt |= odd;
                State::Plain
            }
            _ => State::Single { escape, odd: false },
        };
    }

    fn quoted(&mut self, byte: u8, matched: usize) {
        let matched = match byte {
            _ if self.text.get(matched) == Some(&byte) => matched + 1,
            b'$' => 1,
            _ => 0,
        };
        self.state = if matched == self.text.len() { State::Plain } else { State::Quoted { matched } };
    }

    fn block(&mut self, byte: u8, depth: u32, last: u8) {
        self.state = match (last, byte) {
            (b'*', b'/') if depth == 1 => State::Plain,
            (b'*', b'/') => State::Block { depth: depth - 1, last: 0 },
            (b'/', b'*') => State::Block { depth: depth.saturating_add(1), last: 0 },
            _ => State::Block { depth, last: byte },
        };
    }

    fn colon(&mut self, byte: u8) -> Result<(), Trouble> {
        match byte {
            b'{' => return Err(Trouble::Strange("a variable of psql")),
            b':' | b'=' => self.state = State::Plain,
            _ if is_of_tag(byte) => self.state = State::Variable,
            _ => return self.again(byte),
        }
        Ok(())
    }

    fn dollar(&mut self, byte: u8) -> Result<(), Trouble> {
        self.text = vec![b'$'];
        match byte {
            b'$' => return self.tag(byte),
            b'0'..=b'9' => self.state = State::Number,
            _ if begins_word(byte) => {
                self.text.push(byte);
                self.state = State::Tag;
            }
            _ => return self.again(byte),
        }
        Ok(())
    }

    fn tag(&mut self, byte: u8) -> Result<(), Trouble> {
        if self.text.len() > LONGEST || !(byte == b'$' || is_of_tag(byte)) {
            return Err(Trouble::Strange("a quote that doesn't begin"));
        }
        self.text.push(byte);
        if byte == b'$' {
            self.state = State::Quoted { matched: 0 };
        }
        Ok(())
    }

    fn begin_word(&mut self, byte: u8, is_glued: bool) {
        self.state = State::Word { is_glued };
        self.text.clear();
        self.push(byte);
    }

    fn push(&mut self, byte: u8) {
        if self.text.len() < LONGEST {
            self.text.push(byte.to_ascii_uppercase());
        }
    }

    /// A word has ended before this byte.
    fn word(&mut self, next: u8, is_glued: bool) -> Result<(), Trouble> {
        let word = std::mem::take(&mut self.text);
        match (word.as_slice(), next) {
            (exponent, _) if is_glued => {
                let is_exponent = exponent[0] == b'E' && exponent[1..].iter().all(u8::is_ascii_digit);
                if next == b'\'' || !is_exponent {
                    return Err(Trouble::Strange("a number that doesn't end"));
                }
            }
            (b"E" | b"N" | b"B" | b"X", b'\'') => {
                if self.after_escapes {
                    return Err(Trouble::Strange("a string in pieces"));
                }
                self.token();
                self.state = State::Single { escape: word == b"E", odd: false };
                return Ok(());
            }
            (b"U", b'&') => return Err(Trouble::Strange("a string of code points")),
            _ => {
                self.begin_or_end(&word);
                self.judge(word)?;
            }
        }
        self.token();
        self.again(next)
    }

    /// As psql from 14 on knows that a semicolon in the body of a function ends nothing.
    fn begin_or_end(&mut self, word: &[u8]) {
        if let Some(letter) = self.letters.get_mut(self.counted)
            && matches!(word, b"CREATE" | b"FUNCTION" | b"PROCEDURE" | b"OR" | b"REPLACE")
        {
            *letter = word[0];
        }
        self.counted = self.counted.saturating_add(1);
        let makes_function = matches!(self.letters, [b'C', b'F' | b'P', ..] | [b'C', b'O', b'R', b'F' | b'P']);
        if makes_function && self.parens == 0 {
            match word {
                b"BEGIN" => self.begins = self.begins.saturating_add(1),
                b"CASE" if self.begins > 0 => self.begins = self.begins.saturating_add(1),
                b"END" => self.begins = self.begins.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn judge(&mut self, word: Vec<u8>) -> Result<(), Trouble> {
        let at = self.words;
        self.words = at.saturating_add(1);
        if at == 0 && word == b"COPY" {
            if self.begins > 0 {
                return Err(Trouble::Strange("a COPY in the body of a function"));
            }
            self.noted.copy = true;
        }
        let is_outside = match (at, self.first.as_slice(), self.last.as_slice(), word.as_slice()) {
            (2, b"CREATE" | b"ALTER" | b"DROP", b"USER", third) => third != b"MAPPING",
            (1, b"CREATE" | b"ALTER" | b"DROP", _, b"DATABASE" | b"ROLE" | b"GROUP")
            | (1, b"ALTER", _, b"SYSTEM")
            | (_, b"COMMENT" | b"GRANT" | b"REVOKE" | b"SECURITY", b"ON", b"DATABASE") => true,
            _ => false,
        };
        if is_outside {
            let verb = String::from_utf8_lossy(&self.first);
            let object = if at == 2 && self.last == b"USER" { &self.last } else { &word };
            let on = if at > 1 && self.last == b"ON" { "ON " } else { "" };
            return Err(Trouble::Outside(format!("{verb} {on}{}", String::from_utf8_lossy(object))));
        }
        if at == 0 {
            self.first.clone_from(&word);
        }
        self.last = word;
        Ok(())
    }

    fn semicolon(&mut self) -> Result<(), Trouble> {
        self.token();
        if self.parens > 0 {
            return Ok(());
        }
        // Its name is quoted.
        if self.words == 2 && self.last == b"USER" && matches!(self.first.as_slice(), b"CREATE" | b"ALTER" | b"DROP") {
            return Err(Trouble::Outside(format!("{} USER", String::from_utf8_lossy(&self.first))));
        }
        self.words = 0;
        self.first.clear();
        self.last.clear();
        if self.begins == 0 {
            (self.is_fresh, self.counted, self.letters) = (true, 0, [0; 4]);
        }
        Ok(())
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_of_tag(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit()
}

fn is_of_word(byte: u8) -> bool {
    is_of_tag(byte) || byte == b'$'
}
