//! Killed without a word: what was answered is recorded, and what was done is done, wherever it falls.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "crash/after.rs"]
mod after;
#[path = "crash/story.rs"]
mod story;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use plexus_shared::audit::{AuditLog, EventType, Record, Tier, tail, verify};
use plexus_shared::clock::{Clock, ManualClock, SystemClock, Timestamp};
use plexus_shared::failpoint::Point;
use plexus_shared::state_dir::StateDir;
use plexus_tests::{Agent, Stage};
use serde_json::json;

use tokio::task::JoinSet;

use story::{Died, Life, Turn};

/// How often the primary is killed.
const ROUNDS: usize = 100;

#[tokio::test]
async fn a_kill_after_an_answer_never_loses_that_answers_record() {
    let stage = Stage::new();
    let mut answered = Vec::new();
    let mut known = None;
    for round in 0..ROUNDS {
        let primary = stage.primary().await;
        let agent = match known.take() {
            None => {
                primary.share(&stage).await;
                primary.agent("ada", &["notes.file.read"]).await
            }
            Some(agent) => {
                let Agent { pat, .. } = agent;
                let (session, _) = primary.handshake(&pat).await;
                Agent { url: primary.url.clone(), pat, session }
            }
        };
        let token = agent.token("notes.file.read").await;
        // A few at once, so that the kill falls between one write and the next.
        let path = json!({"path": "a.txt"});
        let calls = (0..=round % 4).map(|_| agent.invoke(&token, "notes.file.read", &path));
        for (status, answer) in plexus_tests::all(calls).await {
            assert_eq!(status, 200, "{answer}");
            answered.push(answer["auditId"].as_str().unwrap().to_owned());
        }
        primary.running.kill().await;
        known = Some(agent);
    }
    let folder = stage.path("home/audit");
    let report = verify(&folder).unwrap();
    assert_eq!((report.first_bad, report.incomplete_bytes), (None, 0));
    let recorded = tail(&folder, None, usize::MAX, |_| true).unwrap();
    let recorded: std::collections::HashSet<_> =
        recorded.iter().map(|event| event.id.as_str()).collect();
    assert!(answered.len() > ROUNDS);
    for id in &answered {
        assert!(recorded.contains(id.as_str()), "{id} was answered and is not in the log");
    }
}

/// How many turns a story has.
const TURNS: u64 = 3;
/// How many stories run at once.
const LANES: usize = 4;
/// How many stories end early, at least.
const STORIES: usize = 500;

/// A log as an old gateway left it: a day whose time is over, and a line that a power loss cut.
fn old_log(stage: &Stage) {
    let dir = StateDir::open(&stage.path("home")).unwrap().subdir("audit").unwrap();
    let mut day = String::new();
    for days in [100, 1] {
        let at = SystemClock.now().as_millis() - days * 86_400_000;
        let at = Timestamp::from_millis(at);
        let log = AuditLog::open(dir.clone(), ManualClock::at(at), Tier::Primary).unwrap();
        for _ in 0..3 {
            log.append(Record::new(EventType::SettingsChange)).unwrap();
        }
        day = at.day();
    }
    let path = dir.join(format!("audit-{day}.jsonl"));
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"at\":");
    std::fs::write(&path, torn).unwrap();
}

async fn live(stage: &Stage, failpoint: &str, turns: &mut Vec<Turn>) -> Result<(), Died> {
    let mut life = Life::begin(stage, Some(failpoint)).await?;
    for n in 0..TURNS {
        turns.push(Turn::new(n));
        if turns.last_mut().unwrap().live(stage, &mut life).await.is_err() {
            life.mourn().await;
            return Err(Died);
        }
    }
    life.stop().await
}

/// One story: lived until the `n`th passing of `point`, killed once more in the start after it or right
/// behind it, and then looked at. Whether it died there at all.
async fn round(point: Point, n: u64) -> bool {
    let stage = Stage::in_memory();
    old_log(&stage);
    let mut turns = Vec::new();
    let failpoint = format!("{}:{n}", point.as_str());
    if live(&stage, &failpoint, &mut turns).await.is_ok() {
        return false;
    }
    let again = Point::ALL.iter().cycle().nth(usize::try_from(n).unwrap()).unwrap();
    let again = Life::begin(&stage, Some(&format!("{}:1", again.as_str()))).await;
    if let Ok(life) = again {
        life.kill().await;
    }
    let half = after::half_written(&stage);
    let Ok(life) = Life::begin(&stage, None).await else { panic!("no one told it to") };
    assert!(half.iter().all(|path| !path.exists()), "left behind: {half:?}");
    after::check(&stage, &life.gateway, &mut turns).await;
    life.kill().await;
    after::check_log(&stage, &turns);
    true
}

/// How far the sweep over all places has come.
#[derive(Default)]
struct Sweep {
    next: usize,
    passings: HashMap<Point, u64>,
    /// The first passing that no story came to.
    over: HashMap<Point, u64>,
    died: usize,
}

impl Sweep {
    /// The next place and passing: each place in turn, until a story passes it no more.
    fn next(&mut self) -> Option<(Point, u64)> {
        let left = Point::ALL.iter().filter(|point| !self.over.contains_key(point));
        let left: Vec<_> = left.collect();
        let point = **left.get(self.next % left.len().max(1))?;
        self.next += 1;
        let n = self.passings.entry(point).or_default();
        *n += 1;
        Some((point, *n))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_it_dies_nothing_answered_is_lost_and_nothing_used_is_there_again() {
    let sweep = Arc::new(Mutex::new(Sweep::default()));
    let lane = |sweep: Arc<Mutex<Sweep>>| async move {
        loop {
            let Some((point, n)) = sweep.lock().unwrap().next() else { return };
            let told = tokio::spawn(round(point, n)).await;
            let died = told.unwrap_or_else(|_| panic!("it died at {}:{n}", point.as_str()));
            let mut sweep = sweep.lock().unwrap();
            if died {
                sweep.died += 1;
            } else {
                sweep.over.entry(point).or_insert(n);
            }
        }
    };
    let mut lanes: JoinSet<_> = (0..LANES).map(|_| lane(sweep.clone())).collect();
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    let sweep = sweep.lock().unwrap();
    for point in Point::ALL {
        assert!(sweep.over[point] > 1, "{} is never passed", point.as_str());
    }
    assert!(sweep.died >= STORIES, "{} stories", sweep.died);
}
