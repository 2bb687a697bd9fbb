//! The whole system: a backup while clients write, then everything but the backup and the secrets is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chat4all_cli::embedded::temp_dir;
use reqwest::StatusCode;
use tokio::task::JoinSet;

use super::site::{
    Api, Messages, Restored, account, all_read, backed_up, caught_up, lost_and_restored,
    nobody_is_unknown, nothing_waits, on_the_log, operator, phone, reach, shown, started, text,
    total, wait_for, write,
};

const CLIENTS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_accepted_before_a_backup_under_load_is_there_after_everything_else_is_lost() {
    let (first, place) = (temp_dir().unwrap(), temp_dir().unwrap());
    let up = started(first.path());
    let env = up.variables();
    let (told, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
        clients.spawn(write(Api::new(&env), client, told, stop));
    }
    reach(&told, 300).await;
    let before = told.lock().unwrap().clone();
    let dir = backed_up(&env, place.path()).await;
    let during = total(&told.lock().unwrap());
    assert!(during > total(&before), "nobody could write meanwhile");
    reach(&told, during + 100).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let told = told.lock().unwrap().clone();
    println!(
        "{} accepted before the backup, {during} when it ended, {} in all",
        total(&before),
        total(&told)
    );

    let second = lost_and_restored(up, first, &env, &dir).await;
    let up = started(second.path());
    let env = up.variables();
    let on_log = on_the_log(&env).await;
    let mut extra = on_log.clone();
    extra.retain(|conversation, _| !told.contains_key(conversation));
    assert_eq!(
        total(&extra),
        2,
        "more than what both `up`s have sent: {extra:?}"
    );
    for (conversation, messages) in &told {
        let found = on_log.get(conversation).cloned().unwrap_or_default();
        let known = before.get(conversation).map_or(0, Vec::len);
        assert!(
            found.len() >= known,
            "{known} were accepted in {conversation} before, {} are on the log",
            found.len()
        );
        assert!(
            messages.starts_with(&found),
            "{conversation}: {found:?} of {messages:?}"
        );
    }
    println!("{} on the restored log", total(&on_log) - 2);
    shown(&env, &on_log).await;
    nobody_is_unknown(&env).await;
    nothing_waits(&env).await;

    // The log remembers keys, and goes on.
    let api = Api::new(&env);
    let (conversation, messages) = before.iter().next().unwrap();
    let (key, body) = (format!("{conversation}-0"), text(conversation, "0"));
    let (status, answer, replay) = api.post("/v1/messages", &key, &body).await;
    assert_eq!((status, replay), (StatusCode::ACCEPTED, true), "{answer}");
    assert_eq!(answer["message_id"], messages[0].as_str());
    let (status, ..) = api
        .post("/v1/messages", "new", &text(conversation, "new"))
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_nobody_writes_a_restored_system_is_the_old_one_and_sends_nothing_again() {
    let (first, place) = (temp_dir().unwrap(), temp_dir().unwrap());
    let up = started(first.path());
    let env = up.variables();
    let api = Api::new(&env);
    let mut told = Messages::new();
    for group in 0..6 {
        let conversation = api.group(&format!("g{group}"), &phone(0, group)).await;
        for number in 0..8 {
            let body = text(&conversation, &format!("message {number}"));
            let (status, answer, _) = api
                .post("/v1/messages", &format!("{conversation}-{number}"), &body)
                .await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            let message = answer["message_id"].as_str().unwrap().to_owned();
            told.entry(conversation.clone()).or_default().push(message);
        }
    }
    // And what `up` itself sends.
    all_read(&env, total(&told) + 1).await;
    // An answer that quotes a message of the group belongs into the group, not into a conversation of its own.
    for group in 0..6 {
        let quoted = api.phone(&phone(0, group)).await["messages"][0]["id"].clone();
        api.reply(&phone(0, group), &quoted).await;
    }
    let inbound = wait_for("the replies", || async {
        let found = on_the_log(&env).await;
        let of_groups = told.iter().all(|(id, messages)| {
            found
                .get(id)
                .is_some_and(|found| found.len() == messages.len() + 1)
        });
        of_groups.then_some(found)
    });
    let on_log = inbound.await;
    let rows = shown(&env, &on_log).await;
    let deliveries = all_read(&env, total(&told) + 1).await;

    let pause = "channels pause whatsapp-main --reason incident-4711 --by anna --json";
    let said = operator(&env, pause).await;
    let dir = backed_up(&env, place.path()).await;
    let restored = Restored::after_the_loss(up, first, &env, &dir).await;
    let paused = account(&restored.env, "whatsapp-main").await;
    assert_eq!(paused["state"], "paused", "{paused}");
    assert_eq!(paused["paused"]["reason"], "incident-4711");
    assert_eq!(paused["paused"]["by"], "anna");
    assert_eq!(paused["paused"], said["paused"]);
    // `up` waits until its own message has been read.
    let resume = "channels resume whatsapp-main --reason over --by anna --json";
    operator(&restored.env, resume).await;
    let second = restored.stopped().await;
    let up = started(second.path());
    let env = up.variables();
    let api = Api::new(&env);
    caught_up(&env).await;
    for conversation in told.keys() {
        let (status, answer, _) = api
            .post("/v1/messages", "after", &text(conversation, "after"))
            .await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
    }
    let mut after = all_read(&env, total(&told) + 2 + told.len()).await;
    after.retain(|key, _| deliveries.contains_key(key));
    assert_eq!(after, deliveries);
    // What both `up`s have sent is alone in one conversation.
    let now = on_the_log(&env).await;
    assert_eq!(total(&now), total(&on_log) + told.len() + 1);
    for (conversation, messages) in &on_log {
        assert!(now[conversation].starts_with(messages), "{conversation}");
    }
    let mut rows_now = shown(&env, &now).await;
    rows_now.retain(|row| rows.contains(row));
    assert_eq!(rows_now, rows);
    let sent = api.handed_over().await;
    assert_eq!(sent, vec!["after"; told.len()], "something was sent again");
}
