//! A command's arguments: templates of whole slots, filled from an input.
//!
//! A slot is a literal or one placeholder; a value fills its slot and nothing else, so it can never
//! become a second argument. A value that begins with `-` would be an option to most programs: it is
//! refused, unless a literal `--` stands before it or the field's own schema allows it.

use serde_json::Value;

/// The longest value that becomes an argument, in bytes.
const MAX_VALUE: usize = 64 << 10;
/// The most slots a list may fill.
const MAX_SPREAD: usize = 256;
/// The most bytes of all arguments together.
const MAX_ARGUMENTS: usize = 512 << 10;
/// The most slots of a template.
const MAX_SLOTS: usize = 128;
/// What a field's schema says to let its values begin with `-`.
const ALLOW_DASH: &str = "x-plexus-allow-dash";

/// One slot of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Literal(String),
    Field { path: Vec<String>, fill: Fill, dash: bool },
}

/// How a field fills its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fill {
    /// One value, which must be there.
    One,
    /// One value, or no slot.
    Optional,
    /// A list, one slot each.
    Spread,
}

/// A command's arguments, as a manifest writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Slot>);

/// Why an input does not fill a template. Names the field, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// A field is not there.
    #[error("{0} is needed")]
    Missing(String),
    /// A field is no text, number or boolean, or no list of them where one is asked for.
    #[error("{0} is not a plain value")]
    NotPlain(String),
    /// A value would be read as an option.
    #[error("{0} begins with '-', which this command would take for an option")]
    Option(String),
    /// A value holds what no argument can.
    #[error("{0} holds a NUL character")]
    Nul(String),
    /// Too much.
    #[error("{0} is too long for an argument")]
    TooLong(String),
}

impl Template {
    /// Reads a template; `schema` is the input's, and may let a field begin with `-`.
    ///
    /// # Errors
    /// The index of each slot that is no slot, and why.
    pub fn read(slots: &[&str], schema: Option<&Value>) -> Result<Self, Vec<(usize, String)>> {
        let mut wrong = Vec::new();
        if slots.len() > MAX_SLOTS {
            return Err(vec![(MAX_SLOTS, format!("there are more than {MAX_SLOTS} arguments"))]);
        }
        let mut ended = false;
        let mut read = Vec::new();
        for (index, text) in slots.iter().enumerate() {
            match slot(text, schema, ended) {
                Ok(slot) => read.push(slot),
                Err(why) => wrong.push((index, why)),
            }
            ended |= *text == "--";
        }
        if wrong.is_empty() { Ok(Self(read)) } else { Err(wrong) }
    }

    /// The arguments for `input`.
    ///
    /// # Errors
    /// See [`FillError`].
    pub fn fill(&self, input: &Value) -> Result<Vec<String>, FillError> {
        let mut out = Vec::new();
        for slot in &self.0 {
            match slot {
                Slot::Literal(text) => out.push(text.clone()),
                Slot::Field { path, fill, dash } => {
                    fill_slot(input, path, *fill, *dash, &mut out)?;
                }
            }
        }
        match out.iter().map(|argument| argument.len() + 1).sum::<usize>() {
            total if total > MAX_ARGUMENTS => Err(FillError::TooLong("the input".into())),
            _ => Ok(out),
        }
    }

