//! `plexus sources`: what of this machine can be shared.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use plexus_shared::ids::SourceId;
use plexus_shared::model::health::HealthStatus;
use plexus_shared::model::plain;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::{Client, read, segment};
use super::extensions;
use super::output::{Answer, Failure, Table, word};

/// `plexus sources …`
#[derive(Debug, Subcommand)]
pub(super) enum SourcesCommand {
    /// Add a source.
    Add(AddArgs),
    /// List the sources.
    #[command(after_help = "Example:\n  plexus sources list")]
    List,
    /// Start a source again that was disabled; the grants on its capabilities are good again.
    #[command(after_help = "Example:\n  plexus sources enable notes")]
    Enable {
        /// The source's id.
        id: SourceId,
    },
    /// Stop a source: its capabilities are gone until it is enabled, and the grants on them wait.
    #[command(after_help = "Example:\n  plexus sources disable notes")]
    Disable {
        /// The source's id.
        id: SourceId,
    },
    /// Remove a source, every capability that came with it, and every grant on them.
    #[command(after_help = "Example:\n  plexus sources remove notes")]
    Remove {
        /// The source's id.
        id: SourceId,
    },
}

/// `plexus sources add`
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  plexus sources add workspace --path ~/notes
  plexus sources add --manifest issues.json

`plexus extensions preview FILE` shows what a manifest would reach before you take it."
)]
pub(super) struct AddArgs {
    /// Take the extension of this manifest, as your own.
    #[arg(long, value_name = "FILE", required = true)]
    manifest: Option<PathBuf>,
    #[command(subcommand)]
    kind: Option<AddCommand>,
}

/// `plexus sources add …`
#[derive(Debug, Subcommand)]
pub(super) enum AddCommand {
    /// Share one folder: list and read its files, and write them if you say so.
    Workspace(WorkspaceArgs),
}

/// `plexus sources add workspace`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus sources add workspace --path ~/notes
  plexus sources add workspace --path . --id blog --mode read-write")]
pub(super) struct WorkspaceArgs {
    /// The folder.
    #[arg(long, value_name = "DIR")]
    path: PathBuf,
    /// The source's id, which begins the ids of its capabilities. By default the folder's name.
    #[arg(long)]
    id: Option<SourceId>,
    /// Your word for it, which agents read too.
    #[arg(long)]
    label: Option<String>,
    /// What agents may do in it, at most.
    #[arg(long, value_enum, default_value = "read")]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// List and read.
    Read,
    /// List, read and write.
    ReadWrite,
}

#[derive(Deserialize)]
struct SourceLine {
    id: String,
    kind: String,
    #[serde(default)]
    label: Option<String>,
    enabled: bool,
    #[serde(deserialize_with = "plain::member")]
    config: Value,
    status: HealthStatus,
    #[serde(default)]
    detail: Option<String>,
}

/// Runs `plexus sources …`.
pub(super) async fn run(command: SourcesCommand) -> Result<Answer, Failure> {
    match command {
        SourcesCommand::Add(args) => match (args.kind, args.manifest) {
            (Some(AddCommand::Workspace(args)), _) => add(args).await,
            (None, Some(manifest)) => extensions::install(&manifest).await,
            (None, None) => Err(Failure::usage("say what to add; see `plexus sources add --help`")),
        },
        SourcesCommand::List => list().await,
        SourcesCommand::Enable { id } => switch(&id, "enable", "sources.enable").await,
        SourcesCommand::Disable { id } => switch(&id, "disable", "sources.disable").await,
        SourcesCommand::Remove { id } => remove(&id).await,
    }
}

async fn add(args: WorkspaceArgs) -> Result<Answer, Failure> {
    let folder = args.path.canonicalize().map_err(|error| {
        Failure::usage(format!(
            "cannot use {}: {error}; name a folder that exists",
            args.path.display()
        ))
    })?;
    let id = match args.id {
        Some(id) => id,
        None => slug(&folder).ok_or_else(|| {
            Failure::usage(format!("{} gives no id; choose one with --id", folder.display()))
        })?,
    };
    // JSON can not carry another encoding.
    let path = folder.to_str().ok_or_else(|| {
        Failure::usage(format!("{} is not named in UTF-8; rename it", folder.display()))
    })?;
    let config = json!({"path": path, "mode": args.mode});
    let body = json!({"id": id, "kind": "workspace", "label": args.label, "config": config});
    let mut data: Value = Client::find()?.post("sources", &body).await?;
    let registered: Vec<String> = read(&data["registered"])?;
    data["path"] = json!(path);
    let next = "agents can ask for these now; `plexus agents connect NAME --allow ID` grants ahead";
    Ok(Answer::new("sources.add", data)
        .line(format!("added {id}: {path} ({})", word(args.mode)))
        .lines(registered.iter().map(|id| format!("  {id}")))
        .line(next))
}

/// The id a folder's name suggests: its letters and digits in lower case, joined by `-`.
fn slug(folder: &Path) -> Option<SourceId> {
    let name = folder.file_name()?.to_string_lossy().to_ascii_lowercase();
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug: String = words.collect::<Vec<_>>().join("-").chars().take(63).collect();
    slug.trim_end_matches('-').parse().ok()
}

async fn list() -> Result<Answer, Failure> {
    let (sources, data) = Client::find()?.list::<SourceLine>("sources", "sources").await?;
    let mut table = Table::new(["SOURCE", "KIND", "STATE", "MODE", "WHERE", "LABEL"]);
    for source in sources {
        let config = |name: &str| source.config[name].as_str().unwrap_or("-").to_owned();
        let state = if source.enabled { word(source.status) } else { "disabled".to_owned() };
        let label = source.label.unwrap_or_default();
        table.row([source.id, source.kind, state, config("mode"), config("path"), label]);
        if let Some(detail) = source.detail {
            table.remark(detail);
        }
    }
    let none = "no sources; add one with `plexus sources add workspace --path DIR`";
    Ok(Answer::new("sources.list", data).table(table, none))
}

async fn remove(id: &SourceId) -> Result<Answer, Failure> {
    let path = format!("sources/{}", segment(id.as_str()));
    let data: Value = Client::find()?.delete(&path).await?;
    Ok(Answer::new("sources.remove", data).line(format!("removed {id} and its capabilities")))
}

async fn switch(id: &SourceId, word: &str, schema: &'static str) -> Result<Answer, Failure> {
    let path = format!("sources/{}/{word}", segment(id.as_str()));
    let data = Client::find()?.post(&path, &json!({})).await?;
    let registered: Vec<String> = read(&data["registered"])?;
    let lines = registered.into_iter().map(|id| format!("  {id}"));
    Ok(Answer::new(schema, data).line(format!("{word}d {id}")).lines(lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_becomes_an_id() {
        let slugged = |path: &str| slug(Path::new(path)).map(|id| id.to_string());
        assert_eq!(slugged("/home/me/Notes").as_deref(), Some("notes"));
        assert_eq!(slugged("/x/My Blog (2026)").as_deref(), Some("my-blog-2026"));
        assert_eq!(slugged("/x/.config").as_deref(), Some("config"));
        let long = slugged(&format!("/x/{} b", "a".repeat(62))).unwrap_or_default();
        assert_eq!(long.len(), 62);
        for none in ["/", "/x/日本", "/x/---"] {
            assert_eq!(slugged(none), None, "{none}");
        }
    }
}
