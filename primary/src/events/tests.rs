#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex as StdMutex;

use plexus_shared::ids::{PendingId, TokenId};
use plexus_shared::model::exposure::ExposureRules;
use plexus_shared::model::scope::ScopedToken;

use super::*;
use crate::store::rows::PendingState;
use crate::trust::sessions::Session;

#[derive(Debug)]
struct Hands(StdMutex<Timestamp>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The owner, by the key of the start.
const OWNER: Viewer = Viewer::Owner(KeyAge::FIRST);

struct Stage {
    events: Arc<Events>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    clock: Arc<Hands>,
}

fn stage() -> Stage {
    let registry = Arc::new(Registry::new(7, ExposureRules::default()));
    let sessions = Arc::new(Sessions::default());
    let clock = Arc::new(Hands(StdMutex::new(Timestamp::from_millis(1_000))));
    let mut events = Events::new(registry.clone(), sessions.clone(), clock.clone());
    events.quiet = Duration::from_millis(20);
    let events = Arc::new(events);
    Stage { events, registry, sessions, clock }
}

impl Stage {
    fn session(&self, agent: &str) -> Session {
        let now = self.clock.now();
        let expires_at = now.plus(Duration::from_secs(60));
        let (id, agent) = (SessionId::fresh(now), agent.parse().unwrap());
        let session = Session { id, agent, owner: false, expires_at };
        self.sessions.open(session.clone(), now);
        session
    }

    fn viewer(&self, agent: &str) -> Viewer {
        Viewer::Session(self.session(agent))
    }

    fn listen(&self, viewer: &Viewer, after: Option<u64>) -> Subscription {
        self.events.subscribe(viewer.clone(), after).ok().unwrap()
    }

    fn manifest(&self, revision: u64) {
        let event = Event::ManifestChanged { revision, changed: None };
        self.events.publish(Audience::All, event);
    }

    fn resolve(&self, session: &Session) {
        let now = self.clock.now();
        let token = ScopedToken {
            token: "the.secret.token".into(),
            jti: TokenId::fresh(now),
            expires_at: now,
            scopes: Vec::new(),
            transitive: Vec::new(),
            grant_expires_at: None,
            trust_window: None,
        };
        let pending = PendingId::fresh(now);
        let (decision, token) = (Decision::Approved, Some(token));
        let event = Event::GrantResolved { pending, decision, token };
        self.events.publish(Audience::Session(session.id.clone()), event);
    }
}

/// The next event, which must be there already.
async fn told(subscription: &mut Subscription) -> Told {
    let next = tokio::time::timeout(Duration::from_secs(5), subscription.next()).await;
    match next.unwrap() {
        Some(Next::Told(told)) => told,
        other => panic!("no event but {other:?}"),
    }
}

/// What the next event says, when it is the manifest's.
async fn revision(subscription: &mut Subscription) -> u64 {
    let told = told(subscription).await;
    assert_eq!(told.name, "manifest_changed");
    told.data["revision"].as_u64().unwrap()
}

#[tokio::test]
async fn a_token_is_told_to_the_session_that_asked_and_to_no_one_else() {
    let stage = stage();
    let asker = stage.session("ada");
    let twin = stage.viewer("ada");
    let other = stage.viewer("bob");
    let mut mine = stage.listen(&Viewer::Session(asker.clone()), None);
    let mut twins = stage.listen(&twin, None);
    let mut others = stage.listen(&other, None);
    let mut owners = stage.listen(&OWNER, None);
    stage.resolve(&asker);
    stage.events.tell_owner(Event::PendingResolved {
        pending: PendingId::fresh(stage.clock.now()),
        state: PendingState::Approved,
    });
    stage.manifest(8);

    let told_me = told(&mut mine).await;
    assert_eq!((told_me.name, &told_me.data["decision"]), ("grant_resolved", &"approved".into()));
    assert_eq!(told_me.data["token"]["token"], "the.secret.token");
    assert_eq!(revision(&mut mine).await, 8, "what is the owner's is not told");
    assert_eq!(revision(&mut twins).await, 8, "another session of the same agent is another");
    assert_eq!(revision(&mut others).await, 8);
    let told_owner = told(&mut owners).await;
    assert_eq!(told_owner.name, "grant_resolved");
    assert!(told_owner.data.get("token").is_none(), "{told_owner:?}");
    assert_eq!(told(&mut owners).await.name, "pending_resolved");
    assert_eq!(revision(&mut owners).await, 8);
}

#[tokio::test]
async fn who_comes_back_hears_what_it_missed_once_and_in_order() {
    let stage = stage();
    let viewer = stage.viewer("ada");
    let mut first = stage.listen(&viewer, None);
    stage.manifest(8);
    let known = told(&mut first).await.id;
    drop(first);
    for revision in 9..12 {
        stage.manifest(revision);
    }
    let mut again = stage.listen(&viewer, Some(known));
    for expected in 9..12 {
        assert_eq!(revision(&mut again).await, expected);
    }
    stage.manifest(12);
    assert_eq!(revision(&mut again).await, 12);
}

#[tokio::test]
async fn a_gap_begins_with_the_manifest_as_it_is_now() {
    let stage = stage();
    let viewer = stage.viewer("ada");
    stage.manifest(100);
    for unknown in [0, 1, u64::MAX] {
        let mut back = stage.listen(&viewer, Some(unknown));
        assert_eq!(revision(&mut back).await, stage.registry.catalog().revision());
        assert_eq!(revision(&mut back).await, 100, "what is kept is told after it");
    }
    let hub = Events::new(stage.registry.clone(), stage.sessions.clone(), stage.clock.clone());
    let before = lock(&hub.ring).last();
    *stage.clock.0.lock().unwrap() = stage.clock.now().plus(Duration::from_millis(1));
    let after = Events::new(stage.registry.clone(), stage.sessions.clone(), stage.clock.clone());
    assert!(lock(&after.ring).last() > before, "a restart's numbers are above the old ones");
}

#[tokio::test]
async fn a_slow_listener_holds_no_one_up_and_is_told_to_look_again() {
    let stage = stage();
    let viewer = stage.viewer("ada");
    let mut slow = stage.listen(&viewer, None);
    let many = u64::try_from(ring::KEPT).unwrap() + 10;
    for revision in 0..many {
        stage.manifest(1000 + revision);
    }
    let resync = told(&mut slow).await;
    assert_eq!(resync.data["revision"], stage.registry.catalog().revision());
    for expected in 10..many {
        assert_eq!(revision(&mut slow).await, 1000 + expected);
    }
    stage.manifest(5);
    assert_eq!(revision(&mut slow).await, 5, "and then it keeps up");
}

#[tokio::test]
async fn a_flood_of_log_lines_takes_nothing_from_the_agents() {
    let stage = stage();
    let asker = stage.session("ada");
    let viewer = Viewer::Session(asker.clone());
    let known = stage.events.beat.borrow().last;
    stage.resolve(&asker);
    for _ in 0..5 {
        stage.events.skip_log();
    }
    let mut back = stage.listen(&viewer, Some(known));
    assert_eq!(told(&mut back).await.name, "grant_resolved");
    let mut owner = stage.listen(&OWNER, Some(known));
    assert_eq!(told(&mut owner).await.name, "manifest_changed", "lines of the log are missing");
    assert_eq!(told(&mut owner).await.name, "grant_resolved");
}

#[tokio::test]
async fn a_stream_ends_with_its_session_and_all_end_with_the_gateway() {
    let stage = stage();
    let (ada, bob) = (stage.session("ada"), stage.viewer("bob"));
    let mut hers = stage.listen(&Viewer::Session(ada.clone()), None);
    let mut his = stage.listen(&bob, None);
    let mut owners = stage.listen(&OWNER, None);
    stage.resolve(&ada);
    stage.sessions.end_all(&ada.agent);
    assert_eq!(hers.next().await, None, "nothing is told to a session that has ended");
    stage.events.close();
    assert_eq!(his.next().await, None);
    assert_eq!(owners.next().await, None);
    assert_eq!(stage.listen(&OWNER, Some(0)).next().await, None);
}

#[tokio::test]
async fn an_owners_stream_ends_with_its_key() {
    let stage = stage();
    let mut old = stage.listen(&OWNER, None);
    let ada = stage.viewer("ada");
    let mut hers = stage.listen(&ada, None);
    stage.events.key_rotated();
    stage.manifest(8);
    assert_eq!(old.next().await, None, "nothing is told to the key before");
    assert_eq!(stage.listen(&OWNER, None).next().await, None, "nor to one that came just then");
    let mut new = stage.listen(&Viewer::Owner(stage.events.key()), Some(0));
    told(&mut new).await;
    assert_eq!(revision(&mut hers).await, 8, "no agent is touched");
}

#[tokio::test]
async fn a_silent_stream_says_so_and_looks_at_its_session() {
    let stage = stage();
    let viewer = stage.viewer("ada");
    let mut stream = stage.listen(&viewer, None);
    assert_eq!(stream.next().await, Some(Next::Quiet));
    *stage.clock.0.lock().unwrap() = stage.clock.now().plus(Duration::from_secs(61));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn open_streams_are_bounded_and_the_owner_keeps_a_place() {
    let stage = stage();
    let viewer = stage.viewer("ada");
    let refused = |viewer: &Viewer| stage.events.subscribe(viewer.clone(), None).is_err();
    let held: Vec<_> = (0..MAX_PER_SESSION).map(|_| stage.listen(&viewer, None)).collect();
    assert!(refused(&viewer));
    drop(held);
    assert!(!refused(&viewer), "a place is given back");

    let mut open = Vec::new();
    for agent in 0..(MAX_AGENTS / MAX_PER_SESSION) {
        let viewer = stage.viewer(&format!("agent-{agent}"));
        open.extend((0..MAX_PER_SESSION).map(|_| stage.listen(&viewer, None)));
    }
    assert!(refused(&viewer));
    open.extend((0..MAX_OWNER).map(|_| stage.listen(&OWNER, None)));
    assert!(refused(&OWNER));
}

#[test]
fn what_moved_is_named_unless_it_is_too_much() {
    use plexus_shared::model::trust::Provenance;
    let seen = |ids: &[(&str, u8)]| -> follow::Shown {
        let entry = |(id, mark): &(&str, u8)| {
            let id = id.parse().unwrap();
            (id, ([*mark; 32], Provenance::Managed))
        };
        ids.iter().map(entry).collect()
    };
    let (before, now) = (seen(&[("a.b.c", 0), ("d.e.f", 0)]), seen(&[("d.e.f", 1), ("g.h.i", 0)]));
    let changed = follow::difference(&before, &now).unwrap();
    assert_eq!(changed.added, ["g.h.i".parse().unwrap()]);
    assert_eq!(changed.removed, ["a.b.c".parse().unwrap()]);
    assert_eq!(changed.updated, ["d.e.f".parse().unwrap()]);
    let many: Vec<_> = (0..300).map(|n| format!("a.b.c{n}")).collect();
    let many: Vec<_> = many.iter().map(|id| (id.as_str(), 0)).collect();
    assert_eq!(follow::difference(&seen(&[]), &seen(&many)), None);
}
