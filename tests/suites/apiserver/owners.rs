//! `Applier`, one child at a time: whose it is, and how it comes and goes.

use std::path::Path;

use anyhow::{Context, Result};
use http::Response;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::api::{DeleteParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use odoo_ai_operator::cluster::apply::{Applier, Error, Outcome};
use odoo_ai_operator::cluster::intent::{Intent, Mode};
use odoo_ai_operator::labels;
use odoo_ai_tests::ApiServer;
use serde_json::json;
use tower::util::MapResponseLayer;

use crate::room::{Room, STACK, UID, deployment_spec, owner};

/// UID of something else.
const OTHER: &str = "00000000-0000-4000-8000-00000000000f";

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone() -> Result<()> {
    let room = Room::new("foreign").await?;
    let own = labels::child(STACK, "settings");
    let controller =
        |kind: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": OTHER, "controller": true}]);
    let cases = [
        json!({}),
        json!({"labels": {"app.kubernetes.io/name": "settings"}}),
        json!({"labels": labels::child("another", "settings")}),
        json!({"labels": {labels::STACK: STACK}}),
        json!({"labels": own, "ownerReferences": controller("ReplicaSet")}),
    ];
    for mut metadata in cases {
        metadata["name"] = json!("settings");
        let intent = room.config_map();
        let object = json!({"metadata": metadata, "data": {"theirs": "x"}});
        let object: ConfigMap = serde_json::from_value(object)?;
        let api: Api<_> = Api::namespaced(room.others.clone(), &room.namespace);
        let theirs = api.create(&PostParams::default(), &object).await?;
        for intent in [intent.clone(), Intent { mode: Mode::CreateOnly, ..intent }] {
            let error = room.refused(&intent).await?;
            assert!(matches!(&error, Error::Foreign(key) if *key == intent.key()), "{metadata}: {error}");
            assert!(error.to_string().contains("ConfigMap foreign/settings"), "{error}");
        }
        let now = api.get("settings").await?;
        assert_eq!(now.metadata.resource_version, theirs.metadata.resource_version, "{metadata}");
        api.delete("settings", &DeleteParams::default()).await?;
    }
    Ok(())
}

/// A client behind which `object` appears right after the API server said that it isn't there.
async fn overtaken(kubeconfig: &Path, object: Service) -> Result<Client> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    let theirs = config.clone();
    let appears = move |response: Response<_>| {
        if response.status() == 404 {
            let (config, object) = (theirs.clone(), object.clone());
            // The layer is not asynchronous, and a runtime within a runtime is not allowed.
            let create = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let api: Api<Service> =
                        Api::namespaced(Client::try_from(config)?, &object.namespace().context("one")?);
                    api.create(&PostParams::default(), &object).await?;
                    anyhow::Ok(())
                })
            });
            create.join().expect("no panic").expect("it is made");
        }
        response
    };
    Ok(ClientBuilder::try_from(config)?.with_layer(&MapResponseLayer::new(appears)).build())
}

/// Seen by no cache and by no read, and there when it is applied.
#[tokio::test]
async fn what_appears_between_the_read_and_the_write_is_not_taken_over() -> Result<()> {
    let room = Room::new("overtaken").await?;
    let intent = room.service();
    let object = json!({
        "metadata": {"name": intent.name, "namespace": room.namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"name": "http", "port": 80, "targetPort": 9}]},
    });
    let object: Service = serde_json::from_value(object)?;
    let client = overtaken(&ApiServer::shared().await?.kubeconfig(), object).await?;
    let applier = Applier::new(client);
    let error = applier.apply(&intent, None, UID).await.err().context("it was taken over")?;
    assert!(
        matches!(&error, Error::Api { source, .. } if matches!(&**source, kube::Error::Api(s) if s.code == 409)),
        "{error}"
    );
    let live = room.live(&intent).await?;
    assert_eq!((live.labels().len(), live.owner_references().len()), (0, 0));
    assert_eq!(live.data["spec"]["selector"], json!({"app": "theirs"}));
    // The next look sees whose it is.
    let error = applier.apply(&intent, None, UID).await.err().context("it was taken over")?;
    assert!(matches!(error, Error::Foreign(_)), "{error}");
    Ok(())
}

