//! Writes the seed corpora: real frames and tickets, and damaged ones.
//!
//! `cargo run --manifest-path tests/fuzz/Cargo.toml --bin seeds`, after a change of the wire.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use plexus_mesh_proto::{
    audit::{AuditAck, AuditBatch},
    bounded::{List, Text},
    catalog::{Mount, MountAck, MountMode, RefusedEntry},
    close::{Goodbye, GoodbyeReason},
    codec::encode,
    enroll::{Enroll, EnrollRefusal, EnrollResult},
    frame::Message,
    health::{Health, HealthState, SourceHealth},
    hello::Hello,
    identity::{NodeKey, PublicKey},
    invoke::{Invoke, InvokeResult},
    json::Json,
    ticket::{JoinToken, Ticket},
};
use zeroize::Zeroizing;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    write_all(&corpus.join("frames"), frames())?;
    write_all(&corpus.join("ticket"), tickets())
}

fn write_all(folder: &PathBuf, seeds: Vec<(String, Vec<u8>)>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = [
        control_frames(),
        catalog_frames(),
        join_frames(),
        call_frames(),
    ]
    .concat();
    let whole: Vec<u8> = seeds.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    let hello = seeds[0].1.clone();
    seeds.push(("damaged-cut".into(), hello[..9].to_vec()));
    seeds.push(("damaged-trailing".into(), damaged(&hello, 3, 1)));
    seeds.push(("damaged-unknown-kind".into(), damaged(&hello, 4, 0x40)));
    seeds.push(("damaged-huge".into(), damaged(&hello, 0, 0xff)));
    seeds.push(("damaged-padded".into(), vec![0, 0, 0, 3, 0x14, 0x81, 0]));
    seeds.push(("damaged-empty".into(), vec![0, 0, 0, 0, 1]));
    seeds.push(("stream".into(), whole));
    seeds
}

fn frame<M: Message>(name: &str, message: &M) -> (String, Vec<u8>) {
    (name.into(), encode(message).expect("a seed has a frame"))
}

fn damaged(bytes: &[u8], at: usize, flip: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= flip;
    bytes
}

fn json(text: &str) -> Json {
    text.parse().expect("a seed is JSON")
}

fn control_frames() -> Vec<(String, Vec<u8>)> {
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        software: Text::truncated("plexus-proxy 0.1.0"),
        health_interval_ms: 15_000,
    };
    let health = Health {
        seq: 7,
        overall: HealthState::Degraded,
        sources: List::truncated(vec![SourceHealth {
            source: Text::truncated("jellyfin"),
            state: HealthState::Unavailable,
            detail: Some(Text::truncated("connection refused")),
        }]),
    };
    let batch = AuditBatch {
        lines: List::truncated(vec![json(r#"{"seq":1,"type":"invoke"}"#), json("[]")]),
    };
    let goodbye = Goodbye {
        reason: GoodbyeReason::Restarting,
    };
    vec![
        frame("hello", &hello),
        frame("health", &health),
        frame("audit-batch", &batch),
        frame("audit-ack", &AuditAck { through: 300 }),
        frame("goodbye", &goodbye),
    ]
}

fn catalog_frames() -> Vec<(String, Vec<u8>)> {
    let id = "jellyfin.library.scan";
    let mount = Mount {
        revision: 300,
        mode: MountMode::Delta,
        entries: List::truncated(vec![json(
            r#"{"id":"jellyfin.library.scan","verbs":["execute"]}"#,
        )]),
        withdrawn: List::truncated(vec![id.parse().expect("a seed is an id")]),
        more: true,
    };
    let ack = MountAck {
        revision: 300,
        mounted: 1,
        refused: List::truncated(vec![RefusedEntry {
            id: Text::truncated("bad id"),
            reason: Text::truncated("not an id"),
        }]),
    };
    vec![frame("mount", &mount), frame("mount-ack", &ack)]
}

fn join_frames() -> Vec<(String, Vec<u8>)> {
    let node = NodeKey::from_seed(Zeroizing::new([1; 32])).expect("a seed is a key");
    let primary = PublicKey([2; 32]);
    let enroll = Enroll::new(&node, &primary, &[3; 32], JoinToken::from_bytes([4; 32]));
    let refused = EnrollResult::Refused {
        code: EnrollRefusal::TokenExpired,
    };
    vec![
        frame("enroll", &enroll),
        frame("enroll-joined", &EnrollResult::Joined),
        frame("enroll-refused", &refused),
    ]
}

fn call_frames() -> Vec<(String, Vec<u8>)> {
    let id = "jellyfin.library.scan";
    let address = format!("local/nas/{id}");
    let invoke = Invoke {
        address: address.parse().expect("a seed is an address"),
        id: id.parse().expect("a seed is an id"),
        input: Some(json(r#"{"path":"/media","depth":[1,2.50,null]}"#)),
        correlation_id: Text::truncated("c-1"),
        idempotency_key: Some(Text::truncated("k-1")),
        deadline_ms: 30_000,
        agent_id: Text::truncated("claude-code"),
    };
    let result = InvokeResult {
        response: json(r#"{"ok":true,"output":{"scanned":3}}"#),
    };
    vec![frame("invoke", &invoke), frame("invoke-result", &result)]
}

fn tickets() -> Vec<(String, Vec<u8>)> {
    let one = ticket(&["192.168.1.2:7078"]);
    let many = ticket(&["10.0.0.1:7078", "[fd00::1]:7078", "laptop.local:7078"]);
    let mut swapped = one.clone();
    swapped.swap(20, 60);
    vec![
        ("one-address".into(), one.clone()),
        ("many-addresses".into(), many),
        ("padded".into(), [b" ", one.as_slice(), b"\n"].concat()),
        ("damaged-swapped".into(), swapped),
        ("damaged-cut".into(), one[..one.len() / 2].to_vec()),
        ("damaged-prefix".into(), one[4..].to_vec()),
        ("body".into(), body()),
        ("body-version".into(), vec![2, 0, 0]),
    ]
}

fn ticket(addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses
        .iter()
        .map(|address| address.parse().expect("a seed is an address"))
        .collect();
    let ticket = Ticket {
        tenant: "local".parse().expect("a seed is a name"),
        workload: "nas".parse().expect("a seed is a name"),
        addresses: List::truncated(addresses),
        primary_key: PublicKey([2; 32]),
        token: JoinToken::from_bytes([4; 32]),
        expires_at_ms: 1_800_000_000_000,
    };
    let text = ticket.encode().expect("a seed has a text");
    text.as_bytes().to_vec()
}

/// A ticket's structure without base32 and checksum.
fn body() -> Vec<u8> {
    [
        &b"\x01\x05local\x03nas\x01\x06host:1"[..],
        &[2; 32],
        &[4; 32],
        &[0x80, 0x01],
    ]
    .concat()
}
