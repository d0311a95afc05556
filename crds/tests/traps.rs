//! docs/traps.md tells the truth: what it names exists, and nothing is left open without a word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/traps.md")).expect("a file of this repository")
}

/// All sources below the folders that hold tests, by path from the repository's root.
fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut folders = ["agent", "crds", "operator", "tests"].map(|name| root.join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for path in folder.read_dir().expect("a folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs" || it == "py") {
                let name = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.insert(name, std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    found
}

/// Cells of the tables' rows, without heads.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| cells.last() != Some(&"holds")).collect()
}

/// What stands in code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_test_exists_and_its_file_can_be_told_from_others() {
    let (page, sources) = (page(), sources());
    let mut wrong = Vec::new();
    for named in code(&page).filter(|it| it.contains("::")) {
        let (file, name) = named.split_once("::").expect("a file and a name");
        let same: Vec<_> =
            sources.iter().filter(|(path, _)| *path == file || path.ends_with(&format!("/{file}"))).collect();
        let [(_, source)] = same.as_slice() else {
            wrong.push(format!("{file} is one of {:?}", same.iter().map(|it| it.0).collect::<Vec<_>>()));
            continue;
        };
        if !source.contains(&format!("fn {name}(")) && !source.contains(&format!("def {name}(")) {
            wrong.push(format!("{file} has no {name}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_place_in_the_code_exists() {
    let page = page();
    let wrong: Vec<_> = code(&page)
        .filter(|it| {
            it.contains('/')
                && Path::new(it).extension().is_some_and(|it| it == "rs")
                && !it.contains('…')
                && !root().join(it).exists()
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn each_trap_has_a_counter_measure_and_a_test_or_says_why_not() {
    let page = page();
    let all = rows(&page);
    assert!(all.len() > 60, "{} rows", all.len());
    for row in all {
        let [trap, done, bites, holds] = row.as_slice() else { panic!("not four cells: {row:?}") };
        let excused = ["yours", "the application's", "ater:", "nothing "].iter().any(|word| done.contains(word));
        assert!(*holds != "–" || excused, "{trap}: no test, and no reason");
        for cell in [bites, holds] {
            assert!(*cell == "–" || code(cell).any(|it| it.contains("::")), "{trap}: {cell} names no test");
        }
    }
}
