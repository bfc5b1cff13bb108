//! Any bytes, as streams of frames and as the body of every kind: an error or a value, and a value
//! is encoded as the very bytes it came from.

#![no_main]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use libfuzzer_sys::fuzz_target;
use plexus_mesh_proto::{
    audit::{AuditAck, AuditBatch},
    catalog::{Mount, MountAck},
    close::Goodbye,
    codec::{HEADER_LEN, RawFrame, decode, encode},
    enroll::{Enroll, EnrollResult},
    frame::{FrameKind, Message},
    health::Health,
    hello::Hello,
    invoke::{Invoke, InvokeResult},
    io::{ToPrimary, ToProxy, read_frame},
};

fuzz_target!(|data: &[u8]| {
    let mut stream = data;
    while let Ok(Some(frame)) = ready(read_frame(&mut stream, FrameKind::ALL)) {
        check(frame.kind, &frame.body);
        check_dispatch(&frame);
    }
    let mut stream = data;
    while let Ok(Some(_)) = ready(ToPrimary::read(&mut stream)) {}
    let mut stream = data;
    while let Ok(Some(_)) = ready(ToProxy::read(&mut stream)) {}
    for kind in FrameKind::ALL {
        check(*kind, data);
    }
});

/// A reader over a slice never waits.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a slice is always ready"),
    }
}

fn check(kind: FrameKind, body: &[u8]) {
    match kind {
        FrameKind::Hello => check_as::<Hello>(body),
        FrameKind::Enroll => check_as::<Enroll>(body),
        FrameKind::EnrollResult => check_as::<EnrollResult>(body),
        FrameKind::Mount => check_as::<Mount>(body),
        FrameKind::MountAck => check_as::<MountAck>(body),
        FrameKind::Health => check_as::<Health>(body),
        FrameKind::AuditBatch => check_as::<AuditBatch>(body),
        FrameKind::AuditAck => check_as::<AuditAck>(body),
        FrameKind::Goodbye => check_as::<Goodbye>(body),
        FrameKind::Invoke => check_as::<Invoke>(body),
        FrameKind::InvokeResult => check_as::<InvokeResult>(body),
    }
}

fn check_as<M: Message>(body: &[u8]) {
    let Ok(message) = decode::<M>(M::KIND, body) else {
        return;
    };
    if body.len() < M::KIND.max_len() {
        let again = encode(&message).expect("a decoded message has a frame");
        assert_eq!(&again[HEADER_LEN..], body);
    }
}

/// A set decodes its own kinds and no other.
fn check_dispatch(frame: &RawFrame) {
    assert!(ToPrimary::KINDS.contains(&frame.kind) || ToPrimary::decode(frame).is_err());
    assert!(ToProxy::KINDS.contains(&frame.kind) || ToProxy::decode(frame).is_err());
}