/// A label can be lost; the owner reference still says whose child it is.
#[tokio::test]
async fn a_child_of_ours_that_lost_its_labels_gets_them_back() -> Result<()> {
    let room = Room::new("lost").await?;
    for label in [labels::STACK, labels::MANAGED_BY] {
        let (applier, intent) = (room.applier(), room.deployment());
        room.apply(&applier, &intent).await?;
        room.edit(&intent, &json!({"metadata": {"labels": {label: null}}})).await?;
        room.requests.take();
        // A cache that selects by that label no longer has it.
        applier.apply(&intent, None, UID).await?;
        assert_eq!(room.requests.writes(), ["patch deployments app"]);
        let live = room.seen(&intent).await?.labels.unwrap_or_default();
        assert!(live.contains_key(label), "{live:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_created_once_is_never_overwritten() -> Result<()> {
    let room = Room::new("once").await?;
    let (first, second) = (room.secret_with("first"), room.secret_with("second"));
    let (first, second) = (Intent::create_only(&first), Intent::create_only(&second));
    let applier = room.applier();
    let created = vec!["get secrets login".to_owned(), "create secrets ".to_owned()];
    assert_eq!(room.apply(&applier, &first).await?, (true, created));
    let made = room.seen(&first).await?;
    for applier in [&applier, &room.applier()] {
        assert_eq!(room.apply(applier, &second).await?, (false, vec![]), "what the cache shows is not even read");
        // A cache that lags shows nothing yet.
        room.requests.take();
        let outcome = applier.apply(&second, None, UID).await?;
        assert!(matches!(outcome, Outcome::Unchanged), "{outcome:?}");
        assert_eq!(room.requests.take(), ["get secrets login"]);
    }
    room.edit(&first, &json!({"data": {"password": "dGhpcmQ="}})).await?;
    assert_eq!(room.apply(&room.applier(), &first).await?, (false, vec![]), "a person may change it");
    assert_eq!(room.seen(&first).await?.uid, made.uid);
    assert_eq!(room.live(&first).await?.data["data"]["password"], "dGhpcmQ=");
    Ok(())
}

/// Only metadata are applied, and only to the very Secret that was seen.
#[tokio::test]
async fn a_secret_that_is_gone_does_not_come_back_empty() -> Result<()> {
    let room = Room::new("gone").await?;
    room.apply(&room.applier(), &Intent::create_only(&room.secret_with("first"))).await?;
    let mut object: Secret = room.object("login", &json!({}));
    let seen = room.seen(&Intent::apply(&object)).await?;
    object.metadata.uid.clone_from(&seen.uid);
    let intent = Intent::apply(&object);
    assert!(room.apply(&room.applier(), &intent).await?.0);
    let live = room.live(&intent).await?;
    assert_eq!(live.data["data"]["password"], "Zmlyc3Q=", "the data stay");
    assert_eq!(live.metadata.owner_references.as_ref().map(Vec::len), Some(1));
    assert_eq!(room.apply(&room.applier(), &intent).await?, (false, vec!["get secrets login".into()]));
    room.api(&intent).delete("login", &DeleteParams::default()).await?;
    for cache in [None, Some(&seen)] {
        let error = room.applier().apply(&intent, cache, UID).await.err().context("it was made anew")?;
        assert!(
            matches!(&error, Error::Api { source, .. } if matches!(&**source, kube::Error::Api(s) if s.code == 409)),
            "{error}"
        );
    }
    assert!(room.api(&intent).get_opt("login").await?.is_none());
    Ok(())
}

/// The garbage collector would take it away under the successor's feet, whoever wrote it.
#[tokio::test]
async fn what_hangs_on_a_deleted_predecessor_is_waited_for() -> Result<()> {
    let room = Room::new("predecessor").await?;
    for intent in room.all() {
        for mode in [Mode::Apply, Mode::CreateOnly, Mode::Adopt] {
            let intent = Intent { mode, ..intent.clone() };
            let mut object = intent.object.clone();
            object["metadata"]["ownerReferences"] = json!([owner(OTHER)]);
            let left = room.api(&intent).create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            let error = room.refused(&intent).await?;
            assert!(matches!(&error, Error::Leftover(key) if *key == intent.key()), "{error}");
            assert_eq!(room.seen(&intent).await?.resource_version, left.metadata.resource_version);
            room.edit(&intent, &json!({"metadata": {"finalizers": null}})).await?;
            room.api(&intent).delete(&intent.name, &DeleteParams::default()).await?;
            assert!(room.apply(&room.applier(), &intent).await?.0, "{}: {mode:?}", intent.key());
            room.edit(&intent, &json!({"metadata": {"finalizers": null}})).await?;
            room.api(&intent).delete(&intent.name, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// Volumes and keys outlive their stack; the next one of the name goes on with them.
#[tokio::test]
async fn what_a_predecessor_left_without_owner_is_taken_over() -> Result<()> {
    let room = Room::new("heir").await?;
    for intent in room.all() {
        let mut object = intent.object.clone();
        object["metadata"]["ownerReferences"] = json!(null);
        let left = room.api(&intent).create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        let applier = room.applier();
        assert!(room.apply(&applier, &intent).await.with_context(|| intent.key().to_string())?.0);
        let live = room.seen(&intent).await?;
        assert_eq!(live.uid, left.metadata.uid, "{}: the same object", intent.key());
        let owners: Vec<_> = live.owner_references.iter().flatten().map(|owner| owner.uid.as_str()).collect();
        assert_eq!(owners, [UID], "{}", intent.key());
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]));
    }
    Ok(())
}

/// A Secret that a person restored by hand has no label of ours; its data are not touched.
#[tokio::test]
async fn only_what_may_be_adopted_is_taken_from_a_person() -> Result<()> {
    let room = Room::new("adopted").await?;
    let theirs = json!({"metadata": {"name": "login"}, "data": {"password": "dGhlaXJz"}});
    let made = room.api(&room.secret()).create(&PostParams::default(), &serde_json::from_value(theirs)?).await?;
    let mut object: Secret = room.object("login", &json!({}));
    object.metadata.owner_references = None;
    object.metadata.uid.clone_from(&made.metadata.uid);
    let error = room.refused(&Intent::apply(&object)).await?;
    assert!(matches!(error, Error::Foreign(_)), "{error}");
    let intent = Intent::adopt(&object);
    assert!(room.apply(&room.applier(), &intent).await?.0);
    let live = room.live(&intent).await?;
    assert_eq!(live.data["data"]["password"], "dGhlaXJz");
    assert!(live.metadata.labels.unwrap_or_default().contains_key(labels::STACK));
    assert_eq!(room.apply(&room.applier(), &intent).await?, (false, vec!["get secrets login".into()]));
    // Somebody's controller is another thing.
    room.edit(
        &intent,
        &json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": OTHER, "controller": true},
        ]}}),
    )
    .await?;
    let error = room.refused(&intent).await?;
    assert!(matches!(error, Error::Foreign(_)), "{error}");
    Ok(())
}

