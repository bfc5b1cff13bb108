//! The owner's command line: `serve`, and a client of the owner's plane.
//!
//! 1. The arguments say what is wanted; a wrong one ends here, with the way to write it.
//! 2. One command runs. It asks the running gateway, which is found through the state folder, and
//!    comes to an [`Answer`](output::Answer) or a [`Failure`](output::Failure).
//! 3. Either is delivered: lines for a person or one JSON document, and an [`Exit`] for the shell.

mod agents;
mod allow;
mod answer;
mod audit;
mod client;
mod demo;
mod doctor;
mod exposure;
mod extensions;
mod grants;
mod item;
mod mesh;
mod output;
mod pending;
mod prompt;
mod secrets;
mod serve;
mod settings;
mod shell;
mod sources;
mod status;
mod stop;
mod units;
mod watch;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use output::{Answer, Failure, Format, complain_usage, deliver};

/// What a command ends with. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something failed that no other number tells.
    Failed = 1,
    /// The command was used wrongly.
    Usage = 2,
    /// The owner must answer first.
    Pending = 3,
    /// Refused.
    Denied = 4,
    /// There is no gateway to talk to.
    Unreachable = 5,
    /// A log or a file is not what it was.
    Integrity = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

const AFTER_HELP: &str = "\
State is kept in $PLEXUS_HOME, or ~/.plexus. Every command but `serve`, `demo`, `doctor`, `audit verify`, \
`completions` and `man` talks to the gateway that runs there.

Examples:
  plexus serve
  plexus sources add workspace --path ~/notes
  plexus agents connect claude --allow notes.file.read
  plexus pending --watch

Exit codes: 0 done, 1 failed, 2 used wrongly, 3 waits for the owner, 4 denied, 5 no gateway to talk \
to, 6 a log or file is not what it was.";

/// Plexus: your machine's capabilities for AI agents, one grant at a time.
#[derive(Debug, Parser)]
#[command(name = "plexus", version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    /// Print one JSON document, with its "schema", instead of lines for a person.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    Serve(ServeArgs),
    /// See all of it work, once, in throwaway state on this machine.
    Demo(DemoArgs),
    /// Show how the gateway is, on one screen.
    #[command(after_help = "Examples:\n  plexus status\n  plexus status --json | jq .pending")]
    Status,
    /// Connect agents, list them, renew or take back what they have.
    #[command(subcommand, after_help = "Example:\n  plexus agents connect claude")]
    Agents(agents::AgentsCommand),
    /// Show, give and take back what agents may do now.
    #[command(subcommand, after_help = "Example:\n  plexus grants list")]
    Grants(grants::GrantsCommand),
    /// List the live tokens: whose, for what, until when; never the tokens themselves.
    #[command(after_help = "\
Example:
  plexus tokens

`plexus grants revoke --token TOKEN` ends one.")]
    Tokens,
    /// List named groups of grants, and take them back as one.
    #[command(subcommand, after_help = "Example:\n  plexus bundles list")]
    Bundles(grants::BundlesCommand),
    /// List what waits for your answer: what is asked, why, and what a yes gives.
    Pending(pending::PendingArgs),
    /// Say yes to something that waits.
    Approve(answer::ApproveArgs),
    /// Say no to something that waits.
    Deny(answer::DenyArgs),
    /// List every capability, whether agents can see it, and the rules that say so.
    #[command(after_help = "Example:\n  plexus exposure")]
    Exposure,
    /// Let agents see capabilities. Seeing is not using: a grant is still needed.
    Expose(exposure::PatternArgs),
    /// Hide capabilities from every agent, at once.
    Hide(exposure::PatternArgs),
    /// Share what is on this machine.
    #[command(subcommand, after_help = "Example:\n  plexus sources add workspace --path ~/notes")]
    Sources(sources::SourcesCommand),
    /// See what sources bring that a manifest describes, and remove them.
    #[command(subcommand, after_help = "Example:\n  plexus extensions preview issues.json")]
    Extensions(extensions::ExtensionsCommand),
    /// Keep what sources are handed at a call: tokens, passwords.
    #[command(subcommand, after_help = "Example:\n  plexus secret put github-token")]
    Secret(secrets::SecretCommand),
    /// Share what is on other machines.
    #[command(subcommand, after_help = "Example:\n  plexus mesh invite nas")]
    Mesh(mesh::MeshCommand),
    /// Check that everything is as it should be; works without a gateway too.
    #[command(after_help = "Example:\n  plexus doctor")]
    Doctor,
    /// Show or change how long things live, who is asked, and how much agents may ask for.
    Settings(settings::SettingsArgs),
    /// Show or change where the gateway can be reached beside loopback.
    Network(settings::NetworkArgs),
    /// Renew your own key.
    #[command(subcommand, after_help = "Example:\n  plexus key rotate")]
    Key(settings::KeyCommand),
    /// Stop every agent at once: no call, no token, until `plexus resume`.
    #[command(after_help = "Example:\n  plexus panic")]
    Panic,
    /// Let agents in again after `plexus panic`. They handshake anew.
    #[command(after_help = "Example:\n  plexus resume")]
    Resume,
    /// Read and check the record of everything that happened.
    #[command(subcommand, after_help = "Example:\n  plexus audit tail --follow")]
    Audit(audit::AuditCommand),
    /// Print what lets a shell complete these commands.
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    Man(shell::ManArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  plexus demo\n  plexus demo --folder ~/notes --keep")]
struct DemoArgs {
    /// Share this folder (read only) instead of a small sample.
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
    /// Leave it running at the end, and say how to connect.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  plexus serve
  plexus serve --port 7177 --mesh-listen 0.0.0.0:7078")]
struct ServeArgs {
    /// The port on 127.0.0.1 for agents and for you; 0 picks a free one.
    #[arg(long, default_value_t = crate::config::DEFAULT_PORT)]
    port: u16,
    /// Where proxies dial in (UDP). Loopback unless you open it, e.g. 0.0.0.0:7078.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7078")]
    mesh_listen: SocketAddr,
}

/// How long what was begun may take to end once a command is done.
const LEAVE: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error).into(),
    };
    let format = if cli.json { Format::Json } else { Format::Text };
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli.command, format));
            // Threads that wait for a disk that does not answer are left behind.
            runtime.shutdown_timeout(LEAVE);
            result
        }
        Err(error) => {
            Err(Failure::new(Exit::Failed, "failed", format!("the runtime can't start: {error}")))
        }
    };
    deliver(format, result).into()
}

