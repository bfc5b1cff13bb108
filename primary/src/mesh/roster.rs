//! Who may be here: invitations, enrollments, connections, and how it all looks to the owner.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use plexus_mesh_proto::address::{MountPoint, WorkloadName};
use plexus_mesh_proto::bounded::List;
use plexus_mesh_proto::catalog::CatalogChange;
use plexus_mesh_proto::enroll::{self, EnrollAttempt, EnrollResult, TokenLookup, WorkloadState};
use plexus_mesh_proto::hello::{Admission, AuthenticatedPeer, Proxy};
use plexus_mesh_proto::identity::PublicKey;
use plexus_mesh_proto::ticket::{Candidate, JoinToken, Ticket};
use plexus_shared::audit::{AuditUnavailable, EventType, Head, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::CapabilityId;
use plexus_shared::model::exposure::ExposureRule;
use plexus_shared::model::health::Health;
use plexus_shared::model::trust::Provenance;
use plexus_shared::source::registry::Refused;
use serde::Serialize;
use serde_json::json;

use super::mounts::Mounted;
use super::route::Route;
use super::{Mesh, Workload};
use crate::events::MeshChange;
use crate::store::rows::{CursorRow, TicketRow, WorkloadRow};
use crate::store::{Change, StoreError};

/// How long a ticket can be used when the owner does not say.
const TICKET_TTL: Duration = Duration::from_secs(3600);
/// The longest the owner may say.
const MAX_TICKET_TTL: Duration = Duration::from_secs(30 * 86_400);

/// The owner's invitation of a workload.
#[derive(Clone, Debug)]
pub struct Invite {
    /// Its name.
    pub workload: WorkloadName,
    /// How long the ticket can be used.
    pub ttl: Option<Duration>,
    /// What of it is shown from the start: patterns over its own ids.
    pub expose: Vec<String>,
    /// The class of all it bears.
    pub class: Provenance,
}

/// A ticket, shown once.
pub struct Invitation {
    /// The one line that is handed over.
    pub ticket: zeroize::Zeroizing<String>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why no ticket was made.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// A workload of this name is here.
    #[error("a workload called {0} has already joined; choose another name")]
    Taken(WorkloadName),
    /// It could not be recorded.
    #[error("the audit log can't be written, so nothing was changed")]
    Audit(#[from] AuditUnavailable),
    /// It could not be kept.
    #[error("the ticket could not be kept: {0}")]
    Store(#[from] StoreError),
    /// There is no randomness, or no address to put in it.
    #[error("no ticket could be made: {0}")]
    Ticket(String),
}

/// The mesh, for the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshView {
    tenant: String,
    listen: Vec<String>,
    primary_pub_key: String,
    workloads: Vec<WorkloadView>,
}

/// One workload, for the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    workload: String,
    state: &'static str,
    connection: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable_since: Option<Timestamp>,
    health: Health,
    trust: Provenance,
    sources: Vec<String>,
    capabilities: Vec<CapabilityId>,
    refused: Vec<serde_json::Value>,
    audit_cursor: u64,
    /// Why its log is mirrored no further.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_fault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    software_version: Option<String>,
}

impl Mesh {
    /// Makes a ticket that admits one node, once, as `order.workload`.
    ///
    /// # Errors
    /// See [`InviteError`]; nothing was kept.
    pub async fn invite(&self, order: Invite) -> Result<Invitation, InviteError> {
        let _gate = self.gate.lock().await;
        if self.read(|roster| roster.workloads.contains_key(&order.workload)) {
            return Err(InviteError::Taken(order.workload));
        }
        let now = self.now();
        let expires_at = now.plus(order.ttl.unwrap_or(TICKET_TTL).min(MAX_TICKET_TTL));
        let failed = |why: &dyn std::fmt::Display| InviteError::Ticket(why.to_string());
        let token =
            JoinToken::generate(&ring::rand::SystemRandom::new()).map_err(|e| failed(&e))?;
        let row = TicketRow {
            token_hash: token.hash(),
            workload: order.workload.clone(),
            class: order.class,
            expires_at,
            consumed_at: None,
            expose: order.expose,
        };
        let ticket = Ticket {
            tenant: self.tenant.clone(),
            workload: order.workload,
            addresses: List::truncated(self.candidates()),
            primary_key: self.public_key(),
            token,
            expires_at_ms: u64::try_from(expires_at.as_millis()).unwrap_or(0),
        };
        let text = ticket.encode().map_err(|e| failed(&e))?;
        let record = Record::new(EventType::MeshInvite).outcome(RecordOutcome::Ok).detail(&json!({
            "workload": row.workload, "expiresAt": expires_at, "trust": row.class, "expose": row.expose,
        }));
        self.core.audit.append(record)?;
        // The ticket this name was given before is dead, and old ones are forgotten.
        let (name, horizon) = (row.workload.clone(), now);
        let invited = name.clone();
        let prune = Change::PruneTickets { workload: name.clone(), before: horizon };
        self.core.store.commit(vec![prune, Change::PutTicket(row.clone())]).await?;
        self.update(|roster| {
            roster.tickets.retain(|old| {
                old.expires_at > horizon && (old.workload != name || old.consumed_at.is_some())
            });
            roster.tickets.push(row);
        });
        self.tell(&invited, MeshChange::Invited);
        Ok(Invitation { ticket: text, expires_at })
    }

    /// The addresses a node may find this one at.
    fn candidates(&self) -> Vec<Candidate> {
        let port = self.listen.port();
        if !self.listen.ip().is_unspecified() {
            return vec![Candidate::from(self.listen)];
        }
        let usable = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        };
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        let mut ips: Vec<_> = interfaces.into_iter().map(|interface| interface.ip()).collect();
        ips.retain(|ip| usable(ip) && (self.listen.is_ipv6() || ip.is_ipv4()));
        ips.push(IpAddr::from([127, 0, 0, 1]));
        ips.into_iter().map(|ip| Candidate::from(SocketAddr::new(ip, port))).collect()
    }

    /// What the node with this key may do.
    pub(super) fn admission(&self, key: &PublicKey) -> Admission {
        self.read(|roster| {
            let mut known = roster.workloads.values();
            match known.find(|workload| workload.row.public_key == *key) {
                Some(workload) => Admission::Known(self.mount_point(&workload.row.name)),
                None => Admission::Unknown,
            }
        })
    }

    /// Decides one enrollment: checked in order, recorded, kept, then answered. A write that fails
    /// consumes nothing.
    pub(super) async fn enroll(&self, attempt: EnrollAttempt) -> EnrollResult {
        let _gate = self.gate.lock().await;
        let now = self.now();
        let hash = attempt.token_hash();
        let ticket = self
            .read(|roster| roster.tickets.iter().find(|ticket| ticket.token_hash == hash).cloned());
        let lookup = match &ticket {
            None => TokenLookup::Unknown,
            Some(ticket) if ticket.consumed_at.is_some() => TokenLookup::Consumed,
            Some(ticket) if ticket.expires_at <= now => TokenLookup::Expired,
            Some(ticket) => {
                TokenLookup::Live { mount_point: self.mount_point(&ticket.workload), rotate: false }
            }
        };
        let taken = |ticket: &TicketRow| {
            self.read(|roster| roster.workloads.contains_key(&ticket.workload))
        };
        let state = match &ticket {
            Some(ticket) if taken(ticket) => WorkloadState::Taken,
            _ => WorkloadState::Free,
        };
        match (enroll::admit(&attempt, lookup, state), ticket) {
            (Ok(admitted), Some(ticket)) => {
                let written = self.take_in(admitted.key(), ticket, now).await;
                if let Err(error) = &written {
                    tracing::error!(%error, "an enrollment could not be kept");
                }
                admitted.reply(&written)
            }
            (Err(code), ticket) => {
                let workload = ticket.map(|ticket| ticket.workload);
                let detail = json!({"code": code.to_string(), "workload": workload});
                if self.note_refusal(detail).is_err() {
                    return EnrollResult::Refused { code: enroll::EnrollRefusal::PersistFailed };
                }
                EnrollResult::Refused { code }
            }
            (Ok(_), None) => EnrollResult::Refused { code: enroll::EnrollRefusal::BadToken },
        }
    }

    async fn take_in(
        &self,
        key: PublicKey,
        ticket: TicketRow,
        now: Timestamp,
    ) -> Result<(), InviteError> {
        let ticket = TicketRow { consumed_at: Some(now), ..ticket };
        let row = WorkloadRow {
            name: ticket.workload.clone(),
            public_key: key,
            class: ticket.class,
            joined_at: now,
        };
        let at = self.mount_point(&row.name);
        let _rules = self.core.exposure_gate.lock().await;
        let shown = ticket
            .expose
            .iter()
            .map(|pattern| ExposureRule { pattern: format!("{at}/{pattern}"), enabled: true });
        let rules = shown.fold(self.core.registry.rules(), |rules, rule| rules.with(rule)).rules();
        let record = Record::new(EventType::MeshEnroll)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({"workload": row.name, "key": key.fingerprint(), "trust": row.class}));
        self.core.audit.append(record)?;
        let changes = vec![
            Change::PutWorkload(row.clone()),
            Change::PutCursor {
                workload: row.name.clone(),
                cursor: CursorRow { log_seq: self.core.audit.head().seq, ..CursorRow::default() },
            },
            Change::PutTicket(ticket.clone()),
            Change::SetRules(rules.clone()),
        ];
        self.core.store.commit(changes).await?;
        self.core.registry.set_rules(rules);
        let name = row.name.clone();
        self.update(|roster| {
            roster.tickets.retain(|old| old.token_hash != ticket.token_hash);
            roster.tickets.push(ticket);
            let workload = Workload {
                route: Arc::new(Route::new(now)),
                mounted: Mounted::default(),
                cursor: CursorRow::default(),
                audit_fault: None,
                software: None,
                row,
            };
            roster.workloads.insert(workload.row.name.clone(), workload);
        });
        self.tell(&name, MeshChange::Joined);
        Ok(())
    }

    /// A workload is here.
    ///
    /// # Errors
    /// When it could not be recorded: then it is not here.
    pub(super) fn connected(
        &self,
        peer: &AuthenticatedPeer<Proxy>,
        connection: &quinn::Connection,
    ) -> Result<(), AuditUnavailable> {
        let name = peer.mount_point().workload();
        let remote = connection.remote_address();
        let record = Record::new(EventType::MeshConnect).outcome(RecordOutcome::Ok).detail(&json!({
            "workload": name, "remote": remote.to_string(), "software": peer.software().as_str(),
        }));
        self.core.audit.append(record)?;
        tracing::info!(workload = %name, %remote, "a workload connected");
        let now = self.now();
        self.update(|roster| {
            if let Some(workload) = roster.workloads.get_mut(name) {
                workload.software = Some(peer.software().to_string());
                workload.route.up(connection.clone(), now);
            }
        });
        self.tell(name, MeshChange::Connected);
        Ok(())
    }

    /// A workload's connection ended; it stays mounted, and says that it is not there.
    pub(super) fn disconnected(
        &self,
        name: &WorkloadName,
        connection: &quinn::Connection,
        why: &str,
    ) {
        let now = self.now();
        let lost = self.read(|roster| {
            roster.workloads.get(name).is_some_and(|workload| workload.route.lost(connection, now))
        });
        if !lost {
            return;
        }
        tracing::info!(workload = %name, why, "a workload disconnected");
        let record = Record::new(EventType::MeshDisconnect)
            .outcome(RecordOutcome::Ok)
            .detail(&json!({"workload": name, "reason": why}));
        if self.core.audit.append(record).is_err() {
            tracing::error!("a disconnect could not be recorded");
        }
        self.tell(name, MeshChange::Disconnected);
    }

    /// Applies a pushed catalog: kept, then mounted. Says how many entries are mounted, which were
    /// not, and the catalog's revision.
    pub(super) async fn mount(
        &self,
        name: &WorkloadName,
        change: CatalogChange,
    ) -> (usize, Vec<Refused>, u64) {
        let _gate = self.gate.lock().await;
        let revision = change.revision;
        let at: MountPoint = self.mount_point(name);
        let current = self.read(|roster| {
            let workload = roster.workloads.get(name)?;
            Some((workload.mounted.clone(), workload.row.class, workload.route.clone()))
        });
        let Some((before, class, route)) = current else { return (0, Vec::new(), revision) };
        let mut mounted = before.after(&at, change);
        let keep = Change::PutCatalog { workload: name.clone(), entries: mounted.catalog() };
        if let Err(error) = self.core.store.commit(vec![keep]).await {
            // It is mounted all the same: what is lost is only its shape across a restart.
            tracing::error!(%error, workload = %name, "a catalog could not be kept");
        }
        for refused in self.put_group(name, class, &route, &mounted) {
            mounted.refuse(&refused.id, &refused.reason);
        }
        let (count, refused) = (mounted.len(), mounted.refused.clone());
        tracing::info!(workload = %name, entries = count, refused = refused.len(), "mounted");
        self.update(|roster| {
            if let Some(workload) = roster.workloads.get_mut(name) {
                workload.mounted = mounted;
            }
        });
        self.tell(name, MeshChange::Mounted);
        (count, refused, revision)
    }

    /// How far a workload's audit is mirrored.
    pub(super) fn cursor(&self, name: &WorkloadName) -> Head {
        let cursor =
            |roster: &super::Roster| Some(roster.workloads.get(name)?.cursor.origin.clone());
        self.read(cursor).unwrap_or_else(Head::genesis)
    }

    /// The mesh as it is now.
    pub fn view(&self) -> MeshView {
        self.read(|roster| MeshView {
            tenant: self.tenant.to_string(),
            listen: vec![self.listen.to_string()],
            primary_pub_key: self.public_key().to_string(),
            workloads: roster.workloads.values().map(view).collect(),
        })
    }
}

fn view(workload: &Workload) -> WorkloadView {
    let route = workload.route.view();
    let up = route.connection.is_some();
    WorkloadView {
        workload: workload.row.name.to_string(),
        state: if up { "available" } else { "unavailable" },
        connection: if up { "connected" } else { "disconnected" },
        remote: route.connection.as_ref().map(quinn::Connection::remote_address),
        rtt_ms: route.connection.as_ref().map(|c| c.rtt().as_secs_f64() * 1000.0),
        since: route.since,
        unavailable_since: (!up).then_some(route.since),
        health: route.health,
        trust: workload.row.class,
        sources: workload.mounted.sources(),
        capabilities: workload.mounted.ids(),
        refused: workload
            .mounted
            .refused
            .iter()
            .map(|refused| json!({"id": refused.id, "reason": refused.reason}))
            .collect(),
        audit_cursor: workload.cursor.origin.seq,
        audit_fault: workload.audit_fault.clone(),
        software_version: workload.software.clone(),
    }
}
