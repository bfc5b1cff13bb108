#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn knowing(secret: &str) -> Redactor {
    Redactor::new([secret].into_iter().collect())
}

fn kept(redactor: &Redactor, json: &Value) -> Value {
    let from_text = redactor.redact_json(&json.to_string());
    assert_eq!(from_text, redactor.redact_value(json), "text and value are read alike");
    from_text.into_value()
}

#[test]
fn the_list_of_secret_keys_is_sorted_and_folded() {
    assert!(SECRET_KEYS.is_sorted());
    assert!(SECRET_KEYS.iter().all(|key| folded(key).eq(key.chars())));
}

#[test]
fn credentials_of_ours_are_hidden_by_their_shape() {
    let redactor = Redactor::default();
    for (text, expected) in [
        ("key plx_live_0aF9 used", "key [redacted] used"),
        ("plx_agent_00,plx_enroll_ff", "[redacted],[redacted]"),
        ("join plxj_abcdefgh234567 now", "join [redacted] now"),
        ("jwt eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln-_9 end", "jwt [redacted] end"),
        ("x eyJunk.eyJhbGc.eyJzdWI.c2ln y", "x [redacted] y"),
        ("auth: Bearer abc.def, next", "auth: [redacted] next"),
        ("bearer BEARER abc next", "[redacted] next"),
        ("Authorization: Basic dXNlcg==\nHost: x", "[redacted]\nHost: x"),
        ("{\"set-cookie\":\"a=b; c=d\",\"n\":1}", "{\"set-[redacted]\",\"n\":1}"),
        ("plx_live_ and eyJ and bearer", "plx_live_ and eyJ and bearer"),
    ] {
        assert_eq!(redactor.redact_text(text), expected);
    }
}

#[test]
fn the_value_of_a_key_named_like_a_secret_is_hidden_whatever_it_is() {
    let redactor = Redactor::default().with_keys(["Vault-PIN"]);
    let input = json!({
        "Authorization": "x", "set-cookie": ["a", "b"], "API_KEY": {"a": 1}, "x-api-key": 7,
        "password": null, "vault_pin": "1234", "tokens": 5, "nested": [{"clientSecret": "y"}],
    });
    let expected = json!({
        "Authorization": REDACTED, "set-cookie": REDACTED, "API_KEY": REDACTED,
        "x-api-key": REDACTED, "password": REDACTED, "vault_pin": REDACTED, "tokens": 5,
        "nested": [{"clientSecret": REDACTED}],
    });
    assert_eq!(kept(&redactor, &input), expected);
}

