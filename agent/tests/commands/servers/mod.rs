//! Private servers that live as long as the value.

mod postgres;
mod redis;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use self::postgres::Postgres;
pub(crate) use self::redis::{Redis, url_encoded};

/// Password of the servers' administrators; has what URLs and SQL stumble over.
pub(crate) const PASSWORD: &str = "adm'in p@ss%/word";

/// Says that a test is skipped where nobody can miss it: past the capture of the output.
pub(crate) fn skip(test: &str, why: &str) {
    let _unseen = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Asks until it is true.
pub(crate) fn eventually(what: &str, limit: Duration, mut question: impl FnMut() -> bool) {
    let started = Instant::now();
    while !question() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free just now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// Kills its process and waits for its end.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Runs something asynchronous of the test's own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// An HTTP server that gives every request the same answer.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) port: u16,
    requests: Arc<AtomicU32>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    pub(crate) fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(AtomicU32::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&requests), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let mut buffer = [0; 8192];
                let _read = stream.read(&mut buffer);
                counter.fetch_add(1, Ordering::Relaxed);
                let _sent = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, requests, stopped, thread: Some(thread) }
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
