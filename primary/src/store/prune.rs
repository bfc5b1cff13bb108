//! What has ended, and is kept no longer.

use plexus_shared::clock::Timestamp;
use rusqlite::Transaction;

use super::write::run;

/// Up to when what has ended is let go.
#[derive(Clone, Copy, Debug)]
pub struct Prune {
    /// Grants that ended by this moment.
    pub grants: Timestamp,
    /// Questions that were settled, and stopped waiting by this moment anyway; and codes that were
    /// redeemed by it.
    pub settled: Timestamp,
}

pub(super) fn prune(db: &Transaction<'_>, which: &Prune) -> rusqlite::Result<()> {
    let Prune { grants, settled } = which;
    run(db, "DELETE FROM grant_ WHERE expires_at <= ?1", [grants.as_millis()])?;
    let pending = "DELETE FROM pending WHERE state <> 'pending' AND expires_at <= ?1";
    run(db, pending, [settled.as_millis()])?;
    run(db, "DELETE FROM spent_code WHERE spent_at <= ?1", [settled.as_millis()])
}
