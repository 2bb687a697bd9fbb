//! Is the process alive, and can it do its work: `/livez` and `/readyz`.
//!
//! Alive means that it answers; it looks at nothing else, because restarting a process does not repair its broker.
//! Ready means that every check that a role needs is green. A check of something that only a part of its answers rests on is
//! shown, amber instead of red, and does not count: whoever routes by readiness must not take the rest away too. What the
//! checks found holds for a second, so that no number of probes becomes a load on what they look at; until the role is ready for the
//! first time, for a twentieth of that: whoever starts it waits.
//!
//! A check that changes its colour is logged, once, by the probe that finds it: a red one with its reason.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

const TIMEOUT: Duration = Duration::from_secs(2);
const HOLDS: Duration = Duration::from_secs(1);
const HOLDS_AT_THE_START: Duration = Duration::from_millis(50);

type Outcome = Result<(), String>;
type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// What must be right for a role to do its work; a cheap handle.
#[derive(Clone)]
pub struct Checks {
    role: &'static str,
    checks: Arc<Lock<BTreeMap<&'static str, (Need, Check)>>>,
    last: Arc<Mutex<Option<Last>>>,
}

/// What was found last.
struct Last {
    at: Instant,
    report: Report,
    /// This time or any time before.
    was_ready: bool,
}

impl Last {
    fn holds(&self) -> bool {
        let holds = if self.was_ready {
            HOLDS
        } else {
            HOLDS_AT_THE_START
        };
        self.at.elapsed() < holds
    }
}

/// Whether the role can work without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    ForAPart,
}

/// What the checks have found, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of what the role needs.
    pub needed: BTreeMap<&'static str, Outcome>,
    /// Of what only a part of its answers rests on.
    pub partial: BTreeMap<&'static str, Outcome>,
}

impl Report {
    /// Whether everything that is needed is there.
    pub fn ready(&self) -> bool {
        self.needed.values().all(Result::is_ok)
    }
}

impl Checks {
    /// No checks yet: ready.
    pub fn new(role: &'static str) -> Self {
        Self {
            role,
            checks: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Adds a check, or replaces the one of that name. It says why it is red in words an operator can use, without
    /// secrets; one that takes longer than two seconds is red.
    pub fn register<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.insert(name, Need::Always, check);
    }

    /// As [`Checks::register`], for what only a part of the role's answers rests on: amber, and ready all the same.
    pub fn register_partial<F, Fut>(&self, name: &'static str, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        self.insert(name, Need::ForAPart, check);
    }

    fn insert<F, Fut>(&self, name: &'static str, need: Need, check: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, (need, check));
    }

    /// What the checks find; at most a second old, at the start 50 ms. Callers at the same time share one look.
    pub async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some(last) = &*last
            && last.holds()
        {
            return last.report.clone();
        }
        let checks = self
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let outcomes = join_all(checks.into_iter().map(|(name, (need, check))| async move {
            let late = || Err(format!("no answer within {} s", TIMEOUT.as_secs()));
            let outcome = timeout(TIMEOUT, check()).await;
            (name, need, outcome.unwrap_or_else(|_| late()))
        }));
        let mut report = Report::default();
        for (name, need, outcome) in outcomes.await {
            match need {
                Need::Always => report.needed.insert(name, outcome),
                Need::ForAPart => report.partial.insert(name, outcome),
            };
        }
        log_changes(self.role, last.as_ref().map(|last| &last.report), &report);
        let was_ready = last.as_ref().is_some_and(|last| last.was_ready) || report.ready();
        *last = Some(Last {
            at: Instant::now(),
            report: report.clone(),
            was_ready,
        });
        report
    }

    /// `GET /livez` and `GET /readyz`.
    pub fn routes(&self) -> Router {
        let (role, checks) = (self.role, self.clone());
        // The pid tells whoever started this process that it is this process that answers there.
        let pid = std::process::id();
        let alive =
            move || async move { Json(json!({ "status": "alive", "role": role, "pid": pid })) };
        let ready = move || async move { checks.answer().await };
        Router::new()
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
    }

    async fn answer(&self) -> Response {
        let report = self.report().await;
        let check = |name: &&'static str, outcome: &Outcome, colour: &str| {
            let value = match outcome {
                Ok(()) => json!({ "status": "green" }),
                Err(reason) => json!({ "status": colour, "reason": reason }),
            };
            ((*name).to_owned(), value)
        };
        let needed = report.needed.iter().map(|(n, o)| check(n, o, "red"));
        let partial = report.partial.iter().map(|(n, o)| check(n, o, "amber"));
        let checks: serde_json::Map<String, Value> = needed.chain(partial).collect();
        let (status, word) = if report.ready() {
            (StatusCode::OK, "ready")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready")
        };
        (
            status,
            Json(json!({ "status": word, "role": self.role, "checks": checks })),
        )
            .into_response()
    }
}

