//! The API server in memory: answers a real client's HTTP requests from the store, serves watches
//! whose events are let through by hand, and strikes at the request that the test chose.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::faults::{Fault, Faults, Strike};
use crate::kubelet::NAMESPACE;
use crate::promises;
use crate::request::{Call, Verb};
use crate::store::{Change, Refusal};
use crate::world::World;

/// One operator's watch of one kind.
#[derive(Debug)]
struct Watch {
    plural: String,
    selector: Option<String>,
    metadata_only: bool,
    /// Changes up to here were told.
    seen: u64,
    /// Names that its cache holds.
    known: BTreeSet<String>,
    line: VecDeque<Bytes>,
    waker: Option<Waker>,
}

/// What happened on the wire of one operator.
#[derive(Debug, Default)]
struct Wire {
    /// Counts operators: what a dead one still sends goes nowhere.
    life: usize,
    watches: Vec<Arc<Mutex<Watch>>>,
}

/// The cluster.
pub(crate) struct Cluster {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    wire: Mutex<Wire>,
    /// The operator died.
    pub(crate) died: Notify,
}

impl Cluster {
    pub(crate) fn new(world: World, fault: Option<Fault>) -> Arc<Self> {
        let faults = Mutex::new(Faults::new(fault));
        Arc::new(Self { world: Mutex::new(world), faults, wire: Mutex::default(), died: Notify::new() })
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// A client for an operator that has just started; that of the one before is cut off.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let life = {
            let mut wire = lock(&self.wire);
            wire.watches.clear();
            wire.life += 1;
            wire.life
        };
        let cluster = Arc::clone(self);
        let router = Router::new().fallback(move |request: Request<Body>| {
            let cluster = Arc::clone(&cluster);
            async move { cluster.serve(life, request).await }
        });
        Client::new(router, NAMESPACE)
    }

    async fn serve(self: Arc<Self>, life: usize, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let text = |name| head.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let (content_type, accept) = (text(header::CONTENT_TYPE), text(header::ACCEPT));
        if lock(&self.wire).life != life {
            return std::future::pending().await;
        }
        let Some(call) = Call::read(&head.method, &head.uri, &content_type, body) else {
            let what = format!("{} {} ({content_type}) is not served", head.method, head.uri);
            self.world().promises.broken.push(what);
            return status(405, "MethodNotAllowed", "");
        };
        let metadata_only = accept.contains("PartialObjectMetadata");
        if !call.mutates() {
            self.faults().read();
            return if call.verb == Verb::Watch {
                self.watch(&call, metadata_only)
            } else {
                self.look(&call, metadata_only)
            };
        }
        let strike = self.faults().count(&call.to_string());
        match strike {
            None => self.write(&call),
            Some(Strike::Replace) => {
                self.replace(&call);
                self.write(&call)
            }
            Some(Strike::Crash { stored } | Strike::Lose { stored }) => {
                if stored {
                    self.write(&call);
                }
                if matches!(strike, Some(Strike::Lose { .. })) {
                    return lost();
                }
                self.die().await
            }
        }
    }

    /// The operator's process ends here.
    pub(crate) async fn die<T>(&self) -> T {
        lock(&self.wire).life += 1;
        self.died.notify_one();
        std::future::pending().await
    }

    fn look(&self, call: &Call, metadata_only: bool) -> Response<Body> {
        let world = self.world();
        if call.verb == Verb::Get {
            return match world.store.get(&call.plural, &call.name) {
                Some(object) => answer(200, object),
                None => status(404, "NotFound", &format!("{} \"{}\" not found", call.plural, call.name)),
            };
        }
        let items =
            world.store.all(&call.plural).map(|(_, object)| object).filter(|it| selected(call.selector.as_deref(), it));
        let items: Vec<_> = items.map(|object| shown(object, metadata_only)).collect();
        let version = world.store.version().to_string();
        let items = items.join(",");
        let head = format!(r#""kind":"List","apiVersion":"v1","metadata":{{"resourceVersion":"{version}"}}"#);
        Response::new(Body::from(format!(r#"{{{head},"items":[{items}]}}"#)))
    }

    fn write(&self, call: &Call) -> Response<Body> {
        let mut world = self.world();
        let broken = promises::check(&world, call);
        world.promises.broken.extend(broken);
        let store = &mut world.store;
        let (plural, name, manager, body) = (&call.plural, &call.name, &call.manager, &call.body);
        let done = match call.verb {
            Verb::Create => store.create(plural, manager, body.clone()).map(|it| (201, it)),
            Verb::Apply => store.apply(plural, name, manager, body).map(|it| (200, it)),
            Verb::Merge => store.merge(plural, name, manager, body).map(|it| (200, it)),
            Verb::UpdateStatus => store.put_status(plural, name, body).map(|it| (200, it)),
            _ => store.delete(plural, name, &body["preconditions"]).map(|()| {
                (200, Arc::new(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})))
            }),
        };
        match done {
            Ok((code, object)) => answer(code, &object),
            Err(Refusal { code, reason, message }) => {
                // Nothing that the operator writes may be against the rules of the API.
                if ![404, 409].contains(&code) {
                    world.promises.broken.push(format!("{call}: {message}"));
                }
                status(code, reason, &message)
            }
        }
    }

    /// Just before the request somebody puts an object of their own in the place of ours.
    fn replace(&self, call: &Call) {
        let mut world = self.world();
        let Some(old) = world.store.get(&call.plural, &call.name).cloned() else { return };
        world.store.delete(&call.plural, &call.name, &json!({})).expect("it exists");
        let theirs = json!({"apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": {"name": call.name}});
        world.store.create(&call.plural, "somebody", theirs).expect("its name is free");
    }

    fn watch(&self, call: &Call, metadata_only: bool) -> Response<Body> {
        let known = {
            let world = self.world();
            let items = world.store.all(&call.plural).filter(|(_, it)| selected(call.selector.as_deref(), it));
            items.map(|(name, _)| name.to_owned()).collect()
        };
        let watch = Arc::new(Mutex::new(Watch {
            plural: call.plural.clone(),
            selector: call.selector.clone(),
            metadata_only,
            seen: call.version,
            known,
            line: VecDeque::new(),
            waker: None,
        }));
        lock(&self.wire).watches.push(Arc::clone(&watch));
        let lines = futures::stream::poll_fn(move |cx| {
            let mut watch = lock(&watch);
            if let Some(line) = watch.line.pop_front() {
                return Poll::Ready(Some(Ok::<_, std::io::Error>(line)));
            }
            watch.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        Response::new(Body::from_stream(lines))
    }

    /// Tells the watches of the kinds that `wanted` chooses what happened up to `version`. Without
    /// `each`, only where every object ended up: what came between was never seen.
    pub(crate) fn tell(&self, version: u64, each: bool, wanted: impl Fn(&str) -> bool) {
        let world = self.world();
        let log = &world.store.log;
        for watch in &lock(&self.wire).watches {
            let mut watch = lock(watch);
            if !wanted(&watch.plural) {
                continue;
            }
            // Versions only grow.
            let since = log.partition_point(|it| it.version <= watch.seen);
            let news = log[since..].iter().filter(|it| it.id.0 == watch.plural && it.version <= version);
            let mut news: Vec<Change> = news.cloned().collect();
            if !each {
                let last: BTreeMap<_, _> = news.iter().map(|it| (it.id.clone(), it.version)).collect();
                news.retain(|it| last[&it.id] == it.version);
            }
            watch.seen = watch.seen.max(version);
            for change in news {
                watch.tell(&change);
            }
            if let Some(waker) = watch.waker.take() {
                waker.wake();
            }
        }
    }

    /// All that was told has been read, and all kinds are watched.
    pub(crate) fn is_quiet(&self, kinds: usize) -> bool {
        let wire = lock(&self.wire);
        wire.watches.len() >= kinds
            && wire.watches.iter().all(|watch| {
                let watch = lock(watch);
                watch.line.is_empty() && watch.waker.is_some()
            })
    }
}

impl Watch {
    fn tell(&mut self, change: &Change) {
        let there = !change.deleted && selected(self.selector.as_deref(), &change.object);
        let name = &change.id.1;
        let kind = match (there, self.known.contains(name)) {
            (true, false) => "ADDED",
            (true, true) => "MODIFIED",
            (false, true) => "DELETED",
            (false, false) => return,
        };
        if there {
            self.known.insert(name.clone());
        } else {
            self.known.remove(name);
        }
        let object = shown(&change.object, self.metadata_only);
        self.line.push_back(Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")));
    }
}

/// The operator's selectors ask whether a label is there, or what it says.
fn selected(selector: Option<&str>, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.is_none_or(|it| match it.split_once('=') {
        Some((label, value)) => labels[label] == value,
        None => !labels[it].is_null(),
    })
}

/// As JSON.
fn shown(object: &Value, metadata_only: bool) -> String {
    if !metadata_only {
        return object.to_string();
    }
    let metadata = &object["metadata"];
    format!(r#"{{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":{metadata}}}"#)
}

fn answer(code: u16, object: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(object.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message,
    });
    answer(code, &status)
}

/// A connection that breaks before the answer.
fn lost() -> Response<Body> {
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Response::new(Body::from_stream(futures::stream::iter([Err::<Bytes, _>(error)])))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
