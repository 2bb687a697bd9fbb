//! Every call received, in memory: a ring that drops the oldest and counts what it dropped.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName};
use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::value::RawValue;

use crate::clock::UnixMs;

/// One call as it was received and answered.
pub(crate) struct Call {
    /// 1 for the first call of the process, one more each.
    pub(crate) seq: u64,
    pub(crate) at: UnixMs,
    /// The same in microseconds since 1970.
    at_unix_us: u64,
    pub(crate) phone_number_id: String,
    /// Digits, where the body has some.
    pub(crate) to: Option<String>,
    /// The id given, if the message was accepted.
    pub(crate) message_id: Option<String>,
    /// Identifies (phone number id, to, text) of an accepted message.
    pub(crate) content: Option<u64>,
    /// HTTP status of the answer; None: there was none.
    pub(crate) status: Option<u16>,
    /// Error code of the answer.
    pub(crate) code: Option<u32>,
    /// The faults applied, by kind.
    pub(crate) faults: Vec<&'static str>,
    /// Added by a fault.
    pub(crate) latency_ms: u64,
    headers: Vec<(HeaderName, Box<str>)>,
    body: Box<str>,
}

impl Call {
    /// A call before anything is known about it but what came in. Copies: a small body must not hold on to a large buffer.
    pub(crate) fn received(
        at: UnixMs,
        phone_number_id: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Self {
        let header = |(name, value): (&HeaderName, &axum::http::HeaderValue)| {
            let text = match *name {
                AUTHORIZATION => "***".into(),
                _ => String::from_utf8_lossy(value.as_bytes()).into(),
            };
            (name.clone(), text)
        };
        Self {
            seq: 0,
            at,
            at_unix_us: UnixMs::now_us(),
            phone_number_id: phone_number_id.to_owned(),
            to: None,
            message_id: None,
            content: None,
            status: None,
            code: None,
            faults: Vec::new(),
            latency_ms: 0,
            headers: headers.iter().map(header).collect(),
            body: String::from_utf8_lossy(body).into(),
        }
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| &**value)
    }
}

impl Serialize for Call {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Call", 14)?;
        out.serialize_field("seq", &self.seq)?;
        out.serialize_field("at", &self.at)?;
        out.serialize_field("at_unix_us", &self.at_unix_us)?;
        out.serialize_field("phone_number_id", &self.phone_number_id)?;
        out.serialize_field("to", &self.to)?;
        out.serialize_field("accepted", &self.message_id.is_some())?;
        out.serialize_field("message_id", &self.message_id)?;
        out.serialize_field("status", &self.status)?;
        out.serialize_field("code", &self.code)?;
        out.serialize_field("faults", &self.faults)?;
        out.serialize_field("latency_ms", &self.latency_ms)?;
        out.serialize_field("traceparent", &self.header("traceparent"))?;
        let headers: BTreeMap<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        out.serialize_field("headers", &headers)?;
        match serde_json::from_str::<&RawValue>(&self.body) {
            Ok(json) => out.serialize_field("body", json)?,
            Err(_) => out.serialize_field("body", &self.body)?,
        }
        out.end()
    }
}

/// Counts over all calls since the start or the last reset, dropped ones included, but for `distinct`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct CallCounts {
    total: u64,
    accepted: u64,
    refused: u64,
    unanswered: u64,
    /// Different (phone number id, to, text) among the accepted calls that are kept.
    distinct_accepted: usize,
    /// Accepted calls that are kept and repeat an earlier one.
    repeated_accepted: u64,
    kept: usize,
    dropped: u64,
    by_code: BTreeMap<u32, u64>,
}

/// The ring.
pub(crate) struct Calls {
    ring: VecDeque<Arc<Call>>,
    limit: usize,
    next_seq: u64,
    contents: HashMap<u64, u32>,
    counts: CallCounts,
    hasher: RandomState,
}

/// One page of the ring.
#[derive(Serialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<Arc<T>>,
    /// Pass it as `since` for what comes after; null: that was all for now.
    pub(crate) next: Option<u64>,
    /// Dropped since the start: if it grows, the answer may have a hole.
    pub(crate) dropped: u64,
}

