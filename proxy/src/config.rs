//! What the owner of this machine says: which sources the proxy bears.
//!
//! ```toml
//! health_interval = 15        # seconds between health reports; optional
//!
//! [[source]]
//! id = "notes"
//! kind = "workspace"
//! path = "/srv/notes"
//! mode = "read-write"         # or "read", the default
//! ```
//!
//! Every mistake is told with its file and line and what to do about it. A key that is not known is a
//! mistake: one that was misspelt would otherwise be a setting that silently does not hold.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexus_mesh_proto::limits;
use plexus_shared::ids::SourceId;
use plexus_shared::source::workspace::{Mode, WorkspaceConfig};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where the configuration is when nothing else is said.
pub const DEFAULT_FILE: &str = "/etc/plexus/proxy.toml";

/// The most bytes a configuration may have.
const MAX_BYTES: u64 = 1024 * 1024;

/// The most bytes a label may have.
const MAX_LABEL: usize = 200;

const DEFAULT_HEALTH_INTERVAL: Duration = Duration::from_secs(15);

const TOP_KEYS: [&str; 2] = ["health_interval", "source"];
const COMMON_KEYS: [&str; 3] = ["id", "kind", "label"];
const WORKSPACE_KEYS: [&str; 4] = ["path", "mode", "max_read_bytes", "max_write_bytes"];

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// The interval between health reports this proxy asks for.
    pub health_interval: Duration,
    /// The sources, in the order of the file.
    pub sources: Vec<SourceConfig>,
}

/// One `[[source]]`.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name; every id it offers begins with it.
    pub id: SourceId,
    /// What people and agents read.
    pub label: Option<String>,
    /// What it is.
    pub kind: SourceKind,
    /// The line to name when it cannot be opened.
    pub line: usize,
}

/// What a source is: a closed set.
#[derive(Clone, Debug)]
pub enum SourceKind {
    /// A folder.
    Workspace(WorkspaceConfig),
}

impl SourceKind {
    /// The kind as the configuration spells it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Workspace(_) => "workspace",
        }
    }
}

/// A mistake in the configuration: where it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` when it is about the file as a whole.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl Config {
    /// Reads and checks `file`. Sources are not opened yet.
    ///
    /// # Errors
    /// The first mistake.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let bytes = read_bounded(file)?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            mistake(file, Some(line), "not UTF-8 text; save the file as UTF-8")
        })?;
        Self::parse(file, text)
    }

    /// Checks `text` as the content of `file`.
    ///
    /// # Errors
    /// The first mistake.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = Place { file, text };
        let document = DeTable::parse(text).map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            place.mistake(&at, format!("not valid TOML: {}", error.message()))
        })?;
        let top = Fields { place, table: document.get_ref(), at: 0..0 };
        top.only(&[&TOP_KEYS])?;
        let health_interval = health_interval(&top)?;
        let mut sources: Vec<SourceConfig> = Vec::new();
        for table in top.tables("source")? {
            let source = source(&table)?;
            if let Some(first) = sources.iter().find(|known| known.id == source.id) {
                let (id, line) = (&source.id, first.line);
                let text =
                    format!("the source {id:?} is already on line {line}; rename one of them");
                return Err(place.mistake(&table.at_key("id"), text));
            }
            sources.push(source);
        }
        Ok(Self { file: file.to_owned(), health_interval, sources })
    }

    /// A mistake on `line` that was found later, when a source was opened.
    pub fn mistake(&self, line: usize, message: impl Into<String>) -> ConfigError {
        mistake(&self.file, Some(line), message)
    }
}

fn mistake(file: &Path, line: Option<usize>, message: impl Into<String>) -> ConfigError {
    ConfigError { file: file.to_owned(), line, message: message.into() }
}

fn read_bounded(file: &Path) -> Result<Vec<u8>, ConfigError> {
    let told = |error: std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "no such file; write it (an empty one is a proxy without sources) or name another \
                 with --config"
                    .to_owned()
            }
            std::io::ErrorKind::PermissionDenied => {
                "this account may not read it; give it permission".to_owned()
            }
            _ => format!("cannot be read: {error}"),
        };
        mistake(file, None, message)
    };
    let mut bytes = Vec::new();
    let mut reader = File::open(file).map_err(told)?.take(MAX_BYTES + 1);
    reader.read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(mistake(file, None, format!("longer than {MAX_BYTES} bytes; shorten it")));
    }
    Ok(bytes)
}

fn health_interval(top: &Fields<'_, '_>) -> Result<Duration, ConfigError> {
    let longest = limits::HEALTH_INTERVAL_MAX.as_secs();
    match top.number("health_interval")? {
        None => Ok(DEFAULT_HEALTH_INTERVAL),
        Some((seconds, _)) if (1..=longest).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some((_, at)) => {
            let text = format!("health_interval is in seconds, from 1 to {longest}");
            Err(top.place.mistake(&at, text))
        }
    }
}

