//! Putting a proxy together, and running it.
//!
//! 1. The configuration is read, the state folder taken, the sources opened, the audit log continued.
//! 2. The primary is dialed, and a tunnel run over the connection, for as long as the process lives;
//!    between two attempts the schedule says how long to wait.
//! 3. When told to stop, the tunnel says goodbye, calls finish, and the log is on disk before the
//!    process ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::close::CloseCode;
use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::admit::{Binding, Liveness};
use plexus_shared::audit::{AuditLog, AuditOpenError, DEFAULT_KEEP_DAYS, Tier};
use plexus_shared::clock::{Clock, SystemClock, Timestamp};
use plexus_shared::invoke::Pipeline;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::exposure::ExposureRules;
use plexus_shared::secret;
use plexus_shared::source::registry::Registry;
use tokio::sync::watch;

use crate::audit_mirror::Mirrored;
use crate::catalog::Sources;
use crate::config::{Config, ConfigError};
use crate::control::Cause;
use crate::dial::{Dialer, DialerError};
use crate::health::Monitor;
use crate::link::{self, Ended, Node};
use crate::reconnect::{self, Schedule};
use crate::serve::Service;
use crate::state::{State, StateError};

/// Where a proxy's configuration and state are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The configuration.
    pub config: PathBuf,
    /// The state folder.
    pub state: PathBuf,
}

/// Why a proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration, or a source in it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] AuditOpenError),
    /// There is no way to dial.
    #[error(transparent)]
    Dialer(#[from] DialerError),
}

/// No agent speaks to a proxy: whatever token turned up here would be refused.
#[derive(Debug)]
struct NoAgents;

impl NoAgents {
    fn refuse() -> Denial {
        Denial::new(Code::TokenRevoked, "no agent's token is accepted by a proxy")
    }
}

impl Liveness for NoAgents {
    fn check(&self, _: &VerifiedToken, _: Timestamp) -> Result<(), Denial> {
        Err(Self::refuse())
    }

    fn binding(&self, _: &VerifiedToken, _: &str) -> Option<Binding> {
        None
    }

    fn claim(&self, _: &VerifiedToken, _: &str) -> Result<(), Denial> {
        Err(Self::refuse())
    }
}

/// A proxy that is put together and not yet dialing.
pub struct App {
    node: Node,
    dialer: Dialer,
    // Dropped after everything that uses the folder.
    _monitor: Monitor,
    _state: State,
}

impl App {
    /// Puts a proxy together from what is at `places`. Needs a running tokio.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn open(places: &Places) -> Result<Self, RunError> {
        let config = Config::load(&places.config)?;
        let sources = Sources::open(&config, &places.state)?;
        let state = State::open(&places.state)?;
        let joined = state.joined()?;
        let key = Arc::new(state.node_key()?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let audit_dir = state.audit_dir()?;
        let dir = audit_dir.path().to_owned();
        let log = Arc::new(AuditLog::open(audit_dir, clock.clone(), Tier::Proxy)?);
        log.begin(Arc::clone(&key), DEFAULT_KEEP_DAYS);

        // No rules yet: what is configured is offered, and the primary's owner decides what is shown.
        let registry = Arc::new(Registry::new(0, ExposureRules::default()));
        for refused in sources.register(&registry) {
            tracing::error!(id = refused.id, reason = refused.reason, "an entry is not offered");
        }
        let pipeline =
            Pipeline::new(registry.clone(), Arc::new(NoAgents), log.clone(), clock.clone());
        let monitor = Monitor::start(&sources, &clock);
        let node = Node {
            registry,
            service: Service::new(Arc::new(pipeline), clock),
            audit: Mirrored { log, dir },
            health: monitor.watched(),
            health_interval: config.health_interval,
        };
        let dialer = Dialer::new(&key, joined.primary_key, joined.addresses)?;
        Ok(Self { node, dialer, _monitor: monitor, _state: state })
    }

    /// Has a tunnel whenever one can be had, until `stop` turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut schedule = Schedule::default();
        while let Some(how) = self.attempt(&mut stop).await {
            let now = tokio::time::Instant::now().into_std();
            let random = u64::from_be_bytes(secret::random());
            let wait = schedule.ended(how, now, random);
            tracing::info!(wait_ms = whole_millis(wait), "dialing again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.dialer.close(CloseCode::ShuttingDown).await;
        if let Err(error) = self.node.audit.log.seal() {
            tracing::error!(%error, "the end of the audit log is not signed");
        }
    }

    /// One attempt and, when it succeeds, the tunnel's whole life; `None` when this node is to stop.
    async fn attempt(&mut self, stop: &mut watch::Receiver<bool>) -> Option<reconnect::Ended> {
        let dialed = tokio::select! {
            dialed = self.dialer.dial() => dialed,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(unreachable) => {
                tracing::warn!(%unreachable, "no tunnel");
                return Some(reconnect::Ended::Failed);
            }
        };
        let Ended { cause, accepted } = Box::pin(link::run(&self.node, dialed, stop.clone())).await;
        if cause == Cause::Stopped {
            return None;
        }
        if let Cause::Closed(code) = &cause
            && let Some(advice) = link::advice(*code)
        {
            tracing::error!(%code, "the primary will not have this node: {advice}");
        } else if accepted.is_none() {
            tracing::warn!(%cause, "the primary did not admit this node");
        }
        Some(match accepted {
            _ if cause.is_rejection() => reconnect::Ended::Rejected,
            Some(accepted) => reconnect::Ended::Lost { accepted },
            None => reconnect::Ended::Failed,
        })
    }
}

fn whole_millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
