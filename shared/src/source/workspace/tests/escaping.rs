//! What an attacker would try to reach what is outside.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

#[test]
fn dots_and_absolute_paths_lead_nowhere() {
    let world = World::new();
    let absolute = world.outside("secret.txt");
    let paths =
        ["../outside/secret.txt", "a/../../outside/secret.txt", "..", absolute.to_str().unwrap()];
    for path in paths {
        assert_eq!(reason(world.read(path)), "outside", "{path}");
        assert_eq!(reason(world.list(path)), "outside", "{path}");
        assert_eq!(reason(world.write(path, "x")), "outside", "{path}");
    }
    assert_eq!(fs::read_to_string(absolute).unwrap(), SECRET);
}

#[test]
fn a_symbolic_link_out_of_the_folder_is_refused_and_one_within_it_followed() {
    let world = World::new();
    world.put("real/a.txt", "inside");
    symlink(world.outside("secret.txt"), world.inside("file")).unwrap();
    symlink("../outside/secret.txt", world.inside("climbing")).unwrap();
    symlink(world.outside(""), world.inside("folder")).unwrap();
    symlink("folder", world.inside("twice")).unwrap();
    symlink("real", world.inside("near")).unwrap();
    for path in ["file", "climbing", "folder/secret.txt", "twice/secret.txt"] {
        assert_eq!(reason(world.read(path)), "outside", "{path}");
    }
    for path in ["folder", "twice"] {
        assert_eq!(reason(world.list(path)), "outside", "{path}");
        assert_eq!(reason(world.write(&format!("{path}/new"), "x")), "outside", "{path}");
        let input =
            json!({ "path": format!("{path}/d/new"), "content": "", "createParents": true });
        assert_eq!(reason(world.call(Operation::Write, &input)), "outside", "{path}");
    }
    assert_eq!(world.read("near/a.txt").unwrap()["content"], "inside");
    assert_eq!(world.list("near").unwrap()["entries"][0]["name"], "a.txt");
    assert_eq!(fs::read_dir(world.outside("")).unwrap().count(), 1, "nothing was created outside");
}

#[test]
fn a_symbolic_link_is_never_written_through() {
    let world = World::new();
    world.put("real.txt", "inside");
    symlink(world.outside("secret.txt"), world.inside("out")).unwrap();
    symlink("real.txt", world.inside("near")).unwrap();
    symlink("nowhere", world.inside("dangling")).unwrap();
    for path in ["out", "near", "dangling"] {
        for mode in ["replace", "append"] {
            let input = json!({ "path": path, "content": "x", "mode": mode });
            assert_eq!(reason(world.call(Operation::Write, &input)), "not_a_file", "{path}");
        }
        assert!(fs::symlink_metadata(world.inside(path)).unwrap().is_symlink());
    }
    assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
    assert_eq!(fs::read_to_string(world.inside("real.txt")).unwrap(), "inside");
}

#[test]
fn a_hard_link_to_a_file_outside_is_neither_read_nor_written() {
    let world = World::new();
    fs::hard_link(world.outside("secret.txt"), world.inside("linked")).unwrap();
    assert_eq!(reason(world.read("linked")), "outside");
    for mode in ["replace", "append"] {
        let input = json!({ "path": "linked", "content": "x", "mode": mode });
        assert_eq!(reason(world.call(Operation::Write, &input)), "outside");
    }
    assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
}

#[test]
fn a_pipe_a_socket_and_a_device_are_refused_without_waiting() {
    let world = World::new();
    mkfifo(&world.inside("pipe"));
    let _listening = UnixListener::bind(world.inside("socket")).unwrap();
    for path in ["pipe", "socket"] {
        assert_eq!(reason(world.read(path)), "not_a_file", "{path}");
        assert_eq!(reason(world.list(path)), "not_a_directory", "{path}");
        for mode in ["replace", "append"] {
            let input = json!({ "path": path, "content": "x", "mode": mode });
            assert_eq!(reason(world.call(Operation::Write, &input)), "not_a_file", "{path}");
        }
    }
    let devices = Workspace::open(
        "dev".parse().unwrap(),
        None,
        &WorkspaceConfig::new("/dev", Mode::Read),
        NO_STATE.as_ref(),
    );
    let input = to_raw_value(&json!({ "path": "null" })).unwrap();
    let refused = devices.unwrap().0.run(Operation::Read, &input, &Stop::default());
    assert_eq!(refused.unwrap_err().reason(), "not_a_file");
}

#[test]
fn what_was_opened_is_judged_by_its_own_handle() {
    let world = World::new();
    mkfifo(&world.inside("pipe"));
    fs::hard_link(world.outside("secret.txt"), world.inside("linked")).unwrap();
    for (name, why) in [("pipe", "not_a_file"), ("linked", "outside"), (".", "is_directory")] {
        let path = path::RelPath::parse(name).unwrap();
        let refused = handle::open_judged(&world.workspace.0.root, &path).unwrap_err();
        assert_eq!(refused.reason(), why, "{name}");
    }
}