fn source(table: &Fields<'_, '_>) -> Result<SourceConfig, ConfigError> {
    let (kind, at) = table.required("kind", "what it is, for now \"workspace\"")?;
    if kind != "workspace" {
        let text = format!("{kind:?} is no kind of source; there is \"workspace\"");
        return Err(table.place.mistake(&at, text));
    }
    table.only(&[&COMMON_KEYS, &WORKSPACE_KEYS])?;
    let (id, at) = table.required("id", "its name, such as \"notes\"")?;
    let id: SourceId = id.parse().map_err(|error| table.place.mistake(&at, format!("{error}")))?;
    let label = table.text("label")?;
    if let Some((_, at)) = label.filter(|(label, _)| label.len() > MAX_LABEL) {
        let text = format!("label is longer than {MAX_LABEL} bytes; shorten it");
        return Err(table.place.mistake(&at, text));
    }
    let (kind, at) = workspace(table)?;
    let label = table.text("label")?.map(|(label, _)| label.to_owned());
    Ok(SourceConfig { id, label, kind, line: table.place.line(&at) })
}

/// The folder, and where its path is written.
fn workspace(table: &Fields<'_, '_>) -> Result<(SourceKind, Range<usize>), ConfigError> {
    let (path, path_at) = table.required("path", "the folder, such as \"/srv/notes\"")?;
    let mode = match table.text("mode")? {
        None | Some(("read", _)) => Mode::Read,
        Some(("read-write", _)) => Mode::ReadWrite,
        Some((other, at)) => {
            let text = format!("{other:?} is no mode; there are \"read\" and \"read-write\"");
            return Err(table.place.mistake(&at, text));
        }
    };
    let mut config = WorkspaceConfig::new(path, mode);
    if let Some((bytes, _)) = table.number("max_read_bytes")? {
        config.max_read_bytes = bytes;
    }
    if let Some((bytes, _)) = table.number("max_write_bytes")? {
        config.max_write_bytes = bytes;
    }
    Ok((SourceKind::Workspace(config), path_at))
}

/// The file and its text: what a mistake's line is counted in.
#[derive(Clone, Copy)]
struct Place<'t> {
    file: &'t Path,
    text: &'t str,
}

impl Place<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.as_bytes().iter().take(at.start);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn mistake(&self, at: &Range<usize>, message: impl Into<String>) -> ConfigError {
        mistake(self.file, Some(self.line(at)), message)
    }
}

/// A table whose keys are read by name.
struct Fields<'t, 'i> {
    place: Place<'t>,
    table: &'t DeTable<'i>,
    at: Range<usize>,
}

impl<'t, 'i> Fields<'t, 'i> {
    /// Refuses every key that is in none of `known`.
    fn only(&self, known: &[&[&str]]) -> Result<(), ConfigError> {
        let unknown = self.table.keys().find(|key| {
            let name: &str = key.get_ref();
            !known.iter().any(|keys| keys.contains(&name))
        });
        let Some(key) = unknown else { return Ok(()) };
        let name: &str = key.get_ref();
        let text = match name {
            "workload" | "tenant" | "address" => format!(
                "a proxy does not know its name; it is bound to its key when it joins: remove {name:?}"
            ),
            _ => {
                let keys: Vec<_> = known.iter().flat_map(|keys| keys.iter().copied()).collect();
                format!("{name:?} is not known here; there are: {}", keys.join(", "))
            }
        };
        Err(self.place.mistake(&key.span(), text))
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// Where the value of `key` is; the table itself when it has none.
    fn at_key(&self, key: &str) -> Range<usize> {
        self.get(key).map_or_else(|| self.at.clone(), Spanned::span)
    }

    fn text(&self, key: &str) -> Result<Option<(&'t str, Range<usize>)>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.get_ref().as_str() {
            Some(text) => Ok(Some((text, value.span()))),
            None => Err(self.wrong_type(key, value, "text in quotes")),
        }
    }

    fn required(&self, key: &str, about: &str) -> Result<(&'t str, Range<usize>), ConfigError> {
        self.text(key)?.ok_or_else(|| {
            self.place.mistake(&self.at, format!("this source has no {key:?}; add it: {about}"))
        })
    }

    fn number(&self, key: &str) -> Result<Option<(u64, Range<usize>)>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = value.get_ref().as_integer();
        let number = number.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
        match number {
            Some(number) => Ok(Some((number, value.span()))),
            None => Err(self.wrong_type(key, value, "a whole number")),
        }
    }

    fn tables(&self, key: &str) -> Result<Vec<Fields<'t, 'i>>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let wrong = |value: &Spanned<DeValue<'_>>| {
            self.wrong_type(key, value, "a list; begin each one with [[source]]")
        };
        let Some(array) = value.get_ref().as_array() else { return Err(wrong(value)) };
        let tables = array.iter().map(|item| {
            let table = item.get_ref().as_table().ok_or_else(|| wrong(item))?;
            Ok(Fields { place: self.place, table, at: item.span() })
        });
        tables.collect()
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) -> ConfigError {
        let found = value.get_ref().type_str();
        self.place.mistake(&value.span(), format!("{key} is {found}; it must be {expected}"))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
