//! A PostgreSQL in a container of its image, with a database as large as is asked for, and the agent beside it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use odoo_ai_tests::{docker, docker_quiet, wait_for};

/// Agents of a company's platform: texts, JSON, indexes. About 500 bytes a row, a third of them indexes and overhead.
const TABLE: &str = "
CREATE TABLE documents (id bigint PRIMARY KEY, kind text, author text, body text, facts jsonb, made timestamptz);
CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('003');
";
const FILL: &str = "
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
VACUUM ANALYZE;
";
/// The same rows in four tables, each with b-trees only.
const SEVERAL: &str = "
DO $$ BEGIN FOR part IN 0..3 LOOP
EXECUTE format('CREATE TABLE documents_%s AS SELECT * FROM documents WHERE id %% 4 = %s', part, part);
EXECUTE format('ALTER TABLE documents_%s ADD PRIMARY KEY (id)', part);
EXECUTE format('CREATE INDEX ON documents_%s (author, made)', part);
EXECUTE format('CREATE INDEX ON documents_%s (kind, made)', part);
EXECUTE format('CREATE INDEX ON documents_%s (md5(body))', part);
END LOOP; END $$;
DROP TABLE documents;
VACUUM ANALYZE;
";
/// Rows that are made at a time.
const BATCH: u64 = 200_000;
const COMES_UP: Duration = Duration::from_mins(1);

/// The server.
pub(crate) struct Filled {
    pub(crate) version: u32,
    pub(crate) name: String,
}

impl Filled {
    pub(crate) async fn start(of: &str, version: u32, agent: &Path) -> Result<Self> {
        let name = format!("odooai-bench-{of}-{version}");
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

    pub(crate) async fn sh(&self, script: &str) -> Result<String> {
        let exec =
            ["exec", "-u", "postgres", "-e", "PGPASSWORD=bench", &self.name, "bash", "-o", "pipefail", "-c", script];
        docker(exec).await
    }

    pub(crate) async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.sh(&format!("psql -h 127.0.0.1 -U postgres -d {database} -v ON_ERROR_STOP=1 -Atqc \"{sql}\"")).await
    }

    async fn script(&self, sql: &str) -> Result<()> {
        let psql = format!("psql -h 127.0.0.1 -U postgres -d app -v ON_ERROR_STOP=1 -q <<'END'\n{sql}\nEND");
        self.sh(&psql).await.map(drop)
    }

    /// Makes four tables of the one, and what they take.
    pub(crate) async fn divide(&self) -> Result<u64> {
        self.script(SEVERAL).await?;
        self.size().await
    }

    async fn size(&self) -> Result<u64> {
        self.sql("app", "SELECT pg_database_size('app')").await?.trim().parse().context("a size")
    }

    /// Rows until the database is as large as is asked for.
    pub(crate) async fn fill(&self, gigabytes: u64) -> Result<(u64, u64)> {
        self.sql("postgres", "CREATE DATABASE app").await?;
        self.sql("app", TABLE).await?;
        let mut rows = 0;
        // The indexes take another fifth.
        while self.size().await? < gigabytes * 1_000_000_000 * 4 / 5 {
            let fill = FILL.replace("FROM_ROW", &(rows + 1).to_string()).replace("TO_ROW", &(rows + BATCH).to_string());
            self.sql("app", &fill).await?;
            rows += BATCH;
        }
        self.script(INDEXES).await?;
        self.sh("mkdir -p /tmp/out && printf bench >/tmp/password").await?;
        Ok((rows, self.size().await?))
    }
}
