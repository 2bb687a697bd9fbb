//! The three kinds, listed and shown, and what is never shown.

use async_nats::HeaderMap;
use serde_json::{Value, json};

use super::scene::{broker, dlq, failed, ids, listed, ran, refused};
use crate::guarantees::system::{System, phone, until};

/// The partition of that conversation, of 8, by the published hash.
const POISON: &str = "chat.evt.03.conversation.00000000-0000-0000-0000-00000000beef";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_kind_is_listed_and_shown_without_what_it_says() {
    let system = System::start().await;
    let phones = [phone(1), phone(2)];
    failed(&system, &phones, 3).await;
    let broker = broker(&system).await;
    for n in 0..3 {
        let mut headers = HeaderMap::new();
        headers.insert(
            "reason",
            if n == 0 {
                "odd"
            } else {
                "a message without an id"
            },
        );
        headers.insert("channel-account", "whatsapp-main");
        let secret = format!("{{\"from\":\"{}\",\"text\":\"secret\"}}", phones[0]);
        let subject = "chat.parked.whatsapp.item.whatsapp-main";
        let put = broker.publish_with_headers(subject, headers, secret.into());
        put.await.unwrap().await.unwrap();
    }
    let put = broker.publish(POISON, "no envelope".into()).await.unwrap();
    let place = put.await.unwrap().sequence;
    let poison = format!("poison-event:03-{place}");
    let all = until(|| listed(&system, &[]), |all| all.len() == 10).await;

    // Kind behind kind, the one first that should never be there, each newest first.
    let kinds: Vec<_> = all
        .iter()
        .map(|letter| letter["kind"].as_str().unwrap())
        .collect();
    let expected = [
        vec!["poison"],
        vec!["parked"; 3],
        vec!["failed-delivery"; 6],
    ];
    assert_eq!(kinds, expected.concat());
    assert_eq!(all[0]["id"], json!(poison));
    for part in [&all[1..4], &all[4..]] {
        let times: Vec<_> = part
            .iter()
            .map(|letter| letter["at"].as_str().unwrap())
            .collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    }

    // Every flag leaves out what it says; together they page through everything once.
    let conversation = all[4]["conversation"].as_str().unwrap();
    let half_way = all[6]["at"].as_str().unwrap();
    for (flags, wanted) in [
        (vec!["--kind", "poison"], 1),
        (vec!["--kind", "parked"], 3),
        (vec!["--kind", "parked", "--kind", "poison"], 4),
        (vec!["--account", "whatsapp-main"], 9),
        (vec!["--account", "nobody"], 0),
        (vec!["--conversation", conversation], 3),
        (vec!["--reason", "recipient_not_reachable"], 6),
        (vec!["--reason", "131026"], 6),
        (vec!["--reason", "without an id"], 2),
        (vec!["--since", "1h"], 10),
        (vec!["--until", "1h"], 0),
        (vec!["--kind", "failed-delivery", "--since", half_way], 3),
    ] {
        assert_eq!(listed(&system, &flags).await.len(), wanted, "{flags:?}");
    }
    let (mut paged, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut arguments = vec!["ls", "--limit", "3"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let page = dlq(&system, &arguments).await;
        let letters = page["dead_letters"].as_array().unwrap();
        assert!(letters.len() <= 3);
        paged.extend(ids(letters));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(paged, ids(&all));

    // The same names as in GraphQL; nothing that anybody wrote, and no number, unless somebody asks for it.
    let mut said = Vec::new();
    for letter in [&all[0], &all[1], &all[4]] {
        let id = letter["id"].as_str().unwrap();
        let shown = dlq(&system, &["show", id]).await;
        assert_eq!(shown["id"], letter["id"]);
        said.push(shown.to_string());
        let personal = dlq(&system, &["show", id, "--personal"]).await;
        assert!(!personal["personal"].is_null(), "{personal}");
    }
    said.push(Value::from(all.clone()).to_string());
    said.push(String::from_utf8(ran(&system, &["ls"]).await.stdout).unwrap());
    for text in &said {
        for hidden in ["secret", " no ", "no envelope", &phones[0], &phones[1]] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
    }
    let failure = all[4]["id"].as_str().unwrap();
    let personal = dlq(&system, &["show", failure, "--personal"]).await;
    assert!(personal["personal"].to_string().contains(" no 2"));

    // A poison event is not faked: the answer says the way, and which.
    for arguments in [
        vec!["redrive", &*poison],
        vec!["redrive", "--kind", "poison"],
    ] {
        let said = refused(&system, &arguments).await;
        assert!(
            said.contains("chat4all rebuild") && said.contains(&poison),
            "{said}"
        );
    }
    let said = refused(&system, &["show", "parked-inbound:4711"]).await;
    assert!(said.contains("is no dead letter"), "{said}");
    let said = refused(&system, &["redrive"]).await;
    assert!(said.contains("say which"), "{said}");
}
