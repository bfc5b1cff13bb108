//! Turning what an agent holds into a short token.

use plexus_shared::admit::Binding;
use plexus_shared::admit::token::{Claims, MAX_TOKEN_BYTES};
use plexus_shared::audit::{EventType, Record, RecordOutcome};
use plexus_shared::clock::Timestamp;
use plexus_shared::gate::members::member_scopes;
use plexus_shared::ids::TokenId;
use plexus_shared::model::denial::{Code, Denial};
use plexus_shared::model::entry::EntryKind;
use plexus_shared::model::input::Digest;
use plexus_shared::model::scope::{ScopedToken, TokenScope, Transitive};
use plexus_shared::model::trust::{Grant, TrustWindow};
use plexus_shared::source::registry::Catalog;

use super::sessions::Session;
use super::{ChangeError, Trust};

impl Trust {
    /// Mints a token for `session` over `grants`: their verbs, no longer than the shortest of the
    /// token's life, the session and the grants. What was granted once can be used once.
    ///
    /// # Errors
    /// When the session has ended meanwhile, or the minting could not be recorded.
    pub(super) fn mint(
        &self,
        session: &Session,
        grants: &[Grant],
        input: Option<Digest>,
    ) -> Result<ScopedToken, Denial> {
        let now = self.now();
        let standing = || grants.iter().filter(|grant| grant.window != TrustWindow::Once);
        let grant_ends = standing().map(|grant| grant.expires_at).min();
        let expires_at =
            [Some(now.plus(self.lifetimes().token)), Some(session.expires_at), grant_ends]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(now);
        // The wire counts whole seconds; what is shown is what is enforced.
        let expires_at = Timestamp::from_millis(expires_at.as_secs() * 1000);
        let catalog = self.core.registry.catalog();
        let transitive: Vec<_> =
            grants.iter().filter_map(|grant| transitive(&catalog, grant)).collect();
        let direct = grants.iter().map(|grant| TokenScope {
            id: grant.capability.clone(),
            verbs: grant.verbs,
            synthesized_for: None,
            constraint: grant.constraint.clone(),
        });
        let scopes: Vec<_> = direct.chain(transitive.iter().flat_map(members)).collect();
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
        let single = grants.iter().filter(|grant| grant.window == TrustWindow::Once);
        let single = single.filter_map(|grant| {
            let definition = catalog.get(grant.capability.as_str())?.target.digest;
            Some((grant.capability.clone(), Binding { definition, input }))
        });
        let held = scopes.iter().map(|scope| scope.id.clone()).collect();
        if !self.sessions.list(&session.id, jti.clone(), expires_at, held, single) {
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
            transitive,
            grant_expires_at: grant_ends,
            trust_window: grants.iter().map(|grant| grant.window).reduce(TrustWindow::shorter),
        })
    }

    /// `claims`, signed; no longer than a token may be.
    fn sign(&self, claims: &Claims) -> Result<String, Denial> {
        let signed = self.keys.sign(claims);
        let token = signed.map_err(|_| Denial::internal("no token could be signed"))?;
        if token.len() > MAX_TOKEN_BYTES {
            let message = "this is more than one token can carry; ask for less at a time";
            return Err(Denial::new(Code::SchemaValidationFailed, message));
        }
        Ok(token)
    }
}

/// What `grant` lets the run of a workflow do; nothing for another kind of entry, or when the members
/// are not as the workflow says.
fn transitive(catalog: &Catalog, grant: &Grant) -> Option<Transitive> {
    let definition = &catalog.get(grant.capability.as_str())?.target.definition;
    if definition.kind != EntryKind::Workflow {
        return None;
    }
    let member_scopes = member_scopes(catalog, definition.id.as_str()).ok()?;
    Some(Transitive { workflow_id: grant.capability.clone(), member_scopes })
}

/// The scopes that only the run of the workflow can use.
fn members(of: &Transitive) -> impl Iterator<Item = TokenScope> {
    of.member_scopes.iter().map(|member| TokenScope {
        id: member.id.clone(),
        verbs: member.verbs,
        synthesized_for: Some(of.workflow_id.clone()),
        constraint: None,
    })
}
