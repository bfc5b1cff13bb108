use super::*;
use crate::audit::writer::Fault;

#[test]
fn after_a_failed_write_nothing_of_it_is_left_and_the_next_one_continues() {
    for fault in [Fault::Full, Fault::Partial(0), Fault::Partial(40), Fault::Stuck(40)] {
        let bench = Bench::new();
        let log = bench.log();
        log.append(invoke(1)).unwrap();
        log.break_writes(Some(fault));
        for n in 2..4 {
            let error = log.append(invoke(n)).unwrap_err();
            assert!(error.to_string().starts_with("audit is unavailable: "), "{error}");
            assert!(!log.is_available());
            assert_eq!((log.head().seq, *log.subscribe().borrow()), (1, 1));
        }
        log.break_writes(None);
        log.append(invoke(4)).unwrap();
        assert!(log.is_available());
        let report = bench.verified();
        assert_eq!((report.events, report.first_bad), (2, None), "{fault:?}");
        assert_eq!(bench.events()[1].detail, Some(json!({"n": 4})));
    }
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let proxy = Bench::new();
    let theirs = proxy.log();
    theirs.append(invoke(1)).unwrap();
    theirs.append(invoke(2)).unwrap();
    let sent = proxy.events();

    let bench = Bench::new();
    let log = bench.log();
    log.break_writes(Some(Fault::Partial(600)));
    log.append_mirrored("local/nas", &sent).unwrap_err();
    assert_eq!(fs::read(bench.today()).unwrap(), b"");
    log.break_writes(None);
    assert_eq!(log.append_mirrored("local/nas", &sent).unwrap(), 2);
    assert_eq!(bench.verified().events, 2);
}

#[test]
fn a_failed_write_at_midnight_is_cut_from_the_file_of_the_day_before() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    log.break_writes(Some(Fault::Stuck(40)));
    log.append(invoke(2)).unwrap_err();
    log.break_writes(None);
    bench.clock.advance(DAY);
    log.append(invoke(3)).unwrap();
    let report = bench.verified();
    assert_eq!((report.files, report.events, report.first_bad), (2, 2, None));
}

#[test]
fn without_its_folder_the_log_is_unavailable_until_the_folder_is_back() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    let away = bench.dir.path().with_extension("away");
    fs::rename(bench.dir.path(), &away).unwrap();
    bench.clock.advance(DAY);
    log.append(invoke(2)).unwrap_err();
    fs::rename(&away, bench.dir.path()).unwrap();
    log.append(invoke(3)).unwrap();
    assert_eq!(bench.verified().events, 2);
}

#[test]
#[cfg(unix)]
fn lines_are_never_written_to_a_file_that_was_deleted() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    fs::remove_file(bench.today()).unwrap();
    log.append(invoke(2)).unwrap();
    assert_eq!(bench.events().len(), 1);
    let bad = bench.verified().first_bad.unwrap();
    assert_eq!(bad.reason, "event 1 is missing before it");
}

#[test]
fn a_failed_sync_shows_until_a_write_succeeds_again() {
    let bench = Bench::new();
    let log = bench.log();
    log.break_sync();
    assert!(!log.is_available());
    log.append(invoke(1)).unwrap();
    assert!(log.is_available());
}

#[test]
fn a_line_that_a_power_loss_cut_is_moved_aside_and_the_next_record_says_so() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    drop(log);
    let good = fs::read(bench.today()).unwrap();
    fs::write(bench.today(), [&good[..], b"{\"at\":\"20"].concat()).unwrap();
    assert_eq!(bench.verified().incomplete_bytes, 9);

    let log = bench.log();
    assert_eq!(bench.names(), ["audit-2026-06-23.jsonl", "audit-2026-06-23.torn-2"]);
    assert_eq!(fs::read(bench.dir.join("audit-2026-06-23.torn-2")).unwrap(), b"{\"at\":\"20");
    assert_eq!(fs::read(bench.today()).unwrap(), good);

    log.break_writes(Some(Fault::Full));
    log.append(invoke(2)).unwrap_err();
    log.break_writes(None);
    log.append(invoke(2)).unwrap();
    log.append(invoke(3)).unwrap();
    let events = bench.events();
    let torn = json!([{"bytes": 9, "file": "audit-2026-06-23.jsonl",
        "movedTo": "audit-2026-06-23.torn-2"}]);
    assert_eq!(events[1].detail, Some(json!({"n": 2, "tornTail": torn})));
    assert_eq!(events[2].detail, Some(json!({"n": 3})));
    assert_eq!(bench.verified().first_bad, None);
}

#[test]
fn a_newest_file_with_nothing_whole_in_it_is_no_obstacle() {
    let bench = Bench::new();
    drop(bench.log().append(invoke(1)).unwrap());
    fs::write(bench.file("2026-06-24"), vec![0; 200_000]).unwrap();
    fs::write(bench.file("2026-06-25"), "").unwrap();
    let log = bench.log();
    log.append(invoke(2)).unwrap();
    assert_eq!(bench.names()[1..3], ["audit-2026-06-24.jsonl", "audit-2026-06-24.torn-2"]);
    assert_eq!(fs::read(bench.file("2026-06-24")).unwrap(), b"");
    assert_eq!(bench.verified().events, 2);
}

#[test]
fn a_last_line_that_is_whole_but_changed_is_refused_and_left_alone() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    log.append(invoke(2)).unwrap();
    drop(log);
    let text = fs::read_to_string(bench.today()).unwrap();
    for changed in [text.replace("\"n\":2", "\"n\":3"), format!("{text}x\n"), format!("{text}\n")] {
        fs::write(bench.today(), &changed).unwrap();
        let error = bench.try_log().unwrap_err().to_string();
        let line = changed.lines().count();
        assert!(error.starts_with(&format!("audit-2026-06-23.jsonl line {line}: ")), "{error}");
        assert!(error.ends_with("run `plexus audit verify`"), "{error}");
        assert_eq!(fs::read_to_string(bench.today()).unwrap(), changed);
    }
}
