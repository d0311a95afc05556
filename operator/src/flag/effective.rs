//! Whether a type really runs, and what it is fed with. Plain.

use odoo_ai_crds::flag::EffectiveFlag;

use crate::rules::Rule;

/// Rules that are told.
const TOLD: usize = 64;

/// The Odoo models whose webhooks a type is fed with: the application's own table (docs/traps.md).
const FED_BY: [(&str, &[&str]); 12] = [
    ("deduplication", &["crm.lead", "res.partner", "product.template"]),
    ("forecasting", &["account.move", "account.payment"]),
    ("credit_management", &["sale.order"]),
    ("supply_chain", &["stock.picking"]),
    ("accounting", &["account.bank.statement.line"]),
    ("purchase", &["purchase.order"]),
    ("inventory", &["product.product"]),
    ("hr", &["hr.leave", "hr.expense"]),
    ("project", &["project.task"]),
    ("helpdesk", &["helpdesk.ticket"]),
    ("manufacturing", &["mrp.production"]),
    ("marketing", &["mailing.mailing"]),
];

/// What the rules make of a type: any enabled one opens the gate for the webhooks of its models.
#[must_use]
pub fn effective(rules: &[Rule], automation_type: &str) -> EffectiveFlag {
    let open = rules.iter().filter(|rule| rule.enabled && rule.automation_type == automation_type);
    let mut because_of: Vec<_> = open.map(|rule| rule.name.chars().take(255).collect::<String>()).collect();
    because_of.sort();
    let running = !because_of.is_empty();
    because_of.truncate(TOLD);
    EffectiveFlag { running, because_of, models: models(automation_type) }
}

fn models(automation_type: &str) -> Vec<String> {
    let mut all = FED_BY.iter();
    let found = all.find(|(name, _)| *name == automation_type).map(|(_, models)| *models);
    found.unwrap_or_default().iter().map(|model| (*model).to_owned()).collect()
}
