//! The text of a dump, whatever it lies in: what that is tells the content, not the name.

use std::cell::RefCell;
use std::io::{self, Cursor, Read, Write};

use flate2::read::MultiGzDecoder;

use crate::dump::archive::{Measured, Stored};
use crate::dump::tool::Source;
use crate::restore::plain::scan::{Fault, Scanned, Scanner};

const CHUNK: usize = 256 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
/// What others begin with, where, and what they are.
const OTHERS: [(usize, &[u8], &str); 6] = [
    (0, b"PGDMP", "is an archive of pg_dump --format=custom, no SQL"),
    (257, b"ustar", "is a tar archive"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "is compressed by zstd"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z'], "is compressed by xz"),
    (0, b"BZh", "is compressed by bzip2"),
    (0, b"PK\x03\x04", "is a zip archive"),
];

/// Why a pass over a file failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The storage did.
    Storage(io::Error),
    /// It is something else.
    Other(&'static str),
    /// It isn't whole: bytes that are there.
    Cut(u64),
    /// It is compressed, and not as it was: about which byte, and what is wrong.
    Damaged(u64, String),
    /// Its text isn't what it should be.
    Fault(Fault),
    /// Who gets the text takes no more.
    Closed(io::Error),
}

/// A file that was read to its end.
#[derive(Debug)]
pub(super) struct Passed {
    /// Its text.
    pub(super) text: Stored,
    /// What is in that.
    pub(super) found: Scanned,
}

/// Reads all of it, and hands on what is for psql, piece by piece: each after it was looked at.
///
/// # Errors
/// [`Failure`].
pub(super) fn pass(source: Source, sink: &mut impl Write) -> Result<Passed, Failure> {
    let watch = RefCell::new(Watch::default());
    let mut file = Watched { inner: source, watch: &watch };
    let mut head = vec![0; GZIP.len()];
    let read = fill(&mut file, &mut head).map_err(Failure::Storage)?;
    head.truncate(read);
    let is_compressed = head == GZIP;
    let whole = Cursor::new(head).chain(file);
    let mut text: Box<dyn Read + '_> =
        if is_compressed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let failed = |error: io::Error| {
        let Watch { bytes, error: own } = watch.take();
        match own {
            Some(own) => Failure::Storage(own),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Cut(bytes),
            None => Failure::Damaged(bytes, error.to_string()),
        }
    };
    let (mut scanner, mut measured, mut kept) = (Scanner::new(), Measured::new(io::sink()), Vec::new());
    let (mut buffer, mut is_first, mut bytes) = (vec![0; CHUNK], true, 0);
    loop {
        let read = fill(&mut *text, &mut buffer).map_err(failed)?;
        let piece = &buffer[..read];
        if is_first && let Some(what) = other(piece) {
            return Err(Failure::Other(what));
        }
        is_first = false;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        measured.write_all(piece).map_err(Failure::Storage)?;
        kept.clear();
        scanner.feed(piece, &mut kept).map_err(Failure::Fault)?;
        sink.write_all(&kept).map_err(Failure::Closed)?;
    }
    let found = scanner.end().map_err(|fault| match fault {
        Fault::Cut => Failure::Cut(bytes),
        fault => Failure::Fault(fault),
    })?;
    Ok(Passed { text: measured.stored(), found })
}

fn other(head: &[u8]) -> Option<&'static str> {
    let is = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
    OTHERS.iter().find(|(at, magic, _)| is(*at, magic)).map(|(_, _, what)| *what)
}

/// Reads until the buffer is full or nothing comes any more.
fn fill(source: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What came of a file, and how it failed: whoever undoes a compression tells its own errors alike.
#[derive(Debug, Default)]
struct Watch {
    bytes: u64,
    error: Option<io::Error>,
}

struct Watched<'a> {
    inner: Source,
    watch: &'a RefCell<Watch>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut watch = self.watch.borrow_mut();
        match self.inner.read(buffer) {
            Ok(read) => {
                watch.bytes += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), error.to_string());
                watch.error = Some(error);
                Err(told)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version 15.18\n
SET x = 1;\nCOPY public.t (id) FROM stdin;\n1\n2\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        encoder.finish().expect("memory")
    }

    fn passed(file: Vec<u8>) -> (Result<Passed, Failure>, Vec<u8>) {
        let mut kept = Vec::new();
        (pass(Box::new(Cursor::new(file)), &mut kept), kept)
    }

    #[test]
    fn the_text_is_the_same_whatever_it_lies_in() {
        let (one, two) = DUMP.as_bytes().split_at(90);
        let kept = DUMP.replace("\\restrict abc", "").replace("\\unrestrict abc", "");
        for file in [DUMP.as_bytes().to_vec(), zipped(DUMP.as_bytes()), [zipped(one), zipped(two)].concat()] {
            let (passed, text) = passed(file);
            let passed = passed.expect("good");
            assert_eq!((passed.text.bytes, passed.found.major), (DUMP.len() as u64, Some(15)));
            assert_eq!(String::from_utf8(text).expect("text"), kept);
            assert_eq!(passed.found.tables.values().collect::<Vec<_>>(), [&2]);
        }
    }

    #[test]
    fn what_is_damaged_is_never_good() {
        let whole = zipped(DUMP.as_bytes());
        for length in 0..whole.len() {
            let cut = passed(whole[..length].to_vec()).0;
            // One byte could be anything.
            assert!(
                length == 1 && cut.is_err() || matches!(cut, Err(Failure::Cut(bytes)) if bytes == length as u64),
                "{length}: {cut:?}"
            );
        }
        for at in 10..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(passed(flipped).0.is_err(), "a bit of byte {at}");
        }
        let tail = [whole.clone(), b"x".to_vec()].concat();
        assert!(passed(tail).0.is_err());
    }

    #[test]
    fn others_are_known_by_their_content() {
        let tar = [vec![b'a'; 257], b"ustar".to_vec(), vec![0; 512]].concat();
        for (file, word) in [(b"PGDMP\x01\x0e".to_vec(), "custom"), (tar, "tar"), (b"BZh91AY".to_vec(), "bzip2")] {
            for file in [file.clone(), zipped(&file)] {
                let failure = passed(file).0.expect_err("no SQL");
                assert!(matches!(failure, Failure::Other(what) if what.contains(word)), "{failure:?}");
            }
        }
    }

    #[test]
    fn what_the_storage_says_is_no_damage() {
        struct Away;
        impl Read for Away {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        for head in [DUMP.as_bytes()[..50].to_vec(), zipped(DUMP.as_bytes())[..50].to_vec()] {
            let failure = pass(Box::new(Cursor::new(head).chain(Away)), &mut io::sink()).expect_err("away");
            assert!(matches!(failure, Failure::Storage(_)), "{failure:?}");
        }
    }
}
