//! Every change there is, and its SQL.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::json::Json;
use plexus_shared::clock::Timestamp;
use plexus_shared::failpoint::{Point, pass};
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, EventId, SourceId};
use plexus_shared::model::exposure::ExposureRule;
use plexus_shared::model::trust::Grant;
use plexus_shared::secret::CredentialHash;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

use super::StoreError;
use super::prune::{self, Prune};
use super::rows::{
    AgentRow, BundleRow, CursorRow, ExtensionRow, Matter, PendingRow, ReplayRow, SourceRow,
    TicketRow, WorkloadRow,
};

/// One change of what is kept.
#[derive(Clone, Debug)]
pub enum Change {
    /// An agent as it is now.
    PutAgent(AgentRow),
    /// An agent, no more: nothing that went by its name alone is its successor's.
    DropAgent(AgentId),
    /// A code that was redeemed: it is remembered, so that a replay is told so.
    SpendCode(CredentialHash, Timestamp),
    /// A grant as it is now.
    PutGrant(Grant),
    /// A grant no more, and the mark that it was revoked.
    RevokeGrants {
        /// Whose.
        agent: AgentId,
        /// On what.
        capability: CapabilityId,
        /// When.
        at: Timestamp,
    },
    /// The mark that something was revoked, and no more.
    PutTombstone(AgentId, CapabilityId, Timestamp),
    /// The mark of a revoke is lifted: the owner said yes again.
    LiftTombstone(AgentId, CapabilityId),
    /// A bundle as it is now.
    PutBundle(BundleRow),
    /// A bundle, and every grant that came with it, no more.
    DropBundle(BundleId),
    /// A keyed call as it is now.
    PutReplay(ReplayRow),
    /// A keyed call no more, by agent, capability and key: it was not made.
    DropReplay((AgentId, String, String)),
    /// Keyed calls up to a moment, no more.
    PruneReplays(Timestamp),
    /// Every grant on ids that begin so, or that reaches one through a workflow, no more.
    DropGrants(String),
    /// A pending item as it is now.
    PutPending(PendingRow),
    /// What has ended, no more.
    Prune(Prune),
    /// The exposure rules, all of them.
    SetRules(Vec<ExposureRule>),
    /// A source as it is now.
    PutSource(SourceRow),
    /// A source no more.
    DropSource(SourceId),
    /// An extension as it is now.
    PutExtension(ExtensionRow),
    /// An extension no more.
    DropExtension(SourceId),
    /// A ticket as it is now.
    PutTicket(TicketRow),
    /// The unused tickets of a workload no more, nor any that ended before a moment.
    PruneTickets {
        /// The workload.
        workload: WorkloadName,
        /// The moment.
        before: Timestamp,
    },
    /// A workload as it is now.
    PutWorkload(WorkloadRow),
    /// How far a workload's audit is mirrored.
    PutCursor {
        /// The workload.
        workload: WorkloadName,
        /// How far.
        cursor: CursorRow,
    },
    /// What a workload bears, as it pushed it.
    PutCatalog {
        /// The workload.
        workload: WorkloadName,
        /// Its entries.
        entries: Vec<Json>,
    },
    /// The highest manifest revision that may have been shown.
    SetRevision(u64),
    /// Whether the owner has frozen the gateway.
    SetFrozen(bool),
    /// Nothing that counts: it shows that changes can be kept.
    Probe,
}

/// Applies `changes` in one transaction.
pub(super) fn commit(connection: &mut Connection, changes: &[Change]) -> Result<(), StoreError> {
    pass(Point::StoreBefore);
    let transaction = connection.transaction()?;
    for change in changes {
        apply(&transaction, change)?;
    }
    pass(Point::StoreWritten);
    transaction.commit()?;
    pass(Point::StoreCommitted);
    Ok(())
}

