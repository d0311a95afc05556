//! Process set-up: arguments, log, then [`odoo_ai_operator::run`].

use std::process::ExitCode;

use clap::Parser;
use odoo_ai_operator::args::Args;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
    match odoo_ai_operator::run::run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "operator ends");
            ExitCode::FAILURE
        }
    }
}
