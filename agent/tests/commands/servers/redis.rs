//! Redis.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Killed, PASSWORD, eventually};
use crate::certificates::Issued;

/// A Redis with [`PASSWORD`].
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    process: Killed,
}

/// Everything but letters and digits percent-encoded.
pub(crate) fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        out
    })
}

impl Redis {
    /// `None` where this machine has none.
    pub(crate) fn start(port: u16) -> Option<Self> {
        Self::run(port, None, "no")
    }

    /// One that speaks TLS only.
    pub(crate) fn start_tls(port: u16, certificate: &Issued) -> Option<Self> {
        Self::run(port, Some(certificate), "no")
    }

    /// One that asks its clients for certificates too, as Redis does by default.
    pub(crate) fn start_mutual_tls(port: u16, certificate: &Issued) -> Option<Self> {
        Self::run(port, Some(certificate), "yes")
    }

    fn run(port: u16, certificate: Option<&Issued>, client_certificates: &str) -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", ""]).args(["--requirepass", PASSWORD, "--dir"]);
        command.arg(folder.path());
        if let Some(certificate) = certificate {
            let (certificate, key) = certificate.store(folder.path());
            command.args(["--port", "0", "--tls-port", &port.to_string(), "--tls-auth-clients", client_certificates]);
            command.arg("--tls-cert-file").arg(&certificate).arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(certificate);
        } else {
            command.args(["--port", &port.to_string()]);
        }
        let process = Killed(command.stdout(Stdio::null()).spawn().ok()?);
        eventually("Redis listens", Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let redis = Self { port, folder, process };
        redis.write_url(&format!("redis://:{}@127.0.0.1:{port}/0", url_encoded(PASSWORD)));
        Some(redis)
    }

    /// Where the URL is that lets the agent in.
    pub(crate) fn url_file(&self) -> PathBuf {
        self.folder.path().join("redis-url")
    }

    pub(crate) fn write_url(&self, url: &str) {
        std::fs::write(self.url_file(), url).expect("written");
    }

    /// Freezes it for good; it still ends with the value.
    pub(crate) fn stop(&self) {
        let sent = Command::new("kill").args(["-STOP", &self.process.0.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// A connection of the test's own; plain servers only.
    pub(crate) fn connection(&self) -> redis::Connection {
        self.try_connection(PASSWORD).expect("Redis accepts the test")
    }

    /// The same with another password.
    pub(crate) fn try_connection(&self, password: &str) -> redis::RedisResult<redis::Connection> {
        let settings = redis::RedisConnectionInfo::default().set_password(password);
        let address = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = redis::IntoConnectionInfo::into_connection_info(address)?.set_redis_settings(settings);
        redis::Client::open(info)?.get_connection()
    }
}
