//! Who calls: bearer tokens (JWT, HS256), and what their scopes allow.
//!
//! A token counts when it is signed with our secret by the pinned algorithm (whatever its header says), names our issuer,
//! and its time has come and has not run out. Verified tokens are remembered by their hash, because an accept must not
//! pay for the same signature twice; an entry never counts longer than its token (`exp` is looked at every time).
//!
//! Limit: a token cannot be taken back before its `exp`; keep them short. Tokens and secrets are never logged.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::clock;
use crate::problem::{Code, Problem};

/// Verified tokens that are remembered; the least recently used goes first.
const REMEMBERED: u64 = 10_000;
/// How far an issuer's clock may be ahead of ours, in seconds: for `nbf` alone, `exp` is taken at its word.
const CLOCK_SKEW_S: f64 = 30.0;

macro_rules! scopes {
    ($($(#[doc = $doc:literal])+ $scope:ident = $name:literal;)+) => {
        /// What a token can allow. Scopes of other systems in the same token are ignored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scope { $($(#[doc = $doc])+ $scope),+ }

        impl Scope {
            /// Every scope there is.
            pub const ALL: &'static [Self] = &[$(Self::$scope),+];

            /// The name in the token's `scope` claim.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$scope => $name),+ }
            }
        }
    };
}

scopes! {
    /// Send messages, mark them as read.
    MessagesWrite = "messages:write";
    /// Start conversations, change who is in them.
    ConversationsWrite = "conversations:write";
    /// Read the conversations one is in.
    ConversationsRead = "conversations:read";
    /// Read every conversation.
    ConversationsReadAll = "conversations:read:all";
    /// Have failed deliveries tried again.
    DeliveriesRedrive = "deliveries:redrive";
    /// Look at what could not be delivered, read or projected.
    DeadLettersRead = "dead-letters:read";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who calls, as a verified token says. Cheap to clone.
///
/// As an extractor it answers 401 when there is no valid token; the state must hold a [`Verifier`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<Identified>);

#[derive(Debug, PartialEq, Eq)]
struct Identified {
    issuer: String,
    sub: String,
    scopes: Vec<Scope>,
    expires_at: OffsetDateTime,
}

impl Caller {
    /// Who vouches for the caller: the token's `iss`.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }
    /// The issuer's name for the caller.
    pub fn sub(&self) -> &str {
        &self.0.sub
    }
    /// What the token allows.
    pub fn scopes(&self) -> &[Scope] {
        &self.0.scopes
    }
    /// When the token stops counting: open connections end then.
    pub fn expires_at(&self) -> OffsetDateTime {
        self.0.expires_at
    }
    /// Whether the token allows `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.scopes.contains(&scope)
    }
    /// Goes on only if the token allows `scope`.
    ///
    /// # Errors
    /// 403 that names the scope which is missing.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.may(scope) {
            return Ok(());
        }
        let detail = format!("The token lacks the scope `{scope}`; ask for one that has it.");
        Err(Problem::new(Code::Forbidden, detail).with("scope", scope.as_str()))
    }
}

/// Why a token does not count. Never repeats anything of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No token.
    #[error("there is no token; send `Authorization: Bearer <token>`")]
    Missing,
    /// The header is there, and is no bearer's.
    #[error("the header `Authorization` has no bearer token; send `Authorization: Bearer <token>`")]
    NotBearer,
    /// There is one, with nothing in it.
    #[error("the token is empty; send `Authorization: Bearer <token>`")]
    Empty,
    /// Not a token, or not one that we could have issued: a claim is missing or of the wrong type.
    #[error("the token cannot be read; it must be a JWT with `iss`, `sub` and `exp`")]
    Malformed,
    /// Another algorithm than ours, or none.
    #[error("the token is signed by another algorithm than HS256")]
    Algorithm,
    /// Signed with another secret, or changed since.
    #[error("the token's signature is not right")]
    Signature,
    /// From somebody else, or for somebody else.
    #[error("the token has another issuer or another audience than this installation")]
    NotOurs,
    /// Its time has run out.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Its time has not come.
    #[error("the token does not count yet (`nbf`)")]
    Early,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let mut detail = format!("{error}.");
        if let Some(first) = detail.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self::new(Code::Unauthorized, detail)
    }
}

