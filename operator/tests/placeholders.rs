//! Values of the application's example files, which it would take: refused outside Local.

mod sim;

use odoo_ai_crds::stack::{DatabaseType, Environment};
use rstest::rstest;
use serde_json::json;
use sim::World;

/// The sample in `environment`, with application secrets and a database of the user's own.
fn world(environment: Environment) -> World {
    let mut world = World::new();
    world.add_secret("app", &json!({"AI_SECRET_KEY": "a real one", "WEBHOOK_SECRET": "a real one"}));
    world.add_secret("database", &json!({"password": "a real one"}));
    world.edit(|stack| {
        stack.spec.environment = environment;
        stack.spec.app_secrets_ref = Some(serde_json::from_value(json!({"name": "app"})).expect("a reference"));
        stack.spec.database.kind = DatabaseType::External;
        stack.spec.database.external = Some(
            serde_json::from_value(json!({
                "host": "db.example.com", "database": "odoo", "username": "app",
                "passwordSecretRef": {"name": "database", "key": "password"},
            }))
            .expect("an external database"),
        );
    });
    world
}

#[rstest]
#[case::odoo("odoo-credentials", "password", "admin", "ODOO_PASSWORD")]
#[case::anthropic("anthropic", "apiKey", "sk-ant-xxxxx", "ANTHROPIC_API_KEY")]
#[case::key("app", "AI_SECRET_KEY", "change-me", "AI_SECRET_KEY")]
#[case::long_key("app", "AI_SECRET_KEY", "changeme-random-secret-32chars", "AI_SECRET_KEY")]
#[case::webhooks("app", "WEBHOOK_SECRET", "change-me-webhook-secret", "WEBHOOK_SECRET")]
#[case::long_webhooks("app", "WEBHOOK_SECRET", "changeme-webhook-secret-32chars", "WEBHOOK_SECRET")]
#[case::database("database", "password", "changeme-db-password", "database.external.passwordSecretRef")]
fn placeholders_are_refused_outside_local(
    #[case] secret: &str,
    #[case] key: &str,
    #[case] value: &str,
    #[case] behind: &str,
) {
    for environment in [Environment::Staging, Environment::Production] {
        let mut world = world(environment);
        world.edit_secret(secret, key, value);
        world.settle();
        let (reason, message) = world.words("Stalled");
        assert_eq!(reason, "PlaceholderSecret", "{message}");
        assert!(message.contains(behind) && !message.contains(value), "{message}");
        for part in ["ai-service", "worker", "beat", "dashboard"] {
            assert!(!world.has("Deployment", part) && !world.has("StatefulSet", part), "{part} runs with it");
        }
        assert!(!world.has_job("odoo-ai-migrate"));
        world.edit_secret(secret, key, "a real one");
        world.run_to_the_end();
    }
    let mut world = world(Environment::Local);
    world.edit_secret(secret, key, value);
    world.run_to_the_end();
    assert_eq!(world.condition("Ready"), Some("True"));
}
