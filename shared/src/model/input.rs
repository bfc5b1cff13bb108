//! A call's input: the caller's own bytes, and what they mean, read once.

use std::fmt;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

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
        let read = || serde_json::from_str(self.raw.get()).ok().map(|Plain(value)| value);
        self.value.get_or_init(read).as_ref()
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

/// A value whose objects have each member once.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON whose objects have each member once")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Plain(value))) = members.next_entry::<String, Plain>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is there twice"));
            }
        }
        Ok(Value::Object(map))
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
