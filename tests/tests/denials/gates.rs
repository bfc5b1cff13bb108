//! The gates of a call in their order, and what each refuses with at each door.

use Cell::{Inside, Never, Told};

/// Every gate, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    Guard,
    Frozen,
    Body,
    Signature,
    Rate,
    Exp,
    Session,
    Revoked,
    Unknown,
    Hidden,
    Verbs,
    Constraint,
    Binding,
    Schema,
    Down,
    Key,
    Audit,
    Spent,
}

/// How a call comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// With a token, to a capability of this machine.
    Token,
    /// With a session alone.
    Session,
    /// With a token, to a workflow; what is amiss is amiss with its member, where it can be.
    Member,
    /// With a token, to a capability of another machine.
    Mounted,
}

pub(crate) const DOORS: [Door; 4] = [Door::Token, Door::Session, Door::Member, Door::Mounted];

/// What comes out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell {
    /// This status and code.
    Told(u16, &'static str),
    /// The workflow ran, and says that its member was refused with this code.
    Inside(&'static str),
    /// It can't be, and why.
    Never(&'static str),
}

/// A gate: as docs/PROTOCOL.md calls it, and what comes out at each of [`DOORS`].
pub(crate) struct Row {
    pub(crate) gate: Gate,
    pub(crate) told: &'static str,
    pub(crate) at: [Cell; 4],
}

const fn alike(gate: Gate, told: &'static str, cell: Cell) -> Row {
    Row { gate, told, at: [cell; 4] }
}

const fn row(gate: Gate, told: &'static str, at: [Cell; 4]) -> Row {
    Row { gate, told, at }
}

const NO_TOKEN: Cell = Never("there is no token");
const MALFORMED: &str = "schema_validation_failed";
const COVERS: &str = "one scope covers the id, every verb, and the input";

pub(crate) const TABLE: [Row; 18] = [
    alike(Gate::Guard, "guard", Told(403, "host_forbidden")),
    alike(Gate::Frozen, "the owner has frozen the gateway", Told(503, "source_unavailable")),
    alike(Gate::Body, "body: type, size, time, shape", Told(400, MALFORMED)),
    row(
        Gate::Signature,
        "the token is one of ours",
        [
            Told(401, "grant_required"),
            NO_TOKEN,
            Told(401, "grant_required"),
            Told(401, "grant_required"),
        ],
    ),
    alike(
        Gate::Rate,
        "requests and calls of this agent are within its limits (a token's requests are counted before its body is read)",
        Told(429, "rate_limited"),
    ),
    row(
        Gate::Exp,
        "the token has not ended",
        [
            Told(401, "token_expired"),
            NO_TOKEN,
            Told(401, "token_expired"),
            Told(401, "token_expired"),
        ],
    ),
    alike(Gate::Session, "its session lives", Told(401, "session_expired")),
    row(
        Gate::Revoked,
        "it was not revoked",
        [
            Told(401, "token_revoked"),
            NO_TOKEN,
            Told(401, "token_revoked"),
            Told(401, "token_revoked"),
        ],
    ),
    row(
        Gate::Unknown,
        "the capability is there",
        [
            Told(404, "unknown_capability"),
            Told(404, "unknown_capability"),
            // What removes a member ends the tokens that carry it.
            Told(401, "token_revoked"),
            Told(404, "unknown_capability"),
        ],
    ),
    row(
        Gate::Hidden,
        "its owner shows it",
        [
            Told(403, "capability_unexposed"),
            // It asks for its own grant, and who asks has no scope.
            Told(404, "unknown_capability"),
            Inside("capability_unexposed"),
            Told(403, "capability_unexposed"),
        ],
    ),
    row(
        Gate::Verbs,
        COVERS,
        [
            Told(401, "grant_required"),
            Told(401, "approval_required"),
            Never("a workflow's token has what its members need"),
            Told(401, "grant_required"),
        ],
    ),
    row(
        Gate::Constraint,
        COVERS,
        [
            Told(401, "grant_required"),
            Told(401, "approval_required"),
            Never("a member's scope is not constrained"),
            Told(401, "grant_required"),
        ],
    ),
    row(
        Gate::Binding,
        "a single use: the call is the one that was approved",
        [
            Told(401, "grant_required"),
            NO_TOKEN,
            Told(401, "grant_required"),
            Told(401, "grant_required"),
        ],
    ),
    row(
        Gate::Schema,
        "the input has the shape of `io.input`",
        [Told(422, MALFORMED), Told(422, MALFORMED), Inside(MALFORMED), Told(422, MALFORMED)],
    ),
    row(
        Gate::Down,
        "its home is up",
        [
            Told(503, "source_unavailable"),
            Told(503, "source_unavailable"),
            Inside("source_unavailable"),
            Told(503, "capability_unavailable"),
        ],
    ),
    alike(Gate::Key, "the idempotency key is new", Told(422, MALFORMED)),
    alike(Gate::Audit, "the log can be written", Told(400, "internal_error")),
    row(
        Gate::Spent,
        "the single use is unused",
        [
            Told(401, "grant_required"),
            NO_TOKEN,
            Told(401, "grant_required"),
            Told(401, "grant_required"),
        ],
    ),
];

impl Gate {
    /// What comes out at `door`.
    pub(crate) fn at(self, door: Door) -> Cell {
        let row = TABLE.iter().find(|row| row.gate == self);
        row.map_or(Never("no row"), |row| row.at[door as usize])
    }

    /// What refuses a call before there is anyone to record it of.
    pub(crate) fn at_the_edge(self, door: Door) -> bool {
        self <= Self::Rate || (door, self) == (Door::Session, Self::Session)
    }
}

/// What comes out at `door` of a call that two gates refuse: what the earlier one says.
pub(crate) fn both(door: Door, first: Gate, second: Gate) -> Cell {
    match (first, second) {
        // A token's requests are counted before their body is read.
        (Gate::Body, Gate::Rate) => second.at(door),
        // Behind a dead session there is no agent whose requests could be counted.
        (Gate::Rate, Gate::Session) if door == Door::Session => second.at(door),
        // A hidden one is no other than one that never was, to whoever has no scope for it.
        (Gate::Hidden, Gate::Verbs) => Gate::Unknown.at(door),
        // A refusal that can't be recorded is not told either.
        (first, Gate::Audit) if !first.at_the_edge(door) => second.at(door),
        _ => first.at(door),
    }
}

/// Whether two faults can be in one call.
pub(crate) fn meet(first: Gate, second: Gate) -> bool {
    let of_what_is_there =
        [Gate::Hidden, Gate::Constraint, Gate::Binding, Gate::Schema, Gate::Down];
    match (first, second) {
        // Without a capability there is nothing of it to be wrong.
        (Gate::Unknown, second) => {
            !of_what_is_there.contains(&second) && ![Gate::Key, Gate::Spent].contains(&second)
        }
        // Each of these is another token.
        (Gate::Verbs, Gate::Constraint | Gate::Binding | Gate::Key | Gate::Spent)
        | (Gate::Constraint, Gate::Binding | Gate::Spent)
        | (Gate::Hidden | Gate::Binding, Gate::Spent)
        | (Gate::Hidden, Gate::Binding) => false,
        _ => true,
    }
}
