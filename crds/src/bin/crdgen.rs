//! Writes the CRDs as YAML and the API reference into the repository, or with `--check` says which files are stale.

use std::{fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("crdgen: unknown argument {other}; usage: crdgen [--check]");
            return ExitCode::from(2);
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut result = ExitCode::SUCCESS;
    for file in odoo_ai_crds::generate::files() {
        let path = root.join(&file.path);
        if fs::read_to_string(&path).is_ok_and(|content| content == file.content) {
            continue;
        }
        if check {
            eprintln!("crdgen: {} is stale: run cargo run -p odoo-ai-crds --bin crdgen", file.path);
            result = ExitCode::FAILURE;
        } else if let Err(error) = fs::write(&path, &file.content) {
            eprintln!("crdgen: {}: {error}", file.path);
            result = ExitCode::FAILURE;
        } else {
            println!("{} ({} bytes)", file.path, file.content.len());
        }
    }
    result
}
