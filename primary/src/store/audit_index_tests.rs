#![allow(clippy::unwrap_used, reason = "tests")]
use std::sync::Arc;

use plexus_shared::audit::{EventType, Record, RecordOutcome, Tier};
use plexus_shared::clock::{Clock, ManualClock, Timestamp};
use plexus_shared::state_dir::StateDir;
use serde_json::json;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    log: AuditLog,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_782_212_400_000));
        let dir = StateDir::open(&folder.path().join("audit")).unwrap();
        let log = AuditLog::open(dir, clock.clone() as Arc<dyn Clock>, Tier::Primary).unwrap();
        Self { folder, clock, log }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(AUDIT_INDEX)
    }

    async fn index(&self) -> AuditIndex {
        let index = AuditIndex::start(&self.path(), &self.log).unwrap();
        assert!(index.reach(self.log.head().seq, PATIENCE).await);
        index
    }

    fn two_days(&self) {
        for n in 0..6 {
            let outcome = if n % 2 == 0 { RecordOutcome::Ok } else { RecordOutcome::Denied };
            let record = Record::new(EventType::Invoke)
                .agent(&"claude".parse().unwrap())
                .capability("notes.file.write")
                .outcome(outcome)
                .detail(&json!({"say": format!("word{n} Straße")}));
            self.log.append(record).unwrap();
            if n == 2 {
                self.clock.advance(Duration::from_secs(86_400));
            }
        }
        let granted = json!({"granted": [{"id": "notes.file.read", "verbs": ["read"]}]});
        self.log.append(Record::new(EventType::GrantAllow).detail(&granted)).unwrap();
    }
}

fn seqs(index: &AuditIndex, filter: &Filter) -> Vec<u64> {
    index.find(filter, 100).unwrap().lines.iter().map(|line| line.seq).collect()
}

