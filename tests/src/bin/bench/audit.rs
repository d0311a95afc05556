//! What the operator asked of the API server, by the API server's own audit log.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

/// Reads the log from where it stopped the last time.
pub(crate) struct Audit {
    path: PathBuf,
    offset: u64,
}

/// Requests of a stretch of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// Everything but watches and what belongs to the Lease.
    pub(crate) reads: u64,
    /// What changes an object, the Lease excluded, by verb and resource.
    pub(crate) writes: BTreeMap<String, u64>,
    /// About the Lease.
    pub(crate) lease: u64,
}

impl Requests {
    pub(crate) fn written(&self) -> u64 {
        self.writes.values().sum()
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.reads += more.reads;
        self.lease += more.lease;
        for (what, count) in more.writes {
            *self.writes.entry(what).or_default() += count;
        }
    }

    /// `create pods 3, patch …`
    pub(crate) fn list(&self) -> String {
        let mut text = String::new();
        for (what, count) in &self.writes {
            let _ = write!(text, "{}{what} {count}", if text.is_empty() { "" } else { ", " });
        }
        text
    }
}

impl Audit {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0 }
    }

    /// What was asked since the last look.
    pub(crate) fn since(&mut self) -> Result<Requests> {
        let mut requests = Requests::default();
        let mut file = File::open(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        loop {
            line.clear();
            let read = lines.read_line(&mut line)?;
            // The last line may still be written.
            if read == 0 || !line.ends_with('\n') {
                return Ok(requests);
            }
            self.offset += u64::try_from(read)?;
            count(&mut requests, &serde_json::from_str(&line)?);
        }
    }
}

fn count(requests: &mut Requests, event: &Value) {
    let verb = event["verb"].as_str().unwrap_or_default();
    let object = &event["objectRef"];
    let resource = object["resource"].as_str().unwrap_or_default();
    match verb {
        _ if resource == "leases" => requests.lease += 1,
        "watch" => {}
        "get" | "list" => requests.reads += 1,
        _ => {
            let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
            *requests.writes.entry(format!("{verb} {resource}{part}")).or_default() += 1;
        }
    }
}
