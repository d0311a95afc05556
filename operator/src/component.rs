//! What the operator knows of each component: names, which are part of labels and selectors, and
//! the kind of its workload.

pub use odoo_ai_crds::stack::Component;

/// Components that a revision consists of, in the order in which they roll.
pub const APPLICATION: [Component; 4] =
    [Component::AiService, Component::Worker, Component::Beat, Component::Dashboard];

/// All components, in the order of the rollout.
pub const ALL: [Component; 6] = [
    Component::Database,
    Component::Redis,
    Component::AiService,
    Component::Worker,
    Component::Beat,
    Component::Dashboard,
];

/// Facts about a component.
pub trait ComponentExt {
    /// Name in labels, object names and messages; it never changes.
    fn name(self) -> &'static str;
    /// True for the three processes that run the ai-service image.
    fn runs_ai_service_image(self) -> bool;
    /// Kind of its workload.
    fn kind(self) -> &'static str;
    /// True where the pods belong to a `StatefulSet`: never two of them, also while one is replaced.
    fn stateful(self) -> bool;
}

impl ComponentExt for Component {
    fn name(self) -> &'static str {
        match self {
            Self::Database => "postgresql",
            Self::Redis => "redis",
            Self::AiService => "ai-service",
            Self::Worker => "worker",
            Self::Beat => "beat",
            Self::Dashboard => "dashboard",
        }
    }

    fn runs_ai_service_image(self) -> bool {
        matches!(self, Self::AiService | Self::Worker | Self::Beat)
    }

    fn kind(self) -> &'static str {
        if self.stateful() { "StatefulSet" } else { "Deployment" }
    }

    fn stateful(self) -> bool {
        matches!(self, Self::Database | Self::Redis | Self::Beat)
    }
}
