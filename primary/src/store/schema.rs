//! The tables, as a list of steps that only grows.

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use super::StoreError;

const STEPS: &[M<'_>] = &[
    M::up(
        "CREATE TABLE agent (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        label TEXT,
        issued_at INTEGER NOT NULL,
        code_hash BLOB UNIQUE,
        code_expires_at INTEGER,
        pat_hash BLOB UNIQUE,
        redeemed_at INTEGER,
        revoked_at INTEGER
    ) STRICT;
    CREATE TABLE tombstone (
        agent TEXT NOT NULL,
        capability TEXT NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (agent, capability)
    ) STRICT;
    CREATE TABLE bundle (
        id TEXT PRIMARY KEY,
        agent TEXT NOT NULL,
        name TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        context TEXT NOT NULL
    ) STRICT;
    CREATE TABLE replay (
        agent TEXT NOT NULL,
        capability TEXT NOT NULL,
        key TEXT NOT NULL,
        input BLOB NOT NULL,
        at INTEGER NOT NULL,
        audit_id TEXT,
        outcome TEXT NOT NULL,
        PRIMARY KEY (agent, capability, key)
    ) STRICT;
    CREATE TABLE spent_code (
        hash BLOB PRIMARY KEY,
        spent_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE grant_ (
        agent TEXT NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
        capability TEXT NOT NULL,
        verbs TEXT NOT NULL,
        constraint_ TEXT NOT NULL,
        bundle TEXT,
        granted_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        window TEXT NOT NULL,
        PRIMARY KEY (agent, capability, verbs, constraint_)
    ) STRICT;
    CREATE TABLE pending (
        id TEXT PRIMARY KEY,
        agent TEXT NOT NULL REFERENCES agent (id) ON DELETE CASCADE,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE exposure_rule (
        position INTEGER PRIMARY KEY,
        pattern TEXT NOT NULL,
        enabled INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE source (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        label TEXT,
        enabled INTEGER NOT NULL,
        config TEXT NOT NULL
    ) STRICT;
    CREATE TABLE ticket (
        token_hash BLOB PRIMARY KEY,
        workload TEXT NOT NULL,
        class TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        consumed_at INTEGER,
        expose TEXT NOT NULL
    ) STRICT;
    CREATE TABLE workload (
        name TEXT PRIMARY KEY,
        public_key BLOB NOT NULL UNIQUE,
        class TEXT NOT NULL,
        joined_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE audit_cursor (
        workload TEXT PRIMARY KEY REFERENCES workload (name) ON DELETE CASCADE,
        origin_seq INTEGER NOT NULL,
        log_seq INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE catalog_entry (
        workload TEXT NOT NULL REFERENCES workload (name) ON DELETE CASCADE,
        entry TEXT NOT NULL
    ) STRICT;
    CREATE INDEX catalog_entry_workload ON catalog_entry (workload);
    CREATE TABLE counter (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT;",
    ),
    M::up(
        "CREATE TABLE extension (
        source TEXT PRIMARY KEY,
        manifest TEXT NOT NULL,
        provenance TEXT NOT NULL,
        installed_at INTEGER NOT NULL
    ) STRICT;",
    ),
    M::up(
        "ALTER TABLE pending ADD COLUMN kind TEXT NOT NULL DEFAULT 'grant';
    ALTER TABLE extension ADD COLUMN agent TEXT;",
    ),
    M::up("ALTER TABLE grant_ ADD COLUMN extent TEXT;"),
    // The owner's own session asks under a name that may not be connected, or under none.
    M::up(
        "CREATE TABLE asked (
        id TEXT PRIMARY KEY,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        kind TEXT NOT NULL
    ) STRICT;
    INSERT INTO asked SELECT id, agent, session, state, created_at, expires_at, body, kind FROM pending;
    DROP TABLE pending;
    ALTER TABLE asked RENAME TO pending;
    CREATE TABLE granted (
        agent TEXT NOT NULL,
        capability TEXT NOT NULL,
        verbs TEXT NOT NULL,
        constraint_ TEXT NOT NULL,
        bundle TEXT,
        granted_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        window TEXT NOT NULL,
        extent TEXT,
        PRIMARY KEY (agent, capability, verbs, constraint_)
    ) STRICT;
    INSERT INTO granted SELECT * FROM grant_;
    DROP TABLE grant_;
    ALTER TABLE granted RENAME TO grant_;",
    ),
    M::up("ALTER TABLE audit_cursor ADD COLUMN origin_hash TEXT NOT NULL DEFAULT '';"),
];

/// Makes `connection` durable and brings its tables up to date.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Migrations::from_slice(STEPS).to_latest(connection)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_steps_apply_in_order() {
        Migrations::from_slice(STEPS).validate().unwrap();
    }
}
