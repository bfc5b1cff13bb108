//! Sessions and live tokens, in memory only: a restart ends them all, so a token can never outlive the
//! process that knows whether it was revoked or used.
//!
//! A token is believed only while it is *listed* here; a revoked one is struck off. So there is no
//! revocation list to lose.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use plexus_shared::admit::token::VerifiedToken;
use plexus_shared::admit::{Binding, Liveness};
use plexus_shared::clock::Timestamp;
use plexus_shared::ids::{AgentId, BundleId, CapabilityId, PendingId, SessionId, TokenId};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::scope::{ScopedToken, TokenScope};

/// The most sessions one agent may have; the oldest makes room.
const MAX_SESSIONS_PER_AGENT: usize = 64;
/// The most live tokens one session may have; the oldest makes room.
const MAX_TOKENS_PER_SESSION: usize = 256;

/// One handshake's stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub agent: AgentId,
    /// Whether the owner opened it, by the owner's own key.
    pub owner: bool,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A live token, for the owner; never the token itself.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// Its id.
    pub jti: TokenId,
    /// The session it lives in.
    pub session_id: SessionId,
    /// Whose it is.
    pub agent_id: AgentId,
    /// What it may do.
    pub scopes: Vec<TokenScope>,
    /// When it ends.
    pub expires_at: Timestamp,
}

#[derive(Debug)]
struct Stay {
    session: Session,
    tokens: VecDeque<TokenId>,
    /// Tokens minted on the owner's yes, waiting to be fetched by the session that asked.
    waiting: HashMap<PendingId, ScopedToken>,
}

#[derive(Debug)]
struct LiveToken {
    session: SessionId,
    expires_at: Timestamp,
    scopes: Vec<TokenScope>,
    single: HashMap<CapabilityId, Single>,
    bundled: Vec<(BundleId, CapabilityId)>,
}

/// A minted token, as it is listed.
#[derive(Debug)]
pub struct Listing {
    /// Its id.
    pub jti: TokenId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What it may do.
    pub scopes: Vec<TokenScope>,
    /// Those ids of them that can be used once.
    pub single: Vec<(CapabilityId, Binding)>,
    /// Those of them that came with a bundle.
    pub bundled: Vec<(BundleId, CapabilityId)>,
}

impl LiveToken {
    fn carries(&self, which: impl Fn(&CapabilityId) -> bool) -> bool {
        self.scopes.iter().any(|scope| which(&scope.id))
    }
}

/// One use of one capability: as it was shown, and whether it was used.
#[derive(Debug)]
struct Single {
    used: AtomicBool,
    binding: Binding,
}

#[derive(Debug, Default)]
struct Inner {
    stays: HashMap<SessionId, Stay>,
    by_age: VecDeque<(Timestamp, SessionId)>,
    by_agent: HashMap<AgentId, VecDeque<SessionId>>,
    tokens: HashMap<TokenId, LiveToken>,
}

/// All sessions and live tokens.
#[derive(Debug, Default)]
pub struct Sessions(RwLock<Inner>);

impl Sessions {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens `session`. Sessions all live equally long, so the oldest end first.
    pub fn open(&self, session: Session, now: Timestamp) {
        let mut inner = self.write();
        inner.forget_ended(now);
        let (id, agent) = (session.id.clone(), session.agent.clone());
        inner.by_age.push_back((session.expires_at, id.clone()));
        let stay = Stay { session, tokens: VecDeque::new(), waiting: HashMap::new() };
        inner.stays.insert(id.clone(), stay);
        let mine = inner.by_agent.entry(agent).or_default();
        mine.push_back(id);
        let surplus = (mine.len() > MAX_SESSIONS_PER_AGENT).then(|| mine.front().cloned());
        if let Some(oldest) = surplus.flatten() {
            inner.end(&oldest);
        }
    }

    /// The session `id`, when it is live at `now`.
    pub fn live(&self, id: &str, now: Timestamp) -> Option<Session> {
        let inner = self.read();
        inner.stays.get(id).map(|stay| &stay.session).filter(|s| s.expires_at > now).cloned()
    }

