//! Is the process alive, and can it do its work: `/livez` and `/readyz`.
//!
//! Alive means that it answers; it looks at nothing else, because restarting a process does not repair its broker.
//! Ready means that every check a role has registered is green. What the checks found holds for a second, so that no
//! number of probes becomes a load on what they look at.

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

const TIMEOUT: Duration = Duration::from_secs(2);
const HOLDS: Duration = Duration::from_secs(1);

type Outcome = Result<(), String>;
type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// What must be right for a role to do its work; a cheap handle.
#[derive(Clone)]
pub struct Checks {
    role: &'static str,
    checks: Arc<Lock<BTreeMap<&'static str, Check>>>,
    last: Arc<Mutex<Option<(Instant, Report)>>>,
}

/// What each check has found, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(pub BTreeMap<&'static str, Outcome>);

impl Report {
    /// Whether every check is green.
    pub fn ready(&self) -> bool {
        self.0.values().all(Result::is_ok)
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
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, check);
    }

    /// What the checks find; at most a second old. Callers at the same time share one look.
    pub async fn report(&self) -> Report {
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < HOLDS
        {
            return report.clone();
        }
        let checks = self
            .checks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let outcomes = join_all(checks.into_iter().map(|(name, check)| async move {
            let late = || Err(format!("no answer within {} s", TIMEOUT.as_secs()));
            (
                name,
                timeout(TIMEOUT, check()).await.unwrap_or_else(|_| late()),
            )
        }));
        let report = Report(outcomes.await.into_iter().collect());
        *last = Some((Instant::now(), report.clone()));
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
        let check = |(name, outcome): (&&'static str, &Outcome)| {
            let value = match outcome {
                Ok(()) => json!({ "status": "green" }),
                Err(reason) => json!({ "status": "red", "reason": reason }),
            };
            ((*name).to_owned(), value)
        };
        let checks: serde_json::Map<String, Value> = report.0.iter().map(check).collect();
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
        assert_eq!(report.0["postgres"], Ok(()));
        assert_eq!(report.0["log"], Err("the log is full".to_owned()));
        assert_eq!(report.0["broker"], Err("no answer within 2 s".to_owned()));
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
}
