//! Canonical JSON (RFC 8785): members sorted, one spelling for each value, so that a hash over the
//! text is a hash over the meaning.

use serde_json::{Number, Value};

/// Appends `value` to `out`.
pub(super) fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (n, (key, value)) in members.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// Appends `text`, quoted.
pub(super) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x09 => "\\t",
            0x0a => "\\n",
            0x0c => "\\f",
            0x0d => "\\r",
            0..0x20 => "\\u00",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        out.push_str(escape);
        if escape.len() == 4 {
            out.push_str(&data_encoding::HEXLOWER.encode(&[byte]));
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn write_number(out: &mut String, number: &Number) {
    const SAFE: u64 = 1 << 53;
    if number.as_i64().is_some_and(|n| n.unsigned_abs() <= SAFE) {
        out.push_str(&number.to_string());
        return;
    }
    // Every other number is written as the double it is nearest to; JSON has none without a spelling.
    let double = number.as_f64().and_then(|n| serde_json_canonicalizer::to_string(&n).ok());
    out.push_str(double.as_deref().unwrap_or("null"));
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(value: &Value) -> String {
        let mut out = String::new();
        write(&mut out, value);
        out
    }

    #[test]
    fn members_sort_by_utf_16_and_numbers_have_one_spelling() {
        let value =
            json!({"\u{fb33}": 1, "😀": 2, "b": 1e21, "a": -0.0, "c": 5.0, "\u{7f}\u{1}": "\n"});
        let expected =
            "{\"a\":0,\"b\":1e+21,\"c\":5,\"\u{7f}\\u0001\":\"\\n\",\"😀\":2,\"\u{fb33}\":1}";
        assert_eq!(written(&value), expected);
    }

    pub(in crate::audit) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_the_reference_canonicalizer_writes(value in any_json()) {
            let expected = serde_json_canonicalizer::to_string(&value).unwrap();
            prop_assert_eq!(written(&value), expected);
        }
    }
}
