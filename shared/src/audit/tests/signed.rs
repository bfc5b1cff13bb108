use plexus_mesh_proto::identity::NodeKey;
use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::audit::files::LINES_READ;
use crate::audit::retention::Retention;
use crate::audit::writer::Fault;
use crate::ids::CorrelationId;

fn key(seed: u8) -> Arc<NodeKey> {
    Arc::new(NodeKey::from_seed(Zeroizing::new([seed; 32])).unwrap())
}

/// A log that signs. It keeps files long enough for every test.
fn signed(bench: &Bench) -> AuditLog {
    let log = bench.log();
    log.begin(key(1), 3650);
    log
}

fn call(n: i64) -> CorrelationId {
    CorrelationId::fresh(Timestamp::from_millis(n))
}

fn row(call: &CorrelationId, on: &str, phase: &str) -> Record {
    Record::new(EventType::Invoke)
        .agent(&"claude".parse().unwrap())
        .capability(on)
        .correlation(call)
        .detail(&json!({ "phase": phase }))
}

fn checkpoints(bench: &Bench) -> Vec<u64> {
    let is_one = |event: &Event| event.event_type == EventType::Checkpoint;
    let mut found = tail(bench.dir.path(), None, usize::MAX, is_one).unwrap();
    found.reverse();
    found.iter().map(|event| event.seq).collect()
}

fn bad(bench: &Bench) -> (String, u64, String) {
    let bad = verify_by(bench.dir.path(), Some(key(1).public())).unwrap().first_bad.unwrap();
    (bad.file, bad.line, bad.reason)
}

/// Ends a process without its leave: nothing more is written.
fn kill(log: AuditLog) {
    std::mem::forget(log);
}

#[test]
fn the_head_is_signed_after_a_thousand_events_ten_minutes_and_at_the_end() {
    let bench = Bench::new();
    let log = signed(&bench);
    (1..=1001).for_each(|n| drop(log.append(invoke(n)).unwrap()));
    assert_eq!(checkpoints(&bench), [1001]);
    bench.clock.advance(Duration::from_secs(600));
    log.append(invoke(0)).unwrap();
    assert_eq!(checkpoints(&bench), [1001, 1004]);
    log.append(invoke(0)).unwrap();
    drop(log);
    assert_eq!(checkpoints(&bench), [1001, 1004, 1006]);
    drop(signed(&bench));
    assert_eq!(checkpoints(&bench).len(), 3, "nothing new, nothing to sign");
    let report = verify_by(bench.dir.path(), Some(key(1).public())).unwrap();
    assert_eq!((report.first_bad, report.signed_through), (None, Some(1006)));
    assert_eq!(report.public_key, Some(key(1).public().to_string()));
}

#[test]
fn a_chain_rewritten_with_good_hashes_is_found_at_its_next_checkpoint() {
    let bench = Bench::new();
    let log = signed(&bench);
    (1..=10).for_each(|n| drop(log.append(invoke(n)).unwrap()));
    drop(log);
    let forged = Bench::new();
    let log = forged.log();
    (1..=10).for_each(|n| drop(log.append(invoke(n + 100)).unwrap()));
    drop(log);
    // The forger has every hash, and the genuine checkpoint's detail, but not the key.
    let genuine = bench.events().pop().unwrap().detail.unwrap();
    let mut copied = genuine.clone();
    copied["hash"] = forged.events().pop().unwrap().hash.into();
    for (detail, reason) in [
        (genuine, "the checkpoint is not one of the line before it"),
        (copied, "the checkpoint's signature is wrong"),
    ] {
        let text = fs::read(forged.today()).unwrap();
        let log = forged.log();
        log.append(Record::of_the_log(EventType::Checkpoint, detail)).unwrap();
        drop(log);
        assert_eq!(bad(&forged), ("audit-2026-06-23.jsonl".to_owned(), 11, reason.to_owned()));
        fs::write(forged.today(), text).unwrap();
    }
    let log = forged.log();
    log.begin(key(2), 90);
    drop(log);
    assert_eq!(bad(&forged).2, "it is signed by another key than this node's");
    assert_eq!(forged.verified().first_bad, None, "which key it was, the log alone can't tell");
}

