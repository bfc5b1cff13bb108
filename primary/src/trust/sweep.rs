//! Letting go of what has ended.

use std::time::Duration;

use plexus_shared::clock::Timestamp;

use super::Trust;
use crate::events::Event;
use crate::store::rows::{PendingRow, PendingState};
use crate::store::{Change, Prune, StoreError};

/// How long a settled question, and a redeemed code, is remembered: a code that is shown again within
/// that time is told that it was used.
const MEMORY: Duration = Duration::from_secs(30 * 86_400);

impl Trust {
    /// Settles the questions that nobody answered in time, which the owner is told, and lets go of what
    /// ended long enough before `now`: grants at once, keyed calls after a day, settled questions and
    /// redeemed codes after thirty.
    ///
    /// # Errors
    /// When that could not be kept; it is there the next time.
    pub async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        self.replays.sweep(now).await?;
        let _gate = self.gate.lock().await;
        let expired = self.ledger().expired(now);
        let settle = |row: PendingRow| Change::PutPending(row.settled(PendingState::Expired));
        let mut changes: Vec<_> = expired.iter().cloned().map(settle).collect();
        let ended = Prune { grants: now, settled: now.minus(MEMORY) };
        if self.ledger().has_ended(&ended) {
            changes.push(Change::Prune(ended));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.core.store.commit(changes.clone()).await?;
        self.show(changes);
        for row in expired {
            let state = PendingState::Expired;
            self.core.events.tell_owner(Event::PendingResolved { pending: row.id, state });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use plexus_shared::admit::token::TokenKeys;
    use plexus_shared::audit::{AuditLog, EventType, Record, Tier};
    use plexus_shared::clock::ManualClock;
    use plexus_shared::ids::{PendingId, SessionId};
    use plexus_shared::model::exposure::ExposureRules;
    use plexus_shared::model::outcome::Reply;
    use plexus_shared::model::trust::{Grant, TrustWindow};
    use plexus_shared::model::verb::VerbSet;
    use plexus_shared::secret::{Credential, CredentialKind};
    use plexus_shared::source::registry::Registry;
    use plexus_shared::state_dir::StateDir;

    use super::*;
    use crate::core::Core;
    use crate::events::{Events, Next, Viewer};
    use crate::replays::{Begin, Replays};
    use crate::settings::InForce;
    use crate::store::Store;
    use crate::store::rows::{AgentKind, AgentRow, AskedGrants, Matter};
    use crate::trust::ledger::Ledger;
    use crate::trust::sessions::Sessions;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The engine over what is kept, and how many keyed calls that are.
    fn trust(state: &StateDir, clock: &Arc<ManualClock>) -> (Trust, usize) {
        let (store, mut kept) = Store::open(&state.join("state.db")).unwrap();
        let sessions = Arc::new(Sessions::default());
        let log = AuditLog::open(state.subdir("audit").unwrap(), clock.clone(), Tier::Primary);
        let registry = Arc::new(Registry::new(0, ExposureRules::default()));
        let core = Core {
            events: Arc::new(Events::new(registry.clone(), sessions.clone(), clock.clone())),
            registry,
            store: Arc::new(store),
            audit: Arc::new(log.unwrap()),
            audit_index: None,
            clock: clock.clone(),
            settings: InForce::default(),
            exposure_gate: Arc::default(),
            tasks: Arc::default(),
        };
        let ledger = Ledger::new(&mut kept);
        let keyed = kept.replays.len();
        let replays = Arc::new(Replays::new(core.clone(), kept.replays));
        let keys = TokenKeys::new(&[7; 32]);
        (Trust::new(core, ledger, sessions, replays, keys, false), keyed)
    }

    fn agent(now: Timestamp) -> AgentRow {
        AgentRow {
            id: "ada".parse().unwrap(),
            kind: AgentKind::Generic,
            label: None,
            issued_at: now,
            code: None,
            code_expires_at: None,
            pat: None,
            redeemed_at: None,
            revoked_at: None,
        }
    }

    fn question(now: Timestamp) -> PendingRow {
        PendingRow {
            id: PendingId::fresh(now),
            agent: "ada".parse().unwrap(),
            session: SessionId::fresh(now),
            state: PendingState::Pending,
            created_at: now,
            expires_at: now.plus(HOUR),
            matter: Matter::Grant(AskedGrants { asks: Vec::new(), input: None, bundle: None }),
        }
    }

    fn grant(now: Timestamp, capability: &str, window: TrustWindow) -> Grant {
        Grant {
            agent: "ada".parse().unwrap(),
            capability: capability.parse().unwrap(),
            verbs: VerbSet::READ,
            constraint: None,
            bundle: None,
            granted_at: now,
            expires_at: window.expiry(now),
            window,
            extent: None,
        }
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_not_its_successors() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&temp.path().join("home")).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_782_212_400_000));
        let (trust, _) = trust(&state, &clock);
        let key = ("ada".parse().unwrap(), "a.b.c".to_owned(), "k".to_owned());
        let begin = async || trust.replays.begin(&key, [0; 32], [0; 32]).await.unwrap();
        let Begin::First(old) = begin().await else { unreachable!("it is the first") };
        clock.advance(24 * HOUR);
        trust.sweep(trust.now()).await.unwrap();
        let Begin::First(new) = begin().await else { unreachable!("the key was forgotten") };
        drop(old);
        assert!(matches!(begin().await, Begin::Running(_)), "the new one runs still");
        let denial = plexus_shared::model::denial::Denial::internal("x");
        new.done(&Reply::edge("a.b.c", denial)).await;
        assert!(matches!(begin().await, Begin::Again(_)), "and its answer is held");
    }

    #[tokio::test]
    async fn what_has_ended_is_settled_told_and_let_go_in_its_time() {
        let temp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&temp.path().join("home")).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(1_782_212_400_000));
        let (trust, _) = trust(&state, &clock);
        let start = trust.now();
        let code = Credential::generate(CredentialKind::EnrollmentCode).hash();
        let row = question(start);
        let changes = vec![
            Change::PutAgent(agent(start)),
            Change::SpendCode(code, start),
            Change::PutPending(row.clone()),
            Change::PutGrant(grant(start, "a.b.short", TrustWindow::Hour)),
            Change::PutGrant(grant(start, "a.b.long", TrustWindow::UntilRevoked)),
        ];
        trust.change(Record::new(EventType::AgentConnect), changes).await.unwrap();
        let key = ("ada".parse().unwrap(), "a.b.long".to_owned(), "k".to_owned());
        let Ok(Begin::First(place)) = trust.replays.begin(&key, [0; 32], [0; 32]).await else {
            unreachable!("it is the first of its key");
        };
        let denial = plexus_shared::model::denial::Denial::internal("x");
        place.done(&Reply::edge("a.b.long", denial)).await;
        let owner = Viewer::Owner(trust.core.events.key());
        let mut heard = trust.core.events.subscribe(owner, None).ok().unwrap();

        clock.advance(HOUR);
        trust.sweep(trust.now()).await.unwrap();
        let Some(Next::Told(told)) = heard.next().await else { unreachable!("it was told") };
        assert_eq!((told.name, &told.data["state"]), ("pending_resolved", &"expired".into()));
        assert!(trust.ledger().expired(trust.now()).is_empty(), "it is settled, once");
        assert!(trust.ledger().spent(&code), "a code is told as used for a while");
        drop(heard);
        drop(trust);

        let (trust, keyed) = self::trust(&state, &clock);
        assert_eq!(keyed, 1, "a key is remembered for a day");
        let state_of = |trust: &Trust| trust.ledger().pending(&row.id, start).map(|row| row.state);
        assert_eq!(state_of(&trust), Some(PendingState::Expired), "on disk too");
        let held = |trust: &Trust| -> Vec<_> {
            let ledger = trust.ledger();
            ledger.grants(None, start).iter().map(|g| g.capability.to_string()).collect()
        };
        assert_eq!(held(&trust), ["a.b.long"]);

        clock.advance(MEMORY);
        trust.sweep(trust.now()).await.unwrap();
        assert_eq!((state_of(&trust), trust.ledger().spent(&code)), (None, false));
        drop(trust);
        let (trust, keyed) = self::trust(&state, &clock);
        assert_eq!(keyed, 0, "no key is left");
        assert_eq!((state_of(&trust), trust.ledger().spent(&code)), (None, false), "nor on disk");
        assert_eq!(held(&trust), ["a.b.long"], "what stands, stands");
    }
}
