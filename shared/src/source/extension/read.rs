//! Reading a manifest: every reason against it, each with its place.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::entry::declared;
use super::manifest::{Declared, MAX_CAPABILITIES, MAX_TEXT, Manifest, Problem, SCHEMA};
use crate::ids::{CapabilityId, SourceId};
use crate::model::entry::{EntryKind, IoSchema, TransportKind};
use crate::model::plain;
use crate::model::verb::VerbSet;
use crate::transport::cli::{binary, environment};
use crate::transport::secrets;

/// The most problems that are told.
const MAX_PROBLEMS: usize = 100;
/// The most of a list within a manifest.
pub(super) const MAX_LIST: usize = 64;

/// What is wrong so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn at(&mut self, pointer: impl Into<String>, reason: impl ToString) {
        if self.0.len() < MAX_PROBLEMS {
            let reason: String = reason.to_string().chars().take(300).collect();
            self.0.push(Problem { pointer: pointer.into(), reason });
        }
    }

    /// The member `name` as a `T`, where it is there.
    pub(super) fn read<T: DeserializeOwned>(
        &mut self,
        object: &Map<String, Value>,
        at: &str,
        name: &str,
        what: &str,
    ) -> Option<T> {
        let value = object.get(name)?;
        let read = T::deserialize(value);
        if read.is_err() {
            self.at(format!("{at}/{name}"), format!("it is not {what}"));
        }
        read.ok()
    }

    /// The member `name`, a list; none when it is not there.
    pub(super) fn list<'a>(
        &mut self,
        object: &'a Map<String, Value>,
        at: &str,
        name: &str,
    ) -> &'a [Value] {
        match object.get(name) {
            None => &[],
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.at(format!("{at}/{name}"), "it is not a list");
                &[]
            }
        }
    }

    /// The member `name`, a list of at most [`MAX_LIST`] texts.
    pub(super) fn texts(
        &mut self,
        object: &Map<String, Value>,
        at: &str,
        name: &str,
    ) -> Vec<String> {
        let list: Vec<String> = self.read(object, at, name, "a list of texts").unwrap_or_default();
        if list.len() > MAX_LIST * 2 {
            self.at(format!("{at}/{name}"), format!("it has more than {} entries", MAX_LIST * 2));
            return Vec::new();
        }
        list
    }
}

/// What entries may refer to.
pub(super) struct Known<'a> {
    pub(super) slug: String,
    pub(super) binaries: &'a [String],
    /// The variable and the name of each secret.
    pub(super) secrets: &'a [(String, String)],
    pub(super) cross: bool,
    /// Kind, verbs and label of each entry, by name.
    pub(super) entries: HashMap<String, (EntryKind, VerbSet, String)>,
}

impl Known<'_> {
    /// The id of what an entry calls `text`: a name of its own source, or a whole id.
    pub(super) fn id(&self, text: &str) -> Option<CapabilityId> {
        match self.entries.contains_key(text) {
            true => format!("{}.{text}", self.slug).parse().ok(),
            false => text.parse().ok(),
        }
    }

    /// The entry of this source that `id` is.
    pub(super) fn own(&self, id: &CapabilityId) -> Option<Option<&(EntryKind, VerbSet, String)>> {
        let name = id.as_str().strip_prefix(&self.slug)?.strip_prefix('.')?;
        Some(self.entries.get(name))
    }
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it; then nothing of it is taken.
    pub fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let manifest = read(text, &mut problems);
        match manifest {
            Some(manifest) if problems.0.is_empty() => Ok(manifest),
            _ if problems.0.is_empty() => {
                Err(vec![Problem { pointer: String::new(), reason: "it can't be read".into() }])
            }
            _ => Err(problems.0),
        }
    }
}

