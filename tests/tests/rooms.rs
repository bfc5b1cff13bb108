//! The rooms of I/O: which part of the code may reach what. Read from the sources themselves.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use plexus_shared::failpoint::Point;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust source of the product but its tests, by its path in the workspace.
fn sources() -> Vec<(String, String)> {
    let root = workspace();
    let mut folders: Vec<_> = ["mesh-proto", "shared", "primary", "proxy"]
        .iter()
        .map(|c| root.join(c).join("src"))
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if name == "tests" || name.ends_with("_tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                // Tests within a file stand at its end.
                let text = text.split("\nmod tests {").next().unwrap_or_default();
                found.push((name, text.to_owned()));
            }
        }
    }
    assert!(found.len() > 50, "the sources were found");
    found
}

/// Lines outside comments that contain one of `words`, outside `rooms`.
fn strays(words: &[&str], rooms: &[&str]) -> Vec<String> {
    let stray = |(name, text): &(String, String)| {
        let inside = rooms.iter().any(|room| name.starts_with(room));
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let hits = code.filter(|line| words.iter().any(|word| line.contains(word)));
        hits.filter(|_| !inside).map(|line| format!("{name}: {}", line.trim())).collect::<Vec<_>>()
    };
    sources().iter().flat_map(stray).collect()
}

#[test]
fn each_kind_of_io_stays_in_its_room() {
    let rooms: [(&[&str], &[&str]); 7] = [
        (&["axum::"], &["primary/src/http"]),
        (&["rusqlite"], &["primary/src/store"]),
        (
            &["quinn::", "quinn_proto"],
            &[
                "primary/src/mesh",
                "primary/src/app.rs",
                "proxy/src/dial",
                "proxy/src/control",
                "proxy/src/serve",
                "proxy/src/tunnel",
                "proxy/src/link",
            ],
        ),
        // HTTP speaks TLS where others can reach it, and nowhere else.
        (
            &["rustls::"],
            &[
                "mesh-proto/src/identity",
                "primary/src/mesh",
                "primary/src/http/tls.rs",
                "primary/src/http/serve.rs",
                "proxy/src/dial",
            ],
        ),
        (&["SystemTime::now"], &["shared/src/clock.rs"]),
        (&["Command::new"], &["shared/src/transport/child.rs"]),
        (&["hyper::client"], &["shared/src/transport"]),
    ];
    for (words, rooms) in rooms {
        assert_eq!(strays(words, rooms), Vec::<String>::new(), "{words:?} belongs in {rooms:?}");
    }
}

/// Whatever writes a node's state passes the places where `tests/tests/crash.rs` has it die.
#[test]
fn state_is_written_where_a_crash_is_tried_and_nowhere_else() {
    let rooms: [(&[&str], &[&str]); 4] = [
        // Files: replaced whole, or lines of the log; and what is the owner's to write where they say.
        (
            &["fs::write", "File::create", "OpenOptions", "private_options", "fs::rename"],
            &[
                "shared/src/state_dir.rs",
                "shared/src/audit/writer.rs",
                "shared/src/audit/recover.rs",
                "shared/src/source/workspace",
                "shared/src/transport/child.rs",
                "primary/src/store/mod.rs",
                "primary/src/cli",
            ],
        ),
        (
            &["fs::remove_file", "fs::remove_dir"],
            &["shared/src/state_dir.rs", "primary/src/store/mod.rs", "primary/src/cli"],
        ),
        // Tables: each kind of file has one place that commits, its making apart.
        (&[".commit()"], &["primary/src/store/write.rs", "primary/src/store/audit_index.rs"]),
        (&["failpoint"], &STATE),
    ];
    for (words, rooms) in rooms {
        assert_eq!(strays(words, rooms), Vec::<String>::new(), "{words:?} belongs in {rooms:?}");
    }
    let passed: String = sources()
        .iter()
        .filter(|(name, _)| STATE.iter().any(|file| name == file))
        .map(|(_, text)| text.as_str())
        .collect();
    for point in Point::ALL {
        let call = format!("pass(Point::{point:?})");
        assert_eq!(passed.matches(&call).count(), 1, "{call} stands in one place");
    }
}

/// Where a node's state is written.
const STATE: [&str; 8] = [
    "shared/src/failpoint.rs",
    "shared/src/lib.rs",
    "shared/src/state_dir.rs",
    "shared/src/audit/writer.rs",
    "shared/src/audit/recover.rs",
    "primary/src/store/mod.rs",
    "primary/src/store/write.rs",
    "primary/src/store/audit_index.rs",
];

/// What a release is built with: a process there does not die by an environment variable.
#[test]
fn a_release_knows_no_place_to_die() {
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    assert!(
        !manifest.contains("debug-assertions"),
        "as it is by default: on in dev, off in release"
    );
    let text = std::fs::read_to_string(workspace().join("shared/src/failpoint.rs")).unwrap();
    let (_, after) = text.split_once("#[cfg(not(debug_assertions))]\n").unwrap();
    assert!(after.ends_with("pub const fn pass(_: Point) {}\n"), "{after}");
    let (before, _) = text.split_once("#[cfg(debug_assertions)]\n").unwrap();
    assert!(!before.contains("env::") && !before.contains("abort"), "{before}");
}

