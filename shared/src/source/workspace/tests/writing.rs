//! `file.write`: whole or not at all, and only as the preconditions say.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn call(world: &World, input: Value) -> Result<Value, CallError> {
    world.call(Operation::Write, &input)
}

fn content(world: &World, path: &str) -> String {
    fs::read_to_string(world.inside(path)).unwrap()
}

#[test]
fn a_file_is_created_then_replaced_and_nothing_else_is_left_behind() {
    let world = World::new();
    let created = world.write("a.txt", "one").unwrap();
    assert_eq!((&created["created"], &created["size"]), (&json!(true), &json!(3)));
    let replaced = world.write("./a.txt", "three").unwrap();
    assert_eq!((&replaced["created"], &replaced["path"]), (&json!(false), &json!("a.txt")));
    assert_ne!(created["etag"], replaced["etag"]);
    assert_eq!(world.read("a.txt").unwrap()["etag"], replaced["etag"]);
    assert_eq!(content(&world, "a.txt"), "three");
    let bytes = json!({ "path": "b", "content": "/wA=", "encoding": "base64" });
    call(&world, bytes).unwrap();
    assert_eq!(fs::read(world.inside("b")).unwrap(), [0xff, 0]);
    assert_eq!(world.names(), ["a.txt", "b"]);
}

#[test]
fn a_refused_write_leaves_no_trace() {
    let world = World::new();
    world.put("file", "x");
    fs::create_dir(world.inside("folder")).unwrap();
    let before = world.names();
    for (path, why) in [
        ("folder", "is_directory"),
        ("", "is_directory"),
        ("new/", "is_directory"),
        ("gone/new", "not_found"),
        ("file/new", "not_a_directory"),
        (&"n".repeat(300), "bad_input"),
    ] {
        assert_eq!(reason(world.write(path, "y")), why, "{path:?}");
    }
    let input = json!({ "path": "file/sub/new", "content": "", "createParents": true });
    assert_eq!(reason(call(&world, input)), "not_a_directory");
    let most = "x".repeat(usize::try_from(MAX_CALL_BYTES).unwrap() + 1);
    assert_eq!(reason(world.write("file", &most)), "too_large");
    assert_eq!(world.names(), before);
    assert_eq!(content(&world, "file"), "x");
}

#[test]
fn a_write_that_fails_at_the_last_step_removes_its_temporary_file() {
    let world = World::new();
    world.put("file", "x");
    let folder = handle::open_folder(&world.workspace.0.root, &path::RelPath::parse("").unwrap());
    let folder = folder.unwrap();
    let temp = write::Temp::create(&folder, true).unwrap();
    assert_eq!(world.names().len(), 2);
    drop(temp);
    assert_eq!(world.names(), ["file"]);
}

#[test]
fn parents_are_created_only_when_asked_for() {
    let world = World::new();
    assert_eq!(reason(world.write("a/b/c", "x")), "not_found");
    let input = json!({ "path": "a/b/c", "content": "x", "createParents": true });
    assert_eq!(call(&world, input.clone()).unwrap()["created"], true);
    assert_eq!(call(&world, input).unwrap()["created"], false);
    assert_eq!(content(&world, "a/b/c"), "x");
}

