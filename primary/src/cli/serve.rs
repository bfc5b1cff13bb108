//! `plexus serve`: the gateway in the foreground.

use std::io::IsTerminal;

use serde_json::json;
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use super::client::ClientError;
use super::output::{Answer, Failure, Format, Layout, complain, say, say_json};
use super::stop::Stop;
use super::{Exit, ServeArgs};
use crate::app::{App, StartError};
use crate::config::{Config, home};
use crate::store::StoreError;

/// Runs the gateway until it is told to stop.
pub(super) async fn run(args: ServeArgs, format: Format) -> Result<Answer, Failure> {
    log_to_stderr();
    let home = home().ok_or(ClientError::NoHome)?;
    let config = Config { home, port: args.port, mesh_listen: args.mesh_listen };
    match serve(&config, format).await {
        Ok(()) => Ok(Answer::said()),
        Err(
            error @ (StartError::Damaged { .. }
            | StartError::Settings(_)
            | StartError::Tls(_)
            | StartError::Audit(_)
            | StartError::Store(StoreError::Damaged(_))),
        ) => Err(Failure::new(Exit::Integrity, "integrity", error)),
        Err(error) => Err(Failure::new(Exit::Failed, "failed", error)),
    }
}

async fn serve(config: &Config, format: Format) -> Result<(), StartError> {
    // Before anything is announced, so that a stop sent at once is heard.
    let mut told = Stop::listen().map_err(StartError::Runtime)?;
    let app = App::start(config).await?;
    app.announce()?;
    app.warnings.iter().for_each(|warning| complain(warning));
    say_ready(&app.base_url, format);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(app.run(stopped));
    // Waited for here: what a log line is given is looked at only when the line is wanted.
    let why = told.told().await;
    tracing::info!(?why, "stopping");
    stop.send_replace(true);
    if serving.await.is_err() {
        tracing::error!("serving ended in a panic");
    }
    Ok(())
}

/// The one line other programs wait for.
fn say_ready(base_url: &str, format: Format) {
    let said = match format {
        Format::Text => say(&format!("plexus ready {base_url}")),
        Format::Json => say_json("serve", &json!({ "baseUrl": base_url }), Layout::Line),
    };
    if let Err(error) = said {
        tracing::warn!(%error, "no one reads that the gateway is ready");
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