fn apply(db: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::PutAgent(row) => put_agent(db, row),
        Change::DropAgent(id) => {
            run(db, "UPDATE extension SET agent = NULL WHERE agent = ?1", [id.as_str()])?;
            run(db, "DELETE FROM bundle WHERE agent = ?1", [id.as_str()])?;
            run(db, "DELETE FROM agent WHERE id = ?1", [id.as_str()])
        }
        Change::SpendCode(hash, at) => {
            let sql = "INSERT OR REPLACE INTO spent_code VALUES (?1, ?2)";
            run(db, sql, params![hash.as_bytes(), at.as_millis()])
        }
        Change::PutGrant(grant) => put_grant(db, grant),
        Change::RevokeGrants { agent, capability, at } => revoke(db, agent, capability, *at),
        Change::PutTombstone(agent, capability, at) => put_tombstone(db, agent, capability, *at),
        Change::LiftTombstone(agent, capability) => run(
            db,
            "DELETE FROM tombstone WHERE agent = ?1 AND capability = ?2",
            [agent.as_str(), capability.as_str()],
        ),
        Change::PutBundle(row) => put_bundle(db, row),
        Change::DropBundle(id) => drop_bundle(db, id),
        Change::PutReplay(row) => put_replay(db, row),
        Change::DropReplay(key) => drop_replay(db, key),
        Change::PruneReplays(before) => {
            run(db, "DELETE FROM replay WHERE at <= ?1", [before.as_millis()])
        }
        Change::DropGrants(prefix) => drop_grants(db, prefix),
        Change::PutPending(row) => put_pending(db, row),
        Change::Prune(which) => prune::prune(db, which),
        Change::SetRules(rules) => set_rules(db, rules),
        Change::PutSource(row) => put_source(db, row),
        Change::DropSource(id) => run(db, "DELETE FROM source WHERE id = ?1", [id.as_str()]),
        Change::PutExtension(row) => put_extension(db, row),
        Change::DropExtension(source) => {
            run(db, "DELETE FROM extension WHERE source = ?1", [source.as_str()])
        }
        Change::PutTicket(row) => put_ticket(db, row),
        Change::PruneTickets { workload, before } => prune_tickets(db, workload, *before),
        Change::PutWorkload(row) => put_workload(db, row),
        Change::PutCursor { workload, cursor: CursorRow { origin, log_seq } } => run(
            db,
            "INSERT OR REPLACE INTO audit_cursor VALUES (?1, ?2, ?3, ?4)",
            params![workload.as_str(), origin.seq, log_seq, origin.hash],
        ),
        Change::PutCatalog { workload, entries } => put_catalog(db, workload, entries),
        Change::SetRevision(revision) => {
            run(db, "INSERT OR REPLACE INTO counter VALUES ('revision', ?1)", [revision])
        }
        Change::Probe => run(
            db,
            "INSERT INTO counter VALUES ('probe', 1)
             ON CONFLICT (name) DO UPDATE SET value = (value + 1) % 1000000",
            [],
        ),
        Change::SetFrozen(frozen) => {
            run(db, "INSERT OR REPLACE INTO counter VALUES ('frozen', ?1)", [frozen])
        }
    }
}

pub(super) fn run(
    db: &Transaction<'_>,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute(params).map(|_| ())
}

fn put_extension(db: &Transaction<'_>, row: &ExtensionRow) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO extension VALUES (?1, ?2, ?3, ?4, ?5)";
    let (at, agent) = (row.installed_at.as_millis(), row.agent.as_ref().map(AgentId::as_str));
    run(db, sql, params![row.source.as_str(), row.manifest, word(&row.provenance), at, agent])
}

/// A model word (a class, a state) as its wire text.
fn word(value: &impl Serialize) -> impl ToSql {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

fn put_agent(db: &Transaction<'_>, row: &AgentRow) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT INTO agent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE SET
         kind = excluded.kind, label = excluded.label, issued_at = excluded.issued_at,
         code_hash = excluded.code_hash, code_expires_at = excluded.code_expires_at,
         pat_hash = excluded.pat_hash, redeemed_at = excluded.redeemed_at,
         revoked_at = excluded.revoked_at",
        params![
            row.id.as_str(),
            word(&row.kind),
            row.label,
            row.issued_at.as_millis(),
            row.code.as_ref().map(CredentialHash::as_bytes),
            row.code_expires_at.map(Timestamp::as_millis),
            row.pat.as_ref().map(CredentialHash::as_bytes),
            row.redeemed_at.map(Timestamp::as_millis),
            row.revoked_at.map(Timestamp::as_millis),
        ],
    )
}

fn put_grant(db: &Transaction<'_>, grant: &Grant) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO grant_ VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            grant.agent.as_str(),
            grant.capability.as_str(),
            word(&grant.verbs),
            word(&grant.constraint),
            grant.bundle.as_ref().map(BundleId::as_str),
            grant.granted_at.as_millis(),
            grant.expires_at.as_millis(),
            word(&grant.window),
            grant.extent.as_ref().map(word),
        ],
    )
}

fn drop_grants(db: &Transaction<'_>, prefix: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM grant_ WHERE substr(capability, 1, length(?1)) = ?1 OR EXISTS (
        SELECT 1 FROM json_each(extent, '$.members') WHERE substr(value, 1, length(?1)) = ?1)";
    run(db, sql, [prefix])
}