#[test]
fn a_write_with_the_etag_of_an_older_content_is_refused() {
    let world = World::new();
    let first = world.write("a", "one").unwrap();
    let next = |etag: &Value, mode: &str| json!({ "path": "a", "content": "two", "ifMatch": etag, "mode": mode });
    world.put("a", "changed by someone else");
    for mode in ["replace", "append"] {
        assert_eq!(reason(call(&world, next(&first["etag"], mode))), "changed");
    }
    assert_eq!(content(&world, "a"), "changed by someone else");
    let now = world.read("a").unwrap();
    call(&world, next(&now["etag"], "replace")).unwrap();
    assert_eq!(content(&world, "a"), "two");
    let gone = json!({ "path": "gone", "content": "", "ifMatch": first["etag"] });
    assert_eq!(reason(call(&world, gone)), "changed");
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn a_new_file_asked_for_as_new_never_overwrites() {
    let world = World::new();
    let input = json!({ "path": "a", "content": "first", "ifAbsent": true });
    assert_eq!(call(&world, input.clone()).unwrap()["created"], true);
    assert_eq!(reason(call(&world, input)), "changed");
    assert_eq!(content(&world, "a"), "first");
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn of_many_writers_with_one_precondition_one_wins() {
    let world = World::new();
    let etag = world.write("a", "start").unwrap()["etag"].clone();
    let tries = |input: &(dyn Fn(usize) -> Value + Sync)| {
        std::thread::scope(|scope| {
            let world = &world;
            let writers: Vec<_> =
                (0..8).map(|n| scope.spawn(move || call(world, input(n)).is_ok())).collect();
            writers.into_iter().map(|w| w.join().unwrap()).filter(|ok| *ok).count()
        })
    };
    let matching =
        |n: usize| json!({ "path": "a", "content": format!("writer {n}"), "ifMatch": etag });
    assert_eq!(tries(&matching), 1);
    let absent =
        |n: usize| json!({ "path": "new", "content": format!("writer {n}"), "ifAbsent": true });
    assert_eq!(tries(&absent), 1);
    assert_eq!(world.names(), ["a", "new"]);
}

#[test]
fn readers_see_the_old_content_or_the_new() {
    let world = World::new();
    let contents = ["a".repeat(200_000), "b".repeat(100_000)];
    world.write("f", &contents[0]).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..40 {
                world.write("f", &contents[n % 2]).unwrap();
            }
        });
        while !writer.is_finished() {
            let output = world.read("f").unwrap();
            let content = output["content"].as_str().unwrap();
            assert!(contents.iter().any(|whole| whole == content), "{}", content.len());
        }
    });
}

#[test]
fn appending_adds_at_the_end_and_keeps_the_file() {
    let world = World::new();
    let input = json!({ "path": "log", "content": "one\n", "mode": "append" });
    assert_eq!(call(&world, input.clone()).unwrap()["created"], true);
    let inode = fs::metadata(world.inside("log")).unwrap().ino();
    let again = call(&world, input).unwrap();
    assert_eq!((&again["created"], &again["size"]), (&json!(false), &json!(8)));
    assert_eq!(content(&world, "log"), "one\none\n");
    assert_eq!(fs::metadata(world.inside("log")).unwrap().ino(), inode);
    assert_eq!(world.read("log").unwrap()["etag"], again["etag"]);
}

#[test]
fn a_replaced_file_keeps_its_permission_bits_and_its_owner() {
    let world = World::new();
    for mode in [0o600, 0o640, 0o755, 0o4755] {
        world.put("f", "x");
        fs::set_permissions(world.inside("f"), fs::Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(world.inside("f")).unwrap();
        world.write("f", "y").unwrap();
        let after = fs::metadata(world.inside("f")).unwrap();
        assert_eq!(after.mode() & 0o7777, mode & 0o777, "without set-user-id");
        assert_eq!((after.uid(), after.gid()), (before.uid(), before.gid()));
        fs::remove_file(world.inside("f")).unwrap();
    }
}

#[test]
fn a_file_without_write_permission_is_left_alone_whoever_runs_this() {
    let world = World::new();
    world.put("f", "x");
    fs::set_permissions(world.inside("f"), fs::Permissions::from_mode(0o444)).unwrap();
    for mode in ["replace", "append"] {
        let input = json!({ "path": "f", "content": "y", "mode": mode });
        assert_eq!(reason(call(&world, input)), "permission");
    }
    assert_eq!(content(&world, "f"), "x");
    assert_eq!(world.names(), ["f"]);
}

#[test]
fn a_read_only_workspace_refuses_every_write() {
    let world = World::with(Mode::Read);
    world.put("f", "x");
    for path in ["f", "new", "../x"] {
        assert_eq!(reason(world.write(path, "y")), "read_only");
    }
    assert_eq!(content(&world, "f"), "x");
}
