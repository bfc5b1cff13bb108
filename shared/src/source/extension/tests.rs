//! Manifests, good and bad.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({
        "manifest": "plexus-extension/0.1", "source": "issues", "label": "Issues", "transport": "cli",
        "binaries": ["gh"], "secrets": [{"name": "gh-token", "attach": "env", "as": "GH_TOKEN"}],
        "allowCrossSource": true,
        "capabilities": [
            {"name": "issue.list", "kind": "capability", "label": "List", "describe": "Lists issues.",
             "grants": ["read"], "attachSkills": ["issue.howto"],
             "io": {"input": {"type": "object", "properties": {"z": {"type": "string"}, "a": {}}}},
             "route": {"bin": "gh", "argv": ["issue", "list", "{z?}"], "env": ["TZ"], "output": "json"}},
            {"name": "issue.howto", "kind": "skill", "label": "How", "describe": "How to.", "grants": [],
             "body": {"format": "markdown", "markdown": "# How"}},
            {"name": "issue.digest", "kind": "workflow", "label": "Digest", "describe": "Digests.",
             "grants": ["read"], "members": [{"id": "issue.list", "verbs": ["read"]},
                {"id": "notes.file.read", "verbs": ["read"]}]}
        ]
    })
}

fn pointers(manifest: &Value) -> Vec<String> {
    let problems = Manifest::read(&manifest.to_string()).unwrap_err();
    problems.into_iter().map(|problem| problem.pointer).collect()
}

#[test]
fn a_manifest_becomes_entries_of_its_own_source_with_its_schemas_as_written() {
    let manifest = Manifest::read(&good().to_string()).unwrap();
    let definitions: Vec<_> =
        manifest.capabilities.iter().map(|entry| entry.definition(&manifest.source)).collect();
    let ids: Vec<_> = definitions.iter().map(|definition| definition.id.as_str()).collect();
    assert_eq!(ids, ["issues.issue.list", "issues.issue.howto", "issues.issue.digest"]);
    let input = definitions[0].io.as_ref().unwrap().input.as_ref().unwrap();
    let written = r#"{"type":"object","properties":{"z":{"type":"string"},"a":{}}}"#;
    assert_eq!(input.get(), written);
    assert_eq!(definitions[0].skills[0].id.as_str(), "issues.issue.howto");
    let reach = Reach::of(&manifest);
    let shown = serde_json::to_value(&reach).unwrap();
    assert_eq!(shown["binaries"], json!(["gh"]));
    assert_eq!(shown["commands"], json!(["issue.list [read]: gh issue list {z?}"]));
    assert_eq!(shown["secrets"], json!(["gh-token as GH_TOKEN"]));
    assert_eq!(shown["variables"], json!(["TZ"]));
    assert_eq!(shown["members"], json!(["notes.file.read [read]"]));
    assert_eq!(serde_json::from_value::<Reach>(shown).unwrap(), reach);
}

#[test]
fn every_problem_is_told_with_its_place() {
    let set = |pointer: &str, value: Value| {
        let mut manifest = good();
        *manifest.pointer_mut(pointer).unwrap() = value;
        manifest
    };
    let table = [
        ("/manifest", json!("plexus-extension/0.2"), "/manifest"),
        ("/source", json!("../x"), "/source"),
        ("/label", json!(""), "/label"),
        ("/transport", json!("mcp"), "/transport"),
        ("/transport", json!("local-rest"), "/transport"),
        ("/transport", json!("stdio"), "/transport"),
        ("/transport", json!("ipc"), "/transport"),
        ("/transport", json!("telepathy"), "/transport"),
        ("/binaries", json!(["gh", "bash"]), "/binaries/1"),
        ("/binaries", json!([]), "/capabilities/0/route/bin"),
        ("/secrets/0/attach", json!("bearer"), "/secrets/0/attach"),
        ("/secrets/0/as", json!("LD_PRELOAD"), "/secrets/0/as"),
        ("/secrets/0/name", json!("../key"), "/secrets/0/name"),
        ("/allowCrossSource", json!(false), "/capabilities/2/members/1/id"),
        ("/capabilities", json!([]), "/capabilities"),
        ("/capabilities/0/name", json!("list"), "/capabilities/0/name"),
        ("/capabilities/0/name", json!("issue.howto"), "/capabilities/1/name"),
        ("/capabilities/0/label", json!("a\nb"), "/capabilities/0/label"),
        ("/capabilities/0/describe", json!(""), "/capabilities/0/describe"),
        ("/capabilities/0/grants", json!(["own"]), "/capabilities/0/grants"),
        ("/capabilities/0/io/input", json!({"type": 3}), "/capabilities/0/io/input"),
        ("/capabilities/0/io/input", json!({"pattern": "(?=x)"}), "/capabilities/0/io/input"),
        ("/capabilities/0/attachSkills", json!(["issue.nope"]), "/capabilities/0/attachSkills/0"),
        ("/capabilities/0/route/argv", json!(["x", "--a={b}"]), "/capabilities/0/route/argv/1"),
        ("/capabilities/0/route/env", json!(["GIT_DIR"]), "/capabilities/0/route/env/0"),
        ("/capabilities/0/route/output", json!("xml"), "/capabilities/0/route/output"),
        (
            "/capabilities/0/route",
            json!({"bin": "gh", "shell": true}),
            "/capabilities/0/route/shell",
        ),
        (
            "/capabilities/2/members/0",
            json!({"id": "issue.digest", "verbs": ["read"]}),
            "/capabilities/2/members",
        ),
        ("/capabilities/1/grants", json!(["read"]), "/capabilities/1/grants"),
        ("/capabilities/1/body", json!({"format": "pdf"}), "/capabilities/1/body"),
        ("/capabilities/2/members", json!([]), "/capabilities/2/members"),
        ("/capabilities/2/members/0/id", json!("issue.nope"), "/capabilities/2/members/0/id"),
        ("/capabilities/2/members/0/id", json!("issue.howto"), "/capabilities/2/members/0/id"),
        ("/capabilities/2/members/0/verbs", json!(["write"]), "/capabilities/2/members/0/verbs"),
    ];
    for (at, value, expected) in table {
        let pointers = pointers(&set(at, value.clone()));
        assert!(pointers.iter().any(|p| p == expected), "{at} = {value}: {pointers:?}");
    }
}

