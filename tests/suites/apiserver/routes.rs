//! Routes on a real API server: what somebody changes is put back, and Traefik's kinds come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use odoo_ai_crds::stack::OdooAiStack;
use odoo_ai_operator::cluster::traefik::{IngressRoute, Middleware};
use odoo_ai_tests::{ApiServer, wait_for};
use serde_json::{Value, json};

use crate::crds::{self, TRAEFIK, traefik};
use crate::requests::Requests;
use crate::stack::{costs_nothing, stage};
use crate::stage::Stage;

fn routes(stack: &mut Value) {
    stack["spec"]["ingress"] = json!({
        "api": {"host": "api.example.com"}, "dashboard": {"host": "ai.example.com"}, "ipAllowList": ["192.0.2.0/24"],
    });
}

fn names<K: ResourceExt>(objects: &[K]) -> BTreeSet<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

fn of<const N: usize>(suffixes: [&str; N]) -> BTreeSet<String> {
    suffixes.into_iter().map(|suffix| format!("odoo-ai-{suffix}")).collect()
}

#[tokio::test]
async fn what_somebody_makes_of_a_route_is_put_back() -> Result<()> {
    let (mut stage, requests) = stage("routed", routes).await?;
    stage.run_to_the_end().await?;
    assert_eq!(names(&stage.ours::<IngressRoute>().await?), of(["ai-service-web", "dashboard-web"]));
    assert_eq!(names(&stage.ours::<Middleware>().await?), of(["ip-allow-list", "mark"]));
    // Another rule and another network beside ours: all of ours is still there.
    let api = stage.api::<IngressRoute>();
    let before = api.get("odoo-ai-dashboard-web").await?.spec;
    let mut more = before.clone();
    more.routes.push(more.routes[0].clone());
    let more = Patch::Merge(json!({"spec": more}));
    api.patch("odoo-ai-dashboard-web", &PatchParams::default(), &more).await?;
    let open = Patch::Merge(json!({"spec": {"ipAllowList": {"sourceRange": ["192.0.2.0/24", "0.0.0.0/0"]}}}));
    let lists = stage.api::<Middleware>();
    lists.patch("odoo-ai-ip-allow-list", &PatchParams::default(), &open).await?;
    requests.take();
    stage.reconcile().await?;
    let written = requests.writes().into_iter().collect::<BTreeSet<_>>();
    let wanted = ["patch ingressroutes odoo-ai-dashboard-web", "patch middlewares odoo-ai-ip-allow-list"];
    assert_eq!(written, wanted.map(str::to_owned).into());
    assert_eq!(api.get("odoo-ai-dashboard-web").await?.spec, before);
    let list = lists.get("odoo-ai-ip-allow-list").await?.spec.ip_allow_list.unwrap_or_default();
    assert_eq!(list.source_range, ["192.0.2.0/24"]);
    api.delete("odoo-ai-dashboard-web", &DeleteParams::default()).await?;
    stage.reconcile().await?;
    assert_eq!(names(&stage.ours::<IngressRoute>().await?), of(["ai-service-web", "dashboard-web"]));
    stage.reconcile().await?;
    costs_nothing(&mut stage, &requests).await
}

/// Whoever is given a host, or loses one, doesn't wait for its next look: that of a settled stack may be minutes away.
#[tokio::test]
async fn a_host_changes_hands_at_once() -> Result<()> {
    let routes = json!({"dashboard": {"host": "ai.example.com"}});
    let (mut stage, requests) = stage("hands", |stack| stack["spec"]["ingress"] = routes.clone()).await?;
    let controller = stage.control()?;
    let mut newer = stage.stack().await?;
    newer.metadata = ObjectMeta { name: Some("newer".to_owned()), ..ObjectMeta::default() };
    // Of two of the same second the names would decide.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    stage.api::<OdooAiStack>().create(&PostParams::default(), &newer).await?;
    stage.until_ready().await?;
    stage.name = "newer".to_owned();
    stage.until_ready().await?;
    assert!(stage.condition("RoutesReady").await?.starts_with("False HostConflict"));
    stage.name = "odoo-ai".to_owned();
    let has = async |owner: &str, stage: &Stage| {
        wait_for(owner, Duration::from_secs(5), || async {
            let found = names(&stage.api::<IngressRoute>().list(&ListParams::default()).await?.items);
            Ok((found == [format!("{owner}-dashboard-web")].into()).then_some(()))
        })
        .await
    };
    has("odoo-ai", &stage).await?;
    // Both rest: none looks again by itself.
    wait_for("nothing to be asked for four seconds", Duration::from_secs(30), || async {
        requests.take();
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(requests.take().is_empty().then_some(()))
    })
    .await?;
    // The older one gives it up, claims it again, and goes.
    stage.edit(&json!({"ingress": null})).await?;
    has("newer", &stage).await?;
    stage.edit(&json!({"ingress": routes})).await?;
    has("odoo-ai", &stage).await?;
    stage.delete().await?;
    wait_for("the route of the newer one", Duration::from_secs(5), || async {
        Ok(stage.api::<IngressRoute>().get_opt("newer-dashboard-web").await?.map(drop))
    })
    .await?;
    controller.abort();
    Ok(())
}

/// The controller itself notices, without a restart.
#[tokio::test]
async fn traefik_comes_and_goes() -> Result<()> {
    let server = ApiServer::start().await?;
    let client = server.client().await?;
    crds::ours(&client).await?;
    let operator = Requests::default().client(&server, None).await?;
    let edit = |stack: &mut Value| stack["spec"]["ingress"] = json!({"dashboard": {"host": "ai.example.com"}});
    let stage = Stage::new(client.clone(), operator, "comes-and-goes", edit).await?;
    let controller = stage.control()?;
    stage.until_ready().await?;
    let standard = || async {
        let found = stage.ours::<Ingress>().await?;
        anyhow::Ok(names(&found) == of(["dashboard"]))
    };
    wait_for("an Ingress", Duration::from_secs(30), || async { Ok(standard().await?.then_some(())) }).await?;
    // Watches of kinds that are not there keep the controller from nothing.
    let services = stage.api::<Service>();
    for _ in 0..5 {
        services.delete("odoo-ai-dashboard", &DeleteParams::default()).await?;
        wait_for("the Service again", Duration::from_secs(3), || async {
            Ok(services.get_opt("odoo-ai-dashboard").await?)
        })
        .await?;
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for kind in TRAEFIK {
        definitions.create(&PostParams::default(), &traefik(kind)).await?;
    }
    wait_for("routes of Traefik alone", Duration::from_mins(1), || async {
        let routes = names(&stage.ours::<IngressRoute>().await?);
        Ok((routes == of(["dashboard-web"]) && !standard().await?).then_some(()))
    })
    .await?;
    for kind in TRAEFIK {
        definitions.delete(&traefik(kind).name_any(), &DeleteParams::default()).await?;
    }
    wait_for("an Ingress again", Duration::from_mins(1), || async { Ok(standard().await?.then_some(())) }).await?;
    controller.abort();
    Ok(())
}