    /// The template, for people: no other one reads the same.
    pub fn shown(&self) -> String {
        let mut ended = false;
        let shown = self.0.iter().map(|slot| match slot {
            Slot::Literal(text) => {
                ended |= text == "--";
                let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
                if plain && !text.contains(['"', '\\']) {
                    text.clone()
                } else {
                    format!("{text:?}")
                }
            }
            Slot::Field { path, fill, dash } => {
                let end = match fill {
                    Fill::One => "",
                    Fill::Optional => "?",
                    Fill::Spread => "...",
                };
                let options = if *dash && !ended { ", options too" } else { "" };
                format!("{{{}{end}{options}}}", path.join("."))
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

fn slot(text: &str, schema: Option<&Value>, ended: bool) -> Result<Slot, String> {
    if text.len() > MAX_VALUE || text.contains('\0') {
        return Err("it is too long, or holds a NUL character".into());
    }
    if !text.contains(['{', '}']) {
        return Ok(Slot::Literal(text.to_owned()));
    }
    let whole = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(name) = whole.filter(|name| !name.contains(['{', '}'])) else {
        return Err("a placeholder fills a whole argument: write \"{field}\" on its own".into());
    };
    let (name, fill) = match (name.strip_suffix('?'), name.strip_suffix("...")) {
        (Some(name), _) => (name, Fill::Optional),
        (None, Some(name)) => (name, Fill::Spread),
        (None, None) => (name, Fill::One),
    };
    let path: Vec<String> = name.split('.').map(ToOwned::to_owned).collect();
    let word = |part: &String| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if path.len() > 8 || !path.iter().all(word) {
        return Err(
            "a placeholder is {field}, {field?} or {field...}, with dots between parts".into()
        );
    }
    let dash = ended || schema.is_some_and(|schema| allows_dash(schema, &path));
    Ok(Slot::Field { path, fill, dash })
}

fn allows_dash(schema: &Value, path: &[String]) -> bool {
    let field = path.iter().try_fold(schema, |at, part| at.get("properties")?.get(part));
    let says = |schema: &Value| schema.get(ALLOW_DASH) == Some(&Value::Bool(true));
    field.is_some_and(says)
}

fn fill_slot(
    input: &Value,
    path: &[String],
    fill: Fill,
    dash: bool,
    out: &mut Vec<String>,
) -> Result<(), FillError> {
    let name = || path.join(".");
    let value = path.iter().try_fold(input, |at, part| at.as_object()?.get(part));
    match (value, fill) {
        (None | Some(Value::Null), Fill::Optional) => Ok(()),
        (None | Some(Value::Null), Fill::One | Fill::Spread) => Err(FillError::Missing(name())),
        (Some(Value::Array(values)), Fill::Spread) if values.len() > MAX_SPREAD => {
            Err(FillError::TooLong(name()))
        }
        (Some(Value::Array(values)), Fill::Spread) => {
            for value in values {
                out.push(argument(value, dash, &name)?);
            }
            Ok(())
        }
        (Some(_), Fill::Spread) => Err(FillError::NotPlain(name())),
        (Some(value), Fill::One | Fill::Optional) => {
            out.push(argument(value, dash, &name)?);
            Ok(())
        }
    }
}

fn argument(value: &Value, dash: bool, name: &dyn Fn() -> String) -> Result<String, FillError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(FillError::NotPlain(name()));
        }
    };
    match text {
        text if text.len() > MAX_VALUE => Err(FillError::TooLong(name())),
        text if text.contains('\0') => Err(FillError::Nul(name())),
        text if text.starts_with('-') && !dash => Err(FillError::Option(name())),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fill(slots: &[&str], input: &Value) -> Result<Vec<String>, FillError> {
        Template::read(slots, None).unwrap().fill(input)
    }

    #[test]
    fn a_value_fills_its_slot_whole_whatever_it_holds() {
        let input = json!({"q": "a b; $(rm) 'c' \"d\"\n", "at": {"n": 3}, "yes": true});
        let filled = fill(&["-e", "{q}", "{at.n}", "{yes}", "{no?}"], &input).unwrap();
        assert_eq!(filled, ["-e", "a b; $(rm) 'c' \"d\"\n", "3", "true"]);
        assert_eq!(fill(&["{no}"], &input), Err(FillError::Missing("no".into())));
        assert_eq!(fill(&["{at}"], &input), Err(FillError::NotPlain("at".into())));
        assert_eq!(fill(&["{q...}"], &input), Err(FillError::NotPlain("q".into())));
        assert_eq!(fill(&["{q.x}"], &input), Err(FillError::Missing("q.x".into())));
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_refused_unless_the_manifest_says_otherwise() {
        let input = json!({"q": "--exec=x", "n": -1, "list": ["a", "-b"], "nul": "a\0b"});
        assert_eq!(fill(&["{q}"], &input), Err(FillError::Option("q".into())));
        assert_eq!(fill(&["{n}"], &input), Err(FillError::Option("n".into())));
        assert_eq!(fill(&["{list...}"], &input), Err(FillError::Option("list".into())));
        assert_eq!(fill(&["{q}", "--"], &input), Err(FillError::Option("q".into())));
        assert_eq!(fill(&["--", "{nul}"], &input), Err(FillError::Nul("nul".into())));
        assert_eq!(fill(&["--", "{q}", "{list...}"], &input).unwrap().len(), 4);
        let schema = json!({"properties": {"q": {"x-plexus-allow-dash": true}}});
        let allowed = Template::read(&["{q}"], Some(&schema)).unwrap();
        assert_eq!(allowed.fill(&input).unwrap(), ["--exec=x"]);
        let other = Template::read(&["{n}"], Some(&schema)).unwrap();
        assert!(other.fill(&input).is_err());
    }

    #[test]
    fn a_placeholder_within_an_argument_is_no_template() {
        for bad in ["--x={q}", "{q}{r}", "{q", "q}", "{}", "{a..b}", "{a b}", "{{q}}", "{q??}"] {
            let wrong = Template::read(&["fine", bad], None).unwrap_err();
            assert_eq!(wrong.len(), 1, "{bad}");
            assert_eq!(wrong[0].0, 1, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_value_makes_another_slot_or_an_option(
            slots in prop::collection::vec(
                prop_oneof!["[a-z-]{0,6}", Just("{a}".to_owned()), Just("{b?}".to_owned())], 0..8),
            a in any::<String>(),
            b in prop::option::of(any::<String>()),
        ) {
            let texts: Vec<&str> = slots.iter().map(String::as_str).collect();
            let template = Template::read(&texts, None).unwrap();
            let mut input = json!({"a": a});
            if let Some(b) = &b { input["b"] = json!(b); }
            if let Ok(filled) = template.fill(&input) {
                prop_assert!(filled.len() <= slots.len());
                let kept = slots.iter().filter(|slot| b.is_some() || *slot != "{b?}");
                let mut ended = false;
                for (slot, argument) in kept.zip(&filled) {
                    if slot.starts_with('{') {
                        prop_assert!(ended || !argument.starts_with('-'));
                        prop_assert!(!argument.contains('\0'));
                    } else {
                        prop_assert_eq!(slot, argument);
                    }
                    ended |= slot == "--";
                }
            }
        }

        #[test]
        fn a_list_fills_one_slot_for_each_of_its_values(list in prop::collection::vec(any::<String>(), 0..8)) {
            let template = Template::read(&["x", "{list...}", "y"], None).unwrap();
            if let Ok(filled) = template.fill(&json!({"list": list})) {
                prop_assert_eq!(&filled[1..filled.len() - 1], &list[..]);
                prop_assert!(list.iter().all(|value| !value.starts_with('-')));
            }
        }
    }
}
