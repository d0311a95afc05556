//! What a restore costs: `agent restore load` beside today's `gunzip | psql`, in a container of PostgreSQL's image, on the
//! same server, in turns.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use odoo_ai_tests::docker;

use crate::figures::{aim, table};
use crate::filled::Filled;

/// What the agent reads to know server and storage.
const ENVIRONMENT: &str = "export ODOOAI_DATABASE_HOST=127.0.0.1 ODOOAI_DATABASE_PORT=5432 ODOOAI_DATABASE_NAME=app \
    ODOOAI_DATABASE_USER=postgres ODOOAI_DATABASE_PASSWORD_FILE=/tmp/password ODOOAI_LOCK_DATABASE=postgres \
    ODOOAI_BACKUP_POLICY=bench ODOOAI_BACKUP_NAMESPACE=ns ODOOAI_BACKUP_STACK=stack ODOOAI_BACKUP_VOLUME=/tmp/out \
    ODOOAI_TERMINATION_LOG=/tmp/report ODOOAI_RESTORE_OWNER=bench ODOOAI_RESTORE_DATABASE=restored \
    ODOOAI_RESTORE_SELECTOR=Latest";

/// A command, looked at until it ends: the peak of all that it starts, in kilobytes.
const WATCHED: &str = "total() { for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in agent|pg_restore|gunzip|gzip|psql) sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' $p/status 2>/dev/null;; esac; done | awk '{s+=$1} END {print s+0}'; }; \
    ( COMMAND ) >/tmp/restore.log 2>&1 & work=$!; peak=0; \
    while kill -0 $work 2>/dev/null; do now=$(total); [ \"$now\" -gt $peak ] && peak=$now; sleep 0.2; done; \
    wait $work || { tail -3 /tmp/restore.log; exit 1; }; echo $peak";

/// Of one way of restoring.
#[derive(Default)]
struct Way {
    seconds: Vec<f64>,
    peak: u64,
}

pub(crate) async fn run(agent: &Path, rounds: u32, gigabytes: u64) -> Result<()> {
    ensure!(rounds > 0 && gigabytes > 0, "at least one round, and one gigabyte");
    for version in [17, 15] {
        let server = Filled::start("restore", version, agent).await?;
        let result = Box::pin(server.restore(rounds, gigabytes)).await;
        docker(["rm", "-fv", &server.name]).await?;
        result?;
    }
    Ok(())
}

impl Filled {
    async fn restore(&self, rounds: u32, gigabytes: u64) -> Result<()> {
        let (rows, size) = self.fill(gigabytes).await?;
        println!("\nPostgreSQL {}: {rows} rows, {size} bytes, {rounds} rounds in turns", self.version);
        let one_table = self.rounds(rounds).await?;
        let size = self.divide().await?;
        println!("\nPostgreSQL {}: the rows in four tables, {size} bytes, {rounds} rounds in turns", self.version);
        let four_tables = self.rounds(rounds).await?;
        aim("never slower than today", &format!("{one_table:.2}"), one_table >= 1.0);
        aim("1.5 times as fast where several tables allow it", &format!("{four_tables:.2}"), four_tables >= 1.5);
        Ok(())
    }

    /// How many times as fast as today's the agent is when it uses as many sessions as the operator asks for.
    async fn rounds(&self, rounds: u32) -> Result<f64> {
        self.sh("rm -rf /tmp/out/*").await?;
        self.sh("pg_dump -h 127.0.0.1 -U postgres app | gzip >/tmp/old.sql.gz").await?;
        self.sh(&format!("{ENVIRONMENT}; /agent backup >/tmp/agent.log 2>&1 || {{ tail -3 /tmp/agent.log; exit 1; }}"))
            .await?;
        let (mut today, mut one, mut two) = (Way::default(), Way::default(), Way::default());
        let psql = "createdb -h 127.0.0.1 -U postgres restored && gunzip -c /tmp/old.sql.gz | psql -h 127.0.0.1 -U postgres -d restored -q -v ON_ERROR_STOP=1";
        let wanted = self.look("app").await?;
        for _ in 0..rounds {
            self.turn(&mut today, psql, &wanted).await?;
            for (way, jobs) in [(&mut one, 1), (&mut two, 2)] {
                let load = format!("{ENVIRONMENT} ODOOAI_RESTORE_JOBS={jobs}; /agent restore load");
                self.turn(way, &load, &wanted).await?;
            }
        }
        let rows = [("gunzip | psql", &today), ("agent restore load", &one), ("the same, two sessions", &two)];
        let rows: Vec<_> = rows.into_iter().map(|(name, way)| way.row(name)).collect();
        table(&["", "seconds", "median", "peak, MiB"], &rows);
        Ok(today.median() / two.median())
    }

    /// Rows and indexes of a database.
    async fn look(&self, database: &str) -> Result<String> {
        let indexes = "SELECT tablename || ' ' || count(*) FROM pg_indexes WHERE schemaname = 'public' GROUP BY tablename ORDER BY 1";
        let rows = "SELECT relname || ' ' || (xpath('/row/count/text()', query_to_xml(format('SELECT count(*) FROM %I', relname), false, true, '')))[1] FROM pg_stat_user_tables ORDER BY 1";
        Ok(self.sql(database, indexes).await? + &self.sql(database, rows).await?)
    }

    async fn turn(&self, way: &mut Way, command: &str, wanted: &str) -> Result<()> {
        self.sh(
            "dropdb -h 127.0.0.1 -U postgres --if-exists restored; sync; psql -h 127.0.0.1 -U postgres -qc CHECKPOINT",
        )
        .await?;
        let began = Instant::now();
        let peak = self.sh(&WATCHED.replace("COMMAND", command)).await?;
        way.seconds.push(began.elapsed().as_secs_f64());
        let peak = peak.trim().parse().context("kilobytes")?;
        ensure!(peak > 0, "nobody was looked at");
        way.peak = way.peak.max(peak);
        let restored = self.look("restored").await?;
        ensure!(restored == wanted, "restored is {restored} instead of {wanted}");
        Ok(())
    }
}

impl Way {
    fn median(&self) -> f64 {
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or_default()
    }

    fn row(&self, name: &str) -> Vec<String> {
        let mut seconds = String::new();
        for time in &self.seconds {
            let _never_fails = write!(seconds, "{time:.1} ");
        }
        vec![
            name.to_owned(),
            seconds.trim().to_owned(),
            format!("{:.1}", self.median()),
            (self.peak / 1024).to_string(),
        ]
    }
}
