//! What both kinds of WebSocket have in common: who comes in, what cuts them off, and how they are told.

mod graphql;
mod notifications;
mod protocol;

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::http::{Uri, header};
use chat4all_service::auth::{Caller, Verifier};
use chat4all_service::{Problem, clock};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub use graphql::graphql;
pub use notifications::routes as notifications;

/// What a client may send at once, in bytes: queries, no bodies.
const MAX_MESSAGE: usize = 64 * 1024;
/// The buffers of a connection: idle ones are many.
const BUFFER: usize = 4 * 1024;
/// How often an idle client is asked whether it is there.
pub const PING_EVERY: Duration = Duration::from_secs(25);
/// Nothing was heard from the client for this long: it is gone.
pub const SILENT_FOR: Duration = Duration::from_secs(60);
/// How long a client may not take what is sent.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// No timer is longer; a token that counts longer is looked at again by nobody.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// The process stops, and others take over: come back with the cursor.
pub const GOING_AWAY: u16 = 1001;
/// The client sent what cannot be read.
pub const BAD_MESSAGE: u16 = 4400;
/// No token, or one that does not count.
pub const UNAUTHORIZED: u16 = 4401;
/// The token does not count any more, or does not allow it.
pub const FORBIDDEN: u16 = 4403;

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Say so.
    Close(u16, String),
    /// There is nobody to say it to.
    Gone,
}

impl Farewell {
    pub fn close(code: u16, reason: &str) -> Self {
        // What a close frame holds, RFC 6455 §5.5.
        let mut end = reason.len().min(120);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::Close(code, reason[..end].to_owned())
    }
    fn expired() -> Self {
        Self::close(
            FORBIDDEN,
            "The token has expired; come back with a new one.",
        )
    }
    fn stopping() -> Self {
        Self::close(
            GOING_AWAY,
            "This process stops; come back with the last cursor.",
        )
    }
}

/// When the caller's token stops counting, by the monotonic clock.
pub fn expiry(caller: &Caller) -> Instant {
    let left = caller.expires_at() - clock::now();
    Instant::now() + Duration::try_from(left).unwrap_or_default().min(LONGEST)
}

/// An upgrade with our limits.
pub fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
}

/// Who comes in: by the header `Authorization`, else by `?token=` (browsers set no headers on a WebSocket, nor on an `EventSource`); `None` when there is
/// neither.
///
/// # Errors
/// 401 for a token that does not count.
pub fn who(parts: &Parts, verifier: &Verifier) -> Result<Option<Caller>, Problem> {
    let now = clock::now();
    if parts.headers.contains_key(header::AUTHORIZATION) {
        return Ok(Some(verifier.authenticate(parts, now)?));
    }
    let token = token_of(&parts.uri);
    let caller = token.map(|token| verifier.verify(token, now)).transpose();
    caller.map_err(Problem::from)
}

/// A token is base64url and dots: nothing in it is ever escaped.
fn token_of(uri: &Uri) -> Option<&str> {
    let pairs = uri.query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "token").then_some(value))
}

/// One connection, and what cuts it off whatever it is doing.
pub struct Wire {
    socket: WebSocket,
    stop: CancellationToken,
    /// When the client's token stops counting.
    pub expires: Option<Instant>,
    heard: Instant,
    ping_at: Instant,
}

/// What comes over a connection.
pub enum Heard {
    /// A text.
    Text(String),
    /// Nothing for a while: the client may be asked.
    Quiet,
}

impl Wire {
    pub fn new(socket: WebSocket, stop: &CancellationToken) -> Self {
        let now = Instant::now();
        Self {
            socket,
            stop: stop.clone(),
            expires: None,
            heard: now,
            ping_at: now + PING_EVERY,
        }
    }

    /// The next text from the client. Safe to cancel.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn hear(&mut self) -> Result<Heard, Farewell> {
        let far = Instant::now() + LONGEST;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Farewell::stopping()),
                () = sleep_until(self.expires.unwrap_or(far)) => return Err(Farewell::expired()),
                received = self.socket.recv() => {
                    let Some(Ok(message)) = received else { return Err(Farewell::Gone) };
                    self.heard = Instant::now();
                    match message {
                        Message::Text(text) => return Ok(Heard::Text(text.as_str().to_owned())),
                        Message::Ping(_) | Message::Pong(_) => {}
                        Message::Close(_) => return Err(Farewell::Gone),
                        Message::Binary(_) => {
                            return Err(Farewell::close(BAD_MESSAGE, "Only text is understood."));
                        }
                    }
                }
                () = sleep_until(self.ping_at) => {
                    if self.heard.elapsed() >= SILENT_FOR {
                        return Err(Farewell::close(GOING_AWAY, "Nothing was heard from you."));
                    }
                    self.ping_at = Instant::now() + PING_EVERY;
                    return Ok(Heard::Quiet);
                }
            }
        }
    }

    /// Sends; waits while the client does not take it, but not for ever.
    ///
    /// # Errors
    /// Why it did not go out, or why nothing more should.
    pub async fn say(&mut self, message: Message) -> Result<(), Farewell> {
        let far = Instant::now() + LONGEST;
        tokio::select! {
            biased;
            said = timeout(TAKEN_WITHIN, self.socket.send(message)) => match said {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Farewell::Gone),
            },
            () = self.stop.cancelled() => Err(Farewell::stopping()),
            () = sleep_until(self.expires.unwrap_or(far)) => Err(Farewell::expired()),
        }
    }

    /// Asks, on the level of the protocol, whether the client is there.
    ///
    /// # Errors
    /// As [`Wire::say`].
    pub async fn ping(&mut self) -> Result<(), Farewell> {
        self.say(Message::Ping(axum::body::Bytes::new())).await
    }

    /// Ends the connection.
    pub async fn end(mut self, farewell: Farewell) {
        if let Farewell::Close(code, reason) = farewell {
            let reason = reason.into();
            let close = Message::Close(Some(CloseFrame { code, reason }));
            let said = async {
                if self.socket.send(close).await.is_ok() {
                    // The client's own close: without waiting for it, what was sent may be lost on its way.
                    while let Some(Ok(_)) = self.socket.recv().await {}
                }
            };
            let _ = timeout(LAST_WORDS, said).await;
        }
    }
}
