//! Every change there is, and its SQL.

use plexus_mesh_proto::address::WorkloadName;
use plexus_mesh_proto::json::Json;
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::SourceId;
use plexus_shared::model::exposure::ExposureRule;
use plexus_shared::model::trust::Grant;
use plexus_shared::secret::CredentialHash;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Transaction, params};
use serde::Serialize;

use super::StoreError;
use super::rows::{AgentRow, ExtensionRow, PendingRow, SourceRow, TicketRow, WorkloadRow};

/// One change of what is kept.
#[derive(Clone, Debug)]
pub enum Change {
    /// An agent as it is now.
    PutAgent(AgentRow),
    /// A code that was redeemed: it is remembered, so that a replay is told so.
    SpendCode(CredentialHash, Timestamp),
    /// A grant as it is now.
    PutGrant(Grant),
    /// Every grant on ids that begin so, no more.
    DropGrants(String),
    /// A pending item as it is now.
    PutPending(PendingRow),
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
        /// Its own `seq`.
        origin_seq: u64,
        /// Our `seq`.
        log_seq: u64,
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
}

/// Applies `changes` in one transaction.
pub(super) fn commit(connection: &mut Connection, changes: &[Change]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for change in changes {
        apply(&transaction, change)?;
    }
    transaction.commit()?;
    Ok(())
}

fn apply(db: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::PutAgent(row) => put_agent(db, row),
        Change::SpendCode(hash, at) => run(
            db,
            "INSERT OR REPLACE INTO spent_code VALUES (?1, ?2)",
            params![hash.as_bytes(), at.as_millis()],
        ),
        Change::PutGrant(grant) => put_grant(db, grant),
        Change::DropGrants(prefix) => run(
            db,
            "DELETE FROM grant_ WHERE substr(capability, 1, length(?1)) = ?1",
            [prefix],
        ),
        Change::PutPending(row) => put_pending(db, row),
        Change::SetRules(rules) => set_rules(db, rules),
        Change::PutSource(row) => put_source(db, row),
        Change::DropSource(id) => run(db, "DELETE FROM source WHERE id = ?1", [id.as_str()]),
        Change::PutExtension(row) => run(
            db,
            "INSERT OR REPLACE INTO extension VALUES (?1, ?2, ?3, ?4)",
            params![
                row.source.as_str(),
                row.manifest,
                word(&row.provenance),
                row.installed_at.as_millis()
            ],
        ),
        Change::DropExtension(source) => {
            run(db, "DELETE FROM extension WHERE source = ?1", [source.as_str()])
        }
        Change::PutTicket(row) => put_ticket(db, row),
        Change::PruneTickets { workload, before } => run(
            db,
            "DELETE FROM ticket WHERE expires_at <= ?2 OR (workload = ?1 AND consumed_at IS NULL)",
            params![workload.as_str(), before.as_millis()],
        ),
        Change::PutWorkload(row) => run(
            db,
            "INSERT INTO workload VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET
             public_key = excluded.public_key, class = excluded.class, joined_at = excluded.joined_at",
            params![
                row.name.as_str(),
                row.public_key.as_bytes(),
                word(&row.class),
                row.joined_at.as_millis()
            ],
        ),
        Change::PutCursor { workload, origin_seq, log_seq } => run(
            db,
            "INSERT INTO audit_cursor VALUES (?1, ?2, ?3) ON CONFLICT (workload) DO UPDATE SET
             origin_seq = excluded.origin_seq, log_seq = excluded.log_seq",
            params![workload.as_str(), origin_seq, log_seq],
        ),
        Change::PutCatalog { workload, entries } => put_catalog(db, workload, entries),
        Change::SetRevision(revision) => {
            run(db, "INSERT OR REPLACE INTO counter VALUES ('revision', ?1)", [revision])
        }
    }
}

fn run(db: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute(params).map(|_| ())
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
        "INSERT INTO agent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET
         kind = excluded.kind, label = excluded.label, issued_at = excluded.issued_at,
         code_hash = excluded.code_hash, code_expires_at = excluded.code_expires_at,
         pat_hash = excluded.pat_hash, redeemed_at = excluded.redeemed_at",
        params![
            row.id.as_str(),
            word(&row.kind),
            row.label,
            row.issued_at.as_millis(),
            row.code.as_ref().map(|(hash, _)| hash.as_bytes()),
            row.code.as_ref().map(|(_, at)| at.as_millis()),
            row.pat.as_ref().map(CredentialHash::as_bytes),
            row.redeemed_at.map(Timestamp::as_millis),
        ],
    )
}

fn put_grant(db: &Transaction<'_>, grant: &Grant) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO grant_ VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            grant.agent.as_str(),
            grant.capability.as_str(),
            word(&grant.verbs),
            grant.granted_at.as_millis(),
            grant.expires_at.as_millis(),
            word(&grant.window),
        ],
    )
}

fn put_pending(db: &Transaction<'_>, row: &PendingRow) -> rusqlite::Result<()> {
    run(
        db,
        "INSERT OR REPLACE INTO pending VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row.id.as_str(),
            row.agent.as_str(),
            row.session.as_str(),
            word(&row.state),
            row.created_at.as_millis(),
            row.expires_at.as_millis(),
            word(&row.asks),
        ],
    )
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
