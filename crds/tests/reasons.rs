//! Every reason and condition that users meet is explained to them.

use std::path::Path;

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).expect("a file of this repository")
}

/// Values of the constants of a module in conditions.rs.
fn constants(module: &str) -> Vec<String> {
    let source = text("crds/src/conditions.rs");
    let (_, rest) = source.split_once(&format!("pub mod {module} {{")).expect("the module");
    let (body, _) = rest.split_once("\n}").expect("its end");
    let values = body.lines().filter(|line| line.contains("pub const "));
    values.map(|line| line.split('"').nth(1).expect("a text").to_owned()).collect()
}

/// The list in the header of conditions.rs.
fn not_set_yet() -> Vec<String> {
    let source = text("crds/src/conditions.rs");
    let header: String = source.lines().take_while(|line| line.starts_with("//!")).collect();
    let (_, list) = header.split_once("not set yet").expect("the list");
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The page has `name` in code or in a heading.
fn explains(page: &str, name: &str) -> bool {
    let heading = |line: &str| line.starts_with('#') && line.split(|c: char| !c.is_alphanumeric()).any(|it| it == name);
    page.contains(&format!("`{name}`")) || page.lines().any(heading)
}

#[test]
fn each_reason_that_is_set_has_an_entry() {
    let (page, later) = (text("docs/troubleshooting.md"), not_set_yet());
    let all = constants("reasons");
    assert!(all.len() > 50, "{all:?}");
    let missing: Vec<_> = all.iter().filter(|name| !later.contains(name) && !explains(&page, name)).collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md: {missing:?}");
    let unknown: Vec<_> = later.iter().filter(|name| !all.contains(name)).collect();
    assert!(unknown.is_empty(), "listed as not set yet, and no reason: {unknown:?}");
}

#[test]
fn the_list_of_what_comes_later_is_true() {
    let source = text("crds/src/conditions.rs");
    let name = |value: &str| {
        let line = source.lines().find(|line| line.ends_with(&format!("= \"{value}\";"))).expect("a constant");
        line.split_whitespace().nth(2).expect("a name").trim_end_matches(':').to_owned()
    };
    let mut code = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/src")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder").flatten().map(|entry| entry.path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                code.push_str(&std::fs::read_to_string(entry).expect("text"));
            }
        }
    }
    let set: Vec<_> = not_set_yet().into_iter().filter(|it| code.contains(&format!("reasons::{}", name(it)))).collect();
    assert!(set.is_empty(), "the operator sets these: {set:?}");
}

#[test]
fn each_condition_of_a_stack_is_in_the_table() {
    let page = text("docs/status.md");
    let later = [
        "KeysExported",
        "LastBackupSucceeded",
        "Fresh",
        "Verified",
        "OffsiteCopied",
        "Synced",
        "Effective",
        "WithinErrorRate",
        "Complete",
    ]
    .map(str::to_owned);
    let missing: Vec<_> = constants("types")
        .into_iter()
        .filter(|it| !later.contains(it) && !page.contains(&format!("| `{it}` |")))
        .collect();
    assert!(missing.is_empty(), "not in docs/status.md: {missing:?}");
}
