//! Reads JSON and builds only what is kept of it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{MAX_BYTES, MAX_DEPTH, MAX_ITEMS, MAX_KEYS, REDACTED, Rules, scrub};

const DEPTH_MARK: &str = "…[depth]";
const KEYS_MARK: &str = "…";

/// What is kept of the JSON text `json`.
pub(super) fn json(rules: &Rules, json: &str) -> serde_json::Result<Value> {
    let budget = Cell::new(MAX_BYTES);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let kept = Walk { rules, budget: &budget, depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(kept)
}

/// What is kept of `value`.
pub(super) fn value(rules: &Rules, value: &Value) -> serde_json::Result<Value> {
    let budget = Cell::new(MAX_BYTES);
    Walk { rules, budget: &budget, depth: 0 }.deserialize(value)
}

/// `json` with every half of a surrogate pair that stands alone replaced: other writers of JSON let
/// them pass when they cut strings.
pub(super) fn without_lone_surrogates(json: &str) -> String {
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut out = String::with_capacity(json.len());
    let (mut copied, mut at) = (0, 0);
    while let Some(step) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += step;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str(&json[copied..at]);
                out.push_str("\\ufffd");
                copied = at + 6;
                6
            }
            _ => 2.min(bytes.len() - at),
        };
    }
    out.push_str(&json[copied..]);
    out
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    rules: &'a Rules,
    budget: &'a Cell<usize>,
    /// How many arrays and objects this value is in.
    depth: u8,
}

impl Walk<'_> {
    fn inside(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn has_room(self) -> bool {
        self.budget.get() > 0
    }

    fn spend(self, bytes: usize) {
        self.budget.set(self.budget.get().saturating_sub(bytes));
    }

    fn string(self, text: &str) -> String {
        let kept = scrub::text(self.rules, text);
        self.spend(kept.bytes().map(written_length).sum::<usize>() + 3);
        kept
    }

    fn number(self, number: Number) -> Value {
        self.spend(8);
        let text = number.to_string();
        if self.rules.numeric && scrub::holds_needle(self.rules, &text) {
            return REDACTED.into();
        }
        if is_exact(&number, &text) { Value::Number(number) } else { Value::String(text) }
    }
}

/// Whether the canonical form, which knows no integers but those of a double, writes `number` as it
/// is. One that it would round is kept as text instead.
fn is_exact(number: &Number, text: &str) -> bool {
    const SAFE: u64 = 1 << 53;
    if number.is_f64() || number.as_i64().is_some_and(|n| n.unsigned_abs() <= SAFE) {
        return true;
    }
    let double = number.as_f64().unwrap_or(f64::NAN);
    serde_json_canonicalizer::to_string(&double).is_ok_and(|canonical| canonical == text)
}

fn written_length(byte: u8) -> usize {
    match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.spend(5);
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.spend(6);
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, |number| self.number(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(self.string(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.spend(3);
        if self.depth >= MAX_DEPTH {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(DEPTH_MARK.into());
        }
        let mut items = Vec::new();
        while items.len() < MAX_ITEMS && self.has_room() {
            match seq.next_element_seed(self.inside())? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
        let Some(next) = seq.next_element_seed(self.inside())? else {
            return Ok(Value::Array(items));
        };
        let mut left = 1;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            left += 1;
        }
        let marked = left == 1 && is_mark(&next, "…[+", " items]");
        items.push(if marked { next } else { format!("…[+{left} items]").into() });
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.spend(3);
        if self.depth >= MAX_DEPTH {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(DEPTH_MARK.into());
        }
        let mut members = Map::new();
        while members.len() < MAX_KEYS && self.has_room() {
            match self.member(&mut map)? {
                Some((key, value)) => insert(&mut members, key, value),
                None => return Ok(Value::Object(members)),
            }
        }
        let Some((key, value)) = self.member(&mut map)? else {
            return Ok(Value::Object(members));
        };
        let mut left = 1;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            left += 1;
        }
        let marked = left == 1 && key == KEYS_MARK && is_mark(&value, "[+", " keys]");
        let mark = if marked { value } else { format!("[+{left} keys]").into() };
        insert(&mut members, KEYS_MARK.to_owned(), mark);
        Ok(Value::Object(members))
    }
}

impl Walk<'_> {
    fn member<'de, A: MapAccess<'de>>(
        self,
        map: &mut A,
    ) -> Result<Option<(String, Value)>, A::Error> {
        let Some((key, secret)) = map.next_key_seed(Key(self))? else { return Ok(None) };
        if secret {
            map.next_value::<IgnoredAny>()?;
            self.spend(REDACTED.len() + 3);
            return Ok(Some((key, REDACTED.into())));
        }
        Ok(Some((key, map.next_value_seed(self.inside())?)))
    }
}

/// Keys that were told apart stay apart, also when redaction or the payload made them equal.
fn insert(members: &mut Map<String, Value>, key: String, value: Value) {
    let mut free = key.clone();
    let mut nth = 1;
    while members.contains_key(&free) {
        nth += 1;
        free = format!("{key} ({nth})");
    }
    members.insert(free, value);
}

fn is_mark(value: &Value, before: &str, after: &str) -> bool {
    let digits = value.as_str().and_then(|text| text.strip_prefix(before)?.strip_suffix(after));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads a key: what is kept of it, and whether its value must not be.
struct Key<'a>(Walk<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (String, bool);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (String, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok((self.0.string(key), self.0.rules.hides_value_of(key)))
    }
}