/// Points the link `name` from one target to the other and back, while `attempt` is made `times`.
fn while_swapping(world: &World, name: &str, targets: [&Path; 2], mut attempt: impl FnMut()) {
    const TIMES: usize = 1500;
    let done = AtomicBool::new(false);
    let (link, next) = (world.inside(name), world.base.path().join("next"));
    let point = |target: &Path| {
        symlink(target, &next).unwrap();
        fs::rename(&next, &link).unwrap();
    };
    point(targets[0]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                point(targets[1]);
                point(targets[0]);
            }
        });
        for _ in 0..TIMES {
            attempt();
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_folder_swapped_for_a_link_outwards_gives_only_what_is_inside() {
    let world = World::new();
    world.put("real/secret.txt", "inside");
    let outside = world.outside("");
    let mut came_back = 0;
    while_swapping(&world, "d", [Path::new("real"), &outside], || {
        match world.read("d/secret.txt") {
            Ok(output) => {
                assert_eq!(output["content"], "inside");
                came_back += 1;
            }
            Err(error) => assert_ne!(error.reason(), "io"),
        }
        if let Ok(output) = world.list("d") {
            assert_eq!(output["entries"][0]["size"], "inside".len());
        }
    });
    assert!(came_back > 0, "the link did point inwards at times");
}

#[test]
fn a_file_swapped_for_a_link_outwards_gives_only_what_is_inside() {
    let world = World::new();
    world.put("real.txt", "inside");
    let outside = world.outside("secret.txt");
    while_swapping(&world, "f", [Path::new("real.txt"), &outside], || match world.read("f") {
        Ok(output) => assert_eq!(output["content"], "inside"),
        Err(error) => assert_ne!(error.reason(), "io"),
    });
}

#[test]
fn a_write_into_a_folder_swapped_for_a_link_outwards_stays_inside() {
    let world = World::new();
    fs::create_dir(world.inside("real")).unwrap();
    let outside = world.outside("");
    let mut n = 0;
    while_swapping(&world, "d", [Path::new("real"), &outside], || {
        n += 1;
        if n % 10 == 0 {
            let input = json!({ "path": "d/sub/new", "content": "x", "createParents": true });
            let _either_way = world.call(Operation::Write, &input);
        }
    });
    assert_eq!(fs::read_dir(world.outside("")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
}

#[test]
fn a_file_swapped_for_a_pipe_does_not_hang_a_read() {
    let world = World::new();
    world.put("real.txt", "inside");
    mkfifo(&world.inside("pipe"));
    let targets = [Path::new("real.txt"), Path::new("pipe")];
    while_swapping(&world, "f", targets, || match world.read("f") {
        Ok(output) => assert_eq!(output["content"], "inside"),
        Err(error) => assert_eq!(error.reason(), "not_a_file"),
    });
}

/// One folder with every way out of it that a name can have, shared by the cases below.
fn maze() -> &'static World {
    static MAZE: OnceLock<World> = OnceLock::new();
    MAZE.get_or_init(|| {
        let world = World::new();
        world.put("a/b/c.txt", "inside");
        symlink(world.outside(""), world.inside("out")).unwrap();
        symlink("../..", world.inside("a/up")).unwrap();
        symlink("/", world.inside("a/b/root")).unwrap();
        symlink("a", world.inside("in")).unwrap();
        symlink("../outside/secret.txt", world.inside("s")).unwrap();
        fs::hard_link(world.outside("secret.txt"), world.inside("hard")).unwrap();
        world
    })
}

/// Paths made of what an attacker would make them of.
fn hostile_path() -> impl Strategy<Value = String> {
    let words = [
        "..",
        ".",
        "",
        "a",
        "b",
        "c.txt",
        "up",
        "in",
        "out",
        "outside",
        "inside",
        "secret.txt",
        "s",
        "hard",
        "root",
        "tmp",
        "proc",
        "self",
        "...",
        "..\\",
        "~",
        "%2e%2e",
    ];
    let segment = prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(segment, 0..8).prop_map(|segments| segments.join("/"))
}

proptest! {
    #[test]
    fn no_path_ever_reads_or_lists_what_is_outside(path in hostile_path(), recursive: bool) {
        let world = maze();
        if let Ok(output) = world.read(&path) {
            prop_assert_eq!(&output["content"], "inside");
        }
        let input = json!({ "path": path, "recursive": recursive });
        if let Ok(output) = world.call(Operation::List, &input) {
            for entry in output["entries"].as_array().unwrap() {
                prop_assert_ne!(&entry["name"], "secret.txt");
            }
        }
    }

    #[test]
    fn no_text_at_all_reads_what_is_outside(path: String) {
        if let Ok(output) = maze().read(&path) {
            prop_assert_eq!(&output["content"], "inside");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_path_ever_writes_what_is_outside(path in hostile_path(), append: bool) {
        let world = World::new();
        symlink(world.outside(""), world.inside("out")).unwrap();
        symlink("..", world.inside("up")).unwrap();
        symlink("../outside/secret.txt", world.inside("s")).unwrap();
        let mode = if append { "append" } else { "replace" };
        let input = json!({ "path": path, "content": "x", "createParents": true, "mode": mode });
        let _either_way = world.call(Operation::Write, &input);
        prop_assert_eq!(fs::read_to_string(world.outside("secret.txt")).unwrap(), SECRET);
        prop_assert_eq!(fs::read_dir(world.outside("")).unwrap().count(), 1);
        prop_assert_eq!(fs::read_dir(world.base.path()).unwrap().count(), 2);
    }
}