#[test]
fn a_second_key_in_one_log_is_found_without_knowing_the_first() {
    let bench = Bench::new();
    drop(signed(&bench).append(invoke(1)).unwrap());
    let log = bench.log();
    log.begin(key(2), 90);
    log.append(invoke(2)).unwrap();
    drop(log);
    let bad = bench.verified().first_bad.unwrap();
    assert_eq!(bad.reason, "it is signed by another key than this node's");
}

#[test]
fn a_log_that_was_signed_stays_signed() {
    let bench = Bench::new();
    drop(signed(&bench).append(invoke(1)).unwrap());
    let log = bench.log();
    (0..4001).for_each(|n| drop(log.append(invoke(n)).unwrap()));
    drop(log);
    assert_eq!(bad(&bench).2, "no checkpoint stands between event 2 and this one");
}

#[test]
fn a_log_rewritten_without_any_checkpoint_is_not_one_of_a_node() {
    let forged = Bench::new();
    let log = forged.log();
    (0..4001).for_each(|n| drop(log.append(invoke(n)).unwrap()));
    drop(log);
    assert_eq!(bad(&forged).2, "no checkpoint stands before this event");
}

#[test]
fn what_was_started_and_never_ended_is_recorded_once_at_the_next_start() {
    let bench = Bench::new();
    let log = signed(&bench);
    let (ended, lost, flow) = (call(1), call(2), call(3));
    for (call, on) in [(&ended, "a.b.c"), (&lost, "a.b.c"), (&flow, "a.b.c"), (&flow, "a.b.d")] {
        log.append(row(call, on, "started")).unwrap();
    }
    log.append(row(&ended, "a.b.c", "finished")).unwrap();
    log.append(row(&flow, "a.b.c", "cancelled")).unwrap();
    kill(log);
    for _ in 0..2 {
        kill(signed(&bench));
        let events = bench.events();
        let unknown: Vec<_> = events[6..].iter().collect();
        assert_eq!(unknown.len(), 2);
        let found =
            unknown.iter().map(|row| (row.correlation_id.clone(), row.capability_id.as_deref()));
        assert!(
            found.eq([(Some(lost.clone()), Some("a.b.c")), (Some(flow.clone()), Some("a.b.d"))])
        );
        let expected = json!({"outcome": "unknown", "phase": "finished"});
        assert!(unknown.iter().all(|row| row.detail.as_ref() == Some(&expected)
            && row.outcome == Some(RecordOutcome::Error)
            && row.agent_id == Some("claude".parse().unwrap())));
    }
}

#[test]
fn calls_open_across_checkpoints_are_found_and_what_was_mirrored_is_not_ours_to_end() {
    let bench = Bench::new();
    let log = signed(&bench);
    let (lost, ended) = (call(1), call(2));
    log.append(row(&ended, "a.b.c", "started")).unwrap();
    log.append(row(&lost, "a.b.c", "started")).unwrap();
    let theirs = bench.events();
    (0..2500).for_each(|n| drop(log.append(invoke(n)).unwrap()));
    log.append(row(&ended, "a.b.c", "finished")).unwrap();
    log.append_mirrored("local/nas", &theirs).unwrap();
    kill(log);
    let head = bench.verified().head.unwrap().seq;
    kill(signed(&bench));
    let events = bench.events();
    assert_eq!(events.len() as u64, head + 1);
    assert_eq!(events.last().unwrap().correlation_id, Some(lost));
}