async fn run(command: Command, format: Format) -> Result<Answer, Failure> {
    match command {
        Command::Serve(args) => serve::run(args, format).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Status => status::show().await,
        Command::Agents(command) => agents::run(command).await,
        Command::Grants(command) => grants::run(command).await,
        Command::Tokens => grants::tokens().await,
        Command::Bundles(command) => grants::bundles(command).await,
        Command::Pending(args) if args.watch => watch::pending(format).await,
        Command::Pending(args) => pending::list(args).await,
        Command::Approve(args) => answer::approve(args).await,
        Command::Deny(args) => answer::deny(args).await,
        Command::Exposure => exposure::list().await,
        Command::Expose(args) => exposure::set(args, exposure::Word::Expose).await,
        Command::Hide(args) => exposure::set(args, exposure::Word::Hide).await,
        Command::Sources(command) => sources::run(command).await,
        Command::Extensions(command) => extensions::run(command).await,
        Command::Secret(command) => secrets::run(command).await,
        Command::Mesh(command) => mesh::run(command).await,
        Command::Doctor => doctor::run().await,
        Command::Settings(args) => settings::run(args).await,
        Command::Network(args) => settings::network(args).await,
        Command::Key(command) => settings::key(command).await,
        Command::Panic => settings::panic().await,
        Command::Resume => settings::resume().await,
        Command::Audit(command) => audit::run(command, format).await,
        Command::Completions(args) => Ok(shell::completions(&args, Cli::command())),
        Command::Man(args) => shell::man(&args, Cli::command()),
    }
}

/// Explains arguments that are none, or prints the help that was asked for.
fn explain(error: &clap::Error) -> Exit {
    // The arguments were not understood, so the flag is looked for by hand.
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    let is_bare = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match (error.use_stderr(), wants_json) {
        (true, true) => {
            deliver(Format::Json, Err(Failure::usage(format!("{}; see --help", gist(text)))))
        }
        (true, false) if !is_bare => {
            complain_usage(text);
            Exit::Usage
        }
        (fails, _) => {
            // A reader that went away has read enough.
            let _ = error.print();
            if fails { Exit::Usage } else { Exit::Ok }
        }
    }
}

/// What an explanation begins with, on one line: what is wrong, and with which arguments.
fn gist(text: &str) -> String {
    let said = text.lines().take_while(|line| !line.is_empty());
    said.map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// `command` and every command below it, by its words.
    fn every(command: &clap::Command, words: &str) -> Vec<(String, clap::Command)> {
        let words = format!("{words} {}", command.get_name()).trim_start().to_owned();
        let below = command.get_subcommands().flat_map(|below| every(below, &words));
        below.chain([(words.clone(), command.clone())]).collect()
    }

    /// The lines of `help` that are examples of `plexus`, each up to where the shell takes over.
    fn examples(help: &str) -> Vec<String> {
        let lines = help.lines().filter(|line| line.starts_with("  plexus "));
        let own = |line: &str| line.split(['|', '<', '>']).next().unwrap_or_default().to_owned();
        lines.map(own).collect()
    }

    /// The words a shell makes of `line`; quotation marks are single ones here.
    fn split(line: &str) -> Vec<String> {
        let quoted = line.split('\'').enumerate().flat_map(|(n, part)| match n % 2 {
            0 => part.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>(),
            _ => vec![part.to_owned()],
        });
        quoted.collect()
    }

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_has_an_example_that_can_be_typed() {
        let all = every(&Cli::command(), "");
        assert!(all.len() > 50, "{}", all.len());
        for (words, command) in all {
            assert!(command.get_about().is_some(), "{words} has no about text");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let own = examples(&help);
            let its = own.iter().any(|line| line.trim_start().starts_with(&words));
            assert!(its, "{words} has no example of its own");
            for line in own {
                if let Err(error) = Cli::try_parse_from(split(&line)) {
                    let missing_file = line.contains('@');
                    assert!(missing_file, "{words}: {line}: {error}");
                }
            }
        }
    }

    #[test]
    fn json_may_stand_anywhere() {
        for args in [["plexus", "--json", "status"], ["plexus", "status", "--json"]] {
            assert!(Cli::try_parse_from(args).is_ok_and(|cli| cli.json));
        }
    }
}
