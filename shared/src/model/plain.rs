//! JSON from outside, read as it stands.
//!
//! serde_json's own `Value` gives a meaning to a member name of its making (the one that its raw values
//! travel under): text below it is read as JSON once more, in its place. So what is read would differ
//! from what was written, by whoever wrote it; and text within text within text nests deeper than any
//! limit on nesting, until the stack is gone. Whatever did not come from this very process is read here
//! instead, where a member is a member whatever its name.

use std::cell::Cell;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The most values one JSON text may have, those within others included: three bytes of text can be a
/// value of a hundred in memory.
pub const MAX_VALUES: usize = 1 << 18;

/// Reads JSON text.
///
/// # Errors
/// When it is no JSON, nests too deep, has more than [`MAX_VALUES`] values, or an object with a member
/// twice.
pub fn read(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).map(|Plain(value)| value)
}

/// Reads a member: for `#[serde(deserialize_with)]`.
///
/// # Errors
/// As [`read`].
pub fn member<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Plain::deserialize(deserializer).map(|Plain(value)| value)
}

/// Reads a member that may be left out, or be `null`.
///
/// # Errors
/// As [`read`].
pub fn maybe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    present(deserializer).map(|value| value.filter(|value| !value.is_null()))
}

/// Reads a list that may be left out, or be `null`.
///
/// # Errors
/// As [`read`].
pub fn maybe_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Value>>, D::Error> {
    let list = Option::<Vec<Plain>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|Plain(value)| value).collect()))
}

/// Reads a member that may be left out; `null` is one that is there.
///
/// # Errors
/// As [`read`].
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    member(deserializer).map(Some)
}

/// A JSON value that means what it says, and whose objects have each member once.
#[derive(Clone, Debug)]
pub struct Plain(pub Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Within(&Cell::new(MAX_VALUES)).deserialize(deserializer).map(Self)
    }
}

/// One value of a text that may have so many more.
#[derive(Clone, Copy)]
struct Within<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| D::Error::custom("it has too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
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
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
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

    /// The name that serde_json's raw values travel under.
    const NAME: &str = "$serde_json::private::RawValue";

    #[test]
    fn no_member_name_has_a_meaning_of_its_own() {
        for inner in ["1", "{\"a\": 1}", "not JSON"] {
            let text = serde_json::json!({ NAME: inner }).to_string();
            let value = read(text.as_bytes()).unwrap();
            assert_eq!(value.get(NAME).and_then(Value::as_str), Some(inner));
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn a_text_has_only_so_many_values() {
        let list = |n| format!("[{}]", vec!["{\"a\":[]}"; n].join(","));
        assert!(read(list(MAX_VALUES / 2 - 1).as_bytes()).is_ok());
        assert!(read(list(MAX_VALUES / 2).as_bytes()).is_err());
    }

    #[test]
    fn text_within_text_costs_no_stack() {
        let mut text = "1".to_owned();
        while text.len() < 1 << 19 {
            let inner = serde_json::json!({ NAME: text }).to_string();
            text = format!("{}{inner}{}", "[".repeat(120), "]".repeat(120));
        }
        read(text.as_bytes()).unwrap();
    }
}