fn read(text: &str, problems: &mut Problems) -> Option<Manifest> {
    if text.len() > MAX_TEXT {
        problems.at("", format!("it has more than {MAX_TEXT} bytes"));
        return None;
    }
    let root = match plain::read(text.as_bytes()) {
        Ok(Value::Object(root)) => root,
        Ok(_) => {
            problems.at("", "a manifest is an object");
            return None;
        }
        Err(error) => {
            problems.at("", format!("it is not JSON that can be read: {error}"));
            return None;
        }
    };
    let contracts = contracts(text, problems);
    if root.get("manifest").and_then(Value::as_str) != Some(SCHEMA) {
        problems.at("/manifest", format!("it must say {SCHEMA:?}"));
    }
    let source = source(&root, problems);
    let label = label(&root, "", problems);
    let transport = transport(&root, "", problems);
    if transport.is_none() && !root.contains_key("transport") {
        problems.at("/transport", "it is needed");
    }
    let binaries = binaries(&root, problems);
    let secrets = declared_secrets(&root, problems);
    let cross = problems.read(&root, "", "allowCrossSource", "true or false").unwrap_or(false);
    let entries = entries(&root, problems);
    let (source, transport) = (source?, transport.unwrap_or(TransportKind::Cli));
    let mut known = Known {
        slug: source.slug(),
        binaries: &binaries,
        secrets: &secrets,
        cross,
        entries: HashMap::new(),
    };
    names(&entries, &mut known, problems);
    let mut capabilities = Vec::new();
    for ((index, entry), io) in entries.iter().enumerate().zip(contracts) {
        let at = format!("/capabilities/{index}");
        if let Some(declared) = declared(entry, io, &at, transport, &known, problems) {
            if let Err(why) = declared.definition(&source).check() {
                problems.at(at, why);
            }
            capabilities.push(declared);
        }
    }
    circles(&capabilities, problems);
    let allow_cross_source = cross;
    Some(Manifest { source, label, transport, capabilities, binaries, allow_cross_source })
}

/// The contracts of each entry, in the manifest's own bytes.
fn contracts(text: &str, problems: &mut Problems) -> Vec<Option<IoSchema>> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(default)]
        capabilities: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        io: Option<IoSchema>,
    }
    match serde_json::from_str::<Document>(text) {
        Ok(document) => document.capabilities.into_iter().map(|entry| entry.io).collect(),
        Err(error) => {
            problems.at("/capabilities", format!("they can't be read: {error}"));
            Vec::new()
        }
    }
}

fn source(root: &Map<String, Value>, problems: &mut Problems) -> Option<SourceId> {
    if !root.contains_key("source") {
        problems.at("/source", "it is needed");
    }
    problems.read(root, "", "source", "a source name ([a-z0-9][a-z0-9-]{0,62})")
}

fn label(object: &Map<String, Value>, at: &str, problems: &mut Problems) -> String {
    let label = object.get("label").and_then(Value::as_str).unwrap_or_default();
    if label.is_empty() || label.len() > 200 || label.chars().any(char::is_control) {
        problems.at(format!("{at}/label"), "it needs 1 to 200 bytes on one line");
    }
    label.to_owned()
}

/// The transport `object` names, when this version can run it.
pub(super) fn transport(
    object: &Map<String, Value>,
    at: &str,
    problems: &mut Problems,
) -> Option<TransportKind> {
    let kind = problems.read(object, at, "transport", "a transport")?;
    let refuse = match kind {
        TransportKind::Cli | TransportKind::Skill | TransportKind::Workflow => return Some(kind),
        TransportKind::Mcp => {
            "a manifest can't describe an MCP server; add it as a source of kind mcp"
        }
        // Their routes come with later versions: see `Run`.
        TransportKind::LocalRest => "this version can not run local-rest capabilities yet",
        TransportKind::Stdio => "this version can not run stdio capabilities yet",
        TransportKind::Ipc => "this version can not run ipc capabilities yet",
    };
    problems.at(format!("{at}/transport"), refuse);
    None
}

fn binaries(root: &Map<String, Value>, problems: &mut Problems) -> Vec<String> {
    let binaries = problems.texts(root, "", "binaries");
    for (index, name) in binaries.iter().enumerate() {
        if let Err(why) = binary::check_name(name) {
            problems.at(format!("/binaries/{index}"), why);
        }
    }
    binaries
}