impl Calls {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            ring: VecDeque::new(),
            limit: limit.max(1),
            next_seq: 1,
            contents: HashMap::new(),
            counts: CallCounts::default(),
            hasher: RandomState::new(),
        }
    }

    /// Identifies a message by what a customer would notice.
    pub(crate) fn content(&self, phone_number_id: &str, to: &str, text: &str) -> u64 {
        self.hasher.hash_one((phone_number_id, to, text))
    }

    pub(crate) fn push(&mut self, mut call: Call) {
        if self.ring.len() >= self.limit
            && let Some(oldest) = self.ring.pop_front()
        {
            self.counts.dropped += 1;
            self.forget(oldest.content);
        }
        call.seq = self.next_seq;
        self.next_seq += 1;
        self.counts.total += 1;
        match (&call.message_id, call.status) {
            (Some(_), _) => self.counts.accepted += 1,
            (None, Some(status)) if status >= 400 => self.counts.refused += 1,
            (None, _) => {}
        }
        if call.status.is_none() {
            self.counts.unanswered += 1;
        }
        if let Some(code) = call.code {
            *self.counts.by_code.entry(code).or_default() += 1;
        }
        if let Some(content) = call.content {
            let times = self.contents.entry(content).or_default();
            *times += 1;
            self.counts.repeated_accepted += u64::from(*times > 1);
        }
        self.ring.push_back(Arc::new(call));
    }

    fn forget(&mut self, content: Option<u64>) {
        if let Some(content) = content
            && let Entry::Occupied(mut times) = self.contents.entry(content)
        {
            *times.get_mut() -= 1;
            if *times.get() == 0 {
                times.remove();
            } else {
                self.counts.repeated_accepted -= 1;
            }
        }
    }

    /// Up to `limit` calls after number `since` that `wanted` holds for.
    pub(crate) fn page(
        &self,
        since: u64,
        limit: usize,
        wanted: impl Fn(&Call) -> bool,
    ) -> Page<Call> {
        page(
            &self.ring,
            since,
            limit,
            self.counts.dropped,
            |call| call.seq,
            wanted,
        )
    }

    pub(crate) fn counts(&self) -> CallCounts {
        CallCounts {
            distinct_accepted: self.contents.len(),
            kept: self.ring.len(),
            ..self.counts.clone()
        }
    }

    /// Forgets everything but the numbering: a reader that pages on never meets a number twice.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            next_seq: self.next_seq,
            ..Self::new(self.limit)
        };
    }
}

/// A page of a ring whose items are numbered without holes.
pub(crate) fn page<T>(
    ring: &VecDeque<Arc<T>>,
    since: u64,
    limit: usize,
    dropped: u64,
    seq: impl Fn(&T) -> u64,
    wanted: impl Fn(&T) -> bool,
) -> Page<T> {
    let first = ring.front().map_or(0, |item| seq(item));
    let skip = usize::try_from((since + 1).saturating_sub(first)).unwrap_or(usize::MAX);
    let mut matching = ring.iter().skip(skip).filter(|item| wanted(item));
    let items: Vec<_> = matching.by_ref().take(limit).cloned().collect();
    let next = matching.next().and(items.last()).map(|last| seq(last));
    Page {
        items,
        next,
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(calls: &Calls, to: &str) -> Call {
        let mut call = Call::received(UnixMs(0), "1", &HeaderMap::new(), b"{}");
        call.message_id = Some("wamid.x".to_owned());
        call.status = Some(200);
        call.content = Some(calls.content("1", to, "hello"));
        call
    }

    #[test]
    fn the_oldest_calls_are_dropped_and_counted() {
        let mut calls = Calls::new(3);
        for to in ["a", "a", "b", "c", "c"] {
            let call = accepted(&calls, to);
            calls.push(call);
        }
        let counts = calls.counts();
        assert_eq!((counts.total, counts.kept, counts.dropped), (5, 3, 2));
        assert_eq!((counts.distinct_accepted, counts.repeated_accepted), (2, 1));
    }

    #[test]
    fn pages_follow_each_other_without_hole_or_overlap() {
        let mut calls = Calls::new(10);
        for _ in 0..15 {
            let call = accepted(&calls, "a");
            calls.push(call);
        }
        let (mut since, mut seen) = (0, Vec::new());
        loop {
            let page = calls.page(since, 4, |_| true);
            seen.extend(page.items.iter().map(|call| call.seq));
            match page.next {
                Some(next) => since = next,
                None => break,
            }
        }
        assert_eq!(seen, (6..=15).collect::<Vec<_>>());
    }

    #[test]
    fn a_token_is_not_recorded() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer hush".parse().unwrap());
        let call = Call::received(UnixMs(0), "1", &headers, b"not json");
        let json = serde_json::to_value(&call).unwrap();
        assert_eq!(json["headers"]["authorization"], "***");
        assert_eq!(json["body"], "not json");
    }
}
