//! A whole gateway within the test, on sockets of its own, by a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use plexus::app::{App, Seams};
use plexus::config::Config;
use plexus::trust::authorizer::Authorizer;
use plexus_shared::clock::{ManualClock, Timestamp};
use plexus_tests::{Gateway, PATIENCE, Stage};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A gateway of this process.
pub(crate) struct Inside {
    pub(crate) stage: Stage,
    pub(crate) gateway: Gateway,
    clock: Arc<ManualClock>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Inside {
    /// A gateway that shares the stage's notes; it is 2026-06-23, ten in the morning.
    pub(crate) async fn shared() -> Self {
        Self::decided_by(None).await
    }

    /// The same, where `authorizer` decides.
    pub(crate) async fn decided_by(authorizer: Option<Arc<dyn Authorizer>>) -> Self {
        let stage = Stage::new();
        let clock = ManualClock::at(Timestamp::from_millis(1_782_208_800_000));
        let mesh_listen = "127.0.0.1:0".parse().unwrap();
        let config = Config { port: 0, mesh_listen, ..Config::new(stage.path("home")) };
        let seams = Seams { clock: clock.clone(), authorizer };
        let app = App::start_with(seams, &config).await.unwrap();
        let key = std::fs::read_to_string(stage.path("home/connection-key")).unwrap();
        let gateway = Gateway { url: app.base_url.clone(), key: key.trim().to_owned() };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(app.run(stopped));
        gateway.share(&stage).await;
        Self { stage, gateway, clock, stop, running }
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Stops it, and waits until it has.
    pub(crate) async fn stop(self) -> Stage {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
        self.stage
    }
}
