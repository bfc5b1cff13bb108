//! A record as a line of the chain.
//!
//! Only `seq`, `prev` and `hash` depend on the line before; everything else is spelled, and hashed
//! as far as it can be, before the writer's lock is taken. The members of a line are written here in
//! their canonical order, so the pieces are joined without sorting anything again.

use std::fmt::Write;

use data_encoding::HEXLOWER;
use ring::digest;
use serde::Serialize;
use serde_json::Value;

use super::canonical;
use super::event::{Attribution, EventType};
use super::record::{Record, Stamp};
use crate::model::plain;

/// What the first line says of the line before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The last line of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Its number; 0 when there is no line yet.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

impl Head {
    /// The head of an empty chain.
    pub fn genesis() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned() }
    }
}

/// A line but for its place in the chain.
pub(super) struct Body {
    /// `{` and the members before `hash`.
    front: String,
    /// The members between `hash` and `prev`.
    middle: String,
    /// The members after `seq` and `}`.
    back: String,
    /// Fed with everything up to the value of `prev`.
    digest: digest::Context,
}

impl Body {
    pub(super) fn new(record: &Record, stamp: &Stamp) -> Self {
        let mut members = Members::new("{");
        members.text("agentId", record.agent.as_ref().map(|id| id.as_str()));
        members.text("at", Some(&stamp.at.to_string()));
        members.attribution(record.attribution.as_ref());
        members.text("capabilityId", record.capability.as_deref());
        members.text("correlationId", record.correlation.as_ref().map(|id| id.as_str()));
        members.value("detail", record.detail.as_ref().map(|kept| kept.as_value()));
        let front = members.out;

        let mut members = Members::new("");
        members.text("id", Some(stamp.id.as_str()));
        members.value("input", record.input.as_ref().map(|kept| kept.as_value()));
        members.text("jti", record.jti.as_ref().map(|id| id.as_str()));
        if let Some(origin) = &stamp.origin {
            members.key("origin");
            members.out.push_str("{\"hash\":");
            canonical::write_string(&mut members.out, &origin.hash);
            members.out.push_str(",\"id\":");
            canonical::write_string(&mut members.out, origin.id.as_str());
            let _ = write!(members.out, ",\"seq\":{}}}", origin.seq);
        }
        members.text("outcome", record.outcome.map(|outcome| outcome.as_str()));
        members.value("output", record.output.as_ref().map(|kept| kept.as_value()));
        let middle = members.out;

        let mut members = Members::new("");
        members.text("sessionId", record.session.as_ref().map(|id| id.as_str()));
        members.text("tier", Some(stamp.tier.as_str()));
        members.text("type", Some(record.event_type.as_str()));
        if let Some(verbs) = record.verbs {
            members.key("verbs");
            let names: Vec<_> = verbs.iter().map(|verb| format!("\"{}\"", verb.as_str())).collect();
            let _ = write!(members.out, "[{}]", names.join(","));
        }
        members.text("workload", stamp.workload.as_deref());
        let back = members.out + "}";

        let mut digest = digest::Context::new(&digest::SHA256);
        for part in [&front, ",", &middle, ",\"prev\":\""] {
            digest.update(part.as_bytes());
        }
        Self { front, middle, back, digest }
    }

    /// Appends the line that follows `head`, newline and all; returns the head it makes.
    pub(super) fn follow(&self, head: &Head, out: &mut Vec<u8>) -> Head {
        let seq = head.seq + 1;
        let place = format!("{}\",\"seq\":{seq},", head.hash);
        let mut digest = self.digest.clone();
        digest.update(place.as_bytes());
        digest.update(self.back.as_bytes());
        let hash = HEXLOWER.encode(digest.finish().as_ref());
        let (front, middle, back) = (&self.front, &self.middle, &self.back);
        for part in
            [front, ",\"hash\":\"", &hash, "\",", middle, ",\"prev\":\"", &place, back, "\n"]
        {
            out.extend_from_slice(part.as_bytes());
        }
        Head { seq, hash }
    }
}

struct Members {
    out: String,
    opening: usize,
}

impl Members {
    fn new(opening: &str) -> Self {
        Self { out: opening.to_owned(), opening: opening.len() }
    }

    fn key(&mut self, key: &str) {
        if self.out.len() > self.opening {
            self.out.push(',');
        }
        canonical::write_string(&mut self.out, key);
        self.out.push(':');
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.key(key);
            canonical::write_string(&mut self.out, text);
        }
    }

    fn value(&mut self, key: &str, value: Option<&Value>) {
        if let Some(value) = value {
            self.key(key);
            canonical::write(&mut self.out, value);
        }
    }

    fn attribution(&mut self, attribution: Option<&Attribution>) {
        let Some(attribution) = attribution else { return };
        self.key("attribution");
        let mut inner = Self::new("{");
        inner.text("agent", Some(attribution.agent.as_str()));
        inner.text("grantRef", attribution.grant_ref.as_deref());
        inner.text("policyRef", attribution.policy_ref.as_deref());
        inner.text("principal", attribution.principal.as_deref());
        self.out.push_str(&inner.out);
        self.out.push('}');
    }
}

/// What is wrong with a line by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LineFault {
    #[error("the line is not JSON")]
    NotJson,
    #[error("the line has no {0:?}")]
    Missing(&'static str),
    #[error("the line is not in canonical form")]
    NotCanonical,
    #[error("the line does not match its hash: it was changed after it was written")]
    WrongHash,
}

/// A line that is what its hash says.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) prev: String,
    pub(super) head: Head,
    /// What it says when it is a checkpoint of this very log.
    pub(super) checkpoint: Option<Value>,
}

/// Checks `line`, without its newline, by itself.
pub(super) fn check(line: &[u8]) -> Result<Link, LineFault> {
    let mut value = plain::read(line).map_err(|_| LineFault::NotJson)?;
    let seq = value.get("seq").and_then(Value::as_u64).ok_or(LineFault::Missing("seq"))?;
    let text = |key| {
        let text = value.get(key).and_then(Value::as_str);
        text.map(str::to_owned).ok_or(LineFault::Missing(key))
    };
    let (prev, hash) = (text("prev")?, text("hash")?);

    let mut canonical = String::with_capacity(line.len());
    canonical::write(&mut canonical, &value);
    if canonical.as_bytes() != line {
        return Err(LineFault::NotCanonical);
    }
    if let Some(members) = value.as_object_mut() {
        members.shift_remove("hash");
    }
    canonical.clear();
    canonical::write(&mut canonical, &value);
    if HEXLOWER.encode(&crate::secret::sha256(canonical.as_bytes())) != hash {
        return Err(LineFault::WrongHash);
    }
    let is_checkpoint =
        value["type"] == EventType::Checkpoint.as_str() && value["origin"].is_null();
    let checkpoint = is_checkpoint.then(|| value["detail"].take());
    Ok(Link { prev, head: Head { seq, hash }, checkpoint })
}

/// The number of `line`, unchecked.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Seq {
        seq: u64,
    }
    serde_json::from_slice::<Seq>(line).ok().map(|line| line.seq)
}
