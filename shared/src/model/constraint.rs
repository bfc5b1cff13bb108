//! A narrowing of a grant: what a call's input must be for the grant to cover it.
//!
//! It is read leniently, so that what was signed can always be read back, and evaluated strictly:
//! whatever is not understood does not hold (see [`crate::gate::constraint`]).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plain;

/// All parts must hold. One without any part never does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Constraint {
    /// A field that must name a place below one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<PathPrefix>,
    /// A field that must be one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<AllowList>,
    /// Further predicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#match: Option<Vec<Match>>,
}

/// A field that must name a place below one of the prefixes, by whole segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathPrefix {
    /// Dotted path into the input.
    pub field: String,
    /// The places.
    pub allow: Vec<String>,
}

/// A field that must be exactly one of the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowList {
    /// Dotted path into the input.
    pub field: String,
    /// The values.
    pub values: Vec<String>,
}

/// One predicate on one field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Dotted path into the input.
    pub field: String,
    /// `eq`, `prefix`, `in` or `regex`.
    pub op: String,
    /// What `eq` and `prefix` compare with.
    #[serde(default, deserialize_with = "plain::maybe", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// What `in` looks in.
    #[serde(
        default,
        deserialize_with = "plain::maybe_list",
        skip_serializing_if = "Option::is_none"
    )]
    pub values: Option<Vec<Value>>,
    /// What `regex` matches, whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}
