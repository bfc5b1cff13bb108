//! `plexus completions`, `plexus man`: this command line, told to shells and to readers.

use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use serde_json::json;

use super::Exit;
use super::output::{Answer, Failure, count};

/// `plexus completions`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus completions bash > ~/.local/share/bash-completion/completions/plexus
  plexus completions zsh > ~/.zfunc/_plexus
  plexus completions fish > ~/.config/fish/completions/plexus.fish")]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// `plexus man`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus man | man -l -
  plexus man --out ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder, instead of printing the first.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `plexus completions`.
pub(super) fn completions(args: &CompletionsArgs, mut cli: Command) -> Answer {
    let mut script = Vec::new();
    let name = cli.get_name().to_owned();
    clap_complete::generate(args.shell, &mut cli, name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let data = json!({"shell": args.shell.to_string(), "script": script});
    Answer::new("completions", data).script(script)
}

/// Runs `plexus man`.
pub(super) fn man(args: &ManArgs, cli: Command) -> Result<Answer, Failure> {
    let failed = |error| {
        let what = args.out.as_deref().unwrap_or(Path::new("the page")).display();
        Failure::new(Exit::Failed, "failed", format!("{what} can't be written: {error}"))
    };
    let Some(folder) = &args.out else {
        let mut page = Vec::new();
        Man::new(cli).render(&mut page).map_err(failed)?;
        let page = String::from_utf8_lossy(&page).into_owned();
        return Ok(Answer::new("man", json!({ "page": page })).script(page));
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut cli = cli.disable_help_subcommand(true);
    cli.build();
    let mut files = Vec::new();
    pages(&cli, folder, &mut files).map_err(failed)?;
    let said = format!("{} in {}", count(files.len(), "page", "pages"), folder.display());
    Ok(Answer::new("man", json!({ "files": files })).line(said))
}

/// Writes the page of `command`, and those of the commands below it.
fn pages(command: &Command, folder: &Path, files: &mut Vec<String>) -> std::io::Result<()> {
    let page = Man::new(command.clone());
    let path = page.generate_to(folder)?;
    files.push(path.display().to_string());
    command.get_subcommands().try_for_each(|below| pages(below, folder, files))
}
