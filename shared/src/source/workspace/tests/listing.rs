//! `file.list`: order, pages, depth and what is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

/// The paths of every entry, page by page, and how many pages that took.
fn all(world: &World, path: &str, recursive: bool, limit: usize) -> (Vec<String>, usize) {
    let (mut paths, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let mut input = json!({ "path": path, "recursive": recursive, "limit": limit });
        if let Some(cursor) = cursor {
            input["cursor"] = cursor;
        }
        let output = world.call(Operation::List, &input).unwrap();
        let entries = output["entries"].as_array().unwrap();
        assert!(entries.len() <= limit);
        paths.extend(entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()));
        pages += 1;
        assert!(pages <= 2000, "paging ends");
        match output.get("nextCursor") {
            Some(next) => cursor = Some(next.clone()),
            None => return (paths, pages),
        }
    }
}

#[test]
fn five_hundred_files_come_in_order_whatever_the_page() {
    let world = World::new();
    let mut expected: Vec<String> = (0..500).map(|n| format!("f{}", n * 7919 % 500)).collect();
    for name in &expected {
        world.put(name, "x");
    }
    expected.sort();
    for (limit, pages) in [(1000, 1), (500, 1), (499, 2), (200, 3), (7, 72), (1, 500)] {
        assert_eq!(all(&world, "", false, limit), (expected.clone(), pages), "limit {limit}");
    }
    assert_eq!(world.list(".").unwrap()["entries"].as_array().unwrap().len(), 200);
}

#[test]
fn a_recursive_listing_comes_in_one_order_whatever_the_page() {
    let world = World::new();
    for path in ["a/x/1", "a/x/2", "a/y", "a-b/z", "b", "c/d/e/f", "é"] {
        world.put(path, "x");
    }
    fs::create_dir(world.inside("empty")).unwrap();
    let expected = [
        "a", "a/x", "a/x/1", "a/x/2", "a/y", "a-b", "a-b/z", "b", "c", "c/d", "c/d/e", "c/d/e/f",
        "empty", "é",
    ];
    for limit in 1..=expected.len() + 1 {
        let (paths, pages) = all(&world, "", true, limit);
        assert_eq!(paths, expected, "limit {limit}");
        assert_eq!(pages, expected.len().div_ceil(limit), "limit {limit}");
    }
    assert_eq!(all(&world, "c/d", true, 1).0, ["c/d/e", "c/d/e/f"]);
}

#[test]
fn a_page_goes_on_where_the_last_ended_though_files_come_and_go() {
    let world = World::new();
    for name in ["b", "d", "f", "h"] {
        world.put(name, "x");
    }
    let first = world.call(Operation::List, &json!({ "limit": 2 })).unwrap();
    fs::remove_file(world.inside("d")).unwrap();
    world.put("a", "x");
    world.put("e", "x");
    let input = json!({ "limit": 2, "cursor": first["nextCursor"] });
    let second = world.call(Operation::List, &input).unwrap();
    let names: Vec<&str> = second["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["e", "f"]);
}

#[test]
fn entries_say_what_they_are_and_links_are_not_followed() {
    let world = World::new();
    world.put("dir/file", "four");
    symlink(world.outside(""), world.inside("dir/away")).unwrap();
    symlink(".", world.inside("dir/circle")).unwrap();
    mkfifo(&world.inside("dir/pipe"));
    let input = json!({ "path": "dir", "recursive": true });
    let output = world.call(Operation::List, &input).unwrap();
    let lines: Vec<String> = output["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {} {}", entry["path"], entry["type"], entry["size"]))
        .collect();
    assert_eq!(
        lines,
        [
            r#""dir/away" "symlink" null"#,
            r#""dir/circle" "symlink" null"#,
            r#""dir/file" "file" 4"#,
            r#""dir/pipe" "other" null"#,
        ]
    );
    assert_eq!(reason(world.list("dir/file")), "not_a_directory");
    assert_eq!(reason(world.list("gone")), "not_found");
}

#[test]
fn a_recursive_listing_ends_sixteen_levels_down() {
    let world = World::new();
    world.put(&format!("{}f", "d/".repeat(20)), "x");
    let (paths, _) = all(&world, "", true, 3);
    assert_eq!(paths.len(), 16);
    let (paths, _) = all(&world, "d/d/d/d/d", true, 1000);
    assert_eq!(paths.len(), 16, "from there the rest is seen");
}

#[test]
fn names_no_path_can_hold_are_counted_and_files_being_written_left_out() {
    let world = World::new();
    world.put("plain", "x");
    world.put(".hidden", "x");
    world.put(".plexus-tmp-0011", "x");
    fs::write(world.inside("").join(OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
    world.put("with\nnewline", "x");
    let output = world.list("").unwrap();
    let names: Vec<&Value> =
        output["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, [".hidden", "plain"]);
    assert_eq!(output["skipped"], 2);
}
