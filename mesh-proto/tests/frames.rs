//! The bytes of every frame, written out by hand, and the laws that hold for any bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fmt::Debug;

use plexus_mesh_proto::{
    audit::{AuditAck, AuditBatch},
    bounded::{List, Text},
    catalog::{Mount, MountAck, MountMode, RefusedEntry},
    close::{Goodbye, GoodbyeReason},
    codec::{BodyError, DecodeError, EncodeError, HEADER_LEN, decode, encode},
    enroll::{Enroll, EnrollRefusal, EnrollResult},
    frame::{FrameKind, Message},
    health::{Health, HealthState, SourceHealth},
    hello::Hello,
    identity::Signature,
    invoke::{Invoke, InvokeResult},
    io::{ReadError, ToPrimary, ToProxy, read_frame, read_message, write_frame},
    json::Json,
    limits,
    ticket::JoinToken,
};
use proptest::prelude::*;

fn json(text: &str) -> Json {
    text.parse().unwrap()
}

fn text<const MAX: usize>(text: &str) -> Text<MAX> {
    text.parse().unwrap()
}

fn list<T: Debug, const MAX: usize>(items: Vec<T>) -> List<T, MAX> {
    List::new(items).unwrap()
}

/// The message is these bytes and these bytes are the message.
fn assert_golden<M: Message + PartialEq + Debug>(message: &M, bytes: &[u8]) {
    assert_eq!(encode(message).unwrap(), bytes);
    assert_eq!(bytes[4], M::KIND.number());
    assert_eq!(&decode::<M>(M::KIND, &bytes[HEADER_LEN..]).unwrap(), message);
}

fn hello() -> Hello {
    Hello { proto_min: 1, proto_max: 1, software: text("plexus 0.1"), health_interval_ms: 15_000 }
}

#[test]
fn golden_hello() {
    assert_golden(
        &hello(),
        b"\x00\x00\x00\x10\x01\
          \x01\x01\x0aplexus 0.1\x98\x75",
    );
}

#[test]
fn golden_enroll() {
    let enroll =
        Enroll { token: JoinToken::from_bytes([0x11; 32]), signature: Signature([0x22; 64]) };
    let bytes = [&b"\x00\x00\x00\x61\x02"[..], &[0x11; 32], &[0x22; 64]].concat();
    assert_golden(&enroll, &bytes);
}

#[test]
fn golden_enroll_result() {
    assert_golden(&EnrollResult::Joined, b"\x00\x00\x00\x02\x03\x00");
    let numbers = [
        (EnrollRefusal::Malformed, 1),
        (EnrollRefusal::BadToken, 2),
        (EnrollRefusal::TokenConsumed, 3),
        (EnrollRefusal::TokenExpired, 4),
        (EnrollRefusal::WorkloadTaken, 5),
        (EnrollRefusal::EncryptionRequired, 6),
        (EnrollRefusal::Revoked, 7),
        (EnrollRefusal::PersistFailed, 8),
        (EnrollRefusal::ProtocolVersion, 9),
    ];
    assert_eq!(numbers.len(), EnrollRefusal::ALL.len());
    for (code, number) in numbers {
        assert_golden(&EnrollResult::Refused { code }, &[0, 0, 0, 3, 0x03, 1, number]);
    }
}

