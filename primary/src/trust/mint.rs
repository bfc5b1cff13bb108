//! Turning what an agent holds into a short token.

use plexus_shared::admit::Binding;
use plexus_shared::admit::token::{Claims, MAX_TOKEN_BYTES};
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::gate::members::identity;
use plexus_shared::ids::{AgentId, SessionId, TokenId};
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::input::Digest;
use plexus_shared::model::scope::{ScopedToken, TokenScope, Transitive};
use plexus_shared::model::trust::{Grant, TrustWindow};

use super::ledger::Granted;
use super::sessions::{Listing, Session};
use super::{ChangeError, Trust};

impl Trust {
    /// Mints a token for `session` over `granted`: their verbs, no longer than the shortest of the
    /// token's life, the session and the grants. What was granted once can be used once.
    ///
    /// # Errors
    /// When the session has ended meanwhile, or the minting could not be recorded.
    pub(super) fn mint(
        &self,
        session: &Session,
        granted: &[Granted],
        input: Option<Digest>,
    ) -> Result<ScopedToken, Denial> {
        let now = self.now();
        let grants = || granted.iter().map(|granted| &granted.grant);
        let once = |grant: &&Grant| grant.window == TrustWindow::Once;
        let grant_ends = grants().filter(|grant| !once(grant)).map(|grant| grant.expires_at).min();
        let expires_at =
            [Some(now.plus(self.lifetimes().token)), Some(session.expires_at), grant_ends]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now);
        // The wire counts whole seconds; what is shown is what is enforced.
        let expires_at = Timestamp::from_millis(expires_at.as_secs() * 1000);
        let scopes = scopes(granted.iter());
        let jti = TokenId::fresh(now);
        let claims = Claims::new(
            session.agent.clone(),
            session.id.clone(),
            jti.clone(),
            scopes.clone(),
            now,
            expires_at,
            grant_ends,
        );
        let token = self.sign(&claims)?;
        let record = Record::new(EventType::TokenIssue)
            .agent(&session.agent)
            .session(&session.id)
            .jti(&jti)
            .outcome(RecordOutcome::Ok)
            .detail(&serde_json::json!({ "scopes": scopes, "expiresAt": expires_at }));
        self.core.audit.append(record).map_err(ChangeError::from)?;
        let catalog = self.core.registry.catalog();
        let single = grants().filter(once).filter_map(|grant| {
            let target = &catalog.get(grant.capability.as_str())?.target;
            let definition = identity(&catalog, target);
            Some((grant.capability.clone(), Binding { definition, input }))
        });
        let bundled =
            grants().filter_map(|grant| Some((grant.bundle.clone()?, grant.capability.clone())));
        let listing = Listing {
            jti: jti.clone(),
            expires_at,
            scopes: scopes.clone(),
            single: single.collect(),
            bundled: bundled.collect(),
        };
        if !self.sessions.list(&session.id, listing) {
            return Err(Denial::new(
                Code::SessionExpired,
                "the session has ended; handshake again",
            ));
        }
        Ok(ScopedToken {
            token,
            jti,
            expires_at,
            scopes,
            transitive: granted.iter().filter_map(transitive).collect(),
            grant_expires_at: grant_ends,
            trust_window: grants().map(|grant| grant.window).reduce(TrustWindow::shorter),
        })
    }

    /// Whether a token over `granted` can be read back, whenever and in whichever session it is minted.
    /// What can't is refused before anyone is asked.
    ///
    /// # Errors
    /// `schema_validation_failed` when it is longer than that.
    pub(super) fn fits<'a>(
        &self,
        agent: &AgentId,
        granted: impl Iterator<Item = &'a Granted> + Clone,
    ) -> Result<(), Denial> {
        let (now, last) = (self.now(), TrustWindow::UntilRevoked.expiry(self.now()));
        let (session, jti) = (SessionId::fresh(now), TokenId::fresh(now));
        let scopes = scopes(granted);
        let claims = Claims::new(agent.clone(), session, jti, scopes, now, last, Some(last));
        self.sign(&claims).map(|_| ())
    }

    /// `claims`, signed; no longer than a token may be.
    fn sign(&self, claims: &Claims) -> Result<String, Denial> {
        let signed = self.keys.sign(claims);
        let token = signed.map_err(|_| Denial::internal("no token could be signed"))?;
        if token.len() > MAX_TOKEN_BYTES {
            let message = "this is more than one token can carry; ask for less at a time, or with \
                           shorter constraints";
            return Err(Denial::new(Code::SchemaValidationFailed, message));
        }
        Ok(token)
    }
}

/// What a token over `granted` says: each capability, then what the workflows among them reach.
fn scopes<'a>(granted: impl Iterator<Item = &'a Granted> + Clone) -> Vec<TokenScope> {
    let direct = granted.clone().map(|Granted { grant, .. }| TokenScope {
        id: grant.capability.clone(),
        verbs: grant.verbs,
        synthesized_for: None,
        constraint: grant.constraint.clone(),
    });
    direct.chain(granted.flat_map(members)).collect()
}

/// The scopes that only the run of a workflow can use.
fn members(of: &Granted) -> impl Iterator<Item = TokenScope> {
    of.whole.known_members().iter().map(|member| TokenScope {
        id: member.id.clone(),
        verbs: member.verbs,
        synthesized_for: Some(of.grant.capability.clone()),
        constraint: None,
    })
}

/// What a grant lets the run of a workflow do; nothing for another kind of entry, or when the members
/// are not as the workflow says.
fn transitive(of: &Granted) -> Option<Transitive> {
    let member_scopes = of.whole.known_members().to_vec();
    let workflow_id = of.grant.capability.clone();
    (!member_scopes.is_empty()).then_some(Transitive { workflow_id, member_scopes })
}