/// Verifies tokens and remembers those that count. Cheap to clone.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    key: DecodingKey,
    validation: Validation,
    verified: moka::sync::Cache<[u8; 32], Caller>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// Seconds since 1970, perhaps with a fraction (RFC 7519 §2, NumericDate).
    exp: f64,
    nbf: Option<f64>,
    #[serde(default)]
    scope: String,
}

impl Verifier {
    /// Accepts what is signed with `secret` by `issuer`, and, if there is one, for `audience`.
    pub fn new(secret: &SecretString, issuer: &str, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        match audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        // Times are compared here, with the moment that the caller of `verify` names.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self(Arc::new(Inner {
            key: DecodingKey::from_secret(secret.expose_secret().as_bytes()),
            validation,
            verified: moka::sync::Cache::new(REMEMBERED),
        }))
    }

    /// Who `token` says the caller is, if it counts at `now`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Caller, Error> {
        if token.is_empty() {
            return Err(Error::Empty);
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(caller) = self.0.verified.get(&key) {
            if now < caller.expires_at() {
                return Ok(caller);
            }
            self.0.verified.invalidate(&key);
            return Err(Error::Expired);
        }
        let data = decode::<Claims>(token, &self.0.key, &self.0.validation);
        let caller = caller(data.map_err(|error| reason(error.kind()))?.claims, now)?;
        self.0.verified.insert(key, caller.clone());
        Ok(caller)
    }

    /// Who the request comes from.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn authenticate(&self, parts: &Parts, now: OffsetDateTime) -> Result<Caller, Error> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(Error::Missing)?;
        let text = header.to_str().map_err(|_| Error::Malformed)?;
        // On its way a header loses the space at its end, behind which a variable was empty.
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::NotBearer);
        }
        self.verify(token.trim(), now)
    }
}

impl<S> FromRequestParts<S> for Caller
where
    Verifier: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Verifier::from_ref(state).authenticate(parts, clock::now());
        caller.map_err(Problem::from)
    }
}

fn caller(claims: Claims, now: OffsetDateTime) -> Result<Caller, Error> {
    let now_s = now.unix_timestamp_nanos() as f64 / 1e9;
    if claims.sub.is_empty() || !claims.exp.is_finite() {
        return Err(Error::Malformed);
    }
    if now_s >= claims.exp {
        return Err(Error::Expired);
    }
    if claims.nbf.is_some_and(|nbf| nbf > now_s + CLOCK_SKEW_S) {
        return Err(Error::Early);
    }
    // A date beyond what a calendar holds is as good as none; the cast saturates.
    let expires_at = OffsetDateTime::from_unix_timestamp_nanos((claims.exp * 1e9) as i128)
        .map_err(|_| Error::Malformed)?;
    let named = |name: &str| {
        Scope::ALL
            .iter()
            .copied()
            .find(|scope| scope.as_str() == name)
    };
    Ok(Caller(Arc::new(Identified {
        issuer: claims.iss,
        sub: claims.sub,
        scopes: claims
            .scope
            .split_ascii_whitespace()
            .filter_map(named)
            .collect(),
        expires_at,
    })))
}

fn reason(kind: &ErrorKind) -> Error {
    match kind {
        ErrorKind::InvalidSignature => Error::Signature,
        ErrorKind::InvalidAlgorithm => Error::Algorithm,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => Error::NotOurs,
        // The library's list is open; whatever else it finds, the token is of no use.
        _ => Error::Malformed,
    }
}

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    /// Whom it is for.
    pub sub: &'a str,
    /// What it allows.
    pub scopes: &'a [Scope],
    /// How long it counts, from now.
    pub ttl: Duration,
}

#[derive(Serialize)]
struct Minted<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    iat: i64,
    exp: i64,
    scope: String,
}

/// Makes a token: for development and tests, where no identity provider issues them.
pub fn mint(
    secret: &SecretString,
    issuer: &str,
    audience: Option<&str>,
    grant: &Grant<'_>,
    now: OffsetDateTime,
) -> String {
    let scopes: Vec<_> = grant.scopes.iter().map(|scope| scope.as_str()).collect();
    let iat = now.unix_timestamp();
    let ttl_s = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX);
    let claims = Minted {
        iss: issuer,
        sub: grant.sub,
        aud: audience,
        iat,
        exp: iat.saturating_add(ttl_s),
        scope: scopes.join(" "),
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
        .expect("HMAC takes any key, and the claims are text and numbers")
}

#[cfg(test)]
mod tests;
