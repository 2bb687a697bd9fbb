//! Clients that post all the time, and what has to be true of it in the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::site::{PATIENCE, reached};
use crate::guarantees::system::{Logged, System, log_of, message, phone};
use crate::whole_system::in_flight::{self, InFlight};
use crate::whole_system::{
    Messages, all_read, compare, handed_over, on_the_log, shown, total, without,
};

const LANES: usize = 48;
const CLIENTS: usize = 6;

/// Clients that post all the time, each in conversations of its own, one message after the other.
pub struct Load {
    system: Arc<System>,
    done: Arc<AtomicBool>,
    asked_again: Arc<AtomicUsize>,
    clients: JoinSet<Messages>,
}

impl Load {
    pub async fn start(system: &Arc<System>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let asked_again = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let mut groups = Vec::new();
            for i in (client..LANES).step_by(CLIENTS) {
                groups.push(system.group("ana", &[phone(i)]).await);
            }
            let (system, done) = (Arc::clone(system), Arc::clone(&done));
            let asked_again = Arc::clone(&asked_again);
            clients.spawn(async move {
                let mut told = Messages::new();
                for number in 0.. {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let group: &String = &groups[number % groups.len()];
                    let text = number.to_string();
                    let accepted = post(&system, group, &text, &asked_again).await;
                    told.entry(group.clone()).or_default().push(accepted);
                    // Some 100 messages/s together.
                    tokio::time::sleep(Duration::from_millis(60)).await;
                }
                told
            });
        }
        let system = Arc::clone(system);
        Self {
            system,
            done,
            asked_again,
            clients,
        }
    }

    /// How often a message was not accepted when it was posted first.
    pub fn asked_again(&self) -> usize {
        self.asked_again.load(Ordering::SeqCst)
    }

    /// The provider is handed a hundred more.
    pub async fn goes_on(&self) {
        let taken = async || {
            let stats = self.system.simulator(Method::GET, "stats", None).await;
            stats["calls"]["accepted"].as_u64().unwrap()
        };
        let before = taken().await;
        let patience = Duration::from_secs(60);
        reached("a hundred more", patience, taken, |taken| {
            *taken >= before + 100
        })
        .await;
    }

    pub async fn finish(mut self) -> Messages {
        self.done.store(true, Ordering::SeqCst);
        let mut told = Messages::new();
        while let Some(client) = self.clients.join_next().await {
            told.extend(client.unwrap());
        }
        told
    }
}

/// Posts until it is accepted, and gives the message's id. "Not now" and "nobody knows" are reasons to ask again under the same
/// key: the text, which its conversation has once.
async fn post(system: &System, group: &str, text: &str, asked_again: &AtomicUsize) -> String {
    let (body, begun) = (message(group, text), Instant::now());
    loop {
        let answer = system.post("ana", "/v1/messages", Some(text), &body);
        let answer = answer.await;
        if answer.status == StatusCode::ACCEPTED {
            return answer.text("message_id");
        }
        let waits = answer.status.is_server_error() && begun.elapsed() < PATIENCE;
        assert!(waits, "{answer:?}");
        asked_again.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What was accepted is on the log, is shown and was handed over, everywhere the same and in the same order, and what was handed
/// over again was in flight at one of these moments, and behind nothing later of its lane. Gives the log.
pub async fn all_the_same(
    system: &System,
    accepted: &Messages,
    moments: &[OffsetDateTime],
) -> Vec<Logged> {
    all_read(system, total(accepted)).await;
    let log = log_of(&system.env).await;
    let up = system.first_conversation().await;
    let calls = system.taken().await;
    in_flight::nobody_overtaken(&calls);
    let (firsts, repeats) = in_flight::apart(&calls);
    println!("{} accepted, {} calls", total(accepted), calls.len());
    compare("the log", accepted, &without(&up, on_the_log(&log)));
    compare(
        "the read models",
        accepted,
        &without(&up, shown(system).await),
    );
    compare("the provider", accepted, &handed_over(&firsts));
    let moments = moments.iter().map(|moment| InFlight::at(&log, *moment));
    let moments: Vec<_> = moments.collect();
    in_flight::all_explained(&repeats, &moments);
    log
}
