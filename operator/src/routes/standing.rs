//! Which kinds of routes are made for which hosts, and why not. Plain: what was seen goes in.

use odoo_ai_crds::conditions::reasons;
use odoo_ai_crds::stack::{IngressController, OdooAiStackSpec};

use super::model::Routes;
use super::rivals::Rivals;
use crate::stack::references::{Data, Reference};

/// The variable without which the application accepts every call of Slack.
const SIGNING_SECRET: &str = "SLACK_SIGNING_SECRET";

/// What is known of the cluster's surroundings of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Traefik's kinds are served; `None`: not known yet.
    pub traefik: Option<bool>,
    /// Hosts that belong to older stacks; `None`: not known yet.
    pub rivals: Option<Rivals>,
    /// What hides clients' addresses from an allow list, in words; `None`: nothing, as far as is known.
    pub hides_clients: Option<String>,
}

/// What is made of the routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What to build; `None`: nothing.
    pub made: Option<Made>,
    /// It isn't known yet what should be: what is there stays.
    pub unknown: bool,
    /// Condition reason and message of what keeps a route from being made.
    pub fault: Option<(&'static str, String)>,
}

impl Standing {
    /// A standard Ingress leads what must stay closed to a port where nobody listens.
    #[must_use]
    pub fn closes_a_port(&self) -> bool {
        let standard = self.made.as_ref().filter(|made| made.controller == IngressController::Ingress);
        standard.is_some_and(|made| made.api.is_some() && !made.slack)
    }
}

/// Routes to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The kind.
    pub controller: IngressController,
    /// Host of the API.
    pub api: Option<String>,
    /// `/api/slack/interactions` is open.
    pub slack: bool,
    /// Host of the dashboard.
    pub dashboard: Option<String>,
}

/// Settles what to make. `signed`: the application knows Slack's signing secret.
#[must_use]
pub fn settle(routes: Option<&Routes>, around: &Surroundings, signed: bool) -> Standing {
    let Some(routes) = routes else { return Standing::default() };
    let controller = match controller(routes, around.traefik) {
        Ok(controller) => controller,
        Err(why) => {
            return Standing { fault: Some((reasons::TRAEFIK_NOT_INSTALLED, why)), ..Standing::default() };
        }
    };
    let (Some(controller), Some(rivals)) = (controller, &around.rivals) else {
        return Standing { unknown: true, ..Standing::default() };
    };
    let free = |host: &Option<String>| host.clone().filter(|host| !rivals.contains_key(host));
    let slack = routes.expose_slack && signed;
    let made = Made { controller, api: free(&routes.api), slack, dashboard: free(&routes.dashboard) };
    let unsigned = (routes.expose_slack && !signed).then(|| {
        let why = format!(
            "ingress.api.exposeSlack is true and {SIGNING_SECRET} is set nowhere: the application would accept approvals of anybody, so /api/slack/interactions stays closed; set it in aiService.env, env or envFrom"
        );
        (reasons::SIGNING_SECRET_MISSING, why)
    });
    Standing { made: Some(made), unknown: false, fault: conflict(rivals).or(unsigned) }
}

/// The kind to make; `None`: not known yet.
fn controller(routes: &Routes, traefik: Option<bool>) -> Result<Option<IngressController>, String> {
    let missing = "the cluster doesn't serve Traefik's kinds (IngressRoute, Middleware of traefik.io/v1alpha1)";
    match (routes.controller, traefik) {
        (Some(IngressController::Ingress), _) => Ok(Some(IngressController::Ingress)),
        (_, None) => Ok(None),
        (_, Some(true)) => Ok(Some(IngressController::Traefik)),
        (Some(IngressController::Traefik), Some(false)) => {
            Err(format!("{missing}: install Traefik with its CRDs, or set ingress.controller to Ingress"))
        }
        (None, Some(false)) => match routes.needs_traefik() {
            Some(field) => Err(format!(
                "{missing}, and a standard Ingress can't express {field}: install Traefik with its CRDs, or leave that field out"
            )),
            None => Ok(Some(IngressController::Ingress)),
        },
    }
}

fn conflict(rivals: &Rivals) -> Option<(&'static str, String)> {
    if rivals.is_empty() {
        return None;
    }
    let words: Vec<_> = rivals.iter().map(|(host, by)| format!("{host} belongs to the older stack {by}")).collect();
    Some((reasons::HOST_CONFLICT, format!("{}: no route is made for it; choose another host", words.join(", "))))
}

/// Whether the spec gives ai-service Slack's signing secret, by a variable or by a key of `envFrom`.
#[must_use]
pub fn signed(spec: &OdooAiStackSpec, data: &Data) -> bool {
    let variables = spec.env.iter().chain(&spec.ai_service.pod.env);
    let by_variable = variables.into_iter().any(|it| {
        it.name == SIGNING_SECRET
            && (it.value_from.is_some() || it.value.as_ref().is_some_and(|value| !value.is_empty()))
    });
    let by_source = spec.env_from.iter().any(|source| {
        let secret = source.secret_ref.as_ref().map(|it| Reference::Secret(it.name.clone()));
        let reference =
            secret.or_else(|| source.config_map_ref.as_ref().map(|it| Reference::ConfigMap(it.name.clone())));
        let contents = reference.and_then(|reference| data.get(&reference)?.as_ref());
        let key = SIGNING_SECRET.strip_prefix(source.prefix.as_deref().unwrap_or_default());
        contents.zip(key).is_some_and(|(contents, key)| contents.text.get(key).is_some_and(|value| !value.is_empty()))
    });
    by_variable || by_source
}
