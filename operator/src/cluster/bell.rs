//! Wakes objects of one kind for what is seen by other kinds' watches: one watch serves all.

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

/// A bell of one kind; the default one is heard by nobody.
pub struct Bell<K: Resource<DynamicType = ()>> {
    label: &'static str,
    sender: Option<UnboundedSender<ObjectRef<K>>>,
}

impl<K: Resource<DynamicType = ()>> Bell<K> {
    /// A bell, and what is heard of it. `label` has the name of the object that a child belongs to.
    #[must_use]
    pub fn new(label: &'static str) -> (Self, UnboundedReceiver<ObjectRef<K>>) {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        (Self { label, sender: Some(sender) }, receiver)
    }

    /// Something of an object changed.
    pub fn ring<C: Resource>(&self, child: &C) {
        if let (Some(name), Some(namespace)) = (child.labels().get(self.label), child.namespace()) {
            self.ring_for(&ObjectRef::new(name).within(&namespace));
        }
    }

    /// Something that the object depends on changed.
    pub fn ring_for(&self, object: &ObjectRef<K>) {
        // Nobody hears it while the process ends.
        self.sender.iter().for_each(|sender| _ = sender.unbounded_send(object.clone()));
    }
}

impl<K: Resource<DynamicType = ()>> Clone for Bell<K> {
    fn clone(&self) -> Self {
        Self { label: self.label, sender: self.sender.clone() }
    }
}

impl<K: Resource<DynamicType = ()>> Default for Bell<K> {
    fn default() -> Self {
        Self { label: "", sender: None }
    }
}