    /// Keeps a token for the session that asked for it in `item`.
    pub(super) fn keep(&self, session: &SessionId, item: PendingId, token: ScopedToken) {
        if let Some(stay) = self.write().stays.get_mut(session) {
            stay.waiting.insert(item, token);
        }
    }

    /// The token `session` was given on the owner's yes to `item`.
    pub(super) fn kept(&self, session: &SessionId, item: &PendingId) -> Option<ScopedToken> {
        self.read().stays.get(session)?.waiting.get(item).cloned()
    }

    /// Strikes off every token that carries a scope `which` picks; says which tokens those were, and
    /// whose.
    pub fn strike(&self, which: impl Fn(&CapabilityId) -> bool) -> Vec<(TokenId, SessionId)> {
        self.write().strike(|token| token.carries(&which))
    }

    /// Whether a token is believed, apart from its end.
    pub fn listed(&self, jti: &TokenId) -> bool {
        self.read().tokens.contains_key(jti)
    }

    /// Strikes off one token; with its holder, when it was there.
    pub fn strike_one(&self, jti: &TokenId) -> Option<(TokenId, SessionId)> {
        let mut inner = self.write();
        for stay in inner.stays.values_mut() {
            stay.waiting.retain(|_, token| token.jti != *jti);
        }
        inner.tokens.remove(jti).map(|token| (jti.clone(), token.session))
    }

    /// The tokens of `agent` that carry a scope `which` picks, struck off.
    pub fn strike_of(
        &self,
        agent: &AgentId,
        which: impl Fn(&CapabilityId) -> bool,
    ) -> Vec<(TokenId, SessionId)> {
        let mut inner = self.write();
        let mine: Vec<_> = inner.by_agent.get(agent).into_iter().flatten().cloned().collect();
        inner.strike(|token| mine.contains(&token.session) && token.carries(&which))
    }

    /// Ends one session, and so its tokens.
    pub fn close(&self, id: &SessionId) {
        self.write().end(id);
    }

    /// Ends every session that the owner's key opened.
    pub fn end_owners(&self) -> usize {
        let mut inner = self.write();
        let owners = inner.stays.values().filter(|stay| stay.session.owner);
        let owners: Vec<_> = owners.map(|stay| stay.session.id.clone()).collect();
        owners.iter().for_each(|id| inner.end(id));
        owners.len()
    }

    /// Whose the token `jti` is, when it is listed.
    pub(super) fn holder(&self, jti: &TokenId) -> Option<Session> {
        let inner = self.read();
        let token = inner.tokens.get(jti)?;
        inner.stays.get(&token.session).map(|stay| stay.session.clone())
    }

    /// Every live token, for the owner.
    pub fn tokens(&self, now: Timestamp) -> Vec<TokenView> {
        let inner = self.read();
        let live = inner.tokens.iter().filter(|(_, token)| token.expires_at > now);
        let view = |(jti, token): (&TokenId, &LiveToken)| {
            let agent_id = inner.stays.get(&token.session)?.session.agent.clone();
            let (session_id, expires_at) = (token.session.clone(), token.expires_at);
            let scopes = token.scopes.clone();
            Some(TokenView { jti: jti.clone(), session_id, agent_id, scopes, expires_at })
        };
        let mut tokens: Vec<_> = live.filter_map(view).collect();
        tokens.sort_unstable_by(|a, b| a.jti.cmp(&b.jti));
        tokens
    }

    /// Whether `agent` has a session.
    pub(super) fn any_of(&self, agent: &AgentId) -> bool {
        self.read().by_agent.contains_key(agent)
    }

    /// Ends every session of `agent`, and so every token; says how many sessions there were.
    pub fn end_all(&self, agent: &AgentId) -> usize {
        let mut inner = self.write();
        let mine = inner.by_agent.get(agent).cloned().unwrap_or_default();
        mine.iter().for_each(|id| inner.end(id));
        mine.len()
    }

