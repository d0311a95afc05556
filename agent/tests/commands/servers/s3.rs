//! A real S3 server over a folder.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::{Killed, eventually, free_port};

pub(crate) const ACCESS_KEY: &str = "AKIATEST";
pub(crate) const SECRET_KEY: &str = "a/secret+key=";
pub(crate) const BUCKET: &str = "backups";

/// versitygw, with one bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    pub(crate) port: u16,
    /// Its buckets, each a folder.
    pub(crate) folder: PathBuf,
    process: Option<Killed>,
    _own: TempDir,
}

impl S3 {
    /// `None` where it isn't built: `hack/tools/build versitygw`, and `ODOOAI_TOOL_VERSITYGW` names the folder.
    pub(crate) fn start() -> Option<Self> {
        let own = TempDir::new().expect("a temporary folder");
        let folder = own.path().join("data");
        std::fs::create_dir_all(own.path().join("sidecar")).expect("made");
        std::fs::create_dir_all(folder.join(BUCKET)).expect("made");
        let mut server = Self { port: free_port(), folder, process: None, _own: own };
        server.run()?;
        Some(server)
    }

    /// Starts it again where it was.
    pub(crate) fn run(&mut self) -> Option<()> {
        let program = PathBuf::from(std::env::var_os("ODOOAI_TOOL_VERSITYGW")?).join("versitygw");
        let process = Command::new(program)
            .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", &format!("127.0.0.1:{}", self.port)])
            // Not every file system has extended attributes.
            .args(["posix", "--sidecar"])
            .args([self.folder.with_file_name("sidecar"), self.folder.clone()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        self.process = Some(Killed(process));
        let port = self.port;
        eventually("the S3 server listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(())
    }

    /// Ends it; what it has stays.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }
}

/// In front of it: hands everything on, and counts and spoils what a test wants.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// So many requests are answered by 500.
    refuse: AtomicU32,
    /// So many connections are cut after some kilobytes of the client's.
    cut: AtomicU32,
    heads: Mutex<Vec<String>>,
}

/// What a client may say before it is cut.
const CUT_AFTER: usize = 100_000;

impl Proxy {
    /// One in front of what listens on `port`.
    pub(crate) fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (state, own) = (Arc::new(State::default()), listener.local_addr().expect("bound").port());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || _ = state.serve(client, port));
            }
        });
        Self { port: own, state }
    }

    /// The next requests are answered by 500.
    pub(crate) fn refuse(&self, requests: u32) {
        self.state.refuse.store(requests, Ordering::Relaxed);
    }

    /// The next connections that bring much are cut.
    pub(crate) fn cut(&self, connections: u32) {
        self.state.cut.store(connections, Ordering::Relaxed);
    }

    /// Faults that were asked for and didn't happen yet.
    pub(crate) fn left(&self) -> u32 {
        self.state.refuse.load(Ordering::Relaxed) + self.state.cut.load(Ordering::Relaxed)
    }

    /// Request lines and headers, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn serve(&self, mut client: TcpStream, port: u16) -> std::io::Result<()> {
        let take = |count: &AtomicU32| {
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        let mut buffer = vec![0; 64 * 1024];
        let read = client.read(&mut buffer)?;
        let text = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default().to_owned();
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        if take(&self.refuse) {
            return client
                .write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        server.write_all(&buffer[..read])?;
        let (mut back, mut answers) = (client.try_clone()?, server.try_clone()?);
        std::thread::spawn(move || {
            let _ended = std::io::copy(&mut answers, &mut back);
            let _closed = back.shutdown(Shutdown::Both);
        });
        let mut passed = read;
        loop {
            let read = client.read(&mut buffer)?;
            if read == 0 {
                return server.shutdown(Shutdown::Write);
            }
            passed += read;
            if passed > CUT_AFTER && take(&self.cut) {
                client.shutdown(Shutdown::Both)?;
                return server.shutdown(Shutdown::Both);
            }
            server.write_all(&buffer[..read])?;
        }
    }
}