#[test]
fn golden_mount() {
    let mount = Mount {
        revision: 300,
        mode: MountMode::Delta,
        entries: list(vec![json(r#"{"a":1}"#)]),
        withdrawn: list(vec!["a.b.c".parse().unwrap()]),
        more: true,
    };
    assert_golden(
        &mount,
        b"\x00\x00\x00\x15\x10\
          \xac\x02\x01\
          \x01\x07{\"a\":1}\
          \x01\x05a.b.c\
          \x01",
    );
    let empty = Mount {
        revision: 0,
        mode: MountMode::Full,
        entries: List::default(),
        withdrawn: List::default(),
        more: false,
    };
    assert_golden(&empty, b"\x00\x00\x00\x06\x10\x00\x00\x00\x00\x00");
}

#[test]
fn golden_mount_ack() {
    let ack = MountAck {
        revision: 1,
        mounted: 2,
        refused: list(vec![RefusedEntry { id: text("x.y.z"), reason: text("no") }]),
    };
    assert_golden(
        &ack,
        b"\x00\x00\x00\x0d\x11\
          \x01\x02\x01\x05x.y.z\x02no",
    );
}

#[test]
fn golden_health() {
    let health = Health {
        seq: 1,
        overall: HealthState::Degraded,
        sources: list(vec![
            SourceHealth {
                source: text("fs"),
                state: HealthState::Unavailable,
                detail: Some(text("gone")),
            },
            SourceHealth { source: text("os"), state: HealthState::Ok, detail: None },
        ]),
    };
    assert_golden(
        &health,
        b"\x00\x00\x00\x13\x12\
          \x01\x01\x02\
          \x02fs\x02\x01\x04gone\
          \x02os\x00\x00",
    );
}

#[test]
fn golden_audit() {
    let batch = AuditBatch { lines: list(vec![json("1"), json("{}")]) };
    assert_golden(&batch, b"\x00\x00\x00\x07\x13\x02\x011\x02{}");
    assert_golden(&AuditAck { through: 128 }, b"\x00\x00\x00\x03\x14\x80\x01");
}

#[test]
fn golden_goodbye() {
    let numbers = [
        (GoodbyeReason::Leaving, 0),
        (GoodbyeReason::ShuttingDown, 1),
        (GoodbyeReason::Restarting, 2),
        (GoodbyeReason::Revoked, 3),
        (GoodbyeReason::Replaced, 4),
    ];
    assert_eq!(numbers.len(), GoodbyeReason::ALL.len());
    for (reason, number) in numbers {
        assert_golden(&Goodbye { reason }, &[0, 0, 0, 2, 0x1f, number]);
    }
}

#[test]
fn golden_invoke() {
    let invoke = Invoke {
        address: "local/nas/a.b.c".parse().unwrap(),
        id: "a.b.c".parse().unwrap(),
        input: Some(json(r#"{"p":"/"}"#)),
        correlation_id: text("c1"),
        idempotency_key: Some(text("k")),
        deadline_ms: 30_000,
        agent_id: text("ag"),
    };
    assert_golden(
        &invoke,
        b"\x00\x00\x00\x2e\x20\
          \x0flocal/nas/a.b.c\
          \x05a.b.c\
          \x01\x09{\"p\":\"/\"}\
          \x02c1\
          \x01\x01k\
          \xb0\xea\x01\
          \x02ag",
    );
}

#[test]
fn golden_invoke_result() {
    let result = InvokeResult { response: json(r#"{"ok":true}"#) };
    assert_golden(&result, b"\x00\x00\x00\x0d\x21\x0b{\"ok\":true}");
}

#[test]
fn frame_numbers_never_change() {
    let numbers: Vec<u8> = FrameKind::ALL.iter().map(|kind| kind.number()).collect();
    assert_eq!(numbers, [1, 2, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x1f, 0x20, 0x21]);
}

#[test]
fn bytes_after_a_value_are_refused() {
    let refusal = decode::<AuditAck>(FrameKind::AuditAck, &[1, 0]);
    assert!(matches!(refusal, Err(DecodeError::Malformed { source: BodyError::Trailing, .. })));
}

#[test]
fn a_padded_integer_is_refused() {
    let refusal = decode::<AuditAck>(FrameKind::AuditAck, &[0x81, 0x00]);
    assert!(matches!(refusal, Err(DecodeError::Malformed { source: BodyError::Padded, .. })));
}

#[test]
fn a_body_of_another_kind_is_refused() {
    assert_eq!(
        decode::<AuditAck>(FrameKind::Goodbye, &[0]),
        Err(DecodeError::Unexpected(FrameKind::Goodbye))
    );
}

#[test]
fn lists_and_texts_over_their_caps_are_refused() {
    let mut long_software = vec![1, 1, 65];
    long_software.extend([b'x'; 65]);
    long_software.push(0);
    assert!(decode::<Hello>(FrameKind::Hello, &long_software).is_err());

    let mut many_sources = vec![0, 0, 0x81, 0x02];
    many_sources.extend([0, 0, 0].repeat(limits::HEALTH_SOURCES + 1));
    assert!(decode::<Health>(FrameKind::Health, &many_sources).is_err());
}

#[test]
fn a_message_over_its_cap_is_not_written() {
    let long = format!("\"{}\"", "x".repeat(limits::INVOKE_FRAME));
    let refusal = encode(&InvokeResult { response: json(&long) });
    assert!(matches!(refusal, Err(EncodeError::TooLong { kind: FrameKind::InvokeResult, .. })));
}

#[tokio::test]
async fn messages_cross_a_stream_in_order_until_it_ends() {
    let (mut ours, mut theirs) = tokio::io::duplex(7);
    let writer = async move {
        write_frame(&mut ours, &hello()).await.unwrap();
        write_frame(&mut ours, &AuditAck { through: 3 }).await.unwrap();
    };
    let reader = async move {
        let first = ToProxy::read(&mut theirs).await.unwrap();
        assert!(matches!(first, Some(ToProxy::Hello(got)) if got == hello()));
        let second: Option<AuditAck> = read_message(&mut theirs).await.unwrap();
        assert_eq!(second, Some(AuditAck { through: 3 }));
        assert!(ToProxy::read(&mut theirs).await.unwrap().is_none());
    };
    tokio::join!(writer, reader);
}

#[tokio::test]
async fn the_largest_result_crosses_whole() {
    let longest = limits::INVOKE_FRAME - 1 - 4;
    let sent = InvokeResult { response: json(&format!("\"{}\"", "x".repeat(longest - 2))) };
    let bytes = encode(&sent).unwrap();
    assert_eq!(bytes.len(), 4 + limits::INVOKE_FRAME);
    let got = read_message::<InvokeResult>(&mut bytes.as_slice()).await;
    assert!(got.unwrap() == Some(sent));
}

#[tokio::test]
async fn headers_are_refused_before_their_bodies() {
    let refusal = |bytes: &'static [u8]| async move {
        match ToPrimary::read(&mut &bytes[..]).await {
            Err(ReadError::Decode(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(&[0, 0, 0, 0, 1]).await, DecodeError::Empty);
    assert_eq!(refusal(&[0, 0, 0, 1, 0x15]).await, DecodeError::UnknownKind(0x15));
    assert_eq!(refusal(&[0, 0, 0, 1, 0x11]).await, DecodeError::Unexpected(FrameKind::MountAck));
    assert_eq!(
        refusal(&[0, 0, 4, 1, 0x01]).await,
        DecodeError::TooLong { kind: FrameKind::Hello, len: 1025, max: 1024 }
    );
    assert_eq!(
        refusal(&[0xff, 0xff, 0xff, 0xff, 0x10]).await,
        DecodeError::TooLong { kind: FrameKind::Mount, len: u32::MAX, max: limits::CONTROL_FRAME }
    );
}

#[tokio::test]
async fn a_stream_cut_within_a_frame_is_not_a_clean_end() {
    let whole = encode(&hello()).unwrap();
    for cut in 1..whole.len() {
        let end = read_frame(&mut &whole[..cut], FrameKind::ALL).await;
        assert!(matches!(end, Err(ReadError::Truncated)), "cut at {cut}");
    }
    let end = read_frame(&mut &whole[..0], FrameKind::ALL).await;
    assert!(matches!(end, Ok(None)));
}

/// Whatever bytes decode to is encoded as those bytes, and as no others.
fn assert_total<M: Message>(body: &[u8]) {
    if let Ok(message) = decode::<M>(M::KIND, body) {
        assert_eq!(&encode(&message).unwrap()[HEADER_LEN..], body);
        let longer = [body, &[0]].concat();
        assert!(decode::<M>(M::KIND, &longer).is_err());
    }
}

proptest! {
    #[test]
    fn any_body_is_its_message_or_an_error(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            proptest::collection::vec(0u8..4, 0..24),
        ],
    ) {
        assert_total::<Hello>(&body);
        assert_total::<Enroll>(&body);
        assert_total::<EnrollResult>(&body);
        assert_total::<Mount>(&body);
        assert_total::<MountAck>(&body);
        assert_total::<Health>(&body);
        assert_total::<AuditBatch>(&body);
        assert_total::<AuditAck>(&body);
        assert_total::<Goodbye>(&body);
        assert_total::<Invoke>(&body);
        assert_total::<InvokeResult>(&body);
    }

    #[test]
    fn an_invoke_survives_the_wire(
        id in "[a-z]{1,8}\\.[a-z]{1,8}\\.[a-z]{1,8}",
        input in proptest::option::of(any::<String>()),
        correlation in "\\PC{0,60}",
        key in proptest::option::of("\\PC{0,60}"),
        deadline_ms: u32,
    ) {
        let sent = Invoke {
            address: format!("local/nas/{id}").parse().unwrap(),
            id: id.parse().unwrap(),
            input: input.map(|text| json(&serde_json::to_string(&text).unwrap())),
            correlation_id: Text::truncated(correlation),
            idempotency_key: key.map(Text::truncated),
            deadline_ms,
            agent_id: text("agent"),
        };
        let bytes = encode(&sent).unwrap();
        prop_assert_eq!(decode::<Invoke>(FrameKind::Invoke, &bytes[HEADER_LEN..]).unwrap(), sent);
    }

    #[test]
    fn a_damaged_frame_is_another_message_or_an_error(at in 0usize..100, flip in 1u8..) {
        let mut bytes = encode(&Invoke {
            address: "local/nas/a.b.c".parse().unwrap(),
            id: "a.b.c".parse().unwrap(),
            input: Some(json(r#"{"path":"/x","n":[1,2]}"#)),
            correlation_id: text("correlation"),
            idempotency_key: None,
            deadline_ms: 1_000,
            agent_id: text("agent"),
        }).unwrap();
        let at = HEADER_LEN + at % (bytes.len() - HEADER_LEN);
        bytes[at] ^= flip;
        assert_total::<Invoke>(&bytes[HEADER_LEN..]);
    }
}
