use crate::agent::Agent;

#[test]
fn an_installed_agent_is_the_same_program() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("bin");
    let done = Agent::new(&["install", dir.to_str().expect("UTF-8")]).output();
    assert!(done.status.success(), "{done:?}");
    let version = std::process::Command::new(dir.join("agent")).arg("--version").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("agent ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_folder_that_cannot_be_is_an_error() {
    let done = Agent::new(&["install", "/proc/nowhere"]).output();
    assert_eq!(done.status.code(), Some(1));
}
