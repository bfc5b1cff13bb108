//! `plexus serve`: the gateway in the foreground.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::{Exit, ServeArgs, complain};
use crate::app::{App, StartError};
use crate::config::{Config, home};

/// Runs the gateway until it is told to stop.
pub(super) async fn run(args: ServeArgs) -> Exit {
    log_to_stderr();
    let Some(home) = home() else {
        complain("there is no home folder; set PLEXUS_HOME to the folder for Plexus' state");
        return Exit::Usage;
    };
    let config = Config { home, port: args.port, mesh_listen: args.mesh_listen };
    match serve(&config).await {
        Ok(()) => Exit::Ok,
        Err(error) => {
            complain(&error.to_string());
            match error {
                StartError::Damaged { .. } | StartError::Audit(_) => Exit::Integrity,
                _ => Exit::Failed,
            }
        }
    }
}

async fn serve(config: &Config) -> Result<(), StartError> {
    // Before anything is announced, so that a stop sent at once is heard.
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Runtime)?;
    let app = App::start(config).await?;
    app.announce()?;
    say_ready(&app.base_url);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(app.run(stopped));
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    stop.send_replace(true);
    if serving.await.is_err() {
        tracing::error!("serving ended in a panic");
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the one line other programs wait for")]
fn say_ready(base_url: &str) {
    println!("plexus ready {base_url}");
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
