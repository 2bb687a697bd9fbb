//! Calls out: `POST /{phone_number_id}/messages`.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};
use secrecy::ExposeSecret;
use url::Url;

use super::Account;
use super::error;
use super::payload::{Answer, TextMessage};
use crate::channel::{Accepted, Outbound, Refusal, SendError};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest that the provider may have an account wait by its own word: nobody would notice one that it mistook.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// The client of one account.
#[derive(Debug)]
pub struct Api {
    account: Account,
    messages: Url,
    client: Client,
}

impl Api {
    /// A client whose calls take `timeout` at most, body included.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(account: Account, timeout: Duration) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .timeout(timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .tcp_nodelay(true)
            .build()?;
        let base = account.api_base.as_str().trim_end_matches('/');
        let messages = format!("{base}/{}/messages", account.phone_number_id);
        let messages = messages
            .parse()
            .expect("an address, a slash and digits are an address");
        Ok(Self {
            account,
            messages,
            client,
        })
    }

    /// Sends a text.
    ///
    /// # Errors
    /// [`SendError::Refused`] for a clear no and for a call that surely never went out, [`SendError::Unsure`] for the rest.
    pub async fn send(&self, outbound: &Outbound<'_>) -> Result<Accepted, SendError> {
        let reference = self.account.echoes.then(|| outbound.reference.to_string());
        let message = TextMessage::new(
            outbound.to.reveal(),
            outbound.text.reveal(),
            reference.as_deref(),
        );
        let mut request = self
            .client
            .post(self.messages.clone())
            .bearer_auth(self.account.token.expose_secret())
            .json(&message);
        if let Some(traceparent) = outbound.traceparent {
            request = request.header("traceparent", traceparent);
        }
        let mut response = request
            .send()
            .await
            .map_err(|error| without_answer(&error))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| broken_off(status))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(SendError::Unsure("the answer is longer than any"));
            }
        }
        answer(status, retry_after, &body)
    }
}

/// No answer began. A connection that never came about carried no message; of all others nobody knows.
fn without_answer(error: &reqwest::Error) -> SendError {
    if error.is_connect() || error.is_builder() {
        SendError::Refused(error::unreachable())
    } else if error.is_timeout() {
        SendError::Unsure("no answer in time")
    } else {
        SendError::Unsure("the connection ended without an answer")
    }
}

/// An answer began and did not end.
fn broken_off(status: StatusCode) -> SendError {
    if status.is_success() {
        SendError::Unsure("the answer broke off")
    } else {
        SendError::Refused(error::of_status(status.as_u16(), None))
    }
}

/// What an answer says: an error by its code, whatever the status; without one by the status.
fn answer(
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Result<Accepted, SendError> {
    let parsed = serde_json::from_slice::<Answer>(body).unwrap_or_default();
    if let Some(said) = parsed.error {
        let refusal = error::of_code(said.code, status.as_u16(), said.words());
        return Err(SendError::Refused(Refusal {
            retry_after,
            ..refusal
        }));
    }
    if !status.is_success() {
        return Err(SendError::Refused(error::of_status(
            status.as_u16(),
            retry_after,
        )));
    }
    let parts: Vec<String> = parsed
        .messages
        .into_iter()
        .map(|message| message.id)
        .filter(|id| !id.is_empty())
        .collect();
    if parts.is_empty() {
        return Err(SendError::Unsure("a yes without a message id"));
    }
    Ok(Accepted { parts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_domain::delivery::FailureClass;

    fn class(status: u16, body: &str) -> Result<Vec<String>, Option<FailureClass>> {
        let status = StatusCode::from_u16(status).unwrap();
        match answer(status, None, body.as_bytes()) {
            Ok(accepted) => Ok(accepted.parts),
            Err(SendError::Refused(refusal)) => Err(Some(refusal.class)),
            Err(SendError::Unsure(_)) => Err(None),
        }
    }

    #[test]
    fn a_yes_brings_the_id() {
        let body = include_str!("testdata/sent.json");
        assert_eq!(
            class(200, body),
            Ok(vec!["wamid.HBgNNDkxNTExMjM0NTY3OBUCABEYEjA=".to_owned()])
        );
    }

    #[test]
    fn the_code_decides_and_not_the_status() {
        let body = include_str!("testdata/error_131056.json");
        for status in [200, 400, 500] {
            assert_eq!(
                class(status, body),
                Err(Some(FailureClass::Pair)),
                "{status}"
            );
        }
    }

    #[test]
    fn without_a_code_the_status_decides() {
        for body in ["", "<html>Bad Gateway</html>", "{}", "[]"] {
            for (status, expected) in [
                (500, FailureClass::Transient),
                (502, FailureClass::Transient),
                (503, FailureClass::Transient),
                (429, FailureClass::Rate),
                (400, FailureClass::Permanent),
                (404, FailureClass::Permanent),
                (302, FailureClass::Permanent),
            ] {
                assert_eq!(class(status, body), Err(Some(expected)), "{status} {body}");
            }
        }
    }

    #[test]
    fn a_yes_that_cannot_be_read_is_unsure() {
        for body in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"messages":[]}"#,
            r#"{"messages":[{"id":""}]}"#,
        ] {
            assert_eq!(class(200, body), Err(None), "{body}");
        }
    }
}
