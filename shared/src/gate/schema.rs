//! Does an input have the shape its entry asks for?
//!
//! The whole schema is compiled once, when the entry is registered. A schema that does not compile
//! (or that could take unbounded work, see [`super::cost`]) falls back to the
//! contract's lightweight rule: required members, top-level types, `additionalProperties: false`.
//! References to other documents are never fetched.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::cost;
use crate::model::denial::{Code, Denial};
use crate::model::input::Input;
use crate::model::plain::{self, MAX_VALUES};
use crate::redact::Redactor;

/// The most failing paths named in one refusal.
const MAX_NAMED: usize = 16;

/// A compiled input contract.
#[derive(Debug)]
pub enum InputSchema {
    /// The entry says nothing of its input.
    Any,
    /// The whole schema.
    Full(Box<Validator>),
    /// The lightweight rule over a schema that does not compile.
    Light(Map<String, Value>),
}

impl InputSchema {
    /// Compiles the schema text of an entry; with a sentence for the owner when only the lightweight
    /// rule can be applied.
    pub fn compile(schema: Option<&RawValue>) -> (Self, Option<String>) {
        let Some(raw) = schema else { return (Self::Any, None) };
        let Ok(schema) = plain::read(raw.get().as_bytes()) else {
            return (Self::Light(Map::new()), Some("the input schema is not readable JSON".into()));
        };
        let compiled = cost::bounded(&schema).and_then(|()| {
            let options = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_pattern_options(PatternOptions::regex().size_limit(1 << 20));
            options.build(&schema).map_err(|error| format!("it does not compile: {error}"))
        });
        match compiled {
            Ok(validator) => (Self::Full(Box::new(validator)), None),
            Err(why) => {
                let why = format!("the input schema is checked only lightly: {why}");
                let members = match schema {
                    Value::Object(members) => members,
                    _ => Map::new(),
                };
                (Self::Light(members), Some(why))
            }
        }
    }

    /// Checks `input` for capability `id`.
    ///
    /// # Errors
    /// `schema_validation_failed`, with each failing path in `detail.errors`.
    pub fn check(&self, id: &str, input: &Input) -> Result<(), Denial> {
        if matches!(self, Self::Any) {
            return Ok(());
        }
        let unreadable = || {
            let message =
                format!("it nests too deep, has a member twice, or more than {MAX_VALUES} values");
            refuse(id, vec![json!({"path": "", "message": message})])
        };
        let input = input.value().ok_or_else(unreadable)?;
        let errors: Vec<Value> = match self {
            Self::Any => return Ok(()),
            Self::Full(validator) if validator.is_valid(input) => return Ok(()),
            Self::Full(validator) => {
                validator.iter_errors(input).take(MAX_NAMED).map(named).collect()
            }
            Self::Light(schema) => light(schema, input),
        };
        if errors.is_empty() { Ok(()) } else { Err(refuse(id, errors)) }
    }
}

/// What is wrong, and where; never the value itself, which may be a secret. Names are told, but for
/// what looks like one.
fn named(error: jsonschema::ValidationError<'_>) -> Value {
    let told = |text: String| Redactor::default().redact_text(&text);
    let message: String = told(error.masked().to_string()).chars().take(300).collect();
    json!({"path": told(error.instance_path().to_string()), "message": message})
}

fn refuse(id: &str, errors: Vec<Value>) -> Denial {
    let message = "the input does not have the shape of io.input; see detail.errors";
    Denial::new(Code::SchemaValidationFailed, message)
        .about(id)
        .with_detail(json!({ "errors": errors }))
}

fn light(schema: &Map<String, Value>, input: &Value) -> Vec<Value> {
    let Value::Object(input) = input else {
        return vec![json!({"path": "", "message": "an object is expected"})];
    };
    let none = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let missing = required
        .filter_map(Value::as_str)
        .filter(|name| !input.contains_key(*name))
        .map(|name| json!({"path": format!("/{name}"), "message": "required, and missing"}));
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let wrong = input.iter().filter_map(|(name, value)| {
        let problem = match properties.get(name) {
            None if closed => "not a known member".to_owned(),
            Some(property) => {
                let expected = property.get("type").and_then(Value::as_str)?;
                if has_type(value, expected) {
                    return None;
                }
                format!("expected {expected}")
            }
            None => return None,
        };
        Some(json!({"path": format!("/{name}"), "message": problem}))
    });
    missing.chain(wrong).take(MAX_NAMED).collect()
}

fn has_type(value: &Value, expected: &str) -> bool {
    match expected {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn paths(schema: &InputSchema, input: &str) -> Vec<String> {
        let Err(denial) = schema.check("a.b.c", &Input::new(raw(input))) else { return Vec::new() };
        assert_eq!(denial.code, Code::SchemaValidationFailed);
        let errors = denial.detail.unwrap()["errors"].as_array().unwrap().clone();
        errors.iter().map(|e| e["path"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_whole_schema_is_checked_nested_members_too() {
        let text = r#"{"type":"object","properties":{"at":{"type":"object","required":["x"]}}}"#;
        let (schema, warning) = InputSchema::compile(Some(&raw(text)));
        assert!(warning.is_none());
        assert_eq!(paths(&schema, r#"{"at":{"x":1}}"#), Vec::<String>::new());
        assert_eq!(paths(&schema, r#"{"at":{}}"#), ["/at"]);
        assert_eq!(paths(&schema, "[]"), [""]);
    }

    #[test]
    fn a_schema_that_does_not_compile_falls_back_and_says_so() {
        let text = r#"{"type":"object","required":["q"],"additionalProperties":false,
            "properties":{"q":{"type":"string","pattern":"(?=x)"},"n":{"type":"integer"}}}"#;
        let (schema, warning) = InputSchema::compile(Some(&raw(text)));
        assert!(warning.unwrap().contains("lightly"));
        assert_eq!(paths(&schema, r#"{"q":"a","n":2}"#), Vec::<String>::new());
        assert_eq!(paths(&schema, r#"{"q":1,"n":2.5,"z":0}"#), ["/q", "/n", "/z"]);
        assert_eq!(paths(&schema, "{}"), ["/q"]);
    }

    #[test]
    fn another_document_is_never_fetched() {
        let there = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!(r#"{{"$ref":"http://{}/schema.json"}}"#, there.local_addr().unwrap());
        let (schema, warning) = InputSchema::compile(Some(&raw(&text)));
        assert!(matches!(schema, InputSchema::Light(_)));
        assert!(warning.is_some());
        there.set_nonblocking(true).unwrap();
        assert!(there.accept().is_err(), "no one came to ask for it");
    }
}