#[test]
fn calls_cut_off_are_recorded_later_when_they_cannot_be_at_the_start() {
    let bench = Bench::new();
    let log = signed(&bench);
    log.append(row(&call(1), "a.b.c", "started")).unwrap();
    kill(log);
    let log = bench.log();
    log.break_writes(Some(Fault::Full));
    log.begin(key(1), 90);
    assert!(!log.is_available());
    log.break_writes(None);
    log.append(invoke(1)).unwrap();
    let events = bench.events();
    assert_eq!(events[1].detail.as_ref().unwrap()["outcome"], "unknown");
    assert_eq!(events[2].detail, Some(json!({"n": 1})));
}

#[test]
fn a_start_that_could_not_be_written_is_no_call_that_was_cut_off() {
    let bench = Bench::new();
    let log = signed(&bench);
    log.break_writes(Some(Fault::Full));
    log.append(row(&call(1), "a.b.c", "started")).unwrap_err();
    log.break_writes(None);
    log.append(invoke(1)).unwrap();
    log.seal().unwrap();
    assert_eq!(bench.events()[1].detail.as_ref().unwrap()["open"], json!([]));
}

#[test]
fn a_start_reads_no_further_back_than_the_last_checkpoint() {
    let bench = Bench::new();
    let log = signed(&bench);
    for _ in 0..10 {
        for n in 0..20_000 {
            log.append(invoke(n)).unwrap();
        }
        bench.clock.advance(DAY);
    }
    kill(log);
    LINES_READ.with(|read| read.set(0));
    kill(signed(&bench));
    let read = LINES_READ.with(std::cell::Cell::get);
    assert!(read < 1100, "{read} of {} lines", bench.verified().events);
}

/// Four days of a signed log; the two oldest are removed.
fn aged(bench: &Bench) -> Retention {
    let log = signed(bench);
    for n in 1..=4 {
        log.append(invoke(n)).unwrap();
        if n < 4 {
            bench.clock.advance(DAY);
        }
    }
    drop(log);
    Retention::new(bench.dir.clone(), key(1), 1)
}

#[test]
fn how_long_files_are_kept_can_be_said_anew() {
    let bench = Bench::new();
    let retention = aged(&bench);
    let before = bench.names();
    retention.keep_for(3650);
    retention.run(bench.clock.now()).unwrap();
    assert_eq!(bench.names(), before);
    retention.keep_for(1);
    retention.run(bench.clock.now()).unwrap();
    assert_ne!(bench.names(), before);
}

fn stub(bench: &Bench, day: &str) -> PathBuf {
    bench.dir.join(format!("audit-{day}.stub.json"))
}

#[test]
fn removed_files_leave_stubs_and_the_chain_still_verifies() {
    let bench = Bench::new();
    let retention = aged(&bench);
    let head = bench.verified().head;
    retention.run(bench.clock.now()).unwrap();
    let names = ["23.stub.json", "24.stub.json", "25.jsonl", "26.jsonl"];
    assert_eq!(bench.names(), names.map(|name| format!("audit-2026-06-{name}")));
    let report = verify_by(bench.dir.path(), Some(key(1).public())).unwrap();
    assert_eq!((report.files, report.removed_files, report.first_bad), (2, 2, None));
    assert_eq!(report.head, head);
    bench.clock.advance(100 * DAY);
    retention.run(bench.clock.now()).unwrap();
    assert!(bench.names().contains(&"audit-2026-06-26.jsonl".to_owned()), "never the newest");
    let log = signed(&bench);
    assert_eq!(log.head().seq, head.unwrap().seq);
    log.append(invoke(5)).unwrap();
    assert_eq!(bench.verified().first_bad, None);
}

