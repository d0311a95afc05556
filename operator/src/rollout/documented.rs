//! The rollout's table and its diagram in `docs/stack.md`, made from [`TABLE`].
//! `DOCS_UPDATE=1 cargo test -p odoo-ai-operator documented` rewrites them.

use std::fmt::Write;
use std::path::Path;

use odoo_ai_crds::stack::Step;

use super::steps::{Row, TABLE, has_deadline};

fn table() -> String {
    let mut text = "| step | is done when |\n| --- | --- |\n".to_owned();
    for (index, Row { step, opens, .. }) in TABLE.iter().enumerate() {
        let _ = writeln!(text, "| {} {step} | {opens} |", index + 1);
    }
    text
}

/// The way forward, the way back, and where a revision can fail.
fn diagram() -> String {
    let mut text = "```mermaid\nflowchart LR\n  spec([a changed spec]) --> Database\n".to_owned();
    let chain = |rows: &[&Row]| {
        let pairs = rows.windows(2).map(|pair| format!("  {} --> {}\n", pair[0].step, pair[1].step));
        pairs.collect::<String>()
    };
    let all: Vec<_> = TABLE.iter().collect();
    text += &chain(&all);
    let last = TABLE.last().expect("a row").step;
    let _ = writeln!(text, "  {last} --> current([currentRevision])");
    let timed: Vec<_> = TABLE.iter().filter(|row| has_deadline(row.step)).map(|row| row.step.to_string()).collect();
    // What waits for a person, a backup or the rules API never makes a revision fail.
    let patient = [Step::Approval, Step::Backup, Step::RulesGate];
    let failing = TABLE.iter().map(|row| row.step).filter(|step| *step >= Step::Plan && !patient.contains(step));
    let failing: Vec<_> = failing.map(|step| step.to_string()).collect();
    let _ = writeln!(text, "  {} -. a threshold is met .-> failed{{failed}}", failing.join(" & "));
    let back: Vec<_> = TABLE.iter().filter(|row| !row.forward_only).map(|row| row.step.to_string()).collect();
    let _ = writeln!(text, "  failed -. the revision before, through {} .-> back([RolledBack])", back.join(", "));
    let _ = writeln!(text, "  classDef timed stroke-width:3px\n  class {} timed\n```", timed.join(","));
    text
}

#[test]
fn the_documented_table_and_diagram_are_of_the_real_steps() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/stack.md");
    let page = std::fs::read_to_string(&path).expect("docs/stack.md");
    let mut wanted = page.clone();
    for (name, text) in [("steps", table()), ("diagram", diagram())] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- {name}: end -->"));
        let from = wanted.find(&begin).expect("the beginning") + begin.len();
        let to = wanted.find(&end).expect("the end");
        wanted.replace_range(from..to, &text);
    }
    if std::env::var_os("DOCS_UPDATE").is_some() {
        std::fs::write(&path, &wanted).expect("written");
    } else {
        assert!(
            page == wanted,
            "docs/stack.md is out of date: DOCS_UPDATE=1 cargo test -p odoo-ai-operator documented"
        );
    }
}
