//! Start and end of the process: Lease, CRDs, controllers, graceful shutdown.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use odoo_ai_crds::backup::Backup;
use odoo_ai_crds::flag::FeatureFlag;
use odoo_ai_crds::restore::Restore;
use odoo_ai_crds::stack::OdooAiStack;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::cluster::bell::Bell;
use crate::cluster::cache::{Scope, Streams};
use crate::cluster::cached::{Cached, Filler, cached};
use crate::cluster::client;
use crate::cluster::nodes::Nodes;
use crate::context::Context;
use crate::leader::Leader;
use crate::metrics::Metrics;
use crate::routes::entrance::Entrance;
use crate::routes::probe::Proxy;
use crate::routes::rivals::Stacks;
use crate::server::{self, Ready};
use crate::{backup, flag, labels, restore, stack};

/// Time for reconciles under way after SIGTERM; the pod's grace is 30 seconds.
const LAST_RECONCILES: Duration = Duration::from_secs(20);

/// Why the operator ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration for the API server, or it can't be reached.
    #[error("API server: {0}")]
    Client(#[from] kube::Error),
    /// Neither in a pod nor with a kubeconfig.
    #[error("configuration: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The Lease can't be had.
    #[error("lease: {0}")]
    Lease(#[from] kube_lease_manager::LeaseManagerError),
    /// Somebody else holds the Lease now.
    #[error("the lease was lost; another operator acts")]
    LeaseLost,
    /// The health endpoints can't be served.
    #[error("health endpoints: {0}")]
    Serve(#[from] std::io::Error),
    /// The HTTP client can't be built.
    #[error("HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// An [`Error`] when the process should be started again.
pub async fn run(args: Args) -> Result<(), Error> {
    let (metrics, registry) = Metrics::registered();
    let client = client::connect(kube::Config::infer().await?, &metrics)?;
    let ready = Ready::default();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), scopes = ?args.scopes(), "operator starts");
    let shutdown = signals()?.shared();
    let endpoints = tokio::spawn(server::serve(args.listen, registry, ready.clone(), shutdown.clone()));

    let work = act(&args, client, metrics, ready, shutdown.clone());
    let endpoints_failed = async {
        match endpoints.await.map_err(std::io::Error::other) {
            Ok(Err(error)) | Err(error) => error,
            // A graceful end of the endpoints must not cut the controllers short.
            Ok(Ok(())) => std::future::pending().await,
        }
    };
    tokio::select! {
        result = work => result?,
        error = endpoints_failed => return Err(error.into()),
    }
    tracing::info!("operator ends as asked");
    Ok(())
}

/// Waits for CRDs and Lease, then runs the controllers until `shutdown`.
async fn act(
    args: &Args,
    client: Client,
    metrics: Metrics,
    ready: Ready,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> Result<(), Error> {
    tracing::info!("waiting for the lease");
    let leader = Leader::new(client.clone(), &args.operator_namespace, &args.pod_name).await?;
    tokio::select! {
        held = leader.acquire() => held?,
        () = shutdown.clone() => return Ok(()),
    }
    tracing::info!("lease held");
    metrics.leader.set(1);
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(2))
        // A redirect would carry the API key to wherever it points.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // A connection that is kept costs 34 KiB for each agent, a new one every few seconds next to nothing.
        .pool_max_idle_per_host(0)
        .build()?;
    let scopes = args.scopes();
    let traefik = &args.traefik;
    let entrance = Arc::new(Entrance::at(&traefik.host, traefik.read_service));
    let nodes = Arc::new(Nodes::new(args.node_images));
    let stores: Vec<_> = scopes.iter().map(|_| cached()).collect();
    let stacks = Stacks::new(stores.iter().map(|(reader, _)| reader.clone()).collect());
    let controllers = scopes.iter().zip(stores).map(|(scope, store)| {
        let (mut ctx, streams) =
            Context::new(client.clone(), http.clone(), scope, &args.pod_name, args.operator(), metrics.clone());
        ctx.nodes = Arc::clone(&nodes);
        ctx.entrance = Arc::clone(&entrance);
        ctx.stacks = stacks.clone();
        ctx.proxy = Proxy::on(&traefik.host, traefik.http_port, traefik.https_port);
        let (client, ready, shutdown) = (client.clone(), ready.clone(), shutdown.clone());
        // Each by itself: a namespace that is gone keeps no other one from its operator.
        async move {
            tokio::select! {
                () = crds(&client, scope) => {}
                () = shutdown.clone() => return,
            }
            ready.set(true);
            control(ctx, scope, streams, store, shutdown).await;
        }
    });
    let out_of_patience = async {
        shutdown.clone().await;
        tokio::time::sleep(LAST_RECONCILES).await;
    };
    tokio::select! {
        _ = join_all(controllers) => {
            leader.release().await;
            Ok(())
        }
        () = out_of_patience => {
            tracing::warn!("reconciles under way are cut off; the next operator goes on with them");
            leader.release().await;
            Ok(())
        }
        error = leader.lost() => {
            // Acting without the Lease would be two hands on one stack: end at once, start again as a stand-by.
            metrics.leader.set(0);
            Err(error.map_or(Error::LeaseLost, Error::Lease))
        }
    }
}

/// Runs the controllers of all kinds in one scope until `shutdown`.
pub async fn control(
    mut ctx: Context,
    scope: &Scope,
    streams: Streams,
    stacks: (Cached<OdooAiStack>, Filler<OdooAiStack>),
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let (bell, for_stacks) = Bell::new(labels::STACK);
    ctx.stack_bell = bell;
    let (bell, for_backups) = Bell::new(labels::BACKUP);
    ctx.backup_bell = bell;
    let (bell, for_restores) = Bell::new(labels::RESTORE);
    ctx.restore_bell = bell;
    let (restores, restores_filler) = cached();
    ctx.restores = restores;
    let (flags, flags_filler) = cached();
    ctx.flags = flags;
    let ctx = Arc::new(ctx);
    let backups = backup::run::run(Arc::clone(&ctx), scope, for_backups, shutdown.clone());
    let restores = restore::run::run(Arc::clone(&ctx), scope, restores_filler, for_restores, shutdown.clone());
    let flags = flag::run::run(Arc::clone(&ctx), scope, flags_filler, shutdown.clone());
    let stacks = stack::run::run(ctx, scope, streams, stacks, for_stacks, shutdown);
    futures::future::join4(stacks, backups, restores, flags).await;
}

/// Waits until all four kinds are served.
async fn crds(client: &Client, scope: &Scope) {
    crd::<OdooAiStack>(client, scope).await;
    crd::<Backup>(client, scope).await;
    crd::<Restore>(client, scope).await;
    crd::<FeatureFlag>(client, scope).await;
    tracing::info!(?scope, "CRDs are served, controllers start");
}

/// Waits until a kind is served and may be listed, saying so instead of ending again and again.
async fn crd<K>(client: &Client, scope: &Scope)
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = scope.api(client);
    while let Err(error) = api.list_metadata(&ListParams::default().limit(1)).await {
        tracing::warn!(kind = %K::kind(&()), ?scope, %error, "waiting for the CRD: install the chart odoo-ai-crds, and check the operator's RBAC");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Resolves at the first SIGTERM or SIGINT.
fn signals() -> std::io::Result<futures::future::BoxFuture<'static, ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    .boxed())
}
