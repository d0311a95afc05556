//! What a backup costs: `agent backup` beside today's `pg_dump | gzip`, in a container of PostgreSQL's image, on the same
//! database, in turns; and what a load on that database notices of either.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::docker;

use crate::figures::{aim, table};
use crate::filled::Filled;

const QUERY: &str = "\\set id random(1, ROWS)\nSELECT body, facts FROM documents WHERE id = :id;\n\
    SELECT count(*) FROM documents WHERE author = 'user' || (:id % 500) AND made > timestamptz '2026-01-01' + :id * interval '7 seconds';\n";
/// Transactions a second that the load asks for: about a quarter of what two cores do.
const RATE: u32 = 200;
const QUIET_SECONDS: u64 = 15;

/// Of one way of making a backup.
#[derive(Default)]
struct Way {
    seconds: Vec<f64>,
    bytes: u64,
    p99: Vec<f64>,
}

pub(crate) async fn run(agent: &Path, rounds: u32, gigabytes: u64) -> Result<()> {
    ensure!(rounds > 0 && gigabytes > 0, "at least one round, and one gigabyte");
    for version in [17, 15] {
        let server = Filled::start("backup", version, agent).await?;
        let result = Box::pin(server.measure(rounds, gigabytes)).await;
        docker(["rm", "-fv", &server.name]).await?;
        result?;
    }
    Ok(())
}

impl Filled {
    async fn measure(&self, rounds: u32, gigabytes: u64) -> Result<()> {
        let (rows, size) = self.fill(gigabytes).await?;
        self.sh(&format!("cat >/tmp/query.sql <<'END'\n{}END", QUERY.replace("ROWS", &rows.to_string()))).await?;
        println!("\nPostgreSQL {}: {rows} rows, {} bytes, {rounds} rounds in turns", self.version, size);
        let alone = self.p99(&format!("sleep {QUIET_SECONDS}")).await?.1;
        let (mut gzip, mut dump, mut whole, mut peak) = (Way::default(), Way::default(), Way::default(), 0);
        for _ in 0..rounds {
            self.one(&mut gzip, "pg_dump -h 127.0.0.1 -U postgres app | gzip >/tmp/out/dump", true).await?;
            self.one(&mut dump, &self.dump_alone(), false).await?;
            self.one(&mut whole, AGENT, true).await?;
            peak = peak.max(self.sh("cat /tmp/peak").await?.parse::<u64>().context("kilobytes")?);
        }
        print(alone, &gzip, &dump, &whole, peak);
        Ok(())
    }

    /// As the agent has it done: from 16 on by `pg_dump` itself.
    fn dump_alone(&self) -> String {
        let dump = "pg_dump -h 127.0.0.1 -U postgres -Fc";
        if self.version >= 16 {
            return format!("{dump} -Z zstd:1 app >/tmp/out/dump");
        }
        format!("{dump} -Z 0 app | zstd -1 -q >/tmp/out/dump")
    }

    /// Once without a load, for its time, and once with one, for its p99.
    async fn one(&self, way: &mut Way, command: &str, loaded: bool) -> Result<()> {
        self.sh("rm -rf /tmp/out/*; sync").await?;
        let began = Instant::now();
        self.sh(command).await?;
        way.seconds.push(began.elapsed().as_secs_f64());
        way.bytes =
            self.sh("du -ab /tmp/out | sort -n | grep dump$ | tail -1 | cut -f1").await?.parse().context("bytes")?;
        if loaded {
            self.sh("rm -rf /tmp/out/*; sync").await?;
            way.p99.push(self.p99(command).await?.1);
        }
        Ok(())
    }

    /// Transactions while a command runs, and milliseconds that ninety-nine of a hundred took at most.
    async fn p99(&self, command: &str) -> Result<(usize, f64)> {
        let load = format!(
            "rm -f /tmp/load.*; (cd /tmp && exec pgbench -h 127.0.0.1 -U postgres -n -f query.sql -c 4 -R {RATE} -T 600 -l --log-prefix=/tmp/load app >/dev/null 2>&1) & \
             sleep 2; {command}; kill -INT %1; wait; cat /tmp/load.* | cut -d' ' -f3"
        );
        let mut times: Vec<f64> = self.sh(&load).await?.lines().filter_map(|line| line.parse().ok()).collect();
        ensure!(times.len() > 500, "only {} transactions", times.len());
        times.sort_by(f64::total_cmp);
        Ok((times.len(), times[times.len() * 99 / 100] / 1000.0))
    }
}

fn print(alone: f64, gzip: &Way, dump: &Way, whole: &Way, peak: u64) {
    let rows = [("pg_dump | gzip", gzip), ("the dump alone", dump), ("agent backup, whole", whole)];
    let rows: Vec<_> = rows.into_iter().map(|(name, way)| way.row(name)).collect();
    table(&["", "seconds", "median", "bytes", "p99 of the load, ms"], &rows);
    println!("p99 without a backup: {alone:.1} ms; the agent's peak: {:.1} MiB", mib(peak));
    let (dump_ratio, whole_ratio) = (gzip.median() / dump.median(), gzip.median() / whole.median());
    aim("the dump alone at least 3 times as fast", &format!("{dump_ratio:.2}"), dump_ratio >= 3.0);
    aim("at no more bytes", &format!("{} of {}", dump.bytes, gzip.bytes), dump.bytes <= gzip.bytes);
    aim("the whole run at least 1.5 times as fast", &format!("{whole_ratio:.2}"), whole_ratio >= 1.5);
    let (ours, todays) = (median(&whole.p99), median(&gzip.p99));
    aim("the load's p99 no worse", &format!("{ours:.1} ms, today {todays:.1} ms"), ours <= todays);
    aim("the agent below 128 MiB", &format!("{:.1} MiB", mib(peak)), peak < 128 * 1024);
}

/// Its peak is looked at until it ends.
const AGENT: &str = "export ODOOAI_DATABASE_HOST=127.0.0.1 ODOOAI_DATABASE_PORT=5432 ODOOAI_DATABASE_NAME=app \
    ODOOAI_DATABASE_USER=postgres ODOOAI_DATABASE_PASSWORD_FILE=/tmp/password ODOOAI_LOCK_DATABASE=postgres \
    ODOOAI_BACKUP_POLICY=bench ODOOAI_BACKUP_NAMESPACE=ns ODOOAI_BACKUP_STACK=stack ODOOAI_BACKUP_VOLUME=/tmp/out \
    ODOOAI_TERMINATION_LOG=/tmp/report; \
    /agent backup >/tmp/agent.log 2>&1 & agent=$!; \
    while peak=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$agent/status 2>/dev/null) && [ -n \"$peak\" ]; do \
    echo $peak >/tmp/peak; sleep 0.1; done; wait $agent || { tail -3 /tmp/agent.log; exit 1; }";

impl Way {
    fn median(&self) -> f64 {
        median(&self.seconds)
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mut seconds = String::new();
        for time in &self.seconds {
            let _never_fails = write!(seconds, "{time:.1} ");
        }
        let p99 = if self.p99.is_empty() { String::new() } else { format!("{:.1}", median(&self.p99)) };
        let median = format!("{:.1}", self.median());
        vec![name.to_owned(), seconds.trim().to_owned(), median, self.bytes.to_string(), p99]
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "kilobytes of a process")]
fn mib(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1024.0
}
