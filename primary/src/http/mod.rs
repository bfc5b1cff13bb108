//! The primary's one HTTP surface: the agent plane and the owner's plane, on one loopback port.
//!
//! Handlers are thin: read the request, call one service, write the answer. Refusals of any kind
//! become a response in one place ([`error`]). The guard stands before everything.

pub mod admin;
pub mod agent;
pub mod error;
pub mod extract;
pub mod guard;
pub mod router;
pub mod serve;

use std::sync::Arc;

use plexus_shared::invoke::Pipeline;
use plexus_shared::secret::Credential;

use crate::core::Core;
use crate::extensions::Extensions;
use crate::mesh::Mesh;
use crate::sources::Sources;
use crate::trust::Trust;

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
    pub connection_key: Credential,
    /// What every service stands on.
    pub core: Core,
    /// Calls.
    pub pipeline: Arc<Pipeline>,
    /// Agents and what they hold.
    pub trust: Arc<Trust>,
    /// Configured sources.
    pub sources: Arc<Sources>,
    /// Extensions.
    pub extensions: Arc<Extensions>,
    /// Workloads.
    pub mesh: Arc<Mesh>,
}

impl Services {
    /// Services for handlers to share.
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl std::ops::Deref for Services {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}
