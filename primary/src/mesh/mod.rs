//! The primary's end of the mesh: it invites workloads, admits them by their key, mounts what they
//! bear, and sends calls down their tunnels.
//!
//! 1. [`acceptor`] takes connections, few at a time while they are nobody's.
//! 2. [`link`] runs one: Hello; then either one enrollment, or a workload's stay.
//! 3. [`mounts`] turns a pushed catalog into entries under the name *bound to the connection's key*.
//! 4. [`route`] is where a call leaves: an address keeps its route while connections come and go.
//! 5. [`mirror`] takes over the workload's audit, once each.
//!
//! What an attacker would try: another key (unknown keys may enroll, nothing else), another's name
//! (no frame carries one that is believed), a class of its own (there is no place for it), an entry
//! that is not one (refused alone, with the reason shown to the owner), silence (every step has its
//! time).

pub mod acceptor;
mod link;
mod mirror;
mod mounts;
mod news;
mod refusals;
mod roster;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use plexus_mesh_proto::address::{MountPoint, Tenant, WorkloadName};
use plexus_mesh_proto::identity::{NodeKey, PublicKey};
use plexus_mesh_proto::limits;
use plexus_shared::clock::Timestamp;
use plexus_shared::model::trust::Provenance;

use crate::core::Core;
use crate::limits::Ration;
use crate::store::Kept;
use crate::store::rows::{CursorRow, TicketRow, WorkloadRow};
use mounts::Mounted;
use route::Route;

pub(crate) use mirror::recover as recover_cursors;
pub use roster::{Invitation, Invite, InviteError, MeshView, WorkloadView};

/// One workload: what is kept of it, and where it is now.
struct Workload {
    row: WorkloadRow,
    route: Arc<Route>,
    mounted: Mounted,
    cursor: CursorRow,
    /// Why its log is mirrored no further.
    audit_fault: Option<String>,
    software: Option<String>,
}

#[derive(Default)]
struct Roster {
    tickets: Vec<TicketRow>,
    workloads: BTreeMap<WorkloadName, Workload>,
}

/// The primary's end of the mesh.
pub struct Mesh {
    core: Core,
    node: Arc<NodeKey>,
    tenant: Tenant,
    listen: SocketAddr,
    gate: tokio::sync::Mutex<()>,
    mirror_gate: tokio::sync::Mutex<()>,
    roster: RwLock<Roster>,
    /// Rows about joins that were refused.
    refusals: Mutex<Ration>,
}

impl Mesh {
    /// The mesh as it was kept: every workload is mounted with what it last bore, and down until it
    /// dials in.
    pub fn new(core: Core, node: Arc<NodeKey>, listen: SocketAddr, kept: &mut Kept) -> Self {
        let cursors: BTreeMap<_, _> = kept.cursors.drain(..).collect();
        let mut catalogs: BTreeMap<_, _> = kept.catalogs.drain(..).collect();
        let now = core.now();
        let mesh = Self {
            core,
            node,
            tenant: Tenant::default(),
            listen,
            gate: tokio::sync::Mutex::default(),
            mirror_gate: tokio::sync::Mutex::default(),
            roster: RwLock::default(),
            refusals: Mutex::default(),
        };
        let mut roster = Roster { tickets: kept.tickets.drain(..).collect(), ..Roster::default() };
        for row in kept.workloads.drain(..) {
            let route = Arc::new(Route::new(now));
            let at = MountPoint::new(mesh.tenant.clone(), row.name.clone());
            let catalog = catalogs.remove(&row.name).unwrap_or_default();
            let mounted = Mounted::restore(&at, &catalog);
            let cursor = cursors.get(&row.name).cloned().unwrap_or_default();
            mesh.put_group(&row.name, row.class, &route, &mounted);
            let workload =
                Workload { route, mounted, cursor, audit_fault: None, software: None, row };
            roster.workloads.insert(workload.row.name.clone(), workload);
        }
        mesh.update(|empty| *empty = roster);
        mesh
    }

    fn read<T>(&self, look: impl FnOnce(&Roster) -> T) -> T {
        look(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn update<T>(&self, change: impl FnOnce(&mut Roster) -> T) -> T {
        change(&mut self.roster.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> Timestamp {
        self.core.now()
    }

    fn mount_point(&self, workload: &WorkloadName) -> MountPoint {
        MountPoint::new(self.tenant.clone(), workload.clone())
    }

    fn put_group(
        &self,
        name: &WorkloadName,
        class: Provenance,
        route: &Arc<Route>,
        mounted: &Mounted,
    ) -> Vec<plexus_shared::source::registry::Refused> {
        self.core.registry.put(&group_name(name), mounted.group(class, route))
    }

    /// How many workloads there are, and which are not connected.
    pub fn away(&self) -> (usize, Vec<String>) {
        self.read(|roster| {
            let away = roster
                .workloads
                .iter()
                .filter(|(_, workload)| workload.route.view().connection.is_none());
            (roster.workloads.len(), away.map(|(name, _)| name.to_string()).collect())
        })
    }

    /// Workloads whose log does not continue what was mirrored of it.
    pub fn broken_logs(&self) -> Vec<String> {
        self.read(|roster| {
            let broken = roster.workloads.iter().filter(|(_, one)| one.audit_fault.is_some());
            broken.map(|(name, _)| name.to_string()).collect()
        })
    }

    /// Whether only this machine can dial in.
    pub fn loopback_only(&self) -> bool {
        self.listen.ip().is_loopback()
    }

    /// This node's public key: what every ticket pins.
    pub fn public_key(&self) -> PublicKey {
        self.node.public()
    }
}

/// The registry's name for what `workload` bears.
fn group_name(workload: &WorkloadName) -> String {
    format!("workload {workload}")
}

/// How long a write to a peer may take: one that does not read is gone.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How often this primary would hear of a workload's health.
const HEALTH_INTERVAL: Duration = Duration::from_secs(15);

/// A tunnel's transport: kept alive, ended when silent, its buffers bounded.
fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(quinn::VarInt::from_u32(1))
        .max_concurrent_uni_streams(quinn::VarInt::from_u32(0))
        .stream_receive_window(quinn::VarInt::from_u32(17 << 20))
        // All a stranger may have in flight; a workload is given more once it is admitted.
        .receive_window(quinn::VarInt::from_u32(64 << 10))
        .send_window(64 << 20)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .max_idle_timeout(limits::IDLE.try_into().ok());
    transport
}
