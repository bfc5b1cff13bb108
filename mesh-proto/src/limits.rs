//! Every cap of the protocol, in one place: bytes, counts and times.
//!
//! A frame's cap counts its kind byte and body, not its four length bytes.

use std::time::Duration;

/// Bytes in one KiB.
const KIB: usize = 1024;

/// Bytes in one MiB.
const MIB: usize = 1024 * KIB;

/// The largest invoke or invoke result frame, in bytes.
pub const INVOKE_FRAME: usize = 16 * MIB;

/// The largest frame of an admitted peer's control stream, in bytes.
pub const CONTROL_FRAME: usize = MIB;

/// The largest frame that an unknown key may send or be sent (`Hello` and the join), in bytes.
pub const HANDSHAKE_FRAME: usize = KIB;

/// All that an unknown key may send on its connection, in bytes.
pub const ENROLL_EXCHANGE: usize = 4 * KIB;

/// How long an unknown key has for its one exchange.
pub const ENROLL_TIME: Duration = Duration::from_secs(5);

/// Connections that have not proved a known key, at any moment.
pub const UNAUTHENTICATED_CONNECTIONS: usize = 64;

/// A join ticket's text, in bytes.
pub const TICKET_TEXT: usize = 2 * KIB;

/// Candidate addresses in one ticket.
pub const CANDIDATES: usize = 16;

/// A candidate address, in bytes: the longest host name, a colon and a port.
pub const CANDIDATE: usize = 259;

/// A `Hello`'s software name, in bytes.
pub const SOFTWARE: usize = 64;

/// A workload or tenant name, in bytes.
pub const NAME: usize = 63;

/// Workload names in one address.
pub const WORKLOAD_DEPTH: usize = 8;

/// A bare capability id, in bytes.
pub const BARE_ID: usize = 200;

/// A full address, in bytes.
pub const ADDRESS: usize = (NAME + 1) * (WORKLOAD_DEPTH + 1) + BARE_ID;

/// Correlation ids, idempotency keys and agent ids, in bytes.
pub const CALL_ID: usize = 256;

/// A source's id, in bytes.
pub const SOURCE_ID: usize = 128;

/// Sources in one health report.
pub const HEALTH_SOURCES: usize = 256;

/// A source's health detail, in bytes.
pub const HEALTH_DETAIL: usize = KIB;

/// Entries of a whole catalog, and withdrawn ids of one change.
pub const CATALOG_ENTRIES: usize = 4096;

/// All entries of a whole catalog together, in bytes.
pub const CATALOG_BYTES: usize = 16 * MIB;

/// One catalog entry, in bytes.
pub const ENTRY_BYTES: usize = 256 * KIB;

/// Refused entries named in one acknowledgement.
pub const REFUSED_ENTRIES: usize = 1024;

/// The id and the reason of a refused entry, in bytes each.
pub const REFUSED_TEXT: usize = 256;

/// Lines in one audit batch.
pub const AUDIT_LINES: usize = 512;

/// What a sender puts into one control frame that carries a list, in bytes: the cap less room for
/// the frame's fixed fields.
pub const BATCH_BYTES: usize = CONTROL_FRAME - KIB;

/// Calls under way on one tunnel.
pub const CONCURRENT_CALLS: u32 = 256;

/// Bytes of all calls together that are held in memory, unless configured otherwise.
pub const IN_FLIGHT_BYTES: usize = 256 * MIB;

/// How often an idle tunnel is kept alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a silent tunnel counts as up.
pub const IDLE: Duration = Duration::from_secs(15);

/// The shortest agreed interval between health reports.
pub const HEALTH_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// The longest agreed interval between health reports.
pub const HEALTH_INTERVAL_MAX: Duration = Duration::from_secs(60);

// A hello and a join request, each with its length bytes, fit an unknown key's allowance.
const _: () = assert!(2 * (4 + HANDSHAKE_FRAME) <= ENROLL_EXCHANGE);
