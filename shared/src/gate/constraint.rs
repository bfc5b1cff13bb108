//! Does an input lie within a grant's constraint?
//!
//! Everything fails closed: a missing field, a wrong type, an operator that is not known, an empty
//! list, a path that climbs or is absolute, a pattern that does not compile. There is no input that a
//! constraint admits and its absence would not.

use std::borrow::Cow;

use regex::RegexBuilder;
use serde_json::Value;

use crate::model::constraint::{AllowList, Constraint, Match, PathPrefix};

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 512;
/// The largest a compiled pattern may be, in bytes.
const MAX_PROGRAM: usize = 256 * 1024;
/// The most predicates, and the most places or values in one of them.
const MAX_PARTS: usize = 64;
/// The longest field, place or text value, in bytes.
const MAX_TEXT: usize = 4096;

/// Whether `input` satisfies all parts of `constraint`.
pub fn satisfied(constraint: &Constraint, input: &Value) -> bool {
    let Constraint { path_prefix, allow, r#match } = constraint;
    let none = path_prefix.is_none() && allow.is_none() && r#match.is_none();
    !none
        && path_prefix.as_ref().is_none_or(|part| below(part, input))
        && allow.as_ref().is_none_or(|part| listed(part, input))
        && r#match
            .as_ref()
            .is_none_or(|parts| !parts.is_empty() && parts.iter().all(|part| matches(part, input)))
}

/// Whether `constraint` can be satisfied at all.
///
/// # Errors
/// Why it never can, for whoever proposes it.
pub fn check(constraint: &Constraint) -> Result<(), String> {
    let Constraint { path_prefix, allow, r#match } = constraint;
    if path_prefix.is_none() && allow.is_none() && r#match.is_none() {
        return Err("a constraint needs pathPrefix, allow or match".to_owned());
    }
    if let Some(PathPrefix { field, allow }) = path_prefix {
        list("pathPrefix.allow", field, allow.len())?;
        if let Some(bad) = allow.iter().find(|place| segments(place).is_none()) {
            return Err(format!("pathPrefix.allow: {bad:?} is not a relative path without .."));
        }
        texts(allow.iter())?;
    }
    if let Some(AllowList { field, values }) = allow {
        list("allow.values", field, values.len())?;
        texts(values.iter())?;
    }
    if let Some(parts) = r#match {
        list("match", "-", parts.len())?;
        parts.iter().try_for_each(check_match)?;
    }
    Ok(())
}

