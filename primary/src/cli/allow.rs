//! What the owner allows, as it is written on the command line.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use plexus_shared::gate::constraint::check;
use plexus_shared::ids::CapabilityId;
use plexus_shared::model::constraint::Constraint;
use plexus_shared::model::verb::{Verb, VerbSet};
use serde_json::{Value, json};

/// The longest file that holds a constraint, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A capability, and perhaps verbs: `ID` or `ID=read,write`.
#[derive(Clone, Debug)]
pub(super) struct Allow {
    /// The capability.
    pub(super) id: CapabilityId,
    /// The verbs; all it has when they are not said.
    pub(super) verbs: Option<VerbSet>,
}

impl FromStr for Allow {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, verbs) = match text.split_once('=') {
            Some((id, verbs)) => (id, Some(parse_verbs(verbs)?)),
            None => (text, None),
        };
        let id = id.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { id, verbs })
    }
}

fn parse_verbs(text: &str) -> Result<VerbSet, String> {
    let verb = |name: &str| {
        let known = Verb::ALL.into_iter().find(|verb| verb.as_str() == name);
        known.ok_or_else(|| format!("{name:?} is not a verb; the verbs are read, write, execute"))
    };
    text.split(',').map(verb).collect()
}

/// A constraint: JSON, or `@FILE` that holds it.
#[derive(Clone, Debug)]
pub(super) struct Narrowing(Constraint);

impl Narrowing {
    /// For the wire.
    pub(super) fn value(&self) -> Value {
        json!(self.0)
    }
}

impl FromStr for Narrowing {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text.strip_prefix('@') {
            Some(path) => read_file(Path::new(path), MAX_FILE)?,
            None => text.to_owned(),
        };
        let constraint: Constraint = serde_json::from_str(&text).map_err(|error| {
            format!(
                "{error}; a constraint is JSON, such as \
                 {{\"pathPrefix\": {{\"field\": \"path\", \"allow\": [\"drafts/\"]}}}}"
            )
        })?;
        check(&constraint)?;
        Ok(Self(constraint))
    }
}

/// The text of the file at `path`, at most `max` bytes long.
pub(super) fn read_file(path: &Path, max: u64) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(max.saturating_add(1)).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= max => Ok(text),
        _ => Err(format!("{} is longer than {max} bytes", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_allow_names_a_capability_and_perhaps_verbs() {
        let bare: Allow = "notes.file.read".parse().unwrap();
        assert!(bare.verbs.is_none());
        let some: Allow = "local/nas/notes.file.write=read,write".parse().unwrap();
        assert_eq!(some.verbs.unwrap().to_string(), "read+write");
        for bad in ["", "notes", "a.b.c=", "a.b.c=fly", "a.b.c=read,", "a.b.c=read+write"] {
            assert!(bad.parse::<Allow>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_constraint_is_json_or_a_file_and_can_hold() {
        let text = r#"{"pathPrefix": {"field": "path", "allow": ["in/"]}}"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        std::fs::write(&path, text).unwrap();
        let here: Narrowing = text.parse().unwrap();
        let there: Narrowing = format!("@{}", path.display()).parse().unwrap();
        assert_eq!(here.value(), there.value());
        for bad in ["", "in/", "{}", r#"{"path": 1}"#, r#"{"match": []}"#, "@/no/such/file"] {
            assert!(bad.parse::<Narrowing>().is_err(), "{bad:?}");
        }
        assert!(read_file(&path, 3).unwrap_err().contains("longer than 3 bytes"));
    }
}