/// The hash that is kept in an annotation must not tell of the data, and yet new data are written.
#[tokio::test]
async fn new_data_of_a_secret_are_written() -> Result<()> {
    let room = Room::new("data").await?;
    let applier = room.applier();
    for password in ["first", "second"] {
        let intent = Intent::apply(&room.secret_with(password));
        assert!(room.apply(&applier, &intent).await?.0, "{password}");
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]));
        let live = serde_json::to_value(room.live(&intent).await?)?;
        assert!(odoo_ai_operator::cluster::covers::covers(&live, &intent.object), "{password}");
    }
    Ok(())
}

#[tokio::test]
async fn an_object_that_vanished_is_made_again() -> Result<()> {
    let room = Room::new("vanished").await?;
    let applier = room.applier();
    for intent in room.all() {
        room.apply(&applier, &intent).await?;
        let seen = room.seen(&intent).await?;
        // Nothing takes the protection of claims off where no controller runs.
        room.edit(&intent, &json!({"metadata": {"finalizers": null}})).await?;
        room.api(&intent).delete(&intent.name, &DeleteParams::default()).await?;
        assert!(room.apply(&applier, &intent).await?.0, "{}", intent.key());
        assert_ne!(room.seen(&intent).await?.uid, seen.uid);
        // Another object of the same name is not the one that was applied.
        assert_eq!(room.apply(&applier, &intent).await?, (false, vec![]));
    }
    Ok(())
}

#[tokio::test]
async fn a_cache_that_lags_behind_our_own_write_causes_none() -> Result<()> {
    let room = Room::new("lag").await?;
    let applier = room.applier();
    for intent in room.all() {
        room.apply(&applier, &intent).await?;
        let before = room.seen(&intent).await?;
        let mut object = intent.object.clone();
        object["metadata"]["labels"]["step"] = json!("two");
        if intent.resource.kind == "Deployment" {
            object["spec"]["minReadySeconds"] = json!(1);
        }
        object["metadata"]["annotations"][labels::APPLIED_HASH] = json!("two");
        let second = Intent { object, hash: "two".to_owned(), digest: "two".to_owned(), ..intent };
        assert!(room.apply(&applier, &second).await?.0);
        room.requests.take();
        applier.apply(&second, Some(&before), UID).await?;
        assert_eq!(room.requests.writes(), Vec::<String>::new(), "{}", second.key());
    }
    Ok(())
}

#[tokio::test]
async fn a_finished_job_is_not_made_twice() -> Result<()> {
    let room = Room::new("job").await?;
    let mut pod = deployment_spec()["spec"]["template"].clone();
    pod["spec"]["restartPolicy"] = json!("Never");
    let intent = Intent::create_only(&room.object::<Job>("migrate", &json!({"spec": {"template": pod}})));
    let (one, two) = (room.applier(), room.applier());
    assert!(room.apply(&one, &intent).await?.0);
    assert_eq!(room.apply(&two, &intent).await?, (false, vec![]));
    // Two operators at once, each having seen nothing: the second POST is refused by the server.
    room.api(&intent).delete("migrate", &DeleteParams::background()).await?;
    let (a, b) = tokio::join!(one.apply(&intent, None, UID), two.apply(&intent, None, UID));
    let written = [a, b].iter().filter(|outcome| format!("{outcome:?}").contains("Written")).count();
    assert_eq!(written, 1);
    Ok(())
}