    /// Ends every session, and so every token; says how many of each there were.
    pub fn clear(&self) -> (usize, usize) {
        let ended = std::mem::take(&mut *self.write());
        (ended.stays.len(), ended.tokens.len())
    }

    /// How many sessions and tokens are held.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.read();
        (inner.stays.len(), inner.tokens.len())
    }

    /// Lists a minted token. False when its session has ended: the token then is dead before it was
    /// seen.
    pub fn list(&self, session: &SessionId, token: Listing) -> bool {
        let Listing { jti, expires_at, scopes, single, bundled } = token;
        let mut inner = self.write();
        let Some(stay) = inner.stays.get_mut(session) else { return false };
        stay.tokens.push_back(jti.clone());
        let surplus =
            (stay.tokens.len() > MAX_TOKENS_PER_SESSION).then(|| stay.tokens.pop_front()).flatten();
        if let Some(oldest) = surplus {
            inner.tokens.remove(&oldest);
        }
        let unused = |(id, binding)| (id, Single { used: AtomicBool::new(false), binding });
        let single = single.into_iter().map(unused).collect();
        let session = session.clone();
        inner.tokens.insert(jti, LiveToken { session, expires_at, scopes, single, bundled });
        true
    }

    /// What live tokens of `agent` can do by the word of `bundle`.
    pub(super) fn bundled(&self, agent: &AgentId, bundle: &BundleId) -> HashSet<CapabilityId> {
        let inner = self.read();
        let mine = inner.by_agent.get(agent).into_iter().flatten();
        let tokens = mine.filter_map(|id| inner.stays.get(id)).flat_map(|stay| &stay.tokens);
        let bundled = tokens.filter_map(|jti| inner.tokens.get(jti)).flat_map(|t| &t.bundled);
        bundled.filter(|(of, _)| of == bundle).map(|(_, id)| id.clone()).collect()
    }
}

impl Inner {
    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.by_age.front().filter(|(expires_at, _)| *expires_at <= now) {
            let id = id.clone();
            self.by_age.pop_front();
            self.end(&id);
        }
        // Sessions that ended early leave their place in the queue; don't let those pile up.
        if self.by_age.len() > 2 * self.stays.len() + 1024 {
            self.by_age.retain(|(_, id)| self.stays.contains_key(id));
        }
    }

    /// Strikes off the tokens that are `picked`, also where they wait to be fetched.
    fn strike(&mut self, picked: impl Fn(&LiveToken) -> bool) -> Vec<(TokenId, SessionId)> {
        let struck = self.tokens.iter().filter(|(_, token)| picked(token));
        let struck: Vec<_> =
            struck.map(|(jti, token)| (jti.clone(), token.session.clone())).collect();
        for (jti, session) in &struck {
            self.tokens.remove(jti);
            if let Some(stay) = self.stays.get_mut(session) {
                stay.waiting.retain(|_, token| token.jti != *jti);
            }
        }
        struck
    }

    fn end(&mut self, id: &SessionId) {
        let Some(stay) = self.stays.remove(id) else { return };
        for jti in stay.tokens {
            self.tokens.remove(&jti);
        }
        if let Some(mine) = self.by_agent.get_mut(&stay.session.agent) {
            mine.retain(|other| other != id);
            if mine.is_empty() {
                self.by_agent.remove(&stay.session.agent);
            }
        }
    }
}

impl Liveness for Sessions {
    fn check(&self, token: &VerifiedToken, now: Timestamp) -> Result<(), Denial> {
        let inner = self.read();
        let stay = inner.stays.get(token.session()).map(|stay| &stay.session);
        let live = stay.is_some_and(|s| s.expires_at > now && s.agent == *token.agent());
        if !live {
            let message = "the session has ended; handshake again";
            return Err(Denial::new(Code::SessionExpired, message));
        }
        let listed = inner.tokens.get(token.jti());
        if listed.is_some_and(|known| known.session == *token.session() && known.expires_at > now) {
            return Ok(());
        }
        let message = "the token was revoked; ask again with PUT /grants";
        Err(Denial::new(Code::TokenRevoked, message))
    }

