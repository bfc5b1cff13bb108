//! A call's input: the caller's own bytes, and what they mean, read once.

use std::sync::OnceLock;

use serde_json::Value;
use serde_json::value::RawValue;

use super::plain;
use crate::secret::sha256;

/// SHA-256 over the canonical JSON of something.
pub type Digest = [u8; 32];

/// An input. Its bytes travel as they came; gates look at what they mean.
#[derive(Debug)]
pub struct Input {
    raw: Box<RawValue>,
    value: OnceLock<Option<Value>>,
}

impl Input {
    /// The input in these bytes.
    pub fn new(raw: Box<RawValue>) -> Self {
        Self { raw, value: OnceLock::new() }
    }

    /// An empty object: what a call without an input has.
    pub fn none() -> Self {
        Self::new(RawValue::from_string("{}".to_owned()).unwrap_or_default())
    }

    /// The caller's own bytes.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }

    /// What the bytes mean; `None` when that can't be said: they nest too deep, or an object has a
    /// member twice, of which another reader may take the other one.
    pub fn value(&self) -> Option<&Value> {
        self.value.get_or_init(|| plain::read(self.raw.get().as_bytes()).ok()).as_ref()
    }

    /// SHA-256 over the canonical form; `None` when there is no value, or it has no such form.
    pub fn digest(&self) -> Option<Digest> {
        self.value().and_then(digest)
    }
}

/// SHA-256 over the canonical form of `value`; `None` for integers that the form, whose numbers are
/// doubles, would round to one another.
pub fn digest(value: &Value) -> Option<Digest> {
    if !exact(value) {
        return None;
    }
    serde_json_canonicalizer::to_vec(value).ok().map(|bytes| sha256(&bytes))
}

fn exact(value: &Value) -> bool {
    /// The last integer before doubles begin to leave some out.
    const LAST: u64 = 1 << 53;
    match value {
        Value::Number(number) => {
            let size = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            size.is_none_or(|size| size <= LAST)
        }
        Value::Array(list) => list.iter().all(exact),
        Value::Object(members) => members.values().all(exact),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn input(text: &str) -> Input {
        Input::new(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_means_nothing() {
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":{"b":1,"\u0062":2}}"#, r#"[{"a":1,"a":1}]"#] {
            assert!(input(text).value().is_none(), "{text}");
        }
        let text = r#"{"a":[1,-1,1.5,"x",true,null,{"b":{}}],"b":18446744073709551615}"#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(input(text).value(), Some(&plain));
    }

    #[test]
    fn integers_that_would_be_rounded_to_one_another_have_no_digest() {
        for text in ["9007199254740993", "-9007199254740993", r#"{"a":[18446744073709551615]}"#] {
            assert!(input(text).digest().is_none(), "{text}");
        }
        assert_eq!(input("1").digest(), input(" 1.0").digest());
        assert_ne!(input("9007199254740991").digest(), input("9007199254740990").digest());
    }
}
