//! What the operator sees of the simulated cluster, and the Secrets in it.

use super::*;

impl World {
    pub(crate) fn observe(&self) -> Observed {
        let mut children = Children::default();
        children.pending.claims.clone_from(&self.claims);
        for (key, value) in self.objects.iter().filter(|(key, _)| !self.hidden.contains(key)) {
            let name = key.name.clone();
            match key.kind.as_str() {
                "Deployment" => drop(children.deployments.insert(name, typed::<Deployment>(value))),
                "StatefulSet" => drop(children.stateful_sets.insert(name, typed::<StatefulSet>(value))),
                "Job" => drop(children.jobs.insert(name, typed::<Job>(value))),
                "Pod" => drop(children.pods.insert(name, typed::<Pod>(value))),
                kind if kind == "Secret" || value["metadata"]["labels"].is_object() => {
                    let meta = serde_json::from_value(value["metadata"].clone()).expect("metadata");
                    children.metadata.insert(key.clone(), meta);
                }
                _ => {}
            }
        }
        let stored = self
            .objects
            .iter()
            .filter(|(key, _)| key.kind == "ControllerRevision")
            .map(|(key, value)| {
                let stored: Stored = serde_json::from_value(value["data"].clone()).expect("stored templates");
                let number = value["revision"].as_i64().expect("a number");
                (key.name.clone(), Arc::new(Stored { number, ..stored }))
            })
            .collect();
        let wanted = references::of(&self.stack.spec, STACK);
        let data: Data = wanted.into_iter().map(|it| (it.clone(), self.data(&it).map(Into::into))).collect();
        let secret = |name: &str| -> Option<Secret> {
            let value = self.objects.get(&key("Secret", name))?;
            Some(serde_json::from_value(value.clone()).expect("a Secret"))
        };
        let revision_key = secret(&format!("{STACK}-revision-key")).and_then(RevisionKey::of);
        let mut seen = Observed {
            object: self.stack.clone(),
            children,
            data,
            revision_key,
            current_copies: None,
            live: secret(&format!("{STACK}-credentials")).map(Into::into),
            stored,
            agents: self.agents.clone(),
            backup: self.backup.clone().map(Arc::new),
            last_backup: None,
            export: odoo_ai_operator::stack::keys::Export::default(),
            rules: None,
            restore: None,
            source: self.source.clone().map(Box::new),
            node_images: Arc::clone(&self.node_images),
            around: self.around.clone(),
            looks: self.looks.clone(),
            leading_since: self.leading_since,
            now: self.now,
        };
        if let Some(current) = seen.misnamed() {
            let copies = self.data(&Reference::Secret(format!("{STACK}-config-{current}")));
            seen.current_copies = copies;
        }
        seen
    }

    fn data(&self, reference: &Reference) -> Option<BTreeMap<String, String>> {
        let (Reference::Secret(name) | Reference::ConfigMap(name)) = reference;
        let data = self.objects.get(&key("Secret", name))?["data"].as_object()?;
        let text = |value: &Value| {
            let bytes: ByteString = serde_json::from_value(value.clone()).expect("base64");
            String::from_utf8(bytes.0).expect("text")
        };
        Some(data.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }

    /// A person changes a key of a Secret.
    pub(crate) fn edit_secret(&mut self, name: &str, key: &str, value: &str) {
        let secret = self.objects.get_mut(&self::key("Secret", name)).expect("the Secret exists");
        secret["data"][key] = encoded(&json!({"it": value}))["it"].take();
    }

    /// A person creates a Secret.
    pub(crate) fn add_secret(&mut self, name: &str, values: &Value) {
        let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}")});
        self.objects.insert(key("Secret", name), json!({"metadata": metadata, "data": encoded(values)}));
    }

    /// True when there is a Job whose name begins so.
    pub(crate) fn has_job(&self, prefix: &str) -> bool {
        self.objects.keys().any(|key| key.kind == "Job" && key.name.starts_with(prefix))
    }

    /// The value of a key of a Secret.
    pub(crate) fn secret(&self, name: &str, key: &str) -> Option<String> {
        self.data(&Reference::Secret(name.to_owned()))?.remove(key)
    }
}
