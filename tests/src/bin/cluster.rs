//! The harness by hand, for `hack/`: start, find, load, reboot and remove a cluster.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use odoo_ai_tests::{Cluster, Run, sweep};

#[derive(Parser)]
#[command(about = "Clusters for tests and for hack/up")]
struct Arguments {
    /// The run whose cluster is meant; without it the lasting one of hack/up.
    #[arg(long, global = true, env = "ODOOAI_TEST_RUN")]
    run: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the cluster, or find the one that runs; prints its kubeconfig.
    Up,
    /// Remove the cluster and everything in it.
    Down,
    /// Remove what runs that are over have left.
    Sweep,
    /// Print the kubeconfig's path.
    Kubeconfig,
    /// Print the node's address.
    Ip,
    /// Make images of this machine known to the node.
    Load {
        /// Their names.
        images: Vec<String>,
    },
    /// Reboot the node and wait until it is ready again.
    Reboot,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let run = match &arguments.run {
        Some(name) => Run::named(name)?,
        None => Run::lasting()?,
    };
    match arguments.command {
        Command::Up => {
            for container in sweep().await? {
                eprintln!("removed {container}, left by a run that is over");
            }
            let cluster = match Cluster::find(run.clone()).await? {
                Some(cluster) => cluster,
                None => Cluster::start(run).await?,
            };
            println!("{}", cluster.kubeconfig().display());
        }
        Command::Down => run.remove().await?,
        Command::Sweep => {
            for container in sweep().await? {
                println!("{container}");
            }
        }
        Command::Kubeconfig => println!("{}", run.kubeconfig().display()),
        Command::Ip => println!("{}", existing(run).await?.node_ip().await?),
        Command::Load { images } => {
            for image in existing(run).await?.load_images(&images).await? {
                println!("{image}");
            }
        }
        Command::Reboot => {
            let took = existing(run).await?.reboot().await?;
            println!("ready again after {:.1} s", took.as_secs_f64());
        }
    }
    Ok(())
}

async fn existing(run: Run) -> Result<Cluster> {
    Cluster::find(run).await?.context("there is no cluster: run hack/up")
}
