use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);
const HOUR: Duration = Duration::from_secs(3_600);

fn secret() -> SecretString {
    "a secret of at least 32 characters".into()
}

fn verifier() -> Verifier {
    Verifier::new(&secret(), "chat4all", None)
}

fn token() -> String {
    let grant = Grant {
        sub: "ana",
        scopes: &[Scope::MessagesWrite],
        ttl: HOUR,
    };
    mint(&secret(), "chat4all", None, &grant, NOW)
}

/// Signs any claims with our secret by any HMAC.
fn signed(algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret().expose_secret().as_bytes());
    encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "chat4all", "sub": "ana", "exp": NOW.unix_timestamp() + 3_600, "scope": "messages:write",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[track_caller]
fn refused(token: &str, expected: Error) {
    assert_eq!(verifier().verify(token, NOW), Err(expected));
}

#[test]
fn a_minted_token_says_who_and_what() {
    let caller = verifier().verify(&token(), NOW).unwrap();
    assert_eq!((caller.issuer(), caller.sub()), ("chat4all", "ana"));
    assert_eq!(caller.scopes(), [Scope::MessagesWrite]);
    assert_eq!(caller.expires_at(), NOW + HOUR);
}

#[test]
fn a_token_counts_until_exp_and_not_at_it() {
    let last = NOW + HOUR - Duration::from_millis(1);
    assert!(verifier().verify(&token(), last).is_ok());
    assert_eq!(verifier().verify(&token(), NOW + HOUR), Err(Error::Expired));
}

#[test]
fn what_is_remembered_does_not_outlive_exp() {
    let verifier = verifier();
    verifier.verify(&token(), NOW).unwrap();
    verifier.0.verified.run_pending_tasks();
    assert_eq!(
        verifier.0.verified.entry_count(),
        1,
        "the token was not remembered"
    );
    assert_eq!(verifier.verify(&token(), NOW + HOUR), Err(Error::Expired));
    assert!(
        verifier.verify(&token(), NOW).is_ok(),
        "and the clock may be set back"
    );
}

#[test]
fn a_refused_token_is_not_remembered() {
    let verifier = verifier();
    assert!(verifier.verify(&token(), NOW + HOUR).is_err());
    verifier.0.verified.run_pending_tasks();
    assert_eq!(verifier.0.verified.entry_count(), 0);
}

#[test]
fn only_hs256_counts_whatever_the_header_says() {
    let token = token();
    let (_, signed_part) = token.split_once('.').unwrap();
    let (claims_part, _) = signed_part.split_once('.').unwrap();
    // {"alg":"none","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
    let (none, rs256) = (
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9",
    );
    refused(&format!("{none}.{claims_part}."), Error::Malformed);
    refused(&format!("{none}.{signed_part}"), Error::Malformed);
    refused(&format!("{rs256}.{signed_part}"), Error::Algorithm);
    refused(
        &signed(Algorithm::HS512, &claims(&json!({}))),
        Error::Algorithm,
    );
}

#[test]
fn a_token_that_was_changed_does_not_count() {
    let (mine, other) = (
        token(),
        signed(Algorithm::HS256, &claims(&json!({"sub": "eve"}))),
    );
    let (head, signature) = mine.rsplit_once('.').unwrap();
    let (other_head, _) = other.rsplit_once('.').unwrap();
    refused(&format!("{other_head}.{signature}"), Error::Signature);
    refused(
        &format!("{head}.{}", signature.chars().rev().collect::<String>()),
        Error::Signature,
    );
    let grant = Grant {
        sub: "ana",
        scopes: &[],
        ttl: HOUR,
    };
    let forged = mint(
        &"another secret of 32 characters!!".into(),
        "chat4all",
        None,
        &grant,
        NOW,
    );
    refused(&forged, Error::Signature);
}

