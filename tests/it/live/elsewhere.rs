//! Two processes answer queries: who is cut off from one and resumes at the other misses nothing and sees nothing twice.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chat4all_cli::embedded::chat4all_program;
use chat4all_service::auth::Scope;
use reqwest::Method;

use super::client::queries;
use super::follower::{Follower, Way};
use super::of_users;
use super::resume::{everything_was_shown, write};
use crate::journeys::system::System;
use crate::journeys::until;
use crate::support::seed;

/// How often each changes sides.
const CHANGES: usize = 30;

/// Another process of the role, beside those of `up`.
pub struct Other {
    child: Child,
    pub base: String,
}

impl Other {
    /// Runs, and follows the log.
    pub async fn start(system: &System) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(chat4all_program().unwrap());
        let command = command.arg("query-api").envs(&system.env);
        let command = command.env("CHAT4ALL_HTTP__LISTEN", listen.to_string());
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let other = Self {
            child: child.unwrap(),
            base: format!("http://{listen}"),
        };
        let token = system.token("looker", &[Scope::ConversationsRead]);
        // The role is ready before it follows: the first event says that it does.
        let look = async || {
            let events = super::client::Events::open_at(&other.base, &token, "/v1/events", None);
            events.await.err()
        };
        until("the other process follows", look, Option::is_none).await;
        other
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_cut_off_from_one_process_and_resumes_at_another_misses_nothing_and_sees_nothing_twice()
 {
    fastrand::seed(seed("live::elsewhere"));
    let system = System::start();
    let other = Other::start(&system).await;
    let ana = system.full("ana");
    let groups = [of_users(&system, &ana).await, of_users(&system, &ana).await];
    let mut followers = vec![
        Follower::begin(&system, &ana, Way::Conversation(&groups[0])).await,
        Follower::begin(&system, &ana, Way::Mine).await,
        Follower::begin(&system, &ana, Way::Sse).await,
        Follower::begin(&system, &ana, Way::SseOf(&groups[1])).await,
    ];
    let enough = AtomicBool::new(false);
    let writing = async {
        let pace = Duration::from_millis(5);
        let writers = groups
            .iter()
            .map(|group| write(&system, &ana, (group.as_str(), pace), &enough));
        futures::future::join_all(writers).await
    };
    let bases = [other.base.clone(), queries(&system).to_owned()];
    let following = async {
        let change = followers.iter_mut().map(async |follower| {
            for round in 0..CHANGES {
                for _ in 0..fastrand::usize(1..6) {
                    follower.next().await;
                }
                follower.cut();
                follower.base.clone_from(&bases[round % 2]);
            }
            // All of them are there when it dies.
            follower.base.clone_from(&bases[0]);
            follower.next().await;
        });
        futures::future::join_all(change).await;
        other.kill();
        let back = followers.iter_mut().map(async |follower| {
            follower.base.clone_from(&bases[1]);
            for _ in 0..5 {
                follower.next().await;
            }
        });
        futures::future::join_all(back).await;
        enough.store(true, Ordering::Relaxed);
    };
    let (written, ()) = futures::join!(writing, following);
    assert!(written.iter().all(|last| last.sequence > 0), "{written:?}");
    everything_was_shown(&system, &groups, &mut followers).await;
    // It was killed, and it is not the one that all of them were at all the time.
    let gone = system.request(Method::GET, format!("{}/livez", bases[0]));
    assert!(gone.send().await.is_err());
}
