//! Routes through a real Traefik: the full tier is `hack/test routes`.

mod acme;
mod answers;
mod certificates;
mod client;
mod faults;
mod pebble;
mod proxy;

use anyhow::Result;

use crate::checks::Checks;
use crate::rollouts::load;
use crate::turns::with_room;

/// Both hosts answer, Slack's path doesn't, and each fault of a route is named.
#[tokio::test]
#[ignore = "full tier"]
async fn hosts_answer_and_the_status_knows() -> Result<()> {
    with_room("routes", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("routes"));
        turns.alone().await;
        checks.need("Traefik", proxy::install(cluster)).await?;
        checks.need("the first install", answers::installs(room)).await?;
        checks.need("both hosts answer by HTTP", answers::both(room)).await?;
        checks.check("Slack's path is closed, however it is written", answers::slack_is_closed(room)).await;
        checks.check("Slack's path is open where it was asked for", answers::slack_is_open(room)).await;
        checks.check("a WebSocket goes through, and nothing flaps", answers::web_socket(room)).await;
        checks.check("somebody else's route has the host", faults::another_route(room)).await;
        checks.check("no pod behind the route", faults::no_pod(room)).await;
        checks.check("a dashboard that listens on localhost only", Box::pin(faults::wrong_hostname(room))).await;
        checks.check("somebody else stands behind the route", faults::stranger(room)).await;
        checks.check("Traefik doesn't watch the namespace", faults::not_watched(room)).await;
        checks.check("an older stack has the host", Box::pin(faults::conflict(room))).await;
        checks.check("addresses that are kept out", faults::kept_out(room)).await;
        checks.check("a limit of requests", answers::limited(room)).await;
        checks.check("a certificate of a Secret", certificates::of_a_secret(room)).await;
        checks.check("one that ends soon", certificates::ends_soon(room)).await;
        checks.check("a resolver that Traefik doesn't know", certificates::unknown_resolver(room)).await;
        checks.check("Traefik is away", faults::traefik_away(room)).await;
        checks.check("a standard Ingress", answers::standard(room)).await;
        checks.finish()
    })
    .await
}

/// A certificate comes, is renewed, and is told of when it isn't.
#[tokio::test]
#[ignore = "full tier"]
async fn certificates_come_from_an_acme_server() -> Result<()> {
    with_room("acme", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("acme"));
        turns.alone().await;
        if cluster.is_k3s() {
            // Its Traefik has no resolver of ours.
            return checks.finish();
        }
        checks.need("Traefik", proxy::install(cluster)).await?;
        checks.need("the first install", answers::installs(room)).await?;
        checks.need("both hosts get one", acme::is_issued(room)).await?;
        checks.check("it is renewed", acme::is_renewed(room)).await;
        checks.check("the ACME server is away", acme::outage(room)).await;
        checks.finish()
    })
    .await
}

/// The rollouts' load, through Traefik.
#[tokio::test]
#[ignore = "full tier"]
async fn nobody_behind_a_route_notices_a_rollout() -> Result<()> {
    with_room("routed", |cluster, room, turns| async move {
        let (room, mut checks) = (&room, Checks::new("routed"));
        turns.alone().await;
        checks.need("Traefik", proxy::install(cluster)).await?;
        checks.need("the first install", load::installs(room, cluster)).await?;
        checks.need("both hosts answer by HTTP", answers::both(room)).await?;
        checks.check("a changed setting", load::config_change(room)).await;
        checks.check("another image", load::image_update(room)).await;
        checks.check("a change of the dashboard only", load::dashboard_only(room)).await;
        checks.check("a version that crashes and is taken back", Box::pin(load::bad_version(room))).await;
        checks.check("a rollback on request", Box::pin(load::on_request(room))).await;
        checks.finish()
    })
    .await
}
