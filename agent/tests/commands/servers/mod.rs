//! Private servers that live as long as the value.

mod pgbouncer;
mod postgres;
mod redis;
pub(crate) mod s3;
pub(crate) mod tmpfs;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) use self::pgbouncer::PgBouncer;
pub(crate) use self::postgres::{Postgres, newest_binaries, server_user};
pub(crate) use self::redis::{Redis, url_encoded};
use crate::certificates::Issued;

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
        Self::run(status, body, None)
    }

    /// One that speaks TLS.
    pub(crate) fn start_tls(status: &'static str, body: &'static str, issued: &Issued) -> Self {
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .expect("a server's settings");
        Self::run(status, body, Some(Arc::new(config)))
    }

    fn run(status: &'static str, body: &'static str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
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
                counter.fetch_add(1, Ordering::Relaxed);
                match &tls {
                    None => answer(&mut stream, status, body),
                    Some(config) => {
                        let mut session = rustls::ServerConnection::new(Arc::clone(config)).expect("settings");
                        answer(&mut rustls::Stream::new(&mut session, &mut stream), status, body);
                    }
                }
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

fn answer(stream: &mut (impl Read + Write), status: &str, body: &str) {
    let mut buffer = [0; 8192];
    let _read = stream.read(&mut buffer);
    let _sent =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
}
