//! The command line of a proxy.
//!
//! Exit codes: 0 done; 1 this machine (a file, a socket); 2 usage or configuration; 4 the primary
//! refused; 5 the primary was not reached; 6 something is not what it must be (a damaged file, another
//! node in the primary's place).

mod check;
mod exit;
mod join;
mod output;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::app::Places;
use crate::{config, state};
use exit::Failure;
use output::Output;

/// Bears capabilities beside a service and connects them to your Plexus.
///
/// A proxy dials one tunnel to the primary it joined; it listens on no port and decides no grant.
#[derive(Debug, Parser)]
#[command(name = "plexus-proxy", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 this machine, 2 usage or configuration, \
    4 refused by the primary, 5 the primary was not reached, 6 something is damaged or not the \
    primary")]
struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a primary with a ticket from `plexus mesh invite`.
    ///
    /// Doing it again with the same ticket does no harm.
    Join(JoinArgs),
    /// Run in the foreground until SIGTERM or SIGINT.
    ///
    /// Logs go to standard error; RUST_LOG chooses how much.
    Run(RunArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and show what would be mounted.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct JoinArgs {
    /// A file that holds the ticket; `-` reads it from standard input.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "ticket",
        conflicts_with = "ticket"
    )]
    ticket_file: Option<PathBuf>,
    /// The ticket itself. Other users of this machine can see it; better use --ticket-file.
    ticket: Option<String>,
    /// A configuration to check before joining.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the node's key and state are kept.
    #[arg(long, value_name = "FOLDER", default_value = state::DEFAULT_DIR)]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Where the node's key and state are kept.
    #[arg(long, value_name = "FOLDER", default_value = state::DEFAULT_DIR)]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let done = match cli.command {
        Command::Join(args) => {
            log("warn");
            join::join(&output, args)
        }
        Command::Run(RunArgs { config, state }) => {
            log("info");
            run::run(&output, &Places { config, state })
        }
        Command::Config(ConfigCommand::Check(CheckArgs { config })) => {
            check::check(&output, &config)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

/// Logs to standard error; `RUST_LOG` chooses how much.
fn log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // Fails only when there is a log already.
    let _ = subscriber.try_init();
}

/// Runs `work` on a fresh runtime. Threads that wait for a disk that does not answer are left behind.
fn block_on<F: Future>(work: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::machine(format!("no runtime: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_join_takes_its_ticket_from_exactly_one_place() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["plexus-proxy", "join"], args].concat());
        assert!(parse(&["--ticket-file", "-"]).is_ok());
        assert!(parse(&["plxj_x"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["plxj_x", "--ticket-file", "-"]).is_err());
    }
}
