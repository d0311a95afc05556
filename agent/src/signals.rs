//! SIGTERM and SIGINT, which PID 1 only gets when it asks for them.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of a process that SIGTERM ended, as shells count.
pub(crate) const TERMINATED: u8 = 143;

/// Listens from its creation on, so that no signal is lost between two waits.
#[derive(Debug)]
pub(crate) struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Starts to listen; needs a running tokio runtime.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves when the process is asked to end.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
