//! The node's signature under its log.
//!
//! 1. A checkpoint is a line of the chain. Its detail says the line before it (`through`, `hash`), the
//!    calls that are under way (`open`), the key, and the signature over all of that.
//! 2. A stub says the same of a file that was removed when its time was over.
//! 3. Each has a label of its own, so that neither signature passes for the other, or for anything else
//!    this key signs.
//!
//! What an attacker would try: rewrite the chain from some line on, with good hashes. Every hash from
//! there on changes, and the checkpoints after it can't be signed again without the node's key.

use data_encoding::HEXLOWER;
use plexus_mesh_proto::identity::{NodeKey, PublicKey, Signature};
use serde_json::{Value, json};

use super::canonical;
use super::event::EventType;
use super::line::Head;
use super::open_calls::OpenCalls;
use super::record::Record;

/// Lines after which the head is signed.
pub(super) const EVERY: u64 = 1000;
/// Time after which the head is signed when there is something new.
pub(super) const AT_LEAST_MILLIS: i64 = 600_000;
/// More lines than this never follow a checkpoint: a batch is signed with its last line.
pub(super) const MOST_UNSIGNED: u64 = 4 * EVERY;

const CHECKPOINT: &str = "plexus audit checkpoint 1";
/// What a stub's signature is over.
pub(super) const STUB: &str = "plexus audit stub 1";

/// The checkpoint of `head`.
pub(super) fn checkpoint(key: &NodeKey, head: &Head, open: &OpenCalls) -> Record {
    let mut detail = json!({
        "hash": head.hash,
        "publicKey": key.public().to_string(),
        "through": head.seq,
    });
    if let Some(open) = open.listed() {
        detail["open"] = open;
    }
    sign(key, CHECKPOINT, &mut detail);
    Record::of_the_log(EventType::Checkpoint, detail)
}

/// Whether `detail` is a checkpoint of `head`; the key that signed it.
pub(super) fn check(detail: &Value, head: &Head) -> Result<PublicKey, &'static str> {
    if detail["through"] != head.seq || detail["hash"] != head.hash.as_str() {
        return Err("the checkpoint is not one of the line before it");
    }
    signer(CHECKPOINT, detail).ok_or("the checkpoint's signature is wrong")
}

/// Adds to `statement`, which names the key, that key's signature.
pub(super) fn sign(key: &NodeKey, label: &str, statement: &mut Value) {
    let signature = key.sign(&message(label, statement));
    statement["signature"] = HEXLOWER.encode(&signature.0).into();
}

/// The key that signed `statement`.
pub(super) fn signer(label: &str, statement: &Value) -> Option<PublicKey> {
    let mut statement = statement.clone();
    let signature = statement.as_object_mut()?.shift_remove("signature")?;
    let signature = HEXLOWER.decode(signature.as_str()?.as_bytes()).ok()?;
    let signature = Signature(signature.try_into().ok()?);
    let key: PublicKey = statement["publicKey"].as_str()?.parse().ok()?;
    key.verify(&message(label, &statement), &signature).then_some(key)
}

fn message(label: &str, statement: &Value) -> Vec<u8> {
    let mut text = format!("{label}\n");
    canonical::write(&mut text, statement);
    text.into_bytes()
}
