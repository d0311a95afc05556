//! Logs: one JSON object per line on stderr, without secrets.

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::fmt::MakeWriter;

use crate::redact::Redactor;

/// Writes each event through the redactor.
struct RedactedStderr(Arc<Redactor>);

/// One event on its way to stderr.
struct Line<'a>(&'a Redactor);

impl<'a> MakeWriter<'a> for RedactedStderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        // The formatter writes a whole event at once, so no secret is cut in two.
        let text = String::from_utf8_lossy(buffer);
        // An error would make the library panic, and nobody reads a broken stderr.
        let _unread = std::io::stderr().write_all(self.0.redact(&text).as_bytes());
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Prints a line of a Job's log. A reader that went away is no reason to stop.
pub(crate) fn print_line(line: &str) {
    let _unread = writeln!(std::io::stdout().lock(), "{line}");
}

/// Sets up logging for the process; a second call changes nothing.
pub(crate) fn init(redactor: &Arc<Redactor>) {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(RedactedStderr(Arc::clone(redactor)))
        .finish();
    let _already_set = tracing::subscriber::set_global_default(subscriber);
}