fn drop_bundle(db: &Transaction<'_>, id: &BundleId) -> rusqlite::Result<()> {
    run(db, "DELETE FROM grant_ WHERE bundle = ?1", [id.as_str()])?;
    run(db, "DELETE FROM bundle WHERE id = ?1", [id.as_str()])
}

fn put_pending(db: &Transaction<'_>, row: &PendingRow) -> rusqlite::Result<()> {
    let body = match &row.matter {
        Matter::Grant(asked) => serde_json::to_string(asked),
        Matter::Register(asked) => serde_json::to_string(asked),
    };
    let body = body.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    run(
        db,
        "INSERT OR REPLACE INTO pending VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.id.as_str(),
            row.agent.as_str(),
            row.session.as_str(),
            word(&row.state),
            row.created_at.as_millis(),
            row.expires_at.as_millis(),
            body,
            row.matter.kind(),
        ],
    )
}

fn put_replay(db: &Transaction<'_>, row: &ReplayRow) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO replay VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row.agent.as_str(),
            row.capability,
            row.key,
            row.input,
            row.at.as_millis(),
            row.audit_id.as_ref().map(EventId::as_str),
            row.outcome
        ],
    )
}

fn drop_replay(
    db: &Transaction<'_>,
    (agent, capability, key): &(AgentId, String, String),
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM replay WHERE agent = ?1 AND capability = ?2 AND key = ?3";
    run(db, sql, [agent.as_str(), capability, key])
}

fn put_workload(db: &Transaction<'_>, row: &WorkloadRow) -> rusqlite::Result<()> {
    run(
            db,
            "INSERT INTO workload VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET
             public_key = excluded.public_key, class = excluded.class, joined_at = excluded.joined_at",
            params![
                row.name.as_str(),
                row.public_key.as_bytes(),
                word(&row.class),
                row.joined_at.as_millis()
            ],
        )
}

fn revoke(
    db: &Transaction<'_>,
    agent: &AgentId,
    capability: &CapabilityId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let pair = [agent.as_str(), capability.as_str()];
    run(db, "DELETE FROM grant_ WHERE agent = ?1 AND capability = ?2", pair)?;
    put_tombstone(db, agent, capability, at)
}

fn put_tombstone(
    db: &Transaction<'_>,
    agent: &AgentId,
    capability: &CapabilityId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO tombstone VALUES (?1, ?2, ?3)";
    run(db, sql, params![agent.as_str(), capability.as_str(), at.as_millis()])
}

fn put_bundle(db: &Transaction<'_>, row: &BundleRow) -> rusqlite::Result<()> {
    let (id, agent, at) = (row.id.as_str(), row.agent.as_str(), row.created_at.as_millis());
    let sql = "INSERT OR REPLACE INTO bundle VALUES (?1, ?2, ?3, ?4, ?5)";
    run(db, sql, params![id, agent, row.name, at, word(&row.context)])
}

fn set_rules(db: &Transaction<'_>, rules: &[ExposureRule]) -> rusqlite::Result<()> {
    run(db, "DELETE FROM exposure_rule", [])?;
    for rule in rules {
        let sql = "INSERT INTO exposure_rule (pattern, enabled) VALUES (?1, ?2)";
        run(db, sql, params![rule.pattern, rule.enabled])?;
    }
    Ok(())
}

fn put_source(db: &Transaction<'_>, row: &SourceRow) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO source VALUES (?1, ?2, ?3, ?4, ?5)",
        params![row.id.as_str(), row.kind, row.label, row.enabled, row.config.to_string()],
    )
}

fn put_ticket(db: &Transaction<'_>, row: &TicketRow) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO ticket VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row.token_hash,
            row.workload.as_str(),
            word(&row.class),
            row.expires_at.as_millis(),
            row.consumed_at.map(Timestamp::as_millis),
            word(&row.expose),
        ],
    )
}

fn prune_tickets(
    db: &Transaction<'_>,
    workload: &WorkloadName,
    before: Timestamp,
) -> rusqlite::Result<()> {
    let sql =
        "DELETE FROM ticket WHERE expires_at <= ?2 OR (workload = ?1 AND consumed_at IS NULL)";
    run(db, sql, params![workload.as_str(), before.as_millis()])
}

fn put_catalog(
    db: &Transaction<'_>,
    name: &WorkloadName,
    entries: &[Json],
) -> rusqlite::Result<()> {
    run(db, "DELETE FROM catalog_entry WHERE workload = ?1", [name.as_str()])?;
    for entry in entries {
        let sql = "INSERT INTO catalog_entry VALUES (?1, ?2)";
        run(db, sql, params![name.as_str(), entry.get()])?;
    }
    Ok(())
}
