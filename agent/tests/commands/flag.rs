use std::sync::Arc;

use serde_json::Value;

use crate::agent::{APP_PASSWORD, Agent, text};
use crate::servers::{Postgres, block_on, skip};

/// How the type is stored: as the code names it, by an enum or by text.
const ENUM: &str = "CREATE TYPE automationtype AS ENUM ('CRM', 'HR')";
const COLUMNS: &str = "id serial PRIMARY KEY, name varchar(255) NOT NULL, action_name varchar(255) NOT NULL,
    enabled boolean, config json, updated_at timestamp DEFAULT '2026-02-01'";

/// A database of its own with rules in it.
struct Rules {
    postgres: Arc<Postgres>,
    name: String,
}

impl Rules {
    fn new(kind: &str) -> Option<Self> {
        let postgres = Postgres::shared()?;
        let name = postgres.fresh_name();
        let quoted = APP_PASSWORD.replace('\'', "''");
        postgres.execute("postgres", &format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{quoted}'"));
        postgres.execute("postgres", &format!("CREATE DATABASE \"{name}\" OWNER \"{name}\""));
        let rules = Self { postgres, name };
        rules.sql(ENUM);
        rules.sql(&format!("CREATE TABLE automation_rules ({COLUMNS}, automation_type {kind} NOT NULL)"));
        for (rule, label, action) in
            [("Leads", "CRM", "score"), ("Leave", "HR", "score"), ("It's \"%\" ü", "CRM", "say")]
        {
            let label = if kind == "text" { label.to_lowercase() } else { label.to_owned() };
            let rule = rule.replace('\'', "''");
            rules.sql(&format!(
                "INSERT INTO automation_rules (name, automation_type, action_name, enabled)
                 VALUES ('{rule}', '{label}', '{action}', true)"
            ));
        }
        Some(rules)
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        self.postgres.try_execute_as(&self.name, APP_PASSWORD, &self.name, sql).expect("SQL")
    }

    fn enabled(&self) -> Vec<String> {
        self.sql("SELECT id::text FROM automation_rules WHERE enabled ORDER BY id")
    }

    fn agent(&self, rule: [&str; 3]) -> Agent {
        Agent::new(&["flag", "disable"])
            .database(self.postgres.port, &self.name)
            .env("ODOOAI_RULE_NAME", rule[0])
            .env("ODOOAI_RULE_TYPE", rule[1])
            .env("ODOOAI_RULE_ACTION", rule[2])
    }
}

/// Runs it; exit code and report.
fn run(mut agent: Agent) -> (Option<i32>, Value) {
    let done = agent.output();
    let report = agent.report();
    let everything = format!("{}{}{report}", text(&done.stdout), text(&done.stderr));
    assert!(!everything.contains(APP_PASSWORD), "{everything}");
    assert_eq!(report["command"], "flag disable");
    (done.status.code(), report)
}

#[test]
fn exactly_the_rule_is_disabled_however_its_type_is_stored() {
    for kind in ["automationtype", "text"] {
        let Some(rules) = Rules::new(kind) else { return skip("flag disable", "no PostgreSQL here") };
        let (code, report) = run(rules.agent(["Leads", "crm", "score"]));
        assert_eq!((code, &report["reason"]), (Some(0), &"RuleDisabled".into()), "{report}");
        assert_eq!(report["message"], "rule 1 was disabled in the database");
        assert_eq!(rules.enabled(), ["2", "3"]);
        // Again: nothing to do.
        let (code, report) = run(rules.agent(["Leads", "crm", "score"]));
        assert_eq!((code, &report["message"]), (Some(0), &"rule 1 was disabled already".into()));
        let (code, _) = run(rules.agent(["It's \"%\" ü", "crm", "say"]));
        assert_eq!((code, rules.enabled()), (Some(0), vec!["2".to_owned()]));
        let untouched =
            "SELECT count(*)::text FROM automation_rules WHERE updated_at = '2026-02-01' AND config IS NULL";
        assert_eq!(rules.sql(untouched), ["3"], "another column was written");
    }
}

#[test]
fn a_renamed_rule_is_found_by_its_id_and_a_reused_id_is_not() {
    let Some(rules) = Rules::new("automationtype") else { return skip("flag disable by id", "no PostgreSQL here") };
    rules.sql("UPDATE automation_rules SET name = 'Renamed' WHERE id = 1");
    let (code, _) = run(rules.agent(["Leads", "crm", "score"]).env("ODOOAI_RULE_ID", "1"));
    assert_eq!((code, rules.enabled()), (Some(0), vec!["2".to_owned(), "3".to_owned()]));
    // The id is another rule's now.
    let (code, report) = run(rules.agent(["Leads", "crm", "score"]).env("ODOOAI_RULE_ID", "2"));
    assert_eq!((code, &report["reason"]), (Some(10), &"RuleNotFound".into()), "{report}");
    assert_eq!(rules.enabled(), ["2", "3"]);
}

#[test]
fn what_is_not_there_is_refused_with_its_name() {
    let Some(rules) = Rules::new("automationtype") else { return skip("flag disable, none", "no PostgreSQL here") };
    let (code, report) = run(rules.agent(["Leads", "hr", "score"]));
    assert_eq!((code, &report["reason"]), (Some(10), &"RuleNotFound".into()), "{report}");
    let message = report["message"].as_str().expect("text");
    assert!(message.contains("\"Leads\" of type hr and action score"), "{message}");
    assert_eq!(rules.enabled().len(), 3);
    rules.sql("DROP TABLE automation_rules");
    let (code, report) = run(rules.agent(["Leads", "crm", "score"]));
    assert_eq!((code, &report["reason"]), (Some(10), &"RuleNotFound".into()), "{report}");
}

#[test]
fn a_row_that_a_hanging_request_holds_is_waited_for() {
    let Some(rules) = Rules::new("automationtype") else { return skip("flag disable, locked", "no PostgreSQL here") };
    let (code, report, waited) = block_on(async {
        let holder = rules.postgres.client("postgres", crate::servers::PASSWORD, &rules.name).await.expect("a session");
        holder.batch_execute("BEGIN; UPDATE automation_rules SET name = name WHERE id = 1").await.expect("held");
        let agent = rules.agent(["Leads", "crm", "score"]);
        let began = std::time::Instant::now();
        let running = std::thread::spawn(move || run(agent));
        // Longer than one wait for a lock.
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
        holder.batch_execute("COMMIT").await.expect("let go");
        let (code, report) = running.join().expect("the agent");
        (code, report, began.elapsed())
    });
    assert_eq!((code, &report["result"]), (Some(0), &"Succeeded".into()), "{report}");
    assert!(waited.as_secs() >= 7, "it didn't wait");
    assert_eq!(rules.enabled(), ["2", "3"]);
}
