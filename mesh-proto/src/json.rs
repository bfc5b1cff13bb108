//! JSON that crosses the mesh as its original bytes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as its own text: same keys, same order, same numbers.
///
/// On the wire it is a string that holds exactly the value, with nothing around it. Checking the
/// text takes no recursion, so that depth costs bytes and not stack.
#[derive(Clone, Debug)]
pub struct Json(Box<RawValue>);

/// A text is not exactly one JSON value.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON, or more than one value.
    #[error("not one JSON value: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Whitespace surrounds the value.
    #[error("whitespace around the JSON value")]
    Padded,
}

impl Json {
    /// Takes a text that is exactly one JSON value.
    pub fn from_string(text: String) -> Result<Self, JsonError> {
        let len = text.len();
        let raw = RawValue::from_string(text)?;
        if raw.get().len() != len {
            return Err(JsonError::Padded);
        }
        Ok(Self(raw))
    }

    /// The value's text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// The most bytes it takes on the wire: its text and the text's length.
    pub(crate) fn wire_len(&self) -> usize {
        self.get().len() + 5
    }

    /// The value as `serde_json` carries raw text.
    #[must_use]
    pub fn into_raw(self) -> Box<RawValue> {
        self.0
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw)
    }
}

impl FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        Self::from_string(text.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.get())
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::deserialize_parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn bytes_cross_unchanged() {
        let text = r#"{"b": 1.0, "a":1e400,"a":"\u00e9" }"#;
        let bytes = postcard::to_stdvec(&Json::from_str(text).unwrap()).unwrap();
        let back: Json = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(back.get(), text);
    }

    #[test]
    fn anything_but_one_value_is_refused() {
        for text in ["", "{", "1 2", "nul", "{} x", " 1", "1\n"] {
            assert!(Json::from_str(text).is_err(), "{text:?}");
            let bytes = postcard::to_stdvec(text).unwrap();
            assert!(postcard::from_bytes::<Json>(&bytes).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let depth = 1_000_000;
        let text = "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::from_string(text).is_ok());
    }
}