    fn binding(&self, token: &VerifiedToken, id: &str) -> Option<Binding> {
        let inner = self.read();
        inner.tokens.get(token.jti())?.single.get(id).map(|single| single.binding)
    }

    fn claim(&self, token: &VerifiedToken, id: &str) -> Result<(), Denial> {
        let inner = self.read();
        let spent = match inner.tokens.get(token.jti()).map(|known| known.single.get(id)) {
            Some(None) => false,
            Some(Some(single)) => single.used.swap(true, Ordering::AcqRel),
            None => true,
        };
        if !spent {
            return Ok(());
        }
        let message = "this approval was for one use, and it was used; ask again with PUT /grants";
        Err(Denial::new(Code::GrantRequired, message).about(id))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use plexus_shared::admit::token::{Claims, TokenKeys};
    use std::time::Duration;

    fn opened(sessions: &Sessions, agent: &str, now: Timestamp) -> Session {
        let (agent, expires_at) = (agent.parse().unwrap(), now.plus(Duration::from_secs(60)));
        let session = Session { id: SessionId::fresh(now), agent, owner: false, expires_at };
        sessions.open(session.clone(), now);
        session
    }

    fn token(session: &Session, jti: &TokenId, now: Timestamp) -> VerifiedToken {
        let keys = TokenKeys::new(&[1; 32]);
        let ends = now.plus(Duration::from_secs(900));
        let claims = Claims::new(
            session.agent.clone(),
            session.id.clone(),
            jti.clone(),
            Vec::new(),
            now,
            ends,
            None,
        );
        keys.verify(&keys.sign(&claims).unwrap()).unwrap()
    }

    fn listing(jti: &TokenId, expires_at: Timestamp) -> Listing {
        let (jti, scopes, single, bundled) = (jti.clone(), Vec::new(), Vec::new(), Vec::new());
        Listing { jti, expires_at, scopes, single, bundled }
    }

    #[test]
    fn one_of_many_calls_gets_the_single_use() {
        let now = Timestamp::from_millis(1_000);
        let sessions = Sessions::default();
        let session = opened(&sessions, "ada", now);
        let jti = TokenId::fresh(now);
        let id: CapabilityId = "a.b.c".parse().unwrap();
        let bound = Binding { definition: [0; 32], input: None };
        let single = vec![(id, bound)];
        let listing = Listing { single, ..listing(&jti, session.expires_at) };
        sessions.list(&session.id, listing);
        let token = token(&session, &jti, now);
        let won = std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..16).map(|_| scope.spawn(|| sessions.claim(&token, "a.b.c").is_ok())).collect();
            calls.into_iter().map(|c| c.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
        assert!(sessions.claim(&token, "other.b.c").is_ok(), "not a single use");
    }

    #[test]
    fn a_token_dies_with_its_session_and_sessions_are_forgotten() {
        let now = Timestamp::from_millis(1_000);
        let sessions = Sessions::default();
        let session = opened(&sessions, "ada", now);
        let jti = TokenId::fresh(now);
        sessions.list(&session.id, listing(&jti, now.plus(Duration::from_secs(900))));
        let token = token(&session, &jti, now);
        assert!(sessions.check(&token, now).is_ok());
        let later = now.plus(Duration::from_secs(61));
        assert_eq!(sessions.check(&token, later).unwrap_err().code, Code::SessionExpired);
        opened(&sessions, "bob", later);
        assert_eq!(sessions.count(), (1, 0));
    }

    #[test]
    fn one_agents_sessions_are_bounded() {
        let now = Timestamp::from_millis(1_000);
        let sessions = Sessions::default();
        for _ in 0..1_000 {
            opened(&sessions, "ada", now);
        }
        assert_eq!(sessions.count().0, MAX_SESSIONS_PER_AGENT);
    }
}
