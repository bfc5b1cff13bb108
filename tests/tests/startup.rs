//! Starting and stopping: what is amiss is said in a sentence, and nothing is touched.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plexus_tests::{PATIENCE, Stage};

const SERVE: [&str; 5] = ["serve", "--port", "0", "--mesh-listen", "127.0.0.1:0"];

/// Every file below `folder`, with its bytes and permissions.
fn contents(folder: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode();
            if path.is_dir() {
                folders.push(path.clone());
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            found.insert(path.display().to_string(), (mode, bytes));
        }
    }
    found
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn the_first_start_makes_a_private_folder_and_a_stop_leaves_it_whole() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let home = stage.path("home");
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for (file, (mode, _)) in contents(&home) {
        assert_eq!(mode & 0o077, 0, "{file} is for its owner alone");
    }
    primary.running.stop(PATIENCE).await.unwrap();
    assert!(!stage.path("home/runtime.json").exists());
    let again = stage.primary().await;
    assert_eq!(again.key, primary.gateway.key, "the same key as before");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_folder_is_refused_by_name() {
    let stage = Stage::new();
    let primary = stage.primary().await;
    let (code, _) = stage.plexus(&SERVE).await;
    assert_eq!(code, 1);
    let pid = primary.running.pid().unwrap().to_string();
    let log = stage.log("plexus");
    let said = log.lines().find(|line| line.starts_with("plexus: ")).unwrap();
    assert!(said.contains("already in use") && said.contains(&pid), "{said}");
    assert!(stage.path("home/runtime.json").exists(), "the first one's file is still there");
    assert_eq!(primary.get("status").await["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_port_in_use_is_told_and_no_folder_is_made() {
    let stage = Stage::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, _) = stage.plexus(&["serve", "--port", &port, "--mesh-listen", "127.0.0.1:0"]).await;
    assert_eq!(code, 1);
    let log = stage.log("plexus");
    assert!(log.contains(&port) && log.contains("--port"), "{log}");
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (code, _) = stage.plexus(&["serve", "--port", "0", "--mesh-listen", &addr]).await;
    assert_eq!(code, 1);
    assert!(stage.log("plexus").contains("--mesh-listen"));
    assert!(!stage.path("home").exists());
}

#[tokio::test]
async fn a_folder_or_file_that_others_can_read_is_refused_untouched() {
    let stage = Stage::new();
    let home = stage.path("home");
    stage.primary().await.running.stop(PATIENCE).await.unwrap();
    for (path, loose, strict) in [
        (home.clone(), 0o755, 0o700),
        (home.join("connection-key"), 0o644, 0o600),
        (home.join("node-identity"), 0o640, 0o600),
        (home.join("state.db"), 0o604, 0o600),
    ] {
        chmod(&path, loose);
        let before = contents(&home);
        let (code, _) = stage.plexus(&SERVE).await;
        assert_ne!(code, 0, "{}", path.display());
        let log = stage.log("plexus");
        let said = log.lines().rev().find(|line| line.starts_with("plexus: ")).unwrap();
        assert!(said.contains("chmod") && said.contains(&path.display().to_string()), "{said}");
        assert!(untouched(&before) == untouched(&contents(&home)), "{}", path.display());
        chmod(&path, strict);
    }
    stage.primary().await;
}

/// All but the lock file, which says who tried last.
fn untouched(contents: &BTreeMap<String, (u32, Vec<u8>)>) -> BTreeMap<&String, &(u32, Vec<u8>)> {
    contents.iter().filter(|(name, _)| !name.ends_with("/lock")).collect()
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_alone() {
    let stage = Stage::new();
    let home = stage.path("home");
    let primary = stage.primary().await;
    primary.share(&stage).await;
    primary.running.stop(PATIENCE).await.unwrap();
    let log_file = std::fs::read_dir(home.join("audit")).unwrap().next().unwrap().unwrap().path();
    for (path, exit) in [
        (home.join("connection-key"), 6),
        (home.join("token-secret"), 6),
        (home.join("node-identity"), 6),
        (home.join("state.db"), 6),
        (log_file, 6),
    ] {
        let good = std::fs::read(&path).unwrap();
        let mut bad = b"not what it was".repeat(1000);
        bad.push(b'\n');
        std::fs::write(&path, &bad).unwrap();
        let before = contents(&home);
        let (code, _) = stage.plexus(&SERVE).await;
        let log = stage.log("plexus");
        let said = log.lines().rev().find(|line| line.starts_with("plexus: ")).unwrap();
        assert_eq!(code, exit, "{}: {said}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(said.contains(name), "{said}");
        assert!(untouched(&before) == untouched(&contents(&home)), "{name}");
        std::fs::write(&path, good).unwrap();
    }
    stage.primary().await;
}