#[test]
fn a_manifest_is_refused_with_all_of_its_problems_at_once() {
    let mut manifest = good();
    manifest["label"] = json!(7);
    manifest["capabilities"][0]["route"]["argv"] = json!(["{a}{b}"]);
    manifest["capabilities"][0]["route"]["secrets"] = json!(["other"]);
    manifest["capabilities"][1].as_object_mut().unwrap().remove("body");
    manifest["capabilities"][2]["route"] = json!({"steps": [{"member": "issue.list", "input": {"x": {"$from": "0/a"}}}, {"member": "no"}]});
    let expected = [
        "/label",
        "/capabilities/0/route/argv/0",
        "/capabilities/0/route/secrets/0",
        "/capabilities/1/body",
        "/capabilities/2/route/steps/0/input/x",
        "/capabilities/2/route/steps/1/member",
    ];
    let pointers = pointers(&manifest);
    for pointer in expected {
        assert!(pointers.iter().any(|p| p == pointer), "{pointer}: {pointers:?}");
    }
}

#[test]
fn what_is_no_manifest_at_all_is_refused_with_a_reason() {
    for text in ["", "[]", "{", "null", "{}", r#"{"capabilities":[1]}"#, r#"{"capabilities":7}"#] {
        assert!(!Manifest::read(text).unwrap_err().is_empty(), "{text}");
    }
    assert!(Manifest::read(&" ".repeat(MAX_TEXT + 1)).unwrap_err()[0].reason.contains("bytes"));
}

#[test]
fn an_update_widens_reach_exactly_when_it_reaches_something_new() {
    let reach = |manifest: &Value| Reach::of(&Manifest::read(&manifest.to_string()).unwrap());
    let old = reach(&good());
    assert!(!old.widens(&old));
    let mut less = good();
    less["capabilities"].as_array_mut().unwrap().pop();
    assert!(!reach(&less).widens(&old));
    assert!(old.widens(&reach(&less)));
    let changes = [
        ("/binaries", json!(["gh", "jq"])),
        ("/capabilities/0/route/argv", json!(["issue", "delete", "{z?}"])),
        ("/capabilities/0/route/argv", json!(["issue list", "{z?}"])),
        ("/capabilities/0/grants", json!(["read", "write"])),
        ("/capabilities/0/name", json!("issue.show")),
        ("/capabilities/0/io/input/properties/z", json!({"x-plexus-allow-dash": true})),
        ("/capabilities/0/route/env", json!(["TZ", "XDG_CONFIG_HOME"])),
        ("/secrets/0/name", json!("other-token")),
        ("/capabilities/1/body/markdown", json!("# Do something else")),
        ("/capabilities/2/members/1/id", json!("notes.file.list")),
    ];
    for (at, value) in changes {
        let mut more = good();
        *more.pointer_mut(at).unwrap() = value;
        if at == "/capabilities/0/name" {
            more["capabilities"][2]["members"][0]["id"] = json!("issue.show");
        }
        if at == "/capabilities/0/grants" {
            more["capabilities"][2]["members"][0]["verbs"] = json!(["read", "write"]);
        }
        assert!(reach(&more).widens(&old), "{at}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_stands_in_a_manifest_it_is_read_or_refused(
        at in proptest::sample::select(vec!["/source", "/label", "/transport", "/binaries", "/secrets",
            "/capabilities", "/capabilities/0", "/capabilities/0/name", "/capabilities/0/route",
            "/capabilities/0/route/argv", "/capabilities/0/io", "/capabilities/2/members"]),
        with in proptest::sample::select(vec![json!(null), json!(1), json!("x"), json!([]), json!([[]]),
            json!({}), json!([{}]), json!({"a": 1}), json!(["\u{0}"]), json!(["{a}", "{b...}"])]),
    ) {
        let mut manifest = good();
        *manifest.pointer_mut(at).unwrap() = with;
        if let Err(problems) = Manifest::read(&manifest.to_string()) {
            proptest::prop_assert!(!problems.is_empty());
        }
    }
}
