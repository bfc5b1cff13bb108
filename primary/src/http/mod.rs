//! The primary's one HTTP surface: the agent plane and the owner's plane, on one loopback port.
//!
//! Handlers are thin: read the request, call one service, write the answer. Refusals of any kind
//! become a response in one place ([`error`]). The guard stands before everything.

pub mod admin;
pub mod agent;
pub mod error;
pub mod events;
pub mod extract;
pub mod guard;
pub mod held;
pub mod limits;
pub mod page;
pub mod patient;
pub mod router;
pub mod serve;
pub mod tls;

use std::sync::Arc;

use arc_swap::ArcSwap;
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::secret::{Credential, CredentialKind};
use plexus_shared::state_dir::StateDir;
use plexus_shared::transport::secrets::SecretFiles;
use zeroize::Zeroizing;

use crate::calls::Calls;
use crate::config::CONNECTION_KEY;
use crate::core::Core;
use crate::extensions::Extensions;
use crate::mesh::Mesh;
use crate::sources::Sources;
use crate::trust::{ChangeError, Trust};

/// The services behind the routes.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

/// What the handlers call.
pub struct Inner {
    /// Where this gateway is, as agents see it: `http://127.0.0.1:7077`.
    pub base_url: String,
    /// When it started.
    pub started_at: plexus_shared::clock::Timestamp,
    /// The owner's key.
    pub connection_key: ArcSwap<Credential>,
    /// Where the owner's files are.
    pub state: StateDir,
    /// What every service stands on.
    pub core: Core,
    /// Calls.
    pub calls: Calls,
    /// Agents and what they hold.
    pub trust: Arc<Trust>,
    /// How much anyone may ask for.
    pub limits: limits::Limits,
    /// The owner's secrets.
    pub secrets: SecretFiles,
    /// Held by whoever writes a file of the owner's settings.
    pub settings_gate: tokio::sync::Mutex<()>,
    /// Where it can be reached, as it was at the start.
    pub reach: Reach,
    /// Configured sources.
    pub sources: Arc<Sources>,
    /// Extensions.
    pub extensions: Arc<Extensions>,
    /// Workloads.
    pub mesh: Arc<Mesh>,
}

/// Where the gateway can be reached.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Every URL it serves; the loopback one first.
    pub urls: Vec<String>,
    /// The SHA-256 of its certificate, when it serves TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<String>,
}

impl Services {
    /// Services for handlers to share.
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Inner {
    /// Makes a new owner's key: recorded, kept, then in force. Sessions and streams that the old one opened end.
    ///
    /// # Errors
    /// When it could not be recorded or kept; the old one stays in force then.
    pub async fn rotate_key(&self) -> Result<Credential, ChangeError> {
        // What is in force is what the file says, also when two are made at once.
        let _gate = self.settings_gate.lock().await;
        let key = Credential::generate(CredentialKind::ConnectionKey);
        let record = Record::new(EventType::KeyRotate)
            .outcome(RecordOutcome::Ok)
            .detail(&serde_json::json!({"key": "connection-key"}));
        self.core.audit.append(record.clone())?;
        let text = Zeroizing::new(format!("{}\n", key.expose()));
        if let Err(error) = self.state.write(CONNECTION_KEY, text.as_bytes()) {
            self.core.note_failure(record);
            return Err(error.into());
        }
        self.connection_key.store(Arc::new(key.clone()));
        self.trust.sessions().end_owners();
        self.core.events.key_rotated();
        Ok(key)
    }
}

impl std::ops::Deref for Services {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
