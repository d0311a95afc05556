//! The agent: one small static binary that runs in the pods and Jobs of the stack.

mod backup;
mod catalogue;
mod config;
mod downgrade;
mod dump;
mod encode;
mod flag;
mod install;
mod job;
mod login;
mod migrate;
mod odoo;
mod pidbox;
mod plan;
mod postgres;
mod probe;
mod redact;
mod redis;
mod redis_url;
mod report;
mod restore;
mod role;
mod run;
mod schema;
mod secret;
mod serve;
mod signals;
mod sql;
mod sslmode;
mod telemetry;
mod tls;
mod verify;
mod wait;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Env;
use crate::redact::Redactor;
use crate::wait::Need;

/// Static helper of the Odoo AI operator, for the pods and Jobs of a stack.
#[derive(Debug, Parser)]
#[command(name = "agent", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy this binary to DIR/agent.
    Install {
        /// Target folder, an emptyDir that the pod's other containers mount.
        dir: PathBuf,
    },
    /// Wait for what the process needs, set its credentials and exec it.
    Run {
        /// What to wait for.
        #[arg(long, value_delimiter = ',', default_value = "database,redis,schema")]
        needs: Vec<Need>,
        /// The process and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Serve /startup, /status, /metrics and /healthz beside the ai-service.
    Serve {
        /// Address to listen on.
        #[arg(long, default_value = "0.0.0.0:9180")]
        listen: SocketAddr,
    },
    /// Ask whether a process of this pod works.
    #[command(subcommand)]
    Probe(Probe),
    /// Ensure role, database and schema; the command of a Job.
    Migrate,
    /// Tell what `migrate` would do, changing nothing; the command of a Job.
    Plan,
    /// Back the database up, prove that the dump can be read, and remove what is too many; the command of a Job.
    Backup,
    /// Restore a backup completely into a throw-away server and compare it with its manifest; the command of a Job.
    Verify,
    /// Tell which backups there are; the command of a Job.
    Catalogue,
    /// Remove all backups of a policy; the command of a Job.
    Purge,
    /// Undo revisions of the schema; run by hand in a container of the newer image.
    Downgrade(downgrade::Request),
    /// Prove new credentials by logging in, after changing them on Managed servers; the command of a Job.
    Login,
    /// Bring a backup back.
    #[command(subcommand)]
    Restore(Restore),
    /// Change one of the application's automation rules without its API.
    #[command(subcommand)]
    Flag(Flag),
}

#[derive(Debug, Subcommand)]
enum Restore {
    /// Load it into a new database beside the live one, and compare it with its manifest; the command of a Job.
    Load,
    /// Let it and the live database change places; the command of a Job.
    Swap,
    /// Bring chosen tables of the live database back to what was loaded; the command of a Job.
    Tables,
    /// Drop what was loaded and took no place, or what was set aside; the command of a Job.
    Discard,
    /// Fill an empty live database of a Managed server; the command of a Job.
    Bootstrap,
}

#[derive(Debug, Subcommand)]
enum Flag {
    /// Disable it in the database itself; the command of a Job.
    Disable,
}

#[derive(Debug, Subcommand)]
enum Probe {
    /// Ping this pod's Celery worker through Redis.
    Worker {
        /// Whole time for the answer, in seconds.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
        timeout_seconds: u64,
        /// Celery node name; default `celery@<host name>`.
        #[arg(long)]
        destination: Option<String>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let env = Env::from_process();
    let redactor = Arc::new(Redactor::from_env(&env));
    redactor.learn_files(&env);
    telemetry::init(&redactor);
    match args.command {
        Command::Install { dir } => install::main(&dir),
        Command::Run { needs, command } => run::main(&env, &redactor, &needs, &command),
        Command::Serve { listen } => serve::main(&env, &redactor, listen),
        Command::Probe(Probe::Worker { timeout_seconds, destination }) => {
            probe::main(&env, &redactor, Duration::from_secs(timeout_seconds), destination)
        }
        Command::Migrate => migrate::main(&env, &redactor),
        Command::Plan => plan::main(&env, &redactor),
        Command::Backup => backup::main(&env, &redactor),
        Command::Verify => verify::main(&env, &redactor),
        Command::Catalogue => catalogue::command::catalogue(&env, &redactor),
        Command::Purge => catalogue::command::purge(&env, &redactor),
        Command::Downgrade(request) => downgrade::main(&env, &redactor, &request),
        Command::Login => login::main(&env, &redactor),
        Command::Restore(Restore::Load) => restore::load(&env, &redactor),
        Command::Restore(Restore::Swap) => restore::swap(&env, &redactor),
        Command::Restore(Restore::Tables) => restore::tables(&env, &redactor),
        Command::Restore(Restore::Discard) => restore::discard(&env, &redactor),
        Command::Restore(Restore::Bootstrap) => restore::bootstrap(&env, &redactor),
        Command::Flag(Flag::Disable) => flag::disable(&env, &redactor),
    }
}

/// Runs a command's future on one thread, because a helper beside a small
/// application has nothing to compute and every thread costs memory.
///
/// # Errors
/// When the system refuses a runtime.
fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Name look-ups only; one that hangs must not hold up the others.
        .max_blocking_threads(4)
        .thread_stack_size(512 * 1024)
        .build()?;
    let output = runtime.block_on(future);
    // Dropping it would wait for a look-up that hangs.
    runtime.shutdown_background();
    Ok(output)
}
