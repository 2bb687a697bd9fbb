//! The control API: pages, accounts, reset, refusals.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{CUSTOMER, PHONE, Stage, until};

#[tokio::test]
async fn calls_come_in_pages() {
    let stage = Stage::start().await;
    for n in 0..25 {
        let to = if n % 5 == 0 {
            CUSTOMER
        } else {
            "4915187654321"
        };
        stage.send(to, &format!("hello {n}")).await;
    }
    let (mut since, mut texts) = (0, Vec::new());
    loop {
        let page = stage
            .get(&format!("calls?to=%2B{CUSTOMER}&limit=2&since={since}"))
            .await;
        for call in page["items"].as_array().unwrap() {
            texts.push(call["body"]["text"]["body"].as_str().unwrap().to_owned());
        }
        match page["next"].as_u64() {
            Some(next) => since = next,
            None => break,
        }
    }
    assert_eq!(
        texts,
        ["hello 0", "hello 5", "hello 10", "hello 15", "hello 20"]
    );
    for (query, names) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("sience=1", "sience"),
        ("to=me", "number"),
    ] {
        let (status, body) = stage
            .try_control("GET", &format!("calls?{query}"), Value::Null)
            .await;
        assert_eq!(status, 422);
        assert!(body["error"].as_str().unwrap().contains(names), "{body}");
    }
    stage.stop().await;
}

#[tokio::test]
async fn repeated_messages_are_counted() {
    let stage = Stage::start().await;
    for text in ["a", "b", "a", "a"] {
        stage.send(CUSTOMER, text).await;
    }
    let calls = stage.get("stats").await["calls"].clone();
    let counts = [
        "total",
        "accepted",
        "distinct_accepted",
        "repeated_accepted",
    ]
    .map(|key| calls[key].as_u64().unwrap());
    assert_eq!(counts, [4, 4, 2, 2]);
    stage.stop().await;
}

#[tokio::test]
async fn records_are_bounded_and_the_loss_is_counted() {
    let stage = Stage::with(|config| config.state_limit = 10).await;
    for n in 0..25 {
        stage.send(&format!("49151123456{n:02}"), "hello").await;
    }
    let stats = stage.quiet().await;
    let calls = ["total", "kept", "dropped", "distinct_accepted"]
        .map(|key| stats["calls"][key].as_u64().unwrap());
    assert_eq!(calls, [25, 10, 15, 10]);
    assert_eq!(stats["webhooks"]["delivered"], 75);
    assert_eq!(stats["webhooks"]["forgotten"], 45);
    assert_eq!(stats["phones"]["dropped_messages"], 15);
    assert_eq!(
        stage.get("phones").await["phones"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    stage.stop().await;
}

#[tokio::test]
async fn a_reset_forgets_records_and_faults_and_keeps_accounts() {
    let stage = Stage::start().await;
    stage.send(CUSTOMER, "hello").await;
    stage.fault(json!({"fault": {"kind": "hang"}})).await;
    stage
        .control("POST", "reset", json!({"faults": false}))
        .await;
    assert_eq!(
        stage.get("faults").await["faults"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    stage.control("POST", "reset", Value::Null).await;
    assert_eq!(stage.get("faults").await["faults"], json!([]));
    let stats = until(
        || stage.get("stats"),
        |stats| stats["webhooks"]["pending"] == 0,
    )
    .await;
    assert_eq!(stats["calls"]["total"], 0);
    assert_eq!(stage.get("calls").await["items"], json!([]));
    let wamid = stage.send(CUSTOMER, "again").await;
    stage.told(&wamid, &["sent", "delivered", "read"]).await;
    let (status, _) = stage
        .try_control("POST", "reset", json!({"everything": true}))
        .await;
    assert_eq!(status, 422);
    stage.stop().await;
}

#[tokio::test]
async fn accounts_are_shown_without_their_secrets_and_checked() {
    let stage = Stage::start().await;
    let accounts = until(
        || stage.get("accounts"),
        |all| {
            all["accounts"]
                .as_array()
                .unwrap()
                .iter()
                .all(|account| account["subscription"] == "active")
        },
    )
    .await;
    let text = accounts.to_string();
    assert!(
        !text.contains("token-") && !text.contains("secret-") && !text.contains("verify-"),
        "{text}"
    );
    for (patch, names) in [
        (json!({"colour": "red"}), "colour"),
        (json!({"token": ""}), "token"),
        (
            json!({"display_phone_number": "none"}),
            "display_phone_number",
        ),
        (json!({"webhook_url": "ftp://x"}), "webhook_url"),
    ] {
        let (status, body) = stage
            .try_control("PATCH", &format!("accounts/{PHONE}"), patch)
            .await;
        assert_eq!(status, 422);
        assert!(body["error"].as_str().unwrap().contains(names), "{body}");
    }
    let (status, _) = stage
        .try_control("POST", "accounts/42/subscribe", Value::Null)
        .await;
    assert_eq!(status, 404);
    stage.stop().await;
}

#[tokio::test]
async fn settings_change_by_field_and_are_checked() {
    let stage = Stage::start().await;
    let settings = stage
        .control(
            "PATCH",
            "settings",
            json!({"batch_max": 3, "read_ms": [5, 9]}),
        )
        .await;
    assert_eq!(
        (&settings["batch_max"], &settings["read_ms"]),
        (&json!(3), &json!([5, 9]))
    );
    assert_eq!(stage.get("settings").await, settings);
    for (patch, names) in [
        (json!({"batch_max": 0}), "batch_max"),
        (json!({"batchmax": 1}), "batchmax"),
        (json!({"time_scale": 0}), "time_scale"),
    ] {
        let (status, body) = stage.try_control("PATCH", "settings", patch).await;
        assert_eq!(status, 422);
        assert!(body["error"].as_str().unwrap().contains(names), "{body}");
    }
    assert_eq!(stage.get("seed").await, json!({"seed": 7}));
    assert_eq!(
        stage.control("PUT", "seed", json!({"seed": 9})).await,
        json!({"seed": 9})
    );
    stage.stop().await;
}

#[tokio::test]
async fn the_page_is_served_and_loads_nothing_from_elsewhere() {
    let stage = Stage::start().await;
    let page = stage.http.get(stage.sim.url()).send().await.unwrap();
    assert!(
        page.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let page = page.text().await.unwrap();
    assert!(page.contains("fetch(\"_sim/\" + path"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("innerHTML"));
    stage.stop().await;
}

#[tokio::test]
async fn the_tour_of_the_readme_works_as_pasted() {
    let stage = Stage::with(|config| config.accounts.clear()).await;
    let readme = include_str!("../../README.md");
    let (_, tour) = readme.split_once("```bash\n").unwrap();
    let (tour, _) = tour.split_once("```").unwrap();
    let (place, tour) = tour.split_once('\n').unwrap();
    assert_eq!(place, "SIM=http://127.0.0.1:4600");
    // -f turns a refusal into an exit code.
    let script = format!(
        "set -eu\nSIM={}\n{}",
        stage.sim.url(),
        tour.replace("curl -s ", "curl -sSf --noproxy '*' ")
    );
    let run = tokio::task::spawn_blocking(move || {
        Command::new("bash").args(["-c", &script]).output().unwrap()
    });
    let output = run.await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        printed.contains("wamid.") && printed.contains("hello yourself"),
        "{printed}"
    );
    assert_eq!(
        stage.get("stats").await["calls"]["total"],
        0,
        "the tour ends with a reset"
    );
    stage.stop().await;
}
