//! Images that lie on the nodes, as their kubelets tell it: whether a revision of the history could start again
//! without a registry.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client};

use super::remembered::Remembered;

/// A kubelet tells its largest images only, that many unless it is configured otherwise (`nodeStatusMaxImages`).
const MOST: usize = 50;

/// Images on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    names: BTreeSet<String>,
    /// Every node told all that it has.
    complete: bool,
}

impl Images {
    /// What these nodes have.
    pub fn of<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Self {
        let (mut names, mut complete, mut any) = (BTreeSet::new(), true, false);
        for node in nodes {
            let images = node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
            complete &= images.len() < MOST;
            any = true;
            names.extend(images.iter().flat_map(|image| image.names.iter().flatten()).cloned());
        }
        Self { names, complete: complete && any }
    }

    /// Whether a node has `image`; `None` where nobody knows.
    #[must_use]
    pub fn has(&self, image: &str) -> Option<bool> {
        let found = self.names.contains(&full(image)) || self.names.contains(image);
        (found || self.complete).then_some(found)
    }
}

/// An image's name as the runtime keeps it: with its registry, and a tag or a digest.
fn full(image: &str) -> String {
    let (path, digest) = image.split_once('@').map_or((image, None), |(path, digest)| (path, Some(digest)));
    let last = path.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match path[last..].find(':') {
        Some(colon) => (&path[..last + colon], Some(&path[last + colon + 1..])),
        None => (path, None),
    };
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let path = match path.split_once('/') {
        Some((first, _)) if is_registry(first) => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    };
    match digest {
        Some(digest) => format!("{path}@{digest}"),
        None => format!("{path}:{}", tag.unwrap_or("latest")),
    }
}

/// Asks for them now and then, where it may.
#[derive(Debug, Default)]
pub struct Nodes {
    wanted: bool,
    known: Remembered<Arc<Images>>,
}

impl Nodes {
    /// `wanted`: the chart gave the right to list nodes.
    #[must_use]
    pub fn new(wanted: bool) -> Self {
        Self { wanted, known: Remembered::default() }
    }

    /// The images, as of some minutes ago. Where they can't be had nothing is known.
    pub async fn images(&self, client: &Client) -> Arc<Images> {
        if !self.wanted {
            return Arc::default();
        }
        let read = async {
            let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
            Ok(Arc::new(Images::of(&nodes)))
        };
        self.known.get("the images of the nodes", read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("postgres:17", "docker.io/library/postgres:17")]
    #[case("postgres", "docker.io/library/postgres:latest")]
    #[case("odoo/ai:1", "docker.io/odoo/ai:1")]
    #[case("ghcr.io/odoo/ai:1", "ghcr.io/odoo/ai:1")]
    #[case("localhost/ai", "localhost/ai:latest")]
    #[case("127.0.0.1:5000/ai:2", "127.0.0.1:5000/ai:2")]
    #[case("ghcr.io/ai:1@sha256:abc", "ghcr.io/ai@sha256:abc")]
    fn names_as_the_runtime_keeps_them(#[case] image: &str, #[case] expected: &str) {
        assert_eq!(full(image), expected);
    }

    fn node(images: &[&str]) -> Node {
        let images: Vec<_> = images.iter().map(|image| json!({"names": [image], "sizeBytes": 1})).collect();
        serde_json::from_value(json!({"status": {"images": images}})).expect("a node")
    }

    #[test]
    fn what_is_not_told_is_gone_only_where_all_is_told() {
        let few = Images::of([&node(&["docker.io/odoo/ai:1"])]);
        assert_eq!((few.has("odoo/ai:1"), few.has("odoo/ai:2")), (Some(true), Some(false)));
        let names: Vec<_> = (0..MOST).map(|number| format!("docker.io/odoo/ai:{number}")).collect();
        let many = Images::of([&node(&names.iter().map(String::as_str).collect::<Vec<_>>())]);
        assert_eq!((many.has("odoo/ai:1"), many.has("odoo/other:1")), (Some(true), None));
        assert_eq!(Images::default().has("odoo/ai:1"), None);
        assert_eq!(Images::of([]).has("odoo/ai:1"), None, "an operator that sees no node knows nothing");
    }
}
