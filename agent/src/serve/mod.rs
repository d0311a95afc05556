//! `agent serve`: the sidecar that tells kubelet, operator and Prometheus how the pod is.

mod broker;
mod database;
mod fresh;
mod holdout;
mod metrics;
mod observe;
mod status;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::{self, ConfigError, Env};
use crate::odoo;
use crate::redact::Redactor;
use crate::serve::observe::{Observation, Observer};
use crate::serve::status::{Startup, Status};
use crate::signals::Termination;

/// Requests that run when SIGTERM comes get this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why nothing is served.
#[derive(Debug, Error)]
enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    #[error("listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs the command until SIGTERM.
pub(crate) fn main(env: &Env, redactor: &Arc<Redactor>, listen: SocketAddr) -> ExitCode {
    let served = config::Serve::from_env(env)
        .map_err(ServeError::from)
        .and_then(|config| crate::block_on(serve(config, redactor, listen))?);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: config::Serve, redactor: &Arc<Redactor>, address: SocketAddr) -> Result<(), ServeError> {
    let mut termination = Termination::listen()?;
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr()?;
    let observer = Observer::start(config, odoo::client()?, redactor);
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, router(observer)).with_graceful_shutdown(async {
        let _asked_or_gone = stopped.await;
    });
    let server = server.into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return Ok(ended?),
        () = termination.received() => {}
    }
    tracing::info!("ending");
    let _receiver_lives = stop.send(());
    // An idle or slow client is not worth waiting for.
    let _late = tokio::time::timeout(FAREWELL, server).await;
    Ok(())
}

fn router(observer: Arc<Observer>) -> Router {
    Router::new()
        .route("/startup", get(startup))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(observer)
}

async fn startup(State(observer): State<Arc<Observer>>) -> impl IntoResponse {
    // In a task of its own: a client that hangs up must not break off what others wait for.
    let (basics, held_back) = tokio::spawn(async move {
        let basics = observer.basics().await;
        let held_back = observer.held_back(&basics);
        (basics, held_back)
    })
    .await
    .expect("an observation neither panics nor is cancelled");
    let started = basics.all() && held_back.is_none();
    let code = if started { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Startup::new(&basics, held_back)))
}

async fn status(State(observer): State<Arc<Observer>>) -> Json<Status> {
    Json(Status::from(everything(observer).await))
}

async fn metrics(State(observer): State<Arc<Observer>>) -> impl IntoResponse {
    let text = metrics::render(&everything(observer).await);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn everything(observer: Arc<Observer>) -> Observation {
    tokio::spawn(async move { observer.everything().await })
        .await
        .expect("an observation neither panics nor is cancelled")
}
