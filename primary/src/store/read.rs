//! Everything that is kept, read once at the start.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::identity::PublicKey;
use plexus_mesh_proto::json::Json;
use plexus_shared::audit::Head;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, CapabilityId};
use plexus_shared::model::exposure::ExposureRule;
use plexus_shared::model::plain::Plain;
use plexus_shared::model::trust::Grant;
use plexus_shared::secret::CredentialHash;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::de::DeserializeOwned;

use super::StoreError;
use super::rows::{
    AgentRow, BundleRow, CursorRow, ExtensionRow, Matter, PendingRow, ReplayRow, SourceRow,
    TicketRow, WorkloadRow,
};

/// All that survived.
#[derive(Debug, Default)]
pub struct Kept {
    /// Agents.
    pub agents: Vec<AgentRow>,
    /// Codes that were redeemed, and when.
    pub spent_codes: Vec<(CredentialHash, Timestamp)>,
    /// Grants.
    pub grants: Vec<Grant>,
    /// What was revoked and not allowed again.
    pub tombstones: Vec<(AgentId, CapabilityId)>,
    /// Bundles.
    pub bundles: Vec<BundleRow>,
    /// Calls made under an idempotency key.
    pub replays: Vec<ReplayRow>,
    /// Pending items, answered ones too.
    pub pending: Vec<PendingRow>,
    /// Exposure rules in order.
    pub rules: Vec<ExposureRule>,
    /// Sources.
    pub sources: Vec<SourceRow>,
    /// Extensions.
    pub extensions: Vec<ExtensionRow>,
    /// Join tickets.
    pub tickets: Vec<TicketRow>,
    /// Workloads.
    pub workloads: Vec<WorkloadRow>,
    /// How far each workload's audit is mirrored.
    pub cursors: Vec<(WorkloadName, CursorRow)>,
    /// What each workload bore, as it pushed it.
    pub catalogs: Vec<(WorkloadName, Vec<Json>)>,
    /// The highest manifest revision that may have been shown.
    pub revision: u64,
    /// Whether the owner has frozen the gateway.
    pub frozen: bool,
}

impl Kept {
    pub(super) fn read(db: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            agents: all(db, "SELECT * FROM agent", agent)?,
            spent_codes: all(db, "SELECT hash, spent_at FROM spent_code", |row| {
                Ok((CredentialHash::from_bytes(row.get(0)?), time(row, 1)?))
            })?,
            grants: all(db, "SELECT * FROM grant_", grant)?,
            tombstones: all(db, "SELECT agent, capability FROM tombstone", |row| {
                Ok((text(row, 0)?, text(row, 1)?))
            })?,
            bundles: all(db, "SELECT * FROM bundle", bundle)?,
            replays: all(db, "SELECT * FROM replay", replay)?,
            pending: all(db, "SELECT * FROM pending", pending)?,
            rules: all(
                db,
                "SELECT pattern, enabled FROM exposure_rule ORDER BY position",
                |row| Ok(ExposureRule { pattern: row.get(0)?, enabled: row.get(1)? }),
            )?,
            sources: all(db, "SELECT * FROM source ORDER BY id", source)?,
            extensions: all(db, "SELECT * FROM extension ORDER BY source", extension)?,
            tickets: all(db, "SELECT * FROM ticket", ticket)?,
            workloads: all(db, "SELECT * FROM workload ORDER BY name", workload)?,
            cursors: all(db, "SELECT * FROM audit_cursor", |row| {
                let origin = Head { seq: row.get(1)?, hash: row.get(3)? };
                let cursor = CursorRow { origin, log_seq: row.get(2)? };
                Ok((text(row, 0)?, cursor))
            })?,
            catalogs: catalogs(db)?,
            revision: counter(db, "revision")?,
            frozen: counter(db, "frozen")? != 0,
        })
    }
}

fn counter(db: &Connection, name: &str) -> Result<u64, StoreError> {
    let sql = "SELECT value FROM counter WHERE name = ?1";
    Ok(db.query_row(sql, [name], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn all<T>(
    db: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(read(row)?);
    }
    Ok(out)
}

fn damaged(row: &Row<'_>, column: usize, why: impl std::fmt::Display) -> StoreError {
    let name = row.as_ref().column_name(column).unwrap_or("?").to_owned();
    StoreError::Damaged(format!("column {name}: {why}"))
}

/// A column that holds an identifier.
fn text<T>(row: &Row<'_>, column: usize) -> Result<T, StoreError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|why| damaged(row, column, why))
}

/// A column that holds a bare model word.
fn word<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(text)).map_err(|why| damaged(row, column, why))
}

/// A column that holds JSON.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|why| damaged(row, column, why))
}

fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError> {
    match row.get::<_, Option<String>>(column)? {
        None => Ok(None),
        Some(_) => json(row, column).map(Some),
    }
}