#[test]
fn a_secret_is_found_spelled_with_escapes_in_urls_in_numbers_and_overlapping_itself() {
    let redactor = Redactor::new(["p\"ss/w", "80451237", "abab"].into_iter().collect());
    assert_eq!(redactor.redact_json(r#""a p\u0022ss\/w b""#).as_value(), "a [redacted] b");
    assert_eq!(redactor.redact_text("body {\"k\":\"p\\\"ss/w\"}"), "body {\"k\":\"[redacted]\"}");
    assert_eq!(redactor.redact_text("http://h/?q=p%22ss%2Fw&r"), "http://h/?q=[redacted]&r");
    assert_eq!(
        kept(&redactor, &json!([80_451_237, 1_804_512_370, 8])),
        json!([REDACTED, REDACTED, 8])
    );
    assert_eq!(redactor.redact_text("xababababy"), "x[redacted]y");
}

#[test]
fn short_values_are_not_secrets() {
    assert!(["", "abc"].into_iter().collect::<Secrets>().is_empty());
}

#[test]
fn each_clip_is_marked_with_what_is_missing() {
    let redactor = Redactor::default();
    let long = kept(&redactor, &json!("é".repeat(507)));
    assert_eq!(long, json!(format!("{}…[+7 chars]", "é".repeat(500))));

    let list = kept(&redactor, &json!((0..53).collect::<Vec<_>>()));
    assert_eq!(list.as_array().unwrap().len(), 51);
    assert_eq!(list[50], "…[+3 items]");

    let object: Map<String, Value> = (0..52).map(|n| (format!("k{n}"), json!(n))).collect();
    let object = kept(&redactor, &Value::Object(object));
    assert_eq!(object.as_object().unwrap().len(), 51);
    assert_eq!(object["…"], "[+2 keys]");

    let deep = kept(&redactor, &json!([[[[[["leaf", ["gone"]]]]]]]));
    assert_eq!(deep, json!([[[[[["leaf", "…[depth]"]]]]]]));
}

#[test]
fn what_fits_exactly_is_not_clipped() {
    let redactor = Redactor::default();
    let whole = json!({"s": "x".repeat(500), "a": vec![0; 50]});
    assert_eq!(kept(&redactor, &whole), whole);
}

#[test]
fn a_payload_of_any_size_is_kept_within_the_budget_and_clipping_again_changes_nothing() {
    let redactor = Redactor::default();
    let row = json!(vec!["\u{1}".repeat(600); 60]);
    let once = kept(&redactor, &json!(vec![row; 60]));
    assert!(once.to_string().len() < MAX_BYTES + 16 * 1024);
    let small = json!({"a": [["x".repeat(600)], vec![1; 70]], "…": "y"});
    let once = kept(&redactor, &small);
    assert_eq!(kept(&redactor, &once), once);
}

#[test]
fn numbers_keep_their_value() {
    let redactor = Redactor::default();
    let input = r#"[1,-7,1.5,9007199254740992,9007199254740993,18446744073709551615,1e300]"#;
    let expected = json!([
        1,
        -7,
        1.5,
        9_007_199_254_740_992_u64,
        "9007199254740993",
        "18446744073709551615",
        1e300
    ]);
    assert_eq!(redactor.redact_json(input).as_value(), &expected);
}

#[test]
fn odd_json_is_kept_as_far_as_it_can_be_read() {
    let redactor = Redactor::default();
    let lone = redactor.redact_json(r#"{"a":"x\ud83d","b":"\ude00\ud83d\ude00 \\ud83d"}"#);
    assert_eq!(lone.into_value(), json!({"a": "x\u{fffd}", "b": "\u{fffd}😀 \\ud83d"}));
    for bad in ["", "{", "[1e999]", "1 2", "\"\\", "\"\\ud83"] {
        assert_eq!(redactor.redact_json(bad).as_value(), UNREADABLE, "{bad}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(redactor.redact_json(&deep).into_value(), json!([[[[[["…[depth]"]]]]]]));
}

#[test]
fn repeated_keys_are_all_shown() {
    let both = Redactor::default().redact_json(r#"{"a":1,"a":2}"#);
    assert_eq!(both.into_value(), json!({"a": 1, "a (2)": 2}));
}

#[test]
fn debug_shows_no_secret() {
    let secrets: Secrets = ["hunter22"].into_iter().collect();
    assert_eq!(
        format!("{secrets:?} {:?}", Redactor::new(secrets.clone())),
        "Secrets(…) Redactor(…)"
    );
}

/// JSON with `secret` planted wherever a string can be.
fn planted(secret: String) -> impl Strategy<Value = Value> {
    let text = move |filler: &'static str| {
        let secret = secret.clone();
        (filler, filler).prop_map(move |(before, after)| format!("{before}{secret}{after}"))
    };
    let leaf = prop_oneof![
        text(".{0,30}").prop_map(Value::from),
        text("[a-z ]{470,505}").prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(8, 200, 60, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..60).prop_map(Value::from),
            prop::collection::vec((text("[a-z\"\\\\]{0,8}"), inner), 0..60)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_planted_secret_never_comes_out(
        (secret, json) in "[A-Z0-9\"\\\\/+=é]{4,40}"
            .prop_flat_map(|secret| (Just(secret.clone()), planted(secret)))
    ) {
        let out = kept(&knowing(&secret), &json);
        let mut strings = Vec::new();
        collect(&out, &mut strings);
        for text in strings {
            prop_assert!(!text.contains(&secret), "{text:?}");
        }
    }

    #[test]
    fn no_part_of_a_secret_survives_at_the_clip(secret in "[A-Z]{4,60}", pad in 430_usize..520) {
        let redactor = knowing(&secret);
        let text = format!("{}{secret}{}", "x".repeat(pad), "y".repeat(40));
        for out in [redactor.redact_text(&text), kept(&redactor, &json!({ &text: &text })).to_string()] {
            prop_assert!(!out.contains(|c: char| c.is_ascii_uppercase()), "{out}");
        }
    }

    #[test]
    fn no_part_of_a_credential_survives_at_the_clip(hex in "[A-F]{8,64}", pad in 430_usize..520) {
        let text = format!("{} plx_live_{hex}", "x".repeat(pad));
        let out = Redactor::default().redact_text(&text);
        prop_assert!(!out.contains(|c: char| c.is_ascii_uppercase()), "{out}");
    }

    #[test]
    fn redacting_twice_is_redacting_once(json in planted("SECRET42".to_owned())) {
        let once = Redactor::default().redact_value(&json);
        // Past the budget what is left may shrink once more; below it nothing moves.
        if once.as_value().to_string().len() < MAX_BYTES / 2 {
            prop_assert_eq!(&Redactor::default().redact_value(once.as_value()), &once);
        }
    }
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            out.push(key.clone());
            collect(value, out);
        }),
        _ => {}
    }
}
