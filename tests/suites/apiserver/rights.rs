//! Tables of rights: verbs, and `group:resource/subresource`.

/// What the operator needs where stacks are.
pub(crate) const NEEDED: &[(&str, &str)] = &[
    ("get list watch", "odoo-ai.atmatasolutions.com:odooaistacks"),
    ("get list watch patch", "odoo-ai.atmatasolutions.com:backups"),
    ("list watch", "odoo-ai.atmatasolutions.com:restores"),
    ("get list watch patch", "odoo-ai.atmatasolutions.com:featureflags"),
    ("update", "odoo-ai.atmatasolutions.com:odooaistacks/status"),
    ("update", "odoo-ai.atmatasolutions.com:backups/status"),
    ("get list watch create patch delete", "secrets"),
    ("get list watch create patch delete", "services"),
    ("get list watch create patch", "persistentvolumeclaims"),
    ("get list watch create patch delete", "apps:deployments"),
    ("get list watch create patch delete", "apps:statefulsets"),
    ("get list watch create delete", "apps:controllerrevisions"),
    ("get list watch create patch delete", "networking.k8s.io:networkpolicies"),
    ("get list watch create patch delete", "traefik.io:ingressroutes"),
    ("get list watch create patch delete", "traefik.io:middlewares"),
    ("get list watch create patch delete", "networking.k8s.io:ingresses"),
    ("list", "discovery.k8s.io:endpointslices"),
    ("get list watch create patch delete", "policy:poddisruptionbudgets"),
    ("get list watch create patch delete", "serviceaccounts"),
    ("get list watch", "configmaps"),
    ("get list watch create delete", "batch:jobs"),
    ("get list watch create patch", "batch:cronjobs"),
    ("list watch", "pods"),
    ("list", "events"),
    ("create patch", "events.k8s.io:events"),
];

/// What nobody should get by way of the operator, not even where stacks are.
pub(crate) const NEVER: &[(&str, &str)] = &[
    ("deletecollection update", "secrets"),
    ("delete deletecollection update", "persistentvolumeclaims"),
    ("create update patch delete deletecollection", "odoo-ai.atmatasolutions.com:odooaistacks"),
    ("create update delete deletecollection", "odoo-ai.atmatasolutions.com:backups"),
    ("create update patch delete deletecollection", "odoo-ai.atmatasolutions.com:restores"),
    ("create update delete deletecollection", "odoo-ai.atmatasolutions.com:featureflags"),
    ("create update patch delete deletecollection", "pods"),
    ("get create", "pods/exec"),
    ("get create", "pods/attach"),
    ("get create", "pods/portforward"),
    ("get create", "pods/proxy"),
    ("update patch", "pods/ephemeralcontainers"),
    ("create", "pods/eviction"),
    ("create", "pods/binding"),
    ("create", "serviceaccounts/token"),
    ("deletecollection update impersonate", "serviceaccounts"),
    ("get create", "services/proxy"),
    ("create update patch delete bind escalate", "rbac.authorization.k8s.io:roles"),
    ("create update patch delete", "rbac.authorization.k8s.io:rolebindings"),
    ("get update patch delete", "coordination.k8s.io:leases"),
    ("deletecollection", "apps:deployments"),
    ("deletecollection", "apps:statefulsets"),
    ("deletecollection update", "apps:controllerrevisions"),
    ("deletecollection update", "networking.k8s.io:networkpolicies"),
    ("deletecollection update", "networking.k8s.io:ingresses"),
    ("update patch", "networking.k8s.io:ingresses/status"),
    ("get create delete", "networking.k8s.io:ingressclasses"),
    ("create update patch delete", "discovery.k8s.io:endpointslices"),
    ("deletecollection update", "traefik.io:ingressroutes"),
    ("get create patch delete", "traefik.io:tlsstores"),
    ("get create patch delete", "traefik.io:tlsoptions"),
    ("get create patch delete", "traefik.io:ingressroutetcps"),
    ("create update", "apps:deployments/scale"),
    ("delete deletecollection update", "batch:cronjobs"),
    ("delete", "events.k8s.io:events"),
];

/// What belongs to the cluster.
pub(crate) const CLUSTER: &[(&str, &str)] = &[
    ("get watch create update patch delete", "nodes"),
    ("patch update", "nodes/status"),
    ("get", "nodes/proxy"),
    ("get list create delete", "namespaces"),
    ("get list delete", "persistentvolumes"),
    ("create update patch delete bind escalate", "rbac.authorization.k8s.io:clusterroles"),
    ("create update patch delete", "rbac.authorization.k8s.io:clusterrolebindings"),
    ("create update patch delete", "apiextensions.k8s.io:customresourcedefinitions"),
    ("create update patch delete", "admissionregistration.k8s.io:validatingwebhookconfigurations"),
    ("create update patch delete", "admissionregistration.k8s.io:mutatingwebhookconfigurations"),
    ("impersonate", "users"),
    ("impersonate", "groups"),
    ("approve", "certificates.k8s.io:signers"),
    ("use", "policy:podsecuritypolicies"),
];

/// Granted, and used by no request of the code as it is. A new line is a right that nobody needs.
pub(crate) const NOT_USED: &[&str] = &[
    // Asked for by clusters that check owner references, not by a request of ours.
    "update odoo-ai.atmatasolutions.com:odooaistacks/finalizers",
    "update odoo-ai.atmatasolutions.com:backups/finalizers",
];