#[test]
fn every_claim_must_be_there_and_be_right() {
    let changed = |changes| signed(Algorithm::HS256, &claims(&changes));
    refused(&changed(json!({"iss": "elsewhere"})), Error::NotOurs);
    refused(
        &changed(json!({"iss": ["chat4all", "elsewhere"]})),
        Error::Malformed,
    );
    refused(&changed(json!({"iss": null})), Error::Malformed);
    refused(&changed(json!({"sub": null})), Error::Malformed);
    refused(&changed(json!({"sub": ""})), Error::Malformed);
    refused(&changed(json!({"exp": null})), Error::Malformed);
    refused(&changed(json!({"exp": "tomorrow"})), Error::Malformed);
    refused(&changed(json!({"exp": 1e300})), Error::Malformed);
    refused(&changed(json!({"exp": -5})), Error::Malformed);
    refused(
        &changed(json!({"exp": NOW.unix_timestamp() - 1})),
        Error::Expired,
    );
    refused(
        &changed(json!({"nbf": NOW.unix_timestamp() + 60})),
        Error::Early,
    );
    refused("", Error::Empty);
    refused("a.b.c", Error::Malformed);
    assert!(
        verifier()
            .verify(&changed(json!({"nbf": NOW.unix_timestamp() + 20})), NOW)
            .is_ok()
    );
}

#[test]
fn an_audience_counts_where_one_is_configured() {
    let picky = Verifier::new(&secret(), "chat4all", Some("api"));
    let changed = |changes| signed(Algorithm::HS256, &claims(&changes));
    assert_eq!(
        picky.verify(&token(), NOW),
        Err(Error::Malformed),
        "it has none"
    );
    assert_eq!(
        picky.verify(&changed(json!({"aud": "shop"})), NOW),
        Err(Error::NotOurs)
    );
    assert!(
        picky
            .verify(&changed(json!({"aud": ["shop", "api"]})), NOW)
            .is_ok()
    );
    let grant = Grant {
        sub: "ana",
        scopes: &[],
        ttl: HOUR,
    };
    assert!(
        picky
            .verify(&mint(&secret(), "chat4all", Some("api"), &grant, NOW), NOW)
            .is_ok()
    );
    assert!(
        verifier()
            .verify(&changed(json!({"aud": "shop"})), NOW)
            .is_ok()
    );
}

#[test]
fn scopes_of_other_systems_are_ignored() {
    let token = signed(
        Algorithm::HS256,
        &claims(&json!({"scope": "openid conversations:read:all messages:write:x"})),
    );
    let caller = verifier().verify(&token, NOW).unwrap();
    assert_eq!(caller.scopes(), [Scope::ConversationsReadAll]);
}

#[test]
fn a_missing_scope_is_named() {
    let caller = verifier().verify(&token(), NOW).unwrap();
    assert_eq!(caller.require(Scope::MessagesWrite), Ok(()));
    let problem = caller.require(Scope::ConversationsWrite).unwrap_err();
    insta::assert_json_snapshot!(problem.to_json());
}

#[test]
fn every_reason_reads_well_and_repeats_nothing_of_the_token() {
    let all = [
        Error::Missing,
        Error::NotBearer,
        Error::Empty,
        Error::Malformed,
        Error::Algorithm,
        Error::Signature,
        Error::NotOurs,
        Error::Expired,
        Error::Early,
    ];
    insta::assert_snapshot!(
        all.map(|error| Problem::from(error).detail().to_owned())
            .join("\n")
    );
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_answered_401_with_the_scheme() {
    for (value, says) in [
        (None, "There is no token"),
        (Some("Basic YW5h"), "The header `Authorization` has no"),
        (Some("nonsense"), "The header `Authorization` has no"),
        (Some("Bearer"), "The token is empty"),
        (Some("Bearer "), "The token is empty"),
        (Some("Bearer nonsense"), "The token cannot be read"),
    ] {
        let mut request = Request::new(());
        if let Some(value) = value {
            request
                .headers_mut()
                .insert(AUTHORIZATION, HeaderValue::from_static(value));
        }
        let (mut parts, ()) = request.into_parts();
        let problem = Caller::from_request_parts(&mut parts, &verifier())
            .await
            .unwrap_err();
        assert!(problem.detail().starts_with(says), "{problem:?}");
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{value:?}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}

#[tokio::test]
async fn the_scheme_is_not_case_sensitive() {
    let grant = Grant {
        sub: "ana",
        scopes: &[],
        ttl: HOUR,
    };
    let token = mint(&secret(), "chat4all", None, &grant, clock::now());
    let mut request = Request::new(());
    let value = HeaderValue::from_str(&format!("bearer {token}")).unwrap();
    request.headers_mut().insert(AUTHORIZATION, value);
    let (mut parts, ()) = request.into_parts();
    let caller = Caller::from_request_parts(&mut parts, &verifier())
        .await
        .unwrap();
    assert_eq!(caller.sub(), "ana");
}

#[test]
fn neither_verifier_nor_errors_show_a_secret() {
    assert_eq!(format!("{:?}", verifier()), "Verifier(***)");
}
