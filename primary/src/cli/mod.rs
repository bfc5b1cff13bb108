//! The owner's command line: `serve`, and a client of the owner's plane.

mod client;
mod demo;
mod serve;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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

/// Plexus: your machine's capabilities for AI agents, one grant at a time.
#[derive(Debug, Parser)]
#[command(name = "plexus", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    Serve(ServeArgs),
    /// See all of it work, once, in throwaway state on this machine.
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
struct DemoArgs {
    /// Share this folder (read only) instead of a small sample.
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
    /// Leave it running at the end, and say how to connect.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// The port on 127.0.0.1 for agents and for you; 0 picks a free one.
    #[arg(long, default_value_t = crate::config::DEFAULT_PORT)]
    port: u16,
    /// Where proxies dial in (UDP). Loopback unless you open it, e.g. 0.0.0.0:7078.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7078")]
    mesh_listen: SocketAddr,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("the runtime could not start: {error}"));
            return Exit::Failed.into();
        }
    };
    runtime.block_on(run(cli)).into()
}

async fn run(cli: Cli) -> Exit {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Demo(args) => demo::run(args).await,
    }
}

/// Tells the owner what went wrong.
#[allow(clippy::print_stderr, reason = "the command line speaks to a person")]
fn complain(why: &str) {
    eprintln!("plexus: {why}");
}
