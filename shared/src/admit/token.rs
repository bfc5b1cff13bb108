//! Scoped tokens: signed here, verified here, and nowhere else.
//!
//! [`VerifiedToken`] is a proof: its fields are private to this module and only
//! [`TokenKeys::verify`] makes one. What an attacker would try: `alg: none` or another algorithm
//! (the algorithm is pinned), a key from elsewhere (the signature fails), claims of another shape
//! (they don't parse). Expiry is a gate of its own, so that a late call is refused *and recorded*.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{AgentId, SessionId, TokenId};
use crate::model::scope::TokenScope;

const ISSUER: &str = "plexus";

/// The longest bearer text that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a scoped token says. Dates are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// The agent.
    pub sub: AgentId,
    iss: String,
    /// The session it lives and dies with.
    pub session_id: SessionId,
    /// Its id.
    pub jti: TokenId,
    /// Its authority.
    pub scopes: Vec<TokenScope>,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gexp: Option<i64>,
}

impl Claims {
    /// Claims issued at `now` that end at `expires`; `grant_ends` is shown, not enforced.
    pub fn new(
        agent: AgentId,
        session: SessionId,
        jti: TokenId,
        scopes: Vec<TokenScope>,
        now: Timestamp,
        expires: Timestamp,
        grant_ends: Option<Timestamp>,
    ) -> Self {
        Self {
            sub: agent,
            iss: ISSUER.into(),
            session_id: session,
            jti,
            scopes,
            iat: now.as_secs(),
            exp: expires.as_secs(),
            gexp: grant_ends.map(Timestamp::as_secs),
        }
    }
}

/// A token whose signature is ours. Not yet a permission: the gates come next.
#[derive(Debug)]
pub struct VerifiedToken {
    claims: Claims,
}

impl VerifiedToken {
    /// The agent it was minted for.
    pub fn agent(&self) -> &AgentId {
        &self.claims.sub
    }

    /// The session it lives and dies with.
    pub fn session(&self) -> &SessionId {
        &self.claims.session_id
    }

    /// Its id.
    pub fn jti(&self) -> &TokenId {
        &self.claims.jti
    }

    /// Its authority.
    pub fn scopes(&self) -> &[TokenScope] {
        &self.claims.scopes
    }

    /// Whether it ended more than `grace` before `now`.
    pub fn ended_before(&self, now: Timestamp, grace: std::time::Duration) -> bool {
        let grace = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        now.as_secs() >= self.claims.exp.saturating_add(grace)
    }

    /// Whether it has ended by `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        now.as_secs() >= self.claims.exp
    }
}

/// A text that is not one of our tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bearer token is not one of this gateway's")]
pub struct Unreadable;

/// The gateway's token secret, ready to sign and to verify.
pub struct TokenKeys {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

impl TokenKeys {
    /// Keys over the gateway's 32-byte token secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        // A second installation is refused, and is the same provider.
        let _ = PROVIDER.install_default();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self {
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// Signs `claims` into a compact token.
    ///
    /// # Errors
    /// When the claims can't be written as JSON: a fault of the gateway.
    pub fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing)
    }

    /// Reads `bearer`: HS256 under our secret, our issuer, our claims.
    ///
    /// # Errors
    /// [`Unreadable`] for anything else.
    pub fn verify(&self, bearer: &str) -> Result<VerifiedToken, Unreadable> {
        if bearer.len() > MAX_TOKEN_BYTES {
            return Err(Unreadable);
        }
        let token = jsonwebtoken::decode::<Claims>(bearer, &self.verifying, &self.validation)
            .map_err(|_| Unreadable)?;
        Ok(VerifiedToken { claims: token.claims })
    }
}

/// HS256 over ring: all the algorithms there are here, so no other can be asked for.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| {
        Ok(Box::new(Hs256::new(*algorithm, key.try_get_as_bytes()?)?))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(ring::hmac::Key);

impl Hs256 {
    fn new(algorithm: Algorithm, secret: &[u8]) -> JwtResult<Self> {
        match algorithm {
            Algorithm::HS256 => Ok(Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(ring::hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        ring::hmac::verify(&self.0, message, signature).map_err(|_| SignatureError::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::verb::VerbSet;

    fn claims() -> Claims {
        let now = Timestamp::from_millis(1_000_000);
        let scope = TokenScope {
            id: "a.b.c".parse().unwrap(),
            verbs: VerbSet::READ,
            synthesized_for: None,
            constraint: None,
        };
        Claims::new(
            "ada".parse().unwrap(),
            SessionId::fresh(now),
            TokenId::fresh(now),
            vec![scope],
            now,
            Timestamp::from_millis(2_000_000),
            None,
        )
    }

    fn forge(header: &str, claims: &Claims) -> String {
        let encode = |bytes: &[u8]| data_encoding::BASE64URL_NOPAD.encode(bytes);
        format!("{}.{}.", encode(header.as_bytes()), encode(&serde_json::to_vec(claims).unwrap()))
    }

    #[test]
    fn a_token_reads_back_as_signed_and_only_under_its_own_secret() {
        let keys = TokenKeys::new(&[7; 32]);
        let token = keys.sign(&claims()).unwrap();
        let read = keys.verify(&token).unwrap();
        assert_eq!(read.agent().as_str(), "ada");
        assert!(!read.expired(Timestamp::from_millis(1_999_999)));
        assert!(read.expired(Timestamp::from_millis(2_000_000)));
        assert_eq!(TokenKeys::new(&[8; 32]).verify(&token).unwrap_err(), Unreadable);
    }

    #[test]
    fn no_other_algorithm_is_believed() {
        let keys = TokenKeys::new(&[7; 32]);
        let signed = keys.sign(&claims()).unwrap();
        let signature = signed.rsplit('.').next().unwrap();
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#, "{}"] {
            let unsigned = forge(header, &claims());
            assert!(keys.verify(&unsigned).is_err(), "{header}");
            assert!(keys.verify(&format!("{unsigned}{signature}")).is_err(), "{header}");
        }
        assert!(keys.verify(&"x".repeat(MAX_TOKEN_BYTES + 1)).is_err());
        assert!(keys.verify("").is_err());
    }
}
