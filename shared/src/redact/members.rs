//! Which members of a capability's inputs and outputs are secrets by their entry's own word.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::plain;

/// The names of the members that `schemas` call secret: `"writeOnly": true`, or `"format": "password"`.
pub fn secret_members<'a>(schemas: impl IntoIterator<Item = &'a RawValue>) -> Vec<String> {
    let mut names = Vec::new();
    for raw in schemas {
        // One that can't be read hides nothing, and is checked only lightly: its entry says so.
        if let Ok(schema) = plain::read(raw.get().as_bytes()) {
            collect(&schema, &mut names);
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn collect(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let properties = members.get("properties").and_then(Value::as_object);
            let secret = properties.into_iter().flatten().filter(|(_, member)| is_secret(member));
            names.extend(secret.map(|(name, _)| name.clone()));
            members.values().for_each(|inner| collect(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, names)),
        _ => {}
    }
}

fn is_secret(member: &Value) -> bool {
    member.get("writeOnly") == Some(&Value::Bool(true))
        || member.get("format").and_then(Value::as_str) == Some("password")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn members_are_secret_by_their_schemas_word_wherever_they_lie() {
        let text = r#"{"type": "object", "properties": {
            "pin": {"type": "string", "writeOnly": true}, "name": {"type": "string"},
            "at": {"type": "array", "items": {"properties": {"word": {"format": "password"}}}},
            "not": {"writeOnly": "true"}}}"#;
        let schema = RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(secret_members([&*schema, &*schema]), ["pin", "word"]);
    }
}
