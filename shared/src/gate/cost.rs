//! Is a schema cheap to check, whatever the input?
//!
//! A few kilobytes of references can ask for more work than there is time: two references to the same
//! place double the work at each level, and a schema that refers to itself doubles it at each level of
//! the *input*. So a schema is checked whole only when the work is bounded:
//!
//! - expanded along every reference, it has at most [`MAX_STEPS`] parts;
//! - where it refers to itself, each part of an input meets each part of the schema once: on the way
//!   round there are only `properties`, `items`, `prefixItems` and `additionalProperties`, and a
//!   reference stands alone;
//! - references are plain: `#` or a JSON pointer within the document.
//!
//! Anything else gets the lightweight rule.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// The most parts a schema may have, expanded.
const MAX_STEPS: u64 = 20_000;
/// The deepest a schema may nest, references followed.
const MAX_DEPTH: usize = 64;
/// The largest schema that is looked at, in parts.
const MAX_PARTS: usize = 20_000;

/// Keywords whose schemas look at the same place of the input again.
const SAME_PLACE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "contentSchema"];
/// Keywords whose schemas look at parts of it, each part at most once.
const PARTS: [&str; 4] = ["properties", "items", "prefixItems", "additionalProperties"];
/// Keywords whose schemas look at parts of it that others may look at too.
const OVERLAPPING: [&str; 5] =
    ["patternProperties", "contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems"];
/// Keywords that make references mean something else.
const FOREIGN: [&str; 7] = [
    "$id",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$vocabulary",
    "dependencies",
];

/// Whether checking any input against `schema` takes bounded work.
///
/// # Errors
/// Why it does not, for people.
pub fn bounded(schema: &Value) -> Result<(), String> {
    let mut walk = Walk { root: schema, steps: HashMap::new(), path: Vec::new(), visits: 0 };
    let steps = walk.steps(schema, 0)?;
    if steps > MAX_STEPS {
        return Err(format!("it has more than {MAX_STEPS} parts, its references followed"));
    }
    Ok(())
}

struct Walk<'a> {
    root: &'a Value,
    /// The expanded size of each part that was walked, by its address.
    steps: HashMap<*const Value, u64>,
    /// The parts being walked, and whether each is entered by a keyword that keeps recursion linear.
    path: Vec<(*const Value, bool)>,
    visits: usize,
}

impl<'a> Walk<'a> {
    /// The expanded size of `schema`.
    fn steps(&mut self, schema: &'a Value, depth: usize) -> Result<u64, String> {
        let Value::Object(members) = schema else { return Ok(1) };
        let here = std::ptr::from_ref(schema);
        if let Some(known) = self.steps.get(&here) {
            return Ok(*known);
        }
        self.visits += 1;
        if depth > MAX_DEPTH || self.visits > MAX_PARTS {
            return Err("it nests too deep, or is too large".to_owned());
        }
        if let Some(foreign) = FOREIGN.iter().find(|word| members.contains_key(**word)) {
            return Err(format!("it uses {foreign}"));
        }
        let mut total = 1_u64;
        for (child, linear) in children(members) {
            self.path.push((here, linear));
            total = total.saturating_add(self.steps(child, depth + 1)?);
            self.path.pop();
        }
        if let Some(reference) = members.get("$ref") {
            let target = self.target(reference)?;
            self.path.push((here, stands_alone(members)));
            let size = self.follow(target, depth)?;
            self.path.pop();
            total = total.saturating_add(size);
        }
        self.steps.insert(here, total);
        Ok(total)
    }

    /// The size of what a reference leads to; going round in a circle is free when it is linear.
    fn follow(&mut self, target: &'a Value, depth: usize) -> Result<u64, String> {
        let to = std::ptr::from_ref(target);
        let Some(start) = self.path.iter().position(|(part, _)| *part == to) else {
            return self.steps(target, depth + 1);
        };
        let round = &self.path[start..];
        let descends = round.len() > 1;
        if descends && round.iter().all(|(_, linear)| *linear) {
            return Ok(1);
        }
        Err("it refers to itself in a way that can multiply".to_owned())
    }

