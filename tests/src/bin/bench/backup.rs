//! What a backup costs: `agent backup` beside today's `pg_dump | gzip`, in a container of PostgreSQL's image, on the same
//! database, in turns; and what a load on that database notices of either.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::{docker, docker_quiet, wait_for};

use crate::figures::{aim, table};

/// Agents of a company's platform: texts, JSON, indexes. About 500 bytes a row, a third of them indexes and overhead.
const FILL: &str = "
CREATE TABLE documents (id bigint PRIMARY KEY, kind text, author text, body text, facts jsonb, made timestamptz);
INSERT INTO documents
SELECT g, (ARRAY['invoice','order','ticket','lead'])[1 + g % 4], 'user' || g % 500,
  repeat((ARRAY['The customer asks for a delivery date. ','Payment is late by days. ','Please see the order. '])[1 + g % 3], 2)
    || md5(g::text) || md5((g * 7)::text),
  jsonb_build_object('amount', g % 10007, 'partner', md5((g % 9973)::text), 'tags', ARRAY['a' || g % 13, 'b' || g % 17]),
  timestamptz '2026-01-01' + g * interval '7 seconds'
FROM generate_series(FROM_ROW, TO_ROW) g;
";
const INDEXES: &str = "
CREATE INDEX ON documents (author, made); CREATE INDEX ON documents (kind, made); CREATE INDEX ON documents USING gin (facts);
CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('003'); VACUUM ANALYZE;
";
const QUERY: &str = "\\set id random(1, ROWS)\nSELECT body, facts FROM documents WHERE id = :id;\n\
    SELECT count(*) FROM documents WHERE author = 'user' || (:id % 500) AND made > timestamptz '2026-01-01' + :id * interval '7 seconds';\n";
/// Rows that are made at a time.
const BATCH: u64 = 200_000;
const COMES_UP: Duration = Duration::from_mins(1);
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
        let server = Server::start(version, agent).await?;
        let result = Box::pin(server.measure(rounds, gigabytes)).await;
        docker(["rm", "-fv", &server.name]).await?;
        result?;
    }
    Ok(())
}

struct Server {
    version: u32,
    name: String,
}

impl Server {
    async fn start(version: u32, agent: &Path) -> Result<Self> {
        let name = format!("odooai-bench-backup-{version}");
        docker_quiet(["rm", "-fv", &name]).await;
        let agent = format!("{}:/agent:ro", agent.display());
        let image = format!("postgres:{version}");
        let run =
            ["run", "-d", "--shm-size=1g", "--name", &name, "-v", &agent, "-e", "POSTGRES_PASSWORD=bench", &image];
        let settings = ["-c", "max_wal_size=4GB", "-c", "maintenance_work_mem=256MB"];
        docker(run.into_iter().chain(settings)).await?;
        let server = Self { version, name };
        wait_for("PostgreSQL", COMES_UP, || async {
            Ok(server.sh("psql -h 127.0.0.1 -U postgres -Atqc 'SELECT 1'").await.is_ok().then_some(()))
        })
        .await?;
        Ok(server)
    }

    async fn sh(&self, script: &str) -> Result<String> {
        let exec =
            ["exec", "-u", "postgres", "-e", "PGPASSWORD=bench", &self.name, "bash", "-o", "pipefail", "-c", script];
        docker(exec).await
    }

    async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.sh(&format!("psql -h 127.0.0.1 -U postgres -d {database} -v ON_ERROR_STOP=1 -Atqc \"{sql}\"")).await
    }

    /// Rows until the database is as large as is asked for.
    async fn fill(&self, gigabytes: u64) -> Result<(u64, u64)> {
        self.sql("postgres", "CREATE DATABASE app").await?;
        let size = async || self.sql("app", "SELECT pg_database_size('app')").await?.parse::<u64>().context("a size");
        let mut rows = 0;
        // The indexes take another fifth.
        while size().await? < gigabytes * 1_000_000_000 * 4 / 5 {
            let fill = FILL.replace("FROM_ROW", &(rows + 1).to_string()).replace("TO_ROW", &(rows + BATCH).to_string());
            let fill =
                if rows == 0 { fill } else { fill.split_once(";\n").map(|it| it.1.to_owned()).unwrap_or_default() };
            self.sql("app", &fill).await?;
            rows += BATCH;
        }
        self.sh(&format!("psql -h 127.0.0.1 -U postgres -d app -v ON_ERROR_STOP=1 -q <<'END'\n{INDEXES}\nEND")).await?;
        self.sh(&format!(
            "cat >/tmp/query.sql <<'END'\n{}END\nmkdir -p /tmp/out && printf bench >/tmp/password",
            QUERY.replace("ROWS", &rows.to_string())
        ))
        .await?;
        Ok((rows, size().await?))
    }

    async fn measure(&self, rounds: u32, gigabytes: u64) -> Result<()> {
        let (rows, size) = self.fill(gigabytes).await?;
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
