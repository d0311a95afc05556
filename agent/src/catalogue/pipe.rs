//! Between a thread that reads and writes, as dumps do, and the asynchronous client of a bucket. What is under way is
//! bounded: a few parts, whatever the size of the whole.

use std::io::{self, Read, Write};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

/// A part of an upload, or its end. A channel that ends without it is a writer that gave up.
#[derive(Debug)]
pub(crate) enum Part {
    /// The next bytes.
    Bytes(Bytes),
    /// That was all.
    End,
}

/// The end for a thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    parts: mpsc::Sender<Part>,
    done: Option<oneshot::Receiver<io::Result<()>>>,
    buffer: Vec<u8>,
    size: usize,
}

/// A writer of parts of `size` bytes; `upload` takes them and tells how it went.
pub(crate) fn writer<F>(size: usize, upload: impl FnOnce(mpsc::Receiver<Part>) -> F) -> Writer
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let (parts, received) = mpsc::channel(1);
    let (told, done) = oneshot::channel();
    let work = upload(received);
    tokio::spawn(async move {
        // Nobody asks any more where the writer gave up.
        let _unheard = told.send(work.await);
    });
    Writer { parts, done: Some(done), buffer: Vec::with_capacity(size), size }
}

impl Writer {
    fn send(&mut self, part: Part) -> io::Result<()> {
        if self.parts.blocking_send(part).is_ok() {
            return Ok(());
        }
        // It ended early, so it has failed.
        self.result().and_then(|()| Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn result(&mut self) -> io::Result<()> {
        let done = self.done.take().ok_or(io::ErrorKind::BrokenPipe)?;
        done.blocking_recv().map_err(io::Error::other)?
    }

    fn send_buffer(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.buffer, Vec::with_capacity(self.size));
        self.send(Part::Bytes(part.into()))
    }

    /// All was written: waits until it is stored.
    ///
    /// # Errors
    /// What the upload said.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.send_buffer()?;
        }
        self.send(Part::End)?;
        self.result()
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.size - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == self.size {
            self.send_buffer()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The end for a thread that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// A reader of what `parts` brings.
pub(crate) fn reader(parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Reader {
    let (sender, received) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut parts = std::pin::pin!(parts);
        while let Some(part) = parts.next().await {
            if sender.send(part).await.is_err() {
                return;
            }
        }
    });
    Reader { parts: received, current: Bytes::new() }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.parts.blocking_recv() {
                None => return Ok(0),
                Some(part) => self.current = part?,
            }
        }
        let taken = self.current.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.current.split_to(taken));
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts that an upload got, and how it ended.
    async fn written(bytes: &'static [u8], finish: bool) -> (Vec<Vec<u8>>, bool) {
        let (told, seen) = oneshot::channel();
        let writer = writer(4, |mut parts| async move {
            let (mut got, mut ended) = (Vec::new(), false);
            while let Some(part) = parts.recv().await {
                match part {
                    Part::Bytes(part) => got.push(part.to_vec()),
                    Part::End => {
                        ended = true;
                        break;
                    }
                }
            }
            told.send((got, ended)).expect("somebody listens");
            Ok(())
        });
        let work = move || {
            let mut writer = writer;
            writer.write_all(bytes).expect("taken");
            if finish { writer.finish() } else { Ok(()) }
        };
        tokio::task::spawn_blocking(work).await.expect("no panic").expect("stored");
        seen.await.expect("it ended")
    }

    #[tokio::test]
    async fn parts_have_their_size_and_the_last_one_what_is_left() {
        assert_eq!(
            written(b"abcdefghij", true).await,
            (vec![b"abcd".to_vec(), b"efgh".to_vec(), b"ij".to_vec()], true)
        );
        assert_eq!(written(b"", true).await, (Vec::new(), true));
    }

    #[tokio::test]
    async fn a_writer_that_gives_up_is_no_end() {
        assert!(!written(b"abcdef", false).await.1);
    }

    #[tokio::test]
    async fn an_upload_that_fails_is_told_to_the_writer() {
        let writer = writer(4, |_parts| async { Err(io::Error::other("refused")) });
        let work = move || {
            let mut writer = writer;
            writer.write_all(&[0; 64]).and_then(|()| writer.finish())
        };
        let error = tokio::task::spawn_blocking(work).await.expect("no panic").expect_err("it fails");
        assert!(error.to_string().contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn what_is_read_is_what_came_until_an_error() {
        let parts = |last: io::Result<Bytes>| {
            let parts = [Ok(Bytes::from_static(b"abc")), Ok(Bytes::new()), last];
            let reader = reader(futures::stream::iter(parts));
            tokio::task::spawn_blocking(move || {
                let (mut reader, mut text) = (reader, String::new());
                reader.read_to_string(&mut text).map(|_| text)
            })
        };
        let whole = parts(Ok(Bytes::from_static(b"de"))).await.expect("no panic");
        assert_eq!(whole.expect("read"), "abcde");
        assert!(parts(Err(io::Error::other("cut"))).await.expect("no panic").is_err());
    }
}
