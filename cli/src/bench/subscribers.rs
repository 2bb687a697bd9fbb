//! Many who follow live: what an idle subscriber costs, and how long one message takes to reach a fifth of them.
//!
//! 5,000 WebSockets with a subscription each, two for every user (a phone and a browser). 500 of the users are in one group:
//! 1,000 sockets are told of each message into it, the other 4,000 are not, and the measurement fails if they are. Memory is
//! the growth of query-api's process, which does nothing else here: every role is a process of its own, and a new one each
//! round. Sockets' buffers in the kernel are nobody's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chat4all_domain::UserId;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::plan::Plan;
use super::post::Post;
use super::report::Report;
use super::socket::Socket;
use super::stack::Stack;
use super::system::System;
use super::target::Target;
use super::{files, memory, progress};

/// Connections, all together.
const SUBSCRIBERS: usize = 5_000;
/// Of these, whom a message is for.
const AUDIENCE: usize = 1_000;
/// A user's connections.
const EACH: usize = 2;
/// Connections made at a time.
const AT_A_TIME: usize = 32;
/// Messages of a round, one after the other.
const MESSAGES: u64 = 20;
/// How long they are left alone before memory is looked at.
const SETTLE: Duration = Duration::from_secs(3);
/// How long one message may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files that a process has open besides connections.
const OTHER_FILES: usize = 500;

pub(super) fn takes(plan: &Plan) -> Duration {
    let connecting = Duration::from_millis(2 * plan.scaled(SUBSCRIBERS) as u64);
    (Duration::from_secs(10) + 2 * SETTLE + connecting) * plan.rounds
}

/// What a round gave.
struct Round {
    /// Bytes of each connection; `None` when query-api is on another machine.
    each: Option<f64>,
    /// From the request until the first, and the last, of the audience had a message, in milliseconds, one a message.
    first: Vec<f64>,
    last: Vec<f64>,
}

/// # Errors
/// The stack does not start, a connection is refused, or a message does not reach whom it is for.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (all, audience) = (plan.scaled(SUBSCRIBERS), plan.scaled(AUDIENCE));
    progress(format_args!("subscribers: {all} connections"));
    files::allow((all + OTHER_FILES) as u64)?;
    let (mut each, mut first, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let target = match &plan.running {
            Some(system) => Target::Running(system.clone()),
            None => Target::Own(Stack::split(&[]).await?),
        };
        report.synced("the stack", target.sync().await?);
        let round = round(&target, all, audience).await?;
        each.extend(round.each.map(|bytes| bytes / 1e3));
        first.push(median(round.first));
        last.push(median(round.last));
        target.stop().await?;
    }
    if each.is_empty() {
        let why = "query-api is on another machine, and only here memory can be looked at";
        report.left_out("subscribers: memory", why);
    } else {
        let what = format!("(h) query-api's memory for each of {all} idle WebSocket subscribers");
        report.add(what, "kB", &each);
    }
    let what = format!("(h) request → the first of {audience} subscribers has the message");
    report.add(what, "ms", &first);
    let what = format!("(h) request → the last of {audience} subscribers has the message");
    report.add(what, "ms", &last);
    Ok(())
}

async fn round(system: &System, all: usize, audience: usize) -> anyhow::Result<Round> {
    let users: Vec<_> = (0..all / EACH).map(|_| uuid::Uuid::now_v7()).collect();
    let sub = |user: &uuid::Uuid| format!("bench-{user}");
    let issuer = system.config()?.auth.issuer;
    let members = users.iter().take(audience / EACH);
    let members: Vec<_> = members
        .map(|user| json!({"user_id": UserId::derive(&issuer, &sub(user))}))
        .collect();
    let body = json!({"kind": "group", "participants": members});
    let group = system.conversations(std::iter::once(body)).await?;
    let post = Post::prepare(system, group)?;
    // Once, so that whatever the first message makes is made.
    post.send(0).await?;
    let log = system.log().await?;
    system.catch_up(&log).await?;

    let pid = query_api_here(system).await?;
    sleep(SETTLE).await;
    let before = pid.map(memory::resident);
    let queries = system.variable("CHAT4ALL_QUERY_URL")?;
    let connections = users.iter().enumerate().flat_map(|(n, user)| {
        let is_member = n < audience / EACH;
        (0..EACH).map(move |_| (is_member, user))
    });
    let sockets: Vec<_> = futures::stream::iter(connections)
        .map(async |(is_member, user)| {
            let token = system.reader_token(&sub(user))?;
            let socket = Socket::follow(queries, &token).await;
            anyhow::Ok((is_member, socket.context("a subscriber is not taken in")?))
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
    let (told, mut news) = mpsc::unbounded_channel();
    let mut followers = JoinSet::new();
    for (is_member, socket) in sockets {
        followers.spawn(follow(is_member, socket, told.clone()));
    }
    sleep(SETTLE).await;
    let after = pid.map(memory::resident);
    let growth = before.zip(after);
    let each = growth.map(|(before, after)| after.saturating_sub(before) as f64 / all as f64);

    let (mut first, mut last) = (Vec::new(), Vec::new());
    for n in 1..=MESSAGES {
        let begun = Instant::now();
        let ms = |at: Instant| at.saturating_duration_since(begun).as_secs_f64() * 1e3;
        post.send(n).await?;
        let (mut soonest, mut latest) = (f64::INFINITY, 0.0_f64);
        for so_far in 0..audience {
            let came = timeout(PATIENCE, news.recv()).await;
            let came = came.with_context(|| {
                format!("message {n} has reached {so_far} subscribers of {audience}")
            })?;
            let (is_member, at) = came.context("nobody follows any more")??;
            ensure!(is_member, "somebody was told who is not in the group");
            (soonest, latest) = (soonest.min(ms(at)), latest.max(ms(at)));
        }
        first.push(soonest);
        last.push(latest);
    }
    // Whatever came twice or to a stranger is here by now, or would show with the next message.
    ensure!(
        news.try_recv().is_err(),
        "a message was told to more than {audience} subscribers"
    );
    followers.shutdown().await;
    Ok(Round { each, first, last })
}

/// Tells when messages come, until the connection ends.
async fn follow(
    is_member: bool,
    mut socket: Socket,
    told: mpsc::UnboundedSender<anyhow::Result<(bool, Instant)>>,
) {
    loop {
        let news = socket.messages().await;
        let at = Instant::now();
        let ended = news.is_err();
        for one in news.map_or_else(
            |error| vec![Err(error)],
            |ids| ids.iter().map(|_| Ok((is_member, at))).collect(),
        ) {
            if told.send(one).is_err() {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

/// The process that answers queries, if it is on this machine.
async fn query_api_here(system: &System) -> anyhow::Result<Option<u32>> {
    let queries = system.variable("CHAT4ALL_QUERY_URL")?;
    let url = url::Url::parse(queries)?;
    let here = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let alive = system.client().get(url.join("/livez")?).send().await?;
    let alive: Value = alive.json().await?;
    let pid = alive["pid"]
        .as_u64()
        .and_then(|pid| u32::try_from(pid).ok());
    Ok(pid.filter(|pid| here && memory::resident(*pid) > 0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
