//! Routes from outside: what is made of `spec.ingress`, of which kind, and what keeps a route from being made.

mod sim;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use odoo_ai_crds::stack::{Ingress, OdooAiStack};
use odoo_ai_operator::cluster::cache::Scope;
use odoo_ai_operator::cluster::cached::cached;
use odoo_ai_operator::routes::rivals::{self, Rivals, Stacks};
use rstest::rstest;
use serde_json::{Value, json};
use sim::{World, key};

const KINDS: [&str; 3] = ["IngressRoute", "Middleware", "Ingress"];

fn ingress(value: Value) -> Ingress {
    serde_json::from_value(value).expect("an ingress")
}

/// Both hosts with certificates of a resolver, and `more`.
fn hosts(more: &Value) -> Value {
    let mut value = json!({"api": {"host": "api.example.com"}, "dashboard": {"host": "ai.example.com"}});
    for (field, it) in more.as_object().into_iter().flatten() {
        value[field] = it.clone();
    }
    value
}

/// The settled local sample with these routes.
fn routed(value: Value) -> World {
    let mut world = World::new();
    world.edit(|stack| stack.spec.ingress = Some(ingress(value)));
    world.run_to_the_end();
    world
}

fn change(world: &mut World, value: Option<Value>) {
    world.edit(|stack| stack.spec.ingress = value.map(ingress));
    world.settle();
}

/// Kinds and names of what routes consist of.
fn made(world: &World) -> Vec<String> {
    let all = world.objects.keys().filter(|key| KINDS.contains(&key.kind.as_str()));
    all.map(|key| format!("{} {}", key.kind, key.name.trim_start_matches("odoo-ai-"))).collect()
}

fn spec(world: &World, kind: &str, name: &str) -> Value {
    world.objects[&key(kind, &format!("odoo-ai-{name}"))]["spec"].clone()
}

/// Entry points, rule and middlewares.
fn route(world: &World, name: &str) -> (Value, String, Vec<String>) {
    let spec = spec(world, "IngressRoute", name);
    let route = &spec["routes"][0];
    let middlewares = route["middlewares"].as_array().expect("middlewares").iter();
    let middlewares =
        middlewares.map(|it| it["name"].as_str().expect("a name").trim_start_matches("odoo-ai-").to_owned());
    (spec["entryPoints"].clone(), route["match"].as_str().expect("a rule").to_owned(), middlewares.collect())
}

fn urls(world: &World) -> (Option<String>, Option<String>) {
    let urls = world.stack.status.clone().and_then(|status| status.urls).expect("URLs");
    (urls.api, urls.dashboard)
}

#[test]
fn without_ingress_there_is_no_route_and_no_condition() {
    let mut world = World::new();
    world.run_to_the_end();
    assert_eq!(made(&world), Vec::<String>::new());
    assert_eq!(world.condition("RoutesReady"), None);
    assert_eq!(urls(&world).1.as_deref(), Some("http://odoo-ai-dashboard.odoo-ai.svc:3000"));
}