fn time(row: &Row<'_>, column: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

fn maybe_time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

fn agent(row: &Row<'_>) -> Result<AgentRow, StoreError> {
    Ok(AgentRow {
        id: text(row, 0)?,
        kind: word(row, 1)?,
        label: row.get(2)?,
        issued_at: time(row, 3)?,
        code: row.get::<_, Option<[u8; 32]>>(4)?.map(CredentialHash::from_bytes),
        code_expires_at: maybe_time(row, 5)?,
        pat: row.get::<_, Option<[u8; 32]>>(6)?.map(CredentialHash::from_bytes),
        redeemed_at: maybe_time(row, 7)?,
        revoked_at: maybe_time(row, 8)?,
    })
}

fn grant(row: &Row<'_>) -> Result<Grant, StoreError> {
    Ok(Grant {
        agent: text(row, 0)?,
        capability: text(row, 1)?,
        verbs: json(row, 2)?,
        constraint: json(row, 3)?,
        bundle: maybe_text(row, 4)?,
        granted_at: time(row, 5)?,
        expires_at: time(row, 6)?,
        window: json(row, 7)?,
        extent: maybe_json(row, 8)?,
    })
}

fn pending(row: &Row<'_>) -> Result<PendingRow, StoreError> {
    let matter = match row.get::<_, String>(7)?.as_str() {
        "grant" => Matter::Grant(json(row, 6)?),
        "register" => Matter::Register(json(row, 6)?),
        kind => return Err(damaged(row, 7, format!("there is no kind {kind:?}"))),
    };
    Ok(PendingRow {
        id: text(row, 0)?,
        agent: text(row, 1)?,
        session: text(row, 2)?,
        state: word(row, 3)?,
        created_at: time(row, 4)?,
        expires_at: time(row, 5)?,
        matter,
    })
}

fn maybe_text<T>(row: &Row<'_>, column: usize) -> Result<Option<T>, StoreError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    match row.get::<_, Option<String>>(column)? {
        None => Ok(None),
        Some(_) => text(row, column).map(Some),
    }
}

fn bundle(row: &Row<'_>) -> Result<BundleRow, StoreError> {
    Ok(BundleRow {
        id: text(row, 0)?,
        agent: text(row, 1)?,
        name: row.get(2)?,
        created_at: time(row, 3)?,
        context: json(row, 4)?,
    })
}

fn replay(row: &Row<'_>) -> Result<ReplayRow, StoreError> {
    Ok(ReplayRow {
        agent: text(row, 0)?,
        capability: row.get(1)?,
        key: row.get(2)?,
        input: row.get(3)?,
        at: time(row, 4)?,
        audit_id: maybe_text(row, 5)?,
        outcome: row.get(6)?,
    })
}

fn source(row: &Row<'_>) -> Result<SourceRow, StoreError> {
    Ok(SourceRow {
        id: text(row, 0)?,
        kind: row.get(1)?,
        label: row.get(2)?,
        enabled: row.get(3)?,
        config: json::<Plain>(row, 4)?.0,
    })
}

fn extension(row: &Row<'_>) -> Result<ExtensionRow, StoreError> {
    Ok(ExtensionRow {
        source: text(row, 0)?,
        manifest: row.get(1)?,
        provenance: word(row, 2)?,
        installed_at: time(row, 3)?,
        agent: maybe_text(row, 4)?,
    })
}

fn ticket(row: &Row<'_>) -> Result<TicketRow, StoreError> {
    Ok(TicketRow {
        token_hash: row.get(0)?,
        workload: text(row, 1)?,
        class: word(row, 2)?,
        expires_at: time(row, 3)?,
        consumed_at: maybe_time(row, 4)?,
        expose: json(row, 5)?,
    })
}

fn workload(row: &Row<'_>) -> Result<WorkloadRow, StoreError> {
    Ok(WorkloadRow {
        name: text(row, 0)?,
        public_key: PublicKey(row.get(1)?),
        class: word(row, 2)?,
        joined_at: time(row, 3)?,
    })
}

fn catalogs(db: &Connection) -> Result<Vec<(WorkloadName, Vec<Json>)>, StoreError> {
    let rows =
        all(db, "SELECT workload, entry FROM catalog_entry ORDER BY workload, rowid", |row| {
            Ok((text::<WorkloadName>(row, 0)?, text::<Json>(row, 1)?))
        })?;
    let mut catalogs: Vec<(WorkloadName, Vec<Json>)> = Vec::new();
    for (workload, entry) in rows {
        match catalogs.last_mut() {
            Some((last, entries)) if *last == workload => entries.push(entry),
            _ => catalogs.push((workload, vec![entry])),
        }
    }
    Ok(catalogs)
}