/// Says what is not as it was. A reason that changes while the check stays red is not news: it may hold a number.
fn log_changes(role: &'static str, before: Option<&Report>, now: &Report) {
    let all = |report: &Report| {
        let (needed, partial) = (report.needed.clone(), report.partial.clone());
        needed
            .into_iter()
            .chain(partial)
            .collect::<BTreeMap<_, _>>()
    };
    let known = before.map(all).unwrap_or_default();
    for (check, outcome) in all(now) {
        let was = known.get(check);
        match outcome {
            Err(reason) if was.is_none_or(Result::is_ok) => {
                warn!(
                    check,
                    reason,
                    "check `{check}` of `{role}` is not green any more, or not yet: {reason}"
                );
            }
            Ok(()) if was.is_some_and(Result::is_err) => {
                info!(check, "check `{check}` of `{role}` is green again");
            }
            Ok(()) | Err(_) => {}
        }
    }
    let (was_ready, ready) = (before.is_some_and(Report::ready), now.ready());
    if ready && !was_ready {
        info!("`{role}` is ready");
    } else if was_ready && !ready {
        warn!("`{role}` is not ready any more");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_red_check_says_why_and_a_hanging_one_does_not_hold_up_the_others() {
        let checks = Checks::new("projector");
        checks.register("postgres", || async { Ok(()) });
        checks.register("log", || async { Err("the log is full".to_owned()) });
        checks.register("broker", std::future::pending);
        let report = checks.report().await;
        assert!(!report.ready());
        assert_eq!(report.needed["postgres"], Ok(()));
        assert_eq!(report.needed["log"], Err("the log is full".to_owned()));
        assert_eq!(
            report.needed["broker"],
            Err("no answer within 2 s".to_owned())
        );
    }

    #[tokio::test]
    async fn what_only_a_part_rests_on_is_shown_and_does_not_count() {
        let checks = Checks::new("query-api");
        checks.register("postgres", || async { Ok(()) });
        checks.register_partial("parked", || async { Err("no connection".to_owned()) });
        let answer = checks.answer().await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await;
        let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body["status"], "ready");
        assert_eq!(body["checks"]["postgres"], json!({ "status": "green" }));
        let amber = json!({ "status": "amber", "reason": "no connection" });
        assert_eq!(body["checks"]["parked"], amber);
    }

    #[tokio::test(start_paused = true)]
    async fn many_probes_within_a_second_are_one_look() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let checks = Checks::new("all");
        checks.register("broker", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        join_all((0..100).map(|_| checks.report())).await;
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        tokio::time::advance(HOLDS).await;
        assert!(checks.report().await.ready());
        assert_eq!(
            looks.load(Ordering::Relaxed),
            2,
            "after a second it looks again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn until_it_is_ready_for_the_first_time_it_looks_again_soon() {
        let found = Arc::new(Lock::new(Err("not yet".to_owned())));
        let seen = Arc::clone(&found);
        let checks = Checks::new("all");
        checks.register("broker", move || {
            let outcome = seen.lock().unwrap().clone();
            async move { outcome }
        });
        let soon = async |outcome| {
            *found.lock().unwrap() = outcome;
            tokio::time::advance(HOLDS_AT_THE_START).await;
            checks.report().await.ready()
        };
        assert!(!soon(Err("not yet".to_owned())).await);
        assert!(soon(Ok(())).await);
        // From then on what was found holds, also what was found to be wrong.
        assert!(soon(Err("gone".to_owned())).await);
        tokio::time::advance(HOLDS).await;
        assert!(!checks.report().await.ready());
        assert!(!soon(Ok(())).await);
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<Lock<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_logged_once_and_no_probe_is() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let up = Arc::new(Lock::new(Err("no connection, 1".to_owned())));
        let seen = Arc::clone(&up);
        let checks = Checks::new("projector");
        checks.register("nats", move || {
            let outcome = seen.lock().unwrap().clone();
            async move { outcome }
        });
        let mut logged: Vec<Vec<String>> = vec![];
        for outcome in [
            Err("no connection, 1".to_owned()),
            Err("no connection, 2".to_owned()),
            Ok(()),
            Ok(()),
            Err("no connection, 3".to_owned()),
        ] {
            *up.lock().unwrap() = outcome;
            checks.answer().await;
            tokio::time::advance(HOLDS).await;
            let new = std::mem::take(&mut *lines.0.lock().unwrap());
            let new = String::from_utf8(new).unwrap();
            logged.push(new.lines().map(|line| line.trim().to_owned()).collect());
        }
        let none: Vec<String> = vec![];
        assert_eq!(logged[0].len(), 1, "{logged:?}");
        assert!(logged[0][0].starts_with("WARN") && logged[0][0].contains("no connection, 1"));
        assert_eq!(logged[1], none);
        assert_eq!(logged[2].len(), 2, "green, and ready: {logged:?}");
        assert_eq!(logged[3], none);
        assert_eq!(logged[4].len(), 2, "red, and not ready: {logged:?}");
        assert!(logged[4][0].contains("no connection, 3"), "{logged:?}");
    }
}