#[test]
fn traefik_serves_https_and_sends_http_on() {
    let limits = json!({
        "tls": {"certResolver": "letsencrypt"}, "rateLimit": {"averagePerSecond": 50}, "ipAllowList": ["192.0.2.0/24"],
    });
    let mut world = routed(hosts(&limits));
    let middlewares = ["ip-allow-list", "mark", "rate-limit", "redirect-https"].map(|it| format!("Middleware {it}"));
    let routes = ["ai-service-web", "ai-service-websecure", "dashboard-web", "dashboard-websecure"];
    let all: Vec<_> = routes.map(|it| format!("IngressRoute {it}")).into_iter().chain(middlewares).collect();
    assert_eq!(made(&world), all);

    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let (entry_points, rule, through) = route(&world, "dashboard-websecure");
    assert_eq!((entry_points, rule.as_str()), (json!(["websecure"]), "Host(`ai.example.com`)"));
    assert_eq!(through, names(&["mark", "ip-allow-list", "rate-limit"]));
    let (entry_points, _, through) = route(&world, "dashboard-web");
    assert_eq!((entry_points, through), (json!(["web"]), names(&["mark", "ip-allow-list", "redirect-https"])));
    let websecure = spec(&world, "IngressRoute", "dashboard-websecure");
    assert_eq!(websecure["tls"], json!({"certResolver": "letsencrypt"}));
    let target = json!([{"name": "odoo-ai-dashboard", "port": 3000, "passHostHeader": true}]);
    assert_eq!(websecure["routes"][0]["services"], target);
    assert_eq!(spec(&world, "IngressRoute", "dashboard-web")["tls"], Value::Null);
    assert_eq!(spec(&world, "Middleware", "rate-limit"), json!({"rateLimit": {"average": 50, "burst": 100}}));
    assert_eq!(spec(&world, "Middleware", "ip-allow-list"), json!({"ipAllowList": {"sourceRange": ["192.0.2.0/24"]}}));
    assert_eq!(
        spec(&world, "Middleware", "redirect-https"),
        json!({"redirectScheme": {"scheme": "https", "permanent": true}})
    );
    let first =
        |kind: &str| world.writes.iter().position(|it| it.starts_with(&format!("{kind} "))).expect("it was written");
    assert!(first("Middleware") < first("IngressRoute"), "{:?}", world.writes);
    assert_eq!(urls(&world), (Some("https://api.example.com".to_owned()), Some("https://ai.example.com".to_owned())));

    // Behind somebody else's proxy, without limits.
    change(&mut world, Some(json!({"api": {"host": "api.example.com"}})));
    assert_eq!(made(&world), ["IngressRoute ai-service-web", "Middleware mark"]);
    assert_eq!(route(&world, "ai-service-web").2, names(&["mark"]));
    assert_eq!(urls(&world).0.as_deref(), Some("http://api.example.com"));
    let writes = world.writes.len();
    world.settle();
    assert_eq!(world.writes.len(), writes, "a settled stack is written to");
    change(&mut world, None);
    assert_eq!(made(&world), Vec::<String>::new());
    assert_eq!(world.condition("RoutesReady"), None);
}

#[test]
fn a_change_of_routes_is_no_revision_and_waits_for_none() {
    let mut world = routed(hosts(&json!({})));
    let current = world.stack.status.clone().and_then(|status| status.current_revision);
    world.edit(|stack| {
        stack.spec.rollout.approval = Some(odoo_ai_crds::stack::Mode::Manual);
        stack.spec.images.ai_service = "odoo-ai-platform/ai-service:2.0.0".to_owned();
    });
    world.settle();
    change(&mut world, Some(json!({"dashboard": {"host": "new.example.com"}})));
    assert_eq!(route(&world, "dashboard-web").1, "Host(`new.example.com`)");
    assert_eq!(world.stack.status.clone().and_then(|status| status.current_revision), current);
    assert_eq!(made(&world), ["IngressRoute dashboard-web", "Middleware mark"]);
}

/// Slack's path: open only where the application can tell Slack from a stranger.
#[rstest]
#[case::not_asked_for(false, None, false)]
#[case::without_a_secret(true, None, false)]
#[case::with_a_secret(true, Some("SLACK_SIGNING_SECRET"), true)]
#[case::with_another_secret(true, Some("SLACK_BOT_TOKEN"), false)]
#[case::with_a_secret_only(false, Some("SLACK_SIGNING_SECRET"), false)]
fn slack_is_closed(#[case] asked: bool, #[case] variable: Option<&str>, #[case] open: bool) {
    for traefik in [true, false] {
        let mut world = World::new();
        world.around.traefik = Some(traefik);
        world.edit(|stack| {
            stack.spec.ingress = Some(ingress(json!({"api": {"host": "api.example.com", "exposeSlack": asked}})));
            let env = variable.map(|name| json!([{"name": name, "value": "s3cret"}]));
            stack.spec.ai_service.pod.env = serde_json::from_value(env.unwrap_or(json!([]))).expect("env");
        });
        world.run_to_the_end();
        let opened = if traefik {
            !route(&world, "ai-service-web").1.contains("slack")
        } else {
            let paths = spec(&world, "Ingress", "ai-service")["rules"][0]["http"]["paths"].clone();
            !paths.to_string().contains("slack")
        };
        assert_eq!(opened, open, "traefik: {traefik}");
        let told = world.words("RoutesReady");
        assert_eq!(told.0 == "SigningSecretMissing", asked && !open, "{told:?}");
    }
}

#[test]
fn a_source_may_bring_the_signing_secret() {
    let mut world = World::new();
    world.add_secret("slack", &json!({"SIGNING_SECRET": "s3cret"}));
    world.edit(|stack| {
        stack.spec.ingress = Some(ingress(json!({"api": {"host": "api.example.com", "exposeSlack": true}})));
        let sources = json!([{"prefix": "SLACK_", "secretRef": {"name": "slack"}}]);
        stack.spec.env_from = serde_json::from_value(sources).expect("sources");
    });
    world.run_to_the_end();
    assert_eq!(route(&world, "ai-service-web").1, "Host(`api.example.com`)");
}

