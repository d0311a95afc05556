//! `/metrics`: the same observation for Prometheus. What is not known is left out,
//! because a 0 would be a lie.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::odoo;
use crate::serve::observe::Observation;

type Labels = Vec<(&'static str, String)>;

/// As the encoder writes it.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one observation. The number of series is bounded by the configured queues.
pub(crate) fn render(seen: &Observation) -> String {
    let mut registry = Registry::with_prefix("odooai");
    registry.register("agent", "The agent that measures", Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]));
    up(&mut registry, "database_up", "Whether the application's database answers", seen.basics.database.is_ok());
    up(&mut registry, "redis_up", "Whether Redis answers", seen.basics.redis.is_ok());
    up(&mut registry, "application_up", "Whether this pod's application answers", seen.basics.application.is_ok());
    odoo_state(&mut registry, seen.odoo.state);
    let numbers = [
        ("redis_used_memory_bytes", "Memory that Redis uses", seen.redis.used_memory),
        ("redis_max_memory_bytes", "Memory that Redis may use, 0 for no limit", seen.redis.max_memory),
        ("tasks_unacknowledged", "Tasks that a worker has taken and not finished", seen.redis.unacknowledged),
        (
            "webhooks_unprocessed",
            "Webhooks that were received and not processed",
            seen.database.unprocessed.map(i64::cast_unsigned),
        ),
    ];
    for (name, help, number) in numbers {
        if let Some(number) = number {
            registry.register(name, help, ConstGauge::new(number));
        }
    }
    if let Some(policy) = &seen.redis.eviction_policy {
        let family = Family::<Labels, Gauge>::default();
        family.get_or_create(&vec![("policy", policy.clone())]).set(1);
        registry.register("redis_eviction_policy", "What Redis does when its memory is full", family);
    }
    queues(&mut registry, seen);

    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}

fn up(registry: &mut Registry, name: &'static str, help: &'static str, value: bool) {
    registry.register(name, help, ConstGauge::new(i64::from(value)));
}

fn odoo_state(registry: &mut Registry, now: odoo::State) {
    let family = Family::<Labels, Gauge>::default();
    for state in odoo::State::ALL {
        family.get_or_create(&vec![("state", state.as_str().to_owned())]).set(i64::from(state == now));
    }
    registry.register("odoo_state", "1 for the state that Odoo's last answer showed", family);
}

fn queues(registry: &mut Registry, seen: &Observation) {
    let length = Family::<Labels, Gauge>::default();
    let unconsumed = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for queue in &seen.redis.queues {
        let labels = vec![("queue", queue.name.clone())];
        length.get_or_create(&labels).set(i64::try_from(queue.length).unwrap_or(i64::MAX));
        unconsumed.get_or_create(&labels).set(queue.unconsumed_seconds);
    }
    registry.register("queue_length", "Messages that wait in a queue", length);
    registry.register(
        "queue_unconsumed_seconds",
        "Time for which nobody has taken the oldest message of a queue, as far as this agent saw",
        unconsumed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::broker::{self, Queue};
    use crate::serve::database;
    use crate::serve::observe::Basics;

    fn observation() -> Observation {
        Observation {
            basics: Basics { database: Ok(()), redis: Err("gone".to_owned()), application: Ok(()) },
            database: database::Content::default(),
            redis: broker::Content::default(),
            odoo: odoo::Answer::default(),
        }
    }

    #[test]
    fn the_unknown_is_left_out() {
        let text = render(&observation());
        assert!(text.contains("odooai_database_up 1\n"));
        assert!(text.contains("odooai_redis_up 0\n"));
        assert!(text.contains("odooai_odoo_state{state=\"Unknown\"} 1\n"));
        assert!(!text.contains("memory") && !text.contains("webhooks"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn queues_have_a_length_and_an_age() {
        let mut seen = observation();
        seen.redis.queues.push(Queue { name: "celery".to_owned(), length: 7, unconsumed_seconds: 1.5 });
        seen.database.unprocessed = Some(3);
        seen.redis.eviction_policy = Some("noeviction".to_owned());
        let text = render(&seen);
        assert!(text.contains("odooai_redis_eviction_policy{policy=\"noeviction\"} 1\n"));
        assert!(text.contains("odooai_queue_length{queue=\"celery\"} 7\n"));
        assert!(text.contains("odooai_queue_unconsumed_seconds{queue=\"celery\"} 1.5\n"));
        assert!(text.contains("odooai_webhooks_unprocessed 3\n"));
    }
}