#[test]
fn a_round_that_was_cut_off_is_finished_by_the_next_one() {
    let bench = Bench::new();
    let retention = aged(&bench);
    let first = fs::read(bench.file("2026-06-23")).unwrap();
    retention.run(bench.clock.now()).unwrap();
    fs::remove_file(stub(&bench, "2026-06-24")).unwrap();
    fs::write(bench.file("2026-06-23"), first).unwrap();
    assert_eq!(bad(&bench).2, "events 2 to 3 are missing before it");

    let bench = Bench::new();
    let retention = aged(&bench);
    let first = fs::read(bench.file("2026-06-23")).unwrap();
    retention.run(Timestamp::from_millis(bench.clock.now().as_millis() - 86_400_000)).unwrap();
    fs::write(bench.file("2026-06-23"), first).unwrap();
    assert_eq!(bench.verified().first_bad, None, "the file counts, not its stub");
    retention.run(bench.clock.now()).unwrap();
    assert_eq!(bench.names().len(), 4);
    assert_eq!(bench.verified().first_bad, None);
}

#[test]
fn what_was_tampered_with_is_never_removed() {
    let bench = Bench::new();
    let retention = aged(&bench);
    let path = bench.file("2026-06-24");
    let text = fs::read_to_string(&path).unwrap().replace("\"n\":2", "\"n\":9");
    fs::write(&path, text).unwrap();
    let error = retention.run(bench.clock.now()).unwrap_err().to_string();
    assert!(error.starts_with("audit-2026-06-24.jsonl stays, and all after it: "), "{error}");
    assert!(path.exists());
    assert_eq!(bad(&bench).0, "audit-2026-06-24.jsonl");
}

#[test]
fn a_stub_is_believed_only_in_its_place_and_under_the_nodes_key() {
    let bench = Bench::new();
    aged(&bench).run(bench.clock.now()).unwrap();
    let (first, second) = (stub(&bench, "2026-06-23"), stub(&bench, "2026-06-24"));
    let good = fs::read_to_string(&first).unwrap();
    let other = fs::read_to_string(&second).unwrap();
    let named = |reason: &str| ("audit-2026-06-23.stub.json".to_owned(), 1, reason.to_owned());

    fs::write(&first, good.replace("\"lastSeq\":1", "\"lastSeq\":2")).unwrap();
    assert_eq!(bad(&bench), named("the stub's signature is wrong"));
    fs::write(&first, &other).unwrap();
    assert_eq!(bad(&bench), named("the stub is one of another file"));
    fs::write(&first, "{").unwrap();
    assert_eq!(bad(&bench), named("the stub is not JSON"));

    let mut forged: Value = serde_json::from_str(&good).unwrap();
    forged["publicKey"] = key(2).public().to_string().into();
    forged.as_object_mut().unwrap().remove("signature");
    crate::audit::seal::sign(&key(2), crate::audit::seal::STUB, &mut forged);
    fs::write(&first, forged.to_string()).unwrap();
    assert_eq!(bad(&bench), named("it is signed by another key than this node's"));

    fs::write(&first, &good).unwrap();
    fs::remove_file(&second).unwrap();
    assert_eq!(bad(&bench).0, "audit-2026-06-25.jsonl");
    fs::write(&second, &other).unwrap();
    fs::remove_file(&first).unwrap();
    assert_eq!(bad(&bench).0, "audit-2026-06-24.stub.json");
}

#[test]
fn swapped_files_and_a_missing_line_or_file_are_named() {
    let bench = Bench::new();
    drop(aged(&bench));
    let (first, second) = (bench.file("2026-06-23"), bench.file("2026-06-24"));
    let (one, two) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
    fs::write(&first, &two).unwrap();
    fs::write(&second, &one).unwrap();
    let moved = "event 1 is missing before it".to_owned();
    assert_eq!(bad(&bench), ("audit-2026-06-23.jsonl".to_owned(), 1, moved));

    // Without its last line, which is a checkpoint.
    let cut = two[..two.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&first, &one).unwrap();
    fs::write(&second, &two[..cut]).unwrap();
    let gone = "event 3 is missing before it".to_owned();
    assert_eq!(bad(&bench), ("audit-2026-06-25.jsonl".to_owned(), 1, gone));

    fs::remove_file(&second).unwrap();
    let gone = "events 2 to 3 are missing before it".to_owned();
    assert_eq!(bad(&bench), ("audit-2026-06-25.jsonl".to_owned(), 1, gone));
}