/// A task has an owner: a set that ends it, or one who waits for its end. What is begun here by itself:
#[test]
fn no_task_is_left_running_by_itself() {
    let rooms = [
        // The owner of what is carried through; the gateway waits for all of it.
        "primary/src/tasks.rs",
        // The gateway itself, whose end the command waits for.
        "primary/src/cli/serve.rs",
    ];
    let words = ["tokio::spawn", "task::spawn(", "spawn_local", "runtime.spawn", "Handle::current"];
    assert_eq!(strays(&words, &rooms), Vec::<String>::new());
    // Threads that block are waited for by whoever began them, or joined when their owner is dropped.
    let rooms = [
        "primary/src/store/mod.rs",
        "primary/src/store/audit_index.rs",
        "shared/src/audit/syncer.rs",
        // It may be cut off anywhere: the next start begins it anew.
        "shared/src/audit/retention.rs",
        // It waits for a person, who may never answer: the command ends without it.
        "primary/src/cli/prompt.rs",
    ];
    assert_eq!(strays(&["thread::spawn", "thread::Builder"], &rooms), Vec::<String>::new());
    for (name, text) in sources() {
        let blocking = text.split(';').filter(|part| part.contains("spawn_blocking("));
        let waited =
            blocking.clone().filter(|part| part.contains(".await") || part.contains("let "));
        assert_eq!(blocking.count(), waited.count(), "{name}: what blocks is waited for");
    }
}

#[test]
fn only_the_mesh_knows_that_a_capability_is_elsewhere() {
    let words = ["Transport::Mesh", "transport::mesh", "ForwardError", "Forwarded"];
    let rooms = ["shared/src/transport", "primary/src/mesh"];
    assert_eq!(strays(&words, &rooms), Vec::<String>::new());
}

#[test]
fn a_verified_token_and_a_permit_are_made_in_one_place_each() {
    assert_eq!(
        strays(&["Ok(VerifiedToken {"], &["shared/src/admit/token.rs"]),
        Vec::<String>::new()
    );
    assert_eq!(strays(&["Ok(Permit {"], &["shared/src/admit/mod.rs"]), Vec::<String>::new());
}

#[test]
fn every_route_stands_in_the_one_table_that_the_router_is_built_from() {
    let words = [".route(", ".route_service(", ".nest_service(", ".fallback_service("];
    assert_eq!(
        strays(&words, &[]),
        ["primary/src/http/router.rs: \
          let add = |router: Router<Services>, route: Route| router.route(route.path, route.answer);"]
    );
}

/// What serde_json's `Value` reads, `model/plain.rs` says.
#[test]
fn nothing_from_outside_is_read_as_a_value_of_serde_json() {
    let words = [
        "from_str::<Value>",
        "from_slice::<Value>",
        "from_str::<serde_json::Value>",
        ": Json<Value>",
    ];
    assert_eq!(strays(&words, &[]), Vec::<String>::new());
    let mut members = Vec::new();
    for (name, text) in sources() {
        // What stands above an item: its own attributes, and those of the member before.
        let (mut derives, mut read, mut plain) = (false, false, false);
        for line in text.lines() {
            derives |= line.starts_with("#[derive(") && line.contains("Deserialize");
            read |= derives && line.ends_with('{');
            plain |= line.contains("plain::");
            let indented = line.starts_with("    ") && !line.starts_with("     ");
            let is_member = read && indented && line.ends_with(',');
            let words = line.split(|c: char| !c.is_alphanumeric());
            if is_member && !line.trim_start().starts_with(['#', '/']) {
                if !plain && words.clone().any(|word| word == "Value") {
                    members.push(format!("{name}: {}", line.trim()));
                }
                plain = false;
            }
            if line == "}" || (derives && line.ends_with(';')) {
                (derives, read) = (false, false);
            }
        }
    }
    assert_eq!(members, Vec::<String>::new(), "read them with model::plain");
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 4] = [
        ("mesh-proto", &[]),
        ("shared", &["plexus-mesh-proto"]),
        ("primary", &["plexus-mesh-proto", "plexus-shared"]),
        ("proxy", &["plexus-mesh-proto", "plexus-shared"]),
    ];
    for (krate, allowed) in allowed {
        let manifest = std::fs::read_to_string(workspace().join(krate).join("Cargo.toml")).unwrap();
        let own = manifest.lines().filter(|line| line.starts_with("plexus"));
        let names: Vec<_> = own.map(|line| line.split(['.', ' ']).next().unwrap()).collect();
        assert!(names.iter().all(|name| allowed.contains(name)), "{krate}: {names:?}");
    }
}

/// Every test there is: the file it stands in, and its name.
fn tests_there_are() -> Vec<(String, String)> {
    let root = workspace();
    let mut folders: Vec<_> = ["mesh-proto", "shared", "primary", "proxy", "tests"]
        .iter()
        .map(|c| root.join(c))
        .collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                let mut marked = false;
                for line in text.lines().map(str::trim_start) {
                    marked |= line.starts_with("#[test") || line.starts_with("#[tokio::test");
                    let test = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
                    if let Some((test, _)) = test.filter(|_| std::mem::take(&mut marked)) {
                        found.push((name.clone(), test.to_owned()));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_is_where_it_says() {
    let tests = tests_there_are();
    let mut missing = Vec::new();
    let mut named = 0;
    for page in ["docs/SECURITY.md", "docs/PROTOCOL.md", "docs/ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(workspace().join(page)).unwrap();
        for row in text.lines().filter(|line| line.starts_with('|') || line.contains(".rs::")) {
            // `::name` alone stands in the file that was named last.
            let mut file = "";
            for word in row.split('`').skip(1).step_by(2).filter(|word| !word.contains(' ')) {
                let Some((place, test)) = word.rsplit_once("::") else { continue };
                file = if place.is_empty() { file } else { place.trim_start_matches('…') };
                named += 1;
                let here = |(path, name): &(String, String)| path.contains(file) && name == test;
                if file.is_empty() || !tests.iter().any(here) {
                    missing.push(format!("{page}: {file}::{test}"));
                }
            }
        }
    }
    assert!(named > 150, "the documents name their tests: {named}");
    assert!(missing.is_empty(), "{missing:#?}");
}
