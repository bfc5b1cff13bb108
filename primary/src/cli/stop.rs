//! Being told to stop: from the terminal, by a signal, or because the terminal has gone.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;
use super::output::{Answer, Failure};

/// Hears every word to stop from its making on, whether or not someone waits for it then.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Ctrl-C.
    Interrupted,
    /// A supervisor, or `kill`.
    Terminated,
    /// The terminal has gone.
    HungUp,
}

impl Stop {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system gives no place to listen at.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Does `work` to its end, or until it is told: who stops it has been told enough.
    pub(super) async fn or(
        work: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let mut stop = Self::listen().map_err(|error| {
            Failure::new(Exit::Failed, "failed", format!("Ctrl-C can't be heard: {error}"))
        })?;
        tokio::select! {
            _ = stop.told() => Ok(Answer::said()),
            ended = work => ended,
        }
    }

    /// Waits until it is told.
    pub(super) async fn told(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Interrupted,
            _ = self.terminate.recv() => Told::Terminated,
            _ = self.hangup.recv() => Told::HungUp,
        }
    }
}