fn declared_secrets(root: &Map<String, Value>, problems: &mut Problems) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Secret {
        name: String,
        attach: String,
        #[serde(default)]
        r#as: Option<String>,
    }
    let list = problems.list(root, "", "secrets");
    let mut secrets: Vec<(String, String)> = Vec::new();
    for (index, secret) in list.iter().take(MAX_LIST).enumerate() {
        let at = format!("/secrets/{index}");
        let Ok(Secret { name, attach, r#as }) = Secret::deserialize(secret) else {
            problems.at(at, "a secret has a name, how it is attached, and as what");
            continue;
        };
        if !secrets::is_name(&name) {
            problems.at(format!("{at}/name"), "it is not the name of a secret");
        }
        match attach.as_str() {
            "env" => {}
            "bearer" | "header" | "query" => {
                let why =
                    "only local-rest attaches a secret so, which this version can not run yet";
                problems.at(format!("{at}/attach"), why);
            }
            _ => problems.at(format!("{at}/attach"), "it is one of bearer, header, query, env"),
        }
        let variable = r#as.unwrap_or_else(|| name.clone());
        if let Err(why) = environment::check_name(&variable) {
            problems.at(format!("{at}/as"), why);
        }
        if secrets.iter().any(|(taken, _)| *taken == variable) {
            problems.at(format!("{at}/as"), "another secret arrives in this variable");
        }
        secrets.push((variable, name));
    }
    if list.len() > MAX_LIST {
        problems.at("/secrets", format!("there are more than {MAX_LIST}"));
    }
    secrets
}

fn entries(root: &Map<String, Value>, problems: &mut Problems) -> Vec<Map<String, Value>> {
    let list = match root.get("capabilities") {
        Some(Value::Array(list)) if (1..=MAX_CAPABILITIES).contains(&list.len()) => list,
        _ => {
            problems.at("/capabilities", format!("it has 1 to {MAX_CAPABILITIES} entries"));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        match entry {
            Value::Object(entry) => entries.push(entry.clone()),
            _ => problems.at(format!("/capabilities/{index}"), "it is not an object"),
        }
    }
    // Places are counted: with one that is none, nothing more can be said.
    if entries.len() == list.len() { entries } else { Vec::new() }
}

/// Learns the name, kind and verbs of every entry.
fn names(entries: &[Map<String, Value>], known: &mut Known<'_>, problems: &mut Problems) {
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("/capabilities/{index}");
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let word = |part: &str| {
            (1..=64).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let mut parts = name.split('.');
        let two = parts.next().is_some_and(word)
            && parts.next().is_some_and(word)
            && parts.next().is_none();
        if !two {
            problems.at(format!("{at}/name"), "it has the form noun.verb");
        }
        let kind: Option<EntryKind> =
            problems.read(entry, &at, "kind", "capability, skill or workflow");
        if !entry.contains_key("kind") {
            problems.at(format!("{at}/kind"), "it is needed");
        }
        let grants = problems.read(entry, &at, "grants", "a list of read, write, execute");
        let kind = kind.unwrap_or(EntryKind::Capability);
        let label = label(entry, &at, problems);
        let said = (kind, grants.unwrap_or_default(), label);
        if two && known.entries.insert(name.to_owned(), said).is_some() {
            problems.at(format!("{at}/name"), "another entry has this name");
        }
    }
}

/// Workflows that come to themselves again would never end.
fn circles(entries: &[Declared], problems: &mut Problems) {
    let mut open: Vec<&Declared> = entries.iter().filter(|e| !e.members.is_empty()).collect();
    loop {
        let ids: HashSet<CapabilityId> = open.iter().map(|entry| entry.id.clone()).collect();
        let before = open.len();
        open.retain(|entry| entry.members.iter().any(|member| ids.contains(&member.id)));
        if open.len() == before {
            break;
        }
    }
    for (index, entry) in entries.iter().enumerate() {
        if open.iter().any(|circle| circle.id == entry.id) {
            problems
                .at(format!("/capabilities/{index}/members"), "the workflow comes to itself again");
        }
    }
}
