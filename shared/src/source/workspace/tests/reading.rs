//! `file.read`: text, binary, ranges and limits.

use data_encoding::BASE64;

use super::*;

fn range(world: &World, path: &str, offset: u64, length: u64) -> Value {
    let input = json!({ "path": path, "offset": offset, "length": length });
    world.call(Operation::Read, &input).unwrap()
}

fn parts(output: &Value) -> (u64, u64, &str, bool) {
    (
        output["offset"].as_u64().unwrap(),
        output["length"].as_u64().unwrap(),
        output["content"].as_str().unwrap(),
        output.get("truncated").is_some(),
    )
}

#[test]
fn text_comes_as_text_and_anything_else_as_base64() {
    let world = World::new();
    world.put("text", "grüße\n");
    world.put("latin", b"gr\xfc\xdfe\n");
    world.put("nul", b"a\0b");
    world.put("cut", b"ab\xc3");
    world.put("empty", "");
    let text = world.read("./text").unwrap();
    assert_eq!((&text["encoding"], &text["content"]), (&json!("text"), &json!("grüße\n")));
    assert_eq!(
        (&text["path"], &text["size"], &text["length"]),
        (&json!("text"), &json!(8), &json!(8))
    );
    assert!(text["mtime"].as_str().unwrap().ends_with('Z'), "{text}");
    assert_eq!(text["etag"].as_str().unwrap().len(), 16);
    for (path, bytes) in [("latin", &b"gr\xfc\xdfe\n"[..]), ("nul", b"a\0b"), ("cut", b"ab\xc3")] {
        let output = world.read(path).unwrap();
        assert_eq!(output["encoding"], "base64", "{path}");
        assert_eq!(output["content"], BASE64.encode(bytes), "{path}");
        let as_text = json!({ "path": path, "encoding": "text" });
        assert_eq!(reason(world.call(Operation::Read, &as_text)), "binary", "{path}");
    }
    assert_eq!(parts(&world.read("empty").unwrap()), (0, 0, "", false));
    let output = world.call(Operation::Read, &json!({ "path": "text", "encoding": "base64" }));
    assert_eq!(output.unwrap()["content"], BASE64.encode("grüße\n".as_bytes()));
}

#[test]
fn a_text_range_holds_whole_characters_and_says_where_it_is() {
    let world = World::new();
    world.put("t", "aé€😀z"); // 1 + 2 + 3 + 4 + 1 bytes
    assert_eq!(parts(&range(&world, "t", 0, 11)), (0, 11, "aé€😀z", false));
    assert_eq!(parts(&range(&world, "t", 0, 2)), (0, 1, "a", true), "cut before the character");
    assert_eq!(parts(&range(&world, "t", 0, 3)), (0, 3, "aé", true));
    assert_eq!(parts(&range(&world, "t", 2, 4)), (3, 3, "€", true), "begun after the character");
    assert_eq!(parts(&range(&world, "t", 6, 1)), (6, 4, "😀", true), "one character at least");
    assert_eq!(parts(&range(&world, "t", 7, 1)), (8, 0, "", true), "but never backwards");
    assert_eq!(parts(&range(&world, "t", 10, 5)), (10, 1, "z", false));
    assert_eq!(parts(&range(&world, "t", 0, 0)), (0, 0, "", true));
}

#[test]
fn going_on_at_offset_plus_length_gives_the_whole_file_for_every_length() {
    let world = World::new();
    let whole = "aé€😀z\n".repeat(7);
    world.put("t", &whole);
    for length in 1..=12 {
        let (mut offset, mut seen) = (0, String::new());
        loop {
            let output = range(&world, "t", offset, length);
            let (at, given, content, truncated) = parts(&output);
            seen.push_str(content);
            if !truncated {
                break;
            }
            assert!(at + given > offset, "progress is made");
            offset = at + given;
        }
        assert_eq!(seen, whole, "length {length}");
    }
}

#[test]
fn what_follows_a_text_range_may_be_binary() {
    let world = World::new();
    world.put("mixed", b"text\xff\xfe");
    assert_eq!(parts(&range(&world, "mixed", 0, 4)), (0, 4, "text", true));
    assert_eq!(range(&world, "mixed", 0, 5)["encoding"], "base64");
    world.put("inner", b"\x80\x80text");
    assert_eq!(
        range(&world, "inner", 0, 6)["encoding"],
        "base64",
        "a file begins with a character"
    );
}

#[test]
fn a_range_past_the_end_is_empty() {
    let world = World::new();
    world.put("t", "abc");
    assert_eq!(parts(&range(&world, "t", 3, 5)), (3, 0, "", false));
    assert_eq!(parts(&range(&world, "t", u64::MAX, 5)), (u64::MAX, 0, "", false));
    assert_eq!(parts(&range(&world, "t", 2, 5)), (2, 1, "c", false));
}

#[test]
fn of_a_huge_file_only_the_asked_part_is_read() {
    let world = World::new();
    let huge = fs::File::create(world.inside("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let output = world.read("huge").unwrap();
    assert_eq!((&output["size"], &output["truncated"]), (&json!(1_u64 << 40), &json!(true)));
    assert_eq!(output["length"], read::DEFAULT_LENGTH);
    let most = range(&world, "huge", 1 << 39, MAX_CALL_BYTES);
    assert_eq!(most["length"], MAX_CALL_BYTES);
    let more = json!({ "path": "huge", "length": MAX_CALL_BYTES + 1 });
    assert_eq!(reason(world.call(Operation::Read, &more)), "too_large");
}

#[test]
fn an_answer_fits_a_frame_whatever_the_text() {
    let world = World::new();
    for (name, text) in [("newlines", "\n"), ("controls", "\u{1}"), ("quotes", "\"é")] {
        world.put(name, text.repeat(9 << 20));
        let input = to_raw_value(&json!({ "path": name, "length": MAX_CALL_BYTES })).unwrap();
        let output = world.workspace.0.run(Operation::Read, &input, &Stop::default()).unwrap();
        assert!(output.get().len() < 13 << 20, "{name}: {}", output.get().len());
        let output: Value = serde_json::from_str(output.get()).unwrap();
        let (_, length, content, truncated) = parts(&output);
        assert_eq!(usize::try_from(length).unwrap(), content.len());
        assert!(truncated && length > 1 << 20, "{name}: {length}");
    }
}

#[test]
fn a_limit_the_owner_set_holds() {
    let world = World::new();
    world.put("t", "abcdef");
    let mut config = WorkspaceConfig::new(world.inside(""), Mode::ReadWrite);
    (config.max_read_bytes, config.max_write_bytes) = (4, 4);
    let workspace =
        Workspace::open("small".parse().unwrap(), None, &config, NO_STATE.as_ref()).unwrap();
    let run = |operation, input: &Value| {
        workspace.0.run(operation, &to_raw_value(input).unwrap(), &Stop::default())
    };
    let output = run(Operation::Read, &json!({ "path": "t" })).unwrap();
    assert!(output.get().contains(r#""content":"abcd""#), "{output}");
    let refused = run(Operation::Write, &json!({ "path": "t", "content": "abcde" }));
    assert_eq!(refused.unwrap_err().reason(), "too_large");
}
