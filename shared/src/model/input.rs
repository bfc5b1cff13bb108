//! A call's input: the caller's own bytes, and what they mean, read once.

use std::sync::OnceLock;

use serde_json::Value;
use serde_json::value::RawValue;

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

    /// What the bytes mean; `None` when they nest too deep to be read.
    pub fn value(&self) -> Option<&Value> {
        self.value.get_or_init(|| serde_json::from_str(self.raw.get()).ok()).as_ref()
    }

    /// SHA-256 over the canonical form; `None` when it can't be read.
    pub fn digest(&self) -> Option<Digest> {
        self.value().and_then(digest)
    }
}

/// SHA-256 over the canonical form of `value`.
pub fn digest(value: &Value) -> Option<Digest> {
    serde_json_canonicalizer::to_vec(value).ok().map(|bytes| sha256(&bytes))
}
