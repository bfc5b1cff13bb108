//! `plexus extensions`: sources that a manifest describes, seen before they are taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::SourceId;
use plexus_shared::model::health::HealthStatus;
use plexus_shared::model::trust::Provenance;
use plexus_shared::model::verb::VerbSet;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::allow::read_file;
use super::client::{Client, read, segment};
use super::output::{Answer, Failure, Problem, Table, visible, word};
use super::units::{now, relative};

/// The longest manifest, in bytes; the gateway takes no longer one.
const MAX_MANIFEST: u64 = 1 << 20;

/// `plexus extensions …`
#[derive(Debug, Subcommand)]
pub(super) enum ExtensionsCommand {
    /// List the extensions, and what each reaches.
    #[command(after_help = "Example:\n  plexus extensions list")]
    List,
    /// Show what a manifest would bring and reach; nothing is changed.
    #[command(after_help = "\
Example:
  plexus extensions preview issues.json

Take it with `plexus sources add --manifest issues.json`.")]
    Preview {
        /// The manifest.
        #[arg(value_name = "FILE")]
        manifest: PathBuf,
    },
    /// Remove an extension, every capability that came with it, and every grant on them.
    #[command(after_help = "Example:\n  plexus extensions remove issues")]
    Remove {
        /// Its source's id.
        source: SourceId,
    },
}

/// What a manifest reaches, kind by kind, by whatever name the gateway has for a kind.
type Reach = BTreeMap<String, Vec<String>>;

/// What a manifest brings and reaches.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Brought {
    source: String,
    #[serde(default)]
    label: String,
    #[serde(default)]
    reach: Reach,
    #[serde(default)]
    entries: Vec<BroughtEntry>,
    #[serde(default)]
    replaces: Option<String>,
    #[serde(default)]
    widens: bool,
    #[serde(default)]
    problems: Vec<Problem>,
    #[serde(default)]
    manifest_digest: Option<String>,
}

#[derive(Deserialize)]
struct BroughtEntry {
    id: String,
    kind: String,
    label: String,
    grants: VerbSet,
    transport: String,
}

impl Brought {
    /// Its source's id.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// What it is called, what it reaches and what it brings.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} “{}”", self.source, visible(&self.label))];
        lines.extend(self.replaces.as_ref().map(|_| match self.widens {
            true => {
                "  takes the place of the one that is there, and reaches MORE than it".to_owned()
            }
            false => {
                "  takes the place of the one that is there, and reaches nothing new".to_owned()
            }
        }));
        lines.extend(reached(&self.reach));
        lines.extend(self.entries.iter().map(|entry| {
            let BroughtEntry { id, kind, label, grants, transport } = entry;
            format!("  {kind:<12} {id} [{grants}] over {transport}: {}", visible(label))
        }));
        lines.extend(self.problems.iter().map(|problem| format!("  can't be used yet: {problem}")));
        lines.extend(self.manifest_digest.as_ref().map(|digest| {
            format!("  `plexus pending --json` has the whole manifest (SHA-256 {digest})")
        }));
        lines
    }
}

/// What a manifest reaches, for people: each on a line, so that none can pass for two.
fn reached(reach: &Reach) -> Vec<String> {
    let lines = reach.iter().flat_map(|(kind, names)| {
        names.iter().enumerate().map(move |(n, name)| {
            let kind = if n == 0 { kind } else { "" };
            format!("  {kind:<12} {}", visible(name))
        })
    });
    let lines: Vec<_> = lines.collect();
    match lines.is_empty() {
        true => vec!["  reaches nothing beyond itself".to_owned()],
        false => lines,
    }
}

/// A manifest, sent as it is written.
#[derive(Serialize)]
struct Manifest {
    manifest: Box<RawValue>,
}

impl Manifest {
    fn read(path: &Path) -> Result<Self, Failure> {
        let text = read_file(path, MAX_MANIFEST).map_err(Failure::usage)?;
        let manifest = serde_json::from_str(&text)
            .map_err(|error| Failure::usage(format!("{} is no JSON: {error}", path.display())))?;
        Ok(Self { manifest })
    }
}

/// Runs `plexus extensions …`.
pub(super) async fn run(command: ExtensionsCommand) -> Result<Answer, Failure> {
    match command {
        ExtensionsCommand::List => list().await,
        ExtensionsCommand::Preview { manifest } => preview(&manifest).await,
        ExtensionsCommand::Remove { source } => {
            let path = format!("extensions/{}", segment(source.as_str()));
            let data: Value = Client::find()?.delete(&path).await?;
            let line = format!("removed {source}, its capabilities and the grants on them");
            Ok(Answer::new("extensions.remove", data).line(line))
        }
    }
}

async fn preview(path: &Path) -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("extensions/preview", &Manifest::read(path)?).await?;
    let brought: Brought = read(&data["preview"])?;
    let next = format!("take it with `plexus sources add --manifest {}`", path.display());
    Ok(Answer::new("extensions.preview", data).lines(brought.lines()).line(next))
}

/// Takes the extension of the manifest at `path`: `plexus sources add --manifest`.
pub(super) async fn install(path: &Path) -> Result<Answer, Failure> {
    let data: Value = Client::find()?.post("extensions", &Manifest::read(path)?).await?;
    let registered: Vec<String> = read(&data["registered"])?;
    let reach: Reach = read(&data["reach"])?;
    let source = data["source"].as_str().unwrap_or_default().to_owned();
    Ok(Answer::new("sources.add", data)
        .line(format!("added {source}"))
        .lines(reached(&reach))
        .lines(registered.into_iter().map(|id| format!("  {id}")))
        .line("agents can ask for these now; `plexus agents connect NAME --allow ID` grants ahead"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtensionLine {
    source: String,
    label: String,
    provenance: Provenance,
    installed_at: Timestamp,
    status: HealthStatus,
    #[serde(default)]
    detail: Option<String>,
    reach: Reach,
    registered: Vec<String>,
}

async fn list() -> Result<Answer, Failure> {
    let (extensions, data) =
        Client::find()?.list::<ExtensionLine>("extensions", "extensions").await?;
    let now = now();
    let mut table = Table::new(["SOURCE", "STATE", "CLASS", "ADDED", "CAPABILITIES", "LABEL"]);
    for extension in extensions {
        table.row([
            extension.source,
            word(extension.status),
            word(extension.provenance),
            relative(extension.installed_at, now),
            extension.registered.len().to_string(),
            extension.label,
        ]);
        extension.detail.into_iter().for_each(|detail| table.remark(detail));
        reached(&extension.reach).into_iter().for_each(|line| table.remark(line));
    }
    let none = "no extensions; add one with `plexus sources add --manifest FILE`";
    Ok(Answer::new("extensions.list", data).table(table, none))
}
