use std::thread;

use super::*;
use crate::ids::EventId;

#[test]
fn the_chain_goes_on_across_midnight_and_across_restarts() {
    let bench = Bench::new();
    let log = bench.log();
    log.append(invoke(1)).unwrap();
    log.append(invoke(2)).unwrap();
    bench.clock.advance(DAY);
    log.append(invoke(3)).unwrap();
    drop(log);
    bench.clock.advance(3 * DAY);
    let log = bench.log();
    assert_eq!(log.head().seq, 3);
    log.append(invoke(4)).unwrap();

    let names = ["audit-2026-06-23.jsonl", "audit-2026-06-24.jsonl", "audit-2026-06-27.jsonl"];
    assert_eq!(bench.names(), names);
    let report = bench.verified();
    assert_eq!((report.files, report.events, report.first_bad), (3, 4, None));
    assert_eq!(report.head, Some(log.head()));
    let events = bench.events();
    assert_eq!(events[0].prev, GENESIS);
    assert!(events.windows(2).all(|pair| pair[1].prev == pair[0].hash));
    assert!(events.iter().all(|event| event.tier == Some(Tier::Primary)));
}

#[test]
#[cfg(unix)]
fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.log().append(invoke(1)).unwrap();
    let mode = fs::metadata(bench.today()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_clock_that_goes_back_never_writes_to_an_earlier_file() {
    let bench = Bench::new();
    drop(bench.log().append(invoke(1)).unwrap());
    let earlier = ManualClock::at(Timestamp::from_millis(0));
    let log = AuditLog::open(bench.dir.clone(), earlier, Tier::Primary).unwrap();
    log.append(invoke(2)).unwrap();
    assert_eq!(bench.names(), ["audit-2026-06-23.jsonl"]);
    assert_eq!(bench.verified().events, 2);
}

#[test]
fn many_threads_leave_no_gap() {
    let bench = Bench::new();
    let log = bench.log();
    let mut ids: Vec<EventId> = thread::scope(|scope| {
        let work = || (0..500).map(|n| log.append(invoke(n)).unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let report = bench.verified();
    assert_eq!((report.events, report.first_bad), (4000, None));
    assert_eq!(*log.subscribe().borrow(), 4000);
    let mut recorded: Vec<_> = bench.events().into_iter().map(|event| event.id).collect();
    ids.sort();
    recorded.sort();
    assert_eq!(ids, recorded);
}

#[test]
fn a_line_can_be_read_by_others_as_soon_as_its_append_returns() {
    let bench = Bench::new();
    let log = bench.log();
    let heads = log.subscribe();
    for n in 1..=20 {
        let id = log.append(invoke(n)).unwrap();
        let text = fs::read_to_string(bench.today()).unwrap();
        assert!(text.ends_with('\n') && text.lines().last().unwrap().contains(id.as_str()));
        assert_eq!(*heads.borrow(), log.head().seq);
    }
}

#[test]
fn with_always_every_append_is_on_the_disk() {
    let bench = Bench::new();
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    let log = AuditLog::open_with(bench.dir.clone(), clock, Tier::Proxy, Durability::Always);
    log.unwrap().append(invoke(1)).unwrap();
    assert_eq!(bench.events()[0].tier, Some(Tier::Proxy));
}

#[test]
fn a_mirrored_line_keeps_what_it_said_and_where_it_stood_but_not_who_it_claims_to_be() {
    let proxy = Bench::new();
    let log = proxy.log();
    log.append(Record::new(EventType::MeshConnect)).unwrap();
    log.append(invoke(1)).unwrap();
    let mut sent = proxy.events();
    sent[1].workload = Some("local/other".to_owned());
    sent[1].detail = Some(json!({"n": "plx_agent_00ff"}));

    let primary = Bench::new();
    let log = primary.log();
    log.append(invoke(7)).unwrap();
    assert_eq!(log.append_mirrored("local/nas", &sent).unwrap(), 3);
    assert_eq!(log.append_mirrored("local/nas", &[]).unwrap(), 3);

    let kept = &primary.events()[2];
    assert_eq!((kept.at, kept.event_type), (sent[1].at, EventType::Invoke));
    assert_eq!(kept.capability_id, sent[1].capability_id);
    assert_eq!(kept.workload.as_deref(), Some("local/nas"));
    assert_eq!(kept.tier, Some(Tier::Proxy));
    assert_eq!(
        kept.origin,
        Some(Origin { id: sent[1].id.clone(), seq: 2, hash: sent[1].hash.clone() })
    );
    assert_ne!(kept.id, sent[1].id, "no other node names a line of ours");
    assert_eq!(kept.detail, Some(json!({"n": "[redacted]"})));
    assert_eq!(primary.verified().first_bad, None);
}