fn sql(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test]
async fn every_filter_finds_what_it_names_as_the_files_do() {
    let bench = Bench::new();
    bench.two_days();
    let index = bench.index().await;
    let day = Timestamp::from_millis(1_782_212_400_000 + 1000);
    let all = Filter::default;
    let cases = [
        (all(), vec![7, 6, 5, 4, 3, 2, 1]),
        (Filter { outcome: some("denied"), ..all() }, vec![6, 4, 2]),
        (Filter { event_type: some("grant.allow"), ..all() }, vec![7]),
        (Filter { capability: some("notes.file.read"), ..all() }, vec![7]),
        (Filter { agent: some("claude"), before: Some(3), ..all() }, vec![2, 1]),
        (Filter { tier: some("proxy"), ..all() }, vec![]),
        (Filter { workload: some("nas"), ..all() }, vec![]),
        (Filter { since: Some(day), ..all() }, vec![7, 6, 5, 4]),
        (Filter { until: Some(day), ..all() }, vec![3, 2, 1]),
        (Filter { after: Some(4), ..all() }, vec![5, 6, 7]),
        (Filter { text: some("WORD3"), ..all() }, vec![4]),
        (Filter { text: some("notes.file.write straße word1"), ..all() }, vec![2]),
        (Filter { text: some("nowhere\" OR word1"), ..all() }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(seqs(&index, &filter), expected, "{filter:?}");
        let mut plain = plexus_shared::audit::tail(bench.log.folder(), None, 100, |event| {
            filter.accepts(event, &json!(event).to_string())
        })
        .unwrap();
        if filter.after.is_some() {
            plain.reverse();
        }
        let plain: Vec<_> = plain.iter().map(|event| event.seq).collect();
        assert_eq!(plain, expected, "without the index: {filter:?}");
    }
    assert_eq!(index.find(&all(), 2).unwrap().lines.len(), 2);
}

#[tokio::test]
async fn a_damaged_a_stale_and_an_absent_index_are_made_anew_and_say_the_same() {
    let bench = Bench::new();
    bench.two_days();
    drop(bench.index().await);
    let dump = |path: &Path| -> Vec<(u64, String, u64)> {
        let connection = Connection::open(path).unwrap();
        let mut rows = connection.prepare("SELECT seq, file, offset FROM event").unwrap();
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let fresh = dump(&bench.path());
    assert_eq!(fresh.len(), 7);
    let spoilers: [fn(&Path); 4] = [
        |path| std::fs::write(path, "no database at all, but long enough to look at").unwrap(),
        |path| remove(path).unwrap(),
        |path| sql(path, "UPDATE event SET offset = 3"),
        |path| sql(path, "PRAGMA user_version = 99"),
    ];
    for spoil in spoilers {
        spoil(&bench.path());
        let index = bench.index().await;
        assert_eq!(seqs(&index, &Filter { text: some("word3"), ..Filter::default() }), [4]);
        drop(index);
        assert_eq!(dump(&bench.path()), fresh);
    }
}

#[tokio::test]
async fn an_index_behind_goes_on_and_one_edited_while_open_is_made_anew() {
    let bench = Bench::new();
    bench.two_days();
    drop(bench.index().await);
    bench.two_days();
    let index = bench.index().await;
    assert_eq!(seqs(&index, &Filter::default()).len(), 14);
    Connection::open(bench.path()).unwrap().execute("UPDATE event SET offset = 3", []).unwrap();
    assert!(index.find(&Filter::default(), 100).is_err());
    let again = async {
        while index.find(&Filter::default(), 100).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(seqs(&index, &Filter::default()).len(), 14);
}

#[tokio::test]
async fn lines_of_removed_files_are_forgotten() {
    let bench = Bench::new();
    bench.two_days();
    let index = bench.index().await;
    std::fs::remove_file(bench.folder.path().join("audit/audit-2026-06-23.jsonl")).unwrap();
    assert_eq!(seqs(&index, &Filter::default()), [7, 6, 5, 4], "already not found");
    drop(index);
    let index = bench.index().await;
    assert_eq!(seqs(&index, &Filter::default()), [7, 6, 5, 4]);
    assert_eq!(seqs(&index, &Filter { text: some("word1"), ..Filter::default() }), [] as [u64; 0]);
}

#[tokio::test]
#[cfg(unix)]
async fn the_index_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let _index = bench.index().await;
    let mode = bench.path().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_threads_record_while_what_they_recorded_is_found() {
    let bench = Arc::new(Bench::new());
    let index = bench.index().await;
    let writers: Vec<_> = (0..8)
        .map(|n| {
            let bench = Arc::clone(&bench);
            std::thread::spawn(move || {
                for m in 0..200 {
                    let record =
                        Record::new(EventType::Invoke).capability(&format!("a.b.c{n}-{m}"));
                    bench.log.append(record).unwrap();
                }
            })
        })
        .collect();
    while bench.log.head().seq < 1600 {
        let head = bench.log.head().seq;
        assert!(index.reach(head, PATIENCE).await);
        let newest = seqs(&index, &Filter::default());
        assert!(newest.first().copied().unwrap_or(0) >= head);
        assert!(newest.windows(2).all(|pair| pair[0] == pair[1] + 1), "no hole");
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(index.reach(1600, PATIENCE).await);
    let filter = Filter { capability: some("a.b.c7-199"), ..Filter::default() };
    assert_eq!(seqs(&index, &filter).len(), 1);
}

#[tokio::test]
async fn no_text_that_is_searched_for_ends_the_index() {
    let bench = Bench::new();
    bench.two_days();
    let index = bench.index().await;
    for text in ["a\0b", "\"", "\"\"", "* NEAR(", "word1\0", "-word1 OR", "^word1", "{a b}: c"] {
        let filter = Filter { text: some(text), ..Filter::default() };
        assert!(index.find(&filter, 10).is_ok(), "{text:?}");
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_the_next_one_goes_on() {
    let bench = Bench::new();
    let long = vec!["x".repeat(400); 50];
    let detail = json!(vec![long; 6]);
    (0..60).for_each(|_| drop(bench.log.append(Record::new(EventType::Invoke).detail(&detail))));
    let index = bench.index().await;
    let files = |filter: &Filter, most| {
        crate::http::admin::audit::read_files(bench.log.folder(), filter, most)
    };
    let ways: [&dyn Fn(&Filter) -> Page; 2] =
        [&|filter| index.find(filter, 500).unwrap(), &|filter| files(filter, 500).unwrap()];
    for (find, forwards) in ways.iter().flat_map(|find| [(find, true), (find, false)]) {
        let mut filter = Filter { after: forwards.then_some(0), ..Filter::default() };
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = find(&filter);
            assert!(page.lines.len() < 60, "all at once");
            seen.extend(page.lines.iter().map(|line| line.seq));
            pages += 1;
            let last = page.lines.last().map(|line| line.seq);
            match forwards {
                true => filter.after = last,
                false => filter.before = last,
            }
            if !page.is_full(500) {
                break;
            }
        }
        assert!(pages > 1);
        seen.sort_unstable();
        assert_eq!(seen, (1..=60).collect::<Vec<u64>>());
    }
}
