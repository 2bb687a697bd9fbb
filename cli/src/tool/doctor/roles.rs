//! The running roles, by what they say of themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use chat4all_service::Config;
use serde_json::Value;
use url::Url;

use super::broker::shown;
use super::finding::{Area, Finding};

/// Longer than a role's slowest check.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `named`, or else the role that listens on `http.listen`. One that does not answer is wrong when it `must_answer`.
pub async fn look(config: &Config, named: &[Url], must_answer: bool) -> Vec<Finding> {
    let here = here(config.http.listen);
    let all = if named.is_empty() {
        std::slice::from_ref(&here)
    } else {
        named
    };
    let mut found = Vec::new();
    for role in all {
        match readyz(role).await {
            Some(answer) => found.extend(told(role, &answer)),
            None => found.push(silent(role, must_answer)),
        }
    }
    found
}

/// Where a process on this machine reaches what listens there.
fn here(listen: SocketAddr) -> Url {
    let loopback = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let address = SocketAddr::new(loopback, listen.port());
    format!("http://{address}")
        .parse()
        .expect("an address and a port make a URL")
}

async fn readyz(role: &Url) -> Option<Value> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .ok()?;
    // 503 is an answer too.
    let answer = client.get(role.join("readyz").ok()?).send().await.ok()?;
    answer.json().await.ok()
}

fn silent(role: &Url, must_answer: bool) -> Finding {
    let what = format!("no role answers on {}", shown(role));
    let right = "a role that says on /readyz that it is ready";
    let mend = "start it as it was started (`make run`, `chat4all up`, `docker compose up -d`, `systemctl start chat4all@<role>`); \
                if it listens elsewhere, name it with `--role URL`, or set CHAT4ALL_HTTP__LISTEN";
    if must_answer {
        Finding::wrong(Area::Roles, what, right, mend)
    } else {
        Finding::notice(Area::Roles, what, right, mend)
    }
}

fn told(role: &Url, answer: &Value) -> Vec<Finding> {
    let (place, name) = (shown(role), answer["role"].as_str());
    let Some(name) = name else {
        return vec![Finding::wrong(
            Area::Roles,
            format!("something else than a role answers on {place}"),
            "a role of Chat4All",
            "name the roles with `--role URL`",
        )];
    };
    let checks = answer["checks"].as_object().into_iter().flatten();
    let reds = checks.filter_map(|(check, state)| {
        let reason = state["reason"].as_str()?;
        let what = format!("`{name}` on {place}, check `{check}`: {reason}");
        let right = format!("`{check}` green");
        let mend = "docs/operations.md, \"Is everything up?\", says what to do for each check";
        Some(match state["status"].as_str() {
            Some("amber") => Finding::notice(Area::Roles, what, right, mend),
            _ => Finding::wrong(Area::Roles, what, right, mend),
        })
    });
    let mut found: Vec<_> = reds.collect();
    // Not ready, and no check says why: it is just starting.
    if found.is_empty() && answer["status"] != "ready" {
        let what = format!("`{name}` on {place} is not ready");
        let mend = "wait a moment and run this again; then look at its log";
        found.push(Finding::wrong(Area::Roles, what, "ready", mend));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::doctor::Weight;

    #[test]
    fn red_is_wrong_amber_is_a_notice_and_green_is_nothing() {
        let role = "http://127.0.0.1:1".parse().unwrap();
        let weights = |answer: Value| -> Vec<Weight> {
            told(&role, &answer)
                .iter()
                .map(|finding| finding.weight)
                .collect()
        };
        let red = json!({ "status": "red", "reason": "no connection to NATS" });
        let amber = json!({ "status": "amber", "reason": "no connection" });
        let green = json!({ "status": "green" });
        let answer = |status: &str, checks: Value| json!({ "role": "all", "status": status, "checks": checks });
        assert_eq!(
            weights(answer("ready", json!({ "nats": green, "parked": amber }))),
            [Weight::Notice]
        );
        assert_eq!(
            weights(answer("not ready", json!({ "nats": red, "x": green }))),
            [Weight::Wrong]
        );
        assert_eq!(weights(answer("not ready", json!({}))), [Weight::Wrong]);
        assert_eq!(weights(answer("ready", json!({ "nats": green }))), []);
        assert_eq!(weights(json!({ "hello": "world" })), [Weight::Wrong]);
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        let url = |listen: &str| here(listen.parse().unwrap()).to_string();
        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080/");
        assert_eq!(url("[::]:8080"), "http://[::1]:8080/");
        assert_eq!(url("10.0.0.5:80"), "http://10.0.0.5/");
    }
}