/// What satisfies `one` and `other` both, in the shape of one constraint.
///
/// # Errors
/// Why there is no such constraint, for whoever proposes it.
pub fn both(one: &Constraint, other: &Constraint) -> Result<Constraint, String> {
    check(one)?;
    check(other)?;
    let mut parts: Vec<Match> = Vec::new();
    let asked = [one, other].into_iter().flat_map(|part| part.r#match.iter().flatten());
    let mut add = |part: Match| {
        if !parts.contains(&part) {
            parts.push(part);
        }
    };
    asked.cloned().for_each(&mut add);
    let path_prefix = match (&one.path_prefix, &other.path_prefix) {
        (Some(one), Some(other)) => Some(places_of_both(one, other)?),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let allow = match (&one.allow, &other.allow) {
        (Some(one), Some(other)) if one.field == other.field => Some(values_of_both(one, other)?),
        (Some(one), Some(AllowList { field, values })) => {
            // A list of texts can be said as a predicate too.
            let (field, op) = (field.clone(), "in".to_owned());
            let values = Some(values.iter().cloned().map(Value::from).collect());
            add(Match { field, op, value: None, values, pattern: None });
            Some(one.clone())
        }
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let r#match = (!parts.is_empty()).then_some(parts);
    let joined = Constraint { path_prefix, allow, r#match };
    check(&joined).map(|()| joined)
}

/// Of two places of which one lies in the other, the inner one.
fn places_of_both(one: &PathPrefix, other: &PathPrefix) -> Result<PathPrefix, String> {
    if one.field != other.field {
        return Err(format!(
            "pathPrefix: it is about {:?} already, and can't be about {:?} too; use match for that",
            one.field, other.field
        ));
    }
    let inner = |a: &'_ String, b: &'_ String| {
        let (deep, shallow) = (segments(a)?, segments(b)?);
        deep.starts_with(&shallow).then(|| a.clone())
    };
    let pairs = one.allow.iter().flat_map(|a| other.allow.iter().map(move |b| (a, b)));
    let mut allow: Vec<_> =
        pairs.filter_map(|(a, b)| inner(a, b).or_else(|| inner(b, a))).collect();
    allow.sort_unstable();
    allow.dedup();
    if allow.is_empty() {
        return Err("pathPrefix: no place lies in both".to_owned());
    }
    Ok(PathPrefix { field: one.field.clone(), allow })
}

fn values_of_both(one: &AllowList, other: &AllowList) -> Result<AllowList, String> {
    let common = one.values.iter().filter(|value| other.values.contains(value));
    let values: Vec<_> = common.cloned().collect();
    if values.is_empty() {
        return Err("allow: no value is in both".to_owned());
    }
    Ok(AllowList { field: one.field.clone(), values })
}

fn list(name: &str, field: &str, len: usize) -> Result<(), String> {
    if field.is_empty() || field.len() > MAX_TEXT {
        return Err(format!("{name}: name the field, in at most {MAX_TEXT} bytes"));
    }
    if len == 0 || len > MAX_PARTS {
        return Err(format!("{name}: 1 to {MAX_PARTS} items"));
    }
    Ok(())
}

fn texts<'a>(mut texts: impl Iterator<Item = &'a String>) -> Result<(), String> {
    match texts.find(|text| text.len() > MAX_TEXT) {
        Some(_) => Err(format!("a value may have at most {MAX_TEXT} bytes")),
        None => Ok(()),
    }
}

fn check_match(part: &Match) -> Result<(), String> {
    let Match { field, op, value, values, pattern } = part;
    list("match", field, 1)?;
    let sized = |value: &Value| value.to_string().len() <= MAX_TEXT;
    match op.as_str() {
        "eq" if value.as_ref().is_some_and(|value| scalar(value) && sized(value)) => Ok(()),
        "prefix" if value.as_ref().is_some_and(|value| value.is_string() && sized(value)) => Ok(()),
        "in" => {
            let values = values.as_deref().unwrap_or_default();
            list("match.values", field, values.len())?;
            match values.iter().all(|value| scalar(value) && sized(value)) {
                true => Ok(()),
                false => Err("match.values: texts, numbers and booleans only".to_owned()),
            }
        }
        "regex" => {
            let pattern = pattern.as_deref().ok_or("regex needs a pattern")?;
            compile(pattern).map(|_| ()).ok_or_else(|| {
                format!("{pattern:?} is not a linear-time pattern of at most {MAX_PATTERN} bytes")
            })
        }
        "eq" | "prefix" => Err(format!("{op} needs a value of its kind")),
        other => Err(format!("{other:?} is not an operator: eq, prefix, in or regex")),
    }
}

/// The member of `input` at the dotted `path`.
fn member<'a>(input: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(input, |value, name| value.as_object()?.get(name))
}

fn below(part: &PathPrefix, input: &Value) -> bool {
    let path = member(input, &part.field).and_then(Value::as_str).and_then(segments);
    path.is_some_and(|path| {
        let places = part.allow.iter().filter_map(|place| segments(place));
        places.into_iter().any(|place| path.starts_with(&place))
    })
}

/// The segments of a relative path, `.` and empty ones left out; `None` when it is absolute, climbs,
/// or is not a plain path.
fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    if path.starts_with('/') || path.contains(['\\', '\0']) {
        return None;
    }
    let named = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".");
    named.map(|segment| (segment != "..").then_some(Cow::Borrowed(segment))).collect()
}

fn listed(part: &AllowList, input: &Value) -> bool {
    let value = member(input, &part.field).and_then(Value::as_str);
    value.is_some_and(|value| part.values.iter().any(|known| known == value))
}

fn scalar(value: &Value) -> bool {
    value.is_string() || value.is_number() || value.is_boolean()
}

