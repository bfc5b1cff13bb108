//! `plexus-proxy run`.

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::block_on;
use super::exit::Failure;
use super::output::Output;
use crate::app::{App, Places};

pub(super) fn run(output: &Output, places: &Places) -> Result<(), Failure> {
    block_on(async {
        let app = App::open(places)?;
        let failed = |error| Failure::machine(format!("signals cannot be heard: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        output.result("plexus-proxy ready", &json!({"ok": true, "event": "ready"}));
        let listen = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            stop.send_replace(true);
        };
        tokio::join!(app.run(stopped), listen);
        Ok(())
    })?
}