    fn target(&self, reference: &Value) -> Result<&'a Value, String> {
        let pointer = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let plain = pointer.filter(|pointer| !pointer.contains('%'));
        let found = plain.and_then(|pointer| self.root.pointer(pointer));
        found.ok_or_else(|| "it refers to something outside itself".to_owned())
    }
}

/// Whether a schema with a reference says nothing else of the input.
fn stands_alone(members: &Map<String, Value>) -> bool {
    let speaks = |word: &&String| {
        let word = word.as_str();
        SAME_PLACE.contains(&word) || PARTS.contains(&word) || OVERLAPPING.contains(&word)
    };
    !members.keys().any(|word| speaks(&word))
}

/// The schemas within a schema, and whether a circle through each stays linear.
fn children(members: &Map<String, Value>) -> Vec<(&Value, bool)> {
    let crowded = members
        .keys()
        .any(|word| SAME_PLACE.contains(&word.as_str()) || OVERLAPPING.contains(&word.as_str()));
    let mut found = Vec::new();
    for (word, value) in members {
        let word = word.as_str();
        let linear = PARTS.contains(&word) && !crowded;
        match value {
            _ if word == "$defs" || word == "definitions" => {}
            _ if !PARTS.contains(&word)
                && !SAME_PLACE.contains(&word)
                && !OVERLAPPING.contains(&word) => {}
            Value::Object(named) if is_named(word) => {
                found.extend(named.values().map(|schema| (schema, linear)));
            }
            Value::Array(listed) => found.extend(listed.iter().map(|schema| (schema, linear))),
            single => found.push((single, linear)),
        }
    }
    found
}

/// Whether the keyword's value is a map of names to schemas.
fn is_named(word: &str) -> bool {
    HashSet::from(["properties", "patternProperties", "dependentSchemas"]).contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `levels` definitions, each of which asks for the next one twice.
    fn doubling(levels: usize) -> Value {
        let mut defs = Map::new();
        for level in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            defs.insert(format!("d{level}"), json!({"allOf": [next, next]}));
        }
        defs.insert(format!("d{levels}"), json!({"type": "object"}));
        json!({"$ref": "#/$defs/d0", "$defs": defs})
    }

    #[test]
    fn ordinary_schemas_are_checked_whole() {
        let tree = json!({"type": "object", "properties": {
            "name": {"type": "string"},
            "children": {"type": "array", "items": {"$ref": "#"}},
        }});
        let pair = json!({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {
            "left": {"$ref": "#/$defs/n"}, "right": {"$ref": "#/$defs/n"},
        }}}});
        let choice =
            json!({"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {}}}]});
        for schema in [json!(true), json!({}), tree, pair, choice, doubling(4)] {
            assert_eq!(bounded(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn what_can_multiply_is_not() {
        let at_once = json!({"allOf": [{"$ref": "#"}]});
        let itself = json!({"$ref": "#"});
        let twice = json!({"allOf": [
            {"properties": {"x": {"$ref": "#"}}}, {"properties": {"x": {"$ref": "#"}}},
        ]});
        let overlapping = json!({
            "properties": {"x": {"$ref": "#"}}, "patternProperties": {"x": {"$ref": "#"}},
        });
        let beside = json!({"$ref": "#/$defs/a", "$defs": {
            "a": {"properties": {"x": {"$ref": "#/$defs/b"}}},
            "b": {"$ref": "#/$defs/a", "properties": {"x": {"$ref": "#/$defs/b"}}},
        }});
        let elsewhere = json!({"$ref": "other.json"});
        let anchored = json!({"$dynamicRef": "#x"});
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"not": deep});
        }
        for schema in [
            doubling(22),
            doubling(60),
            at_once,
            itself,
            twice,
            overlapping,
            beside,
            elsewhere,
            anchored,
            deep,
        ] {
            assert!(bounded(&schema).is_err(), "{schema}");
        }
    }
}
