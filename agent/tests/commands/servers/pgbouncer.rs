//! `PgBouncer`.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::postgres::as_server_user;
use super::{Killed, Postgres, eventually, free_port};

/// One in front of a PostgreSQL; it lets everybody in as this user.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    pub(crate) port: u16,
    _process: Killed,
    _folder: TempDir,
}

impl PgBouncer {
    /// `None` where this machine has none. `settings` are further lines.
    pub(crate) fn start(server: &Postgres, user: &str, password: &str, settings: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from);
        let program = program.iter().find(|path| path.exists())?;
        let folder = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let quoted = password.replace('\'', "''");
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={user} password='{quoted}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n{settings}\n",
            server.port
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("written");
        open_to_all(folder.path());
        let process = as_server_user(program)?.arg("--quiet").arg(&file).stderr(Stdio::null()).spawn().ok()?;
        let process = Killed(process);
        eventually("PgBouncer listens", Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { port, _process: process, _folder: folder })
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("our folder");
}
