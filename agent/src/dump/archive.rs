//! The stream of a dump: hashed and counted as it is stored, and hashed and counted as it is read back.

use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};

use sha2::{Digest, Sha256};

use crate::catalogue::manifest::{Compression, Manifest};

/// Of zstd: the fastest that is no larger than gzip's usual.
pub(crate) const LEVEL: i32 = 1;
const CHUNK: usize = 256 * 1024;

/// What a stream was, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its length.
    pub(crate) bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub(crate) sha256: String,
}

impl Stored {
    /// It is the dump that the manifest is about.
    pub(crate) fn is_of(&self, manifest: &Manifest) -> bool {
        (self.bytes, &self.sha256) == (manifest.bytes, &manifest.sha256)
    }
}

/// Stores `source` in `sink`, compressed if need be.
///
/// # Errors
/// Of either.
pub(crate) fn store(source: &mut impl Read, sink: &mut impl Write, compression: Compression) -> io::Result<Stored> {
    let mut sink = Measured::new(sink);
    match compression {
        Compression::Archive => copy(source, &mut sink)?,
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut sink, LEVEL)?;
            encoder.include_checksum(true)?;
            copy(source, &mut encoder)?;
            encoder.finish()?;
        }
    }
    sink.flush()?;
    Ok(sink.stored())
}

/// Reads a stored stream to its end and hands the archive in it to `sink`.
///
/// # Errors
/// Of either. A sink that wants no more is no error of the stream's: whoever reads there says what is wrong.
pub(crate) fn read_back(source: impl Read, sink: &mut impl Write, compression: Compression) -> io::Result<Stored> {
    let mut archive = Unpacked::new(source, compression)?;
    hand_over(&mut archive, sink)?;
    archive.finish()
}

/// The archive in a stored stream, which is hashed as it is read.
pub(crate) enum Unpacked<T: Read> {
    /// It is stored as it is.
    Archive(Measured<T>),
    /// It is inside.
    Zstd(zstd::Decoder<'static, BufReader<Measured<T>>>),
}

impl<T: Read> Unpacked<T> {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// There is no memory for a decoder.
    pub(crate) fn new(source: T, compression: Compression) -> io::Result<Self> {
        let source = Measured::new(source);
        Ok(match compression {
            Compression::Archive => Self::Archive(source),
            Compression::Zstd => Self::Zstd(zstd::Decoder::new(source)?),
        })
    }

    /// What the stream was, once the rest of it is read: what nobody asked for belongs to it too.
    ///
    /// # Errors
    /// Of the source.
    pub(crate) fn finish(self) -> io::Result<Stored> {
        let mut source = match self {
            Self::Archive(source) => source,
            Self::Zstd(decoder) => {
                let mut rest = decoder.finish();
                copy(&mut rest, &mut io::sink())?;
                return Ok(rest.into_inner().stored());
            }
        };
        copy(&mut source, &mut io::sink())?;
        Ok(source.stored())
    }
}

impl<T: Read> Read for Unpacked<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Archive(source) => source.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

/// Lets a thread of its own do what reads and writes much.
///
/// # Errors
/// Its own.
pub(crate) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}

/// Hashes a stored stream, whatever is in it.
///
/// # Errors
/// The source's.
pub(crate) fn measure(source: &mut impl Read) -> io::Result<Stored> {
    read_back(source, &mut io::sink(), Compression::Archive)
}

/// Hands all of it over.
///
/// # Errors
/// As [`read_back`].
pub(crate) fn hand_over(source: &mut impl Read, sink: &mut impl Write) -> io::Result<()> {
    match copy(source, sink) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn copy(source: &mut impl Read, sink: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        sink.write_all(&buffer[..read])?;
    }
}

/// Counts and hashes what passes.
pub(crate) struct Measured<T> {
    inner: T,
    bytes: u64,
    digest: Sha256,
}

impl<T> Measured<T> {
    /// Of nothing yet.
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, bytes: 0, digest: Sha256::new() }
    }

    fn passed(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        self.digest.update(part);
    }

    /// What has passed.
    pub(crate) fn stored(self) -> Stored {
        let mut sha256 = String::with_capacity(64);
        for byte in self.digest.finalize() {
            let _never_fails = write!(sha256, "{byte:02x}");
        }
        Stored { bytes: self.bytes, sha256 }
    }
}

impl<T: Read> Read for Measured<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Measured<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.passed(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Not to be compressed away.
    fn noise(length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    }

    #[rstest]
    fn what_is_stored_is_read_back(
        #[values(Compression::Archive, Compression::Zstd)] compression: Compression,
        #[values(0, 1, 300_000)] length: usize,
    ) {
        let archive = noise(length);
        let mut file = Vec::new();
        let stored = store(&mut archive.as_slice(), &mut file, compression).expect("stored");
        assert_eq!(stored.bytes, file.len() as u64);
        let mut again = Vec::new();
        let read = read_back(&mut file.as_slice(), &mut again, compression).expect("read");
        assert_eq!((read, again), (stored.clone(), archive));
        // One bit, or one byte too many, is another one.
        let tail = [file.clone(), vec![0]].concat();
        let more = read_back(&mut tail.as_slice(), &mut io::sink(), compression);
        assert!(more.is_err() || more.expect("read") != stored);
        if let Some(byte) = file.last_mut() {
            *byte ^= 1;
            let other = read_back(&mut file.as_slice(), &mut io::sink(), compression);
            assert!(other.is_err() || other.expect("read") != stored);
        }
    }

    #[test]
    fn whoever_wants_no_more_ends_nothing() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let archive = noise(600_000);
        let read = read_back(&mut archive.as_slice(), &mut Closed, Compression::Archive).expect("read");
        assert_eq!(read.bytes, 600_000, "all of it is still hashed");
    }
}