#[test]
fn what_an_ingress_can_not_close_ends_where_nobody_listens() {
    let mut world = World::new();
    world.around.traefik = Some(false);
    world.edit(|stack| {
        let tls = json!({"tls": {"secretName": "certificates"}});
        stack.spec.ingress = Some(ingress(hosts(&tls)));
    });
    world.run_to_the_end();
    assert_eq!(made(&world), ["Ingress ai-service", "Ingress dashboard"]);
    let api = spec(&world, "Ingress", "ai-service");
    assert_eq!(api["tls"], json!([{"hosts": ["api.example.com"], "secretName": "certificates"}]));
    let paths = api["rules"][0]["http"]["paths"].as_array().expect("paths");
    let to = |path: &Value| {
        let service = &path["backend"]["service"];
        (path["path"].as_str().expect("a path").to_owned(), service["name"].clone(), service["port"]["number"].clone())
    };
    assert_eq!(to(&paths[0]), ("/api/slack/interactions".to_owned(), json!("odoo-ai-closed"), json!(9181)));
    assert_eq!(to(&paths[paths.len() - 1]), ("/".to_owned(), json!("odoo-ai-ai-service"), json!(8000)));
    assert_eq!(paths.len(), 10, "each way to write its two slashes, and the rest");
    // A proxy is refused there at once, instead of waiting.
    let policy = spec(&world, "NetworkPolicy", "ai-service");
    let ports: Vec<_> = policy["ingress"][0]["ports"].as_array().expect("ports").iter().map(|it| &it["port"]).collect();
    assert_eq!(ports, [&json!(8000), &json!(9181)]);
    assert!(world.has("Service", "closed"));
    change(&mut world, Some(json!({"dashboard": {"host": "ai.example.com"}})));
    assert!(!world.has("Service", "closed"));
}

#[test]
fn traefik_comes_and_goes() {
    let mut world = World::new();
    world.around.traefik = None;
    world.edit(|stack| stack.spec.ingress = Some(ingress(hosts(&json!({})))));
    world.run_to_the_end();
    assert_eq!((made(&world), world.condition("RoutesReady")), (Vec::new(), Some("Unknown")));
    let standard = ["Ingress ai-service", "Ingress dashboard"];
    let own = ["IngressRoute ai-service-web", "IngressRoute dashboard-web", "Middleware mark"];
    world.around.traefik = Some(false);
    world.settle();
    assert_eq!(made(&world), standard);
    world.around.traefik = Some(true);
    world.settle();
    assert_eq!(made(&world), own);
    // A new operator doesn't know yet: what is there stays.
    world.around.traefik = None;
    world.settle();
    assert_eq!(made(&world), own);
    world.around.traefik = Some(false);
    world.settle();
    assert_eq!(made(&world), standard);
}

#[rstest]
#[case::asked_for(json!({"controller": "Traefik"}), "ingress.controller to Ingress")]
#[case::a_resolver(json!({"tls": {"certResolver": "letsencrypt"}}), "ingress.tls.certResolver")]
#[case::a_limit(json!({"rateLimit": {"averagePerSecond": 5}}), "ingress.rateLimit")]
#[case::a_list(json!({"ipAllowList": ["192.0.2.0/24"]}), "ingress.ipAllowList")]
fn what_only_traefik_can_do_is_not_left_out(#[case] more: Value, #[case] told: &str) {
    let mut world = World::new();
    world.around.traefik = Some(false);
    world.edit(|stack| stack.spec.ingress = Some(ingress(hosts(&more))));
    world.run_to_the_end();
    let (reason, message) = world.words("RoutesReady");
    assert_eq!((made(&world), reason.as_str()), (Vec::new(), "TraefikNotInstalled"), "{message}");
    assert!(message.contains(told), "{message}");
    assert_eq!(world.condition("Ready"), Some("True"), "routes never gate a revision");
    assert_eq!(urls(&world).1.as_deref(), Some("http://odoo-ai-dashboard.odoo-ai.svc:3000"));
}

