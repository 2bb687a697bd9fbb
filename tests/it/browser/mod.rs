//! What people see in a browser: the customer's phone, and the explorer. `make test-extended` gets a Chromium and runs this;
//! without it these tests fail and say so.

mod chromium;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::journeys::system::{System, text};
use crate::journeys::until;
use chromium::Page;

const PHONE: &str = "4915150000095";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Chromium: make test-extended"]
async fn a_message_appears_on_the_phones_page_and_what_is_typed_there_comes_in() {
    let system = System::start();
    let ana = system.full("ana");
    let group = system.group(&ana, &[PHONE]).await;
    let phone = format!("{}/#{PHONE}", system.env["CHAT4ALL_SIMULATOR_URL"]);
    let mut page = Page::open(&phone).await;
    // Markup is text.
    let words = "Your <b>parcel</b> is here";
    let accepted = system
        .posted(&ana, "/v1/messages", &text(&group, words), 202)
        .await;
    page.shows("#chat .bubble:not(.mine) p", words).await;
    page.shows("#who", &format!("+{PHONE}")).await;
    let path = format!(
        "/v1/conversations/{group}/messages/{}",
        accepted["message_id"].as_str().unwrap()
    );
    let status = async || system.rest(&ana, &path).await.body["status"].clone();
    until("read, since it is shown", status, |status| {
        *status == json!("READ")
    })
    .await;

    // Somebody types an answer and presses Enter.
    page.types_into("#text", "On my way").await;
    page.presses_enter().await;
    page.shows("#chat .bubble.mine p", "On my way").await;
    let numbers = [PHONE.to_owned()];
    let wanted = BTreeMap::from([(PHONE.to_owned(), vec!["On my way".to_owned()])]);
    let written = async || system.written_by(&ana, &numbers).await;
    until("the answer in the read models", written, |written| {
        *written == wanted
    })
    .await;
    assert_eq!(page.text_of("#trouble").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs Chromium: make test-extended"]
async fn the_explorer_runs_a_query_and_shows_its_answer() {
    let system = System::start();
    let ana = system.full("ana");
    let group = system.group(&ana, &[PHONE]).await;
    let said = system
        .posted(&ana, "/v1/messages", &text(&group, "shown there"), 202)
        .await;
    let url = format!("{}/graphql", system.env["CHAT4ALL_QUERY_URL"]);
    let mut page = Page::open(&url).await;
    // The schema comes without a word from anybody.
    page.types_into("#token", &ana).await;
    let query = "query ($id: ID!, $at: String) { conversation(id: $id, atLeast: $at) {
        messages(first: 5) { nodes { content { ... on TextContent { text } } } } } }";
    page.types_into("#query", query).await;
    let variables = json!({"id": group, "at": said["position"]});
    page.types_into("#variables", &variables.to_string()).await;
    page.clicks("#run").await;
    let look = async || serde_json::from_str::<Value>(&page.text_of("#result").await).ok();
    let answer = until("an answer", look, Option::is_some).await.unwrap();
    let node = &answer["data"]["conversation"]["messages"]["nodes"][0];
    assert_eq!(node["content"]["text"], "shown there", "{answer:#}");
    assert!(
        !page.text_of("#docs").await.is_empty(),
        "no schema beside it"
    );
    assert!(!page.text_of("#status").await.is_empty());
}
