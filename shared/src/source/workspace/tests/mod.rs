//! A workspace from the outside: everything goes through the door a call uses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod escaping;
mod listing;
mod reading;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::model::entry::TransportKind;

/// A state folder that lies nowhere near.
const NO_STATE: &str = "/nowhere/plexus-state";

/// What lies outside and must never come back.
const SECRET: &str = "the-secret-outside";

/// A workspace, and beside it a folder with a secret.
struct World {
    base: TempDir,
    workspace: Workspace,
}

impl World {
    fn new() -> Self {
        Self::with(Mode::ReadWrite)
    }

    fn with(mode: Mode) -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("inside")).unwrap();
        fs::create_dir(base.path().join("outside")).unwrap();
        fs::write(base.path().join("outside/secret.txt"), SECRET).unwrap();
        let config = WorkspaceConfig::new(base.path().join("inside"), mode);
        let workspace =
            Workspace::open("notes".parse().unwrap(), None, &config, NO_STATE.as_ref()).unwrap();
        Self { base, workspace }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.base.path().join("inside").join(path)
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.base.path().join("outside").join(path)
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.inside(path).parent().unwrap()).unwrap();
        fs::write(self.inside(path), content).unwrap();
    }

    fn call(&self, operation: Operation, input: &Value) -> Result<Value, CallError> {
        let input = to_raw_value(input).unwrap();
        let output = self.workspace.0.run(operation, &input, &Stop::default())?;
        Ok(serde_json::from_str(output.get()).unwrap())
    }

    fn read(&self, path: &str) -> Result<Value, CallError> {
        self.call(Operation::Read, &json!({ "path": path }))
    }

    fn list(&self, path: &str) -> Result<Value, CallError> {
        self.call(Operation::List, &json!({ "path": path }))
    }

    fn write(&self, path: &str, content: &str) -> Result<Value, CallError> {
        self.call(Operation::Write, &json!({ "path": path, "content": content }))
    }

    /// Every name in the folder, hidden ones too.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.inside("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The reason a call failed for.
fn reason(result: Result<Value, CallError>) -> &'static str {
    match result {
        Ok(output) => panic!("was not refused: {output}"),
        Err(error) => error.reason(),
    }
}

/// Makes a named pipe.
#[allow(clippy::disallowed_methods, reason = "std makes no pipes with names")]
fn mkfifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn opened(path: impl Into<PathBuf>) -> Result<Workspace, WorkspaceError> {
    Workspace::open(
        "notes".parse().unwrap(),
        None,
        &WorkspaceConfig::new(path, Mode::Read),
        NO_STATE.as_ref(),
    )
}

#[test]
fn only_an_existing_folder_given_by_its_whole_path_becomes_a_workspace() {
    let world = World::new();
    world.put("file", "x");
    assert!(matches!(opened("some/where"), Err(WorkspaceError::Relative(_))));
    assert!(matches!(opened(world.inside("gone")), Err(WorkspaceError::Missing(_))));
    assert!(matches!(opened(world.inside("file")), Err(WorkspaceError::NotAFolder(_))));
    let home = opened("~/no-such-folder-here").unwrap_err();
    assert!(matches!(home, WorkspaceError::Missing(path) if path.is_absolute()));
    assert!(matches!(opened("/"), Err(WorkspaceError::WholeDisk(_))));
    let mut config = WorkspaceConfig::new(world.inside(""), Mode::Read);
    config.max_read_bytes = MAX_CALL_BYTES + 1;
    let refused = Workspace::open("notes".parse().unwrap(), None, &config, NO_STATE.as_ref());
    assert!(matches!(refused, Err(WorkspaceError::Limit { name: "maxReadBytes" })));
}