#[test]
fn a_host_of_an_older_stack_is_left_to_it() {
    let mut world = World::new();
    world.around.rivals = Some(Rivals::from([("ai.example.com".to_owned(), "other/older".to_owned())]));
    world.edit(|stack| stack.spec.ingress = Some(ingress(hosts(&json!({})))));
    world.run_to_the_end();
    assert_eq!(made(&world), ["IngressRoute ai-service-web", "Middleware mark"]);
    let (reason, message) = world.words("RoutesReady");
    assert_eq!((world.condition("RoutesReady"), reason.as_str()), (Some("False"), "HostConflict"));
    assert!(message.contains("ai.example.com") && message.contains("other/older"), "{message}");
    assert_eq!(urls(&world).1.as_deref(), Some("http://odoo-ai-dashboard.odoo-ai.svc:3000"));
    world.around.rivals = Some(Rivals::new());
    world.settle();
    assert_eq!(made(&world), ["IngressRoute ai-service-web", "IngressRoute dashboard-web", "Middleware mark"]);
    // Nobody knows who else there is: nothing new is made, and nothing goes.
    world.around.rivals = None;
    change(&mut world, Some(hosts(&json!({"dashboard": {"host": "new.example.com"}}))));
    assert_eq!(route(&world, "dashboard-web").1, "Host(`ai.example.com`)");
}

#[test]
fn those_with_the_same_host_are_woken() {
    let (store, mut filler) = cached();
    for (namespace, hosts) in [("a", "a b"), ("b", "b"), ("c", "c")] {
        filler.apply(&Event::Apply((*other(namespace, 1, hosts, false)).clone()));
    }
    let stacks = Stacks::new(vec![store]);
    let (all, mut of_all) = unbounded();
    let (narrow, mut of_a) = unbounded();
    stacks.listen(Scope::Cluster, all);
    stacks.listen(Scope::Namespace("a".to_owned()), narrow);
    let of = |hosts| other("x", 9, hosts, false);
    for (before, after, woken, in_a) in [
        (Some(of("a b")), Some(of("a b")), "", ""),
        (Some(of("a b")), Some(of("b x")), "a", "a"),
        (None, Some(of("b")), "a b", "a"),
        (Some(of("c")), None, "c", ""),
        (Some(of("c")), Some(other("x", 9, "c", true)), "c", ""),
    ] {
        stacks.changed(before.as_deref(), after.as_deref());
        let told = |who: &mut UnboundedReceiver<ObjectRef<OdooAiStack>>| {
            let found = std::iter::from_fn(|| who.try_recv().ok()).filter_map(|it| it.namespace);
            found.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!((told(&mut of_all), told(&mut of_a)), (woken.to_owned(), in_a.to_owned()));
    }
}

/// A stack of another namespace.
fn other(namespace: &str, age: i64, hosts: &str, goes: bool) -> Arc<OdooAiStack> {
    let mut stack = World::new().stack;
    let time =
        |second| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(second).expect("a time"));
    stack.metadata.namespace = Some(namespace.to_owned());
    stack.metadata.creation_timestamp = Some(time(age));
    stack.metadata.deletion_timestamp = goes.then(|| time(age + 1));
    let mut hosts = hosts.split(' ').map(|host| json!({"host": format!("{host}.example.com")}));
    stack.spec.ingress = Some(ingress(json!({"api": hosts.next(), "dashboard": hosts.next()})));
    Arc::new(stack)
}

#[rstest]
#[case::younger(&[("b", 20, "a", false)], None)]
#[case::older(&[("b", 5, "x a", false)], Some("b/odoo-ai"))]
#[case::older_and_going(&[("b", 5, "a", true)], None)]
#[case::other_hosts(&[("b", 5, "x", false)], None)]
#[case::of_the_same_second(&[("b", 10, "a", false)], None)]
#[case::of_the_same_second_and_first_by_name(&[("0", 10, "a", false)], Some("0/odoo-ai"))]
#[case::the_oldest(&[("c", 2, "a", false), ("b", 1, "a", false)], Some("b/odoo-ai"))]
fn who_was_there_first_has_the_host(#[case] others: &[(&str, i64, &str, bool)], #[case] owner: Option<&str>) {
    let stack = other("a", 10, "a b", false);
    let others = others.iter().map(|(namespace, age, hosts, goes)| other(namespace, *age, hosts, *goes));
    let found = rivals::of(&stack, others.chain([Arc::clone(&stack)]));
    let wanted = owner.map(|owner| ("a.example.com".to_owned(), owner.to_owned()));
    assert_eq!(found, wanted.into_iter().collect());
}
