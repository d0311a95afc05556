//! The application's rules API on a port of this machine, for whichever cluster is on stage.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cluster::Cluster;
use crate::faults::Strike;
use crate::world::rule;

/// Where the application looks for its rules.
#[derive(Clone, Default)]
pub(crate) struct Application(Arc<Mutex<Option<Arc<Cluster>>>>);

impl Application {
    /// Serves until the runtime ends.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let application = self.clone();
        let router = Router::new().fallback(move |request: Request<Body>| {
            let application = application.clone();
            async move { application.answer(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// From now on the rules are those of `cluster`.
    pub(crate) fn enters(&self, cluster: &Arc<Cluster>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(cluster));
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let cluster = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("a cluster on stage");
        let (head, body) = request.into_parts();
        let body: Value =
            serde_json::from_slice(&to_bytes(body, usize::MAX).await.expect("a body")).unwrap_or_default();
        if !head.headers.contains_key("x-api-key") {
            return response(401, &json!({"detail": "no key"}));
        }
        {
            let rules = &mut cluster.world().rules;
            if rules.refusals > 0 {
                rules.refusals -= 1;
                return response(503, &json!({"detail": "not now"}));
            }
        }
        if head.method == Method::GET {
            cluster.faults().read();
            let world = cluster.world();
            return response(200, &json!(world.rules.rows));
        }
        let path = head.uri.path();
        let method = head.method.as_str().to_lowercase();
        let strike = cluster.faults().count(&format!("{method} {path}"));
        let stored = match strike {
            None | Some(Strike::Replace) => true,
            Some(Strike::Crash { stored } | Strike::Lose { stored }) => stored,
        };
        let mut written = json!({"status": "deleted"});
        if stored {
            let rules = &mut cluster.world().rules;
            let id: Option<i64> = path.rsplit('/').next().and_then(|id| id.parse().ok());
            if let Some(id) = id {
                rules.rows.retain(|row| row["id"] != id);
                rules.untouched.remove(&id);
            }
            if head.method != Method::DELETE {
                let next = rules.rows.iter().filter_map(|row| row["id"].as_i64()).max().unwrap_or(-1) + 1;
                written = rule(id.unwrap_or(next), &body);
                rules.rows.push(written.clone());
            }
        }
        match strike {
            None | Some(Strike::Replace) => response(200, &written),
            Some(Strike::Lose { .. }) => response(502, &Value::Null),
            Some(Strike::Crash { .. }) => cluster.die().await,
        }
    }
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response
}
