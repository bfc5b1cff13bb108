//! Any text, and any body under a right checksum: an error, or a ticket whose text stays the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plexus_mesh_proto::ticket::{TICKET_PREFIX, Ticket};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    // The checksum would hide the structure behind it from the fuzzer.
    let sum = ring::digest::digest(&ring::digest::SHA256, data);
    check(&wrap(&[data, &sum.as_ref()[..4]].concat()));
});

fn check(text: &str) {
    let Ok(ticket) = Ticket::parse(text) else {
        return;
    };
    let again = ticket.encode().expect("a parsed ticket has a text");
    assert_eq!(again.as_str(), text.trim_ascii());
    assert_eq!(Ticket::parse(&again).as_ref(), Ok(&ticket));
}

/// Lowercase base32 without padding, apart from the parser's own.
fn wrap(bytes: &[u8]) -> String {
    let mut text = TICKET_PREFIX.to_owned();
    for chunk in bytes.chunks(5) {
        let mut group = [0; 8];
        group[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(group);
        let symbols = (chunk.len() * 8).div_ceil(5);
        for index in 0..symbols {
            let symbol = bits >> (35 - 5 * index) & 31;
            text.push(char::from(
                b"abcdefghijklmnopqrstuvwxyz234567"[symbol as usize],
            ));
        }
    }
    text
}
