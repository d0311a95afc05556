//! Figures of the operator, for `hack/bench`: what many stacks cost without nodes (`scale`), and
//! how long one takes on a real node beside a script that does the same (`cluster`), and what its
//! migrations cost (`migrate`), its rollouts (`rollout`), its routes (`routes`), its flags (`flags`), its backups (`backup`) and its restores (`restore`).

mod audit;
mod backup;
#[path = "../../../suites/stack/routes/client.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod client;
mod cluster;
mod figures;
mod filled;
mod flags;
#[path = "../../../suites/stack/flags/look.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod look;
#[path = "../../../suites/stack/memory.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod memory;
mod migrate;
#[path = "../../../suites/stack/operator.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod operator;
#[path = "../../../suites/stack/routes/pebble.rs"]
mod pebble;
#[path = "../../../suites/stack/poller.rs"]
mod poller;
mod process;
#[path = "../../../suites/stack/routes/proxy.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod proxy;
mod restore;
mod rollout;
#[path = "../../../suites/stack/room.rs"]
mod room;
mod routes;
mod scale;
mod script;
#[path = "../../../suites/stack/steady.rs"]
#[expect(dead_code, reason = "shared with the suite `stack`")]
mod steady;
mod world;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Figures of the operator")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Many stacks on a real API server without nodes; kubelet, controllers and agents are played.
    Scale(Scale),
    /// One stack on a real node, the operator and a script in turns.
    Cluster {
        /// How often each of the two has its turn.
        #[arg(long, default_value_t = 2)]
        rounds: u32,
        /// Length of the time without any change, seconds.
        #[arg(long, default_value_t = 600)]
        idle_seconds: u64,
    },
    /// Backups of a large database, beside `pg_dump | gzip`.
    Backup {
        /// The agent's release binary.
        #[arg(long)]
        agent: PathBuf,
        /// How often each of the ways has its turn.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Size of the database, 10^9 bytes.
        #[arg(long, default_value_t = 2)]
        gigabytes: u64,
    },
    /// Restores of a large database, beside `gunzip | psql`.
    Restore {
        /// The agent's release binary.
        #[arg(long)]
        agent: PathBuf,
        /// How often each of the ways has its turn.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// Size of the database, 10^9 bytes.
        #[arg(long, default_value_t = 2)]
        gigabytes: u64,
    },
    /// Updates on a real node, beside `kubectl rollout`, and ways back.
    Rollout {
        /// How often everything is measured.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
    },
    /// Routes through a real Traefik, beside a plain apply.
    Routes {
        /// How often each of the two has its turn.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Length of the time without any change, seconds.
        #[arg(long, default_value_t = 300)]
        idle_seconds: u64,
    },
    /// Flags on a real node, beside a script.
    Flags {
        /// How often each of the two has its turn.
        #[arg(long, default_value_t = 3)]
        rounds: u32,
        /// How many flags.
        #[arg(long, default_value_t = 100)]
        flags: usize,
        /// Length of the time without any change, seconds.
        #[arg(long, default_value_t = 600)]
        idle_seconds: u64,
    },
    /// Migrations on a real node, beside Alembic by hand.
    Migrate {
        /// How often everything is measured.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
}

#[derive(clap::Args)]
struct Scale {
    /// The operator's release binary.
    #[arg(long)]
    operator: PathBuf,
    /// Numbers of stacks, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    stacks: Vec<usize>,
    /// Length of the time without any change at the largest number, seconds; a fifth of it before.
    #[arg(long, default_value_t = 600)]
    idle_seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Scale(arguments) => Box::pin(scale::run(&arguments)).await,
        Command::Backup { agent, rounds, gigabytes } => Box::pin(backup::run(&agent, rounds, gigabytes)).await,
        Command::Restore { agent, rounds, gigabytes } => Box::pin(restore::run(&agent, rounds, gigabytes)).await,
        Command::Rollout { rounds } => Box::pin(rollout::run(rounds)).await,
        Command::Routes { rounds, idle_seconds } => Box::pin(routes::run(rounds, idle_seconds)).await,
        Command::Flags { rounds, flags, idle_seconds } => Box::pin(flags::run(rounds, flags, idle_seconds)).await,
        Command::Migrate { rounds } => Box::pin(migrate::run(rounds)).await,
        Command::Cluster { rounds, idle_seconds } => Box::pin(cluster::run(rounds, idle_seconds)).await,
    }
}
