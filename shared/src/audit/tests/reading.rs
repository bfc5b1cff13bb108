use std::io::Write;

use super::*;

fn seqs(batch: &[Line]) -> Vec<u64> {
    batch.iter().map(|line| line.seq).collect()
}

/// A log of two lines a day for three days.
fn three_days(bench: &Bench) -> AuditLog {
    let log = bench.log();
    for day in 0..3 {
        if day > 0 {
            bench.clock.advance(DAY);
        }
        log.append(invoke(2 * day + 1)).unwrap();
        log.append(invoke(2 * day + 2)).unwrap();
    }
    log
}

#[test]
fn a_reader_follows_while_the_log_grows_and_rotates() {
    let bench = Bench::new();
    let mut reader = LogReader::from_seq(bench.dir.path(), 1);
    assert!(reader.next_batch(10, 10_000).unwrap().is_empty());
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    let batch = reader.next_batch(10, 10_000).unwrap();
    assert_eq!(seqs(&batch), [1]);
    assert_eq!(fs::read_to_string(bench.today()).unwrap().trim_end(), batch[0].text);
    assert!(reader.next_batch(10, 10_000).unwrap().is_empty());
    log.append(invoke(2)).unwrap();
    bench.clock.advance(DAY);
    log.append(invoke(3)).unwrap();
    assert_eq!(seqs(&reader.next_batch(10, 10_000).unwrap()), [2, 3]);
    bench.clock.advance(DAY);
    log.append(invoke(4)).unwrap();
    assert_eq!(seqs(&reader.next_batch(10, 10_000).unwrap()), [4]);
    assert_eq!(reader.next_seq(), 5);
}

#[test]
fn a_reader_begins_anywhere_and_keeps_its_batches_small() {
    let bench = Bench::new();
    let _log = three_days(&bench);
    for from in 0..=7 {
        let mut reader = LogReader::from_seq(bench.dir.path(), from);
        let expected: Vec<u64> = (from.max(1)..=6).collect();
        assert_eq!(seqs(&reader.next_batch(10, 10_000).unwrap()), expected);
    }
    let mut reader = LogReader::from_seq(bench.dir.path(), 2);
    assert_eq!(seqs(&reader.next_batch(3, 10_000).unwrap()), [2, 3, 4]);
    assert_eq!(seqs(&reader.next_batch(3, 1).unwrap()), [5]);
    assert_eq!(seqs(&reader.next_batch(3, 1).unwrap()), [6]);
    assert!(reader.next_batch(3, 1).unwrap().is_empty());
}

#[test]
fn a_reader_never_sees_part_of_a_line() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    log.append(invoke(2)).unwrap();
    drop(log);
    let text = fs::read_to_string(bench.today()).unwrap();
    let second = text.find('\n').unwrap() + 1;
    fs::write(bench.today(), &text[..second + 30]).unwrap();
    let mut reader = LogReader::from_seq(bench.dir.path(), 1);
    assert_eq!(seqs(&reader.next_batch(10, 10_000).unwrap()), [1]);

    // The write failed, was cut off, and another line took its place.
    let mut file = fs::OpenOptions::new().append(true).open(bench.today()).unwrap();
    file.set_len(second as u64).unwrap();
    assert!(reader.next_batch(10, 10_000).unwrap().is_empty());
    file.write_all(text[second..].replace("\"n\":2", "\"n\":3").as_bytes()).unwrap();
    let batch = reader.next_batch(10, 10_000).unwrap();
    assert_eq!(seqs(&batch), [2]);
    assert!(batch[0].text.contains("\"n\":3"));
}

#[test]
fn the_newest_events_come_first_filtered_and_paged() {
    let bench = Bench::new();
    let _log = three_days(&bench);
    let page = |before, limit| -> Vec<u64> {
        let events = tail(bench.dir.path(), before, limit, |event| event.seq != 4).unwrap();
        events.into_iter().map(|event| event.seq).collect()
    };
    assert_eq!(page(None, 3), [6, 5, 3]);
    assert_eq!(page(Some(3), 3), [2, 1]);
    assert_eq!(page(Some(1), 3), [] as [u64; 0]);
    assert_eq!(page(None, 0), [] as [u64; 0]);
}

#[test]
fn a_flipped_byte_is_found_with_its_line() {
    let bench = Bench::new();
    drop(three_days(&bench));
    let path = bench.file("2026-06-24");
    let good = fs::read(&path).unwrap();
    let second = good.iter().position(|b| *b == b'\n').unwrap() + 1;
    for at in (second..good.len() - 1).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let report = bench.verified();
        let bad = report.first_bad.unwrap();
        assert_eq!((bad.file.as_str(), bad.line), ("audit-2026-06-24.jsonl", 2), "byte {at}");
        assert_eq!((report.events, report.head.unwrap().seq), (3, 3));
    }
}

#[test]
fn a_missing_line_a_missing_file_and_a_rewritten_line_are_named() {
    let bench = Bench::new();
    drop(three_days(&bench));
    let (first, middle) = (bench.file("2026-06-23"), bench.file("2026-06-24"));
    let reason = || {
        let bad = bench.verified().first_bad.unwrap();
        (bad.file, bad.line, bad.reason)
    };
    let text = fs::read_to_string(&middle).unwrap();
    let lines: Vec<_> = text.lines().collect();

    fs::write(&middle, format!("{}\n", lines[1])).unwrap();
    let missing = "event 3 is missing before it".to_owned();
    assert_eq!(reason(), ("audit-2026-06-24.jsonl".to_owned(), 1, missing));

    fs::write(&middle, format!("{text}{}\n", lines[1])).unwrap();
    let again = "event 4 stands where event 5 should".to_owned();
    assert_eq!(reason(), ("audit-2026-06-24.jsonl".to_owned(), 3, again));

    fs::remove_file(&middle).unwrap();
    let missing = "events 3 to 4 are missing before it".to_owned();
    assert_eq!(reason(), ("audit-2026-06-25.jsonl".to_owned(), 1, missing));

    // A line with a good hash of its own, put in the place of another.
    let other = Bench::new();
    let log = three_days(&other);
    drop(log);
    fs::copy(other.file("2026-06-24"), &middle).unwrap();
    let stranger = "it does not follow the event 2 before it".to_owned();
    assert_eq!(reason(), ("audit-2026-06-24.jsonl".to_owned(), 1, stranger));

    fs::write(&middle, text.trim_end()).unwrap();
    let cut = "the line is cut off, and later files follow".to_owned();
    assert_eq!(reason(), ("audit-2026-06-24.jsonl".to_owned(), 2, cut));

    fs::write(&middle, text.replacen("{\"at\"", "{ \"at\"", 1)).unwrap();
    let spaced = "the line is not in canonical form".to_owned();
    assert_eq!(reason(), ("audit-2026-06-24.jsonl".to_owned(), 1, spaced));

    fs::write(&middle, &text).unwrap();
    assert_eq!(bench.verified().first_bad, None);
    fs::remove_file(first).unwrap();
    assert_eq!(reason().2, "events 1 to 2 are missing before it");
}

#[test]
fn an_empty_log_is_good() {
    let report = Bench::new().verified();
    assert_eq!((report.files, report.events, report.first_bad, report.head), (0, 0, None, None));
}