#[test]
fn a_configuration_needs_only_the_path_and_knows_its_fields() {
    let config: WorkspaceConfig = serde_json::from_str(r#"{"path":"/srv/notes"}"#).unwrap();
    assert_eq!(config, WorkspaceConfig::new("/srv/notes", Mode::Read));
    let config: WorkspaceConfig =
        serde_json::from_str(r#"{"path":"~/n","mode":"read-write","maxReadBytes":5}"#).unwrap();
    assert_eq!((config.mode, config.max_read_bytes), (Mode::ReadWrite, 5));
    assert!(serde_json::from_str::<WorkspaceConfig>(r#"{"path":"/x","writable":true}"#).is_err());
}

#[test]
fn a_workspace_offers_what_its_mode_allows_with_schemas_that_compile() {
    let world = World::with(Mode::ReadWrite);
    let definitions = world.workspace.definitions();
    let lines: Vec<String> = definitions
        .iter()
        .map(|entry| format!("{} {:?} {}", entry.id, entry.grants, entry.summary()))
        .collect();
    assert_eq!(
        lines,
        [
            "notes.file.list [read] Lists the files and folders in the workspace \"notes\".",
            "notes.file.read [read] Reads a file of the workspace \"notes\", whole or a range of its bytes.",
            "notes.file.write [write] Writes a file of the workspace \"notes\": replaces it whole, or appends to it.",
        ]
    );
    for entry in &definitions {
        assert_eq!(entry.transport, TransportKind::Ipc);
        let io = entry.io.as_ref().unwrap();
        for schema in [&io.input, &io.output] {
            let schema: Value = serde_json::from_str(schema.as_ref().unwrap().get()).unwrap();
            assert_eq!(schema["additionalProperties"], false);
            jsonschema::validator_for(&schema).unwrap();
        }
    }
    let read_only = World::with(Mode::Read);
    assert_eq!(read_only.workspace.definitions().len(), 2);
    let id = |text: &str| text.parse().unwrap();
    assert_eq!(world.workspace.operation(&id("notes.file.write")), Some(Operation::Write));
    assert_eq!(read_only.workspace.operation(&id("notes.file.write")), None);
    assert_eq!(read_only.workspace.operation(&id("notes.file.read")), Some(Operation::Read));
    assert_eq!(read_only.workspace.operation(&id("other.file.read")), None);
}

#[test]
fn what_comes_back_is_what_the_output_schemas_say() {
    let world = World::new();
    let inputs = [
        (Operation::Write, json!({ "path": "d/a", "content": "é", "createParents": true })),
        (Operation::List, json!({ "recursive": true, "limit": 1 })),
        (Operation::Read, json!({ "path": "d/a", "length": 2 })),
        (Operation::Read, json!({ "path": "d/a", "offset": 1, "encoding": "base64" })),
    ];
    for (operation, input) in inputs {
        let offer = world.workspace.0.offers.iter().find(|(offered, _)| *offered == operation);
        let io = offer.unwrap().1.io.clone().unwrap();
        let schema = |raw: &Option<Box<RawValue>>| {
            let schema: Value = serde_json::from_str(raw.as_ref().unwrap().get()).unwrap();
            jsonschema::validator_for(&schema).unwrap()
        };
        assert!(schema(&io.input).is_valid(&input), "{input}");
        let output = world.call(operation, &input).unwrap();
        assert!(schema(&io.output).is_valid(&output), "{output}");
    }
}

#[test]
fn input_of_another_shape_is_bad_input() {
    let world = World::new();
    for (operation, input) in [
        (Operation::Read, json!({})),
        (Operation::Read, json!({ "path": 1 })),
        (Operation::Read, json!({ "path": "a", "follow": true })),
        (Operation::Read, json!({ "path": "a", "offset": -1 })),
        (Operation::Read, json!({ "path": "a", "encoding": "utf-16" })),
        (Operation::List, json!(null)),
        (Operation::List, json!({ "limit": 0 })),
        (Operation::List, json!({ "limit": 1001 })),
        (Operation::List, json!({ "cursor": "!" })),
        (Operation::Write, json!({ "path": "a" })),
        (Operation::Write, json!({ "path": "a", "content": "!", "encoding": "base64" })),
        (Operation::Write, json!({ "path": "a", "content": "", "ifAbsent": true, "ifMatch": "" })),
    ] {
        assert_eq!(reason(world.call(operation, &input)), "bad_input", "{operation:?} {input}");
    }
    assert!(world.names().is_empty());
}

#[tokio::test]
async fn a_call_goes_through_and_health_follows_the_folder() {
    let world = World::new();
    world.put("a.txt", "hello");
    let input = to_raw_value(&json!({ "path": "a.txt" })).unwrap();
    let output = world.workspace.call(Operation::Read, &input).await.unwrap();
    assert!(output.get().contains(r#""content":"hello""#), "{output}");
    assert_eq!(world.workspace.health().await, Health::of(HealthStatus::Ok));

    fs::rename(world.inside(""), world.base.path().join("moved")).unwrap();
    let health = world.workspace.health().await;
    assert_eq!(health.status, HealthStatus::Unavailable);
    assert!(!health.detail.unwrap().contains(world.base.path().to_str().unwrap()));
    fs::create_dir(world.inside("")).unwrap();
    assert_eq!(world.workspace.health().await.status, HealthStatus::Unavailable, "another folder");
}

#[tokio::test]
async fn a_folder_that_does_not_answer_costs_one_waiting_thread() {
    let world = World::new();
    let waiting = world.workspace.0.looking.clone().try_acquire_owned().unwrap();
    let health = world.workspace.health().await;
    assert_eq!(health.status, HealthStatus::Unavailable);
    assert_eq!(health.detail.unwrap(), "the folder does not answer");
    drop(waiting);
    assert_eq!(world.workspace.health().await, Health::of(HealthStatus::Ok));
}

#[tokio::test]
async fn many_calls_at_once_all_get_their_turn() {
    let world = World::new();
    world.put("a.txt", "hello");
    let input = to_raw_value(&json!({ "path": "a.txt" })).unwrap();
    let calls: Vec<_> = (0..64)
        .map(|_| {
            let (workspace, input) = (world.workspace.clone(), input.clone());
            tokio::spawn(async move { workspace.call(Operation::Read, &input).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[test]
fn work_whose_caller_has_gone_stops() {
    let world = World::new();
    let stop = Stop::default();
    drop(StopOnDrop(stop.clone()));
    let input = to_raw_value(&json!({})).unwrap();
    let stopped = world.workspace.0.run(Operation::List, &input, &stop);
    assert_eq!(stopped.unwrap_err(), CallError::Io(std::io::ErrorKind::Interrupted));
}

/// A folder where every refusal can be met, and the paths that meet them.
fn refusing() -> (World, Vec<String>) {
    use std::os::unix::fs::symlink;
    let world = World::new();
    world.put("file", "x");
    world.put("binary", [0xff]);
    world.put("many", "x");
    fs::hard_link(world.inside("many"), world.inside("more")).unwrap();
    fs::create_dir(world.inside("folder")).unwrap();
    symlink(world.outside(""), world.inside("away")).unwrap();
    symlink("loop", world.inside("loop")).unwrap();
    symlink("nowhere", world.inside("dangling")).unwrap();
    mkfifo(&world.inside("pipe"));
    let paths = "|gone|gone/x|file|file/x|folder|folder/|binary|many|away|away/secret.txt|away/new\
        |loop|dangling|pipe|pipe/x|..|../outside|/etc/passwd|a\0b|.plexus-tmp-x";
    let long = "x".repeat(300);
    (world, paths.split('|').map(str::to_owned).chain([long]).collect())
}

#[test]
fn no_message_ever_names_the_folder_on_this_machine() {
    let (world, paths) = refusing();
    let host = world.base.path().to_str().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for path in paths {
        for (operation, more) in [
            (Operation::List, json!({})),
            (Operation::Read, json!({ "encoding": "text" })),
            (Operation::Read, json!({ "length": MAX_CALL_BYTES + 1 })),
            (Operation::Write, json!({ "content": "", "ifMatch": "other" })),
            (Operation::Write, json!({ "content": "", "mode": "append", "createParents": true })),
        ] {
            let mut input = json!({ "path": path });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let Err(error) = world.call(operation, &input) else { continue };
            let (shown, debugged) = (error.to_string(), format!("{error:?}"));
            assert!(!shown.contains(host) && !debugged.contains(host), "{input}: {shown}");
            assert!(!shown.contains("/etc/passwd"), "an absolute path is not repeated");
            seen.insert(error.reason());
        }
    }
    let expected = "bad_input binary changed io is_directory not_a_directory not_a_file not_found \
        outside too_large";
    assert_eq!(seen.into_iter().collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn the_nodes_own_state_is_never_shared_nor_what_holds_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir_all(state.join("audit")).unwrap();
    fs::create_dir(folder.path().join("beside")).unwrap();
    let open = |path: PathBuf| {
        let config = WorkspaceConfig::new(path, Mode::Read);
        Workspace::open("notes".parse().unwrap(), None, &config, &state)
    };
    for path in [folder.path().to_owned(), state.clone(), state.join("audit")] {
        assert!(matches!(open(path.clone()), Err(WorkspaceError::OwnState(_))), "{path:?}");
    }
    let link = folder.path().join("beside/link");
    std::os::unix::fs::symlink(&state, &link).unwrap();
    assert!(matches!(open(link), Err(WorkspaceError::OwnState(_))));
    assert!(open(folder.path().join("beside")).is_ok());
}