fn matches(part: &Match, input: &Value) -> bool {
    let Some(found) = member(input, &part.field).filter(|value| scalar(value)) else {
        return false;
    };
    match part.op.as_str() {
        "eq" => part.value.as_ref().is_some_and(|value| scalar(value) && value == found),
        "prefix" => {
            let prefix = part.value.as_ref().and_then(Value::as_str);
            prefix.zip(found.as_str()).is_some_and(|(prefix, text)| text.starts_with(prefix))
        }
        "in" => part.values.as_ref().is_some_and(|values| values.contains(found)),
        "regex" => {
            let pattern = part.pattern.as_deref().and_then(compile);
            pattern.zip(found.as_str()).is_some_and(|(pattern, text)| pattern.is_match(text))
        }
        _ => false,
    }
}

/// `pattern`, anchored at both ends.
fn compile(pattern: &str) -> Option<regex::Regex> {
    if pattern.len() > MAX_PATTERN {
        return None;
    }
    // By itself first: an unbalanced parenthesis must not close our own.
    let alone = RegexBuilder::new(pattern).size_limit(MAX_PROGRAM).build().ok()?;
    let whole = format!(r"\A(?:{})\z", alone.as_str());
    RegexBuilder::new(&whole).size_limit(MAX_PROGRAM).build().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn holds(constraint: &Value, input: &Value) -> bool {
        satisfied(&serde_json::from_value(constraint.clone()).unwrap(), input)
    }

    fn refused(constraint: &Value) -> bool {
        serde_json::from_value(constraint.clone()).map_or(true, |c| check(&c).is_err())
    }

    #[test]
    fn a_path_prefix_compares_whole_segments_after_normalisation() {
        let inbox = json!({"pathPrefix": {"field": "path", "allow": ["Inbox/", "Archive/2026"]}});
        for inside in ["Inbox/a", "Inbox", "./Inbox//x", "Archive/2026/1"] {
            assert!(holds(&inbox, &json!({"path": inside})), "{inside}");
        }
        for outside in [
            "Inboxes/a",
            "Archive/2025",
            "Inbox/../x",
            "/Inbox/a",
            "..",
            "",
            "Inbox\\..\\x",
            "Archive",
        ] {
            assert!(!holds(&inbox, &json!({"path": outside})), "{outside}");
        }
        for odd in
            [json!({}), json!({"path": 1}), json!({"path": ["Inbox"]}), json!("Inbox"), json!(null)]
        {
            assert!(!holds(&inbox, &odd), "{odd}");
        }
    }

    #[test]
    fn each_operator_means_what_it_says_and_nothing_else_holds() {
        let of = |part: Value| json!({"match": [part]});
        let input = json!({"params": {"folder": "work", "n": 3, "on": true}});
        for (part, expected) in [
            (json!({"field": "params.folder", "op": "eq", "value": "work"}), true),
            (json!({"field": "params.folder", "op": "eq", "value": "wor"}), false),
            (json!({"field": "params.n", "op": "eq", "value": 3}), true),
            (json!({"field": "params.n", "op": "eq", "value": "3"}), false),
            (json!({"field": "params.on", "op": "in", "values": [false, true]}), true),
            (json!({"field": "params.n", "op": "in", "values": []}), false),
            (json!({"field": "params.folder", "op": "prefix", "value": "wo"}), true),
            (json!({"field": "params.n", "op": "prefix", "value": "3"}), false),
            (json!({"field": "params.folder", "op": "regex", "pattern": "w.*k"}), true),
            (json!({"field": "params.folder", "op": "regex", "pattern": "wor"}), false),
            (json!({"field": "params.folder", "op": "regex", "pattern": "x)|(?:.*"}), false),
            (json!({"field": "params.folder", "op": "regex", "pattern": "(?=w).*"}), false),
            (json!({"field": "params.folder", "op": "glob", "pattern": "*"}), false),
            (json!({"field": "params", "op": "eq", "value": {"folder": "work"}}), false),
            (json!({"field": "params.gone", "op": "eq", "value": null}), false),
            (json!({"field": "", "op": "eq", "value": "work"}), false),
        ] {
            assert_eq!(holds(&of(part.clone()), &input), expected, "{part}");
        }
    }

    #[test]
    fn what_can_never_hold_is_told_when_it_is_proposed() {
        for never in [
            json!({}),
            json!({"match": []}),
            json!({"allow": {"field": "a", "values": []}}),
            json!({"pathPrefix": {"field": "a", "allow": ["../x"]}}),
            json!({"match": [{"field": "a", "op": "glob"}]}),
            json!({"match": [{"field": "a", "op": "regex", "pattern": "(?<=a)b"}]}),
            json!({"match": [{"field": "a", "op": "regex", "pattern": "x".repeat(513)}]}),
            json!({"match": [{"field": "a", "op": "regex", "pattern": "(a{1000}){1000}"}]}),
            json!({"somethingElse": true}),
        ] {
            assert!(refused(&never), "{never}");
        }
        assert!(!refused(&json!({"allow": {"field": "a", "values": ["x"]}})));
    }

    #[test]
    fn two_constraints_are_joined_or_refused_and_never_widened() {
        let both = |one: &Value, other: &Value| {
            let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
            both(&read(one), &read(other)).map(|joined| serde_json::to_value(joined).unwrap())
        };
        let below =
            |field: &str, places: &[&str]| json!({"pathPrefix": {"field": field, "allow": places}});
        assert_eq!(
            both(&below("p", &["a", "b/c"]), &below("p", &["./b/", "a/x", "d"])).unwrap(),
            below("p", &["a/x", "b/c"])
        );
        let listed =
            |field: &str, values: &[&str]| json!({"allow": {"field": field, "values": values}});
        assert_eq!(
            both(&listed("f", &["x", "y"]), &listed("f", &["y", "z"])).unwrap(),
            listed("f", &["y"])
        );
        let mut joined = listed("f", &["x"]);
        joined["match"] = json!([{"field": "g", "op": "in", "values": ["y"]}]);
        assert_eq!(both(&listed("f", &["x"]), &listed("g", &["y"])).unwrap(), joined);
        for (one, other, why) in [
            (below("p", &["a"]), below("p", &["b"]), "no place"),
            (below("p", &["a"]), below("q", &["a"]), "use match"),
            (listed("f", &["x"]), listed("f", &["y"]), "no value"),
            (listed("f", &["x"]), json!({}), "needs"),
            (json!({}), listed("f", &["x"]), "needs"),
        ] {
            let refused = both(&one, &other).unwrap_err();
            assert!(refused.contains(why), "{one} and {other}: {refused}");
        }
    }

    fn any_constraint() -> impl Strategy<Value = Constraint> {
        let field = || prop::sample::select(vec!["p", "q"]);
        let texts = || {
            let words = vec!["a", "b", "a/b", "a//b/", "ab"];
            prop::collection::vec(prop::sample::select(words), 1..4)
        };
        let list = move || prop::option::of((field(), texts()));
        (list(), list(), list()).prop_map(|(below, listed, part)| {
            let mut constraint = json!({});
            if let Some((field, allow)) = below {
                constraint["pathPrefix"] = json!({"field": field, "allow": allow});
            }
            if let Some((field, values)) = listed {
                constraint["allow"] = json!({"field": field, "values": values});
            }
            if let Some((field, values)) = part {
                constraint["match"] = json!([{"field": field, "op": "in", "values": values}]);
            }
            serde_json::from_value(constraint).unwrap()
        })
    }

    proptest! {
        #[test]
        fn joined_constraints_hold_where_each_does_and_nowhere_else(
            one in any_constraint(), other in any_constraint(),
            p in prop::sample::select(vec!["a", "b", "a/b", "ab", "a/b/c"]),
            q in prop::sample::select(vec!["a", "b", "a/b", "ab", "./a/b"]),
        ) {
            if let Ok(joined) = both(&one, &other) {
                let input = json!({"p": p, "q": q});
                let each = satisfied(&one, &input) && satisfied(&other, &input);
                prop_assert_eq!(satisfied(&joined, &input), each);
            }
        }

        #[test]
        fn no_path_outside_its_places_is_ever_inside(path in ".*") {
            let place = json!({"pathPrefix": {"field": "p", "allow": ["a/b"]}});
            if holds(&place, &json!({"p": path})) {
                let kept: Vec<_> =
                    path.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
                prop_assert!(kept.starts_with(&["a", "b"]) && !kept.contains(&".."));
            }
        }

        #[test]
        fn a_pattern_never_panics_and_is_anchored(pattern in ".{0,40}", text in ".{0,40}") {
            let part = json!({"match": [{"field": "t", "op": "regex", "pattern": pattern}]});
            let _ = holds(&part, &json!({"t": text}));
        }
    }
}
